"""Bearer tokens (JWT): made by our own issuer, or by an OpenID provider that the settings name; verified here alone.

    tokens = Tokens(settings.access, settings.paths.tokens)
    tokens.start()
    caller = await tokens.caller(text)        # raises TokenRefused

A key is chosen by the token's `kid` among those that are known, and brings its issuer, audience and one algorithm with
it: nothing that a token says of itself chooses how it is verified.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

from serving.settings import Access
from serving.trust.caller import ROLES, Caller

log = logging.getLogger("yuheng.tokens")

MOST = 8_192  # bytes of a token
SEEN = 10_000  # verified tokens remembered
LEEWAY = 5.0  # seconds between two machines' clocks
AGAIN = 30.0  # seconds between two looks at a provider's keys
MOST_KEYS = 1_000_000  # bytes of a JWKS
OWN, ALGORITHM = "yuheng", "EdDSA"
HEADERS = {"alg", "kid", "typ", "x5t"}  # not jwk, jku, x5c, x5u, crit, b64, ...: a token brings no key and no rule
TYPES = ("JWT", "at+jwt")
TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
LICENCE = re.compile(r"[A-Za-z0-9-]{4,64}", re.ASCII)
KINDS = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}  # algorithm -> kty; no symmetric one
BETWEEN = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


class TokenRefused(Exception):
    """Why a token proves nothing, in English and Chinese. Never holds any of it."""

    def __init__(self, en: str, zh: str):
        super().__init__(en)
        self.en, self.zh = en, zh


class KeyUnusable(Exception):
    """The issuer's key file cannot be used as it stands."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key and all that a token signed with it must say."""

    issuer: str
    audience: str
    algorithm: str
    public: Any


# --- our own issuer


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
    if not _text(who, 128):
        yield f"the subject is {who[:80]!r}; 1 to 128 printable characters are needed"
    if ("pathologist" in roles or name) and not _text(name, 128):
        yield f"the name is {name[:80]!r}; a pathologist needs one of 1 to 128 printable characters"
    if ("pathologist" in roles or licence) and not LICENCE.fullmatch(licence):
        yield f"the licence is {licence[:80]!r}; a pathologist needs one of 4 to 64 letters, digits and hyphens"
    if not 0 < hours <= 8_760:
        yield f"the hours are {hours:g}; above 0, and at most 8,760 (a year), are needed"


def _text(found: Any, most: int) -> bool:
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


# --- what is verified


class Tokens:
    """Made anywhere, `start`ed before the first call; used in the event loop alone."""

    def __init__(self, settings: Access, file: Path):
        self.settings, self.file = settings, file
        self._keys: dict[str, Key] = {}  # by kid
        self._seen: dict[bytes, tuple[Caller, float]] = {}  # digest of a token -> whose it is, until when
        self._looked = -AGAIN
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Raises KeyUnusable. A provider that cannot be reached is asked again when one of its tokens comes."""
        audience = self.settings.audience
        self._own = {key_id(key): Key(OWN, audience, ALGORITHM, key) for key in own_public(self.file)}
        self._keys = dict(self._own)
        if self.settings.oidc_issuer:
            self._look()

    async def caller(self, token: str) -> Caller:
        """Who it is. Raises TokenRefused."""
        return (await self.proved(token))[0]

    async def proved(self, token: str) -> tuple[Caller, float]:
        """(who it is, until when in Unix time). Raises TokenRefused."""
        if len(token) > MOST:
            raise TokenRefused(f"It has more than {MOST:,} bytes", f"令牌超过 {MOST:,} 字节")
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        if (seen := self._seen.get(digest)) is not None:
            if seen[1] > time.time():
                return seen
            del self._seen[digest]
            raise TokenRefused("It has expired", "令牌已过期")
        kid = self._kid(token)
        if kid not in self._keys and self.settings.oidc_issuer and time.monotonic() - self._looked > AGAIN:
            await self._look_again()
        key = self._keys.get(kid)
        if key is None:
            raise TokenRefused("It is signed with no key that is known", "签名密钥未知")
        found = _verified(token, key)
        while len(self._seen) >= SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[digest] = found
        return found

    def _kid(self, token: str) -> str:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
            raise TokenRefused("It is no JWT", "不是 JWT") from error
        if strange := sorted(set(header) - HEADERS):
            told = ", ".join(repr(name[:20]) for name in strange[:3])
            raise TokenRefused(f"Its header names {told}, which is not taken", f"令牌头含不接受的字段 {told}")
        if header.get("typ", TYPES[0]) not in TYPES or not isinstance(header.get("kid"), str):
            raise TokenRefused("Its header has another type, or no kid", "令牌头类型不符，或缺少 kid")
        return str(header["kid"])

    # --- the provider's keys

    async def _look_again(self) -> None:
        """One at a time, however many tokens wait for it."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(asyncio.to_thread(self._look))
        await asyncio.shield(self._looking)

    def _look(self) -> None:
        self._looked = time.monotonic()
        try:
            found = _provided(self.settings)
        except (OSError, ValueError, TypeError, KeyError, jwt.PyJWTError) as error:
            log.warning(
                "the keys of %s are not to be had, and are asked for again: %s", self.settings.oidc_issuer, error
            )
            return
        self._keys = found | self._own  # nobody takes a kid of ours


def _provided(settings: Access) -> dict[str, Key]:
    """Those of the JWKS that fit the one algorithm."""
    algorithm = settings.oidc_algorithm
    told = json.loads(_fetched(settings.oidc_jwks))
    found = {}
    for one in told["keys"]:
        fits = one.get("kty") == KINDS[algorithm] and one.get("use", "sig") == "sig" and isinstance(one.get("kid"), str)
        if fits and one.get("alg", algorithm) == algorithm:
            public = jwt.PyJWK(one, algorithm).key
            found[one["kid"]] = Key(settings.oidc_issuer, settings.oidc_audience, algorithm, public)
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *asked: Any) -> None:
        return None


def _fetched(place: str) -> bytes:
    """Of a file, or of the one address that this service ever calls."""
    if urllib.parse.urlsplit(place).scheme not in ("http", "https"):
        return Path(place).read_bytes()
    with urllib.request.build_opener(_NoRedirect).open(place, timeout=5) as response:
        content: bytes = response.read(MOST_KEYS + 1)
    if len(content) > MOST_KEYS:
        raise ValueError(f"{place} gave more than {MOST_KEYS:,} bytes")
    return content


def _verified(token: str, key: Key) -> tuple[Caller, float]:
    try:
        claims = jwt.decode(
            token,
            key.public,
            algorithms=[key.algorithm],
            issuer=key.issuer,
            audience=key.audience,
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "aud", "iss", "sub"]},
        )
    except jwt.ExpiredSignatureError as error:
        raise TokenRefused("It has expired", "令牌已过期") from error
    except (jwt.InvalidAlgorithmError, jwt.InvalidSignatureError) as error:
        raise TokenRefused("Its signature is not that of its issuer", "签名不属于其签发方") from error
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise TokenRefused("Its claims are not those that are needed", "令牌声明不符合要求") from error
    return _caller(claims), float(claims["exp"])


def _caller(claims: dict[str, Any]) -> Caller:
    """Roles that are not ours are left aside, as a provider may know others."""
    tenant, roles, name, licence = (claims.get(field) for field in ("tenant", "roles", "name", "licence"))
    if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
        raise TokenRefused("It names no tenant that could be one", "令牌未给出有效机构")
    if not isinstance(roles, list) or not (ours := frozenset(role for role in roles if role in [*ROLES])):
        raise TokenRefused("It gives no role that is known", "令牌未给出已知角色")
    if not _text(claims["sub"], 128):
        raise TokenRefused("Its subject cannot be written down", "令牌主体无法记录")
    signs = _text(name, 128) and isinstance(licence, str) and LICENCE.fullmatch(licence) is not None
    return Caller(tenant, ours, claims["sub"], str(name) if signs else "", str(licence) if signs else "")
