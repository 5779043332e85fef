"""Outcomes and how the models perform."""
