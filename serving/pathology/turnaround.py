"""GET /v1/slides/turnaround: slides by state, and how long those of the last 30 days took from arrival on.

A slide has arrived when the whole of it is here; it is read when its reading is ready, or the AI gave no answer.
The times are of those that are done alone, so those that still wait are told beside them, however long ago they came.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from serving.core.http.problems import Problem
from serving.core.http.request import Call, Reply, query
from serving.core.identifiers import now
from serving.pathology.context import Desk
from serving.pathology.slides import turnaround as store
from serving.pathology.slides.states import STATES

DAYS = 30
MOST = 10_000  # slides whose times are looked at, the newest


async def reply(desk: Desk, call: Call) -> Reply:
    _, faults = query(call, ())
    if faults:
        raise Problem("bad_parameter", errors=faults)
    tenant, since = call.caller.tenant, datetime.now(UTC) - timedelta(days=DAYS)
    first = f"{int(since.timestamp() * 1_000):012x}"  # ids begin with their time
    counts = await desk.read(store.states, tenant)
    moments = await desk.read(store.moments, tenant, first, MOST)
    told = {"days": DAYS, "slides": len(moments), "states": {state: counts.get(state, 0) for state in STATES}}
    told["awaiting"] = await desk.read(store.awaiting, tenant)
    return Reply(orjson.dumps(told | figures(moments, await desk.read(store.waiting, tenant))))


def figures(moments: Sequence[dict[str, str]], waiting: Mapping[str, tuple[int, str]] | None = None) -> dict[str, Any]:
    """From the times at which slides reached their states: how long until they were read and until they were signed.
    `waiting`: what of -> how many, and when the first of them arrived."""
    read, signed = [], []
    for at in moments:
        if store.ARRIVED not in at:
            continue
        arrived = datetime.fromisoformat(at[store.ARRIVED])
        if answered := [at[state] for state in store.READ if state in at]:
            read.append(_seconds(arrived, min(answered)))
        if store.SIGNED in at:
            signed.append(_seconds(arrived, at[store.SIGNED]))
    told = {"to_reading": _spread(read), "to_signature": _spread(signed)}
    for name, spread in told.items():
        many, first = (waiting or {}).get(name, (0, None))
        longest = None if first is None else _seconds(datetime.fromisoformat(first), now())
        told[name] = spread | {"waiting": many, "longest_wait_seconds": longest}
    return told


def _seconds(arrived: datetime, at: str) -> float:
    return (datetime.fromisoformat(at) - arrived).total_seconds()


def _spread(seconds: list[float]) -> dict[str, Any]:
    """Median, and the 90th percentile by nearest rank: the time within which nine of ten were done."""
    if not seconds:
        return {"slides": 0, "median_seconds": None, "p90_seconds": None}
    ordered = sorted(seconds)
    tenth = ordered[math.ceil(0.9 * len(ordered)) - 1]
    return {"slides": len(ordered), "median_seconds": statistics.median(ordered), "p90_seconds": tenth}
