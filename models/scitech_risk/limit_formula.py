"""Compute a company's limit from a probability of default, by one formula for floats, numpy arrays and z3 reals.

    L_cover   = present value of max(0, operating cash flow / least cover - debt service) over the term,
                at the rate + stress
    L_revenue = sum over the stages of  multiple * (1 + u * I / 100) * revenue within the stage,
                where I is the innovation score under that stage's weights; missing indicators earn nothing
    L_backing = unsecured allowance + haircut * patents + haircut * data assets (with a certificate)
    L_risk    = largest L with PD * LGD * CCF * L <= loss budget of the grade (of the worst grade if none is given)
    L_base    = min(L_cover, L_revenue, L_backing, L_risk, product cap)
    L         = floor to the rounding of min(L_base, legal cap), and 0 if the gate blocks

Revenue counts stage by stage, like a progressive tax, each slice with the weights of its own stage, so no company loses
by growing into the next stage. Missing patents or data assets support nothing; a missing cash flow, debt service or
revenue counts as the policy assumes, and a person decides.

What is proved for reals holds for floats too: IEEE 754 rounds each step (+, *, /, min, max) monotonically, so rounding
cannot reverse an order; the floor uses an exact remainder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.policy.arithmetic import Bound, Flag, Number, ScalarOps, annuity_factor, any_of
from models.policy.limit_formula import LimitFormula
from models.scitech_risk.assessments.innovation_score import InnovationScore, InnovationScorer
from models.scitech_risk.assessments.shell_gate import GateResult, ShellGate
from models.scitech_risk.policy import (
    BACKING,
    CASH,
    DATA_ASSETS,
    EVIDENCE,
    INNOVATION,
    STAFF,
    STOP_INDICATORS,
    Policy,
)

# Groups that the PD never reads: the flags of the gate, and what supports the limit.
GATE_GROUPS = ("shell",)
BACKING_GROUPS = ("data_assets",)
INDICATORS = tuple(dict.fromkeys((*CASH, *BACKING, *DATA_ASSETS, *INNOVATION, *EVIDENCE, STAFF, *STOP_INDICATORS)))
# `unknown_inputs` is the number of unknown inputs of the PD without which a person decides.
FORMULA_INPUTS = ("pd", "known_share", "unknown_inputs", *INDICATORS)
BOUND_INPUTS = {"debt_service_cover": CASH, "revenue_multiple": ("revenue",)}  # without which a bound is not confirmed


@dataclass(slots=True)
class CompanyLimitResult:
    """The limit and all intermediate amounts, in the policy's currency.

    bounds: code -> Bound; the first of equal bounds is reported as binding.
    referral_reasons: code of a referral -> flag.
    """

    gate: GateResult
    innovation: InnovationScore
    bounds: dict[str, Bound]
    base: Number
    before_gate: Number
    unrounded: Number  # before rounding
    limit: Number
    referral_reasons: dict[str, Flag]
    referred: Flag  # any of `referral_reasons`; otherwise approved


class CompanyLimitFormula(LimitFormula):
    """The formula under one policy."""

    def __init__(self, policy: Policy, ops: Any = ScalarOps):
        super().__init__(policy, ops)
        self.policy, self.unit = policy, ops.number(policy.unit)
        named = {name for names in BOUND_INPUTS.values() for name in names}
        self.needed_facts = tuple(n for n in policy.needed_indicators if n in INDICATORS and n not in named)
        number, product, bounds = ops.number, policy.product, policy.bounds
        self.monthly_annuity = number(
            annuity_factor(product.annual_rate + product.rate_stress, product.term_months) / 12
        )
        self.min_cover = number(bounds.least_cover)
        starts = [0.0, *(stage.revenue_up_to for stage in policy.stages if stage.revenue_up_to is not None)]
        self.stage_ranges = [
            (number(start), None if stage.revenue_up_to is None else number(stage.revenue_up_to - start))
            for start, stage in zip(starts, policy.stages, strict=True)
        ]
        self._gate, self._innovation_scorer = ShellGate(policy.gate, ops), InnovationScorer(policy, ops)

    def evaluate(self, inputs: Mapping[str, Number]) -> CompanyLimitResult:
        """Evaluate the formula. inputs: all of FORMULA_INPUTS by name; absent values as NaN (for z3 as unknown)."""
        gate, innovation = self.evaluate_gate(inputs), self.score_innovation(inputs)
        bounds = self.bounds(inputs, innovation)
        base = self.base_limit(bounds)
        before_gate = self.ops.minimum(base, self.ops.number(self.policy.product.legal_cap))
        unrounded = self.ops.where(gate.block, self.zero, before_gate)
        referral_reasons = self.referral_reasons(inputs, gate, bounds, base)
        limit = self.ops.floor_to(unrounded, self.policy.product.rounding)
        referred = any_of(self.ops, referral_reasons.values())
        return CompanyLimitResult(
            gate, innovation, bounds, base, before_gate, unrounded, limit, referral_reasons, referred
        )

    def evaluate_gate(self, inputs: Mapping[str, Number]) -> GateResult:
        return self._gate.evaluate(inputs)

    def score_innovation(self, inputs: Mapping[str, Number]) -> InnovationScore:
        innovation = self._innovation_scorer.evaluate(inputs, self.score_indicator)
        innovation.low = [self.score_at_stage(stage, low) for stage, low in enumerate(innovation.low)]
        return innovation

    def score_indicator(self, indicator: str, value: Number) -> Number:
        return self._innovation_scorer.score_indicator(indicator, value)

    def score_at_stage(self, stage: int, low: Number) -> Number:
        return low

    def bounds(self, inputs: Mapping[str, Number], innovation: InnovationScore) -> dict[str, Bound]:
        """The upper bounds of the limit, by code."""
        is_known, logical_and = self.ops.is_known, self.ops.logical_and
        cash_flow, debt_service, revenue = (self.counted(inputs, name) for name in (*CASH, "revenue"))
        return {
            "debt_service_cover": (
                self.debt_service_limit(cash_flow, debt_service),
                logical_and(*(is_known(inputs[name]) for name in CASH)),
            ),
            "revenue_multiple": (self.revenue_limit(revenue, innovation.low), is_known(inputs["revenue"])),
            "backing": (self.backing_limit(inputs), True),
            "loss_budget": (self.risk_limit(inputs["pd"], inputs["known_share"]), True),
            "product_cap": (self.product_cap, True),
        }

    def debt_service_limit(self, cash_flow: Number, debt_service: Number) -> Number:
        """The loan that the cash flow can service; both inputs per year, in the register's money."""
        annual_capacity = cash_flow * self.unit / self.min_cover - debt_service * self.unit
        return self.ops.maximum(annual_capacity, self.zero) * self.monthly_annuity

    def revenue_limit(self, revenue: Number, low: list[Number]) -> Number:
        total = self.zero
        for stage, score in enumerate(low):
            total = total + self.stage_limit(stage, self.revenue_in_stage(stage, revenue), score)
        return total

    def revenue_in_stage(self, stage: int, revenue: Number) -> Number:
        """The part of the yearly revenue within a stage, in the currency."""
        start, width = self.stage_ranges[stage]
        inside = self.ops.maximum(revenue * self.unit - start, self.zero)
        return inside if width is None else self.ops.minimum(inside, width)

    def stage_limit(self, stage: int, stage_revenue: Number, score: Number) -> Number:
        return stage_revenue * self.stage_multiple(stage, score)

    def stage_multiple(self, stage: int, score: Number) -> Number:
        """The multiple of a stage's revenue at an innovation score."""
        number, uplift = self.ops.number, self.policy.bounds.innovation_uplift
        return number(self.policy.stages[stage].multiple) * (self.one + number(uplift / 100) * score)

    def backing_limit(self, inputs: Mapping[str, Number]) -> Number:
        ops, bounds = self.ops, self.policy.bounds
        patents, data, certified = inputs["patent_value"], inputs["data_asset_value"], inputs["data_certificate"]
        is_certified = ops.logical_and(ops.is_known(data), ops.logical_and(ops.is_known(certified), certified > 0))
        patent_backing = ops.where(ops.is_known(patents), ops.number(bounds.patents) * (patents * self.unit), self.zero)
        data_backing = ops.where(is_certified, ops.number(bounds.data_assets) * (data * self.unit), self.zero)
        return ops.number(bounds.unsecured) + patent_backing + data_backing

    def loss_budget(self, pd: Number, known_share: Number) -> Number:
        is_graded = known_share >= self.ops.number(self.policy.least_known.share)
        return self.ops.where(is_graded, self.grade_budget(pd), self.grades[-1][1])

    def referral_reasons(
        self, inputs: Mapping[str, Number], gate: GateResult, bounds: Mapping[str, Bound], base: Number
    ) -> dict[str, Flag]:
        """Why a company is referred to a person. Innovation matters only through the amount."""
        ops, policy = self.ops, self.policy
        return {
            **self.stop_reasons(inputs),
            "fact_unknown": self.lacks_needed(inputs, self.needed_facts),
            "warning_act": self._warns(inputs),
            "warning_unknown": any_of(
                ops, (ops.logical_not(ops.is_known(inputs[s.indicator])) for s in policy.act_signals)
            ),
            "gate_block": gate.block,
            "gate_review": ops.logical_and(gate.review, ops.logical_not(gate.block)),
            "evidence_unknown": gate.undecided,
            "too_little_known": inputs["known_share"] < ops.number(policy.least_known.share),
            "below_floor_grade": inputs["pd"] > ops.number(policy.approval_pd),
            "lacks_debt_service_cover": ops.logical_not(bounds["debt_service_cover"][1]),
            "lacks_revenue_multiple": ops.logical_not(bounds["revenue_multiple"][1]),
            "below_minimum": base < ops.number(policy.product.minimum),
        }

    def _warns(self, inputs: Mapping[str, Number]) -> Flag:
        """Whether a warning of severity 'act' is active."""
        ops = self.ops
        return any_of(
            ops,
            (
                ops.logical_and(ops.is_known(inputs[signal.indicator]), self.holds(signal, inputs))
                for signal in self.policy.act_signals
            ),
        )
