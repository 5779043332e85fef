"""The thin layer between ASGI and the routes: a call, a reply, a body read within its limits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from datasets.errors import FieldError
from datasets.schema import find_unknown_names
from serving.core.http.principal import LOCAL_PRINCIPAL, Principal
from serving.core.http.problems import ProblemError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON_MEDIA_TYPE = "application/json"
IDEMPOTENCY_KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,255}")  # printable, no blanks


class ClientDisconnectedError(Exception):
    """The caller hung up: nobody is left to answer."""


@dataclass(slots=True)
class Request:
    """One request. `headers` are lower-case; `path` holds what the address's pattern took."""

    scope: Mapping[str, Any]
    receive: Receive
    request_id: str
    headers: dict[bytes, bytes]
    path_params: tuple[str, ...] = ()
    principal: Principal = LOCAL_PRINCIPAL

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def media_type(self) -> str:
        return (self.header(b"content-type") or "").partition(";")[0].strip().lower()


@dataclass(slots=True)
class Response:
    """`body` is sent as it comes; an iterator's first part is awaited before the status is sent."""

    body: bytes | AsyncGenerator[bytes, None]
    status_code: int = 200
    media_type: str = JSON_MEDIA_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)


async def read_body(request: Request, max_bytes: int, timeout: float) -> bytes:
    """The whole body. Raises Problem where it is over `most` bytes (without reading on) or slower than `seconds`."""
    content_length = request.headers.get(b"content-length")
    if content_length is not None and int(content_length) > max_bytes:
        raise body_too_large(int(content_length), max_bytes)
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnectedError
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        try:
            async with asyncio.timeout(timeout):
                body = await _read_remaining(request, body, max_bytes)
        except TimeoutError:
            raise ProblemError("slow_request", expected=f"{timeout:g} s", expected_zh=f"{timeout:g} 秒") from None
    elif len(body) > max_bytes:
        raise body_too_large(len(body), max_bytes)
    return body


def parse_query(request: Request, allowed: Sequence[str]) -> tuple[dict[str, str], list[FieldError]]:
    """(the address's parameters, a fault for each that is not of `known` or told twice). Raises Problem."""
    try:
        pairs = parse_qsl(request.scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict")
    except (ValueError, UnicodeError) as error:
        raise ProblemError("bad_parameter", errors=[FieldError("(query)", str(error), "UTF-8", "UTF-8")]) from error
    options = dict(pairs)
    errors = find_unknown_names(options, allowed, f"one of {', '.join(allowed)}", "参数之一")
    errors += [  # PostgreSQL looks for none
        FieldError(name, "a NUL", "text without NUL", "不含 NUL 的文本")
        for name in allowed
        if "\0" in options.get(name, "")
    ]
    errors += [
        FieldError(name, "given more than once", "one value", "一个值")
        for name in allowed
        if sum(name == parameter for parameter, _ in pairs) > 1
    ]
    return options, errors


def idempotency_key(request: Request) -> str | None:
    key = request.header(b"idempotency-key")
    if key is not None and not IDEMPOTENCY_KEY_PATTERN.fullmatch(key):
        raise ProblemError(
            "bad_header",
            actual=f"The Idempotency-Key is {key[:80]!r}",
            actual_zh=f"Idempotency-Key 为 {key[:80]!r}",
            expected="one of 1 to 255 printable ASCII characters without blanks",
            expected_zh="1 至 255 个可打印且不含空格的 ASCII 字符",
        )
    return key


async def _read_remaining(request: Request, first_chunk: bytes, max_bytes: int) -> bytes:
    chunks, size = [first_chunk], len(first_chunk)
    while True:
        if size > max_bytes:
            raise body_too_large(size, max_bytes)
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if not message.get("more_body", False):
            if size > max_bytes:
                raise body_too_large(size, max_bytes)
            return b"".join(chunks)


def body_too_large(size: int, max_bytes: int) -> ProblemError:
    """`found` bytes were announced, or received so far."""
    return ProblemError(
        "body_too_large",
        actual=f"{size:,} bytes",
        actual_zh=f"{size:,} 字节",
        expected=f"{max_bytes:,} bytes",
        expected_zh=f"{max_bytes:,} 字节",
    )


async def iterate_in_thread(chunks: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Each part made in a thread, one at a time."""
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


async def wait_for_disconnect(request: Request) -> None:
    """Ends once the caller hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
