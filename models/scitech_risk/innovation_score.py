"""The innovation score: three groups of indicators, weighed as a company's stage of growth has it, 0 to 100.

`score` is over what is known; `low` is what it would be if all that is missing earned nothing, and it is `low` that
may raise a limit, so leaving something out never helps. In the operations of models/policy/arithmetic.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models.policy.arithmetic import Number
from models.scitech_risk.policy import GROUPS, Policy


@dataclass(slots=True)
class Scored:
    """groups: group -> (what it earns, what of it is known), each 0 to 1. The lists are by stage.

    low: 0 to 100, what is missing earning nothing. coverage: share of the weight that is known.
    """

    groups: dict[str, tuple[Number, Number]]
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
        # Within a group the weights are those of every stage, so each indicator is looked at once.
        inside = weights_inside(policy)
        self.groups = [(group, [(name, number(w)) for name, w in named.items()]) for group, named in inside.items()]
        self.stages = [
            [(group, number(100 * share), number(share)) for group, share in weights(policy, at).items()]
            for at in range(len(policy.stages))
        ]

    def work(self, a: Mapping[str, Number], earned_by: Callable[[str, Number], Number] | None = None) -> Scored:
        """`earned_by` stands in for `earned` where a proof looks at it apart."""
        where, zero, earns = self.ops.where, self.zero, earned_by or self.earned
        sums = {}
        for group, named in self.groups:
            got, told = zero, zero
            for name, weight in named:
                got = got + weight * earns(name, a[name])
                told = told + where(self.ops.known(a[name]), weight, zero)
            sums[group] = got, told
        low, coverage = [], []
        for stage in self.stages:
            got, told = zero, zero
            for group, points, share in stage:
                got = got + points * sums[group][0]
                told = told + share * sums[group][1]
            low.append(got)
            coverage.append(told)
        return Scored(sums, low, coverage)

    def earned(self, indicator: str, value: Number) -> Number:
        floor, width = self.ramps[indicator]
        up = self.ops.least(self.ops.most((value - floor) / width, self.zero), self.one)
        return self.ops.where(self.ops.known(value), up, self.zero)


def weights(policy: Policy, stage: int) -> dict[str, float]:
    """Group -> its share of the score at that stage; they sum to 1."""
    groups = policy.stages[stage].weights
    whole = sum(groups.values())
    return {group: weight / whole for group, weight in groups.items()}


def weights_inside(policy: Policy) -> dict[str, dict[str, float]]:
    """Group -> indicator -> its share of the group; they sum to 1."""
    ramps = policy.innovation.indicators
    whole = {group: sum(ramp.weight for ramp in ramps if ramp.group == group) for group in GROUPS}
    return {group: {r.indicator: r.weight / whole[group] for r in ramps if r.group == group} for group in GROUPS}
