"""Replacements of identifiers that stay the same for one key, so that instances of a study still belong together.

The key is derived for each installation and tenant (serving/privacy/subjects/vault.py). Without it nobody can tell
which identifier a replacement stands for, or test a guess.
"""

from __future__ import annotations

import hashlib
import hmac

KEY_BYTES = 32


def keyed_uid(key: bytes, uid: str) -> str:
    """A UID derived from a UUID (DICOM PS3.5, B.2) in place of another."""
    number = int.from_bytes(_mac(key, "uid", uid)[:16])
    return f"2.25.{number}"


def keyed_text(key: bytes, kind: str, text: str) -> str:
    """P and 15 hexadecimal digits in place of an accession number, a barcode or a name. kind: what it identifies."""
    return "P" + _mac(key, kind, text).hex().upper()[:15]


def keyed_hex(key: bytes, kind: str, text: str) -> str:
    """32 hexadecimal digits in place of the id of a slide."""
    return _mac(key, kind, text).hex().upper()[:32]


def _mac(key: bytes, kind: str, text: str) -> bytes:
    if len(key) < KEY_BYTES:
        raise ValueError(f"the pseudonym key has {len(key)} bytes; {KEY_BYTES} are needed")
    stripped = text.strip(" \0")  # values of an odd length are padded
    return hmac.digest(key, f"{kind}\0{stripped}".encode(), hashlib.sha256)
