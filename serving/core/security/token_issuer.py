"""Our own issuer of bearer tokens: its key, made on first use, and the tokens that it signs.

issue(file, "yuheng", tenant="demo", roles=["bank"], who="demo/bank")      # what python -m serving token prints
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
from serving.core.security.keys import KeyUnusable

OWN, ALGORITHM = "yuheng", "EdDSA"
TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
LICENCE = re.compile(r"[A-Za-z0-9-]{4,64}", re.ASCII)
BETWEEN = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


def issue(
    file: Path,
    audience: str,
    *,
    tenant: str,
    roles: Sequence[str],
    who: str,
    name: str = "",
    licence: str = "",
    hours: float = 12.0,
) -> str:
    """A token signed with the key in `file`, which is made where there is none. Raises ValueError, with all that is
    wrong, and KeyUnusable."""
    if wrong := list(_wrong(tenant, roles, who, name, licence, hours)):
        raise ValueError("; ".join(wrong))
    key, at = keys.private(file), int(time.time())
    claims: dict[str, Any] = {"iss": OWN, "aud": audience, "sub": who, "iat": at, "exp": at + int(3_600 * hours)}
    claims |= {"tenant": tenant, "roles": list(dict.fromkeys(roles))}
    claims |= {field: value for field, value in (("name", name), ("licence", licence)) if value}
    return jwt.encode(claims, key, ALGORITHM, headers={"kid": key_id(key.public_key())})


def _wrong(tenant: str, roles: Sequence[str], who: str, name: str, licence: str, hours: float) -> Iterator[str]:
    if not TENANT.fullmatch(tenant):
        yield f"the tenant is {tenant[:80]!r}; 1 to 64 small letters, digits, - and _ are needed"
    if unknown := [role for role in roles if role not in ROLES] or ([] if roles else ["none"]):
        yield f"the roles are {', '.join(unknown)}; {', '.join(ROLES)} are known, and at least one is needed"
    if not text(who, 128):
        yield f"the subject is {who[:80]!r}; 1 to 128 printable characters are needed"
    if ("pathologist" in roles or name) and not text(name, 128):
        yield f"the name is {name[:80]!r}; a pathologist needs one of 1 to 128 printable characters"
    if ("pathologist" in roles or licence) and not LICENCE.fullmatch(licence):
        yield f"the licence is {licence[:80]!r}; a pathologist needs one of 4 to 64 letters, digits and hyphens"
    if not 0 < hours <= 8_760:
        yield f"the hours are {hours:g}; above 0, and at most 8,760 (a year), are needed"


def text(found: Any, most: int) -> bool:
    """Printable, neither empty nor padded."""
    return isinstance(found, str) and 0 < len(found) <= most and found.isprintable() and found == found.strip()


def own_public(file: Path) -> list[Ed25519PublicKey]:
    """Of our issuer: a machine that only verifies needs nothing else. An older key is kept in the file until the last
    token that it signed has expired. Raises KeyUnusable."""
    public = keys.public_file(file)
    if not public.exists():
        keys.pair(file)
    try:
        found = [load_pem_public_key(part) for part in BETWEEN.findall(public.read_bytes())]
    except (OSError, ValueError) as error:
        raise KeyUnusable(f"{public} cannot be read as public keys: {error}") from error
    ours = [key for key in found if isinstance(key, Ed25519PublicKey)]
    if not ours or len(ours) < len(found):
        raise KeyUnusable(f"{public} holds {len(ours)} Ed25519 keys of {len(found)}; all must be, and one is needed")
    return ours


def key_id(key: Ed25519PublicKey) -> str:
    """16 hex digits that follow from the key."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]
