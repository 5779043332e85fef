"""What HTTP clients do on one connection: keep it after a refusal, announce a body, send it in chunks or other text."""

from __future__ import annotations

import codecs
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

URL = "/v1/credit-limits"
JSON = {"Content-Type": "application/json"}


@contextmanager
def connected(service) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
    yield connection
    connection.close()


def ask(connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str], **options: Any) -> int:
    connection.request("POST", path, body, headers, **options)
    response = connection.getresponse()
    response.read()
    return response.status


@pytest.fixture
def body(applicant) -> bytes:
    return json.dumps({"indicators": applicant}).encode()


@pytest.mark.parametrize(("path", "headers", "size", "status"), [
    ("/v1/nowhere", JSON, 3_000_000, 404),
    (URL, {"Content-Type": "text/plain"}, 3_000_000, 415),
    (URL, JSON, 3_000_000, 413),
    ("/v1/slides/", JSON, 300_000, 308),
    ("/v1/decisions/x", JSON, 300_000, 405),
])  # fmt: skip
@pytest.mark.parametrize("chunked", [False, True])
def test_the_next_call_of_a_connection_is_answered_after_a_refusal_whose_body_was_not_read(
    service, body, path, headers, size, status, chunked
):
    with connected(service) as connection:
        unread = b"x" * size
        content: Any = iter([unread[: size // 2], unread[size // 2 :]]) if chunked else unread
        assert ask(connection, path, content, headers, encode_chunked=chunked) == status
        before = connection.sock
        assert ask(connection, URL, body, JSON) == 200
        assert connection.sock is before, "the connection was kept"


@pytest.mark.parametrize("parts", [1, 3])
def test_a_chunked_body_is_answered(service, body, parts):
    step = len(body) // parts + 1
    with connected(service) as connection:
        pieces = [body[start : start + step] for start in range(0, len(body), step)]
        assert ask(connection, URL, iter(pieces), JSON, encode_chunked=True) == 200  # type: ignore[arg-type]


def test_a_client_that_waits_for_continue_is_told_to_go_on(service, body):
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as line:
        head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: application/json\r\n"
        line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 100 ")
        line.sendall(body)
        assert line.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_refusal_before_continue_closes_the_connection_so_that_no_request_is_taken_for_the_body(service, body):
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as line:
        head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: text/plain\r\n"
        line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        response = http.client.HTTPResponse(line)
        response.begin()
        assert (response.status, response.headers["connection"]) == (415, "close")
        response.read()
        assert line.recv(1) == b"", "the service closes it"


def test_a_byte_order_mark_before_json_is_skipped(service, body):
    with connected(service) as connection:
        assert ask(connection, URL, codecs.BOM_UTF8 + body, JSON) == 200
        lines = codecs.BOM_UTF8 + json.dumps(json.loads(body)["indicators"]).encode() + b"\n"
        connection.request("POST", f"{URL}/batch", lines, {"Content-Type": "application/x-ndjson"})
        [answer] = connection.getresponse().read().splitlines()
        assert json.loads(answer)["row"] == 1
        assert "pd" in json.loads(answer)


@pytest.mark.parametrize(("content_type", "status"), [
    ("application/json; charset=utf-8", 200), ('application/json;charset="UTF-8"', 200),
    ("application/json; charset=us-ascii", 200), ("application/json; odd=1", 200),
    ("application/json; charset=gbk", 415), ("application/json; charset=UTF-16", 415),
    ('application/json; CHARSET="iso-8859-1"', 415), ("application/json; charset", 200),
])  # fmt: skip
def test_a_text_of_another_charset_is_refused_by_its_name(service, body, content_type, status):
    with connected(service) as connection:
        connection.request("POST", URL, body, {"Content-Type": content_type})
        response = connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == status, answer
        if status == 415:
            assert "charset=" in answer["detail"]


def test_a_batch_of_another_charset_is_refused_by_its_name(service):
    with connected(service) as connection:
        assert ask(connection, f"{URL}/batch", "农户\n".encode("gbk"), {"Content-Type": "text/csv; charset=gbk"}) == 415
