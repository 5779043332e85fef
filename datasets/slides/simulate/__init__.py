"""Simulated cervical cytology slides."""
