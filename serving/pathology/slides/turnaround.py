"""Query a tenant's slides: counts by state, and the times at which they arrived, were read and were signed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from serving.core.db.engine import EngineOrConnection, read_connection
from serving.core.db.schema import SLIDE_EVENTS, SLIDES
from serving.pathology.slides.states import UNFINISHED
from serving.pathology.slides.store import NEEDS_REVIEW

ARRIVAL_STATE, RESULT_STATES, SIGNED_STATE = "verifying", ("ready", "abstained"), "signed"


def count_by_state(bind: EngineOrConnection, tenant: str) -> dict[str, int]:
    """State -> number of slides; states without slides are left out."""
    stmt = sa.select(SLIDES.c.state, sa.func.count()).where(SLIDES.c.tenant == tenant).group_by(SLIDES.c.state)
    with read_connection(bind) as connection:
        return {state: count for state, count in connection.execute(stmt)}


def count_awaiting_review(bind: EngineOrConnection, tenant: str) -> int:
    """The number of slides with a result, or an abstention, that await a pathologist; negatives only if selected for
    audit."""
    stmt = sa.select(sa.func.count()).where(SLIDES.c.tenant == tenant, SLIDES.c.state.in_(RESULT_STATES), NEEDS_REVIEW)
    with read_connection(bind) as connection:
        return int(connection.execute(stmt).scalar_one())


def state_times(bind: EngineOrConnection, tenant: str, first_id: str, limit: int) -> list[dict[str, str]]:
    """For each of the tenant's newest `limit` slides from `first_id` on: state -> when it was first reached."""
    slide_ids = sa.select(SLIDES.c.id).where(SLIDES.c.tenant == tenant, SLIDES.c.id >= first_id)
    slide_ids = slide_ids.order_by(SLIDES.c.id.desc()).limit(limit)
    with read_connection(bind) as connection:
        return first_reached(connection, slide_ids)


def first_reached(connection: sa.Connection, slide_ids: Any) -> list[dict[str, str]]:
    """For each of the slides whose ids a query selects: state -> when it was first reached."""
    stmt = (
        sa.select(SLIDE_EVENTS.c.slide, SLIDE_EVENTS.c.state, sa.func.min(SLIDE_EVENTS.c.at))
        .where(SLIDE_EVENTS.c.slide.in_(slide_ids), SLIDE_EVENTS.c.kind == "state")
        .where(SLIDE_EVENTS.c.state.in_((ARRIVAL_STATE, *RESULT_STATES, SIGNED_STATE)))
        .group_by(SLIDE_EVENTS.c.slide, SLIDE_EVENTS.c.state)
    )
    times_by_slide: dict[str, dict[str, str]] = {}
    for slide_id, state, timestamp in connection.execute(stmt):
        times_by_slide.setdefault(slide_id, {})[state] = timestamp
    return list(times_by_slide.values())


def waiting_summary(bind: EngineOrConnection, tenant: str) -> dict[str, tuple[int, str]]:
    """Slides that arrived at any time and are not done: "to_reading" or "to_signature" -> (how many, first arrival).

    "to_signature" counts the slides that await a pathologist and those under review.
    """
    awaiting_signature = sa.or_(SLIDES.c.state == "in_review", sa.and_(SLIDES.c.state.in_(RESULT_STATES), NEEDS_REVIEW))
    waiting_for = sa.case((SLIDES.c.state.in_(UNFINISHED), "to_reading"), (awaiting_signature, "to_signature"))
    stmt = (
        sa.select(waiting_for, sa.func.count(SLIDES.c.id.distinct()), sa.func.min(SLIDE_EVENTS.c.at))
        .join(SLIDE_EVENTS, SLIDE_EVENTS.c.slide == SLIDES.c.id)
        .where(SLIDES.c.tenant == tenant, SLIDE_EVENTS.c.kind == "state", SLIDE_EVENTS.c.state == ARRIVAL_STATE)
        .where(SLIDES.c.state.in_((*UNFINISHED, *RESULT_STATES, "in_review")))
        .group_by(waiting_for)
    )
    with read_connection(bind) as connection:
        return {
            name: (count, first_arrival) for name, count, first_arrival in connection.execute(stmt) if name is not None
        }
