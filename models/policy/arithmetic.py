"""The operations in which a product's formula is written once: for one applicant, for many, and (prover.py) for z3."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Number = Any  # a float, a float64 array (n,) or a z3 real; NaN is missing, for z3 a separate flag
Flag = Any  # a bool, a bool array (n,), or a z3 bool
Bound = tuple[Number, Flag]  # an amount, and whether its inputs are known


class ScalarOps:
    """The operations on one applicant."""

    @staticmethod
    def number(value: float) -> Number:
        return value

    @staticmethod
    def is_known(value: Number) -> Flag:
        return value == value  # NaN is not equal to itself

    @staticmethod
    def where(flag: Flag, a: Number, b: Number) -> Number:
        return a if flag else b

    @staticmethod
    def minimum(a: Number, b: Number) -> Number:
        return a if a <= b else b

    @staticmethod
    def maximum(a: Number, b: Number) -> Number:
        return a if a >= b else b

    @staticmethod
    def logical_and(a: Flag, b: Flag) -> Flag:
        return a and b

    @staticmethod
    def logical_or(a: Flag, b: Flag) -> Flag:
        return a or b

    @staticmethod
    def logical_not(a: Flag) -> Flag:
        return not a

    @staticmethod
    def floor_to(value: Number, step: float) -> Number:
        return value - value % step  # the remainder is exact (C's fmod), so this never rounds up


class ArrayOps:
    """The same operations on float64 arrays (n,)."""

    number, is_known = ScalarOps.number, ScalarOps.is_known
    where: Any = staticmethod(np.where)
    minimum: Any = staticmethod(np.minimum)
    maximum: Any = staticmethod(np.maximum)
    logical_and: Any = staticmethod(np.logical_and)
    logical_or: Any = staticmethod(np.logical_or)
    logical_not: Any = staticmethod(np.logical_not)

    @staticmethod
    def floor_to(value: Number, step: float) -> Number:
        return value - np.fmod(value, step)


def any_of(ops: Any, flags: Iterable[Flag]) -> Flag:
    """Whether at least one flag holds; False for none."""
    result: Flag = False
    for flag in flags:
        result = ops.logical_or(result, flag)
    return result


def all_of(ops: Any, flags: Iterable[Flag]) -> Flag:
    """Whether every flag holds; True for none."""
    result: Flag = True
    for flag in flags:
        result = ops.logical_and(result, flag)
    return result


def annuity_factor(annual_rate: float, months: int) -> float:
    """Present value of 1 a month, paid at the end of each month."""
    rate = annual_rate / 12
    return (1 - (1 + rate) ** -months) / rate if rate else float(months)
