"""Batches: requests, scoring, recording and reading again."""
