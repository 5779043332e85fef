"""Bearer tokens (JWT): those of our own issuer and of an OpenID provider that the settings name, verified.

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
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from serving.core.http.client import build_opener
from serving.core.http.principal import ROLES, Caller
from serving.core.security.token_issuer import ALGORITHM, LICENCE, OWN, TENANT, key_id, own_public, text
from serving.settings import Access

log = logging.getLogger("yuheng.tokens")

MOST = 8_192  # bytes of a token
SEEN = 10_000  # verified tokens remembered
LEEWAY = 5.0  # seconds between two machines' clocks
AGAIN = 30.0  # seconds between two looks at a provider's keys
FRESH = 600.0  # seconds after which they are looked at though every key is known: one may have been withdrawn
MOST_KEYS = 1_000_000  # bytes of a JWKS
HEADERS = {"alg", "kid", "typ", "x5t"}  # not jwk, jku, x5c, x5u, crit, b64, ...: a token brings no key and no rule
TYPES = ("JWT", "at+jwt")
KINDS = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}  # algorithm -> kty; no symmetric one


class TokenRefused(Exception):
    """Why a token proves nothing, in English and Chinese. Never holds any of it."""

    def __init__(self, en: str, zh: str):
        super().__init__(en)
        self.en, self.zh = en, zh


@dataclass(frozen=True, slots=True)
class Key:
    """A public key and all that a token signed with it must say."""

    issuer: str
    audience: str
    algorithm: str
    public: Any


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
        if self.settings.oidc_issuer and time.monotonic() - self._looked > FRESH:
            self._begin_look()
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
        await asyncio.shield(self._begin_look())

    def _begin_look(self) -> asyncio.Task[None]:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(asyncio.to_thread(self._look))
        return self._looking

    def _look(self) -> None:
        self._looked = time.monotonic()
        try:
            found = _provided(self.settings)
        except (OSError, ValueError, TypeError, KeyError, jwt.PyJWTError) as error:
            log.warning(
                "the keys of %s are not to be had, and are asked for again: %s", self.settings.oidc_issuer, error
            )
            return
        keys = found | self._own  # nobody takes a kid of ours
        if keys != self._keys:
            self._keys, self._seen = keys, {}  # what a key proved ends with it


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
    with build_opener(place, _NoRedirect).open(place, timeout=5) as response:
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
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise TokenRefused("Its claims are not those that are needed", "令牌声明不符合要求") from error
    if not isinstance(claims["exp"], int | float):
        raise TokenRefused("Its claims are not those that are needed", "令牌声明不符合要求")
    return _caller(claims), float(claims["exp"])


def _caller(claims: dict[str, Any]) -> Caller:
    """Roles that are not ours are left aside, as a provider may know others."""
    tenant, roles, name, licence = (claims.get(field) for field in ("tenant", "roles", "name", "licence"))
    if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
        raise TokenRefused("It names no tenant that could be one", "令牌未给出有效机构")
    if not isinstance(roles, list) or not (ours := frozenset(role for role in roles if role in [*ROLES])):
        raise TokenRefused("It gives no role that is known", "令牌未给出已知角色")
    if not text(claims["sub"], 128):
        raise TokenRefused("Its subject cannot be written down", "令牌主体无法记录")
    signs = text(name, 128) and isinstance(licence, str) and LICENCE.fullmatch(licence) is not None
    return Caller(tenant, ours, claims["sub"], str(name) if signs else "", str(licence) if signs else "")
