"""Starlette's request and responses for our routes: with a principal, bodies within limits, and JSON by orjson."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from email.message import Message
from typing import Any

import orjson
from starlette import requests, responses
from starlette.responses import Response as Response  # for bytes; its content type is the one that is given
from starlette.types import Receive, Scope, Send

from serving.core.http.principal import LOCAL_PRINCIPAL, Principal
from serving.core.http.problems import ProblemError

JSON_MEDIA_TYPE = "application/json"
IDEMPOTENCY_KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,255}")  # printable, no blanks


class Request(requests.Request):
    """One request, with its id and who sent it."""

    request_id = ""
    principal: Principal = LOCAL_PRINCIPAL

    def media_type(self) -> str:
        """Content-Type in lower case, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def media_type_params(self) -> dict[str, str]:
        """The parameters of Content-Type: name in lower case -> value without its quotes."""
        content_type = self.headers.get("content-type", "")
        if ";" not in content_type:
            return {}
        message = Message()
        message["Content-Type"] = content_type
        return {name.lower(): str(value) for name, value in (message.get_params() or [])[1:]}


class JSONResponse(responses.JSONResponse):
    """`content` as JSON, NumPy's numbers included; bytes are JSON already."""

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


class StreamingResponse(responses.StreamingResponse):
    """Chunks as a generator makes them.

    The first chunk is made before the status is sent, so that a failure until then is a problem, and closing the
    generator also ends what it began. Starlette's own class would read the request meanwhile to see whether the client
    hangs up; here the generators do, as a batch with an Idempotency-Key goes on without its caller.
    """

    def __init__(
        self, content: AsyncGenerator[bytes, None], media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(content, headers={"Content-Type": media_type, **(headers or {})})  # without a charset
        self.chunks = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.chunks) as chunks:
            chunk = await anext(chunks)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def read_body(request: Request, max_bytes: int, timeout: float) -> bytes:
    """The whole body. Raises ProblemError where it is over `max_bytes`, without reading on, or takes over `timeout`
    seconds to arrive, and ClientDisconnect."""
    check_content_length(request, max_bytes)
    body = b""
    try:
        async with asyncio.timeout(timeout):
            async for chunk in request.stream():
                body = body + chunk if body else chunk
                if len(body) > max_bytes:
                    raise body_too_large(len(body), max_bytes)
    except TimeoutError:
        raise slow_request(timeout) from None
    return body


def check_content_length(request: Request, max_bytes: int) -> None:
    """Raises ProblemError where the announced length is over `max_bytes`."""
    content_length = request.headers.get("content-length")
    if content_length is not None and int(content_length) > max_bytes:
        raise body_too_large(int(content_length), max_bytes)


def idempotency_key(request: Request) -> str | None:
    """The header's value. Raises ProblemError where it is no key."""
    key = request.headers.get("idempotency-key")
    if key is not None and not IDEMPOTENCY_KEY_PATTERN.fullmatch(key):
        raise ProblemError(
            "bad_header",
            actual=f"The Idempotency-Key is {key[:80]!r}",
            actual_zh=f"Idempotency-Key 为 {key[:80]!r}",
            expected="one of 1 to 255 printable ASCII characters without blanks",
            expected_zh="1 至 255 个可打印且不含空格的 ASCII 字符",
        )
    return key


def body_too_large(size: int, max_bytes: int) -> ProblemError:
    """`size` bytes were announced, or received so far."""
    return ProblemError(
        "body_too_large",
        actual=f"{size:,} bytes",
        actual_zh=f"{size:,} 字节",
        expected=f"{max_bytes:,} bytes",
        expected_zh=f"{max_bytes:,} 字节",
    )


def slow_request(seconds: float) -> ProblemError:
    """The body did not arrive within so many seconds."""
    return ProblemError("slow_request", expected=f"{seconds:g} s", expected_zh=f"{seconds:g} 秒")


async def iterate_in_thread(chunks: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Each chunk made in a thread, one at a time."""
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


async def wait_for_disconnect(request: Request) -> None:
    """Return once the client has hung up. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def make_etag(*parts: object) -> str:
    """A strong one: the same parts give the same bytes."""
    return f'"{hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:32]}"'


def etag_matches(etag: str, if_none_match: str | None) -> bool:
    """Whether a browser has these bytes already (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    client_etags = {value.strip().removeprefix("W/") for value in if_none_match.split(",")}
    return etag in client_etags or "*" in client_etags
