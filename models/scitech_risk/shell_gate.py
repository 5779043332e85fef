"""The shell gate (空壳闸门): what speaks for a company being empty; whether a person must look, or it is blocked.

A piece of evidence holds, does not hold, or cannot be told; what cannot be told is no evidence and not clean either:
where too little can be told a person looks. In the operations of models/policy/arithmetic.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.policy.arithmetic import Flag, Number, any_of
from models.scitech_risk import policy

VERDICTS = ("pass", "review", "block")
Condition = tuple[str, Number, Number]  # indicator, at least, at most: one of the two is None


@dataclass(slots=True)
class Gated:
    """holds, unknown: code of a piece of evidence -> flag. blind: too little can be told."""

    holds: dict[str, Flag]
    unknown: dict[str, Flag]
    points: Number
    known: Number  # points of the evidence that can be told
    sources: Number  # independent ones among what holds
    blind: Flag
    review: Flag  # or worse
    block: Flag


class Gate:
    """The gate of one policy; `work` takes indicators by name, missing ones as missing."""

    def __init__(self, section: policy.Gate, ops: Any):
        number = ops.number
        self.ops, self.zero, self.one = ops, number(0.0), number(1.0)
        self.evidence = [
            (piece.code, piece.source, piece.reviews, number(piece.points),
             [self._condition(part) for part in (piece, piece.beside) if part is not None])
            for piece in section.evidence
        ]  # fmt: skip
        everything = sum(piece.points for piece in section.evidence)
        self.review, self.block, self.sources = number(section.review), number(section.block), number(section.sources)
        self.least = number(section.least_known * everything) if everything else None

    def work(self, a: Mapping[str, Number]) -> Gated:
        ops, zero = self.ops, self.zero
        holds: dict[str, Flag] = {}
        unknown: dict[str, Flag] = {}
        by_source: dict[str, Flag] = {}
        alone: Flag = False
        points, known, sources = zero, zero, zero
        for code, source, reviews, worth, conditions in self.evidence:
            met, hidden = self._piece(conditions, a)
            holds[code], unknown[code] = met, hidden
            points = points + ops.where(met, worth, zero)
            known = known + ops.where(hidden, zero, worth)
            by_source[source] = ops.either(by_source.get(source, False), met)
            if reviews:
                alone = ops.either(alone, met)
        for some in by_source.values():
            sources = sources + ops.where(some, self.one, zero)
        blind = True if self.least is None else known < self.least  # where nothing is asked, nothing is told
        block = ops.both(points >= self.block, sources >= self.sources)
        review = any_of(ops, (points >= self.review, block, alone, blind))
        return Gated(holds, unknown, points, known, sources, blind, review, block)

    def _piece(self, conditions: list[Condition], a: Mapping[str, Number]) -> tuple[Flag, Flag]:
        """(holds, cannot be told): one condition that is known not to hold is enough to tell."""
        ops = self.ops
        holds: Flag = True
        clean: Flag = False
        for indicator, least, most in conditions:
            value = a[indicator]
            known, met = ops.known(value), value <= most if least is None else value >= least
            holds = ops.both(holds, ops.both(known, met))
            clean = ops.either(clean, ops.both(known, ops.negate(met)))
        return holds, ops.negate(ops.either(holds, clean))

    def _condition(self, condition: policy.Condition) -> Condition:
        least, most = condition.at_least, condition.at_most
        number = self.ops.number
        return condition.indicator, None if least is None else number(least), None if most is None else number(most)
