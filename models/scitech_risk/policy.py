"""The policy of sci-tech risk: every number that a risk officer could argue about, in one TOML file.

policy = Policy.load("configs/policies/scitech_risk.toml")     # or its bytes; PolicyError has every fault

Indicators are in the units of the register; the policy's own amounts are in its currency.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Literal

from pydantic import Field, ValidationInfo, model_validator

from datasets.errors import did_you_mean
from models.policy.config import (
    Amount,
    BasePolicy,
    BilingualText,
    Count,
    FiniteFloat,
    IndicatorCondition,
    NonEmptyText,
    PositiveFloat,
    ProductPolicy,
    Section,
    Share,
    enforces_guardrails,
    find_assumption_faults,
    find_stop_faults,
    raise_faults,
)

# The inputs of the gate and of the innovation score: guard rails are proved over these.
EVIDENCE = (
    "zero_filing_months", "address_companies", "address_empty_share", "officer_companies", "officer_empty_share",
    "invoice_loop_share", "invoice_related_share", "invoice_to_electricity", "abnormal_list", "ownership_cycle",
)  # fmt: skip
CYCLE = "ownership_cycle"
STAFF = "insured_staff"  # the only evidence for which a low value counts
INNOVATION = (
    "rd_expense", "rd_growth", "rd_intensity", "rd_staff_share", "invention_patents", "pct_filings",
    "technology_contracts", "revenue", "high_tech_revenue", "revenue_growth", "super_deduction",
    "return_on_net_assets", "graduates_hired", "provincial_platforms", "awards", "projects", "venture_capital",
)  # fmt: skip
CASH = ("operating_cash_flow", "debt_service")
BACKING = ("patent_value",)
DATA_ASSETS = ("data_certificate", "data_asset_value")
INNOVATION_GROUPS = ("technology", "growth", "auxiliary")
REQUIRED_STOPS = (  # facts that no policy may let pass; liabilities above all assets are negative net assets
    IndicatorCondition(indicator="deregistered", at_least=1),
    IndicatorCondition(indicator="enforcement_cases", at_least=1),
    IndicatorCondition(indicator="qualified_audit", at_least=1),
    IndicatorCondition(indicator="debt_ratio", at_least=1),
)
STANDING = ("deregistered", "qualified_audit")  # read as stop facts alone, by no PD
WARNING_INDICATORS = ("overdue_days_6m", "revenue_change_6m", "staff_change_6m")  # of signals of severity 'act'
STOP_INDICATORS = (*(c.indicator for c in REQUIRED_STOPS), "tax_arrears", *WARNING_INDICATORS)
MIN_SOURCES = 2  # independent sources that a block needs: a limit of the contract, not a setting

EvidenceSource = Literal["address", "officers", "invoices", "filings", "records", "owners"]


class CompanyProductPolicy(ProductPolicy):
    rate_stress: Amount  # the loan must be affordable at the annual rate plus this


class CoveragePolicy(Section):
    """How much of the PD's inputs must be known. An input has the weight of its group, 1 by default."""

    share: Share  # of the weight of all inputs; below it no grade is given
    weights: dict[str, Amount] = Field(default_factory=dict)


class BoundPolicy(Section):
    least_cover: PositiveFloat  # operating cash flow over debt service, including this loan
    innovation_uplift: FiniteFloat  # of the revenue multiple, at an innovation score of 100
    unsecured: Amount  # lent without any backing
    patents: Share  # share of the appraised value that counts
    data_assets: Share  # share of the registered value that counts, if there is a certificate

    @model_validator(mode="after")
    def _check_uplift(self, info: ValidationInfo) -> BoundPolicy:
        is_valid = self.innovation_uplift >= 0 or not enforces_guardrails(info)
        message = f"innovation_uplift is {self.innovation_uplift:g}; it must be 0 or more: innovation may only raise"
        return raise_faults(self, [] if is_valid else [message])


class GrowthStage(Section):
    """A stage of growth. weights: relative weights of the three groups in the innovation score."""

    name: NonEmptyText
    en: NonEmptyText
    zh: NonEmptyText
    revenue_up_to: PositiveFloat | None = None  # per year, exclusive; the last stage has no end
    multiple: FiniteFloat  # limit per unit of yearly revenue within this stage
    weights: dict[Literal["technology", "growth", "auxiliary"], Amount]

    @model_validator(mode="after")
    def _check_weights(self, info: ValidationInfo) -> GrowthStage:
        faults = []
        if set(self.weights) != set(INNOVATION_GROUPS) or not sum(self.weights.values()) > 0:
            faults.append(
                f"weights are {self.weights}; they must name {', '.join(INNOVATION_GROUPS)}, and not all be 0"
            )
        if enforces_guardrails(info) and self.multiple < 0:
            faults.append(f"multiple is {self.multiple:g}; it must be 0 or more: revenue never lowers a limit")
        return raise_faults(self, faults)


class IndicatorRamp(Section):
    """An indicator of innovation: it scores 0 up to `floor`, its full weight from `full`, and linearly between."""

    indicator: NonEmptyText
    group: Literal["technology", "growth", "auxiliary"]
    weight: PositiveFloat  # within its group
    floor: FiniteFloat
    full: FiniteFloat

    @model_validator(mode="after")
    def _check_range(self, info: ValidationInfo) -> IndicatorRamp:
        faults = _membership_faults("indicator", self.indicator, INNOVATION)
        if self.full == self.floor or (enforces_guardrails(info) and self.full < self.floor):
            faults.append(f"full {self.full:g} must be above floor {self.floor:g}: a higher value never scores less")
        return raise_faults(self, faults)


class InnovationPolicy(Section):
    least_coverage: Share  # of the weight of all indicators; below it no score is given
    indicators: tuple[IndicatorRamp, ...] = ()

    @model_validator(mode="after")
    def _check_groups(self) -> InnovationPolicy:
        names = [ramp.indicator for ramp in self.indicators]
        faults = [f"{name} occurs twice" for name in sorted({name for name in names if names.count(name) > 1})]
        empty = sorted(set(INNOVATION_GROUPS) - {ramp.group for ramp in self.indicators})
        if self.indicators and empty:
            faults.append(f"there is no indicator of {', '.join(empty)}; each group needs one")
        return raise_faults(self, faults)


class ShellEvidence(IndicatorCondition):
    """A piece of evidence that a company is a shell. Its sentences may contain {value} and {beside}."""

    code: NonEmptyText
    beside: IndicatorCondition | None = None  # a second condition that must hold too
    points: Amount
    source: EvidenceSource  # pieces from one source are not independent
    reviews: bool = False  # refers to a person by itself
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
                faults.append(f"{condition.indicator} needs {expected}: the opposite is no evidence of a shell")
        if enforces_guardrails(info) and self.indicator == CYCLE and not self.reviews:
            faults.append(f"{CYCLE} needs reviews = true: the owner of the company cannot be determined")
        return raise_faults(self, faults)


class ShellGatePolicy(Section):
    """review, block: points of evidence that holds. least_known: share of all points; below it a person reviews."""

    review: Amount
    block: Amount
    sources: Count  # independent sources that a block needs
    least_known: Share
    evidence: tuple[ShellEvidence, ...] = ()

    @model_validator(mode="after")
    def _check_thresholds(self, info: ValidationInfo) -> ShellGatePolicy:
        codes = [piece.code for piece in self.evidence]
        faults = [f"code {code!r} occurs twice" for code in sorted({c for c in codes if codes.count(c) > 1})]
        if self.block < self.review:
            faults.append(f"block {self.block:g} must not be below review {self.review:g}")
        if enforces_guardrails(info) and self.sources < MIN_SOURCES:
            faults.append(
                f"sources is {self.sources}; it must be {MIN_SOURCES} or more: a block needs independent sources"
            )
        return raise_faults(self, faults)


class WarningSignal(IndicatorCondition):
    """An early warning. One of severity 'act' refers to a person, and so does not knowing its indicator. Its sentences
    may contain {value}.
    """

    code: NonEmptyText
    severity: Literal["watch", "act"]
    instead_of: NonEmptyText | None = None  # a milder signal, which is then not reported
    en: NonEmptyText
    zh: NonEmptyText

    @model_validator(mode="after")
    def _check_indicator(self, info: ValidationInfo) -> WarningSignal:
        faults = _template_faults(self.en, self.zh, {"value"})
        if enforces_guardrails(info) and self.severity == "act" and self.indicator not in STOP_INDICATORS:
            faults.append(
                f"{self.indicator} must have the severity watch; these may have act: {', '.join(STOP_INDICATORS)}"
            )
        return raise_faults(self, faults)


class Policy(BasePolicy):
    unit: PositiveFloat  # one unit of the register's money, in this currency
    horizon: BilingualText  # of the PD
    product: CompanyProductPolicy
    least_known: CoveragePolicy
    bounds: BoundPolicy
    stages: tuple[GrowthStage, ...]
    innovation: InnovationPolicy
    gate: ShellGatePolicy
    signals: tuple[WarningSignal, ...] = ()

    @model_validator(mode="after")
    def _check_facts(self, info: ValidationInfo) -> Policy:
        faults = find_stop_faults(self.stops, STOP_INDICATORS, REQUIRED_STOPS, info)
        return raise_faults(self, faults + find_assumption_faults(self.unknown, (*CASH, "revenue"), info))

    @model_validator(mode="after")
    def _check_references(self) -> Policy:
        ends = [stage.revenue_up_to for stage in self.stages]
        edges = [end for end in ends if end is not None]
        names = [stage.name for stage in self.stages]
        codes = [signal.code for signal in self.signals]
        faults = []
        if not ends or len(edges) != len(ends) - 1 or ends[-1] is not None or edges != sorted(set(edges)):
            faults.append(f"stages: revenue_up_to is {ends}; it must rise, and only the last stage must have none")
        faults += [f"stages: name {name!r} occurs twice" for name in sorted({n for n in names if names.count(n) > 1})]
        faults += [f"signals: code {code!r} occurs twice" for code in sorted({c for c in codes if codes.count(c) > 1})]
        for signal in self.signals:
            if signal.instead_of is not None:
                faults += _membership_faults(f"signals: instead_of of {signal.code}", signal.instead_of, codes)
        return raise_faults(self, faults)

    @property
    def act_signals(self) -> tuple[WarningSignal, ...]:
        """The signals of severity 'act'."""
        return tuple(signal for signal in self.signals if signal.severity == "act")


def _membership_faults(label: str, name: str, known: Iterable[str]) -> list[str]:
    known = list(known)
    return [] if name in known else [f"{label} {name!r} must be one of {', '.join(known)}{did_you_mean(name, known)}"]


def _template_faults(en: str, zh: str, allowed: set[str]) -> list[str]:
    """Placeholders must be known, or a sentence could not be completed."""
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
                f"{text!r} has {placeholders}; only {', '.join(f'{{{name}}}' for name in sorted(allowed))} are allowed"
            )
    return faults
