"""A store opened: SQLite that syncs each commit to disk and lets readers read on, or a PostgreSQL."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

SCHEMA_VERSION = "0015"  # the last step in serving/core/db/migrations/versions
MIGRATION_LOCK_ID = 7_195_001  # PostgreSQL's lock by which two processes that start at once do not both make the tables

MAX_IDS_PER_STATEMENT = 500  # ids in one IN (...)

EngineOrConnection = sa.Engine | sa.Connection
T = TypeVar("T")


class StoreUnavailableError(Exception):
    """The store cannot take or give a record now. Nothing is answered without one: ask again later.

    `why` is `locked`, `full` or `failed`.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


def to_store_error(error: sa.exc.SQLAlchemyError) -> StoreUnavailableError:
    cause = getattr(error, "orig", None) or error
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)  # PostgreSQL's DETAIL shows whole rows
    text = str(primary or cause)
    if any(word in text for word in ("locked", "busy", "lock timeout")):
        return StoreUnavailableError("locked", "another process holds the store")
    if any(word in text for word in ("full", "disk I/O", "readonly", "No space left")):
        return StoreUnavailableError("full", f"the store's disk takes no more ({text})")
    return StoreUnavailableError("failed", f"the store failed ({text})")


@contextmanager
def write_transaction(bind: EngineOrConnection) -> Iterator[sa.Connection]:
    """A transaction of its own on an engine; on a connection part of its caller's. Raises StoreUnavailable."""
    if isinstance(bind, sa.Connection):
        yield bind
        return
    try:
        with bind.begin() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        raise to_store_error(error) from error


@contextmanager
def read_connection(bind: EngineOrConnection) -> Iterator[sa.Connection]:
    if isinstance(bind, sa.Connection):
        yield bind
        return
    try:
        with bind.execution_options(reading=True).connect() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        raise to_store_error(error) from error


def open_store(location: Path | str, lock_timeout: float) -> sa.Engine:
    """An engine on the SQLite file or the URL `place`, migrated to the newest form. `patience` (s): how long a lock is
    waited for."""
    if isinstance(location, Path):
        location.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{location}" if isinstance(location, Path) else location, lock_timeout)
    try:
        migrate(engine)
    except sa.exc.SQLAlchemyError as error:
        engine.dispose()
        raise to_store_error(error) from error
    return engine


def create_engine(url: sa.URL | str, lock_timeout: float) -> sa.Engine:
    """An engine without a look at what the store holds."""
    url = sa.make_url(url)
    if url.get_backend_name() == "postgresql":
        # A process that was stopped in the midst of a transaction does not hold the others up.
        options = f"-c lock_timeout={lock_timeout * 1_000:.0f} -c idle_in_transaction_session_timeout=20000"
        url = url.set(drivername="postgresql+psycopg")
        # hide_parameters: what an error holds goes into logs
        postgres_args = {"options": options, "connect_timeout": max(2, math.ceil(lock_timeout))}
        return sa.create_engine(url, connect_args=postgres_args, pool_pre_ping=True, hide_parameters=True)
    sqlite_args = {"timeout": lock_timeout, "check_same_thread": False}
    engine = sa.create_engine(url, connect_args=sqlite_args, hide_parameters=True)
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


def chunked(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many at once as one statement may name."""
    return (ids[start : start + MAX_IDS_PER_STATEMENT] for start in range(0, len(ids), MAX_IDS_PER_STATEMENT))


def migrate(engine: sa.Engine) -> None:
    with engine.connect().execution_options(reading=True) as connection:
        if sa.inspect(connection).has_table("alembic_version"):
            version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
            if version == SCHEMA_VERSION:
                return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK_ID)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
