"""Issue bearer tokens signed with the service's own key, which is created on first use.

issue_token(file, "yuheng", tenant="demo", roles=["bank"], subject="demo/bank")     # as python -m serving token prints
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from serving.core.http.principal import ROLES
from serving.core.security import keys
from serving.core.security.errors import KeyFileError

ISSUER, ALGORITHM = "yuheng", "EdDSA"
TENANT_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
LICENCE_PATTERN = re.compile(r"[A-Za-z0-9-]{4,64}", re.ASCII)
PUBLIC_KEY_PATTERN = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


def issue_token(
    file: Path,
    audience: str,
    *,
    tenant: str,
    roles: Sequence[str],
    subject: str,
    name: str = "",
    licence: str = "",
    hours: float = 12.0,
) -> str:
    """A token signed with the key in `file`, valid for `hours`. Raises ValueError that lists everything invalid, and
    KeyFileError."""
    if errors := list(_validate(tenant, roles, subject, name, licence, hours)):
        raise ValueError("; ".join(errors))
    key, issued_at = keys.load_private_key(file), int(time.time())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": audience,
        "sub": subject,
        "iat": issued_at,
        "exp": issued_at + int(3_600 * hours),
    }
    claims |= {"tenant": tenant, "roles": list(dict.fromkeys(roles))}
    claims |= {field: value for field, value in (("name", name), ("licence", licence)) if value}
    return jwt.encode(claims, key, ALGORITHM, headers={"kid": key_id(key.public_key())})


def _validate(tenant: str, roles: Sequence[str], subject: str, name: str, licence: str, hours: float) -> Iterator[str]:
    if not TENANT_PATTERN.fullmatch(tenant):
        yield f"the tenant is {tenant[:80]!r}; expected 1 to 64 lower-case letters, digits, - and _"
    if unknown_roles := [role for role in roles if role not in ROLES] or ([] if roles else ["none"]):
        yield f"the roles are {', '.join(unknown_roles)}; expected at least one of {', '.join(ROLES)}"
    if not is_printable_text(subject, 128):
        yield f"the subject is {subject[:80]!r}; expected 1 to 128 printable characters"
    if ("pathologist" in roles or name) and not is_printable_text(name, 128):
        yield f"the name is {name[:80]!r}; a pathologist needs 1 to 128 printable characters"
    if ("pathologist" in roles or licence) and not LICENCE_PATTERN.fullmatch(licence):
        yield f"the licence is {licence[:80]!r}; a pathologist needs 4 to 64 letters, digits and hyphens"
    if not 0 < hours <= 8_760:
        yield f"the hours are {hours:g}; expected more than 0 and at most 8,760 (a year)"


def is_printable_text(value: Any, max_length: int) -> bool:
    """Whether the value is a printable string of 1 to `max_length` characters without surrounding spaces."""
    return isinstance(value, str) and 0 < len(value) <= max_length and value.isprintable() and value == value.strip()


def load_public_keys(file: Path) -> list[Ed25519PublicKey]:
    """The public keys of our issuer; a machine that only verifies needs nothing else.

    The file may hold several keys, so that an old one stays valid until its last token expires. Raises KeyFileError.
    """
    path = keys.public_key_path(file)
    if not path.exists():
        keys.load_key_pair(file)
    try:
        loaded = [load_pem_public_key(block) for block in PUBLIC_KEY_PATTERN.findall(path.read_bytes())]
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{path} does not contain public keys in PEM: {error}") from error
    ed25519_keys = [key for key in loaded if isinstance(key, Ed25519PublicKey)]
    if not ed25519_keys or len(ed25519_keys) < len(loaded):
        raise KeyFileError(
            f"{path} has {len(loaded)} keys, {len(ed25519_keys)} of them Ed25519; expected one or more, all Ed25519"
        )
    return ed25519_keys


def key_id(key: Ed25519PublicKey) -> str:
    """The key id (`kid`): 16 hex digits derived from the key."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]
