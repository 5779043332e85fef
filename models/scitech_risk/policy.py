"""A sci-tech policy: every number that a risk officer could argue about, from one TOML file.

policy = Policy.load("configs/policies/scitech_risk.toml")     # or its bytes; PolicyError tells every fault together

Indicators are in the register's units; amounts of the policy itself are in its currency.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationInfo, model_validator

from datasets.errors import did_you_mean
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

# What the gate and the innovation score may read: the formula proves its rails over these.
EVIDENCE = (
    "zero_filing_months", "address_companies", "address_empty_share", "officer_companies", "officer_empty_share",
    "invoice_loop_share", "invoice_related_share", "invoice_to_electricity", "abnormal_list", "ownership_cycle",
)  # fmt: skip
CYCLE = "ownership_cycle"
STAFF = "insured_staff"  # the one evidence that weighs by being low
INNOVATION = (
    "rd_expense", "rd_growth", "rd_intensity", "rd_staff_share", "invention_patents", "pct_filings",
    "technology_contracts", "revenue", "high_tech_revenue", "revenue_growth", "super_deduction",
    "return_on_net_assets", "graduates_hired", "provincial_platforms", "awards", "projects", "venture_capital",
)  # fmt: skip
CASH = ("operating_cash_flow", "debt_service")
BACKING = ("patent_value",)
DATA_ASSETS = ("data_certificate", "data_asset_value")
INNOVATION_GROUPS = ("technology", "growth", "auxiliary")
MIN_SOURCES = 2  # independent sources that a block needs: the contract's own limit, no setting

SectionT = TypeVar("SectionT", bound=Section)
EvidenceSource = Literal["address", "officers", "invoices", "filings", "records", "owners"]


class CompanyProductPolicy(Section):
    """Rates a year."""

    cap: PositiveFloat
    legal_cap: PositiveFloat  # most that one company may owe the bank
    minimum: Amount  # a smaller limit goes to a person
    rounding: PositiveFloat
    term_months: PositiveInt
    annual_rate: Share
    rate_stress: Amount  # the loan must stay affordable at the rate and this
    funding_rate: Share

    @model_validator(mode="after")
    def _check_amounts(self, info: ValidationInfo) -> CompanyProductPolicy:
        faults = []
        if self.minimum % self.rounding:
            faults.append(f"minimum {self.minimum:g} must be a multiple of rounding {self.rounding:g}")
        if enforces_guardrails(info) and self.cap > self.legal_cap:
            faults.append(f"cap {self.cap:g} must not be above legal_cap {self.legal_cap:g}")
        return _raise_faults(self, faults)


class CompanyRiskPolicy(Section):
    lgd: PositiveFloat  # loss given default, share of the exposure
    ccf: PositiveFloat  # share of the line drawn at default
    pd_floor: Annotated[float, Field(gt=0, lt=1, strict=True)]
    grades: tuple[Grade, ...]
    floor_grade: NonEmptyText  # the worst grade that a machine may approve

    @model_validator(mode="after")
    def _check_grades(self, info: ValidationInfo) -> CompanyRiskPolicy:
        return _raise_faults(self, config.find_grade_faults(self.grades, self.floor_grade, info))


class CoveragePolicy(Section):
    """How much of the PD's inputs must be known. Each weighs 1, or as its group does."""

    share: Share  # of the inputs' weight, below which no grade is given
    weights: dict[str, Amount] = Field(default_factory=dict)


class BoundPolicy(Section):
    least_cover: PositiveFloat  # operating cash flow per debt service, this loan's included
    innovation_uplift: FiniteFloat  # of the revenue multiple, at an innovation score of 100
    unsecured: Amount  # lent on the name alone
    patents: Share  # share of the appraised value that counts
    data_assets: Share  # share of the registered value that counts, where there is a certificate

    @model_validator(mode="after")
    def _check_uplift(self, info: ValidationInfo) -> BoundPolicy:
        is_valid = self.innovation_uplift >= 0 or not enforces_guardrails(info)
        message = f"innovation_uplift is {self.innovation_uplift:g}; it must be 0 or more: innovation may only raise"
        return _raise_faults(self, [] if is_valid else [message])


class GrowthStage(Section):
    """A stage of growth. `weights`: of the three groups in the innovation score, in proportion."""

    name: NonEmptyText
    en: NonEmptyText
    zh: NonEmptyText
    revenue_up_to: PositiveFloat | None = None  # a year, exclusive; the last stage has no end
    multiple: FiniteFloat  # limit per unit of the year's revenue that lies within this stage
    weights: dict[Literal["technology", "growth", "auxiliary"], Amount]

    @model_validator(mode="after")
    def _check_weights(self, info: ValidationInfo) -> GrowthStage:
        faults = []
        if set(self.weights) != set(INNOVATION_GROUPS) or not sum(self.weights.values()) > 0:
            faults.append(f"weights are {self.weights}; {', '.join(INNOVATION_GROUPS)} are needed, not all 0")
        if enforces_guardrails(info) and self.multiple < 0:
            faults.append(f"multiple is {self.multiple:g}; it must be 0 or more: revenue never lowers a limit")
        return _raise_faults(self, faults)


class IndicatorRamp(Section):
    """An indicator of innovation: worth nothing up to `floor`, its whole weight from `full`, linear between."""

    indicator: NonEmptyText
    group: Literal["technology", "growth", "auxiliary"]
    weight: PositiveFloat  # within its group
    floor: FiniteFloat
    full: FiniteFloat

    @model_validator(mode="after")
    def _check_range(self, info: ValidationInfo) -> IndicatorRamp:
        faults = _membership_faults("indicator", self.indicator, INNOVATION)
        if self.full == self.floor or (enforces_guardrails(info) and self.full < self.floor):
            faults.append(f"full {self.full:g} must be above floor {self.floor:g}: more of it never scores less")
        return _raise_faults(self, faults)


class InnovationPolicy(Section):
    least_coverage: Share  # of the indicators' weight; below it no score is given
    indicators: tuple[IndicatorRamp, ...] = ()

    @model_validator(mode="after")
    def _check_groups(self) -> InnovationPolicy:
        names = [ramp.indicator for ramp in self.indicators]
        faults = [f"{name} stands twice" for name in sorted({name for name in names if names.count(name) > 1})]
        empty = sorted(set(INNOVATION_GROUPS) - {ramp.group for ramp in self.indicators})
        if self.indicators and empty:
            faults.append(f"no indicator is of {', '.join(empty)}; each group needs one")
        return _raise_faults(self, faults)


class IndicatorCondition(Section):
    """Holds where the indicator is at least, or at most, so much."""

    indicator: NonEmptyText
    at_least: FiniteFloat | None = None
    at_most: FiniteFloat | None = None

    @model_validator(mode="after")
    def _check_one_limit(self) -> IndicatorCondition:
        is_ambiguous = (self.at_least is None) == (self.at_most is None)
        return _raise_faults(
            self, [f"{self.indicator}: exactly one of at_least and at_most is needed"] if is_ambiguous else []
        )


class ShellEvidence(IndicatorCondition):
    """A piece of evidence that a company is a shell. {value} and {beside} stand in its words."""

    code: NonEmptyText
    beside: IndicatorCondition | None = None  # must hold too
    points: Amount
    source: EvidenceSource  # pieces of one source are not independent
    reviews: bool = False  # sends to a person by itself
    en: NonEmptyText
    zh: NonEmptyText

    @model_validator(mode="after")
    def _check_conditions(self, info: ValidationInfo) -> ShellEvidence:
        faults = _template_faults(self.en, self.zh, {"value", *(["beside"] if self.beside else [])})
        for condition in (self, self.beside):
            if condition is None:
                continue
            faults += _membership_faults("indicator", condition.indicator, (*EVIDENCE, STAFF))
            if enforces_guardrails(info) and (condition.at_most is not None) != (condition.indicator == STAFF):
                expected = "at_most" if condition.indicator == STAFF else "at_least"
                faults.append(f"{condition.indicator} needs {expected}: its other end is no evidence of a shell")
        if enforces_guardrails(info) and self.indicator == CYCLE and not self.reviews:
            faults.append(f"{CYCLE} needs reviews = true: who owns the company cannot be told")
        return _raise_faults(self, faults)


class ShellGatePolicy(Section):
    """Points are of `evidence` that holds; `least_known` is of all points, below which a person looks."""

    review: Amount
    block: Amount
    sources: Count  # independent ones that a block needs
    least_known: Share
    evidence: tuple[ShellEvidence, ...] = ()

    @model_validator(mode="after")
    def _check_thresholds(self, info: ValidationInfo) -> ShellGatePolicy:
        codes = [piece.code for piece in self.evidence]
        faults = [f"code {code!r} stands twice" for code in sorted({c for c in codes if codes.count(c) > 1})]
        if self.block < self.review:
            faults.append(f"block {self.block:g} must not be below review {self.review:g}")
        if enforces_guardrails(info) and self.sources < MIN_SOURCES:
            faults.append(f"sources is {self.sources}; a block needs {MIN_SOURCES} independent ones or more")
        return _raise_faults(self, faults)


class WarningSignal(IndicatorCondition):
    """An early warning; one that asks for an act sends to a person. {value} stands in its words."""

    code: NonEmptyText
    severity: Literal["watch", "act"]
    instead_of: NonEmptyText | None = None  # a milder signal, which is then not told
    unknown_refers: bool = False  # a company of which it cannot be told goes to a person
    en: NonEmptyText
    zh: NonEmptyText

    @model_validator(mode="after")
    def _check_indicator(self, info: ValidationInfo) -> WarningSignal:
        faults = _template_faults(self.en, self.zh, {"value"})
        formula_inputs = (*CASH, *BACKING, *DATA_ASSETS, *INNOVATION, *EVIDENCE, STAFF)
        if enforces_guardrails(info) and self.severity == "act" and self.indicator in formula_inputs:
            faults.append(f"{self.indicator} moves the limit or the gate already, so it may be watched and not act")
        return _raise_faults(self, faults)


class Policy(Section):
    name: NonEmptyText
    version: NonEmptyText
    currency: Currency
    money: BilingualText  # what its unit is called in a sentence
    unit: PositiveFloat  # one unit of the register's money, in this currency
    horizon: BilingualText  # over which the PD holds
    reasons_shown: PositiveInt
    product: CompanyProductPolicy
    risk: CompanyRiskPolicy
    least_known: CoveragePolicy
    bounds: BoundPolicy
    stages: tuple[GrowthStage, ...]
    innovation: InnovationPolicy
    gate: ShellGatePolicy
    signals: tuple[WarningSignal, ...] = ()

    @model_validator(mode="after")
    def _check_references(self) -> Policy:
        ends = [stage.revenue_up_to for stage in self.stages]
        edges = [end for end in ends if end is not None]
        names = [stage.name for stage in self.stages]
        codes = [signal.code for signal in self.signals]
        faults = []
        if not ends or len(edges) != len(ends) - 1 or ends[-1] is not None or edges != sorted(set(edges)):
            faults.append(f"stages: revenue_up_to is {ends}; it must rise, and only the last stage has none")
        faults += [f"stages: name {name!r} stands twice" for name in sorted({n for n in names if names.count(n) > 1})]
        faults += [f"signals: code {code!r} stands twice" for code in sorted({c for c in codes if codes.count(c) > 1})]
        for signal in self.signals:
            if signal.instead_of is not None:
                faults += _membership_faults(f"signals: instead_of of {signal.code}", signal.instead_of, codes)
        return _raise_faults(self, faults)

    @property
    def approval_pd(self) -> float:
        """The approval line: the greatest PD of the floor grade."""
        return config.approval_cutoff(self.risk.grades, self.risk.floor_grade)

    @property
    def act_codes(self) -> frozenset[str]:
        """Codes of the signals that ask for an act."""
        return frozenset(signal.code for signal in self.signals if signal.severity == "act")

    @classmethod
    def load(cls, source: Path | str | bytes, *, enforce_guardrails: bool = True) -> Policy:
        """From a path or a file's bytes. `enforce_guardrails=False` admits a policy that breaks a guard rail, for the checker."""
        return config.load_section(cls, source, enforce_guardrails=enforce_guardrails)


def _raise_faults(section: SectionT, faults: list[str]) -> SectionT:
    if faults:
        raise ValueError("; ".join(faults))
    return section


def _membership_faults(what: str, name: str, known: Iterable[str]) -> list[str]:
    known = list(known)
    return [] if name in known else [f"{what} {name!r} must be one of {', '.join(known)}{did_you_mean(name, known)}"]


def _template_faults(en: str, zh: str, allowed: set[str]) -> list[str]:
    """What stands in braces must be known, or a sentence would be told with a hole in it."""
    faults = []
    for text in (en, zh):
        try:
            names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        except ValueError as error:
            faults.append(f"{text!r}: {error}")
            continue
        unknown = sorted(names - allowed)
        if unknown:
            placeholders = ", ".join(f"{{{name}}}" for name in unknown)
            faults.append(
                f"{text!r} has {placeholders}; only {', '.join(f'{{{name}}}' for name in sorted(allowed))} may stand"
            )
    return faults
