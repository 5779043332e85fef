"""What was decided, by whichever id names it: a single decision, a row of a batch, a slide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl
import sqlalchemy as sa

from serving.core.db.codec import unpack
from serving.core.db.schema import BATCH_SUBJECTS, BATCHES, CHUNKS, DECISIONS, SLIDE_EVENTS, SLIDES
from serving.settings import SCOPES

_MOMENTS = (  # made once: an audit asks it for each entry
    sa.select(SLIDE_EVENTS)
    .where(SLIDE_EVENTS.c.slide == sa.bindparam("slide"))
    .where(SLIDE_EVENTS.c.id > sa.bindparam("since"), SLIDE_EVENTS.c.id <= sa.bindparam("event"))
    .order_by(SLIDE_EVENTS.c.id)
)
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
            where = (of.scope.removesuffix("/batch"), of.tenant, told.get("subject"))
            yield Recorded(f"{batch}-{place}", "decision", *where, *made, told["decision"], told.get("pd"), told)


def _slides(connection: sa.Connection, ids: list[str], tenant: str | None) -> Iterator[Recorded]:
    for row in connection.execute(sa.select(SLIDES).where(SLIDES.c.id.in_(ids), whose(SLIDES, tenant))):
        reading = row.reading or {}
        made = (row.model or "", row.version or "", row.bundle or "", "", row.created)
        owner, said = row.tenant, row.triage or row.state
        yield Recorded(row.id, "slide", "", owner, row.sha256, *made, said, reading.get("probability"), reading)


def moments(connection: sa.Connection, slide: str, since: int, event: int) -> list[dict[str, Any]]:
    """What happened to a slide after the event `since` up to `event`, in order."""
    told = {"slide": slide, "since": since, "event": event}
    return [dict(row) for row in connection.execute(_MOMENTS, told).mappings()]


def about(product: str, pseudonym: str, tenant: str | None = None) -> sa.ColumnElement[bool]:
    """Which decisions name the subject."""
    scope = SCOPES.get(product, product)
    return sa.and_(DECISIONS.c.scope == scope, DECISIONS.c.subject == pseudonym, whose(DECISIONS, tenant))


def in_batches(product: str, pseudonym: str, tenant: str | None = None) -> sa.Select[Any]:
    """The rows of batches that name the subject, as `id`, created, model and version; of a product none but its own, as
    a pseudonym is."""
    name = BATCH_SUBJECTS.c.batch + "-" + sa.cast(BATCH_SUBJECTS.c.row, sa.String)
    chosen = sa.select(name.label("id"), BATCHES.c.created, BATCHES.c.model, BATCHES.c.version)
    chosen = chosen.join_from(BATCH_SUBJECTS, BATCHES, BATCHES.c.id == BATCH_SUBJECTS.c.batch)
    return chosen.where(BATCH_SUBJECTS.c.pseudonym == pseudonym, whose(BATCHES, tenant))


def _named_in(product: str, pseudonym: str, tenant: str | None) -> sa.Subquery:
    """Single decisions and rows of batches that name the subject."""
    chosen = sa.select(DECISIONS.c.id, DECISIONS.c.created, DECISIONS.c.model, DECISIONS.c.version)
    singles = chosen.where(about(product, pseudonym, tenant))
    return sa.union_all(singles, in_batches(product, pseudonym, tenant)).subquery()


def decided_about(
    connection: sa.Connection, product: str, pseudonym: str, tenant: str, before: str, most: int
) -> list[str]:
    """Ids of the newest `most` decisions that name the subject and come before the id `before`, the newest first."""
    both = _named_in(product, pseudonym, tenant)
    chosen = sa.select(both.c.id).where(both.c.id < before).order_by(both.c.id.desc()).limit(most)
    return list(connection.execute(chosen).scalars())
