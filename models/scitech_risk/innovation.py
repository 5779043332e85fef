"""The innovation score: three groups of indicators, weighed as a company's stage of growth has it, 0 to 100.

`score` is over what is known; `low` is what it would be if all that is missing earned nothing, and it is `low` that
may raise a limit, so leaving something out never helps. In the operations of models/operations.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models.operations import Flag, Number
from models.scitech_risk.policy import GROUPS, Policy


@dataclass(slots=True)
class Scored:
    """Each list is by stage. weight: of each indicator in the score, summing to 1.

    coverage: share of the weight that is known. score: of what is known, missing where that is nothing.
    """

    earned: dict[str, Number]  # indicator -> 0 to 1; 0 where missing
    known: dict[str, Flag]
    low: list[Number]
    coverage: list[Number]


class Innovation:
    """The score under one policy, for every stage."""

    def __init__(self, policy: Policy, ops: Any):
        number = ops.number
        self.ops, self.zero, self.one = ops, number(0.0), number(1.0)
        self.ramps = {
            ramp.indicator: (number(ramp.floor), number(ramp.full - ramp.floor))
            for ramp in policy.innovation.indicators
        }
        self.stages = [
            [(name, number(100 * share), number(share)) for name, share in weights(policy, at).items()]
            for at in range(len(policy.stages))
        ]

    def work(self, a: Mapping[str, Number], earned_by: Callable[[str, Number], Number] | None = None) -> Scored:
        """`earned_by` stands in for `earned` where a proof looks at it apart."""
        where, zero, earns = self.ops.where, self.zero, earned_by or self.earned
        known = {name: self.ops.known(a[name]) for name in self.ramps}
        earned = {name: earns(name, a[name]) for name in self.ramps}
        low, coverage = [], []
        for stage in self.stages:
            got, told = zero, zero
            for name, points, share in stage:
                got = got + points * earned[name]
                told = told + where(known[name], share, zero)
            low.append(got)
            coverage.append(told)
        return Scored(earned, known, low, coverage)

    def earned(self, indicator: str, value: Number) -> Number:
        floor, width = self.ramps[indicator]
        up = self.ops.least(self.ops.most((value - floor) / width, self.zero), self.one)
        return self.ops.where(self.ops.known(value), up, self.zero)


def weights(policy: Policy, stage: int) -> dict[str, float]:
    """Indicator -> its share of the score at that stage; they sum to 1."""
    groups = policy.stages[stage].weights
    whole = sum(groups.values())
    inside = {group: sum(r.weight for r in policy.innovation.indicators if r.group == group) for group in GROUPS}
    return {
        ramp.indicator: groups[ramp.group] / whole * ramp.weight / inside[ramp.group]
        for ramp in policy.innovation.indicators
    }
