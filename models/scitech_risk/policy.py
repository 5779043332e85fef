"""A sci-tech policy: every number that a risk officer could argue about, from one TOML file.

policy = Policy.load("configs/policies/scitech_risk.toml")     # or its bytes; PolicyRefused tells every fault together

Indicators are in the register's units; amounts of the policy itself are in its currency.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationInfo, model_validator

from datasets.schema import nearest
from models.policy import config
from models.policy.config import (
    Amount,
    Count,
    Currency,
    Grade,
    Number,
    Positive,
    Section,
    Share,
    Some,
    Text,
    Words,
    on_rails,
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
DATA = ("data_certificate", "data_asset_value")
GROUPS = ("technology", "growth", "auxiliary")
FEWEST_SOURCES = 2  # independent sources that a block needs: the contract's own limit, no setting

S = TypeVar("S", bound=Section)
Source = Literal["address", "officers", "invoices", "filings", "records", "owners"]


class Product(Section):
    """Rates a year."""

    cap: Positive
    legal_cap: Positive  # most that one company may owe the bank
    minimum: Amount  # a smaller limit goes to a person
    rounding: Positive
    term_months: Some
    annual_rate: Share
    rate_stress: Amount  # the loan must stay affordable at the rate and this
    funding_rate: Share

    @model_validator(mode="after")
    def _amounts_agree(self, info: ValidationInfo) -> Product:
        faults = []
        if self.minimum % self.rounding:
            faults.append(f"minimum {self.minimum:g} must be a multiple of rounding {self.rounding:g}")
        if on_rails(info) and self.cap > self.legal_cap:
            faults.append(f"cap {self.cap:g} must not be above legal_cap {self.legal_cap:g}")
        return _sound(self, faults)


class Risk(Section):
    lgd: Positive  # loss given default, share of the exposure
    ccf: Positive  # share of the line drawn at default
    pd_floor: Annotated[float, Field(gt=0, lt=1, strict=True)]
    grades: tuple[Grade, ...]
    floor_grade: Text  # the worst grade that a machine may approve

    @model_validator(mode="after")
    def _grades_agree(self, info: ValidationInfo) -> Risk:
        return _sound(self, config.grade_faults(self.grades, self.floor_grade, info))


class Known(Section):
    """How much of the PD's inputs must be known. Each weighs 1, or as its group does."""

    share: Share  # of the inputs' weight, below which no grade is given
    weights: dict[str, Amount] = Field(default_factory=dict)


class Bounds(Section):
    least_cover: Positive  # operating cash flow per debt service, this loan's included
    innovation_uplift: Number  # of the revenue multiple, at an innovation score of 100
    unsecured: Amount  # lent on the name alone
    patents: Share  # share of the appraised value that counts
    data_assets: Share  # share of the registered value that counts, where there is a certificate

    @model_validator(mode="after")
    def _only_raises(self, info: ValidationInfo) -> Bounds:
        raises = self.innovation_uplift >= 0 or not on_rails(info)
        told = f"innovation_uplift is {self.innovation_uplift:g}; it must be 0 or more: innovation may only raise"
        return _sound(self, [] if raises else [told])


class Stage(Section):
    """A stage of growth. `weights`: of the three groups in the innovation score, in proportion."""

    name: Text
    en: Text
    zh: Text
    revenue_up_to: Positive | None = None  # a year, exclusive; the last stage has no end
    multiple: Number  # limit per unit of the year's revenue that lies within this stage
    weights: dict[Literal["technology", "growth", "auxiliary"], Amount]

    @model_validator(mode="after")
    def _weighs(self, info: ValidationInfo) -> Stage:
        faults = []
        if set(self.weights) != set(GROUPS) or not sum(self.weights.values()) > 0:
            faults.append(f"weights are {self.weights}; {', '.join(GROUPS)} are needed, not all 0")
        if on_rails(info) and self.multiple < 0:
            faults.append(f"multiple is {self.multiple:g}; it must be 0 or more: revenue never lowers a limit")
        return _sound(self, faults)


class Ramp(Section):
    """An indicator of innovation: worth nothing up to `floor`, its whole weight from `full`, linear between."""

    indicator: Text
    group: Literal["technology", "growth", "auxiliary"]
    weight: Positive  # within its group
    floor: Number
    full: Number

    @model_validator(mode="after")
    def _rises(self, info: ValidationInfo) -> Ramp:
        faults = _not_among("indicator", self.indicator, INNOVATION)
        if self.full == self.floor or (on_rails(info) and self.full < self.floor):
            faults.append(f"full {self.full:g} must be above floor {self.floor:g}: more of it never scores less")
        return _sound(self, faults)


class Innovation(Section):
    least_coverage: Share  # of the indicators' weight; below it no score is given
    indicators: tuple[Ramp, ...] = ()

    @model_validator(mode="after")
    def _fills_each_group(self) -> Innovation:
        names = [ramp.indicator for ramp in self.indicators]
        faults = [f"{name} stands twice" for name in sorted({name for name in names if names.count(name) > 1})]
        empty = sorted(set(GROUPS) - {ramp.group for ramp in self.indicators})
        if self.indicators and empty:
            faults.append(f"no indicator is of {', '.join(empty)}; each group needs one")
        return _sound(self, faults)


class Condition(Section):
    """Holds where the indicator is at least, or at most, so much."""

    indicator: Text
    at_least: Number | None = None
    at_most: Number | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Condition:
        both = (self.at_least is None) == (self.at_most is None)
        return _sound(self, [f"{self.indicator}: exactly one of at_least and at_most is needed"] if both else [])


class Evidence(Condition):
    """A piece of evidence that a company is a shell. {value} and {beside} stand in its words."""

    code: Text
    beside: Condition | None = None  # must hold too
    points: Amount
    source: Source  # pieces of one source are not independent
    reviews: bool = False  # sends to a person by itself
    en: Text
    zh: Text

    @model_validator(mode="after")
    def _leans_one_way(self, info: ValidationInfo) -> Evidence:
        faults = _words(self.en, self.zh, {"value", *(["beside"] if self.beside else [])})
        for part in (self, self.beside):
            if part is None:
                continue
            faults += _not_among("indicator", part.indicator, (*EVIDENCE, STAFF))
            if on_rails(info) and (part.at_most is not None) != (part.indicator == STAFF):
                needed = "at_most" if part.indicator == STAFF else "at_least"
                faults.append(f"{part.indicator} needs {needed}: its other end is no evidence of a shell")
        if on_rails(info) and self.indicator == CYCLE and not self.reviews:
            faults.append(f"{CYCLE} needs reviews = true: who owns the company cannot be told")
        return _sound(self, faults)


class Gate(Section):
    """Points are of `evidence` that holds; `least_known` is of all points, below which a person looks."""

    review: Amount
    block: Amount
    sources: Count  # independent ones that a block needs
    least_known: Share
    evidence: tuple[Evidence, ...] = ()

    @model_validator(mode="after")
    def _blocks_on_more(self, info: ValidationInfo) -> Gate:
        codes = [piece.code for piece in self.evidence]
        faults = [f"code {code!r} stands twice" for code in sorted({c for c in codes if codes.count(c) > 1})]
        if self.block < self.review:
            faults.append(f"block {self.block:g} must not be below review {self.review:g}")
        if on_rails(info) and self.sources < FEWEST_SOURCES:
            faults.append(f"sources is {self.sources}; a block needs {FEWEST_SOURCES} independent ones or more")
        return _sound(self, faults)


class Signal(Condition):
    """An early warning; one that asks for an act sends to a person. {value} stands in its words."""

    code: Text
    severity: Literal["watch", "act"]
    instead_of: Text | None = None  # a milder signal, which is then not told
    unknown_refers: bool = False  # a company of which it cannot be told goes to a person
    en: Text
    zh: Text

    @model_validator(mode="after")
    def _says_its_value(self, info: ValidationInfo) -> Signal:
        faults = _words(self.en, self.zh, {"value"})
        proved = (*CASH, *BACKING, *DATA, *INNOVATION, *EVIDENCE, STAFF)
        if on_rails(info) and self.severity == "act" and self.indicator in proved:
            faults.append(f"{self.indicator} moves the limit or the gate already, so it may be watched and not act")
        return _sound(self, faults)


class Policy(Section):
    name: Text
    version: Text
    currency: Currency
    money: Words  # what its unit is called in a sentence
    unit: Positive  # one unit of the register's money, in this currency
    horizon: Words  # over which the PD holds
    reasons_shown: Some
    product: Product
    risk: Risk
    least_known: Known
    bounds: Bounds
    stages: tuple[Stage, ...]
    innovation: Innovation
    gate: Gate
    signals: tuple[Signal, ...] = ()

    @model_validator(mode="after")
    def _parts_agree(self) -> Policy:
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
                faults += _not_among(f"signals: instead_of of {signal.code}", signal.instead_of, codes)
        return _sound(self, faults)

    @property
    def approval_pd(self) -> float:
        """The approval line: the greatest PD of the floor grade."""
        return config.approval_line(self.risk.grades, self.risk.floor_grade)

    @property
    def acts(self) -> frozenset[str]:
        """Codes of the signals that ask for an act."""
        return frozenset(signal.code for signal in self.signals if signal.severity == "act")

    @classmethod
    def load(cls, source: Path | str | bytes, *, rails: bool = True) -> Policy:
        """From a path or a file's bytes. `rails=False` admits a policy that breaks a guard rail, for the checker."""
        return config.load(cls, source, rails=rails)


def _sound(section: S, faults: list[str]) -> S:
    if faults:
        raise ValueError("; ".join(faults))
    return section


def _not_among(what: str, name: str, known: Iterable[str]) -> list[str]:
    known = list(known)
    return [] if name in known else [f"{what} {name!r} must be one of {', '.join(known)}{nearest(name, known)}"]


def _words(en: str, zh: str, allowed: set[str]) -> list[str]:
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
            told = ", ".join(f"{{{name}}}" for name in unknown)
            faults.append(f"{text!r} has {told}; only {', '.join(f'{{{name}}}' for name in sorted(allowed))} may stand")
    return faults
