"""Evaluate a slide model on held-out slides and cells, and look for shortcuts in its training data."""
