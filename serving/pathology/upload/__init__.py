"""Uploads of slides and their request forms."""
