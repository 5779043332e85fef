"""Model cards and their plots."""
