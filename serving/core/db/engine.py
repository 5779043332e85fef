"""Open a store: a SQLite file that syncs each commit to disk and never blocks readers, or a PostgreSQL database.

Beside a SQLite store lies its key store, subject_keys/keys.db, with the table subject_keys alone: a backup of the store
opens nothing without a backup of the keys. Statements name the table as if it were in the store itself.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from serving.core.db.errors import SchemaVersionError, StoreUnavailableError

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
KEY_STORE = "key_store"  # the name under which a SQLite connection attaches the key store
KEY_STORE_COLUMNS = "pseudonym VARCHAR(64) NOT NULL PRIMARY KEY, wrapped BLOB NOT NULL, created VARCHAR(32) NOT NULL"
MIGRATION_LOCK_ID = 7_195_001  # PostgreSQL advisory lock: of two processes that start at once, one creates the tables
MAX_IDS_PER_STATEMENT = 500  # values of one IN (...)

EngineOrConnection = sa.Engine | sa.Connection
T = TypeVar("T")


def to_store_error(error: sa.exc.SQLAlchemyError) -> StoreUnavailableError:
    """Classify a database error as `locked`, `full` or `failed`."""
    cause = getattr(error, "orig", None) or error
    # Only the primary message: PostgreSQL's DETAIL contains complete rows, and this text goes into logs.
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    text = str(primary or cause)
    if any(word in text for word in ("locked", "busy", "lock timeout")):
        return StoreUnavailableError("locked", "another process holds the store's lock")
    if any(word in text for word in ("full", "disk I/O", "readonly", "No space left")):
        return StoreUnavailableError("full", f"the disk of the store is full or read-only ({text})")
    return StoreUnavailableError("failed", f"the store failed ({text})")


@contextmanager
def write_transaction(bind: EngineOrConnection) -> Iterator[sa.Connection]:
    """A new transaction on an engine; on a connection, the caller's. Raises StoreUnavailableError on an engine."""
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
    """A connection that only reads; on a connection, that connection. Raises StoreUnavailableError on an engine."""
    if isinstance(bind, sa.Connection):
        yield bind
        return
    try:
        with bind.execution_options(reading=True).connect() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        raise to_store_error(error) from error


def open_store(location: Path | str, lock_timeout: float) -> sa.Engine:
    """An engine on the SQLite file or the database URL `location`, migrated to the current schema.

    lock_timeout: seconds to wait for a lock. Raises StoreUnavailableError; SchemaVersionError where the store belongs
    to another release.
    """
    if isinstance(location, Path):
        location.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{location}" if isinstance(location, Path) else location, lock_timeout)
    try:
        migrate(engine)
    except SchemaVersionError:
        engine.dispose()
        raise
    except sa.exc.SQLAlchemyError as error:
        engine.dispose()
        raise to_store_error(error) from error
    return engine


def create_engine(url: sa.URL | str, lock_timeout: float) -> sa.Engine:
    """An engine on a store whose schema is not checked. `lock_timeout`: seconds to wait for a lock."""
    url = sa.make_url(url)
    if url.get_backend_name() == "postgresql":
        # A process that was suspended in a transaction must not block the others.
        options = f"-c lock_timeout={lock_timeout * 1_000:.0f} -c idle_in_transaction_session_timeout=20000"
        url = url.set(drivername="postgresql+psycopg")
        # hide_parameters: errors go into logs
        postgres_args = {"options": options, "connect_timeout": max(2, math.ceil(lock_timeout))}
        return sa.create_engine(url, connect_args=postgres_args, pool_pre_ping=True, hide_parameters=True)
    sqlite_args = {"timeout": lock_timeout, "check_same_thread": False}
    engine = sa.create_engine(url, connect_args=sqlite_args, hide_parameters=True)
    sa.event.listen(engine, "connect", _on_connect)
    if url.database not in (None, "", ":memory:"):
        sa.event.listen(engine, "connect", partial(_attach_key_store, key_store_path(Path(str(url.database)))))
    sa.event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # transactions begin in _on_begin
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "wal_autocheckpoint=4000"):
        connection.execute(f"PRAGMA {pragma}").close()


def key_store_path(store: Path) -> Path:
    """The key store of a SQLite store."""
    return store.parent / "subject_keys" / "keys.db"


def _attach_key_store(file: Path, connection: sqlite3.Connection, _: Any) -> None:
    """Only where there is one: a copy of a store alone is read without its keys."""
    if not file.exists():
        return
    connection.execute(f"ATTACH DATABASE ? AS {KEY_STORE}", (str(file),)).close()
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {KEY_STORE}.{pragma}").close()


def _create_key_store(file: Path) -> None:
    """Create an empty key store, readable for its owner alone, where there is none."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS subject_keys ({KEY_STORE_COLUMNS})").close()


def _on_begin(connection: sa.Connection) -> None:
    """A writer takes the lock at once, so that what it reads still holds when it writes. A reader needs no lock."""
    if not connection.get_execution_options().get("reading", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def chunked(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    """Slices of at most MAX_IDS_PER_STATEMENT, for one IN (...) each."""
    return (ids[start : start + MAX_IDS_PER_STATEMENT] for start in range(0, len(ids), MAX_IDS_PER_STATEMENT))


def migrate(engine: sa.Engine) -> None:
    """Bring the store to the current schema, creating it where the store is empty. Raises SchemaVersionError."""
    from alembic import command
    from alembic.script import ScriptDirectory

    config = alembic_config()
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    assert head is not None, "serving/core/db/migrations/versions holds a revision"
    if engine.dialect.name == "sqlite" and engine.url.database not in (None, "", ":memory:"):
        _create_key_store(key_store_path(Path(str(engine.url.database))))
        engine.dispose()  # new connections attach it
    actual = _stored_revision(engine)
    if actual == head:
        return
    if actual is not None and actual not in {script.revision for script in scripts.walk_revisions()}:
        raise SchemaVersionError(actual, head)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK_ID)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def alembic_config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _stored_revision(engine: sa.Engine) -> str | None:
    """The revision that Alembic recorded in the store; None where the store is empty."""
    with engine.connect().execution_options(reading=True) as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        return revision
