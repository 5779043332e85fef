"""Consent and the protection of stored subjects."""
