"""Generate identifiers, salts and timestamps."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime, timedelta

ID_PATTERN = re.compile(r"[0-9a-f]{32}")  # of `new_id`
DECISION_ID_PATTERN = re.compile(r"[0-9a-f]{32}(-[1-9][0-9]{0,9})?")  # a decision, or a row of a batch


class RandomBytes:
    """Random bytes, drawn for a thousand calls at a time because each call of os.urandom releases the GIL.

    Not thread-safe. `size`: bytes per call.
    """

    def __init__(self, size: int):
        self.size = size
        self._buffer, self._offset = b"", 0

    def __call__(self) -> bytes:
        offset = self._offset
        if offset >= len(self._buffer):
            self._buffer, offset = os.urandom(1_000 * self.size), 0
        self._offset = offset + self.size
        return self._buffer[offset : offset + self.size]


_ID_BYTES = RandomBytes(10)


def new_id() -> str:
    """32 hex digits that ascend with time: 48 bits of milliseconds, then 80 random bits. Not thread-safe."""
    return f"{time.time_ns() // 1_000_000:012x}{_ID_BYTES().hex()}"


def id_before(seconds: float) -> str:
    """A value above the `new_id` of everything older than so many seconds, and below the rest."""
    return f"{(time.time_ns() - int(seconds * 1e9)) // 1_000_000:012x}"


def utc_before(seconds: float) -> str:
    """The time so many seconds ago, in the form of `utc_now`."""
    time_before = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=seconds)
    return f"{time_before.isoformat(timespec='milliseconds')}Z"


def utc_now() -> str:
    """The current time in UTC, ISO 8601 with milliseconds."""
    return f"{datetime.now(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
