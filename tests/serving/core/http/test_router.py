"""Dispatch: paths, methods, roles before the handler, failures as problems, and responses that are streamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from serving.core.http.metrics import Metrics
from serving.core.http.principal import LOCAL_PRINCIPAL
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSONResponse, StreamingResponse, read_body
from serving.core.http.router import Router


async def show_params(request):
    return JSONResponse({"params": request.path_params, "principal": request.principal.tenant})


async def show_static(request):
    return JSONResponse({"static": True})


async def read_all(request):
    return JSONResponse({"bytes": len(await read_body(request, 10, 0.2))})


ROUTES = {
    "/items/{id}": {"GET": show_params},
    "/items/newest": {"GET": show_static, "POST": read_all},
    "/items/{id}/parts/{part}": {"DELETE": show_params},
}


def make_router(routes=ROUTES, authorize=None) -> Router:
    async def allow(request, roles):
        return LOCAL_PRINCIPAL

    roles = {(path, method): frozenset({"bank"}) for path, methods in routes.items() for method in methods}
    router = Router(routes, roles, authorize or allow, Metrics(), max_header_bytes=4_000)
    router.ready = True
    return router


def send(router: Router, method: str, path: str, **options: Any) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(router, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/items/7", {"params": {"id": "7"}, "principal": "local"}),
        ("GET", "/items/newest", {"static": True}),
        ("DELETE", "/items/7/parts/x", {"params": {"id": "7", "part": "x"}, "principal": "local"}),
    ],
)
def test_a_path_without_parameters_wins_over_a_pattern(method, path, expected):
    assert send(make_router(), method, path).json() == expected


@pytest.mark.parametrize("path", ["/", "/items", "/items/", "/items//parts/x", "/nowhere", "/nowhere/"])
def test_a_path_that_matches_no_pattern_is_a_problem(path):
    response = send(make_router(), "GET", path)
    assert (response.status_code, response.json()["type"]) == (404, "/problems/not_found")


def test_head_is_answered_as_get_and_another_method_is_refused_with_those_allowed():
    assert send(make_router(), "HEAD", "/items/7").status_code == 200
    response = send(make_router(), "DELETE", "/items/newest")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST, HEAD")


def test_a_caller_without_the_role_never_reaches_the_handler():
    calls = []

    async def handler(request):
        calls.append(request)

    async def refuse(request, roles):
        raise ProblemError("not_allowed", actual="none", expected=" or ".join(roles))

    response = send(make_router({"/x": {"GET": handler}}, refuse), "GET", "/x")
    assert (response.status_code, calls) == (403, [])


def test_every_response_has_an_id_and_is_not_stored_unless_the_handler_says_so():
    async def cached(request):
        return JSONResponse({}, headers={"Cache-Control": "private"})

    router = make_router({"/x": {"GET": cached}, "/y": {"GET": show_static}})
    response = send(router, "GET", "/x", headers={"X-Request-Id": "mine-1"})
    assert (response.headers["x-request-id"], response.headers["cache-control"]) == ("mine-1", "private")
    response = send(router, "GET", "/y", headers={"X-Request-Id": "not an id"})
    assert len(response.headers["x-request-id"]) == 32
    assert response.headers["cache-control"] == "no-store"


def test_headers_beyond_the_limit_are_refused():
    assert send(make_router(), "GET", "/items/7", headers={"X-Long": "x" * 5_000}).status_code == 431


def test_an_unforeseen_error_is_a_problem_without_its_details(caplog):
    async def broken(request):
        raise KeyError("secret")

    response = send(make_router({"/x/{id}": {"GET": broken}}), "GET", "/x/Anna")
    assert (response.status_code, response.json()["type"]) == (500, "/problems/internal")
    assert "secret" not in response.text
    assert "Anna" not in caplog.records[0].getMessage()


@pytest.mark.parametrize("chunk_count", [1, 3])
def test_a_body_over_the_limit_is_refused(chunk_count):
    async def chunks():
        for _ in range(chunk_count):
            yield b"x" * (12 // chunk_count)

    assert send(make_router(), "POST", "/items/newest", content=chunks()).status_code == 413


@pytest.mark.parametrize("first_chunk", [b"", b"x"])
def test_a_body_that_does_not_arrive_in_time_is_refused(first_chunk):
    async def main() -> list[Any]:
        messages = [{"type": "http.request", "body": first_chunk, "more_body": True}] if first_chunk else []
        sent: list[Any] = []

        async def receive():
            return messages.pop() if messages else await asyncio.sleep(60)

        async def record(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/items/newest", "query_string": b"", "headers": []}
        await make_router()(scope, receive, record)
        return sent

    assert asyncio.run(main())[0]["status"] == 408


def test_nothing_is_sent_to_a_client_that_hung_up_before_its_body_was_there():
    async def main() -> list[Any]:
        sent: list[Any] = []

        async def receive():
            return {"type": "http.disconnect"}

        async def record(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/items/newest", "query_string": b"", "headers": []}
        await make_router()(scope, receive, record)
        return sent

    assert asyncio.run(main()) == []


def test_a_stream_that_fails_before_its_first_chunk_is_never_a_success():
    async def chunks(fail: bool) -> AsyncGenerator[bytes, None]:
        if fail:
            raise KeyError("no first chunk")
        yield b"a,b\n"
        yield b"1,2\n"

    async def stream(request):
        return StreamingResponse(chunks(request.path_params["fail"] == "yes"), media_type="text/csv")

    router = make_router({"/rows/{fail}": {"GET": stream}})
    response = send(router, "GET", "/rows/no")
    assert (response.text, response.headers["content-type"]) == ("a,b\n1,2\n", "text/csv")
    assert send(router, "GET", "/rows/yes").status_code == 500
    assert b'yuheng_requests_total{route="/rows/{fail}",status="200"} 1.0' in router.metrics.render()


def test_metrics_name_the_pattern_and_never_the_path():
    router = make_router()
    send(router, "GET", "/items/Anna")
    send(router, "GET", "/Anna")
    text = router.metrics.render().decode()
    assert 'route="/items/{id}",status="200"' in text
    assert 'route="none",status="404"' in text
    assert "Anna" not in text
