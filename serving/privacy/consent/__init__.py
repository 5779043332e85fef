"""Authorisations: rules, grants, their use, redaction."""
