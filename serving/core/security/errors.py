"""The errors of keys, tokens and permissions.

KeyFileError              a key file cannot be created or used; an operator has to act
TokenError                a bearer token proves nothing; the caller needs another one
MissingPermissionError    a route has no row in the permissions; a developer has to add one
"""

from __future__ import annotations


class KeyFileError(Exception):
    """A key file cannot be created, or cannot be used as it is."""


class TokenError(Exception):
    """Why a token is rejected, in English and Chinese. Never contains any part of the token."""

    def __init__(self, en: str, zh: str):
        super().__init__(en)
        self.en, self.zh = en, zh


class MissingPermissionError(Exception):
    """A route for which PERMISSIONS names no roles."""
