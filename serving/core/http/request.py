"""The thin layer between ASGI and the routes: a call, a reply, a body read within its limits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from datasets.errors import Fault
from datasets.schema import unknown_names
from serving.core.http.principal import OPEN, Caller
from serving.core.http.problems import Problem

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = "application/json"
KEY = re.compile(r"[\x21-\x7e]{1,255}")  # printable, no blanks


class ClientGone(Exception):
    """The caller hung up: nobody is left to answer."""


@dataclass(slots=True)
class Call:
    """One request. `headers` are lower-case; `path` holds what the address's pattern took."""

    scope: Mapping[str, Any]
    receive: Receive
    request_id: str
    headers: dict[bytes, bytes]
    path: tuple[str, ...] = ()
    caller: Caller = OPEN

    def header(self, name: bytes) -> str | None:
        found = self.headers.get(name)
        return None if found is None else found.decode("latin-1")

    def media_type(self) -> str:
        return (self.header(b"content-type") or "").partition(";")[0].strip().lower()


@dataclass(slots=True)
class Reply:
    """`body` is sent as it comes; an iterator's first part is awaited before the status is sent."""

    body: bytes | AsyncGenerator[bytes, None]
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


async def read_body(call: Call, most: int, seconds: float) -> bytes:
    """The whole body. Raises Problem where it is over `most` bytes (without reading on) or slower than `seconds`."""
    announced = call.headers.get(b"content-length")
    if announced is not None and int(announced) > most:
        raise too_large(int(announced), most)
    message = await call.receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        try:
            async with asyncio.timeout(seconds):
                body = await _rest(call, body, most)
        except TimeoutError:
            raise Problem("slow_request", needed=f"{seconds:g} s", needed_zh=f"{seconds:g} 秒") from None
    elif len(body) > most:
        raise too_large(len(body), most)
    return body


def query(call: Call, known: Sequence[str]) -> tuple[dict[str, str], list[Fault]]:
    """(the address's parameters, a fault for each that is not of `known` or told twice). Raises Problem."""
    try:
        pairs = parse_qsl(call.scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict")
    except (ValueError, UnicodeError) as error:
        raise Problem("bad_parameter", errors=[Fault("(query)", str(error), "UTF-8", "UTF-8")]) from error
    options = dict(pairs)
    faults = unknown_names(options, known, f"one of {', '.join(known)}", "参数之一")
    faults += [  # PostgreSQL looks for none
        Fault(name, "a NUL", "text without NUL", "不含 NUL 的文本") for name in known if "\0" in options.get(name, "")
    ]
    faults += [
        Fault(name, "given more than once", "one value", "一个值")
        for name in known
        if sum(name == given for given, _ in pairs) > 1
    ]
    return options, faults


def idempotency_key(call: Call) -> str | None:
    key = call.header(b"idempotency-key")
    if key is not None and not KEY.fullmatch(key):
        raise Problem(
            "bad_header",
            found=f"The Idempotency-Key is {key[:80]!r}",
            found_zh=f"Idempotency-Key 为 {key[:80]!r}",
            needed="one of 1 to 255 printable ASCII characters without blanks",
            needed_zh="1 至 255 个可打印且不含空格的 ASCII 字符",
        )
    return key


async def _rest(call: Call, first: bytes, most: int) -> bytes:
    parts, size = [first], len(first)
    while True:
        if size > most:
            raise too_large(size, most)
        message = await call.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if not message.get("more_body", False):
            if size > most:
                raise too_large(size, most)
            return b"".join(parts)


def too_large(found: int, most: int) -> Problem:
    """`found` bytes were announced, or received so far."""
    return Problem(
        "body_too_large",
        found=f"{found:,} bytes",
        found_zh=f"{found:,} 字节",
        needed=f"{most:,} bytes",
        needed_zh=f"{most:,} 字节",
    )


async def threaded(parts: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Each part made in a thread, one at a time."""
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        yield part


async def disconnected(call: Call) -> None:
    """Ends once the caller hung up."""
    while (await call.receive())["type"] != "http.disconnect":
        pass
