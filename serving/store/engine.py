"""A store opened: SQLite that syncs each commit to disk and lets readers read on."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa

NEWEST = "0003"  # the last step in serving/store/migrations/versions


class StoreUnavailable(Exception):
    """The store cannot take or give a record now. Nothing is answered without one: ask again later.

    `why` is `locked`, `full` or `failed`.
    """

    def __init__(self, why: str, detail: str):
        super().__init__(detail)
        self.why = why


def unavailable(error: sa.exc.SQLAlchemyError) -> StoreUnavailable:
    text = str(getattr(error, "orig", None) or error)
    if "locked" in text or "busy" in text:
        return StoreUnavailable("locked", "another process holds the store")
    if "full" in text or "disk I/O" in text or "readonly" in text:
        return StoreUnavailable("full", f"the store's disk takes no more ({text})")
    return StoreUnavailable("failed", f"the store failed ({text})")


def open_store(path: Path, patience: float) -> sa.Engine:
    """An engine on the store at `path`, migrated to the newest form. `patience` (s): how long a lock is waited for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = connect(f"sqlite:///{path}", patience)
    try:
        migrate(engine)
    except sa.exc.SQLAlchemyError as error:
        engine.dispose()
        raise unavailable(error) from error
    return engine


def connect(url: sa.URL | str, patience: float) -> sa.Engine:
    """An engine without a look at what the store holds."""
    engine = sa.create_engine(url, connect_args={"timeout": patience, "check_same_thread": False})
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
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
