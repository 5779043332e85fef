"""Deletes what answers say of somebody, and shows that deleted content cannot be read back from the store's files."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.db.engine import key_store_path, to_store_error
from serving.core.db.schema import DECISIONS

# Fields of an answer that are retained after an erasure: what was decided, without what it rests on.
RETAINED_FIELDS = (
    *("decision_id", "decision", "limit", "indicative_limit", "currency", "grade", "pd", "score", "approval_line"),
    *("horizon", "model", "simulated", "indicators_from", "authorisations", "created"),
)
EMPTIED_FIELDS: dict[str, Any] = {  # beside lists, which become empty, too
    "ledger": None,
    "innovation": {"score": None, "stage": None, "coverage": 0, "parts": []},
}
DECISIONS_PER_STATEMENT = 500


class ErasureNotProvenError(Exception):
    """The subject is deleted, but its key may still be read from the disk, so nothing certifies the erasure yet."""

    def __init__(self, reason: str):
        super().__init__(f"{reason}. The subject is deleted and cannot be loaded again; erase it again to certify it.")


def retained_answer(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without reasons, derivation and evidence; each field that it had is still there."""
    retained: dict[str, Any] = {}
    for name, value in answer.items():
        if name in RETAINED_FIELDS:
            retained[name] = value
        elif name == "gate":
            retained[name] = {"verdict": value["verdict"], "points": 0, "evidence": [], "unknown": []}
        else:
            retained[name] = [] if isinstance(value, list) else EMPTIED_FIELDS.get(name)
    return retained | {"erased": True}


def reduce_decisions(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[bytes]:
    """Reduce answers to `retained_answer` and delete the salts of their entries, without which nobody can match guesses
    against the digests there. Returns the deleted salts."""
    salts: list[bytes] = []
    while reduced := reduce_some_decisions(connection, condition):
        salts += reduced.values()
    return salts


def reduce_some_decisions(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> dict[str, bytes]:
    """As `reduce_decisions`, for the first DECISIONS_PER_STATEMENT. Returns decision -> deleted salt."""
    columns, has_salt = (DECISIONS.c.id, DECISIONS.c.answer, DECISIONS.c.salt), DECISIONS.c.salt.is_not(None)
    stmt = sa.select(*columns).where(condition, has_salt).order_by(DECISIONS.c.id).limit(DECISIONS_PER_STATEMENT)
    rows = connection.execute(stmt).all()
    is_row = DECISIONS.c.id == sa.bindparam("decision")
    update = sa.update(DECISIONS).where(is_row).values(answer=sa.bindparam("retained"), salt=None)
    values = [{"decision": row.id, "retained": orjson.dumps(retained_answer(orjson.loads(row.answer)))} for row in rows]
    if values:
        connection.execute(update, values)
    return {row.id: row.salt for row in rows}


def enable_secure_delete(connection: sa.Connection) -> None:
    """Have SQLite overwrite deleted content with zeros."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON").close()


def prove_deletion(engine: sa.Engine, deleted: list[bytes]) -> dict[str, Any]:
    """Remove deleted content from the files of the database, and show that none of it can be read back.

    deleted: keys and salts that the store must not hold any more. Returns what was shown, for the certificate. Raises
    ErasureNotProvenError.
    """
    try:
        with engine.execution_options(reading=True, isolation_level="AUTOCOMMIT").connect() as connection:
            if engine.dialect.name == "sqlite":
                [busy, *_] = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
                if busy:
                    raise ErasureNotProvenError(
                        "another process has been reading the store for longer than store.lock_timeout_seconds, so its "
                        "write-ahead log still holds what was deleted"
                    )
            else:
                connection.exec_driver_sql("VACUUM")
    except sa.exc.SQLAlchemyError as error:
        raise to_store_error(error) from error
    if engine.dialect.name != "sqlite":
        return {"store": "postgresql", "vacuumed": True}
    store = Path(str(engine.url.database))
    files = [file for base in (store, key_store_path(store)) for file in (base, base.with_name(f"{base.name}-wal"))]
    for file in files:
        if file.exists() and file.stat().st_size and _is_any_in_file(file, deleted):
            raise ErasureNotProvenError(f"{file} still holds the subject's key, or a salt of an answer")
    return {"store": "sqlite", "log_truncated": True, "keys_searched_for": len(deleted)}


def _is_any_in_file(file: Path, values: list[bytes]) -> bool:
    with file.open("rb") as content, mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return any(view.find(value) >= 0 for value in values)
