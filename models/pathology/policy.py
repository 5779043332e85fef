"""The policy of reading a slide: which slides are fit, when to abstain, and the order of the worklist. From TOML.

policy = ReadingPolicy.load("configs/policies/pathology.toml")
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from models.policy.config import NonEmptyText, PositiveInt, Section, Share, load_section, raise_faults

PriorityPoints = Annotated[int, Field(ge=0, le=100, strict=True)]
RISK_FACTORS = (  # the factors that patient_risk.py recognises; a policy gives each its points
    "hpv_16",
    "hpv_18",
    "hpv_other",
    "previous_high",
    "previous_low",
    "bleeding_after_menopause",
    "immunosuppressed",
)


class FitPolicy(Section):
    min_tile_tissue: Share
    max_coarsening: Annotated[float, Field(ge=1, le=4, strict=True)]
    min_tissue: Share
    max_out_of_focus: Share
    max_pen: Share
    sample_tiles: PositiveInt


class AdequacyPolicy(Section):
    min_tiles: PositiveInt


class AbstentionPolicy(Section):
    max_unknown: Share


class TriagePolicy(Section):
    positive_at: Share


class EvidencePolicy(Section):
    max_tiles: Annotated[int, Field(ge=1, le=200, strict=True)]


class InferencePolicy(Section):
    batch_size: Annotated[int, Field(ge=1, le=4_096, strict=True)]
    focal_plane: Annotated[int, Field(ge=0, le=1_000, strict=True)] = 0  # of a stack, from 1; 0: each tile's sharpest


class PriorityPolicy(Section):
    positive: PriorityPoints
    review: PriorityPoints
    abstained: PriorityPoints
    negative: PriorityPoints
    severe: PriorityPoints
    severe_classes: tuple[NonEmptyText, ...]
    raised: PriorityPoints
    urgent: PriorityPoints


class RiskFactor(Section):
    code: NonEmptyText
    points: PriorityPoints
    en: NonEmptyText
    zh: NonEmptyText


class PatientRiskPolicy(Section):
    raised_from: PriorityPoints
    urgent_from: PriorityPoints
    factors: tuple[RiskFactor, ...]

    @model_validator(mode="after")
    def _check_factors(self) -> Self:
        codes = [factor.code for factor in self.factors]
        errors = [
            f"{code!r} is not a factor; it must be one of {', '.join(RISK_FACTORS)}"
            for code in codes
            if code not in RISK_FACTORS
        ]
        if len(set(codes)) != len(codes):
            errors.append(f"factors {codes} must each occur once")
        if self.urgent_from <= self.raised_from:
            errors.append(f"urgent_from is {self.urgent_from}; it must be above raised_from, {self.raised_from}")
        return raise_faults(self, errors)


class ReadingPolicy(Section):
    version: NonEmptyText
    fit: FitPolicy
    adequacy: AdequacyPolicy
    abstain: AbstentionPolicy
    triage: TriagePolicy
    evidence: EvidencePolicy
    reading: InferencePolicy
    priority: PriorityPolicy
    patient: PatientRiskPolicy

    @model_validator(mode="after")
    def _check_priority_order(self) -> Self:
        """A positive slide never waits behind one without findings."""
        points = self.priority
        if not points.positive >= points.review >= points.negative or points.abstained < points.negative:
            raise ValueError(
                f"priority is positive {points.positive}, review {points.review}, abstained {points.abstained}, "
                f"negative {points.negative}; positive must not be below review, and nothing below negative"
            )
        if points.urgent < points.raised:
            raise ValueError(f"priority.urgent is {points.urgent}; it must not be below raised, {points.raised}")
        return self

    @classmethod
    def load(cls, source: Path | str | bytes) -> ReadingPolicy:
        """Read the policy from a path or from a file's bytes. Raises PolicyError."""
        return load_section(cls, source)
