"""Headers that arrive within bounds, and answers that are taken: BentoML and uvicorn wait for either without end.

Chosen by name through uvicorn's table of protocols, as BentoML's worker offers no setting for it.
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


class GuardedProtocol(HttpToolsProtocol):
    """Closes a connection whose headers are over `most` bytes or incomplete after `seconds`, and one that takes nothing
    of its answer for `idle` seconds: the answer ends as if its caller had hung up."""

    most = 16_384  # bytes; `install` sets all three from the settings
    seconds = 10.0
    idle = 60.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._pending = 0  # bytes received while headers are incomplete
        self._complete = False
        self._timer = self.loop.call_later(self.seconds, self._late)
        self._taking: asyncio.TimerHandle | None = None  # while an answer waits to be taken

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._taken()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._complete = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._complete = True
        self._pending = 0
        self._timer.cancel()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._complete or self.transport.is_closing():
            return
        if not self._pending and self._timer.cancelled():
            self._timer = self.loop.call_later(self.seconds, self._late)
        self._pending += len(data)
        if self._pending > self.most:
            self._refuse(TOO_LARGE)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait(self._left())

    def resume_writing(self) -> None:
        self._taken()
        super().resume_writing()

    def _wait(self, left: int) -> None:
        self._taking = self.loop.call_later(self.idle, self._still, left)

    def _still(self, before: int) -> None:
        left = self._left()
        if left < before:
            self._wait(left)
        else:
            self.transport.abort()

    def _left(self) -> int:
        """Bytes that were not taken: ours, and the kernel's, which asks for more only once much of its own is gone."""
        unsent = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return int(self.transport.get_write_buffer_size()) + int.from_bytes(unsent, sys.byteorder)

    def _taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _late(self) -> None:
        if not self._complete and not self.transport.is_closing():
            self._refuse(TOO_SLOW)

    def _refuse(self, status: bytes) -> None:
        self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()


def install(most: int, seconds: float, idle: float) -> None:
    """Before uvicorn reads its configuration."""
    from uvicorn.config import HTTP_PROTOCOLS

    GuardedProtocol.most, GuardedProtocol.seconds, GuardedProtocol.idle = most, seconds, idle
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{GuardedProtocol.__name__}"
