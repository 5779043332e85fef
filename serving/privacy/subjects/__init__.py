"""Stored subjects: pseudonyms, encryption, indicators and their import."""
