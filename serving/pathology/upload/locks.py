"""One request at a time works on an upload, and the newest one goes first.

A connection that was cut without a word, as by a lost Wi-Fi, leaves a request behind that waits for bytes that never
come. A client that returns must not wait for it: the newer request has the older one stop receiving and takes over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from serving.core.http.problems import ProblemError

HANDOVER_SECONDS = 10.0  # until an older request has written what it received; verifying a file may take longer


@dataclass(slots=True)
class _Holder:
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


class UploadLocks:
    """Use it in the event loop only."""

    def __init__(self, handover_seconds: float = HANDOVER_SECONDS):
        self.handover_seconds = handover_seconds
        self._holders: dict[str, _Holder] = {}

    def is_held(self, upload_id: str) -> bool:
        return upload_id in self._holders

    @asynccontextmanager
    async def hold(self, upload_id: str) -> AsyncIterator[asyncio.Event]:
        """Hold the upload, once an earlier holder has let go. Gives the event that asks this one to stop receiving.

        Raises ProblemError where the earlier holder does not let go in time.
        """
        try:
            async with asyncio.timeout(self.handover_seconds):
                while (earlier := self._holders.get(upload_id)) is not None:
                    earlier.stop.set()
                    await earlier.released.wait()
        except TimeoutError:
            raise locked_problem(upload_id) from None
        holder = self._holders[upload_id] = _Holder()  # nothing was awaited since it was found free
        try:
            yield holder.stop
        finally:
            del self._holders[upload_id]
            holder.released.set()


def locked_problem(upload_id: str) -> ProblemError:
    return ProblemError("upload_locked", actual=upload_id)
