"""Batches: intake, scoring, records, rows."""
