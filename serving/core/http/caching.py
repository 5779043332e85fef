"""Validators of cached answers: ETag and If-None-Match (RFC 9110)."""

from __future__ import annotations

import hashlib


def make_etag(*parts: object) -> str:
    """A strong one: the same parts give the same bytes."""
    return f'"{hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:32]}"'


def etag_matches(etag: str, if_none_match: str | None) -> bool:
    """Whether a browser has these bytes already (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    client_etags = {value.strip().removeprefix("W/") for value in if_none_match.split(",")}
    return etag in client_etags or "*" in client_etags
