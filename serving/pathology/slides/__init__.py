"""Slides: states, store, files, workers."""
