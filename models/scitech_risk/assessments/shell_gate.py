"""Evaluate the shell gate (空壳闸门): evidence that a company is a shell, and whether it needs a review or is blocked.

A piece of evidence holds, does not hold, or is unknown. Unknown evidence counts neither way; where it could call for a
review, or too much is unknown, a person decides, so hiding it never pays. Written in the operations of
models/policy/arithmetic.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.policy.arithmetic import Flag, Number, any_of
from models.policy.config import IndicatorCondition
from models.scitech_risk import policy

VERDICTS = ("pass", "review", "block")
BoundCondition = tuple[str, Number, Number]  # indicator, at least, at most: one of the bounds is None


@dataclass(slots=True)
class GateResult:
    """holds, unknown: code of a piece of evidence -> flag. insufficient_data: too much evidence is unknown."""

    holds: dict[str, Flag]
    unknown: dict[str, Flag]
    points: Number
    known: Number  # points of the evidence that is known
    sources: Number  # number of independent sources among the evidence that holds
    insufficient_data: Flag
    undecided: Flag  # no review, but unknown evidence could call for one
    review: Flag  # or block
    block: Flag


class ShellGate:
    """The gate of one policy; `evaluate` takes all indicators by name, with missing ones as NaN."""

    def __init__(self, section: policy.ShellGatePolicy, ops: Any):
        number = ops.number
        self.ops, self.zero, self.one = ops, number(0.0), number(1.0)
        self.evidence = [
            (piece.code, piece.source, piece.reviews, number(piece.points),
             [self._bind_condition(condition) for condition in (piece, piece.beside) if condition is not None])
            for piece in section.evidence
        ]  # fmt: skip
        total_points = sum(piece.points for piece in section.evidence)
        self.review, self.block, self.sources = number(section.review), number(section.block), number(section.sources)
        self.min_known_points = number(section.least_known * total_points) if total_points else None

    def evaluate(self, inputs: Mapping[str, Number]) -> GateResult:
        """Weigh the evidence of one company, or of many."""
        ops, zero = self.ops, self.zero
        holds: dict[str, Flag] = {}
        unknown: dict[str, Flag] = {}
        by_source: dict[str, Flag] = {}
        sufficient_alone: Flag = False
        unknown_alone: Flag = False
        points, unknown_points, known, sources = zero, zero, zero, zero
        for code, source, reviews, piece_points, conditions in self.evidence:
            is_met, is_unknown = self._evaluate_piece(conditions, inputs)
            holds[code], unknown[code] = is_met, is_unknown
            points = points + ops.where(is_met, piece_points, zero)
            known = known + ops.where(is_unknown, zero, piece_points)
            by_source[source] = ops.logical_or(by_source.get(source, False), is_met)
            unknown_points = unknown_points + ops.where(is_unknown, piece_points, zero)
            if reviews:
                sufficient_alone = ops.logical_or(sufficient_alone, is_met)
                unknown_alone = ops.logical_or(unknown_alone, is_unknown)
        for has_evidence in by_source.values():
            sources = sources + ops.where(has_evidence, self.one, zero)
        # a gate without evidence knows nothing
        insufficient_data = True if self.min_known_points is None else known < self.min_known_points
        block = ops.logical_and(points >= self.block, sources >= self.sources)
        review = any_of(ops, (points >= self.review, block, sufficient_alone, insufficient_data))
        could_review = ops.logical_or(points + unknown_points >= self.review, unknown_alone)
        undecided = ops.logical_and(could_review, ops.logical_not(review))
        return GateResult(holds, unknown, points, known, sources, insufficient_data, undecided, review, block)

    def _evaluate_piece(self, conditions: list[BoundCondition], inputs: Mapping[str, Number]) -> tuple[Flag, Flag]:
        """(holds, unknown): one condition known not to hold is enough to refute the evidence."""
        ops = self.ops
        holds: Flag = True
        is_refuted: Flag = False
        for indicator, minimum, maximum in conditions:
            value = inputs[indicator]
            known, is_met = ops.is_known(value), value <= maximum if minimum is None else value >= minimum
            holds = ops.logical_and(holds, ops.logical_and(known, is_met))
            is_refuted = ops.logical_or(is_refuted, ops.logical_and(known, ops.logical_not(is_met)))
        return holds, ops.logical_not(ops.logical_or(holds, is_refuted))

    def _bind_condition(self, condition: IndicatorCondition) -> BoundCondition:
        minimum, maximum = condition.at_least, condition.at_most
        number = self.ops.number
        return (
            condition.indicator,
            None if minimum is None else number(minimum),
            None if maximum is None else number(maximum),
        )
