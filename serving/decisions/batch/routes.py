"""A batch at the door: its options checked, its upload spooled to disk, its answer streamed.

The whole upload is read before the first row is answered: most clients send all before they read anything, and a server
that answers meanwhile would wait for them as they wait for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO

from datasets.errors import Fault
from serving.core.db.engine import StoreUnavailable
from serving.core.http.problems import Problem
from serving.core.http.request import Call, ClientGone, Reply, disconnected, query, too_large
from serving.core.identifiers import new_id, now
from serving.decisions.batch import records
from serving.decisions.batch.formats import FORMATS, MEDIA_TYPES
from serving.decisions.batch.job import Order, Run, replay
from serving.decisions.batch.subjects import Subjects
from serving.decisions.products.base import Product
from serving.decisions.service import DecisionService

PARAMETERS = ("format", "model", "keep", "reasons")
WRITE = 1024 * 1024  # bytes to the spool at once


class Intake:
    def __init__(self, service: DecisionService):
        self.service, self.settings = service, service.settings
        service.on_open.append(lambda connection: records.break_off_orphans(connection, now()))
        most = self.settings.limits.batches
        self.pool = ThreadPoolExecutor(most, thread_name_prefix="batch")
        self.free = most
        self.keys: set[tuple[str, str, str | None]] = set()  # (tenant, scope, key) of the batches under way
        self.spool = self.settings.paths.spool
        self._tidy()

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)

    def _tidy(self) -> None:
        """What processes that died left behind."""
        if self.spool.is_dir():
            for path in self.spool.iterdir():
                owner = path.name.split("-")[1] if path.name.count("-") >= 2 else ""
                if owner.isdigit() and not Path(f"/proc/{owner}").exists():
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    async def take(self, product: Product, call: Call, key: str | None) -> Reply:
        await self.service.quota.check(call.caller.tenant)
        came = self._came(call)
        options = self._options(call)
        goes = self._goes(call, options.get("format"), came)
        keep = tuple(name for name in options.get("keep", "").split(",") if name)
        held = self.service.held(product, options.get("model"))
        if clash := [name for name in keep if name in {column.name for column in held.fields} | _OURS]:
            needed = ("a column that is neither read nor answered", "既不读取也不输出的列")
            raise Problem("bad_parameter", errors=[Fault("keep", name, *needed) for name in clash])
        if self.free < 1:
            most = self.settings.limits.batches
            raise Problem(
                "overloaded",
                found=f"{most} under way, and no more batches may be",
                found_zh=f"已有 {most} 个批次在处理，不能再增加",
            )
        self.free -= 1
        path: Path | None = None
        try:
            writer = (
                self.service.store.writer
            )  # opens the store where it was not to be had before, and the vault with it
            path, digest = await self._spooled(call, f"{came} {goes} {sorted(options.items())}")
            digest = self.service.vault.digest(digest.encode())  # a file of one id could be tried out on the bare one
            scope, reasons = f"{product.scope}/batch", options.get("reasons") == "true"
            order = Order(new_id(), call.caller.tenant, scope, key, digest, path, came, goes, keep, reasons)
            beside = writer, self.service.metrics, self.service.prices
            seen = partial(self.service.counts.many, held, call.caller.tenant)
            subjects = Subjects(
                self.service.store.reader, self.service.vault, self.service.rules, held, call.caller.tenant
            )
            run = Run(order, held, self.settings, *beside, self._counted, seen, subjects)
            return await self._answer(call, run)
        except BaseException:
            self._release(path)
            raise

    async def _answer(self, call: Call, run: Run) -> Reply:
        order, loop = run.order, asyncio.get_running_loop()
        batch, parts = order.id, run.parts()
        if order.key is not None and (earlier := await self._earlier(order)) is not None:
            batch, parts = earlier, replay(self.service.store.reader, earlier, order.goes, self.spool)
        elif order.key is not None:
            self.keys.add(order.named)
        try:
            first = await loop.run_in_executor(self.pool, next, parts, None)
        except BaseException:
            self.keys.discard(order.named)
            raise
        headers = {"Batch-Id": batch, "Location": f"/v1/batches/{batch}"}
        if batch != order.id:
            headers["Idempotent-Replayed"] = "true"
        body = self._stream(call, order, first or b"", parts)
        return Reply(body, media_type=MEDIA_TYPES[order.goes], headers=headers)

    async def _earlier(self, order: Order) -> str | None:
        """The batch that this key stands for, once it is done."""
        reader = self.service.store.reader
        found = await self.service.store.run_blocking(
            lambda: records.by_idempotency_key(reader, order.tenant, order.scope, order.key or "")
        )
        if found is None or found["state"] == "broken":
            if order.named in self.keys:
                raise Problem("batch_running", found="of this key")
            return None
        if found["request_sha256"] != order.digest:
            raise Problem("key_reused", found=repr(order.key))
        if found["state"] == "running":
            raise Problem("batch_running", found=str(found["id"]))
        return str(found["id"])

    async def _stream(
        self, call: Call, order: Order, first: bytes, parts: Iterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Parts as they are done. A caller who hangs up ends the batch, unless its key lets them ask for it again."""
        loop = asyncio.get_running_loop()
        gone = loop.create_task(disconnected(call))
        try:
            part: bytes | None = first
            while part is not None:
                if not gone.done():
                    yield part
                elif order.key is None:
                    return
                part = await loop.run_in_executor(self.pool, next, parts, None)
        finally:
            gone.cancel()
            close = getattr(parts, "close", None)
            if close is not None:
                await asyncio.shield(loop.run_in_executor(self.pool, close))
            self.keys.discard(order.named)
            self._release(order.path)

    def _counted(self, tenant: str, rows: int) -> None:
        """From the batch's thread."""
        self.service.loop.call_soon_threadsafe(self.service.quota.add, tenant, rows)

    def _release(self, path: Path | None) -> None:
        self.free += 1
        if path is not None:
            path.unlink(missing_ok=True)

    # --- the options

    def _came(self, call: Call) -> str:
        media_type = call.media_type()
        if (coding := call.header(b"content-encoding")) not in (None, "", "identity"):
            raise Problem("unsupported_media_type", found=f"Content-Encoding {coding!r}", needed="no Content-Encoding")
        if media_type not in FORMATS:
            needed = ", ".join(MEDIA_TYPES.values())
            raise Problem(
                "unsupported_media_type", found=repr(media_type) if media_type else "not given", needed=needed
            )
        return FORMATS[media_type]

    def _options(self, call: Call) -> dict[str, str]:
        options, faults = query(call, PARAMETERS)
        for name, allowed in (("format", tuple(MEDIA_TYPES)), ("reasons", ("true", "false"))):
            if name in options and options[name] not in allowed:
                told = ", ".join(allowed)
                faults.append(Fault(name, repr(options[name][:60]), f"one of {told}", f"{told} 之一"))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        return options

    def _goes(self, call: Call, format: str | None, came: str) -> str:
        """?format= wins over Accept, and Accept over the format that came."""
        if format is not None:
            return format
        accept = call.header(b"accept")
        asked = [item.partition(";")[0].strip().lower() for item in (accept or "*/*").split(",")]
        for media_type in asked:
            if media_type in FORMATS:
                return FORMATS[media_type]
        if "*/*" in asked or MEDIA_TYPES[came].split("/")[0] + "/*" in asked:
            return came
        raise Problem("not_acceptable", found=repr((accept or "")[:80]), needed=", ".join(MEDIA_TYPES.values()))

    # --- the upload

    async def _spooled(self, call: Call, options: str) -> tuple[Path, str]:
        """(file, SHA-256 over the options and the bytes)."""
        most = self.settings.limits.upload
        announced = call.header(b"content-length")
        if announced is not None and int(announced) > most:
            raise too_large(int(announced), most)
        try:
            self.spool.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f"upload-{os.getpid()}-", dir=self.spool)
            path = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    async with asyncio.timeout(self.settings.limits.upload_seconds):
                        return path, await self._receive(call, file, hashlib.sha256(options.encode()), most)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        except TimeoutError as error:
            raise Problem("slow_request", needed=f"{self.settings.limits.upload_seconds:g} s") from error
        except OSError as error:
            raise StoreUnavailable("full", f"the upload cannot be kept: {error.strerror}") from error

    async def _receive(self, call: Call, file: BinaryIO, digest: hashlib._Hash, most: int) -> str:
        size, waiting = 0, bytearray()
        more = True
        while more:
            async with asyncio.timeout(self.settings.limits.upload_idle_seconds):
                message = await call.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            waiting += message.get("body", b"")
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            if size > most:
                raise too_large(size, most)
            if len(waiting) >= WRITE or not more:
                await asyncio.to_thread(_write, file, digest, bytes(waiting))
                waiting.clear()
        if not size:
            raise Problem("empty_body", needed="a file of applicants", needed_zh="申请人文件")
        return digest.hexdigest()


_OURS = {
    *("row", "decision_id", "error", "error_zh"),
    *("model", "version", "bundle", "policy_version", "simulated"),
}


def _write(file: BinaryIO, digest: hashlib._Hash, part: bytes) -> None:
    digest.update(part)
    file.write(part)
