"""The store of one process: engine, reader and writer, opened together on first use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from serving.core.db.engine import open_store
from serving.core.db.errors import StoreUnavailableError
from serving.core.db.reader import StoreReader
from serving.core.db.schema import PROBE
from serving.core.db.writer import Apply, GroupCommitWriter
from serving.core.identifiers import utc_now
from serving.settings import Settings

log = logging.getLogger("yuheng.store")

T = TypeVar("T")


class Store:
    """`start` must run in the event loop that serves. A store that cannot be opened is tried again at each use.

    `on_open(engine)` runs once the schema is current and before anything is read or written; it raises
    StoreUnavailableError where the store must not be used.
    """

    def __init__(self, settings: Settings, apply: Apply[Any, Any], on_open: Callable[[sa.Engine], None]):
        self.settings = settings
        self.alarm: str | None = None  # why the store could not be opened
        self._apply, self._on_open = apply, on_open
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: sa.Engine | None = None
        self._reader: StoreReader | None = None
        self._writer: GroupCommitWriter[Any, Any] | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open()

    def close(self) -> None:
        """Write the pending records and close the writer. Call it in the event loop."""
        if self._writer is not None:
            self._writer.close()

    def dispose(self) -> None:
        """Close the remaining connections."""
        if self._engine is not None:
            self._engine.dispose()

    def _open(self) -> None:
        if self._loop is None:
            raise StoreUnavailableError("failed", "the service is starting")
        try:
            engine = open_store(self.settings.store_location, self.settings.store.lock_timeout_seconds)
            try:
                self._on_open(engine)
            except BaseException:
                engine.dispose()
                raise
        except (StoreUnavailableError, sa.exc.SQLAlchemyError, OSError) as error:
            self.alarm = str(error)
            return
        limits = self.settings.store.commit_batch_size, self.settings.limits.max_pending_commits
        self._engine, self._reader = engine, StoreReader(engine)
        self._writer = GroupCommitWriter(engine, self._apply, *limits, self._loop)
        self.alarm = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "the store was not started"
        return self._loop

    @property
    def is_open(self) -> bool:
        return self._engine is not None

    @property
    def engine(self) -> sa.Engine:
        """Raises StoreUnavailableError."""
        if self._engine is None:
            self._open()
        if self._engine is None:
            raise StoreUnavailableError("failed", self.alarm or "the store is not open")
        return self._engine

    @property
    def reader(self) -> StoreReader:
        """Raises StoreUnavailableError."""
        _ = self.engine
        assert self._reader is not None
        return self._reader

    @property
    def writer(self) -> GroupCommitWriter[Any, Any]:
        """Raises StoreUnavailableError."""
        _ = self.engine
        assert self._writer is not None
        return self._writer

    def writer_load(self) -> tuple[int, bool]:
        """(records that wait for their commit, whether the last commit failed). Raises StoreUnavailableError."""
        _ = self.engine
        assert self._writer is not None
        return self._writer.waiting, self._writer.failing is not None

    async def read(self, query: Callable[..., T], *args: Any, **options: Any) -> T:
        """Run `query(engine, ...)` in a thread. Raises StoreUnavailableError."""
        return await asyncio.to_thread(query, self.engine, *args, **options)

    async def write(self, transaction: Callable[[sa.Connection], T]) -> T:
        """Run `transaction` in the writer's thread, to its end even if the caller is cancelled. Raises
        StoreUnavailableError."""
        return await asyncio.shield(asyncio.wrap_future(self.writer.run(transaction)))

    async def run_blocking(self, query: Callable[[], T]) -> T:
        """Run `query` inline on SQLite, which takes microseconds, and in a thread on PostgreSQL."""
        embedded = self._engine is None or self._engine.dialect.name == "sqlite"
        return query() if embedded else await asyncio.to_thread(query)

    async def probe(self) -> str | None:
        """Why the store accepts no records, or None. After a failed commit this tries to write."""
        try:
            writer = self.writer
            if writer.failing is not None:
                await asyncio.wrap_future(writer.run(_write_probe))
        except StoreUnavailableError as error:
            return str(error)
        return None


def _write_probe(connection: sa.Connection) -> None:
    connection.execute(sa.delete(PROBE))
    connection.execute(sa.insert(PROBE).values(id=1, at=utc_now()))
