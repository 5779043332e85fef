"""The parts of a limit formula that all products share, in the operations of arithmetic.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from models.policy.arithmetic import Bound, Flag, Number, ScalarOps, any_of
from models.policy.config import BasePolicy, IndicatorCondition


class LimitFormula:
    """A formula under one policy. A product adds its bounds, `loss_budget` and `evaluate`."""

    def __init__(self, policy: BasePolicy, ops: Any = ScalarOps):
        number, risk = ops.number, policy.risk
        self.ops, self.stops = ops, policy.stops
        self.assumed = {
            name: number(a.counts_as) for name, a in policy.unknown.items() if isinstance(a.counts_as, float)
        }
        self.zero, self.one = number(0.0), number(1.0)
        self.severity = number(risk.lgd * risk.ccf)
        self.pd_floor, self.product_cap = number(risk.pd_floor), number(policy.product.cap)
        self.grades = [(number(grade.pd_up_to), number(grade.loss_budget)) for grade in risk.grades]

    def risk_limit(self, pd: Number, other: Number) -> Number:
        """The largest limit whose expected loss keeps within the loss budget; `other` is the budget's second input."""
        return self.loss_budget(pd, other) / (self.ops.maximum(pd, self.pd_floor) * self.severity)

    def loss_budget(self, pd: Number, other: Number) -> Number:
        """The expected loss a year that this borrower may cost."""
        raise NotImplementedError

    def grade_budget(self, pd: Number) -> Number:
        """The expected loss a year that a borrower of this grade may cost."""
        budget = self.grades[-1][1]
        for edge, amount in reversed(self.grades[:-1]):
            budget = self.ops.where(pd <= edge, amount, budget)
        return budget

    def base_limit(self, bounds: Mapping[str, Bound]) -> Number:
        """The smallest of the bounds; one whose inputs are unknown has the amount under the policy's assumptions."""
        base = self.product_cap
        for amount, _ in bounds.values():
            base = self.ops.minimum(base, amount)
        return base

    def counted(self, inputs: Mapping[str, Number], name: str) -> Number:
        """An input, or what it counts as where it is unknown."""
        value = inputs[name]
        return self.ops.where(self.ops.is_known(value), value, self.assumed[name])

    def stop_reasons(self, inputs: Mapping[str, Number]) -> dict[str, Flag]:
        """The stop facts that hold, by code."""
        return {
            stop.code: self.ops.logical_and(self.ops.is_known(inputs[stop.indicator]), self.holds(stop, inputs))
            for stop in self.stops
        }

    def holds(self, condition: IndicatorCondition, inputs: Mapping[str, Number]) -> Flag:
        """Whether a known indicator meets the condition."""
        value, bound = inputs[condition.indicator], self.ops.number(condition.bound)
        return value <= bound if condition.at_least is None else value >= bound

    def lacks_needed(self, inputs: Mapping[str, Number], names: Iterable[str]) -> Flag:
        """Whether an indicator without which a person decides is unknown: one of `names`, or another input of the PD
        (`unknown_inputs` is their number).
        """
        is_known, logical_not = self.ops.is_known, self.ops.logical_not
        unknown = (logical_not(is_known(inputs[name])) for name in names)
        return any_of(self.ops, (inputs["unknown_inputs"] > 0, *unknown))
