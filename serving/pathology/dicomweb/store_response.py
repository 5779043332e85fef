"""The response to STOW-RS: which instances were stored and which were not, as DICOM JSON (PS3.18, annex I.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serving.pathology.originals.dicom_header import DicomHeader

MEDIA_TYPE = "application/dicom+json"
OUT_OF_RESOURCES, PROCESSING_FAILURE, OTHER_CONTENT = 0xA700, 0x0110, 0x0111  # 0x0111: duplicate SOP instance
CLASS_NOT_SUPPORTED, NOT_UNDERSTOOD, OTHER_STUDY = 0x0122, 0xC000, 0xA900

RETRIEVE_URL, FAILURE_REASON = "00081190", "00081197"
FAILED_SEQUENCE, STORED_SEQUENCE, OTHER_FAILURES_SEQUENCE = "00081198", "00081199", "0008119A"
REFERENCED_CLASS, REFERENCED_INSTANCE = "00081150", "00081155"


@dataclass(frozen=True, slots=True)
class InstanceOutcome:
    """header: None of a file that is no DICOM. slide_id: of the slide that the instance is part of; None of a failure,
    which has a reason."""

    header: DicomHeader | None
    slide_id: str | None = None
    failure: int = 0


def status_of(outcomes: Sequence[InstanceOutcome]) -> int:
    """200 if all instances were stored, 202 if some were, 409 if none was."""
    stored = sum(outcome.slide_id is not None for outcome in outcomes)
    return 200 if stored == len(outcomes) else 202 if stored else 409


def render(outcomes: Sequence[InstanceOutcome]) -> dict[str, Any]:
    """The data set of the response."""
    stored = [_reference(outcome) for outcome in outcomes if outcome.slide_id is not None]
    failed = [_reference(outcome) for outcome in outcomes if outcome.slide_id is None and outcome.header is not None]
    others = [_reference(outcome) for outcome in outcomes if outcome.header is None]
    slides = list(dict.fromkeys(outcome.slide_id for outcome in outcomes if outcome.slide_id is not None))
    sequences = ((FAILED_SEQUENCE, failed), (STORED_SEQUENCE, stored), (OTHER_FAILURES_SEQUENCE, others))
    dataset = {RETRIEVE_URL: _element("UR", _slide_url(slides[0]))} if len(slides) == 1 else {}
    return dataset | {tag: {"vr": "SQ", "Value": items} for tag, items in sequences if items}


def _reference(outcome: InstanceOutcome) -> dict[str, Any]:
    item = {}
    if outcome.header is not None:
        item[REFERENCED_CLASS] = _element("UI", outcome.header.sop_class)
        item[REFERENCED_INSTANCE] = _element("UI", outcome.header.instance)
    if outcome.slide_id is not None:
        item[RETRIEVE_URL] = _element("UR", _slide_url(outcome.slide_id))
    else:
        item[FAILURE_REASON] = _element("US", outcome.failure)
    return item


def _slide_url(slide_id: str) -> str:
    """Where the slide of an instance is followed; instances themselves are not given out again."""
    return f"/v1/slides/{slide_id}"


def _element(vr: str, value: str | int) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}
