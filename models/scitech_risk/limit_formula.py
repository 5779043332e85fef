"""From a probability to a limit: the formula, written once for floats, numpy arrays and z3's reals.

    L_cover   = present value of max(0, operating cash flow / least cover - debt service) over the term,
                at the rate + stress
    L_revenue = sum over the stages of  multiple * (1 + u * I / 100) * revenue that lies within the stage,
                I the innovation score under that stage's weights, what is missing earning nothing
    L_backing = unsecured allowance + haircut * patents + haircut * data assets (with a certificate)
    L_risk    = largest L with PD * LGD * CCF * L <= loss budget of the grade (the worst one's where none is given)
    L_base    = min(L_cover, L_revenue, L_backing, L_risk, product cap)
    L         = floor to the rounding of min(L_base, legal cap), and 0 where the gate blocks

Revenue counts stage by stage, as a tax does, and each slice with the weights of its own stage: so no company loses by
growing into the next one. Missing patents or data assets back nothing; a missing cash flow, debt service or revenue
leaves its bound out, and a person decides.

What the solver proves of the reals holds of the floats too: IEEE 754 rounds each single step (+, *, /, min, max)
monotonically, so rounding cannot turn an order round; the floor is taken by an exact remainder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.policy.arithmetic import Bound, Flag, Floats, Number, annuity, any_of, least_known
from models.scitech_risk.innovation_score import Innovation, Scored
from models.scitech_risk.policy import BACKING, CASH, DATA, EVIDENCE, INNOVATION, STAFF, Policy
from models.scitech_risk.shell_gate import Gate, Gated

# What the PD never reads: the gate's flags, and what backs the limit.
GATE_GROUPS = ("shell",)
BACKING_GROUPS = ("data_assets",)
INDICATORS = tuple(dict.fromkeys((*CASH, *BACKING, *DATA, *INNOVATION, *EVIDENCE, STAFF)))
READS = ("pd", "known_share", *INDICATORS)  # the numbers the formula reads; missing ones must be there as missing


@dataclass(slots=True)
class Worked:
    """The limit and every amount on the way, in the policy's currency.

    bounds: code -> Bound, in the order in which a tie is told.
    refer:  code of a referral -> flag.
    """

    gate: Gated
    innovation: Scored
    bounds: dict[str, Bound]
    base: Number
    capped: Number  # before the gate
    exact: Number  # before rounding
    limit: Number
    refer: dict[str, Flag]
    referred: Flag  # any of `refer`; otherwise approved: there is no third answer


class Formula:
    """The formula under one policy; `work` takes READS by name."""

    def __init__(self, policy: Policy, ops: Any = Floats):
        self.policy, self.ops = policy, ops
        number, product, risk, bounds = ops.number, policy.product, policy.risk, policy.bounds
        self.zero, self.one, self.unit = number(0.0), number(1.0), number(policy.unit)
        self.monthly = number(annuity(product.annual_rate + product.rate_stress, product.term_months) / 12)
        self.cover = number(bounds.least_cover)
        self.severity = number(risk.lgd * risk.ccf)
        self.grades = [(number(grade.pd_up_to), number(grade.loss_budget)) for grade in risk.grades]
        starts = [0.0, *(stage.revenue_up_to for stage in policy.stages if stage.revenue_up_to is not None)]
        self.slices = [
            (number(start), None if stage.revenue_up_to is None else number(stage.revenue_up_to - start))
            for start, stage in zip(starts, policy.stages, strict=True)
        ]
        self._gate, self._innovation = Gate(policy.gate, ops), Innovation(policy, ops)

    def work(self, a: Mapping[str, Number]) -> Worked:
        """A company's numbers -> Worked."""
        gate, scored = self.gate(a), self.innovation(a)
        bounds = self.bounds(a, scored)
        base = self.base(bounds)
        capped = self.ops.least(base, self.ops.number(self.policy.product.legal_cap))
        exact = self.ops.where(gate.block, self.zero, capped)
        refer = self.refer(a, gate, bounds, base)
        limit = self.ops.floor_to(exact, self.policy.product.rounding)
        referred = any_of(self.ops, refer.values())
        return Worked(gate, scored, bounds, base, capped, exact, limit, refer, referred)

    def gate(self, a: Mapping[str, Number]) -> Gated:
        return self._gate.work(a)

    def innovation(self, a: Mapping[str, Number]) -> Scored:
        scored = self._innovation.work(a, self.earned)
        scored.low = [self.scored(at, low) for at, low in enumerate(scored.low)]
        return scored

    def earned(self, indicator: str, value: Number) -> Number:
        return self._innovation.earned(indicator, value)

    def scored(self, stage: int, low: Number) -> Number:
        return low

    def bounds(self, a: Mapping[str, Number], scored: Scored) -> dict[str, Bound]:
        known, both = self.ops.known, self.ops.both
        flow, service, revenue = a["operating_cash_flow"], a["debt_service"], a["revenue"]
        return {
            "debt_service_cover": (self.covered(flow, service), both(known(flow), known(service))),
            "revenue_multiple": (self.turned_over(revenue, scored.low), known(revenue)),
            "backing": (self.backing(a), True),
            "loss_budget": (self.risk(a["pd"], a["known_share"]), True),
            "product_cap": (self.ops.number(self.policy.product.cap), True),
        }

    def covered(self, flow: Number, service: Number) -> Number:
        """Both a year, in the register's money."""
        room = flow * self.unit / self.cover - service * self.unit
        return self.ops.most(room, self.zero) * self.monthly

    def turned_over(self, revenue: Number, low: list[Number]) -> Number:
        total = self.zero
        for at, score in enumerate(low):
            total = total + self.slice(at, self.within(at, revenue), score)
        return total

    def within(self, stage: int, revenue: Number) -> Number:
        """The year's revenue that lies within a stage, in the currency."""
        start, width = self.slices[stage]
        inside = self.ops.most(revenue * self.unit - start, self.zero)
        return inside if width is None else self.ops.least(inside, width)

    def slice(self, stage: int, within: Number, score: Number) -> Number:
        return within * self.raised(stage, score)

    def raised(self, stage: int, score: Number) -> Number:
        """The multiple of a stage's revenue at an innovation score."""
        number, uplift = self.ops.number, self.policy.bounds.innovation_uplift
        return number(self.policy.stages[stage].multiple) * (self.one + number(uplift / 100) * score)

    def backing(self, a: Mapping[str, Number]) -> Number:
        ops, bounds = self.ops, self.policy.bounds
        patents, data, certified = a["patent_value"], a["data_asset_value"], a["data_certificate"]
        counts = ops.both(ops.known(data), ops.both(ops.known(certified), certified > 0))
        pledged = ops.where(ops.known(patents), ops.number(bounds.patents) * (patents * self.unit), self.zero)
        registered = ops.where(counts, ops.number(bounds.data_assets) * (data * self.unit), self.zero)
        return ops.number(bounds.unsecured) + pledged + registered

    def risk(self, pd: Number, known_share: Number) -> Number:
        least = self.ops.number(self.policy.risk.pd_floor)
        return self.budget(pd, known_share) / (self.ops.most(pd, least) * self.severity)

    def budget(self, pd: Number, known_share: Number) -> Number:
        """What this company may be expected to cost, a year."""
        graded = known_share >= self.ops.number(self.policy.least_known.share)
        return self.ops.where(graded, self.grade_budget(pd), self.grades[-1][1])

    def grade_budget(self, pd: Number) -> Number:
        """What a company of this grade may be expected to cost, a year."""
        budget = self.grades[-1][1]
        for edge, amount in reversed(self.grades[:-1]):
            budget = self.ops.where(pd <= edge, amount, budget)
        return budget

    def base(self, bounds: Mapping[str, Bound]) -> Number:
        base = self.ops.number(self.policy.product.cap)
        for amount, known in bounds.values():
            base = least_known(self.ops, base, amount, known)
        return base

    def refer(self, a: Mapping[str, Number], gate: Gated, bounds: Mapping[str, Bound], base: Number) -> dict[str, Flag]:
        """What sends a company to a person; innovation is no part of it but by the amount."""
        ops, policy = self.ops, self.policy
        return {
            "gate_block": gate.block,
            "gate_review": ops.both(gate.review, ops.negate(gate.block)),
            "too_little_known": a["known_share"] < ops.number(policy.least_known.share),
            "below_floor_grade": a["pd"] > ops.number(policy.approval_pd),
            "lacks_debt_service_cover": ops.negate(bounds["debt_service_cover"][1]),
            "lacks_revenue_multiple": ops.negate(bounds["revenue_multiple"][1]),
            "below_minimum": base < ops.number(policy.product.minimum),
        }
