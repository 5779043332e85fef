"""A store opened: SQLite that syncs each commit to disk and lets readers read on, or a PostgreSQL."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

NEWEST = "0015"  # the last step in serving/core/db/migrations/versions
MIGRATING = 7_195_001  # PostgreSQL's lock by which two processes that start at once do not both make the tables

PER_STATEMENT = 500  # ids in one IN (...)

Where = sa.Engine | sa.Connection
T = TypeVar("T")


class StoreUnavailable(Exception):
    """The store cannot take or give a record now. Nothing is answered without one: ask again later.

    `why` is `locked`, `full` or `failed`.
    """

    def __init__(self, why: str, detail: str):
        super().__init__(detail)
        self.why = why


def unavailable(error: sa.exc.SQLAlchemyError) -> StoreUnavailable:
    cause = getattr(error, "orig", None) or error
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)  # PostgreSQL's DETAIL shows whole rows
    text = str(primary or cause)
    if any(word in text for word in ("locked", "busy", "lock timeout")):
        return StoreUnavailable("locked", "another process holds the store")
    if any(word in text for word in ("full", "disk I/O", "readonly", "No space left")):
        return StoreUnavailable("full", f"the store's disk takes no more ({text})")
    return StoreUnavailable("failed", f"the store failed ({text})")


@contextmanager
def writing(where: Where) -> Iterator[sa.Connection]:
    """A transaction of its own on an engine; on a connection part of its caller's. Raises StoreUnavailable."""
    if isinstance(where, sa.Connection):
        yield where
        return
    try:
        with where.begin() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        raise unavailable(error) from error


@contextmanager
def reading(where: Where) -> Iterator[sa.Connection]:
    if isinstance(where, sa.Connection):
        yield where
        return
    try:
        with where.execution_options(reading=True).connect() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        raise unavailable(error) from error


def open_store(place: Path | str, patience: float) -> sa.Engine:
    """An engine on the SQLite file or the URL `place`, migrated to the newest form. `patience` (s): how long a lock is
    waited for."""
    if isinstance(place, Path):
        place.parent.mkdir(parents=True, exist_ok=True)
    engine = connect(f"sqlite:///{place}" if isinstance(place, Path) else place, patience)
    try:
        migrate(engine)
    except sa.exc.SQLAlchemyError as error:
        engine.dispose()
        raise unavailable(error) from error
    return engine


def connect(url: sa.URL | str, patience: float) -> sa.Engine:
    """An engine without a look at what the store holds."""
    url = sa.make_url(url)
    if url.get_backend_name() == "postgresql":
        # A process that was stopped in the midst of a transaction does not hold the others up.
        options = f"-c lock_timeout={patience * 1_000:.0f} -c idle_in_transaction_session_timeout=20000"
        url = url.set(drivername="postgresql+psycopg")
        # hide_parameters: what an error holds goes into logs
        told = {"options": options, "connect_timeout": max(2, math.ceil(patience))}
        return sa.create_engine(url, connect_args=told, pool_pre_ping=True, hide_parameters=True)
    wait = {"timeout": patience, "check_same_thread": False}
    engine = sa.create_engine(url, connect_args=wait, hide_parameters=True)
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "wal_autocheckpoint=4000"):
        connection.execute(f"PRAGMA {pragma}").close()


def _on_begin(connection: sa.Connection) -> None:
    """A writer takes the lock at once, so that what it reads first still holds when it writes; a reader needs none."""
    if not connection.get_execution_options().get("reading", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def parted(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many at once as one statement may name."""
    return (ids[at : at + PER_STATEMENT] for at in range(0, len(ids), PER_STATEMENT))


def migrate(engine: sa.Engine) -> None:
    with engine.connect().execution_options(reading=True) as connection:
        if sa.inspect(connection).has_table("alembic_version"):
            found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
            if found == NEWEST:
                return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATING)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
