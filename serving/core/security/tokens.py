"""Verify bearer tokens (JWT) of our own issuer and of the OpenID provider in the settings.

    verifier = TokenVerifier(settings.access, settings.paths.tokens)
    verifier.start()
    principal = await verifier.verify_principal(token)        # raises TokenError

The token's `kid` selects one of the known keys, and each key fixes its issuer, audience and algorithm. Nothing else in
a token decides how it is verified.
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
from serving.core.http.principal import ROLES, Principal
from serving.core.security.errors import TokenError
from serving.core.security.token_issuer import (
    ALGORITHM,
    ISSUER,
    LICENCE_PATTERN,
    TENANT_PATTERN,
    is_printable_text,
    key_id,
    load_public_keys,
)
from serving.settings import AccessSettings

log = logging.getLogger("yuheng.tokens")

MAX_TOKEN_BYTES = 8_192
MAX_CACHED_TOKENS = 10_000  # verified tokens
LEEWAY_SECONDS = 5.0  # between the clocks of two machines
MIN_REFRESH_SECONDS = 30.0  # between two requests for a provider's keys
MAX_KEY_AGE_SECONDS = 600.0  # after which the keys are fetched again, since one may have been withdrawn
MAX_JWKS_BYTES = 1_000_000
# Not jwk, jku, x5c, x5u, crit, b64 and so on: a token must not bring its own key or rules.
ALLOWED_HEADERS = {"alg", "kid", "typ", "x5t"}
TOKEN_TYPES = ("JWT", "at+jwt")
KEY_TYPES = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}  # algorithm -> kty; no symmetric algorithms


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and the claims that a token signed with it must have."""

    issuer: str
    audience: str
    algorithm: str
    public_key: Any


class TokenVerifier:
    """Call `start` before the first token. Use it in the event loop only."""

    def __init__(self, settings: AccessSettings, file: Path):
        self.settings, self.file = settings, file
        self._keys: dict[str, VerificationKey] = {}  # by kid
        self._cache: dict[bytes, tuple[Principal, float]] = {}  # digest of a token -> (principal, expiry)
        self._refreshed_at = -MIN_REFRESH_SECONDS
        self._refresh_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Load the keys. A provider that cannot be reached is tried again with its next token. Raises KeyFileError."""
        audience = self.settings.audience
        self._own_keys = {
            key_id(key): VerificationKey(ISSUER, audience, ALGORITHM, key) for key in load_public_keys(self.file)
        }
        self._keys = dict(self._own_keys)
        if self.settings.oidc_issuer:
            self._refresh_keys()

    async def verify_principal(self, token: str) -> Principal:
        """The principal that a token names. Raises TokenError."""
        return (await self.verify(token))[0]

    async def verify(self, token: str) -> tuple[Principal, float]:
        """(principal, expiry in Unix time). Raises TokenError."""
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenError(f"The token has more than {MAX_TOKEN_BYTES:,} bytes", f"令牌超过 {MAX_TOKEN_BYTES:,} 字节")
        if self.settings.oidc_issuer and time.monotonic() - self._refreshed_at > MAX_KEY_AGE_SECONDS:
            self._start_refresh()
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        if (cached := self._cache.get(digest)) is not None:
            if cached[1] > time.time():
                return cached
            del self._cache[digest]
            raise TokenError("The token has expired", "令牌已过期")
        kid = self._key_id(token)
        if (
            kid not in self._keys
            and self.settings.oidc_issuer
            and time.monotonic() - self._refreshed_at > MIN_REFRESH_SECONDS
        ):
            await self._wait_for_refresh()
        key = self._keys.get(kid)
        if key is None:
            raise TokenError("The token is signed with an unknown key", "签名密钥未知")
        verified = _verify_claims(token, key)
        while len(self._cache) >= MAX_CACHED_TOKENS:
            del self._cache[next(iter(self._cache))]
        self._cache[digest] = verified
        return verified

    def _key_id(self, token: str) -> str:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
            raise TokenError("The token is not a JWT", "令牌不是 JWT") from error
        if unknown := sorted(set(header) - ALLOWED_HEADERS):
            unknown_names = ", ".join(repr(name[:20]) for name in unknown[:3])
            raise TokenError(
                f"The header of the token has {unknown_names}, which is not accepted",
                f"令牌头含不接受的字段 {unknown_names}",
            )
        if header.get("typ", TOKEN_TYPES[0]) not in TOKEN_TYPES or not isinstance(header.get("kid"), str):
            raise TokenError("The header of the token has a wrong type or no kid", "令牌头类型不符，或缺少 kid")
        return str(header["kid"])

    # --- the provider's keys

    async def _wait_for_refresh(self) -> None:
        """Wait for the one refresh that all tokens share."""
        await asyncio.shield(self._start_refresh())

    def _start_refresh(self) -> asyncio.Task[None]:
        if self._refresh_task is None or self._refresh_task.done():
            self._refresh_task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._refresh_keys))
        return self._refresh_task

    def _refresh_keys(self) -> None:
        self._refreshed_at = time.monotonic()
        try:
            provider_keys = _fetch_provider_keys(self.settings)
        except (OSError, ValueError, TypeError, KeyError, jwt.PyJWTError) as error:
            log.warning(
                "the keys of %s cannot be fetched and will be requested again: %s", self.settings.oidc_issuer, error
            )
            return
        keys = provider_keys | self._own_keys  # a provider cannot replace our keys
        if keys != self._keys:
            self._keys, self._cache = keys, {}  # cached tokens may have been signed with a withdrawn key


def _fetch_provider_keys(settings: AccessSettings) -> dict[str, VerificationKey]:
    """The keys of the JWKS that match the configured algorithm."""
    algorithm = settings.oidc_algorithm
    jwks = json.loads(_fetch(settings.oidc_jwks))
    keys = {}
    for jwk in jwks["keys"]:
        usable = (
            jwk.get("kty") == KEY_TYPES[algorithm]
            and jwk.get("use", "sig") == "sig"
            and isinstance(jwk.get("kid"), str)
        )
        if usable and jwk.get("alg", algorithm) == algorithm:
            public_key = jwt.PyJWK(jwk, algorithm).key
            keys[jwk["kid"]] = VerificationKey(settings.oidc_issuer, settings.oidc_audience, algorithm, public_key)
    return keys


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


def _fetch(location: str) -> bytes:
    """The content of a file, or of the only URL that this service ever requests."""
    if urllib.parse.urlsplit(location).scheme not in ("http", "https"):
        return Path(location).read_bytes()
    with build_opener(location, _NoRedirect).open(location, timeout=5) as response:
        content: bytes = response.read(MAX_JWKS_BYTES + 1)
    if len(content) > MAX_JWKS_BYTES:
        raise ValueError(f"{location} returned more than {MAX_JWKS_BYTES:,} bytes")
    return content


def _verify_claims(token: str, key: VerificationKey) -> tuple[Principal, float]:
    try:
        claims = jwt.decode(
            token,
            key.public_key,
            algorithms=[key.algorithm],
            issuer=key.issuer,
            audience=key.audience,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "aud", "iss", "sub"]},
        )
    except jwt.ExpiredSignatureError as error:
        raise TokenError("The token has expired", "令牌已过期") from error
    except (jwt.InvalidAlgorithmError, jwt.InvalidSignatureError) as error:
        raise TokenError("The signature of the token is not that of its issuer", "签名不属于其签发方") from error
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise TokenError("The claims of the token are not the expected ones", "令牌声明不符合要求") from error
    if not isinstance(claims["exp"], int | float):
        raise TokenError("The claims of the token are not the expected ones", "令牌声明不符合要求")
    return _principal_from_claims(claims), float(claims["exp"])


def _principal_from_claims(claims: dict[str, Any]) -> Principal:
    """The principal that the claims describe. Unknown roles are ignored, since a provider may have others."""
    tenant, roles, name, licence = (claims.get(field) for field in ("tenant", "roles", "name", "licence"))
    if not isinstance(tenant, str) or not TENANT_PATTERN.fullmatch(tenant):
        raise TokenError("The token names no valid tenant", "令牌未给出有效机构")
    if not isinstance(roles, list) or not (known_roles := frozenset(role for role in roles if role in [*ROLES])):
        raise TokenError("The token gives no known role", "令牌未给出已知角色")
    if not is_printable_text(claims["sub"], 128):
        raise TokenError(
            "The subject of the token is not 1 to 128 printable characters", "令牌主体应为 1 至 128 个可打印字符"
        )
    can_sign = (
        is_printable_text(name, 128) and isinstance(licence, str) and LICENCE_PATTERN.fullmatch(licence) is not None
    )
    return Principal(
        tenant, known_roles, claims["sub"], str(name) if can_sign else "", str(licence) if can_sign else ""
    )
