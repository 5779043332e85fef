"""Look up any decision by its id: a single decision, a row of a batch, or a slide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson
import polars as pl
import sqlalchemy as sa

from serving.core.db.codec import decode_frame
from serving.core.db.engine import chunked
from serving.core.db.schema import BATCH_CHUNKS, BATCH_SUBJECTS, BATCHES, DECISIONS, SLIDE_EVENTS, SLIDES
from serving.core.db.tables.slides import SlideEventRow
from serving.core.identifiers import DECISION_ID_PATTERN
from serving.settings import SCOPES

_EVENTS_IN_RANGE = (  # built once, since an audit runs it for every entry
    sa.select(SLIDE_EVENTS)
    .where(SLIDE_EVENTS.c.slide == sa.bindparam("slide"))
    .where(SLIDE_EVENTS.c.id > sa.bindparam("since"), SLIDE_EVENTS.c.id <= sa.bindparam("event"))
    .order_by(SLIDE_EVENTS.c.id)
)
BATCH_ROW_PATTERN = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,9})")


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A decision of any kind. `answer`: as it was sent; `score`: PD, or the probability that a slide is positive."""

    id: str
    kind: str  # decision, slide
    scope: str  # of the product; empty for a slide
    tenant: str
    subject: str | None
    model: str
    version: str
    bundle: str
    policy: str
    created: str
    outcome: str
    score: float | None
    answer: dict[str, Any]


def find(connection: sa.Connection, decision_id: str, tenant: str | None = None) -> DecisionRecord | None:
    """Only return the decision if it belongs to `tenant`; None searches all tenants."""
    return find_many(connection, [decision_id], tenant).get(decision_id)


def find_many(
    connection: sa.Connection, decision_ids: Sequence[str], tenant: str | None = None
) -> dict[str, DecisionRecord]:
    """The decisions that exist, by id. Each chunk of a batch is decoded once. `tenant`: as in `find`."""
    single_ids = sorted(
        {
            decision_id
            for decision_id in decision_ids
            if DECISION_ID_PATTERN.fullmatch(decision_id) and not BATCH_ROW_PATTERN.fullmatch(decision_id)
        }
    )
    batch_rows = sorted(
        {
            (match[1], int(match[2]))
            for decision_id in decision_ids
            if (match := BATCH_ROW_PATTERN.fullmatch(decision_id))
        }
    )
    records = [*_find_batch_rows(connection, batch_rows, tenant)]
    for chunk in chunked(single_ids):
        records += [*_find_decisions(connection, chunk, tenant), *_find_slides(connection, chunk, tenant)]
    return {record.id: record for record in records}


def tenant_filter(table: sa.Table, tenant: str | None) -> sa.ColumnElement[bool]:
    """The condition that a row belongs to `tenant`; always true for None."""
    return sa.true() if tenant is None else table.c.tenant == tenant


def _find_decisions(connection: sa.Connection, ids: Sequence[str], tenant: str | None) -> Iterator[DecisionRecord]:
    for row in connection.execute(
        sa.select(DECISIONS).where(DECISIONS.c.id.in_(ids), tenant_filter(DECISIONS, tenant))
    ):
        answer = orjson.loads(row.answer)
        model_fields = (row.model, row.version, row.bundle, row.policy, row.created)
        owner_fields = (row.scope, row.tenant, row.subject)
        yield DecisionRecord(
            row.id, "decision", *owner_fields, *model_fields, answer["decision"], answer.get("pd"), answer
        )


def _find_batch_rows(
    connection: sa.Connection, rows: list[tuple[str, int]], tenant: str | None
) -> Iterator[DecisionRecord]:
    batch_row: sa.Row[Any] | None = None
    frame, first_row = pl.DataFrame(), 1
    for batch_id, row_number in rows:
        if batch_row is None or batch_row.id != batch_id:
            batch_row = connection.execute(
                sa.select(BATCHES).where(BATCHES.c.id == batch_id, tenant_filter(BATCHES, tenant))
            ).first()
            frame = frame.clear()
        if batch_row is None:
            continue
        if not first_row <= row_number < first_row + frame.height:
            stmt = (
                sa.select(BATCH_CHUNKS.c.first_row, BATCH_CHUNKS.c.content)
                .where(BATCH_CHUNKS.c.batch == batch_id, BATCH_CHUNKS.c.first_row <= row_number)
                .where(BATCH_CHUNKS.c.first_row + BATCH_CHUNKS.c.rows > row_number)
            )
            if (chunk := connection.execute(stmt).first()) is None:
                continue
            frame, first_row = decode_frame(chunk.content), chunk.first_row
        answer = frame.row(row_number - first_row, named=True)
        if answer["decision"] is not None:  # else the row was faulty
            model_fields = (batch_row.model, batch_row.version, batch_row.bundle, batch_row.policy, batch_row.created)
            owner_fields = (batch_row.scope.removesuffix("/batch"), batch_row.tenant, answer.get("subject"))
            yield DecisionRecord(
                f"{batch_id}-{row_number}",
                "decision",
                *owner_fields,
                *model_fields,
                answer["decision"],
                answer.get("pd"),
                answer,
            )


def _find_slides(connection: sa.Connection, ids: Sequence[str], tenant: str | None) -> Iterator[DecisionRecord]:
    for row in connection.execute(sa.select(SLIDES).where(SLIDES.c.id.in_(ids), tenant_filter(SLIDES, tenant))):
        reading = row.reading or {}
        model_fields = (row.model or "", row.version or "", row.bundle or "", "", row.created)
        owner, outcome = row.tenant, row.triage or row.state
        yield DecisionRecord(
            row.id, "slide", "", owner, row.sha256, *model_fields, outcome, reading.get("probability"), reading
        )


def events_between(connection: sa.Connection, slide_id: str, since: int, last_event_id: int) -> list[SlideEventRow]:
    """The events of a slide after `since`, up to and including `last_event_id`, in order."""
    params = {"slide": slide_id, "since": since, "event": last_event_id}
    return [cast(SlideEventRow, dict(row)) for row in connection.execute(_EVENTS_IN_RANGE, params).mappings()]


def decisions_about(product: str, pseudonym: str, tenant: str | None = None) -> sa.ColumnElement[bool]:
    """The condition that a decision is about the subject."""
    scope = SCOPES.get(product, product)
    return sa.and_(DECISIONS.c.scope == scope, DECISIONS.c.subject == pseudonym, tenant_filter(DECISIONS, tenant))


def batch_rows_about(product: str, pseudonym: str, tenant: str | None = None) -> sa.Select[Any]:
    """The rows of batches about the subject: id, created, model, version. A pseudonym already implies its product."""
    row_id = BATCH_SUBJECTS.c.batch + "-" + sa.cast(BATCH_SUBJECTS.c.row, sa.String)
    statement = sa.select(row_id.label("id"), BATCHES.c.created, BATCHES.c.model, BATCHES.c.version)
    statement = statement.join_from(BATCH_SUBJECTS, BATCHES, BATCHES.c.id == BATCH_SUBJECTS.c.batch)
    return statement.where(BATCH_SUBJECTS.c.pseudonym == pseudonym, tenant_filter(BATCHES, tenant))


def all_decisions_about(product: str, pseudonym: str, tenant: str | None) -> sa.Subquery:
    """Single decisions and rows of batches about the subject."""
    statement = sa.select(DECISIONS.c.id, DECISIONS.c.created, DECISIONS.c.model, DECISIONS.c.version)
    singles = statement.where(decisions_about(product, pseudonym, tenant))
    return sa.union_all(singles, batch_rows_about(product, pseudonym, tenant)).subquery()


def decision_ids_about(
    connection: sa.Connection, product: str, pseudonym: str, tenant: str, before: str, limit: int
) -> list[str]:
    """The ids of at most `limit` decisions about the subject that are older than the id `before`, newest first."""
    decisions = all_decisions_about(product, pseudonym, tenant)
    statement = sa.select(decisions.c.id).where(decisions.c.id < before).order_by(decisions.c.id.desc()).limit(limit)
    return list(connection.execute(statement).scalars())
