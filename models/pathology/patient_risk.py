"""What is known of the patient beside the image: a separate statement that may raise a priority and lowers nothing.

told = judge(form, policy.patient)       # None where neither form nor record says anything that counts
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from models.pathology.policy import Factor, Patient

HIGH = ("ASC-H", "HSIL", "AGC", "SCC", "AIS", "ADENOCARCINOMA")  # of a previous result
LOW = ("ASC-US", "LSIL")
ASKED = ("hpv_result", "hpv_genotype", "previous_result", "menopause", "context")


class Reason(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    points: int
    en: str
    zh: str


class PatientRisk(BaseModel):
    """points: of the factors found, 100 at most; `unknown`: fields of the form that nobody filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: int
    level: Literal["routine", "raised", "urgent"]
    reasons: tuple[Reason, ...]
    unknown: tuple[str, ...]


def judge(form: Mapping[str, Any], policy: Patient) -> PatientRisk | None:
    """`form`: the request form; a context field counts only where it names its source and its authorisation."""
    unknown = tuple(name for name in ASKED if form.get(name) in (None, "", "unknown", [], {}))
    if len(unknown) == len(ASKED):
        return None
    there = _found(form)
    found = [factor for factor in policy.factors if factor.code in there]
    points = min(sum(factor.points for factor in found), 100)
    level: Literal["routine", "raised", "urgent"] = (
        "urgent" if points >= policy.urgent_from else "raised" if points >= policy.raised_from else "routine"
    )
    return PatientRisk(points=points, level=level, reasons=tuple(map(_reason, found)), unknown=unknown)


def _reason(factor: Factor) -> Reason:
    return Reason(code=factor.code, points=factor.points, en=factor.en, zh=factor.zh)


def _found(form: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    if form.get("hpv_result") == "positive":
        types = {str(one) for one in form.get("hpv_genotype") or ()}
        found |= {f"hpv_{one}" for one in ("16", "18") if one in types}
        if types - {"16", "18"} or not types:
            found.add("hpv_other")
    previous = form.get("previous_result")
    if previous in HIGH:
        found.add("previous_high")
    if previous in LOW:
        found.add("previous_low")
    context = {
        str(field.get("name")): field.get("value")
        for field in form.get("context") or ()
        if field.get("source") and field.get("authorisation")
    }
    if form.get("menopause") == "after" and context.get("bleeding") is True:
        found.add("bleeding_after_menopause")
    if context.get("immunosuppressed") is True:
        found.add("immunosuppressed")
    return found
