"""Check what the sandbox says about a slide: a process that decoded a hostile file may say anything."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from pydantic import TypeAdapter, ValidationError

from datasets.slides.decoding.metadata import SlideMetadata
from datasets.slides.errors import ISSUE_TEMPLATES, SlideIssue
from datasets.slides.limits import SlideLimits

MAX_LEVELS, MAX_STATEMENTS, MAX_NOTES, MAX_PLANES, MAX_ISSUES = 256, 10_000, 100, 10_000, 10_000
MAX_TEXT_CHARS = 10_000
MPP_SOURCES = ("", "file", "operator")
CODE = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class InvalidAnswerError(ValueError):
    """An answer that the sandbox's own code never gives."""


class RefusedError(Exception):
    """The sandbox refuses the slide."""

    def __init__(self, issues: list[SlideIssue]):
        self.issues = issues
        super().__init__(", ".join(issue.code for issue in issues))


def parse_json(line: bytes) -> Any:
    """JSON without NaN and Infinity. Raises InvalidAnswerError."""
    try:
        return json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidAnswerError("not JSON") from error


def parse_answer(line: bytes) -> dict[str, Any]:
    """The answer to a request, an object. Raises RefusedError for a refusal, InvalidAnswerError."""
    answer = parse_json(line)
    if not isinstance(answer, dict) or answer.keys() != {"refused", "answer"}:
        raise InvalidAnswerError("not an answer")
    if answer["refused"] is not None:
        raise RefusedError(parse_issues(answer["refused"]))
    if not isinstance(answer["answer"], dict):
        raise InvalidAnswerError("not an object")
    return answer["answer"]


def parse_issues(items: Any) -> list[SlideIssue]:
    """Why a slide is refused; at least one reason. Raises InvalidAnswerError."""
    try:
        issues = TypeAdapter(list[SlideIssue]).validate_python(items, strict=False)
    except ValidationError as error:
        raise InvalidAnswerError("not reasons") from error
    if not 1 <= len(issues) <= MAX_ISSUES:
        raise InvalidAnswerError(f"{len(issues):,} reasons")
    if any(issue.code not in ISSUE_TEMPLATES for issue in issues):
        raise InvalidAnswerError("an unknown reason")
    return [SlideIssue(issue.code, _plain_text(issue.en), _plain_text(issue.zh)) for issue in issues]


def parse_metadata(answer: dict[str, Any], limits: SlideLimits) -> SlideMetadata:
    """Raises InvalidAnswerError for anything that no slide within the limits has."""
    try:
        metadata = TypeAdapter(SlideMetadata).validate_json(json.dumps(answer), strict=True)
    except (ValidationError, RecursionError) as error:
        raise InvalidAnswerError("not the metadata of a slide") from error
    checks = {
        "format": CODE.fullmatch(metadata.format) is not None,
        "levels": _are_levels(metadata, limits),
        "mpp": _is_scale(metadata.mpp, limits) and _is_scale(metadata.stated, limits),
        "mpp_from": metadata.mpp_from in MPP_SOURCES and (metadata.mpp is None) == (metadata.mpp_from == ""),
        "scales": len(metadata.scales) <= MAX_STATEMENTS
        and all(len(each.source) <= MAX_TEXT_CHARS and _is_positive(each.x, each.y) for each in metadata.scales),
        "background": all(0 <= value <= 255 for value in metadata.background),
        "notes": len(metadata.notes) <= MAX_NOTES and all(CODE.fullmatch(note) for note in metadata.notes),
        "planes": 1 <= metadata.planes <= MAX_PLANES,
        "plane_spacing": metadata.plane_spacing is None or _is_positive(metadata.plane_spacing),
    }
    if wrong := [name for name, holds in checks.items() if not holds]:
        raise InvalidAnswerError(f"an impossible {', '.join(wrong)}")
    return metadata


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _are_levels(metadata: SlideMetadata, limits: SlideLimits) -> bool:
    levels = metadata.levels
    return (
        1 <= len(levels) <= MAX_LEVELS
        and all(1 <= side <= limits.side for level in levels for side in (level.width, level.height))
        and all(level.width * level.height <= limits.pixels for level in levels)
        and all(math.isfinite(level.downsample) and 0.5 <= level.downsample <= limits.side for level in levels)
        and all(level.width <= levels[0].width * 1.01 + 1 for level in levels)
    )


def _is_scale(scale: tuple[float, float] | None, limits: SlideLimits) -> bool:
    return scale is None or all(limits.finest_mpp <= value <= limits.coarsest_mpp for value in scale)


def _is_positive(*values: float) -> bool:
    return all(math.isfinite(value) and 0 < value < 1e9 for value in values)


def _plain_text(text: str) -> str:
    """Of bounded length, and without what steers a terminal."""
    text = text[:MAX_TEXT_CHARS]
    return text if text.isprintable() else "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
