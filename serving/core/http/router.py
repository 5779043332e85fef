"""Dispatch requests to handlers by path and method, and turn every failure into a problem of problems.py."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import quote

from starlette import routing
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.core.db.errors import StoreUnavailableError
from serving.core.http.metrics import Metrics
from serving.core.http.principal import Principal
from serving.core.http.problems import PROBLEM_MEDIA_TYPE, ProblemError
from serving.core.http.request import Request, Response
from serving.core.identifiers import new_id

log = logging.getLogger("yuheng.gateway")

Handler = Callable[[Request], Awaitable[Response]]
Routes = dict[str, dict[str, Handler]]  # path pattern -> method -> handler; {name} takes one segment of the path
Authorize = Callable[[Request, frozenset[str]], Awaitable[Principal]]

REQUEST_ID_PATTERN = re.compile(r"[\w.:-]{1,128}", re.ASCII)
UNROUTED = "none"  # the route in the metrics of a path that matches no pattern
CORS_METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")
CORS_EXPOSED_HEADERS = (  # what a page of another origin may read of a response
    *("Location", "Slide-Id", "Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Expires", "Tus-Resumable"),
    *("Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm", "Upload-Defer-Length"),
    *("Idempotent-Replayed", "Retry-After", "X-Request-Id", "ETag", "Report-Version"),
)


class Router:
    """An ASGI application over a table of routes. It answers 503 until `ready` is set.

    `roles` holds the roles that may call a path pattern with a method; `authorize` raises ProblemError for a request
    of anybody else, before the handler runs. Pages of the `origins` may call it too, with a token but without the
    cookie. `aliases`: path -> the path as which it is answered. `on_response(route, request, response)` is called
    before a response or a problem is sent; for a response it may raise StoreUnavailableError.
    """

    def __init__(
        self,
        routes: Routes,
        roles: Mapping[tuple[str, str], frozenset[str]],
        authorize: Authorize,
        metrics: Metrics,
        max_header_bytes: int,
        origins: Sequence[str] = (),
        aliases: Mapping[str, str] | None = None,
    ):
        self.routes, self.roles, self.authorize, self.metrics = routes, roles, authorize, metrics
        self.max_header_bytes = max_header_bytes
        self.ready = False
        self.on_response: Callable[[str, Request, Response], None] = lambda route, request, response: None
        # Starlette takes the first pattern that matches: /v1/slides/turnaround comes before /v1/slides/{id}.
        ordered = sorted(routes, key=lambda path: "{" in path)
        self._routes = [routing.Route(path, _Endpoint(self, path)) for path in ordered]
        self._routes += [routing.Route(alias, _Endpoint(self, path)) for alias, path in (aliases or {}).items()]
        self._router: ASGIApp = routing.Router(self._routes, redirect_slashes=False, default=_Endpoint(self, UNROUTED))
        if origins:
            self._router = CORSMiddleware(
                self._router, origins, CORS_METHODS, allow_headers=["*"], expose_headers=CORS_EXPOSED_HEADERS
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._router(scope, receive, send)

    async def handle(self, route: str, request: Request) -> Response:
        """The handler's response to a request of this route, or the problem that kept it from one. Raises
        ClientDisconnect."""
        try:
            try:
                if not self.ready:
                    raise ProblemError("not_ready", actual="The service is starting", actual_zh="服务正在启动")
                if route == UNROUTED and (location := self._without_slash(request)) is not None:
                    return Response(status_code=308, headers={"Location": location})
                method, handler = self._select_handler(route, request)
                self._check_header_size(request)
                request.principal = await self.authorize(request, self.roles[route, method])
                response = await handler(request)
                self.on_response(route, request, response)
                return response
            except StoreUnavailableError as error:
                raise ProblemError(f"store_{error.reason}", actual=str(error)) from error
        except ProblemError as problem:
            response = problem_response(problem, request)
            self.on_response(route, request, response)
            return response
        except ClientDisconnect:
            raise
        except Exception:  # the log names the route and not the path, as a path may name a person
            log.exception("request %s: %s %s failed", request.request_id, request.method, route)
            return problem_response(ProblemError("internal"), request)

    def _select_handler(self, route: str, request: Request) -> tuple[str, Handler]:
        """(method in the table of routes, handler). Raises ProblemError."""
        if route == UNROUTED:
            raise ProblemError("not_found", actual=repr(request.scope["path"][:200]))
        methods, method = self.routes[route], request.method
        if method == "HEAD" and method not in methods:
            method = "GET"
        if method not in methods:
            allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
            raise ProblemError("method_not_allowed", actual=method, expected=allowed, headers={"Allow": allowed})
        return method, methods[method]

    def _without_slash(self, request: Request) -> str | None:
        """The path and query of a request without the slash at its end, where that is a route; None where it is not."""
        scope, path = request.scope, request.scope["path"].rstrip("/")
        if path == scope["path"]:
            return None
        matches = (route.matches({**scope, "path": path})[0] for route in self._routes)
        if all(match is routing.Match.NONE for match in matches):
            return None
        query = scope["query_string"].decode("latin-1")
        return quote(path) + (f"?{query}" if query else "")

    def _check_header_size(self, request: Request) -> None:
        size, limit = sum(len(name) + len(value) for name, value in request.headers.raw), self.max_header_bytes
        if size > limit:
            raise ProblemError("headers_too_large", actual=f"{size:,} bytes", expected=f"{limit:,} bytes")


class _Endpoint:
    """All methods of a route, as the ASGI application that Starlette calls once the path matches."""

    def __init__(self, router: Router, route: str):
        self.router, self.route = router, route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        request = Request(scope, receive)
        request.request_id = _request_id(request)
        awaits_continue = request.headers.get("expect", "").lower() == "100-continue"
        try:
            response = await self.router.handle(self.route, request)
        except ClientDisconnect:
            return
        for name, value in (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")):
            response.headers.setdefault(name, value)
        response.headers["X-Request-Id"] = request.request_id
        if awaits_continue and response.status_code >= 300:
            # The client may have kept its body back; the next request must not be taken for it (RFC 9110, 10.1.1).
            response.headers["Connection"] = "close"
        status = 499  # the client hung up, unless the response is sent whole
        try:
            await response(scope, receive, send)
            status = response.status_code
        finally:
            self.router.metrics.record_response(self.route, status, time.perf_counter() - start)


def problem_response(problem: ProblemError, request: Request) -> Response:
    """The problem as a response to this request."""
    content = problem.render(request.request_id)
    return Response(content, problem.status_code, problem.headers, PROBLEM_MEDIA_TYPE)


def _request_id(request: Request) -> str:
    """The caller's own where it is one, else a new one."""
    header = request.headers.get("x-request-id")
    return header if header is not None and REQUEST_ID_PATTERN.fullmatch(header) else new_id()
