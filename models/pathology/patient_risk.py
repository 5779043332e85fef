"""Assess the patient's risk apart from the image: it may raise the priority of a slide and never lowers anything.

risk = assess_risk(form, policy.patient)       # None if the form has nothing that counts
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from models.pathology.policy import PatientRiskPolicy, RiskFactor

HIGH_GRADE_RESULTS = ("ASC-H", "HSIL", "AGC", "SCC", "AIS", "ADENOCARCINOMA")  # of a previous result
LOW_GRADE_RESULTS = ("ASC-US", "LSIL")
RISK_FIELDS = ("hpv_result", "hpv_genotype", "previous_result", "menopause", "context")


class RiskReason(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    points: int
    en: str
    zh: str


class PatientRisk(BaseModel):
    """points: sum over the present factors, at most 100. unknown: empty fields of the form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: int
    level: Literal["routine", "raised", "urgent"]
    reasons: tuple[RiskReason, ...]
    unknown: tuple[str, ...]


def assess_risk(form: Mapping[str, Any], policy: PatientRiskPolicy) -> PatientRisk | None:
    """Assess a request form. A context field counts only if it names its source and its authorisation."""
    unknown = tuple(name for name in RISK_FIELDS if form.get(name) in (None, "", "unknown", [], {}))
    if len(unknown) == len(RISK_FIELDS):
        return None
    present_codes = _present_factors(form)
    present = [factor for factor in policy.factors if factor.code in present_codes]
    points = min(sum(factor.points for factor in present), 100)
    level: Literal["routine", "raised", "urgent"] = (
        "urgent" if points >= policy.urgent_from else "raised" if points >= policy.raised_from else "routine"
    )
    return PatientRisk(points=points, level=level, reasons=tuple(map(_to_reason, present)), unknown=unknown)


def _to_reason(factor: RiskFactor) -> RiskReason:
    return RiskReason(code=factor.code, points=factor.points, en=factor.en, zh=factor.zh)


def _present_factors(form: Mapping[str, Any]) -> set[str]:
    codes: set[str] = set()
    if form.get("hpv_result") == "positive":
        genotypes = {str(genotype) for genotype in form.get("hpv_genotype") or ()}
        codes |= {f"hpv_{genotype}" for genotype in ("16", "18") if genotype in genotypes}
        if genotypes - {"16", "18"} or not genotypes:
            codes.add("hpv_other")
    previous = form.get("previous_result")
    if previous in HIGH_GRADE_RESULTS:
        codes.add("previous_high")
    if previous in LOW_GRADE_RESULTS:
        codes.add("previous_low")
    context = {
        str(field.get("name")): field.get("value")
        for field in form.get("context") or ()
        if field.get("source") and field.get("authorisation")
    }
    if form.get("menopause") == "after" and context.get("bleeding") is True:
        codes.add("bleeding_after_menopause")
    if context.get("immunosuppressed") is True:
        codes.add("immunosuppressed")
    return codes
