"""Stored companies: history, network, stress, and the import of registers."""
