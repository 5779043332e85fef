"""GET /v1/slides/turnaround: slides by state, and the turnaround times of the last 30 days.

A slide has arrived when it has been received completely; it has been read when its reading is ready or the AI has
abstained. The times cover only slides that are done, so slides that still wait are counted separately, whenever they
arrived.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from serving.core.http.request import JSONResponse, Request, Response
from serving.core.http.validation import RequestModel, parse_query
from serving.core.identifiers import utc_now
from serving.pathology.context import SlideContext
from serving.pathology.slides import turnaround as turnaround_store
from serving.pathology.slides.states import STATES

WINDOW_DAYS = 30
MAX_SLIDES = 10_000  # the newest slides, over which times are computed


async def turnaround_response(context: SlideContext, request: Request) -> Response:
    """Answer the request. Raises ProblemError for a query parameter."""
    parse_query(request, RequestModel)  # the route takes none
    tenant, since = request.principal.tenant, datetime.now(UTC) - timedelta(days=WINDOW_DAYS)
    first_id = f"{int(since.timestamp() * 1_000):012x}"  # ids begin with the time of their creation
    counts = await context.read(turnaround_store.count_by_state, tenant)
    state_times = await context.read(turnaround_store.state_times, tenant, first_id, MAX_SLIDES)
    payload = {
        "days": WINDOW_DAYS,
        "slides": len(state_times),
        "states": {state: counts.get(state, 0) for state in STATES},
    }
    payload["awaiting"] = await context.read(turnaround_store.count_awaiting_review, tenant)
    return JSONResponse(
        payload | turnaround_stats(state_times, await context.read(turnaround_store.waiting_summary, tenant))
    )


def turnaround_stats(
    state_times: Sequence[dict[str, str]], waiting: Mapping[str, tuple[int, str]] | None = None
) -> dict[str, Any]:
    """Statistics, in seconds, of the times from arrival to reading and to signature.

    state_times: per slide, state -> when it was first reached. waiting: as turnaround_store.waiting_summary.
    """
    read_seconds, signed_seconds = [], []
    for times in state_times:
        if turnaround_store.ARRIVAL_STATE not in times:
            continue
        arrived = datetime.fromisoformat(times[turnaround_store.ARRIVAL_STATE])
        if result_times := [times[state] for state in turnaround_store.RESULT_STATES if state in times]:
            read_seconds.append(_elapsed_seconds(arrived, min(result_times)))
        if turnaround_store.SIGNED_STATE in times:
            signed_seconds.append(_elapsed_seconds(arrived, times[turnaround_store.SIGNED_STATE]))
    stats = {"to_reading": _summarise(read_seconds), "to_signature": _summarise(signed_seconds)}
    for name, summary in stats.items():
        count, first_arrival = (waiting or {}).get(name, (0, None))
        longest_wait = (
            None if first_arrival is None else _elapsed_seconds(datetime.fromisoformat(first_arrival), utc_now())
        )
        stats[name] = summary | {"waiting": count, "longest_wait_seconds": longest_wait}
    return stats


def _elapsed_seconds(arrived: datetime, timestamp: str) -> float:
    return (datetime.fromisoformat(timestamp) - arrived).total_seconds()


def _summarise(seconds: list[float]) -> dict[str, Any]:
    """Number, median, and 90th percentile by the nearest-rank method."""
    if not seconds:
        return {"slides": 0, "median_seconds": None, "p90_seconds": None}
    ordered = sorted(seconds)
    p90 = ordered[math.ceil(0.9 * len(ordered)) - 1]
    return {"slides": len(ordered), "median_seconds": statistics.median(ordered), "p90_seconds": p90}
