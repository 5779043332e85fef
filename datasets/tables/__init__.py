"""Read a table from whatever file or database has it, and say how it was written."""
