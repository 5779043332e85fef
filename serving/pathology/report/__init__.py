"""Signed and draft reports: signing, and export as PDF and FHIR."""
