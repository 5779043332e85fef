"""The routes of batches: they check the options, spool the upload to disk and stream the answer.

The complete upload is read before the first row is answered: most clients send everything before they read anything, so
a server that answered meanwhile would wait for them as they wait for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import Field
from starlette.requests import ClientDisconnect

from datasets.errors import FieldError
from serving.core.db.errors import StoreUnavailableError
from serving.core.http.problems import ProblemError
from serving.core.http.request import (
    Request,
    Response,
    StreamingResponse,
    body_too_large,
    wait_for_disconnect,
)
from serving.core.http.validation import FLAG, RequestModel, one_of, parse_query, require_utf8
from serving.core.identifiers import new_id, utc_now
from serving.core.security.admission import DiskSpace, FairExecutor, TenantPlaces, UploadPace, tenant_share
from serving.decisions.batch import records
from serving.decisions.batch.files.confined import FileReaders
from serving.decisions.batch.files.formats import FORMATS, MEDIA_TYPES
from serving.decisions.batch.job import BatchJob, replay
from serving.decisions.batch.request import BatchRequest
from serving.decisions.products.base import Product
from serving.decisions.service import DecisionService
from serving.settings import LimitSettings

WRITE_BYTES = 1024 * 1024  # bytes written to the spool at a time
PLACES = "batches under way: no more are taken", "个批次在处理"  # after a number, for messages


class BatchQuery(RequestModel):
    format: Annotated[
        str, one_of(*MEDIA_TYPES), Field(description="Of the answer; else by Accept; else as it came.")
    ] = ""
    model: str = Field(default="", description="Else the product's default.")
    keep: str = Field(default="", description="Columns to copy into the answer unread, commas between.")
    reasons: Annotated[str, FLAG, Field(description="Whether each row shows its reasons; else false.")] = ""


class BatchRoutes:
    def __init__(self, service: DecisionService):
        self.service, self.settings = service, service.settings
        service.store.on_open.append(lambda connection: records.abort_orphans(connection, utc_now()))
        limits = self.settings.limits
        self.pool = ThreadPoolExecutor(limits.max_concurrent_batches, thread_name_prefix="batch")
        self.executor = FairExecutor(
            self.pool, limits.max_concurrent_batches, tenant_share(limits.max_concurrent_batches)
        )
        self.places = TenantPlaces(limits.max_open_batches, limits.max_open_batches_per_tenant, PLACES)
        self.active_keys: set[tuple[str, str, str | None]] = set()  # (tenant, scope, key) of running batches
        self.spool = self.settings.paths.spool
        self.disk = DiskSpace(self.spool, limits.min_free_disk_bytes)
        readers_folder = self.spool.with_name(f"{self.spool.name}-readers")  # on the same disk
        self.readers = FileReaders(readers_folder)
        _remove_stale_files(self.spool)
        _remove_stale_files(readers_folder)

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.readers.close()

    async def submit(self, product: Product, request: Request, idempotency_key: str | None) -> Response:
        await self.service.quota.check(request.principal.tenant)
        input_format = self._input_format(request)
        query = parse_query(request, BatchQuery)
        output_format = self._output_format(request, query.format, input_format)
        keep = tuple(name for name in query.keep.split(",") if name)
        model = self.service.deployed_model(product, query.model if "model" in query.model_fields_set else None)
        if conflicts := [name for name in keep if name in {column.name for column in model.fields} | _RESERVED_COLUMNS]:
            expected = ("a column that is neither read nor answered", "既不读取也不输出的列")
            raise ProblemError("bad_parameter", errors=[FieldError("keep", name, *expected) for name in conflicts])
        tenant = request.principal.tenant
        self.places.take(tenant)
        path: Path | None = None
        try:
            vault = self.service.store.vault  # opens the store, where that failed before, ahead of the upload
            path, digest = await self._spool_upload(
                request,
                f"{input_format} {output_format} {sorted(query.model_dump(exclude_unset=True).items())}",
            )
            digest = vault.digest(digest.encode())  # keyed: ids could be guessed against a bare digest of a short file
            scope, reasons = f"{product.scope}/batch", query.reasons == "true"
            batch_request = BatchRequest(
                new_id(),
                request.principal.tenant,
                scope,
                idempotency_key,
                digest,
                path,
                input_format,
                output_format,
                keep,
                reasons,
            )
            job = BatchJob(self.service, batch_request, model, self.readers)
            return await self._respond(request, job)
        except BaseException:
            self._release(tenant, path)
            raise

    async def _respond(self, request: Request, job: BatchJob) -> Response:
        batch_request = job.request
        batch_id, chunks = batch_request.id, job.stream()
        if batch_request.key is not None and (earlier_id := await self._find_earlier_batch(batch_request)) is not None:
            batch_id, chunks = (
                earlier_id,
                replay(self.service.store.reader, earlier_id, batch_request.output_format, self.spool),
            )
        elif batch_request.key is not None:
            self.active_keys.add(batch_request.key_scope)
        try:
            first_chunk = await self.executor.run(batch_request.tenant, next, chunks, None)
        except BaseException:
            self.active_keys.discard(batch_request.key_scope)
            raise
        headers = {"Batch-Id": batch_id, "Location": f"/v1/batches/{batch_id}"}
        if batch_id != batch_request.id:
            headers["Idempotent-Replayed"] = "true"
        body = self._stream(request, batch_request, first_chunk or b"", chunks)
        return StreamingResponse(body, headers=headers, media_type=MEDIA_TYPES[batch_request.output_format])

    async def _find_earlier_batch(self, batch_request: BatchRequest) -> str | None:
        """The id of the finished batch under this key; None where the key is new. Raises ProblemError."""
        reader = self.service.store.reader
        batch = await self.service.store.run_blocking(
            lambda: records.by_idempotency_key(
                reader, batch_request.tenant, batch_request.scope, batch_request.key or ""
            )
        )
        if batch is None or batch["state"] == "broken":
            if batch_request.key_scope in self.active_keys:
                raise ProblemError("batch_running", actual="of this key")
            return None
        if batch["request_sha256"] != batch_request.digest:
            raise ProblemError("key_reused", actual=repr(batch_request.key))
        if batch["state"] == "running":
            raise ProblemError("batch_running", actual=str(batch["id"]))
        return str(batch["id"])

    async def _stream(
        self, request: Request, batch_request: BatchRequest, first_chunk: bytes, chunks: Iterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Chunks as they are done. A disconnect ends the batch, unless it has a key to send it again under."""
        loop = asyncio.get_running_loop()
        disconnect = loop.create_task(wait_for_disconnect(request))
        try:
            chunk: bytes | None = first_chunk
            while chunk is not None:
                if not disconnect.done():
                    yield chunk
                elif batch_request.key is None:
                    return
                chunk = await self.executor.run(batch_request.tenant, next, chunks, None)
        finally:
            disconnect.cancel()
            close = getattr(chunks, "close", None)
            if close is not None:
                await asyncio.shield(loop.run_in_executor(self.pool, _close_generator, close))
            self.active_keys.discard(batch_request.key_scope)
            self._release(batch_request.tenant, batch_request.path)

    def _release(self, tenant: str, path: Path | None) -> None:
        self.places.give_back(tenant)
        if path is not None:
            path.unlink(missing_ok=True)

    # --- the options

    def _input_format(self, request: Request) -> str:
        media_type = request.media_type()
        if (encoding := request.headers.get("content-encoding")) not in (None, "", "identity"):
            raise ProblemError(
                "unsupported_media_type", actual=f"Content-Encoding {encoding!r}", expected="no Content-Encoding"
            )
        if media_type not in FORMATS:
            expected = ", ".join(MEDIA_TYPES.values())
            raise ProblemError(
                "unsupported_media_type", actual=repr(media_type) if media_type else "not given", expected=expected
            )
        require_utf8(request)
        return FORMATS[media_type]

    def _output_format(self, request: Request, format: str, input_format: str) -> str:
        """The format of ?format=, else of Accept, else that of the upload."""
        if format:
            return format
        accept = request.headers.get("accept")
        accepted = [item.partition(";")[0].strip().lower() for item in (accept or "*/*").split(",")]
        for media_type in accepted:
            if media_type in FORMATS:
                return FORMATS[media_type]
        if "*/*" in accepted or MEDIA_TYPES[input_format].split("/")[0] + "/*" in accepted:
            return input_format
        raise ProblemError("not_acceptable", actual=repr((accept or "")[:80]), expected=", ".join(MEDIA_TYPES.values()))

    # --- the upload

    async def _spool_upload(self, request: Request, options: str) -> tuple[Path, str]:
        """(file, SHA-256 over the options and the bytes)."""
        limit = self.settings.limits.max_upload_bytes
        content_length = int(request.headers.get("content-length", 0))
        if content_length > limit:
            raise body_too_large(content_length, limit)
        if content_length > self.disk.available():
            raise _full_problem(self.disk)
        try:
            self.spool.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=f"upload-{os.getpid()}-", dir=self.spool)
            path = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    async with asyncio.timeout(self.settings.limits.upload_timeout_seconds):
                        return path, await _receive(
                            request, file, hashlib.sha256(options.encode()), self.settings.limits, self.disk
                        )
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        except TimeoutError as error:
            raise ProblemError("slow_request", expected=f"{self.settings.limits.upload_timeout_seconds:g} s") from error
        except OSError as error:
            raise StoreUnavailableError("full", f"the upload cannot be written: {error.strerror}") from error


_RESERVED_COLUMNS = {
    *("row", "decision_id", "error", "error_zh"),
    *("model", "version", "bundle", "policy_version", "simulated"),
}


def _write(file: BinaryIO, digest: hashlib._Hash, chunk: bytes) -> None:
    digest.update(chunk)
    file.write(chunk)


def _close_generator(close: Callable[[], None]) -> None:
    """Close a generator that another thread may still be in, where its caller was cancelled."""
    while True:
        try:
            return close()
        except ValueError as error:
            if "already executing" not in str(error):
                raise
            time.sleep(0.05)


def _full_problem(disk: DiskSpace) -> StoreUnavailableError:
    detail = f"the disk has no room for the upload: {disk.min_free_bytes:,} bytes are kept for the store"
    return StoreUnavailableError("full", detail)


async def _receive(
    request: Request, file: BinaryIO, digest: hashlib._Hash, limits: LimitSettings, disk: DiskSpace
) -> str:
    """Write the body to a file as it arrives; return its hexadecimal digest.

    Raises ProblemError, also where it comes too slowly, and StoreUnavailableError where the disk gets too full.
    """
    size, buffer, more_body = 0, bytearray(), True
    pace = UploadPace(limits.min_upload_bytes_per_second, limits.upload_idle_timeout_seconds)
    while more_body:
        async with asyncio.timeout(limits.upload_idle_timeout_seconds):
            message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        buffer += message.get("body", b"")
        size += len(message.get("body", b""))
        more_body = message.get("more_body", False)
        if size > limits.max_upload_bytes:
            raise body_too_large(size, limits.max_upload_bytes)
        if more_body and (too_slow := pace.fault(size)) is not None:
            raise too_slow
        if len(buffer) >= WRITE_BYTES or not more_body:
            if len(buffer) > disk.available():
                raise _full_problem(disk)
            await asyncio.to_thread(_write, file, digest, bytes(buffer))
            buffer.clear()
    if not size:
        raise ProblemError("empty_body", expected="a file of applicants", expected_zh="申请人文件")
    return digest.hexdigest()


def _remove_stale_files(spool: Path) -> None:
    """Remove what processes that ended left in the spool: its files are named after the process that wrote them."""
    if not spool.is_dir():
        return
    for path in spool.iterdir():
        owner = path.name.split("-")[1] if path.name.count("-") >= 2 else ""
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
