"""The operations in which a product's formula is written once: for one applicant, for many, and (prove.py) for z3."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Number = Any  # a float, a float64 array (n,), or a z3 real; missing is NaN, for z3 a flag of its own
Flag = Any  # a bool, a bool array (n,), or a z3 bool
Bound = tuple[Number, Flag]  # an amount, and whether its inputs are known


class Floats:
    """The operations on one applicant."""

    @staticmethod
    def number(value: float) -> Number:
        return value

    @staticmethod
    def known(value: Number) -> Flag:
        return value == value  # NaN is not itself

    @staticmethod
    def where(flag: Flag, a: Number, b: Number) -> Number:
        return a if flag else b

    @staticmethod
    def least(a: Number, b: Number) -> Number:
        return a if a <= b else b

    @staticmethod
    def most(a: Number, b: Number) -> Number:
        return a if a >= b else b

    @staticmethod
    def both(a: Flag, b: Flag) -> Flag:
        return a and b

    @staticmethod
    def either(a: Flag, b: Flag) -> Flag:
        return a or b

    @staticmethod
    def negate(a: Flag) -> Flag:
        return not a

    @staticmethod
    def floor_to(value: Number, step: float) -> Number:
        return value - value % step  # the remainder is exact (C's fmod), so this never rounds upward


class Arrays:
    """The same on float64 arrays (n,)."""

    number, known = Floats.number, Floats.known
    where: Any = staticmethod(np.where)
    least: Any = staticmethod(np.minimum)
    most: Any = staticmethod(np.maximum)
    both: Any = staticmethod(np.logical_and)
    either: Any = staticmethod(np.logical_or)
    negate: Any = staticmethod(np.logical_not)

    @staticmethod
    def floor_to(value: Number, step: float) -> Number:
        return value - np.fmod(value, step)


def any_of(ops: Any, flags: Iterable[Flag]) -> Flag:
    found: Flag = False
    for flag in flags:
        found = ops.either(found, flag)
    return found


def all_of(ops: Any, flags: Iterable[Flag]) -> Flag:
    held: Flag = True
    for flag in flags:
        held = ops.both(held, flag)
    return held


def annuity(annual_rate: float, months: int) -> float:
    """Present value of 1 a month, paid at each month's end."""
    rate = annual_rate / 12
    return (1 - (1 + rate) ** -months) / rate if rate else float(months)


def least_known(ops: Any, other: Number, amount: Number, known: Flag) -> Number:
    """The lesser of the two where `amount` is known."""
    least = ops.least(other, amount)
    return least if known is True else ops.where(known, least, other)
