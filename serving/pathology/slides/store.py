"""Slides, their events and signed reports in the store.

    transition(engine, slide_id, "deidentified", {"removed": ["label"]})     # False if it has happened before

Each function takes an engine, and then is a transaction of its own and raises StoreUnavailableError, or a connection,
and then is part of its caller's transaction. SQLite and PostgreSQL behave alike.
"""

from __future__ import annotations

import os
from typing import Any, cast

import sqlalchemy as sa

from serving.core.audit import entries, log
from serving.core.billing.prices import Prices
from serving.core.db.engine import EngineOrConnection, read_connection, write_transaction
from serving.core.db.lookup import events_between
from serving.core.db.schema import METER, SLIDE_EVENTS, SLIDE_REPORTS, SLIDES
from serving.core.db.tables.slides import SlideRow, UnloggedSlideReportRow
from serving.core.http.principal import LOCAL_PRINCIPAL
from serving.core.identifiers import utc_now
from serving.pathology.slides import workers
from serving.pathology.slides.states import (
    PREDECESSORS,
    SIGNED,
    STATES,
    TO_REVIEW,
    InvalidTransitionError,
    SlideNotFoundError,
)

Row = dict[str, Any]
PRODUCT = "pathology"

DEFAULTS: Row = {
    **dict.fromkeys(("code", "sha256", "accession", "specimen", "stain", "preparation", "request", "mpp")),
    **dict.fromkeys(("triage", "model", "version", "bundle", "reading")),
    "tenant": LOCAL_PRINCIPAL.tenant,
    **{"reasons": [], "notes": [], "name": "", "bytes": 0, "done": 0, "total": 0, "audit": False, "priority": 0},
}
REUSABLE_STATES = ("failed", "cancelled")  # the same content may be sent again as a new slide
NEEDS_REVIEW = sa.or_(SLIDES.c.triage.is_(None), SLIDES.c.triage != "negative", SLIDES.c.audit)


# --- the slide


def create(
    bind: EngineOrConnection, slide_id: str, state: str = "uploading", detail: Row | None = None, **columns: Any
) -> None:
    """Insert a new slide. `columns`: values for the columns named in DEFAULTS."""
    timestamp = utc_now()
    row = (
        DEFAULTS
        | columns
        | {
            "id": slide_id,
            "state": state,
            "created": timestamp,
            "updated": timestamp,
            "salt": os.urandom(entries.SALT_BYTES),
        }
    )
    with write_transaction(bind) as connection:
        connection.execute(sa.insert(SLIDES).values(row))
        _insert_event(connection, slide_id, "state", state, detail, timestamp)


def transition(
    bind: EngineOrConnection,
    slide_id: str,
    target: str,
    detail: Row | None = None,
    *,
    worker_id: str = "",
    prices: Prices | None = None,
    **columns: Any,
) -> bool:
    """Change a slide's state and set `columns`; False, and nothing done, if the slide has been in that state before.

    A `reading` also sets triage, priority, model, version and bundle, and `reasons` sets the code. The change appends
    an entry to the audit log, and if it brings the reading, a charge by `prices`. Raises InvalidTransitionError if the
    target may not follow the slide's state, SlideNotFoundError, ValueError on an attempt to alter a reading, and
    WorkerEvictedError if `worker_id` was evicted.
    """
    columns = _with_derived(columns)
    with write_transaction(bind) as connection:
        workers.assert_active(connection, worker_id)
        timestamp = utc_now()
        stmt = sa.update(SLIDES).where(SLIDES.c.id == slide_id, SLIDES.c.state.in_(PREDECESSORS[target]))
        if "reading" in columns:
            stmt = stmt.where(SLIDES.c.reading.is_(None))
        if connection.execute(stmt.values(state=target, updated=timestamp, **columns)).rowcount:
            _insert_event(
                connection, slide_id, "state", target, detail, timestamp, prices if "reading" in columns else None
            )
            return True
        row = connection.execute(sa.select(SLIDES.c.state, SLIDES.c.reading).where(SLIDES.c.id == slide_id)).first()
        if row is None:
            raise SlideNotFoundError(slide_id)
        reached = sa.select(SLIDE_EVENTS.c.id).where(SLIDE_EVENTS.c.slide == slide_id, SLIDE_EVENTS.c.kind == "state")
        if connection.execute(reached.where(SLIDE_EVENTS.c.state == target).limit(1)).first() is not None:
            return False
        if "reading" in columns and row.reading is not None:
            raise ValueError(f"slide {slide_id} has a reading already; a reading is never altered")
        raise InvalidTransitionError(slide_id, row.state, target)


def _with_derived(columns: Row) -> Row:
    reading, reasons = columns.get("reading"), columns.get("reasons")
    implied: Row = {}
    if reading is not None:
        implied |= {"triage": reading["triage"], "priority": reading["priority"]}
        implied |= {"model": reading["model"]["name"], **{k: reading["model"][k] for k in ("version", "bundle")}}
    if reasons:
        implied["code"] = reasons[0]["code"]
    return implied | columns


def record_progress(bind: EngineOrConnection, slide_id: str, done: int, total: int, *, worker_id: str = "") -> bool:
    """Record how many tiles have been read; False, and nothing done, if the slide is not being read or the numbers are
    not new. Raises WorkerEvictedError as `transition` does.
    """
    with write_transaction(bind) as connection:
        workers.assert_active(connection, worker_id)
        timestamp = utc_now()
        changed = sa.or_(SLIDES.c.done < done, SLIDES.c.total != total)
        stmt = sa.update(SLIDES).where(SLIDES.c.id == slide_id, SLIDES.c.state == "inferring", changed)
        if not connection.execute(stmt.values(done=done, total=total, updated=timestamp)).rowcount:
            return False
        _insert_event(connection, slide_id, "progress", "inferring", {"done": done, "total": total}, timestamp)
        return True


def add_event(bind: EngineOrConnection, slide_id: str, detail: Row, **columns: Any) -> None:
    """Record an event that keeps the state, such as a scale given by an operator. Raises SlideNotFoundError."""
    with write_transaction(bind) as connection:
        timestamp = utc_now()
        connection.execute(sa.update(SLIDES).where(SLIDES.c.id == slide_id).values(updated=timestamp, **columns))
        state = connection.execute(sa.select(SLIDES.c.state).where(SLIDES.c.id == slide_id)).scalar()
        if state is None:
            raise SlideNotFoundError(slide_id)
        _insert_event(connection, slide_id, "note", state, detail, timestamp)


def _insert_event(
    connection: sa.Connection,
    slide_id: str,
    kind: str,
    state: str,
    detail: Row | None,
    timestamp: str,
    prices: Prices | None = None,
) -> None:
    """Insert an event with its audit entry, and with a charge if `prices` are given. A progress event has no entry of
    its own; the next event's entry covers it."""
    row = {"slide": slide_id, "at": timestamp, "kind": kind, "state": state, "detail": detail or {}}
    inserted_key = connection.execute(sa.insert(SLIDE_EVENTS).values(row)).inserted_primary_key
    assert inserted_key is not None, "one row was inserted"
    if kind != "progress":
        _append_audit_entry(connection, slide_id, kind, int(inserted_key[0]), timestamp, prices)


def _append_audit_entry(
    connection: sa.Connection, slide_id: str, kind: str, event_id: int, timestamp: str, prices: Prices | None
) -> None:
    row = _to_dict(connection.execute(sa.select(SLIDES).where(SLIDES.c.id == slide_id)).first())
    assert row is not None, "it was written a moment ago"
    tenant, price, units = row["tenant"], None, int(row["state"] == "ready")  # an abstention is free of charge
    if prices is not None:
        price = prices.price_for(PRODUCT, tenant, timestamp)
    extra: Row = {}
    if price is not None:  # a reading, which may rest on the patient's authorisation
        grant = (row["request"] or {}).get("authorisation")
        extra = {"product": PRODUCT, "price": price.describe(units)} | ({"authorisations": [grant]} if grant else {})
    earlier_events = SLIDE_EVENTS.c.slide == slide_id, SLIDE_EVENTS.c.id < event_id
    last_entry_stmt = sa.select(sa.func.max(SLIDE_EVENTS.c.id)).where(
        *earlier_events, SLIDE_EVENTS.c.kind != "progress"
    )
    since = connection.execute(last_entry_stmt).scalar() or 0
    audit_entry = entries.slide_entry(
        f"slide_{kind}", cast(SlideRow, row), events_between(connection, slide_id, since, event_id), since, **extra
    )
    leaf = log.append(connection, [audit_entry])
    if price is not None:
        connection.execute(
            sa.insert(METER).values(price.charge(slide_id, tenant, PRODUCT, timestamp, units) | {"leaf": leaf})
        )


def get(bind: EngineOrConnection, slide_id: str, tenant: str | None = None) -> Row | None:
    """The slide, if it exists and belongs to `tenant`; None searches all tenants."""
    stmt = sa.select(SLIDES).where(SLIDES.c.id == slide_id)
    if tenant is not None:
        stmt = stmt.where(SLIDES.c.tenant == tenant)
    with read_connection(bind) as connection:
        return _to_dict(connection.execute(stmt).first())


def in_state(bind: EngineOrConnection, *states: str, limit: int = 100) -> list[Row]:
    """Slides in any of these states, the oldest first."""
    assert set(states) <= set(STATES), states
    stmt = sa.select(SLIDES).where(SLIDES.c.state.in_(states)).order_by(SLIDES.c.id).limit(limit)
    with read_connection(bind) as connection:
        return [dict(row._mapping) for row in connection.execute(stmt)]


def same_content(bind: EngineOrConnection, sha256: str, tenant: str) -> list[Row]:
    """A tenant's slides with this content that were neither cancelled nor failed, the oldest first."""
    stmt = sa.select(SLIDES).where(SLIDES.c.sha256 == sha256, SLIDES.c.tenant == tenant)
    stmt = stmt.where(SLIDES.c.state.not_in(REUSABLE_STATES)).order_by(SLIDES.c.id)
    with read_connection(bind) as connection:
        return [dict(row._mapping) for row in connection.execute(stmt)]


def worklist(
    bind: EngineOrConnection,
    limit: int,
    *,
    tenant: str = LOCAL_PRINCIPAL.tenant,
    after: str | None = None,
    state: str | None = None,
    specimen: str | None = None,
    accession: str | None = None,
    review: bool = False,
    signed: bool | None = None,
) -> list[Row]:
    """A page of the tenant's slides without their readings: by priority, then the oldest first.

    after: the last slide of the page before. review: only slides that await a pathologist; negatives do so only if they
    were selected for audit. Raises SlideNotFoundError if `after` is no slide.
    """
    columns = [column for column in SLIDES.c if column.name != "reading"]
    stmt = (
        sa.select(*columns)
        .where(SLIDES.c.tenant == tenant)
        .order_by(SLIDES.c.priority.desc(), SLIDES.c.id)
        .limit(limit)
    )
    for column, value in ((SLIDES.c.state, state), (SLIDES.c.specimen, specimen), (SLIDES.c.accession, accession)):
        if value is not None:
            stmt = stmt.where(column == value)
    if signed is not None:
        stmt = stmt.where(SLIDES.c.state.in_(SIGNED) if signed else SLIDES.c.state.not_in(SIGNED))
    if review:
        stmt = stmt.where(SLIDES.c.state.in_(TO_REVIEW), NEEDS_REVIEW)
    with read_connection(bind) as connection:
        if after is not None:
            after_priority = sa.select(SLIDES.c.priority).where(SLIDES.c.id == after, SLIDES.c.tenant == tenant)
            priority = connection.execute(after_priority).scalar()
            if priority is None:
                raise SlideNotFoundError(after)
            same_priority = sa.and_(SLIDES.c.priority == priority, SLIDES.c.id > after)
            stmt = stmt.where(sa.or_(SLIDES.c.priority < priority, same_priority))
        return [dict(row._mapping) for row in connection.execute(stmt)]


def events_after(bind: EngineOrConnection, slide_id: str, after: int = 0, limit: int = 500) -> list[Row]:
    """A slide's events after the event `after`, in order."""
    stmt = sa.select(SLIDE_EVENTS).where(SLIDE_EVENTS.c.slide == slide_id, SLIDE_EVENTS.c.id > after)
    with read_connection(bind) as connection:
        return [dict(row._mapping) for row in connection.execute(stmt.order_by(SLIDE_EVENTS.c.id).limit(limit))]


def find_proof(bind: EngineOrConnection, slide_id: str) -> Row | None:
    """The proof of the slide's de-identified copy, with the time of its record; None before it was made."""
    stmt = sa.select(SLIDE_EVENTS.c.at, SLIDE_EVENTS.c.detail).where(
        SLIDE_EVENTS.c.slide == slide_id, SLIDE_EVENTS.c.kind == "state", SLIDE_EVENTS.c.state == "deidentified"
    )
    with read_connection(bind) as connection:
        row = connection.execute(stmt.limit(1)).first()
    proof = None if row is None else row.detail.get("proof")
    return None if row is None or proof is None else {"at": row.at, **proof}


# --- signed reports


def add_report(
    bind: EngineOrConnection,
    slide_id: str,
    version: int,
    kind: str,
    body: Row,
    sha256: str,
    signer: str,
    timestamp: str,
) -> None:
    """Store a signed or amended report and change the slide's state with it.

    Raises InvalidTransitionError, or ReportVersionConflictError if another report was signed meanwhile.
    """
    with write_transaction(bind) as connection:
        # The state first: it locks the slide, so that no other transaction signs it.
        if not transition(connection, slide_id, kind, {"version": version, "signer": signer}):
            raise InvalidTransitionError(slide_id, kind, kind)
        latest_version = sa.select(sa.func.max(SLIDE_REPORTS.c.version)).where(SLIDE_REPORTS.c.slide == slide_id)
        if version != (connection.execute(latest_version).scalar() or 0) + 1:
            raise ReportVersionConflictError(slide_id, version)
        row: UnloggedSlideReportRow = {
            "slide": slide_id, "version": version, "kind": kind, "body": body, "sha256": sha256, "signer": signer,
            "at": timestamp,
        }  # fmt: skip
        slide = get(connection, slide_id)
        assert slide is not None, "its state was changed a moment ago"
        leaf = log.append(connection, [entries.report_entry(row, slide["salt"], slide["tenant"])])
        connection.execute(sa.insert(SLIDE_REPORTS).values({**row, "leaf": leaf}))


class ReportVersionConflictError(Exception):
    """Another report on this slide was signed meanwhile."""

    def __init__(self, slide_id: str, version: int):
        super().__init__(f"version {version} is not the next report of slide {slide_id}")


def list_reports(bind: EngineOrConnection, slide_id: str) -> list[Row]:
    """All versions of a slide's report, the first one first."""
    stmt = sa.select(SLIDE_REPORTS).where(SLIDE_REPORTS.c.slide == slide_id).order_by(SLIDE_REPORTS.c.version)
    with read_connection(bind) as connection:
        return [dict(row._mapping) for row in connection.execute(stmt)]


def _to_dict(row: sa.Row[Any] | None) -> Row | None:
    return None if row is None else dict(row._mapping)
