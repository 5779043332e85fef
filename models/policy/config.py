"""The sections that the policies of all products share, read from TOML.

A policy is a Section with its keys; `load_section(Policy, source)` reads it from a path or from a file's bytes and
raises PolicyError with all faults together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from datasets.errors import did_you_mean
from datasets.files.config_file import ConfigFileError, read_config

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
PositiveInt = Annotated[int, Field(gt=0, strict=True)]
NonEmptyText = Annotated[str, Field(min_length=1)]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]  # ISO 4217


class PolicyError(ConfigFileError):
    """A policy that cannot be used."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


SectionT = TypeVar("SectionT", bound=Section)


def load_section(
    section_type: type[SectionT], source: Path | str | bytes, *, enforce_guardrails: bool = True
) -> SectionT:
    """Read a section from a path or from a file's bytes.

    `enforce_guardrails=False` admits a policy that breaks a guard rail, so that the checker can show for whom. Raises
    PolicyError with every fault.
    """
    return read_config(source, section_type, name="policy", error=PolicyError, context={"rails": enforce_guardrails})


def enforces_guardrails(info: ValidationInfo) -> bool:
    """Whether a policy that breaks a guard rail is to be refused."""
    return (info.context or {}).get("rails") is not False


def raise_faults(section: SectionT, faults: list[str]) -> SectionT:
    """The section itself if there are no faults; otherwise ValueError with all of them."""
    if faults:
        raise ValueError("; ".join(faults))
    return section


class BilingualText(Section):
    en: NonEmptyText
    zh: NonEmptyText


class Grade(Section):
    name: NonEmptyText
    pd_up_to: Annotated[float, Field(gt=0, le=1, strict=True)]  # inclusive
    loss_budget: Amount  # expected loss a year that one borrower may cost


class Assumption(Section):
    """What an indicator counts as where it is unknown: a number, or a level of a category.

    refers: a person decides where it is unknown; the assumption then gives the indicative figure. Otherwise it must be
    the worst value, or hiding a worse one would pay.
    """

    counts_as: FiniteFloat | NonEmptyText
    refers: bool = False


class IndicatorCondition(Section):
    """Holds where the indicator is at least `at_least`, or at most `at_most`."""

    indicator: NonEmptyText
    at_least: FiniteFloat | None = None
    at_most: FiniteFloat | None = None

    @model_validator(mode="after")
    def _check_one_limit(self) -> Self:
        is_ambiguous = (self.at_least is None) == (self.at_most is None)
        return raise_faults(
            self, [f"{self.indicator}: give exactly one of at_least and at_most"] if is_ambiguous else []
        )

    @property
    def bound(self) -> float:
        return self.at_most if self.at_least is None else self.at_least  # type: ignore[return-value]

    def covers(self, other: IndicatorCondition) -> bool:
        """Whether this condition holds wherever `other` does."""
        if self.at_least is not None and other.at_least is not None:
            return self.at_least <= other.at_least
        return self.at_most is not None and other.at_most is not None and self.at_most >= other.at_most


class StopFact(IndicatorCondition):
    """A fact that refers to a person, and so does not knowing it. Its sentences may contain {bound}."""

    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{2,40}$")]
    en: NonEmptyText
    zh: NonEmptyText


class ProductPolicy(Section):
    """Amounts in the policy's currency, rates per year."""

    cap: PositiveFloat
    legal_cap: PositiveFloat  # the most that one borrower may owe
    minimum: Amount  # a smaller limit is referred to a person
    rounding: PositiveFloat
    term_months: PositiveInt
    annual_rate: Share
    funding_rate: Share

    @model_validator(mode="after")
    def _check_amounts(self, info: ValidationInfo) -> Self:
        faults = []
        if self.minimum % self.rounding:
            faults.append(f"minimum {self.minimum:g} must be a multiple of rounding {self.rounding:g}")
        if enforces_guardrails(info) and self.cap > self.legal_cap:
            faults.append(f"cap {self.cap:g} must not be above legal_cap {self.legal_cap:g}")
        return raise_faults(self, faults)


class RiskPolicy(Section):
    lgd: PositiveFloat  # loss given default, share of the exposure
    ccf: PositiveFloat  # share of the line drawn at default
    pd_floor: Annotated[float, Field(gt=0, lt=1, strict=True)]
    grades: tuple[Grade, ...]  # from the best to the worst
    floor_grade: NonEmptyText  # the worst grade that a machine may approve

    @model_validator(mode="after")
    def _check_grades(self, info: ValidationInfo) -> Self:
        return raise_faults(self, _find_grade_faults(self.grades, self.floor_grade, info))


class BasePolicy(Section):
    """What the policy of every lending product has."""

    name: NonEmptyText
    version: NonEmptyText
    currency: Currency
    money: BilingualText  # the unit of money in a sentence
    reasons_shown: PositiveInt
    product: ProductPolicy
    risk: RiskPolicy
    stops: tuple[StopFact, ...]
    unknown: dict[str, Assumption]

    @property
    def needed_indicators(self) -> tuple[str, ...]:
        """Indicators without which a person decides: those of the stop facts, and unknowns that refer."""
        return tuple(
            dict.fromkeys(
                (
                    *(stop.indicator for stop in self.stops),
                    *(n for n, assumed in self.unknown.items() if assumed.refers),
                )
            )
        )

    @property
    def approval_pd(self) -> float:
        """The approval line: the largest PD of the floor grade."""
        return next(grade.pd_up_to for grade in self.risk.grades if grade.name == self.risk.floor_grade)

    @classmethod
    def load(cls, source: Path | str | bytes, *, enforce_guardrails: bool = True) -> Self:
        """Read the policy from a path or from a file's bytes, as `load_section` does."""
        return load_section(cls, source, enforce_guardrails=enforce_guardrails)


def find_stop_faults(
    stops: Sequence[StopFact], known: Sequence[str], required: Sequence[IndicatorCondition], info: ValidationInfo
) -> list[str]:
    """Faults of a policy's stop facts. known: indicators that may stop; required: what no policy may let pass."""
    codes = [stop.code for stop in stops]
    faults = [f"stops: code {code!r} occurs twice" for code in sorted({c for c in codes if codes.count(c) > 1})]
    names = list(known)
    faults += [
        f"stops: indicator {stop.indicator!r} must be one of {', '.join(names)}{did_you_mean(stop.indicator, names)}"
        for stop in stops
        if stop.indicator not in known
    ]
    for condition in required if enforces_guardrails(info) else ():
        if not any(stop.indicator == condition.indicator and stop.covers(condition) for stop in stops):
            side = "at_most" if condition.at_least is None else "at_least"
            faults.append(
                f"stops must refer {condition.indicator} {side} {condition.bound:g}, or less bad, to a person"
            )
    return faults


def find_assumption_faults(
    unknown: Mapping[str, Assumption], required: Sequence[str], info: ValidationInfo
) -> list[str]:
    """Faults of a policy's assumptions. required: what the limit cannot be computed without; unknown, it refers."""
    faults = []
    for name in required:
        if name not in unknown:
            faults.append(f"unknown.{name} is missing; it must say what {name} counts as where it is unknown")
        elif isinstance(unknown[name].counts_as, str):
            faults.append(f"unknown.{name} counts as {unknown[name].counts_as!r}; it must be a number")
        elif enforces_guardrails(info) and not unknown[name].refers:
            faults.append(f"unknown.{name} must have refers = true: no limit is approved without {name}")
    return faults


def _find_grade_faults(grades: Sequence[Grade], floor_grade: str, info: ValidationInfo) -> list[str]:
    names = [grade.name for grade in grades]
    edges = [grade.pd_up_to for grade in grades]
    faults = []
    if len(set(names)) != len(names):
        faults.append(f"grades are named {names}; each must have a name of its own")
    if len(grades) < 2 or any(b <= a for a, b in zip(edges, edges[1:], strict=False)) or edges[-1] != 1.0:
        faults.append(f"pd_up_to is {edges}; it must rise from the best grade to the worst and end at 1")
    if floor_grade not in names[:-1]:
        faults.append(f"floor_grade {floor_grade!r} must be one of {names[:-1]}{did_you_mean(floor_grade, names[:-1])}")
    budgets = [grade.loss_budget for grade in grades]
    if enforces_guardrails(info) and any(b > a for a, b in zip(budgets, budgets[1:], strict=False)):
        faults.append(f"loss_budget of the grades is {budgets}; it must never rise as the grade gets worse")
    return faults
