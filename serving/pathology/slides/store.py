"""Slides in the store: made, moved through their states, told of, signed.

    slides.move(engine, slide, "deidentified", {"removed": ["label"]})     # one transaction; made already: False

Each function takes an engine, and then is a transaction of its own, or a connection, and then is part of what its
caller does there. Raises StoreUnavailable where it takes an engine. SQLite and PostgreSQL alike.
"""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy as sa

from serving.core.audit import entries, log
from serving.core.billing.prices import Prices
from serving.core.db.engine import Where, reading, writing
from serving.core.db.lookup import moments
from serving.core.db.schema import METER, SLIDE_EVENTS, SLIDE_REPORTS, SLIDES, UPLOADS
from serving.core.http.principal import OPEN
from serving.core.identifiers import now
from serving.pathology.slides import workers
from serving.pathology.slides.states import BEFORE, SIGNED, STATES, TO_REVIEW, UnknownSlide, WrongMove

Row = dict[str, Any]
PRODUCT = "pathology"

EMPTY: Row = {
    **dict.fromkeys(("code", "sha256", "accession", "specimen", "stain", "preparation", "request", "mpp")),
    **dict.fromkeys(("triage", "model", "version", "bundle", "reading")),
    "tenant": OPEN.tenant,
    **{"reasons": [], "notes": [], "name": "", "bytes": 0, "done": 0, "total": 0, "audit": False, "priority": 0},
}
GONE = ("failed", "cancelled")  # a slide of which the same may be sent again as a new one
REVIEWED = sa.or_(SLIDES.c.triage.is_(None), SLIDES.c.triage != "negative", SLIDES.c.audit)


# --- the slide


def create(where: Where, slide: str, state: str = "uploading", detail: Row | None = None, **columns: Any) -> None:
    """A new slide. `columns`: those of EMPTY that are known."""
    at = now()
    row = (
        EMPTY | columns | {"id": slide, "state": state, "created": at, "updated": at, "salt": os.urandom(entries.SALT)}
    )
    with writing(where) as connection:
        connection.execute(sa.insert(SLIDES).values(row))
        _event(connection, slide, "state", state, detail, at)


def move(
    where: Where,
    slide: str,
    to: str,
    detail: Row | None = None,
    *,
    by: str = "",
    prices: Prices | None = None,
    **columns: Any,
) -> bool:
    """True when the slide went to `to`; False, and nothing done, where it was there before. `columns` are set with it.

    A reading sets triage, priority, model, version and bundle of itself, and `reasons` sets the code. Raises WrongMove
    where `to` may not follow the slide's state, UnknownSlide, ValueError on an attempt to alter a reading, and GivenUp
    where it is moved `by` a worker that was given up. Its leaf in the log goes with it, and by `prices` a line of the
    meter where it brings the reading.
    """
    columns = _implied(columns)
    with writing(where) as connection:
        workers.still(connection, by)
        at = now()
        chosen = sa.update(SLIDES).where(SLIDES.c.id == slide, SLIDES.c.state.in_(BEFORE[to]))
        if "reading" in columns:
            chosen = chosen.where(SLIDES.c.reading.is_(None))
        if connection.execute(chosen.values(state=to, updated=at, **columns)).rowcount:
            _event(connection, slide, "state", to, detail, at, prices if "reading" in columns else None)
            return True
        found = connection.execute(sa.select(SLIDES.c.state, SLIDES.c.reading).where(SLIDES.c.id == slide)).first()
        if found is None:
            raise UnknownSlide(slide)
        been = sa.select(SLIDE_EVENTS.c.id).where(SLIDE_EVENTS.c.slide == slide, SLIDE_EVENTS.c.kind == "state")
        if connection.execute(been.where(SLIDE_EVENTS.c.state == to).limit(1)).first() is not None:
            return False
        if "reading" in columns and found.reading is not None:
            raise ValueError(f"slide {slide} has its reading; nobody alters one")
        raise WrongMove(slide, found.state, to)


def _implied(columns: Row) -> Row:
    reading, reasons = columns.get("reading"), columns.get("reasons")
    implied: Row = {}
    if reading is not None:
        implied |= {"triage": reading["triage"], "priority": reading["priority"]}
        implied |= {"model": reading["model"]["name"], **{k: reading["model"][k] for k in ("version", "bundle")}}
    if reasons:
        implied["code"] = reasons[0]["code"]
    return implied | columns


def progress(where: Where, slide: str, done: int, total: int, *, by: str = "") -> bool:
    """Tiles read so far, of those to read; False, and nothing done, where as many were told before or none are read.

    Raises GivenUp as `move` does.
    """
    with writing(where) as connection:
        workers.still(connection, by)
        at = now()
        more = sa.or_(SLIDES.c.done < done, SLIDES.c.total != total)
        chosen = sa.update(SLIDES).where(SLIDES.c.id == slide, SLIDES.c.state == "inferring", more)
        if not connection.execute(chosen.values(done=done, total=total, updated=at)).rowcount:
            return False
        _event(connection, slide, "progress", "inferring", {"done": done, "total": total}, at)
        return True


def note(where: Where, slide: str, detail: Row, **columns: Any) -> None:
    """An event that moves nothing, such as a scale that an operator gave. Raises UnknownSlide."""
    with writing(where) as connection:
        at = now()
        connection.execute(sa.update(SLIDES).where(SLIDES.c.id == slide).values(updated=at, **columns))
        state = connection.execute(sa.select(SLIDES.c.state).where(SLIDES.c.id == slide)).scalar()
        if state is None:
            raise UnknownSlide(slide)
        _event(connection, slide, "note", state, detail, at)


def _event(
    connection: sa.Connection,
    slide: str,
    kind: str,
    state: str,
    detail: Row | None,
    at: str,
    prices: Prices | None = None,
) -> None:
    """With its leaf, and by `prices` with its line of the meter. Progress waits for the next event's leaf."""
    row = {"slide": slide, "at": at, "kind": kind, "state": state, "detail": detail or {}}
    made = connection.execute(sa.insert(SLIDE_EVENTS).values(row)).inserted_primary_key
    assert made is not None, "of one row"
    if kind != "progress":
        _prove(connection, slide, kind, int(made[0]), at, prices)


def _prove(connection: sa.Connection, slide: str, kind: str, event: int, at: str, prices: Prices | None) -> None:
    found = _named(connection.execute(sa.select(SLIDES).where(SLIDES.c.id == slide)).first())
    assert found is not None, "it was written a moment ago"
    if found["salt"] is None:
        found["salt"] = os.urandom(entries.SALT)
        connection.execute(sa.update(SLIDES).where(SLIDES.c.id == slide).values(salt=found["salt"]))
    tenant, price, units = found["tenant"], None, int(found["state"] == "ready")  # what abstains costs nothing
    if prices is not None:
        price = prices.of(PRODUCT, tenant, at)
    told: Row = {}
    if price is not None:  # the reading, on what the patient authorised
        grant = (found["request"] or {}).get("authorisation")
        told = {"product": PRODUCT, "price": price.told(units)} | ({"authorisations": [grant]} if grant else {})
    mine = SLIDE_EVENTS.c.slide == slide, SLIDE_EVENTS.c.id < event
    before = sa.select(sa.func.max(SLIDE_EVENTS.c.id)).where(*mine, SLIDE_EVENTS.c.kind != "progress")
    since = connection.execute(before).scalar() or 0
    entry = entries.slide(f"slide_{kind}", found, moments(connection, slide, since, event), since, **told)
    leaf = log.append(connection, [entry])
    if price is not None:
        connection.execute(sa.insert(METER).values(price.charge(slide, tenant, PRODUCT, at, units) | {"leaf": leaf}))


def get(where: Where, slide: str, tenant: str | None = None) -> Row | None:
    """`tenant`: only where it is theirs."""
    chosen = sa.select(SLIDES).where(SLIDES.c.id == slide)
    if tenant is not None:
        chosen = chosen.where(SLIDES.c.tenant == tenant)
    with reading(where) as connection:
        return _named(connection.execute(chosen).first())


def in_state(where: Where, *states: str, most: int = 100) -> list[Row]:
    """The oldest `most` in any of these states, oldest first."""
    assert set(states) <= set(STATES), states
    chosen = sa.select(SLIDES).where(SLIDES.c.state.in_(states)).order_by(SLIDES.c.id).limit(most)
    with reading(where) as connection:
        return [dict(row._mapping) for row in connection.execute(chosen)]


def alike(where: Where, sha256: str, tenant: str) -> list[Row]:
    """A tenant's slides of this very content that were neither given up nor failed, oldest first."""
    chosen = sa.select(SLIDES).where(SLIDES.c.sha256 == sha256, SLIDES.c.tenant == tenant)
    chosen = chosen.where(SLIDES.c.state.not_in(GONE)).order_by(SLIDES.c.id)
    with reading(where) as connection:
        return [dict(row._mapping) for row in connection.execute(chosen)]


def worklist(
    where: Where,
    most: int,
    *,
    tenant: str = OPEN.tenant,
    after: str | None = None,
    state: str | None = None,
    specimen: str | None = None,
    accession: str | None = None,
    review: bool = False,
    signed: bool | None = None,
) -> list[Row]:
    """The tenant's first `most`, or those that come after the slide `after`: by priority, then the oldest first.
    `review`: those that wait for a pathologist, who sees every slide but the negatives that are not drawn for audit.
    Without readings.

    Raises UnknownSlide for an `after` that is none.
    """
    shown = [column for column in SLIDES.c if column.name != "reading"]
    chosen = (
        sa.select(*shown).where(SLIDES.c.tenant == tenant).order_by(SLIDES.c.priority.desc(), SLIDES.c.id).limit(most)
    )
    for column, wanted in ((SLIDES.c.state, state), (SLIDES.c.specimen, specimen), (SLIDES.c.accession, accession)):
        if wanted is not None:
            chosen = chosen.where(column == wanted)
    if signed is not None:
        chosen = chosen.where(SLIDES.c.state.in_(SIGNED) if signed else SLIDES.c.state.not_in(SIGNED))
    if review:
        chosen = chosen.where(SLIDES.c.state.in_(TO_REVIEW), REVIEWED)
    with reading(where) as connection:
        if after is not None:
            last = sa.select(SLIDES.c.priority).where(SLIDES.c.id == after, SLIDES.c.tenant == tenant)
            priority = connection.execute(last).scalar()
            if priority is None:
                raise UnknownSlide(after)
            same = sa.and_(SLIDES.c.priority == priority, SLIDES.c.id > after)
            chosen = chosen.where(sa.or_(SLIDES.c.priority < priority, same))
        return [dict(row._mapping) for row in connection.execute(chosen)]


def events_after(where: Where, slide: str, after: int = 0, most: int = 500) -> list[Row]:
    """What happened to a slide since the event `after`, in order."""
    chosen = sa.select(SLIDE_EVENTS).where(SLIDE_EVENTS.c.slide == slide, SLIDE_EVENTS.c.id > after)
    with reading(where) as connection:
        return [dict(row._mapping) for row in connection.execute(chosen.order_by(SLIDE_EVENTS.c.id).limit(most))]


# --- signed reports


def add_report(where: Where, slide: str, version: int, kind: str, body: Row, sha256: str, signer: str, at: str) -> None:
    """A signed or amended version, and the slide's move with it. Raises WrongMove, or VersionTaken."""
    with writing(where) as connection:
        # The move first: from then on no other transaction signs this slide.
        if not move(connection, slide, kind, {"version": version, "signer": signer}):
            raise WrongMove(slide, kind, kind)
        versions = sa.select(sa.func.max(SLIDE_REPORTS.c.version)).where(SLIDE_REPORTS.c.slide == slide)
        if version != (connection.execute(versions).scalar() or 0) + 1:
            raise VersionTaken(slide, version)
        row = {"slide": slide, "version": version, "kind": kind, "body": body, "sha256": sha256}
        row |= {"signer": signer, "at": at}
        signed = get(connection, slide)
        assert signed is not None, "it was moved a moment ago"
        leaf = log.append(connection, [entries.report(row, signed["salt"], signed["tenant"])])
        connection.execute(sa.insert(SLIDE_REPORTS).values(row | {"leaf": leaf}))


class VersionTaken(Exception):
    """Another report of this slide was signed meanwhile."""

    def __init__(self, slide: str, version: int):
        super().__init__(f"version {version} is not the next of slide {slide}'s reports")


def reports(where: Where, slide: str) -> list[Row]:
    """Every version, the first one first."""
    chosen = sa.select(SLIDE_REPORTS).where(SLIDE_REPORTS.c.slide == slide).order_by(SLIDE_REPORTS.c.version)
    with reading(where) as connection:
        return [dict(row._mapping) for row in connection.execute(chosen)]


# --- uploads


def create_upload(where: Where, upload: str, slide: str, length: int, sha256: str | None, metadata: Row) -> None:
    at = now()
    row = {"id": upload, "slide": slide, "length": length, "offset": 0, "sha256": sha256, "metadata": metadata}
    with writing(where) as connection:
        connection.execute(sa.insert(UPLOADS).values(row | {"state": "open", "created": at, "updated": at}))


def set_upload(where: Where, upload: str, **columns: Any) -> None:
    with writing(where) as connection:
        connection.execute(sa.update(UPLOADS).where(UPLOADS.c.id == upload).values(updated=now(), **columns))


def upload(where: Where, upload: str, tenant: str | None = None) -> Row | None:
    """`tenant`: only where its slide is theirs."""
    chosen = sa.select(UPLOADS).where(UPLOADS.c.id == upload)
    if tenant is not None:
        chosen = chosen.join(SLIDES, UPLOADS.c.slide == SLIDES.c.id).where(SLIDES.c.tenant == tenant)
    with reading(where) as connection:
        return _named(connection.execute(chosen).first())


def uploads(where: Where, state: str, tenant: str | None = None) -> list[Row]:
    """The oldest first, of everybody or of one."""
    chosen = sa.select(UPLOADS).where(UPLOADS.c.state == state).order_by(UPLOADS.c.id)
    if tenant is not None:
        chosen = chosen.join(SLIDES, UPLOADS.c.slide == SLIDES.c.id).where(SLIDES.c.tenant == tenant)
    with reading(where) as connection:
        return [dict(row._mapping) for row in connection.execute(chosen)]


def upload_of(where: Where, slide: str) -> Row | None:
    with reading(where) as connection:
        return _named(connection.execute(sa.select(UPLOADS).where(UPLOADS.c.slide == slide)).first())


def idle_uploads(where: Where, before: str) -> list[Row]:
    """Those of which nothing came since `before` and whose slide waits for more, or is given up."""
    waiting = SLIDES.c.state.in_(("uploading", *GONE))
    chosen = sa.select(UPLOADS).join(SLIDES, UPLOADS.c.slide == SLIDES.c.id)
    chosen = chosen.where(UPLOADS.c.state != "expired", UPLOADS.c.updated < before, waiting).order_by(UPLOADS.c.id)
    with reading(where) as connection:
        return [dict(row._mapping) for row in connection.execute(chosen)]


# --- requests that are done once


def _named(row: sa.Row[Any] | None) -> Row | None:
    return None if row is None else dict(row._mapping)
