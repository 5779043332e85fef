"""The route that returns the rows of a batch again: GET /v1/batches/{id}/rows, each call in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from pydantic import Field

from datasets.errors import FieldError
from serving.core.db.codec import decode_frame
from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, Response, StreamingResponse, wait_for_disconnect
from serving.core.http.router import Routes
from serving.core.http.schema import STORE_PROBLEMS, Schema, operation, path_param, query_params
from serving.core.http.validation import RequestModel, one_of, parse_query
from serving.core.identifiers import ID_PATTERN
from serving.core.security.admission import TenantPlaces, tenant_share
from serving.decisions.batch import records
from serving.decisions.batch.files.formats import MEDIA_TYPES
from serving.decisions.batch.output import serialise
from serving.decisions.service import DecisionService

ROUTE = "/v1/batches/{id}/rows"
PROBLEMS = {ROUTE: ("bad_parameter", "unknown_batch", *STORE_PROBLEMS, "overloaded")}
PLACES = "under way: the rows of no more batches may be read", "个批次的结果在读取"  # after a number, for messages
STATES = ("running", "done", "broken")


class RowsQuery(RequestModel):
    format: Annotated[str, one_of(*MEDIA_TYPES), Field(description="Of the rows.")] = "csv"
    columns: str = Field(
        default="", description="Separated by commas; all by default. Of names separated by |, the first that exists."
    )


class BatchRowRoutes:
    """limit: of calls at the same time."""

    def __init__(self, service: DecisionService, limit: int):
        self.service = service
        self.places = TenantPlaces(limit, tenant_share(limit), PLACES)

    def routes(self) -> Routes:
        return {ROUTE: {"GET": self.get_rows}}

    async def get_rows(self, request: Request) -> Response:
        """The rows as they were answered; of a running or broken batch, those that are recorded."""
        query = parse_query(request, RowsQuery)
        format, columns = query.format, [name for name in query.columns.split(",") if name]
        service, batch_id, tenant = self.service, request.path_params["id"], request.principal.tenant
        batch = None
        if ID_PATTERN.fullmatch(batch_id):
            batch = await asyncio.to_thread(records.get, service.store.reader, tenant, batch_id)
        if batch is None:
            raise ProblemError("unknown_batch", actual=repr(batch_id[:80]))
        self.places.take(tenant)
        frames = (
            _select_columns(decode_frame(content), columns)
            for content in records.chunks(service.store.reader, batch_id)
        )
        chunks = serialise(frames, format, service.settings.paths.spool)
        executor = ThreadPoolExecutor(1, thread_name_prefix="rows")
        try:
            first_chunk = await _next_chunk(executor, chunks)  # so that a failure can still set the status
        except BaseException:
            await self._finish(tenant, executor, chunks)
            raise
        headers = {"Batch-State": batch["state"]}
        stream = self._stream(request, tenant, executor, first_chunk or b"", chunks)
        return StreamingResponse(stream, headers=headers, media_type=MEDIA_TYPES[format])

    async def _stream(
        self,
        request: Request,
        tenant: str,
        executor: ThreadPoolExecutor,
        first_chunk: bytes,
        chunks: Generator[bytes, None, None],
    ) -> AsyncGenerator[bytes, None]:
        """Make each chunk in the call's thread, until the caller has all of them or disconnects."""
        disconnect = asyncio.create_task(wait_for_disconnect(request))
        try:
            chunk: bytes | None = first_chunk
            while chunk is not None and not disconnect.done():
                yield chunk
                chunk = await _next_chunk(executor, chunks)
        finally:
            disconnect.cancel()
            await self._finish(tenant, executor, chunks)

    async def _finish(self, tenant: str, executor: ThreadPoolExecutor, chunks: Generator[bytes, None, None]) -> None:
        """Close the chunks in their thread, after the one that is being made; only then give back the place."""

        def release(_: object) -> None:
            self.places.give_back(tenant)
            executor.shutdown(wait=False)

        close_future = asyncio.get_running_loop().run_in_executor(executor, chunks.close)
        close_future.add_done_callback(release)
        await asyncio.shield(close_future)


async def _next_chunk(executor: ThreadPoolExecutor, chunks: Generator[bytes, None, None]) -> bytes | None:
    return await asyncio.get_running_loop().run_in_executor(executor, next, chunks, None)


def _select_columns(frame: Any, columns: list[str]) -> Any:
    """Select columns, all where none is named; of names joined by | the first that exists. Raises ProblemError."""
    selected: list[str] = []
    for names in columns:
        present = [name for name in names.split("|") if name in frame.columns]
        if not present or present[0] in selected:
            available = ", ".join(frame.columns)
            expected = f"each once of {available}", f"{available} 之一，各一次"
            raise ProblemError("bad_parameter", errors=[FieldError("columns", names[:60], *expected)])
        selected.append(present[0])
    return frame.select(selected) if columns else frame


def paths() -> Schema:
    text = {"type": "string"}
    state = {
        "schema": {"enum": [*STATES]},
        "required": True,
        "description": "The state as reading began. Unless it is done, only the rows recorded so far are returned.",
    }
    return {
        ROUTE: {
            "get": operation(
                PROBLEMS[ROUTE],
                "batchRows",
                "The answers of a batch, row by row, as far as they are recorded",
                {
                    "description": "As asked",
                    "content": {media_type: {"schema": text} for media_type in MEDIA_TYPES.values()},
                    "headers": {"Batch-State": state},
                },
                parameters=[
                    path_param("id", "batch_id"),
                    *query_params(RowsQuery),
                ],
            )
        },
    }
