"""The parts of a limit formula that all products share, in the operations of arithmetic.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.policy.arithmetic import Bound, Number, ScalarOps, minimum_if_known
from models.policy.config import BasePolicy


class LimitFormula:
    """A formula under one policy. A product adds its bounds, `loss_budget` and `evaluate`."""

    def __init__(self, policy: BasePolicy, ops: Any = ScalarOps):
        number, risk = ops.number, policy.risk
        self.ops = ops
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
        """The smallest of the known bounds and the product cap."""
        base = self.product_cap
        for amount, known in bounds.values():
            base = minimum_if_known(self.ops, base, amount, known)
        return base
