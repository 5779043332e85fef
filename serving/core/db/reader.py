"""What the store holds, read: an answer by its id or its key, a subject's indicators, a batch.

What is a tenant's is asked for with the tenant: another's is not there, as what never was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa

from serving.core.db.engine import unavailable
from serving.core.db.schema import BATCHES, CHUNKS, COMPANIES, DECISIONS, QUOTAS
from serving.core.db.writer import Kept, kept_under

T = TypeVar("T")

_ANSWER = sa.select(DECISIONS.c.answer).where(
    DECISIONS.c.id == sa.bindparam("id"), DECISIONS.c.tenant == sa.bindparam("tenant")
)
_MONTHS = sa.select(COMPANIES).where(COMPANIES.c.pseudonym.in_(sa.bindparam("ids", expanding=True)))
_CHUNK = (
    sa.select(CHUNKS.c.first_row, CHUNKS.c.rows, CHUNKS.c.content)
    .join(BATCHES, BATCHES.c.id == CHUNKS.c.batch)
    .where(BATCHES.c.tenant == sa.bindparam("tenant"))
    .where(CHUNKS.c.batch == sa.bindparam("batch"), CHUNKS.c.first_row <= sa.bindparam("row"))
    .order_by(CHUNKS.c.first_row.desc())
    .limit(1)
)


class Reader:
    """Each call reads what was last committed. Raises StoreUnavailable.

    A SQLite file is read on its thread's own connection. A PostgreSQL is read on one of the pool's, outside of any
    transaction: a connection kept between calls would stand in one, and be cut off for it.
    """

    def __init__(self, engine: sa.Engine):
        self._engine = engine.execution_options(reading=True)
        self._keeps = engine.dialect.name == "sqlite"
        if not self._keeps:
            self._engine = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._held = threading.local()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        connection: sa.Connection | None = None
        try:
            if not self._keeps:
                with self._engine.connect() as lent:
                    yield lent
                return
            connection = getattr(self._held, "connection", None)
            if connection is None:
                connection = self._held.connection = self._engine.connect()
            yield connection
        except sa.exc.SQLAlchemyError as error:
            if connection is not None:
                self._held.connection = None
                connection.invalidate()
            raise unavailable(error) from error

    def kept(self, tenant: str, scope: str, key: str) -> Kept | None:
        with self._reading() as connection:
            return kept_under(connection, tenant, scope, key)

    def answer(self, tenant: str, decision: str) -> bytes | None:
        with self._reading() as connection:
            found: bytes | None = connection.execute(_ANSWER, {"id": decision, "tenant": tenant}).scalar()
            return found

    def ask(self, question: Callable[[sa.Connection], T]) -> T:
        """What `question` finds on this thread's connection."""
        with self._reading() as connection:
            return question(connection)

    def months(self, companies: Sequence[str]) -> dict[str, bytes]:
        """Packed and sealed, by pseudonym, of those that have any."""
        with self._reading() as connection:
            return {row.pseudonym: row.months for row in connection.execute(_MONTHS, {"ids": companies})}

    def used(self, tenant: str, month: str) -> int:
        """Answers given to a tenant in a month, YYYY-MM."""
        chosen = sa.select(QUOTAS.c.used).where(QUOTAS.c.tenant == tenant, QUOTAS.c.month == month)
        with self._reading() as connection:
            return int(connection.execute(chosen).scalar() or 0)

    def batch(self, tenant: str, batch: str) -> Mapping[str, Any] | None:
        chosen = sa.select(BATCHES).where(BATCHES.c.id == batch, BATCHES.c.tenant == tenant)
        with self._reading() as connection:
            return _named(connection.execute(chosen).first())

    def batch_under(self, tenant: str, scope: str, key: str) -> Mapping[str, Any] | None:
        chosen = sa.select(BATCHES).where(BATCHES.c.tenant == tenant)
        chosen = chosen.where(BATCHES.c.scope == scope, BATCHES.c.idempotency_key == key)
        with self._reading() as connection:
            return _named(connection.execute(chosen).first())

    def chunk_with(self, tenant: str, batch: str, row: int) -> tuple[int, bytes] | None:
        """(first row, content) of the chunk that holds row `row`, which counts from 1."""
        with self._reading() as connection:
            found = connection.execute(_CHUNK, {"tenant": tenant, "batch": batch, "row": row}).first()
            return (found[0], found[2]) if found and row < found[0] + found[1] else None

    def chunks(self, batch: str) -> Iterator[bytes]:
        """Contents in the order of their rows; one is read at a time."""
        after = 0
        chosen = sa.select(CHUNKS.c.first_row, CHUNKS.c.content).where(CHUNKS.c.batch == batch)
        while True:
            with self._reading() as connection:
                step = chosen.where(CHUNKS.c.first_row > after).order_by(CHUNKS.c.first_row).limit(1)
                found = connection.execute(step).first()
            if found is None:
                return
            after = found[0]
            yield found[1]


def _named(row: sa.Row[Any] | None) -> dict[str, Any] | None:
    return None if row is None else dict(row._mapping)
