"""Train a model on a table: read, split, fit, tune, export."""
