"""The policy of a credit limit: every number that a risk officer could argue about, in one TOML file.

policy = Policy.load("configs/policies/credit_limit.toml")     # or its bytes; PolicyError has every fault
"""

from __future__ import annotations

from pydantic import Field, ValidationInfo, model_validator

from datasets.tables.values.marks import split_codes
from models.policy.config import (
    Amount,
    BasePolicy,
    BilingualText,
    Count,
    FiniteFloat,
    IndicatorCondition,
    NonEmptyText,
    PositiveFloat,
    PositiveInt,
    ProductPolicy,
    RiskPolicy,
    Section,
    Share,
    enforces_guardrails,
    find_assumption_faults,
    find_stop_faults,
    raise_faults,
)

# Limits of the contract (the guard rails of the morality bank); not settings.
MAX_UPLIFT = 0.50
MAX_SELF_WEIGHT = 0.10
MIN_RATERS = 5
LARGEST_ARREARS = 100_000.0  # units of money
ADULT_AGE = 18
DEFAULT_DAYS = 90  # past due: a default by the Basel framework, CRE 36
REQUIRED_STOPS = (  # facts that no policy may let pass
    IndicatorCondition(indicator="identity_match", at_most=0),
    IndicatorCondition(indicator="days_past_due", at_least=DEFAULT_DAYS),
    IndicatorCondition(indicator="abnormal_list", at_least=1),
    IndicatorCondition(indicator="enforcement_cases", at_least=1),
    IndicatorCondition(indicator="tax_arrears", at_least=LARGEST_ARREARS),
)
STOP_INDICATORS = tuple(condition.indicator for condition in REQUIRED_STOPS)
FORBIDDEN_ADVICE = {"deposits": "ties deposits to loans", "declared_income": "rewards overstating"}
INCOME = ("declared_income", "monthly_debt_service")  # without them no limit is affordable


class CreditProductPolicy(ProductPolicy):
    asset_based: bool


class AffordabilityPolicy(Section):
    max_dsr: Share  # debt service over net income, including this loan
    rate_stress: Amount  # added to the annual rate
    net_income_share: Share  # net of tax and contributions, over declared income


class UtilisationPolicy(Section):
    """Factor on the loss budget by the use of existing lines: linear between the points, constant beyond them."""

    at: tuple[Amount, ...]
    factor: tuple[Share, ...]

    @model_validator(mode="after")
    def _check_points(self, info: ValidationInfo) -> UtilisationPolicy:
        if not self.at or len(self.at) != len(self.factor):
            raise ValueError(
                f"at has {len(self.at)} numbers and factor {len(self.factor)}; each point needs one of both"
            )
        if any(b <= a for a, b in zip(self.at, self.at[1:], strict=False)):
            raise ValueError(f"at = {list(self.at)} must rise from each point to the next")
        if enforces_guardrails(info) and any(b > a for a, b in zip(self.factor, self.factor[1:], strict=False)):
            raise ValueError(f"factor = {list(self.factor)} must never rise: more use of lines earns no larger limit")
        return self


class CreditRiskPolicy(RiskPolicy):
    utilisation: UtilisationPolicy


class HaircutPolicy(Section):
    """Share of each asset's value that counts as backing."""

    housing: Share
    land_use_rights: Share
    equipment: Share
    deposits: Share


class ConductPolicy(Section):
    """The morality bank's uplift: m = 1 + u * clip((S - qualify) / span, 0, 1). Points are out of 110.

    S is shrunk to programme_mean by tau^2 n / (tau^2 n + s^2), where tau is the spread between households and s that
    between the n raters of one household (the reliability of a mean of n ratings: Spearman-Brown; Bühlmann's
    credibility).
    """

    u: Amount
    cap: Amount  # the most that conduct can add, in the policy's currency
    qualify: FiniteFloat
    span: PositiveFloat
    self_weight: Share
    programme_mean: FiniteFloat
    household_sd: PositiveFloat
    least_rater_sd: PositiveFloat  # raters who agree more closely than this have colluded
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
        return raise_faults(self, faults if enforces_guardrails(info) else [])


class ImprovementAction(Section):
    """A change that a household can make: `step` is added to an indicator, up to `end`."""

    indicator: NonEmptyText
    step: FiniteFloat
    end: FiniteFloat
    en: NonEmptyText
    zh: NonEmptyText

    @model_validator(mode="after")
    def _check_advice(self, info: ValidationInfo) -> ImprovementAction:
        faults = ["step is 0; it must be positive or negative"] if self.step == 0 else []
        if enforces_guardrails(info) and self.indicator in FORBIDDEN_ADVICE:
            faults.append(f"{self.indicator} must not be advised: that {FORBIDDEN_ADVICE[self.indicator]}")
        return raise_faults(self, faults)


class Policy(BasePolicy):
    """The policy of a credit limit. vetoes: statutory codes that refer to a person, with their sentences."""

    min_age: Count  # full legal capacity
    max_age_at_end: PositiveInt  # in years, at the end of the term
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
            raise ValueError(
                "product.asset_based is true; [haircuts] must then give the share of each asset that counts"
            )
        return self

    @model_validator(mode="after")
    def _check_facts(self, info: ValidationInfo) -> Policy:
        faults = find_stop_faults(self.stops, STOP_INDICATORS, REQUIRED_STOPS, info)
        required = (*INCOME, *(["debts"] if self.product.asset_based else []))
        faults += find_assumption_faults(self.unknown, required, info)
        if enforces_guardrails(info) and self.min_age < ADULT_AGE:
            faults.append(f"min_age is {self.min_age}; it must be {ADULT_AGE} or more: full legal capacity")
        faults += [
            f"vetoes: {code!r} says that no code was reported; give the code another name"
            for code in self.vetoes
            if not split_codes(code)
        ]
        return raise_faults(self, faults)
