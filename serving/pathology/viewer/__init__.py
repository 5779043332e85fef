"""Tiles, heatmaps, events and annotations for the viewer."""
