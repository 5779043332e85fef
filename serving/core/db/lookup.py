"""What was decided, by whichever id names it: a single decision, a row of a batch, a slide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl
import sqlalchemy as sa

from serving.core.db.schema import BATCHES, CHUNKS, DECISIONS, SLIDES
from serving.decisions.batch.records import unpack

ID = re.compile(r"[0-9a-f]{32}(-[1-9][0-9]{0,9})?")
ROW = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,9})")
PARTS = 500  # ids in one question


@dataclass(frozen=True, slots=True)
class Recorded:
    """`answer` as it was told; `score`: the PD, or the probability that a slide is positive."""

    id: str
    kind: str  # decision, slide
    scope: str  # of the product; of a slide ""
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
    return find_many(connection, [wanted], tenant).get(wanted)


def find_many(connection: sa.Connection, wanted: Sequence[str], tenant: str | None = None) -> dict[str, Recorded]:
    """Those that are there, by id; each chunk of a batch is unpacked once."""
    plain = sorted({one for one in wanted if ID.fullmatch(one) and not ROW.fullmatch(one)})
    rows = sorted({(match[1], int(match[2])) for one in wanted if (match := ROW.fullmatch(one))})
    found = [*_of_batches(connection, rows, tenant)]
    for at in range(0, len(plain), PARTS):
        part = plain[at : at + PARTS]
        found += [*_singles(connection, part, tenant), *_slides(connection, part, tenant)]
    return {one.id: one for one in found}


def whose(table: sa.Table, tenant: str | None) -> sa.ColumnElement[bool]:
    return sa.true() if tenant is None else table.c.tenant == tenant


def _singles(connection: sa.Connection, ids: list[str], tenant: str | None) -> Iterator[Recorded]:
    for row in connection.execute(sa.select(DECISIONS).where(DECISIONS.c.id.in_(ids), whose(DECISIONS, tenant))):
        told = orjson.loads(row.answer)
        made = (row.model, row.version, row.bundle, row.policy, row.created)
        where = (row.scope, row.tenant, row.subject)
        yield Recorded(row.id, "decision", *where, *made, told["decision"], told.get("pd"), told)


def _of_batches(connection: sa.Connection, rows: list[tuple[str, int]], tenant: str | None) -> Iterator[Recorded]:
    of: sa.Row[Any] | None = None
    frame, first = pl.DataFrame(), 1
    for batch, place in rows:
        if of is None or of.id != batch:
            of = connection.execute(sa.select(BATCHES).where(BATCHES.c.id == batch, whose(BATCHES, tenant))).first()
            frame = frame.clear()
        if of is None:
            continue
        if not first <= place < first + frame.height:
            chosen = (
                sa.select(CHUNKS.c.first_row, CHUNKS.c.content)
                .where(CHUNKS.c.batch == batch, CHUNKS.c.first_row <= place)
                .where(CHUNKS.c.first_row + CHUNKS.c.rows > place)
            )
            if (chunk := connection.execute(chosen).first()) is None:
                continue
            frame, first = unpack(chunk.content), chunk.first_row
        told = frame.row(place - first, named=True)
        if told["decision"] is not None:  # else a faulty row: nothing was decided
            made = (of.model, of.version, of.bundle, of.policy, of.created)
            where = (of.scope.removesuffix("/batch"), getattr(of, "tenant", "local"), told.get("subject"))
            yield Recorded(f"{batch}-{place}", "decision", *where, *made, told["decision"], told.get("pd"), told)


def _slides(connection: sa.Connection, ids: list[str], tenant: str | None) -> Iterator[Recorded]:
    for row in connection.execute(sa.select(SLIDES).where(SLIDES.c.id.in_(ids), whose(SLIDES, tenant))):
        reading = row.reading or {}
        made = (row.model or "", row.version or "", row.bundle or "", "", row.created)
        owner, said = getattr(row, "tenant", "local"), row.triage or row.state
        yield Recorded(row.id, "slide", "", owner, row.sha256, *made, said, reading.get("probability"), reading)
