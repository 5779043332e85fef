"""A batch's rows, given again: GET /v1/batches/{id}/rows. So many at the same time, in threads of their own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from datasets.errors import Fault
from serving.core.db.codec import unpack
from serving.core.http.problems import Problem
from serving.core.http.request import Call, Reply, disconnected, query
from serving.core.http.schema import STORE, Schema, in_path, in_query, operation
from serving.decisions.batch import records
from serving.decisions.batch.formats import MEDIA_TYPES
from serving.decisions.batch.job import written
from serving.decisions.service import DecisionService

ROUTE = "/v1/batches/{id}/rows"
PROBLEMS = {ROUTE: ("bad_parameter", "unknown_batch", *STORE, "overloaded")}
BATCH = re.compile(r"[0-9a-f]{32}")
STATES = ("running", "done", "broken")


class Rows:
    """`most`: calls at the same time."""

    def __init__(self, service: DecisionService, most: int):
        self.service, self.most, self.free = service, most, most

    def routes(self) -> dict[str, dict[str, Callable[[Call], Awaitable[Reply]]]]:
        return {ROUTE: {"GET": self.rows}}

    async def rows(self, call: Call) -> Reply:
        """As they were answered; of a batch under way or broken off, those that are recorded."""
        options, faults = query(call, ("format", "columns"))
        format, columns = options.get("format", "csv"), [c for c in options.get("columns", "").split(",") if c]
        if format not in MEDIA_TYPES:
            known = tuple(MEDIA_TYPES)
            faults.append(Fault("format", repr(format[:60]), f"one of {', '.join(known)}", f"{'、'.join(known)} 之一"))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        service, wanted, tenant = self.service, call.path[0], call.caller.tenant
        found = None
        if BATCH.fullmatch(wanted):
            found = await asyncio.to_thread(records.get, service.store.reader, tenant, wanted)
        if found is None:
            raise Problem("unknown_batch", found=repr(wanted[:80]))
        if self.free < 1:
            raise Problem(
                "overloaded",
                found=f"{self.most} under way, and the rows of no more batches may be read",
                found_zh=f"已有 {self.most} 个批次的结果在读取，不能再增加",
            )
        self.free -= 1
        frames = (_only(unpack(content), columns) for content in records.chunks(service.store.reader, wanted))
        parts = written(frames, format, service.settings.paths.spool)
        thread = ThreadPoolExecutor(1, thread_name_prefix="rows")
        try:
            first = await _next(thread, parts)  # before the status is sent
        except BaseException:
            await self._over(thread, parts)
            raise
        headers = {"Batch-State": found["state"]}
        return Reply(self._stream(call, thread, first or b"", parts), media_type=MEDIA_TYPES[format], headers=headers)

    async def _stream(
        self, call: Call, thread: ThreadPoolExecutor, first: bytes, parts: Generator[bytes, None, None]
    ) -> AsyncGenerator[bytes, None]:
        """Each part made in its thread, until the caller has all or hung up."""
        gone = asyncio.create_task(disconnected(call))
        try:
            part: bytes | None = first
            while part is not None and not gone.done():
                yield part
                part = await _next(thread, parts)
        finally:
            gone.cancel()
            await self._over(thread, parts)

    async def _over(self, thread: ThreadPoolExecutor, parts: Generator[bytes, None, None]) -> None:
        """Closed in its thread, after what is still made there; then its place is free, whoever waits for that."""

        def free(_: object) -> None:
            self.free += 1
            thread.shutdown(wait=False)

        closing = asyncio.get_running_loop().run_in_executor(thread, parts.close)
        closing.add_done_callback(free)
        await asyncio.shield(closing)


async def _next(thread: ThreadPoolExecutor, parts: Generator[bytes, None, None]) -> bytes | None:
    return await asyncio.get_running_loop().run_in_executor(thread, next, parts, None)


def _only(frame: Any, columns: list[str]) -> Any:
    """All, where none is named; of names with | between the first that is there. Raises Problem where none is left."""
    chosen: list[str] = []
    for names in columns:
        there = [name for name in names.split("|") if name in frame.columns]
        if not there or there[0] in chosen:
            known = ", ".join(frame.columns)
            needed = f"each once of {known}", f"{known} 之一，各一次"
            raise Problem("bad_parameter", errors=[Fault("columns", names[:60], *needed)])
        chosen.append(there[0])
    return frame.select(chosen) if columns else frame


def paths() -> Schema:
    text = {"type": "string"}
    state = {
        "schema": {"enum": [*STATES]},
        "required": True,
        "description": "As the reading began. Not done: the rows end where the record does, and not all are there.",
    }
    return {
        ROUTE: {
            "get": operation(
                PROBLEMS[ROUTE],
                "batchRows",
                "What a batch answered, row by row, as far as it is recorded",
                {
                    "description": "As asked",
                    "content": {kind: {"schema": text} for kind in MEDIA_TYPES.values()},
                    "headers": {"Batch-State": state},
                },
                parameters=[
                    in_path("id", "batch_id"),
                    in_query("format", {"enum": [*MEDIA_TYPES], "default": "csv"}, "Of the rows."),
                    in_query(
                        "columns", text, "Commas between, else all; of names with | between the first that is there."
                    ),
                ],
            )
        },
    }
