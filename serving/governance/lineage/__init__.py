"""Traces, erasure and export for training."""
