"""The door of the gateway: whose token a request brings, and whether they may call what they call."""

from __future__ import annotations

import time
from urllib.parse import unquote

import orjson

from serving.core.http.principal import NOBODY, OPEN, Caller
from serving.core.http.problems import Problem
from serving.core.http.request import JSON, Call, Reply, read_body
from serving.core.http.validation import parse_json
from serving.core.security.rate_limits import Rate
from serving.core.security.tokens import TokenRefused, Tokens
from serving.settings import Settings

COOKIE = "yuheng_session"
COOKIE_MOST = 3_800  # bytes of a token in a cookie: browsers drop a cookie of more than 4,096
SAFE = ("GET", "HEAD", "OPTIONS")
SHOWN = b"shown-to"  # tenant/who/name/licence of whom the asking page shows, each percent-encoded
REALM = 'Bearer realm="yuheng"'


class Door:
    def __init__(self, settings: Settings):
        self.settings = settings
        self.tokens = Tokens(settings.access, settings.paths.tokens)
        self.rate = Rate(settings.rate)

    def start(self) -> None:
        self.tokens.start()

    async def caller(self, call: Call, may: frozenset[str]) -> Caller:
        """Who calls; NOBODY where anybody may. Raises Problem."""
        told, cookie = call.headers.get(b"authorization"), call.headers.get(b"cookie")
        if told is None and (cookie is None or COOKIE.encode() not in cookie):
            caller = None
        elif may:
            caller = await self._proved(call)
        else:
            try:
                caller = await self._proved(call)
            except Problem:  # as a page must load for its sign-in to be seen
                caller = None
        if caller is None:
            caller = NOBODY if self.settings.access.required else OPEN
            if may and caller is NOBODY:
                raise Problem("no_token", headers={"WWW-Authenticate": REALM})
        if may and told is None:
            _as_shown(call, caller)
        if may and not may & caller.roles:
            raise Problem(
                "not_allowed",
                found=", ".join(sorted(caller.roles)),
                needed=" or ".join(sorted(may)),
                needed_zh="、".join(sorted(may)),
                headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope"'},
            )
        if caller.tenant and may:
            self.rate.take(caller.tenant)
        return caller

    async def _proved(self, call: Call) -> Caller | None:
        """By the header, else by the cookie. Raises Problem."""
        told = call.header(b"authorization")
        if told is not None:
            scheme, _, token = told.partition(" ")
            if scheme.lower() != "bearer" or not token.strip():
                raise _refused(
                    "The header Authorization has another form than Bearer and a token",
                    "Authorization 不是 Bearer 令牌",
                )
            return await self._of(token.strip())
        held = _cookie(call)
        if held is None:
            return None
        caller = await self._of(held)
        _same_origin(call)
        return caller

    async def _of(self, token: str) -> Caller:
        try:
            return await self.tokens.caller(token)
        except TokenRefused as error:
            raise _refused(error.en, error.zh) from error

    # --- the browser's session: the token in a cookie that no script can read

    async def session(self, call: Call) -> Reply:
        return Reply(orjson.dumps(told(call.caller)))

    async def begin(self, call: Call) -> Reply:
        if call.media_type() != JSON:  # a form of another site sends none without having asked first
            raise Problem("unsupported_media_type", found=repr(call.media_type() or "not given"), needed=JSON)
        _same_origin(call, strict=False)
        body = await read_body(call, COOKIE_MOST + 200, self.settings.limits.body_seconds)
        if not body.strip():
            raise Problem("empty_body", needed="a JSON object with the token", needed_zh="含 token 的 JSON 对象")
        found = parse_json(body)
        token = found.get("token") if isinstance(found, dict) and len(found) == 1 else None
        if not isinstance(token, str) or not 0 < len(token) <= COOKIE_MOST or not token.isascii():
            raise _refused(
                "The body holds no object with one token of a cookie's size",
                "正文应为仅含 token 的对象，且长度适合 Cookie",
            )
        try:
            caller, until = await self.tokens.proved(token.strip())
        except TokenRefused as error:
            raise _refused(error.en, error.zh) from error
        return Reply(orjson.dumps(told(caller)), headers=self._set(call, token.strip(), int(until - time.time())))

    async def end(self, call: Call) -> Reply:
        _same_origin(call, strict=False)
        return Reply(b"", 204, headers=self._set(call, "", 0))

    def _set(self, call: Call, token: str, seconds: int) -> dict[str, str]:
        secure = "; Secure" if self.settings.tls.certificate or call.scope.get("scheme") == "https" else ""
        parts = f"{COOKIE}={token}; Path=/; Max-Age={max(0, seconds)}; HttpOnly; SameSite=Strict{secure}"
        return {"Set-Cookie": parts}


def told(caller: Caller) -> dict[str, object]:
    shown = {"tenant": caller.tenant, "roles": sorted(caller.roles), "who": caller.who}
    return {**shown, "name": caller.name, "licence": caller.licence}


def _cookie(call: Call) -> str | None:
    """None where there are two, as one of them is another's that was put beside ours."""
    parts = [part.strip().partition("=") for part in (call.header(b"cookie") or "").split(";")]
    found = {value for name, _, value in parts if name == COOKIE and value}
    return found.pop() if len(found) == 1 else None


def _same_origin(call: Call, strict: bool = True) -> None:
    """A cookie counts only for what our own pages ask; a browser says where a request comes from. `strict`: one that
    says nothing may not change anything. Raises Problem."""
    method, site, origin = call.scope["method"], call.header(b"sec-fetch-site"), call.header(b"origin")
    if site is not None:
        fine = site == "same-origin" or (site == "none" and method in SAFE)
    elif origin is not None:
        fine = origin.partition("://")[2] == call.header(b"host")
    else:
        fine = method in SAFE or not strict
    if not fine:
        raise Problem("cross_site", found=repr((site or origin or "not told")[:80]))


def _as_shown(call: Call, caller: Caller) -> None:
    """Tabs share a cookie: who signs in in one must not act through another that shows somebody. Raises Problem."""
    shown = call.header(SHOWN)
    if shown is None:
        return
    person = [unquote(part) for part in shown.split("/")]
    if person != [caller.tenant, caller.who, caller.name, caller.licence]:
        found = person[2] or person[1] if len(person) == 4 else shown
        raise Problem("another_person", found=repr(found[:200]), needed=repr(caller.name or caller.who))


def _refused(en: str, zh: str) -> Problem:
    headers = {"WWW-Authenticate": f'{REALM}, error="invalid_token"'}
    return Problem("bad_token", found=en, found_zh=zh, headers=headers)
