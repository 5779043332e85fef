"""A credit policy: every number that a risk officer could argue about, from one TOML file.

policy = Policy.load("configs/policies/credit_limit.toml")     # or its bytes; PolicyError tells every fault together
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, model_validator

from models.policy import config
from models.policy.config import (
    Amount,
    BilingualText,
    Count,
    Currency,
    FiniteFloat,
    Grade,
    NonEmptyText,
    PositiveFloat,
    PositiveInt,
    Section,
    Share,
    enforces_guardrails,
)

# The contract's own limits of a policy (the guard rails of the morality bank), not settings.
MAX_UPLIFT = 0.50
MAX_SELF_WEIGHT = 0.10
MIN_RATERS = 5


class CreditProductPolicy(Section):
    """Amounts in the policy's currency, rates a year."""

    cap: PositiveFloat
    legal_cap: PositiveFloat
    minimum: Amount  # a smaller limit goes to a person
    rounding: PositiveFloat
    term_months: PositiveInt
    annual_rate: Share
    funding_rate: Share
    asset_based: bool

    @model_validator(mode="after")
    def _check_amounts(self, info: ValidationInfo) -> CreditProductPolicy:
        if self.minimum % self.rounding:
            raise ValueError(f"minimum {self.minimum:g} must be a multiple of rounding {self.rounding:g}")
        if enforces_guardrails(info) and self.cap > self.legal_cap:
            raise ValueError(f"cap {self.cap:g} must not be above legal_cap {self.legal_cap:g}")
        return self


class AffordabilityPolicy(Section):
    max_dsr: Share  # debt service per net income, this loan included
    rate_stress: Amount  # added to the annual rate
    net_income_share: Share  # net of tax and contributions, per declared income


class UtilisationPolicy(Section):
    """Factor on the loss budget by use of existing lines: linear between the points, flat beyond them."""

    at: tuple[Amount, ...]
    factor: tuple[Share, ...]
    missing: Share

    @model_validator(mode="after")
    def _check_points(self, info: ValidationInfo) -> UtilisationPolicy:
        if not self.at or len(self.at) != len(self.factor):
            raise ValueError(f"{len(self.at)} in at, {len(self.factor)} in factor; each point needs one of both")
        if any(b <= a for a, b in zip(self.at, self.at[1:], strict=False)):
            raise ValueError(f"at = {list(self.at)} must rise from each point to the next")
        if enforces_guardrails(info) and any(b > a for a, b in zip(self.factor, self.factor[1:], strict=False)):
            raise ValueError(f"factor = {list(self.factor)} must never rise: more use of lines earns no larger limit")
        return self


class CreditRiskPolicy(Section):
    lgd: PositiveFloat  # loss given default, share of the exposure
    ccf: PositiveFloat  # share of the line drawn at default
    pd_floor: Annotated[float, Field(gt=0, lt=1, strict=True)]
    grades: tuple[Grade, ...]
    floor_grade: NonEmptyText  # the worst grade that a machine may approve
    utilisation: UtilisationPolicy

    @model_validator(mode="after")
    def _check_grades(self, info: ValidationInfo) -> CreditRiskPolicy:
        faults = config.find_grade_faults(self.grades, self.floor_grade, info)
        if faults:
            raise ValueError("; ".join(faults))
        return self


class HaircutPolicy(Section):
    """Share of each asset's value that counts as backing."""

    housing: Share
    land_use_rights: Share
    equipment: Share
    deposits: Share


class ConductPolicy(Section):
    """The morality bank's uplift: m = 1 + u * clip((S - qualify) / span, 0, 1). Points are of the 110-point account.

    S shrinks to programme_mean by tau^2 n / (tau^2 n + s^2): tau the spread between households, s that between the n
    raters of one (the reliability of a mean of n ratings: Spearman-Brown; Bühlmann's credibility).
    """

    u: Amount
    cap: Amount  # most that conduct can add, in the policy's currency
    qualify: FiniteFloat
    span: PositiveFloat
    self_weight: Share
    programme_mean: FiniteFloat
    household_sd: PositiveFloat
    least_rater_sd: PositiveFloat  # raters who agree more than this agreed beforehand
    unknown_leniency: FiniteFloat  # taken off where a village's leniency is not known
    min_raters: Count

    @model_validator(mode="after")
    def _check_contract_limits(self, info: ValidationInfo) -> ConductPolicy:
        faults = []
        if self.u > MAX_UPLIFT:
            faults.append(f"u is {self.u:g}; it must be {MAX_UPLIFT:.2f} or less")
        if self.self_weight > MAX_SELF_WEIGHT:
            faults.append(f"self_weight is {self.self_weight:g}; it must be {MAX_SELF_WEIGHT:.2f} or less")
        if self.min_raters < MIN_RATERS:
            faults.append(f"min_raters is {self.min_raters}; it must be {MIN_RATERS} or more")
        if faults and enforces_guardrails(info):
            raise ValueError("; ".join(faults))
        return self


class ImprovementAction(Section):
    """A change within a household's power: `step` added to an indicator, no further than `end`."""

    indicator: NonEmptyText
    step: FiniteFloat
    end: FiniteFloat
    en: NonEmptyText
    zh: NonEmptyText

    @model_validator(mode="after")
    def _check_step(self) -> ImprovementAction:
        if self.step == 0:
            raise ValueError("step is 0; it must be above or below 0")
        return self


class Policy(Section):
    """`vetoes`: statutory codes that send an application to a person, each with its words."""

    name: NonEmptyText
    version: NonEmptyText
    currency: Currency
    money: BilingualText  # what its unit is called in a sentence
    min_age: Count  # full legal capacity
    reasons_shown: PositiveInt
    product: CreditProductPolicy
    affordability: AffordabilityPolicy
    risk: CreditRiskPolicy
    haircuts: HaircutPolicy | None = None
    conduct: ConductPolicy | None = None  # None: no programme, so m = 1
    vetoes: dict[str, BilingualText] = Field(default_factory=dict)
    raises: tuple[ImprovementAction, ...] = ()

    @model_validator(mode="after")
    def _check_haircuts(self) -> Policy:
        if self.product.asset_based and self.haircuts is None:
            raise ValueError("product.asset_based is true; [haircuts] must then give each asset's share that counts")
        return self

    @property
    def approval_pd(self) -> float:
        """The approval line: the greatest PD of the floor grade."""
        return config.approval_cutoff(self.risk.grades, self.risk.floor_grade)

    @classmethod
    def load(cls, source: Path | str | bytes, *, enforce_guardrails: bool = True) -> Policy:
        """From a path or a file's bytes. `enforce_guardrails=False` admits a policy that breaks a guard rail, for the checker."""
        return config.load_section(cls, source, enforce_guardrails=enforce_guardrails)
