"""Dispatch requests to handlers by path and method, and turn every failure into a problem of problems.py."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing
from typing import Any

from serving.core.db.engine import StoreUnavailableError
from serving.core.http.metrics import Metrics
from serving.core.http.principal import Principal
from serving.core.http.problems import PROBLEM_MEDIA_TYPE, ProblemError
from serving.core.http.request import ClientDisconnectedError, Request, Response, Send
from serving.core.identifiers import new_id

log = logging.getLogger("yuheng.gateway")

Handler = Callable[[Request], Awaitable[Response]]
Routes = dict[str, dict[str, Handler]]  # path pattern -> method -> handler; {name} takes one segment of the path
Authorize = Callable[[Request, frozenset[str]], Awaitable[Principal]]

REQUEST_ID_PATTERN = re.compile(r"[\w.:-]{1,128}", re.ASCII)
PATH_PARAM_PATTERN = re.compile(r"\{\w+\}")


class Router:
    """An ASGI application over a table of routes. It answers 503 until `ready` is set.

    `roles` holds the roles that may call a path pattern with a method; `authorize` raises ProblemError for a request
    of anybody else, before the handler runs.
    """

    def __init__(
        self,
        routes: Routes,
        roles: Mapping[tuple[str, str], frozenset[str]],
        authorize: Authorize,
        metrics: Metrics,
        max_header_bytes: int,
    ):
        self.routes, self.roles, self.authorize, self.metrics = routes, roles, authorize, metrics
        self.max_header_bytes = max_header_bytes
        self.ready = False
        self._static_paths = {path for path in routes if "{" not in path}
        # Number of segments -> (segments, None where one is taken; pattern).
        self._patterns: dict[int, list[tuple[list[str | None], str]]] = {}
        for path in routes:
            if path not in self._static_paths:
                segments = [None if PATH_PARAM_PATTERN.fullmatch(segment) else segment for segment in path.split("/")]
                self._patterns.setdefault(len(segments), []).append((segments, path))

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return
        start = time.perf_counter()
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        request = Request(scope, receive, "", dict(headers))
        request.request_id = _request_id(request)
        route, status, completed = "none", 500, False
        try:
            try:
                if not self.ready:
                    raise ProblemError("not_ready", actual="The service is starting", actual_zh="服务正在启动")
                route, method, handler = self._resolve(request)
                self._check_header_size(headers)
                request.principal = await self.authorize(request, self.roles[route, method])
                response = await handler(request)
            except StoreUnavailableError as error:
                raise ProblemError(f"store_{error.reason}", actual=str(error)) from error
        except ProblemError as problem:
            response = Response(
                problem.render(request.request_id), problem.status_code, PROBLEM_MEDIA_TYPE, problem.headers
            )
        except ClientDisconnectedError:
            return
        except Exception:  # the log names the route and not the path, as a path may name a person
            log.exception("request %s: %s %s failed", request.request_id, scope["method"], route)
            response = Response(ProblemError("internal").render(request.request_id), 500, PROBLEM_MEDIA_TYPE)
        status = response.status_code
        try:
            await _send(response, request, send)
            completed = True
        finally:
            self.metrics.record_response(route, status if completed else 499, time.perf_counter() - start)

    def _resolve(self, request: Request) -> tuple[str, str, Handler]:
        """(path pattern, method in the routes, handler). Raises ProblemError."""
        path: str = request.scope["path"]
        method: str = request.scope["method"]
        if path in self._static_paths:
            route = path
        else:
            route, request.path_params = self._match_pattern(path)
        methods = self.routes[route]
        if method == "HEAD" and method not in methods:
            method = "GET"
        handler = methods.get(method)
        if handler is None:
            allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
            raise ProblemError(
                "method_not_allowed", actual=request.scope["method"], expected=allowed, headers={"Allow": allowed}
            )
        return route, method, handler

    def _match_pattern(self, path: str) -> tuple[str, tuple[str, ...]]:
        """(path pattern, the segments that its names took). Raises ProblemError."""
        path_segments = path.split("/")
        for segments, route in self._patterns.get(len(path_segments), ()):
            if all(
                segment if pattern is None else segment == pattern
                for pattern, segment in zip(segments, path_segments, strict=True)
            ):
                return route, tuple(
                    segment for pattern, segment in zip(segments, path_segments, strict=True) if pattern is None
                )
        raise ProblemError("not_found", actual=repr(path[:200]))

    def _check_header_size(self, headers: list[tuple[bytes, bytes]]) -> None:
        size, limit = sum(len(name) + len(value) for name, value in headers), self.max_header_bytes
        if size > limit:
            raise ProblemError("headers_too_large", actual=f"{size:,} bytes", expected=f"{limit:,} bytes")


def _request_id(request: Request) -> str:
    """The caller's own where it is one, else a new one."""
    header = request.header(b"x-request-id")
    return header if header is not None and REQUEST_ID_PATTERN.fullmatch(header) else new_id()


async def _send(response: Response, request: Request, send: Send) -> None:
    bodyless = response.status_code in (204, 304)
    fields = {
        **({} if bodyless else {b"content-type": response.media_type.encode()}),
        b"x-request-id": request.request_id.encode(),
        b"cache-control": b"no-store",
        b"x-content-type-options": b"nosniff",
        **{name.lower().encode(): value.encode() for name, value in response.headers.items()},
    }
    headers = list(fields.items())
    body = response.body
    if isinstance(body, bytes):
        if not bodyless:
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return
    async with aclosing(body) as chunks:
        chunk = await anext(chunks)  # begun, so that closing it also ends what it holds
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
