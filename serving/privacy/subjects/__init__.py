"""Stored subjects: pseudonyms, encryption, indicators, ingestion."""
