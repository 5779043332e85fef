"""The shell gate (空壳闸门): what speaks for a company being empty; whether a person must look, or it is blocked.

A piece of evidence holds, does not hold, or cannot be told; what cannot be told is no evidence and not clean either:
where too little can be told a person looks. In the operations of models/operations.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.operations import Flag, Number, any_of
from models.scitech_risk.policy import Condition
from models.scitech_risk.policy import Gate as Section

VERDICTS = ("pass", "review", "block")


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

    def __init__(self, section: Section, ops: Any):
        self.section, self.ops = section, ops

    def work(self, a: Mapping[str, Number]) -> Gated:
        ops, number, gate = self.ops, self.ops.number, self.section
        holds: dict[str, Flag] = {}
        unknown: dict[str, Flag] = {}
        by_source: dict[str, Flag] = {}
        points, known, sources = number(0.0), number(0.0), number(0.0)
        for piece in gate.evidence:
            holds[piece.code], unknown[piece.code] = told = self._piece(piece, piece.beside, a)
            points = points + ops.where(told[0], number(piece.points), number(0.0))
            known = known + ops.where(told[1], number(0.0), number(piece.points))
            by_source[piece.source] = ops.either(by_source.get(piece.source, False), told[0])
        for some in by_source.values():
            sources = sources + ops.where(some, number(1.0), number(0.0))
        blind = self._blind(known)
        alone = any_of(ops, (holds[piece.code] for piece in gate.evidence if piece.reviews))
        block = ops.both(points >= number(gate.block), sources >= number(float(gate.sources)))
        review = any_of(ops, (points >= number(gate.review), block, alone, blind))
        return Gated(holds, unknown, points, known, sources, blind, review, block)

    def _blind(self, known: Number) -> Flag:
        everything = sum(piece.points for piece in self.section.evidence)
        if not everything:  # nothing is asked, so nothing is told
            return True
        return known < self.ops.number(self.section.least_known * everything)

    def _piece(self, piece: Condition, beside: Condition | None, a: Mapping[str, Number]) -> tuple[Flag, Flag]:
        """(holds, cannot be told)."""
        ops = self.ops
        known, met = self._condition(piece, a)
        if beside is None:
            return ops.both(known, met), ops.negate(known)
        known_too, met_too = self._condition(beside, a)
        clean = ops.either(ops.both(known, ops.negate(met)), ops.both(known_too, ops.negate(met_too)))
        holds = ops.both(ops.both(known, met), ops.both(known_too, met_too))
        return holds, ops.negate(ops.either(holds, clean))

    def _condition(self, condition: Condition, a: Mapping[str, Number]) -> tuple[Flag, Flag]:
        value, number = a[condition.indicator], self.ops.number
        if condition.at_least is not None:
            return self.ops.known(value), value >= number(condition.at_least)
        assert condition.at_most is not None  # one of the two: Condition
        return self.ops.known(value), value <= number(condition.at_most)
