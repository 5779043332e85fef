"""Decisions about households and companies."""
