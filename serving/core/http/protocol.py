"""Bounds on headers and on slow readers, which BentoML and uvicorn wait for without a limit.

uvicorn finds the class by name in its table of protocols, as BentoML's worker has no setting for it.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TOO_LARGE = b"431 Request Header Fields Too Large"
TOO_SLOW = b"408 Request Timeout"


class BoundedHttpProtocol(HttpToolsProtocol):
    """Close a connection whose headers exceed `max_header_bytes` or are incomplete after `header_timeout` seconds, and
    one that reads nothing of its response for `write_timeout` seconds: the response then ends as if its client had hung
    up."""

    max_header_bytes = 16_384  # `install_protocol` sets all three from the settings
    header_timeout = 10.0
    write_timeout = 60.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._header_bytes = 0  # bytes received while headers are incomplete
        self._headers_complete = False
        self._header_timer = self.loop.call_later(self.header_timeout, self._on_header_timeout)
        self._write_timer: asyncio.TimerHandle | None = None  # while a response waits to be read

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_timer.cancel()
        self._cancel_write_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._headers_complete = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._headers_complete = True
        self._header_bytes = 0
        self._header_timer.cancel()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._headers_complete or self.transport.is_closing():
            return
        if not self._header_bytes and self._header_timer.cancelled():
            self._header_timer = self.loop.call_later(self.header_timeout, self._on_header_timeout)
        self._header_bytes += len(data)
        if self._header_bytes > self.max_header_bytes:
            self._reject(TOO_LARGE)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer(self._unsent_bytes())

    def resume_writing(self) -> None:
        self._cancel_write_timer()
        super().resume_writing()

    def _start_write_timer(self, unsent: int) -> None:
        self._write_timer = self.loop.call_later(self.write_timeout, self._check_progress, unsent)

    def _check_progress(self, previous_unsent: int) -> None:
        unsent = self._unsent_bytes()
        if unsent < previous_unsent:
            self._start_write_timer(unsent)
        else:
            self.transport.abort()

    def _unsent_bytes(self) -> int:
        """Bytes not read by the client, in our buffer and in the kernel's, which asks for more only once it drained."""
        kernel_bytes = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return int(self.transport.get_write_buffer_size()) + int.from_bytes(kernel_bytes, sys.byteorder)

    def _cancel_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _on_header_timeout(self) -> None:
        if not self._headers_complete and not self.transport.is_closing():
            self._reject(TOO_SLOW)

    def _reject(self, status: bytes) -> None:
        self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()


def install_protocol(max_header_bytes: int, header_timeout: float, write_timeout: float) -> None:
    """Make uvicorn use the bounded protocol; call it before uvicorn reads its configuration. Times in seconds."""
    from uvicorn.config import HTTP_PROTOCOLS

    BoundedHttpProtocol.max_header_bytes, BoundedHttpProtocol.header_timeout, BoundedHttpProtocol.write_timeout = (
        max_header_bytes,
        header_timeout,
        write_timeout,
    )
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedHttpProtocol.__name__}"
