"""What was decided, by whichever id names it: a single decision, a row of a batch, a slide."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from serving.batch.record import unpack
from serving.store.tables import BATCHES, CHUNKS, DECISIONS, SLIDES

ID = re.compile(r"[0-9a-f]{32}(-[1-9][0-9]{0,9})?")
ROW = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,9})")


@dataclass(frozen=True, slots=True)
class Recorded:
    """`answer` as it was told; `score`: the PD, or the probability that a slide is positive."""

    id: str
    kind: str  # decision, slide
    tenant: str
    subject: str | None
    model: str
    version: str
    bundle: str
    policy: str
    created: str
    said: str
    score: float | None
    answer: dict[str, Any]


def find(connection: sa.Connection, wanted: str, tenant: str | None = None) -> Recorded | None:
    """`tenant`: whose it must be, else it is as if it were not there; None: anybody's."""
    if not ID.fullmatch(wanted):
        return None
    if row := ROW.fullmatch(wanted):
        return _of_batch(connection, wanted, row[1], int(row[2]), tenant)
    return _single(connection, wanted, tenant) or _slide(connection, wanted, tenant)


def whose(table: sa.Table, tenant: str | None) -> sa.ColumnElement[bool]:
    return sa.true() if tenant is None or "tenant" not in table.c else table.c.tenant == tenant


def _single(connection: sa.Connection, wanted: str, tenant: str | None) -> Recorded | None:
    chosen = sa.select(DECISIONS).where(DECISIONS.c.id == wanted, whose(DECISIONS, tenant))
    row = connection.execute(chosen).first()
    if row is None:
        return None
    told = orjson.loads(row.answer)
    made = (row.model, row.version, row.bundle, row.policy, row.created)
    return Recorded(wanted, "decision", row.tenant, row.subject, *made, told["decision"], told.get("pd"), told)


def _of_batch(connection: sa.Connection, wanted: str, batch: str, place: int, tenant: str | None) -> Recorded | None:
    of = connection.execute(sa.select(BATCHES).where(BATCHES.c.id == batch, whose(BATCHES, tenant))).first()
    chosen = (
        sa.select(CHUNKS.c.first_row, CHUNKS.c.content)
        .where(CHUNKS.c.batch == batch, CHUNKS.c.first_row <= place)
        .where(CHUNKS.c.first_row + CHUNKS.c.rows > place)
    )
    chunk = connection.execute(chosen).first() if of is not None else None
    if of is None or chunk is None:
        return None
    told = unpack(chunk.content).row(place - chunk.first_row, named=True)
    if told["decision"] is None:  # a faulty row: nothing was decided
        return None
    made = (of.model, of.version, of.bundle, of.policy, of.created)
    owner = getattr(of, "tenant", "local")
    return Recorded(wanted, "decision", owner, None, *made, told["decision"], told.get("pd"), told)


def _slide(connection: sa.Connection, wanted: str, tenant: str | None) -> Recorded | None:
    row = connection.execute(sa.select(SLIDES).where(SLIDES.c.id == wanted, whose(SLIDES, tenant))).first()
    if row is None:
        return None
    reading = row.reading or {}
    made = (row.model or "", row.version or "", row.bundle or "", "", row.created)
    owner = getattr(row, "tenant", "local")
    return Recorded(
        wanted, "slide", owner, row.sha256, *made, row.triage or row.state, reading.get("probability"), reading
    )
