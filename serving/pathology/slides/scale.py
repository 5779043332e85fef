"""The scale of a slide whose file states none, or contradicts itself or its sender: the slide waits for a person.

reason = confirmation_reason(metadata.scales, row["mpp"])       # the values and where they stand; None if all agree
confirm(connection, slide_id, 0.25, "clinic-7")                  # the slide proceeds; the log names who confirmed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from datasets.slides.scale import ScaleStatement, confirmation_conflict, resolve_scale, scale_issue
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.states import InvalidTransitionError, SlideNotFoundError

Row = dict[str, Any]
WAITING_STATE = "awaiting_scale"
CONFIRMED = "scale_confirmed"
MPP_FIELD = "mpp of the request form"


def confirmation_reason(statements: Sequence[ScaleStatement], requested_mpp: float | None) -> Row | None:
    """The reason for which a slide waits, with all values that differ and their sources; None if it need not wait.

    A magnification is no scale, but a person who looks one up should see it.
    """
    requested = None if requested_mpp is None else ScaleStatement(MPP_FIELD, requested_mpp, requested_mpp)
    conflict = confirmation_conflict(statements, requested)
    if not conflict and (requested is not None or resolve_scale(statements) is not None):
        return None
    conflict = conflict or tuple(statements)
    values = [{"source": each.source, "x": each.x, "y": each.y} for each in conflict]
    return asdict(scale_issue(conflict)) | {"scales": values}


def is_confirmed(row: Row) -> bool:
    return any(note["code"] == CONFIRMED for note in row["notes"])


def confirm(connection: sa.Connection, slide_id: str, mpp: float, confirmed_by: str) -> None:
    """Give the slide its scale and let it proceed. Raises SlideNotFoundError, and InvalidTransitionError if it does not
    wait for its scale.
    """
    slide = slide_store.get(connection, slide_id)
    if slide is None:
        raise SlideNotFoundError(slide_id)
    if slide["state"] != WAITING_STATE:
        raise InvalidTransitionError(slide_id, slide["state"], "verifying")
    note = {
        "code": CONFIRMED,
        "en": f"{mpp:g} microns per pixel were confirmed by {confirmed_by}.",
        "zh": f"每像素 {mpp:g} 微米，由 {confirmed_by} 确认。",
    }
    detail = {"code": CONFIRMED, "mpp": mpp, "by": confirmed_by, "reasons": slide["reasons"]}
    columns: Row = {"mpp": mpp, "notes": [*slide["notes"], note], "reasons": [], "code": None}
    slide_store.transition(connection, slide_id, "verifying", detail, **columns)
