"""Pathology: a slide's way from upload to a signed report, and what people and other systems get of it."""
