"""Authenticate requests by bearer token or session cookie, and check the caller's roles."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import Annotated
from urllib.parse import unquote

from serving.core.http.principal import ANONYMOUS, LOCAL_PRINCIPAL, Principal
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSONResponse, Request, Response, read_body
from serving.core.http.router import Routes
from serving.core.http.validation import RequestModel, parse_json, require_media_type, text, validate
from serving.core.security.errors import TokenError
from serving.core.security.rate_limits import RateLimiter
from serving.core.security.tokens import TokenVerifier
from serving.settings import Settings

COOKIE_NAME = "yuheng_session"
MAX_COOKIE_TOKEN_BYTES = 3_800  # browsers drop cookies of more than 4,096 bytes
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
DISPLAYED_USER_HEADER = "shown-to"  # tenant/subject/name/licence of the user that a page displays, percent-encoded
AUTH_CHALLENGE = 'Bearer realm="yuheng"'


class SignIn(RequestModel):
    # Its size stays out of the schema, as a body that is too large for a cookie is another problem than a bad token.
    token: Annotated[str, replace(text(MAX_COOKIE_TOKEN_BYTES, str.isascii), schema={"type": "string", "minLength": 1})]


class Authenticator:
    """Authenticates requests, and handles the routes of the browser's session."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.token_verifier = TokenVerifier(settings.access, settings.paths.tokens)
        self.rate_limiter = RateLimiter(settings.rate)

    def start(self) -> None:
        """Raises KeyFileError."""
        self.token_verifier.start()

    def routes(self) -> Routes:
        """The session of a browser."""
        return {"/v1/session": {"GET": self.whoami, "POST": self.login, "DELETE": self.logout}}

    async def authorize(self, request: Request, allowed_roles: frozenset[str]) -> Principal:
        """The caller; ANONYMOUS where no token is required. Raises ProblemError."""
        authorization, cookie = request.headers.get("authorization"), request.headers.get("cookie")
        if authorization is None and (cookie is None or COOKIE_NAME not in cookie):
            principal = None
        elif allowed_roles:
            principal = await self._authenticate(request)
        else:
            try:
                principal = await self._authenticate(request)
            except ProblemError:  # the page must load so that its user can sign in
                principal = None
        if principal is None:
            principal = ANONYMOUS if self.settings.access.required else LOCAL_PRINCIPAL
            if allowed_roles and principal is ANONYMOUS:
                raise ProblemError("no_token", headers={"WWW-Authenticate": AUTH_CHALLENGE})
        if allowed_roles and authorization is None:
            _check_displayed_user(request, principal)
        if allowed_roles and not allowed_roles & principal.roles:
            raise ProblemError(
                "not_allowed",
                actual=", ".join(sorted(principal.roles)),
                expected=" or ".join(sorted(allowed_roles)),
                expected_zh="、".join(sorted(allowed_roles)),
                headers={"WWW-Authenticate": f'{AUTH_CHALLENGE}, error="insufficient_scope"'},
            )
        if principal.tenant and allowed_roles:
            self.rate_limiter.acquire(principal.tenant)
        return principal

    async def _authenticate(self, request: Request) -> Principal | None:
        """The caller by the header, else by the cookie. Raises ProblemError."""
        authorization = request.headers.get("authorization")
        if authorization is not None:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() != "bearer" or not token.strip():
                raise _invalid_token(
                    "The header Authorization is not of the form Bearer TOKEN",
                    "Authorization 头的格式应为 Bearer 加令牌",
                )
            return await self._verify_token(token.strip())
        cookie_token = _session_token(request)
        if cookie_token is None:
            return None
        principal = await self._verify_token(cookie_token)
        _check_same_origin(request)
        return principal

    async def _verify_token(self, token: str) -> Principal:
        try:
            return await self.token_verifier.verify_principal(token)
        except TokenError as error:
            raise _invalid_token(error.en, error.zh) from error

    # --- the browser's session: a token in a cookie that scripts cannot read

    async def whoami(self, request: Request) -> Response:
        """GET /v1/session."""
        return JSONResponse(describe_principal(request.principal))

    async def login(self, request: Request) -> Response:
        """POST /v1/session."""
        require_media_type(request)  # another site's form cannot send JSON without a preflight request
        _check_same_origin(request, strict=False)
        body = await read_body(request, MAX_COOKIE_TOKEN_BYTES + 200, self.settings.limits.body_timeout_seconds)
        if not body.strip():
            raise ProblemError(
                "empty_body", expected="a JSON object with the token", expected_zh="含 token 的 JSON 对象"
            )
        sign_in, _ = validate(SignIn, parse_json(body))
        if sign_in is None:
            raise _invalid_token(
                f"The body is not an object with one token of at most {MAX_COOKIE_TOKEN_BYTES:,} ASCII characters",
                f"正文应为仅含 token 的对象，token 至多 {MAX_COOKIE_TOKEN_BYTES:,} 个 ASCII 字符",
            )
        token = sign_in.token.strip()
        try:
            principal, expires_at = await self.token_verifier.verify(token)
        except TokenError as error:
            raise _invalid_token(error.en, error.zh) from error
        request.principal = principal  # who signed in, for the record of it
        return JSONResponse(
            describe_principal(principal),
            headers=self._session_cookie_header(request, token, int(expires_at - time.time())),
        )

    async def logout(self, request: Request) -> Response:
        """DELETE /v1/session."""
        _check_same_origin(request, strict=False)
        if (token := _session_token(request)) is not None:
            with suppress(TokenError):
                request.principal = await self.token_verifier.verify_principal(token)
        return Response(status_code=204, headers=self._session_cookie_header(request, "", 0))

    def _session_cookie_header(self, request: Request, token: str, max_age: int) -> dict[str, str]:
        secure = "; Secure" if self.settings.tls.certificate or request.scope.get("scheme") == "https" else ""
        cookie = f"{COOKIE_NAME}={token}; Path=/; Max-Age={max(0, max_age)}; HttpOnly; SameSite=Strict{secure}"
        return {"Set-Cookie": cookie}


def describe_principal(principal: Principal) -> dict[str, object]:
    """The caller as GET /v1/session returns it."""
    identity = {"tenant": principal.tenant, "roles": sorted(principal.roles), "who": principal.subject}
    return {**identity, "name": principal.name, "licence": principal.licence}


def _session_token(request: Request) -> str | None:
    """The token in the cookie; None where there are two, since one of them was planted."""
    cookies = [pair.strip().partition("=") for pair in (request.headers.get("cookie") or "").split(";")]
    tokens = {value for name, _, value in cookies if name == COOKIE_NAME and value}
    return tokens.pop() if len(tokens) == 1 else None


def _check_same_origin(request: Request, strict: bool = True) -> None:
    """Accept a cookie only in requests of our own pages; browsers state the origin of a request. Raises ProblemError.

    strict: a request that states no origin may only read.
    """
    method, site, origin = request.method, request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        allowed = site == "same-origin" or (site == "none" and method in SAFE_METHODS)
    elif origin is not None:
        allowed = origin.partition("://")[2] == request.headers.get("host")
    else:
        allowed = method in SAFE_METHODS or not strict
    if not allowed:
        raise ProblemError("cross_site", actual=repr((site or origin or "unknown")[:80]))


def _check_displayed_user(request: Request, principal: Principal) -> None:
    """Refuse a request of a page that displays another user: tabs share one cookie, so signing in in one tab must not
    make another tab act for a different person. Raises ProblemError."""
    displayed = request.headers.get(DISPLAYED_USER_HEADER)
    if displayed is None:
        return
    person = [unquote(segment) for segment in displayed.split("/")]
    if person != [principal.tenant, principal.subject, principal.name, principal.licence]:
        displayed_name = person[2] or person[1] if len(person) == 4 else displayed
        raise ProblemError(
            "another_person", actual=repr(displayed_name[:200]), expected=repr(principal.name or principal.subject)
        )


def _invalid_token(en: str, zh: str) -> ProblemError:
    headers = {"WWW-Authenticate": f'{AUTH_CHALLENGE}, error="invalid_token"'}
    return ProblemError("bad_token", actual=en, actual_zh=zh, headers=headers)
