"""The focal planes of a stack: which one is read, and what a reading says of them.

Persons and programs count planes from 1, at the slide, upwards; the reader counts them from 0. No plane means that each
tile is read in the plane where it is sharpest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets.slides.decoding.metadata import SlideMetadata
from datasets.slides.errors import SlideError, SlideIssue, slide_issue
from models.pathology.policy import ReadingPolicy

Row = dict[str, Any]
REQUEST_FIELD = "focal_plane"


def requested_plane(request_form: Mapping[str, Any] | None) -> int | None:
    """The plane that the request form names, from 1."""
    return (request_form or {}).get(REQUEST_FIELD)


def missing_plane(plane: int | None, planes: int) -> SlideIssue | None:
    """Why a plane, from 1, cannot be read."""
    return None if plane is None or plane <= planes else slide_issue("no_such_plane", actual=plane, planes=planes)


def chosen_plane(metadata: SlideMetadata, row: Row, policy: ReadingPolicy) -> int | None:
    """The plane to read, from 0: that of the request form, or else of the policy. Raises SlideError."""
    if metadata.planes == 1:
        return None
    plane = requested_plane(row["request"]) or policy.reading.focal_plane or None
    if issue := missing_plane(plane, metadata.planes):
        raise SlideError(row["name"], [issue])
    return None if plane is None else plane - 1


def describe_planes(facts: Mapping[str, Any]) -> Row:
    """What the reading says. facts: of the slide's grid, which earlier versions wrote without planes."""
    plane = facts.get("plane")
    return {
        "planes": facts.get("planes", 1),
        "plane_spacing": facts.get("plane_spacing"),
        "plane": None if plane is None else plane + 1,
    }


def planes_text(slide: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which planes were read, in English and in Chinese; None without a stack. slide: as the reading has it."""
    planes, spacing, plane = slide.get("planes", 1), slide.get("plane_spacing"), slide.get("plane")
    if planes == 1:
        return None
    apart, apart_zh = (f", {spacing:g} µm apart", f"，间距 {spacing:g} µm") if spacing else ("", "")
    if plane is None:
        return (
            f"{planes} focal planes{apart}; each tile in the sharpest",
            f"{planes} 个焦平面{apart_zh}；各图块取最清晰者",
        )
    return (
        f"focal plane {plane} of {planes}{apart}, counted from the slide",
        f"共 {planes} 个焦平面{apart_zh}；判读自玻片起第 {plane} 个",
    )
