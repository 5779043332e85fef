"""What stays of a batch: its summary, and its rows in compressed chunks from which each answer can be had again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import polars as pl
import sqlalchemy as sa

from serving.core.audit import entries, log
from serving.core.audit.provenance import keep_lineages
from serving.core.db.codec import lines, unpack
from serving.core.db.reader import Reader
from serving.core.db.schema import BATCH_SUBJECTS, BATCHES, CHUNKS, METER
from serving.decisions.records import Record
from serving.privacy.consent.rules import GrantsGone, ended
from serving.privacy.subjects.indicators import SubjectGone, with_keys

TOLD = ("id", "state", "format", "rows", "answered", "faulty", "model", "version", "bundle", "policy", "simulated")

TRIES_KEPT = 20  # of one request, whose answers are not charged again


def open_batch(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    """Take the key over from a batch that broke off: it answers for nothing any more."""
    if row["idempotency_key"] is not None:
        broken = (
            sa.update(BATCHES)
            .where(BATCHES.c.tenant == row["tenant"])
            .where(BATCHES.c.scope == row["scope"], BATCHES.c.idempotency_key == row["idempotency_key"])
            .where(BATCHES.c.state == "broken")
        )
        connection.execute(broken.values(idempotency_key=None))
    connection.execute(sa.insert(BATCHES).values(**row))


def tries_before(connection: sa.Connection, tenant: str, scope: str, key: str, digest: str) -> list[str]:
    """Batches of the very same request under this key that broke off, the newest first."""
    mine = BATCHES.c.tenant == tenant, BATCHES.c.scope == scope, BATCHES.c.idempotency_key == key
    last = sa.select(BATCHES.c.id).where(*mine, BATCHES.c.state == "broken", BATCHES.c.request_sha256 == digest)
    tries: list[str] = []
    while (found := connection.execute(last).scalar()) is not None:
        tries.append(found)
        if len(tries) == TRIES_KEPT:
            break
        last = sa.select(BATCHES.c.retry_of).where(BATCHES.c.id == found)
    return tries


def kept_of(connection: sa.Connection, tries: Sequence[str], first: int, rows: int) -> list[bytes]:
    """Chunks of these batches that hold any of the rows."""
    chosen = sa.select(CHUNKS.c.content).where(CHUNKS.c.batch.in_(tries), CHUNKS.c.first_row < first + rows)
    return list(connection.execute(chosen.where(CHUNKS.c.first_row + CHUNKS.c.rows > first)).scalars())


def given_before(frame: pl.DataFrame, kept: Sequence[bytes]) -> int:
    """How many of its answers stand in earlier chunks too: by the same bundle and policy, from the same inputs."""
    if not kept:
        return 0
    mine = _resting_on(frame)
    earlier = pl.concat([_resting_on(unpack(content)) for content in kept])
    return mine.join(earlier, on=mine.columns, how="semi", nulls_equal=True).height


def _resting_on(frame: pl.DataFrame) -> pl.DataFrame:
    """What an answer rests on beside the upload: of stored subjects, on what was read of them."""
    answered = frame.filter(pl.col("decision").is_not_null())
    if "inputs" not in frame.columns:
        return answered.select("row", "bundle", "policy_version")
    return answered.select("row", "bundle", "policy_version", "inputs", pl.col("not_read").list.join(";"))


def add_chunk(connection: sa.Connection, chunk: Record, counts: Mapping[str, Any], subjects: Mapping[int, str]) -> None:
    """`chunk.row` is of CHUNKS. `subjects`: row -> pseudonym. Raises GrantsGone or SubjectGone where an authorisation
    or a subject did since they were read."""
    log.lock(connection)  # from here on nothing is revoked or erased
    if gone := ended(connection, set(chunk.grants)):
        raise GrantsGone(sorted(gone))
    named = set(subjects.values())
    if named and named - with_keys(connection, named):
        raise SubjectGone
    keep_lineages(connection, [chunk.lineage])
    leaf = {"leaf": log.append(connection, [chunk.entry])}
    connection.execute(sa.insert(CHUNKS).values(chunk.row | leaf))
    connection.execute(sa.insert(METER).values(chunk.charge | leaf))
    if subjects:
        batch = chunk.row["batch"]
        rows = [{"pseudonym": name, "batch": batch, "row": row} for row, name in subjects.items()]
        connection.execute(sa.insert(BATCH_SUBJECTS), rows)
    connection.execute(sa.update(BATCHES).where(BATCHES.c.id == chunk.row["batch"]).values(**counts))


def close_batch(connection: sa.Connection, batch: str, state: str, finished: str) -> None:
    """With a leaf that says so. One that was broken off stays so, though its process may live elsewhere: its key may be
    another's by now."""
    mine = BATCHES.c.id == batch
    ended = sa.update(BATCHES).where(mine, BATCHES.c.state == "running").values(state=state, finished=finished)
    if not connection.execute(ended).rowcount:
        return
    tenant = connection.execute(sa.select(BATCHES.c.tenant).where(mine)).scalar_one()
    log.append(connection, [entries.batch_end(batch, tenant, state, finished)])


def break_off_orphans(connection: sa.Connection, finished: str) -> None:
    """Batches whose process is gone will not be done."""
    running = sa.select(BATCHES.c.id, BATCHES.c.owner).where(BATCHES.c.state == "running")
    for batch, owner in connection.execute(running).all():
        if owner == os.getpid() or not _alive(owner):
            close_batch(connection, batch, "broken", finished)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _as_dict(row: sa.Row[Any] | None) -> dict[str, Any] | None:
    return None if row is None else dict(row._mapping)


def get(reader: Reader, tenant: str, batch: str) -> Mapping[str, Any] | None:
    """A batch's row of BATCHES; None where the tenant has no such batch."""
    statement = sa.select(BATCHES).where(BATCHES.c.id == batch, BATCHES.c.tenant == tenant)
    return reader.ask(lambda connection: _as_dict(connection.execute(statement).first()))


def by_idempotency_key(reader: Reader, tenant: str, scope: str, key: str) -> Mapping[str, Any] | None:
    statement = sa.select(BATCHES).where(BATCHES.c.tenant == tenant)
    statement = statement.where(BATCHES.c.scope == scope, BATCHES.c.idempotency_key == key)
    return reader.ask(lambda connection: _as_dict(connection.execute(statement).first()))


_CHUNK = (
    sa.select(CHUNKS.c.first_row, CHUNKS.c.rows, CHUNKS.c.content)
    .join(BATCHES, BATCHES.c.id == CHUNKS.c.batch)
    .where(BATCHES.c.tenant == sa.bindparam("tenant"))
    .where(CHUNKS.c.batch == sa.bindparam("batch"), CHUNKS.c.first_row <= sa.bindparam("row"))
    .order_by(CHUNKS.c.first_row.desc())
    .limit(1)
)


def chunk_with(reader: Reader, tenant: str, batch: str, row: int) -> tuple[int, bytes] | None:
    """(first row, content) of the chunk that holds row `row`, which counts from 1."""
    params = {"tenant": tenant, "batch": batch, "row": row}
    chunk = reader.ask(lambda connection: connection.execute(_CHUNK, params).first())
    return (chunk[0], chunk[2]) if chunk and row < chunk[0] + chunk[1] else None


def chunks(reader: Reader, batch: str) -> Iterator[bytes]:
    """Contents in the order of their rows; one is read at a time."""
    after = 0
    statement = sa.select(CHUNKS.c.first_row, CHUNKS.c.content).where(CHUNKS.c.batch == batch)
    while True:
        step = statement.where(CHUNKS.c.first_row > after).order_by(CHUNKS.c.first_row).limit(1)
        chunk = reader.ask(lambda connection, step=step: connection.execute(step).first())  # type: ignore[misc]
        if chunk is None:
            return
        after = chunk[0]
        yield chunk[1]


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """A batch as GET /v1/batches/{id} tells it."""
    told = {name: found[name] for name in TOLD}
    told["policy_version"] = told.pop("policy")
    faults = orjson.loads(found["faults"])  # of the first faulty rows: no more than `batch.faults_kept`
    return told | {
        "batch_id": told.pop("id"),
        "faults": faults,
        "faults_cut": len({fault["row"] for fault in faults}) < told["faulty"],
        "created": found["created"],
        "finished": found["finished"],
    }


def row_answer(reader: Reader, tenant: str, batch: str, row: int) -> bytes | None:
    """One row of a batch as JSON; None where there is none."""
    chunk = chunk_with(reader, tenant, batch, row) if row < 2**62 else None
    if chunk is None:
        return None
    first, content = chunk
    return lines(unpack(content)[row - first : row - first + 1], batch)[0]
