"""The policy of a slide's reading: what is fit, when to give no answer, what goes first. TOML, checked whole.

policy = ReadingPolicy.load("configs/policies/pathology.toml")
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from models.policy import config
from models.policy.config import Section, Share, Some, Text

Points = Annotated[int, Field(ge=0, le=100, strict=True)]
FACTORS = (  # what models/pathology/patient_risk.py can find; a policy gives each its points
    "hpv_16",
    "hpv_18",
    "hpv_other",
    "previous_high",
    "previous_low",
    "bleeding_after_menopause",
    "immunosuppressed",
)


class Fit(Section):
    tissue: Share
    coarser: Annotated[float, Field(ge=1, le=4, strict=True)]
    least_tissue: Share
    most_out_of_focus: Share
    most_pen: Share
    sample: Some


class Adequacy(Section):
    least_tiles: Some


class Abstain(Section):
    most_unknown: Share


class Triage(Section):
    positive_at: Share


class Evidence(Section):
    most: Annotated[int, Field(ge=1, le=200, strict=True)]


class Steps(Section):
    batch: Annotated[int, Field(ge=1, le=4_096, strict=True)]
    coarse: bool
    shares: Annotated[tuple[Annotated[float, Field(gt=0, lt=1, strict=True)], ...], Field(min_length=1)]
    unsure: Annotated[float, Field(ge=0, le=1, strict=True)]

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if list(self.shares) != sorted(set(self.shares)):
            raise ValueError(f"reading.shares are {list(self.shares)}; each must be above the one before")
        return self


class Priority(Section):
    positive: Points
    review: Points
    abstained: Points
    negative: Points
    severe: Points
    severe_classes: tuple[Text, ...]
    raised: Points
    urgent: Points


class Factor(Section):
    code: Text
    points: Points
    en: Text
    zh: Text


class Patient(Section):
    raised_from: Points
    urgent_from: Points
    factors: tuple[Factor, ...]

    @model_validator(mode="after")
    def _orderly(self) -> Self:
        codes = [factor.code for factor in self.factors]
        faults = [f"{code!r} is no factor; known are {', '.join(FACTORS)}" for code in codes if code not in FACTORS]
        if len(set(codes)) != len(codes):
            faults.append(f"factors {codes} must each stand once")
        if self.urgent_from <= self.raised_from:
            faults.append(f"urgent_from is {self.urgent_from}; it must be above raised_from, {self.raised_from}")
        if faults:
            raise ValueError("; ".join(faults))
        return self


class ReadingPolicy(Section):
    version: Text
    fit: Fit
    adequacy: Adequacy
    abstain: Abstain
    triage: Triage
    evidence: Evidence
    reading: Steps
    priority: Priority
    patient: Patient

    @model_validator(mode="after")
    def _urgent_goes_first(self) -> Self:
        """A positive slide never waits behind one that nothing was found on."""
        ranks = self.priority
        if not ranks.positive >= ranks.review >= ranks.negative or ranks.abstained < ranks.negative:
            raise ValueError(
                f"priority is positive {ranks.positive}, review {ranks.review}, abstained {ranks.abstained}, negative "
                f"{ranks.negative}; positive must not be below review, and nothing below negative"
            )
        if ranks.urgent < ranks.raised:
            raise ValueError(f"priority.urgent is {ranks.urgent}; it must not be below raised, {ranks.raised}")
        return self

    @classmethod
    def load(cls, source: Path | str | bytes) -> ReadingPolicy:
        """From a path or a file's bytes. Raises PolicyRefused."""
        return config.load(cls, source)
