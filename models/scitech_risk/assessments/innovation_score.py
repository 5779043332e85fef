"""Compute the innovation score, 0 to 100: three groups of indicators, weighted by a company's stage of growth.

The score is relative to the known indicators. `low` is the score if missing indicators earn nothing; only `low` may
raise a limit, so leaving out an indicator never helps. Written in the operations of models/policy/arithmetic.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models.policy.arithmetic import Number
from models.scitech_risk.policy import INNOVATION_GROUPS, Policy


@dataclass(slots=True)
class InnovationScore:
    """groups: group -> (points earned, weight known), each 0 to 1. The lists have one item per stage.

    low: 0 to 100, where missing indicators earn nothing. coverage: share of the weight that is known.
    """

    groups: dict[str, tuple[Number, Number]]
    low: list[Number]
    coverage: list[Number]


class InnovationScorer:
    """The score under one policy, for every stage."""

    def __init__(self, policy: Policy, ops: Any):
        number = ops.number
        self.ops, self.zero, self.one = ops, number(0.0), number(1.0)
        self.ramps = {
            ramp.indicator: (number(ramp.floor), number(ramp.full - ramp.floor))
            for ramp in policy.innovation.indicators
        }
        # Weights within a group are the same at every stage, so each indicator is scored once.
        group_weights = indicator_weights(policy)
        self.groups = [
            (group, [(name, number(w)) for name, w in indicators.items()])
            for group, indicators in group_weights.items()
        ]
        self.stages = [
            [(group, number(100 * share), number(share)) for group, share in stage_weights(policy, stage).items()]
            for stage in range(len(policy.stages))
        ]

    def evaluate(
        self, inputs: Mapping[str, Number], score_indicator: Callable[[str, Number], Number] | None = None
    ) -> InnovationScore:
        """Evaluate the score. score_indicator: replaces the method in proofs, which treat it as an unknown."""
        where, zero, score = self.ops.where, self.zero, score_indicator or self.score_indicator
        sums = {}
        for group, indicators in self.groups:
            points_sum, known_sum = zero, zero
            for name, weight in indicators:
                points_sum = points_sum + weight * score(name, inputs[name])
                known_sum = known_sum + where(self.ops.is_known(inputs[name]), weight, zero)
            sums[group] = points_sum, known_sum
        low, coverage = [], []
        for stage in self.stages:
            points_sum, known_sum = zero, zero
            for group, points, share in stage:
                points_sum = points_sum + points * sums[group][0]
                known_sum = known_sum + share * sums[group][1]
            low.append(points_sum)
            coverage.append(known_sum)
        return InnovationScore(sums, low, coverage)

    def score_indicator(self, indicator: str, value: Number) -> Number:
        """0 to 1, linear between the ramp's floor and its full value; 0 if missing."""
        floor, width = self.ramps[indicator]
        share = self.ops.minimum(self.ops.maximum((value - floor) / width, self.zero), self.one)
        return self.ops.where(self.ops.is_known(value), share, self.zero)


def stage_weights(policy: Policy, stage: int) -> dict[str, float]:
    """Group -> its share of the score at that stage; the shares sum to 1."""
    groups = policy.stages[stage].weights
    total = sum(groups.values())
    return {group: weight / total for group, weight in groups.items()}


def indicator_weights(policy: Policy) -> dict[str, dict[str, float]]:
    """Group -> indicator -> its share of the group; the shares sum to 1."""
    ramps = policy.innovation.indicators
    totals = {group: sum(ramp.weight for ramp in ramps if ramp.group == group) for group in INNOVATION_GROUPS}
    return {
        group: {r.indicator: r.weight / totals[group] for r in ramps if r.group == group} for group in INNOVATION_GROUPS
    }
