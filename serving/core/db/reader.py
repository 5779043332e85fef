"""Run queries on the last committed state of the store. Each feature owns its queries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa

from serving.core.db.engine import to_store_error

T = TypeVar("T")


class StoreReader:
    """Runs each query on the last committed state. Raises StoreUnavailableError.

    A SQLite file is read on one connection per thread. PostgreSQL is read on pooled connections in autocommit mode: a
    connection kept between calls would stay in a transaction, and the server terminates those when they are idle.
    """

    def __init__(self, engine: sa.Engine):
        self._engine = engine.execution_options(reading=True)
        self._per_thread = engine.dialect.name == "sqlite"
        if not self._per_thread:
            self._engine = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._local = threading.local()

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        connection: sa.Connection | None = None
        try:
            if not self._per_thread:
                with self._engine.connect() as pooled:
                    yield pooled
                return
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._engine.connect()
            yield connection
        except sa.exc.SQLAlchemyError as error:
            if connection is not None:
                self._local.connection = None
                connection.invalidate()
            raise to_store_error(error) from error

    def run(self, query: Callable[[sa.Connection], T]) -> T:
        """The result of `query`. Raises StoreUnavailableError."""
        with self._connection() as connection:
            return query(connection)
