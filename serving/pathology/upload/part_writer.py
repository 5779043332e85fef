"""Write the parts of uploads to their files as they are received, and keep the SHA-256 of what has been received."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Message

from serving.core.db.errors import StoreUnavailableError
from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, slow_request
from serving.core.security.admission import DiskSpace, UploadPace
from serving.pathology.context import Row, SlideContext
from serving.pathology.slides import storage, upload_store
from serving.pathology.upload.locks import locked_problem
from serving.pathology.upload.tus_headers import DEFERRED, Checksum, too_large_problem

logger = logging.getLogger("yuheng.uploads")

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class PartWriter:
    """Bytes go to the disk as they come, so memory use does not depend on the size of a part."""

    def __init__(self, context: SlideContext):
        self.context, self.settings = context, context.settings.slides
        self.limits = context.settings.limits
        self.disk = DiskSpace(context.slides_dir, self.limits.min_free_disk_bytes)
        self._digests: dict[str, tuple[int, hashlib._Hash]] = {}  # upload -> (offset, SHA-256 of all bytes before it)

    def pop_digest(self, upload_id: str) -> hashlib._Hash | None:
        """The SHA-256 of everything received, if it is known; forgets it."""
        return self._digests.pop(upload_id, (0, None))[1]

    async def append(
        self, request: Request, row: Row, path: Path, start: int, checksum: Checksum | None, stop: asyncio.Event
    ) -> int:
        """Append the request's body from `start` on; returns the new offset, which is on the disk and in the store.

        stop: set once another request wants the upload. Raises ProblemError or ClientDisconnect. What was received
        until then is kept, unless the part has a checksum that is wrong or cannot be verified.
        """
        digest_state = self._digests.pop(row["id"], (0, hashlib.sha256()))
        try:
            file = await asyncio.to_thread(
                storage.AppendFile, path, start, digest_state[1] if digest_state[0] == start else None
            )
        except OSError as error:
            raise disk_full_problem(error, start) from error
        failure: ProblemError | ClientDisconnect | None = None
        try:
            try:
                await self._receive_part(request, file, row, checksum, stop)
            except (ProblemError, ClientDisconnect) as error:
                failure = error
            except OSError as error:
                failure = disk_full_problem(error, file.position)
            if checksum is not None and (failure := failure or checksum.mismatch()) is not None:
                await asyncio.to_thread(file.truncate)
                self._digests[row["id"]] = digest_state
            try:
                await asyncio.to_thread(file.sync)
            except OSError as error:
                raise disk_full_problem(error, start) from error
        finally:
            file.close()
        if file.digest is not None:
            self._digests[row["id"]] = (file.position, file.digest)
        while len(self._digests) > self.settings.max_open_uploads:  # a forgotten digest is computed again from the file
            del self._digests[next(iter(self._digests))]
        try:
            await self.context.write(
                lambda connection: upload_store.set_upload(connection, row["id"], offset=file.position)
            )
        except StoreUnavailableError as error:
            if failure is None:
                raise
            logger.warning("upload %s is at %d, which could not be stored: %s", row["id"], file.position, error)
        if failure is not None:
            raise failure
        return file.position

    async def _receive_part(
        self, request: Request, file: storage.AppendFile, row: Row, checksum: Checksum | None, stop: asyncio.Event
    ) -> None:
        """Write the body in chunks. Raises ProblemError, ClientDisconnect, or OSError if writing fails."""
        length = row["length"] if row["length"] != DEFERRED else self.settings.max_upload_bytes
        buffer, more, received = bytearray(), True, 0
        pace = UploadPace(self.limits.min_upload_bytes_per_second, self.settings.upload_idle_timeout_seconds)
        failure: ProblemError | ClientDisconnect | None = None
        stopped = asyncio.ensure_future(stop.wait())
        try:
            while more and failure is None:
                message = await self._receive_message(request, stopped)
                if message is None:
                    failure = locked_problem(row["id"]) if stopped.done() else self._slow_problem()
                    message = {}
                elif message["type"] == "http.disconnect":
                    failure = ClientDisconnect()
                buffer += message.get("body", b"")
                received += len(message.get("body", b""))
                more = message.get("more_body", False)
                if more and failure is None:
                    failure = pace.fault(received)
                if file.position + len(buffer) > length:
                    failure = too_large_problem(file.position + len(buffer), length)
                    del buffer[length - file.position :]
                if len(buffer) >= storage.CHUNK_BYTES or not more or failure is not None:
                    chunk = bytes(buffer)
                    buffer.clear()
                    if checksum is not None:
                        checksum.digest.update(chunk)
                    if len(chunk) > self.disk.available():
                        raise OSError(errno.ENOSPC, "the rest is kept for the store")
                    await asyncio.to_thread(file.write, chunk)
        finally:
            stopped.cancel()
        if failure is not None:
            raise failure

    async def _receive_message(self, request: Request, stopped: asyncio.Future[Any]) -> Message | None:
        """The next message of the body; None if none comes in time, or another request wants the upload."""
        received = asyncio.ensure_future(request.receive())
        seconds = self.settings.upload_idle_timeout_seconds
        try:
            await asyncio.wait((received, stopped), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return received.result() if received.done() and not stopped.done() else None
        finally:
            received.cancel()

    def _slow_problem(self) -> ProblemError:
        return slow_request(self.settings.upload_idle_timeout_seconds)


def disk_full_problem(error: OSError, offset: int) -> ProblemError:
    """The problem of a full disk. Raises StoreUnavailableError if the error has another cause."""
    if error.errno not in DISK_FULL_ERRNOS:
        raise StoreUnavailableError("failed", f"the upload cannot be written: {error.strerror}") from error
    return ProblemError(
        "no_space",
        actual=f"The disk is full ({error.strerror})",
        actual_zh=f"磁盘写入失败（{error.strerror}）",
        headers={"Upload-Offset": str(offset)},
    )
