"""Authorisations: rules, grants, their use, and redaction of what they do not disclose."""
