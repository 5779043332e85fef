"""Benchmarks: how fast the project runs (speed) and how good its models are (quality)."""
