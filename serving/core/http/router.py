"""Dispatch requests to handlers by path and method, and turn every failure into a problem of problems.py."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette import routing
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

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
        # Starlette takes the first pattern that matches: /v1/slides/turnaround comes before /v1/slides/{id}.
        ordered = sorted(routes, key=lambda path: "{" in path)
        self._router = routing.Router(
            [routing.Route(path, _Endpoint(self, path)) for path in ordered],
            redirect_slashes=False,
            default=_Endpoint(self, UNROUTED),
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
                method, handler = self._select_handler(route, request)
                self._check_header_size(request)
                request.principal = await self.authorize(request, self.roles[route, method])
                return await handler(request)
            except StoreUnavailableError as error:
                raise ProblemError(f"store_{error.reason}", actual=str(error)) from error
        except ProblemError as problem:
            return problem_response(problem, request)
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
        try:
            response = await self.router.handle(self.route, request)
        except ClientDisconnect:
            return
        for name, value in (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")):
            response.headers.setdefault(name, value)
        response.headers["X-Request-Id"] = request.request_id
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
