"""Indicators made from others by plain arithmetic, the same to the last bit for one applicant and for a million.

A derived indicator is missing where any of its parts is. Sums run from left to right in float64 in both forms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

Floats = NDArray[np.float64]
LARGEST = 3.0e38  # a little under float32's largest: what lies beyond would reach the model as infinity
T = TypeVar("T", float, Floats)


class Derived(BaseModel):
    """One formula over columns that stand before it, `of` (and `by`) being their names.

    sum, mean, max, min: over `of`
    ratio: sum of `of` / sum of `by`; missing where the latter is not above 0, or so little that the ratio is not finite
           to a model
    difference: first less second          count: how many of `of` are above `over`
    at_least, at_most: the one column of `of`, no lower or no higher than `over`
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    op: Literal["sum", "mean", "max", "min", "ratio", "difference", "count", "at_least", "at_most"]
    of: tuple[str, ...]
    by: tuple[str, ...] = ()
    over: float = 0.0

    @model_validator(mode="after")
    def _has_its_parts(self) -> Derived:
        if not self.of:
            raise ValueError(f"{self.op} needs at least one column in `of`")
        if (self.op == "ratio") != bool(self.by):
            raise ValueError("`by` goes with ratio, and ratio needs it")
        if self.op == "difference" and len(self.of) != 2:
            raise ValueError(f"difference is of two columns; {len(self.of)} are named")
        if self.op in ("at_least", "at_most") and len(self.of) != 1:
            raise ValueError(f"{self.op} is of one column; {len(self.of)} are named")
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        return self.of + self.by

    def one(self, of: Sequence[float], by: Sequence[float] = ()) -> float:
        """The value for one row; NaN is missing."""
        for value in (*of, *by):
            if value != value:
                return math.nan
        match self.op:
            case "max":
                return max(of)
            case "min":
                return min(of)
            case "difference":
                return of[0] - of[1]
            case "count":
                return float(sum(value > self.over for value in of))
            case "at_least":
                return max(of[0], self.over)
            case "at_most":
                return min(of[0], self.over)
        total = _plain_sum(of)
        if self.op == "sum":
            return total
        if self.op == "mean":
            return total / len(of)
        whole = _plain_sum(by)
        ratio = total / whole if whole > 0 else math.nan
        return ratio if abs(ratio) <= LARGEST else math.nan

    def many(self, of: Sequence[Floats], by: Sequence[Floats] = ()) -> Floats:
        """The values for many rows, each part (rows,)."""
        missing = np.logical_or.reduce([np.isnan(part) for part in (*of, *by)])
        with np.errstate(all="ignore"):
            match self.op:
                case "max":
                    value = np.maximum.reduce(list(of))
                case "min":
                    value = np.minimum.reduce(list(of))
                case "difference":
                    value = of[0] - of[1]
                case "count":
                    value = np.sum([part > self.over for part in of], axis=0).astype(np.float64)
                case "at_least":
                    value = np.maximum(of[0], self.over)
                case "at_most":
                    value = np.minimum(of[0], self.over)
                case "sum":
                    value = _plain_sum(of)
                case "mean":
                    value = _plain_sum(of) / len(of)
                case "ratio":
                    whole = _plain_sum(by)
                    value = np.where(whole > 0, _plain_sum(of) / whole, np.nan)
                    value = np.where(np.abs(value) <= LARGEST, value, np.nan)
        return np.where(missing, np.nan, value)


def _plain_sum(parts: Sequence[T]) -> T:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
