"""Compute indicators from others by plain arithmetic, with the same bits for one applicant and for a batch.

A derived indicator is missing if any of its operands is. Both forms sum from left to right in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

FloatArray = NDArray[np.float64]
MAX_VALUE = 3.0e38  # slightly below the largest float32: larger values would reach the model as infinity
DAYS_PER = {"months": 365.25 / 12, "years": 365.25}
T = TypeVar("T", float, FloatArray)


class DerivedFormula(BaseModel):
    """A formula over earlier columns, named in `of` (and `by`).

    sum, mean, max, min: over `of`
    ratio: sum of `of` / sum of `by`; missing if the latter is not above 0, or so small that the ratio exceeds float32
    difference: the first less the second          count: how many of `of` are above `over`
    months, years: from the second of two dates to the first
    at_least, at_most: the one column of `of`, raised or lowered to `over`
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    op: Literal["sum", "mean", "max", "min", "ratio", "difference", "count", "at_least", "at_most", "months", "years"]
    of: tuple[str, ...]
    by: tuple[str, ...] = ()
    over: float = 0.0

    @model_validator(mode="after")
    def _validate_operands(self) -> DerivedFormula:
        if not self.of:
            raise ValueError(f"`of` is empty; {self.op} needs at least one column in it")
        if (self.op == "ratio") != bool(self.by):
            raise ValueError("`by` must be given for ratio, and for ratio only")
        if self.op in ("difference", *DAYS_PER) and len(self.of) != 2:
            raise ValueError(f"`of` names {len(self.of)} columns; {self.op} needs two")
        if self.op in ("at_least", "at_most") and len(self.of) != 1:
            raise ValueError(f"`of` names {len(self.of)} columns; {self.op} needs one")
        return self

    @property
    def operand_names(self) -> tuple[str, ...]:
        return self.of + self.by

    def compute(self, operands: Sequence[float], divisors: Sequence[float] = ()) -> float:
        """The value for one row; NaN is missing, a date is in days."""
        for value in (*operands, *divisors):
            if value != value:
                return math.nan
        match self.op:
            case "max":
                return max(operands)
            case "min":
                return min(operands)
            case "difference":
                return operands[0] - operands[1]
            case "months" | "years":
                return (operands[0] - operands[1]) / DAYS_PER[self.op]
            case "count":
                return float(sum(value > self.over for value in operands))
            case "at_least":
                return max(operands[0], self.over)
            case "at_most":
                return min(operands[0], self.over)
        total = _sum_in_order(operands)
        if self.op == "sum":
            return total
        if self.op == "mean":
            return total / len(operands)
        divisor = _sum_in_order(divisors)
        ratio = total / divisor if divisor > 0 else math.nan
        return ratio if abs(ratio) <= MAX_VALUE else math.nan

    def compute_batch(self, operands: Sequence[FloatArray], divisors: Sequence[FloatArray] = ()) -> FloatArray:
        """The values for a batch; each operand is (rows,), a date in days."""
        missing = np.logical_or.reduce([np.isnan(operand) for operand in (*operands, *divisors)])
        with np.errstate(all="ignore"):
            match self.op:
                case "max":
                    value = np.maximum.reduce(list(operands))
                case "min":
                    value = np.minimum.reduce(list(operands))
                case "difference":
                    value = operands[0] - operands[1]
                case "months" | "years":
                    value = (operands[0] - operands[1]) / DAYS_PER[self.op]
                case "count":
                    value = np.sum([operand > self.over for operand in operands], axis=0).astype(np.float64)
                case "at_least":
                    value = np.maximum(operands[0], self.over)
                case "at_most":
                    value = np.minimum(operands[0], self.over)
                case "sum":
                    value = _sum_in_order(operands)
                case "mean":
                    value = _sum_in_order(operands) / len(operands)
                case "ratio":
                    divisor = _sum_in_order(divisors)
                    value = np.where(divisor > 0, _sum_in_order(operands) / divisor, np.nan)
                    value = np.where(np.abs(value) <= MAX_VALUE, value, np.nan)
        return np.where(missing, np.nan, value)


def _sum_in_order(terms: Sequence[T]) -> T:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
