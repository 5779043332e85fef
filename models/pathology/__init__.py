"""Pathology: a network over tiles, attention over a slide, calibration, operating point, abstention."""
