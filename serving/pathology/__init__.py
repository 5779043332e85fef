"""Pathology: slides from their upload to the signed report."""
