"""How many slides a tenant has, by state and awaiting a pathologist; when the newest arrived, were read and signed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from serving.core.db.engine import Where, reading
from serving.core.db.schema import SLIDE_EVENTS, SLIDES
from serving.pathology.slides.states import UNFINISHED
from serving.pathology.slides.store import REVIEWED

ARRIVED, READ, SIGNED = "verifying", ("ready", "abstained"), "signed"


def states(where: Where, tenant: str) -> dict[str, int]:
    counted = sa.select(SLIDES.c.state, sa.func.count()).where(SLIDES.c.tenant == tenant).group_by(SLIDES.c.state)
    with reading(where) as connection:
        return {state: count for state, count in connection.execute(counted)}


def awaiting(where: Where, tenant: str) -> int:
    """Those read or abstained from that a pathologist is to open: no negative that was not drawn for audit."""
    counted = sa.select(sa.func.count()).where(SLIDES.c.tenant == tenant, SLIDES.c.state.in_(READ), REVIEWED)
    with reading(where) as connection:
        return int(connection.execute(counted).scalar_one())


def moments(where: Where, tenant: str, since: str, most: int) -> list[dict[str, str]]:
    """State -> when it was first reached, of the tenant's newest `most` slides from the id `since` on."""
    mine = sa.select(SLIDES.c.id).where(SLIDES.c.tenant == tenant, SLIDES.c.id >= since)
    mine = mine.order_by(SLIDES.c.id.desc()).limit(most)
    with reading(where) as connection:
        return reached(connection, mine)


def reached(connection: sa.Connection, which: Any) -> list[dict[str, str]]:
    """The same of the slides whose ids are `which`: a list, or a query."""
    chosen = (
        sa.select(SLIDE_EVENTS.c.slide, SLIDE_EVENTS.c.state, sa.func.min(SLIDE_EVENTS.c.at))
        .where(SLIDE_EVENTS.c.slide.in_(which), SLIDE_EVENTS.c.kind == "state")
        .where(SLIDE_EVENTS.c.state.in_((ARRIVED, *READ, SIGNED)))
        .group_by(SLIDE_EVENTS.c.slide, SLIDE_EVENTS.c.state)
    )
    found: dict[str, dict[str, str]] = {}
    for slide, state, at in connection.execute(chosen):
        found.setdefault(slide, {})[state] = at
    return list(found.values())


def waiting(where: Where, tenant: str) -> dict[str, tuple[int, str]]:
    """Of the slides that arrived, whenever that was: how many wait for what, and when the first of them arrived.
    to_signature: those read that a pathologist is to open, or has before them."""
    looked_at = sa.or_(SLIDES.c.state == "in_review", sa.and_(SLIDES.c.state.in_(READ), REVIEWED))
    what = sa.case((SLIDES.c.state.in_(UNFINISHED), "to_reading"), (looked_at, "to_signature"))
    chosen = (
        sa.select(what, sa.func.count(SLIDES.c.id.distinct()), sa.func.min(SLIDE_EVENTS.c.at))
        .join(SLIDE_EVENTS, SLIDE_EVENTS.c.slide == SLIDES.c.id)
        .where(SLIDES.c.tenant == tenant, SLIDE_EVENTS.c.kind == "state", SLIDE_EVENTS.c.state == ARRIVED)
        .where(SLIDES.c.state.in_((*UNFINISHED, *READ, "in_review")))
        .group_by(what)
    )
    with reading(where) as connection:
        return {name: (many, first) for name, many, first in connection.execute(chosen) if name is not None}
