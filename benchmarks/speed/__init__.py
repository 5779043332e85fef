"""Measure how fast the project runs: each figure as a ratio of two runs side by side on the same machine."""
