"""The errors of stored subjects.

VaultKeyError         the key file is missing, unusable or not the one that encrypts the store; an operator has to act
TamperedError         an encrypted value was changed or moved; an operator has to investigate
SubjectErasedError    the subject was erased while its answer was computed; nothing was recorded
"""

from __future__ import annotations


class VaultKeyError(Exception):
    """The key file is missing, unusable, or not the one that encrypts the store."""


class TamperedError(Exception):
    """An encrypted value in the store is not the one that the service wrote."""


class SubjectErasedError(Exception):
    """The subject was erased while the answer was computed, so nothing was recorded about it."""
