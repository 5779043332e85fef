"""What stays of a batch: its summary, and its rows in compressed chunks from which each answer can be had again."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import polars as pl
import sqlalchemy as sa

from serving.core.audit import entries, log
from serving.core.db.reader import Reader
from serving.core.db.schema import BATCH_SUBJECTS, BATCHES, CHUNKS, METER
from serving.core.db.writer import GrantsGone, Record, SubjectGone, keep_lineages, with_keys
from serving.privacy.consent.rules import ended

TOLD = ("id", "state", "format", "rows", "answered", "faulty", "model", "version", "bundle", "policy", "simulated")

TRIES_KEPT = 20  # of one request, whose answers are not charged again


def pack(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_ipc(out, compression="zstd")
    return out.getvalue()


def unpack(content: bytes) -> pl.DataFrame:
    return pl.read_ipc(io.BytesIO(content))


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


def lines(frame: pl.DataFrame, batch: str) -> list[bytes]:
    """Each row as JSON: what is hashed into its receipt, and what is answered when it is asked for by its id."""
    maker = pl.struct(name="model", version="version", bundle="bundle").alias("model")
    told = frame.select(
        pl.col("decision_id"),
        pl.lit(batch).alias("batch_id"),
        pl.exclude("decision_id", "model", "version", "bundle"),
        maker,
    )
    out = io.BytesIO()
    told.write_ndjson(out)
    return out.getvalue().split(b"\n")[: frame.height]


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
    chunk = reader.chunk_with(tenant, batch, row) if row < 2**62 else None
    if chunk is None:
        return None
    first, content = chunk
    return lines(unpack(content)[row - first : row - first + 1], batch)[0]
