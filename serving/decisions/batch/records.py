"""The records of batches: a summary each, and compressed chunks of rows from which the answer can be read again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import polars as pl
import sqlalchemy as sa

from serving.core.audit import entries, log
from serving.core.audit.provenance import store_provenance
from serving.core.db.codec import decode_frame, row_json
from serving.core.db.reader import StoreReader
from serving.core.db.schema import BATCH_CHUNKS, BATCH_SUBJECTS, BATCHES, METER
from serving.decisions.records import DecisionWrite
from serving.privacy.consent.rules import ConsentRevokedError, expired_grants
from serving.privacy.subjects.errors import SubjectErasedError
from serving.privacy.subjects.indicators import subjects_with_keys

SUMMARY_FIELDS = (
    "id",
    "state",
    "format",
    "rows",
    "answered",
    "faulty",
    "model",
    "version",
    "bundle",
    "policy",
    "simulated",
)

MAX_EARLIER_ATTEMPTS = 20  # of one request, whose answers are not charged twice


def open_batch(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    """Insert the batch, and take its key over from a broken batch, which gives no answer any more."""
    if row["idempotency_key"] is not None:
        release_key = (
            sa.update(BATCHES)
            .where(BATCHES.c.tenant == row["tenant"])
            .where(BATCHES.c.scope == row["scope"], BATCHES.c.idempotency_key == row["idempotency_key"])
            .where(BATCHES.c.state == "broken")
        )
        connection.execute(release_key.values(idempotency_key=None))
    connection.execute(sa.insert(BATCHES).values(**row))


def earlier_attempts(connection: sa.Connection, tenant: str, scope: str, key: str, digest: str) -> list[str]:
    """Ids of broken batches of the very same request under this key, newest first."""
    same_key = BATCHES.c.tenant == tenant, BATCHES.c.scope == scope, BATCHES.c.idempotency_key == key
    statement = sa.select(BATCHES.c.id).where(
        *same_key, BATCHES.c.state == "broken", BATCHES.c.request_sha256 == digest
    )
    attempts: list[str] = []
    while (batch_id := connection.execute(statement).scalar()) is not None:
        attempts.append(batch_id)
        if len(attempts) == MAX_EARLIER_ATTEMPTS:
            break
        statement = sa.select(BATCHES.c.retry_of).where(BATCHES.c.id == batch_id)
    return attempts


def stored_chunks(connection: sa.Connection, attempts: Sequence[str], first_row: int, rows: int) -> list[bytes]:
    """The contents of those chunks of these batches that overlap the rows."""
    statement = sa.select(BATCH_CHUNKS.c.content).where(
        BATCH_CHUNKS.c.batch.in_(attempts), BATCH_CHUNKS.c.first_row < first_row + rows
    )
    return list(
        connection.execute(statement.where(BATCH_CHUNKS.c.first_row + BATCH_CHUNKS.c.rows > first_row)).scalars()
    )


def already_charged(frame: pl.DataFrame, earlier_chunks: Sequence[bytes]) -> int:
    """How many of its answers are in earlier chunks too: by the same bundle and policy, from the same inputs."""
    if not earlier_chunks:
        return 0
    current = _answer_basis(frame)
    earlier = pl.concat([_answer_basis(decode_frame(content)) for content in earlier_chunks])
    return current.join(earlier, on=current.columns, how="semi", nulls_equal=True).height


def _answer_basis(frame: pl.DataFrame) -> pl.DataFrame:
    """What identifies an answer to the same upload; for stored subjects also what was read of them."""
    answered_rows = frame.filter(pl.col("decision").is_not_null())
    if "inputs" not in frame.columns:
        return answered_rows.select("row", "bundle", "policy_version")
    return answered_rows.select("row", "bundle", "policy_version", "inputs", pl.col("not_read").list.join(";"))


def add_chunk(
    connection: sa.Connection, chunk: DecisionWrite, counts: Mapping[str, Any], subjects: Mapping[int, str]
) -> None:
    """Insert a chunk with its log entry and its charge, and update the batch. subjects: row -> pseudonym.

    Raises ConsentRevokedError or SubjectErasedError where a grant or a subject went since it was read.
    """
    log.acquire_append_lock(connection)  # nothing is revoked or erased from here to the commit
    if expired := expired_grants(connection, set(chunk.grants)):
        raise ConsentRevokedError(sorted(expired))
    pseudonyms = set(subjects.values())
    if pseudonyms and pseudonyms - subjects_with_keys(connection, pseudonyms):
        raise SubjectErasedError
    store_provenance(connection, [chunk.provenance])
    leaf = {"leaf": log.append(connection, [chunk.entry])}
    connection.execute(sa.insert(BATCH_CHUNKS).values({**chunk.row, **leaf}))
    connection.execute(sa.insert(METER).values({**chunk.meter_row, **leaf}))
    if subjects:
        batch_id = chunk.row["batch"]
        rows = [{"pseudonym": name, "batch": batch_id, "row": row} for row, name in subjects.items()]
        connection.execute(sa.insert(BATCH_SUBJECTS), rows)
    connection.execute(sa.update(BATCHES).where(BATCHES.c.id == chunk.row["batch"]).values(**counts))


def close_batch(connection: sa.Connection, batch_id: str, state: str, finished: str) -> None:
    """End a running batch, with a log entry that says so.

    A broken batch stays broken, even where its process is alive on another machine: its key may have been taken over.
    """
    is_batch = BATCHES.c.id == batch_id
    statement = sa.update(BATCHES).where(is_batch, BATCHES.c.state == "running").values(state=state, finished=finished)
    if not connection.execute(statement).rowcount:
        return
    tenant = connection.execute(sa.select(BATCHES.c.tenant).where(is_batch)).scalar_one()
    log.append(connection, [entries.batch_end_entry(batch_id, tenant, state, finished)])


def abort_orphans(connection: sa.Connection, finished: str) -> None:
    """Mark the running batches as broken whose process is gone, or was this one before a restart."""
    statement = sa.select(BATCHES.c.id, BATCHES.c.owner).where(BATCHES.c.state == "running")
    for batch_id, owner in connection.execute(statement).all():
        if owner == os.getpid() or not _is_alive(owner):
            close_batch(connection, batch_id, "broken", finished)


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _as_dict(row: sa.Row[Any] | None) -> dict[str, Any] | None:
    return None if row is None else dict(row._mapping)


def get(reader: StoreReader, tenant: str, batch: str) -> Mapping[str, Any] | None:
    """A batch's row of BATCHES; None where the tenant has no such batch."""
    statement = sa.select(BATCHES).where(BATCHES.c.id == batch, BATCHES.c.tenant == tenant)
    return reader.run(lambda connection: _as_dict(connection.execute(statement).first()))


def by_idempotency_key(reader: StoreReader, tenant: str, scope: str, key: str) -> Mapping[str, Any] | None:
    """The row of BATCHES under an idempotency key; None where the key is new."""
    statement = sa.select(BATCHES).where(BATCHES.c.tenant == tenant)
    statement = statement.where(BATCHES.c.scope == scope, BATCHES.c.idempotency_key == key)
    return reader.run(lambda connection: _as_dict(connection.execute(statement).first()))


_CHUNK_QUERY = (
    sa.select(BATCH_CHUNKS.c.first_row, BATCH_CHUNKS.c.rows, BATCH_CHUNKS.c.content)
    .join(BATCHES, BATCHES.c.id == BATCH_CHUNKS.c.batch)
    .where(BATCHES.c.tenant == sa.bindparam("tenant"))
    .where(BATCH_CHUNKS.c.batch == sa.bindparam("batch"), BATCH_CHUNKS.c.first_row <= sa.bindparam("row"))
    .order_by(BATCH_CHUNKS.c.first_row.desc())
    .limit(1)
)


def chunk_with(reader: StoreReader, tenant: str, batch: str, row: int) -> tuple[int, bytes] | None:
    """(first row, content) of the chunk that contains a row; rows count from 1."""
    params = {"tenant": tenant, "batch": batch, "row": row}
    chunk = reader.run(lambda connection: connection.execute(_CHUNK_QUERY, params).first())
    return (chunk[0], chunk[2]) if chunk and row < chunk[0] + chunk[1] else None


def chunks(reader: StoreReader, batch: str) -> Iterator[bytes]:
    """The contents of a batch's chunks in the order of their rows, read one at a time."""
    after = 0
    statement = sa.select(BATCH_CHUNKS.c.first_row, BATCH_CHUNKS.c.content).where(BATCH_CHUNKS.c.batch == batch)
    while True:
        step = statement.where(BATCH_CHUNKS.c.first_row > after).order_by(BATCH_CHUNKS.c.first_row).limit(1)
        chunk = reader.run(lambda connection, step=step: connection.execute(step).first())  # type: ignore[misc]
        if chunk is None:
            return
        after = chunk[0]
        yield chunk[1]


def summary(row: Mapping[str, Any]) -> dict[str, Any]:
    """A batch as GET /v1/batches/{id} returns it."""
    payload = {name: row[name] for name in SUMMARY_FIELDS}
    payload["policy_version"] = payload.pop("policy")
    faults = orjson.loads(row["faults"])  # of the first faulty rows, at most batch.max_reported_faults
    return payload | {
        "batch_id": payload.pop("id"),
        "faults": faults,
        "faults_cut": len({fault["row"] for fault in faults}) < payload["faulty"],
        "created": row["created"],
        "finished": row["finished"],
    }


def get_row(reader: StoreReader, tenant: str, batch_id: str, row: int) -> bytes | None:
    """One row of a batch as JSON; None where there is none."""
    chunk = chunk_with(reader, tenant, batch_id, row) if row < 2**62 else None
    if chunk is None:
        return None
    first_row, content = chunk
    return row_json(decode_frame(content)[row - first_row : row - first_row + 1], batch_id)[0]
