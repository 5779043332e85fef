"""Our own issuer of bearer tokens: its key, made on first use, and the tokens that it signs.

issue(file, "yuheng", tenant="demo", roles=["bank"], who="demo/bank")      # what python -m serving token prints
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from serving.trust.caller import ROLES

log = logging.getLogger("yuheng.tokens")

OWN, ALGORITHM = "yuheng", "EdDSA"
TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
LICENCE = re.compile(r"[A-Za-z0-9-]{4,64}", re.ASCII)
BETWEEN = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


class KeyUnusable(Exception):
    """The issuer's key file cannot be used as it stands."""


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
    key, at = own_key(file), int(time.time())
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


def own_key(file: Path) -> Ed25519PrivateKey:
    """Made on first use, readable by its owner alone; its public half lies beside it. Raises KeyUnusable."""
    if not file.exists():
        key = Ed25519PrivateKey.generate()
        _once(file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    if (mode := file.stat().st_mode & 0o777) & 0o077:
        raise KeyUnusable(f"{file} has mode {mode:04o}; 0600 is needed, so that only its owner reads it: chmod 600")
    try:
        found = load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyUnusable(f"{file} cannot be read as a private key: {error}") from error
    if not isinstance(found, Ed25519PrivateKey):
        raise KeyUnusable(f"{file} holds {type(found).__name__}; an Ed25519 key is needed")
    return found


def public_file(file: Path) -> Path:
    """One or more public keys: an older one is kept there until the last token that it signed has expired."""
    return file.with_suffix(".pub.pem")


def own_public(file: Path) -> list[Ed25519PublicKey]:
    """Of our issuer: a machine that only verifies needs nothing else. Raises KeyUnusable."""
    public = public_file(file)
    if not public.exists():
        own = own_key(file)
        if not public.exists():
            _once(public, own.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    try:
        found = [load_pem_public_key(part) for part in BETWEEN.findall(public.read_bytes())]
    except (OSError, ValueError) as error:
        raise KeyUnusable(f"{public} cannot be read as public keys: {error}") from error
    keys = [key for key in found if isinstance(key, Ed25519PublicKey)]
    if not keys or len(keys) < len(found):
        raise KeyUnusable(f"{public} holds {len(keys)} Ed25519 keys of {len(found)}; all of them must be, and one is")
    return keys


def key_id(key: Ed25519PublicKey) -> str:
    """16 hex digits that follow from the key."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def _once(file: Path, content: bytes, mode: int) -> None:
    """Whole or not at all; of two that make it together the first one's counts. Raises KeyUnusable."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_name(f".{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(scratch, file)
        except FileExistsError:
            log.info("%s was made by another process meanwhile, and that one counts", file)
        finally:
            scratch.unlink()
    except OSError as error:
        raise KeyUnusable(f"{file} cannot be made: {error}. Name another place: YUHENG_TOKENS") from error
