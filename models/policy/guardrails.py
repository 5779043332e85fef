"""A guard rail: a sentence, and what it would mean to break it, in the operations of the formula it speaks of.

One definition serves the solver and the floats. What a product's rails say stands in its own rails.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.policy.arithmetic import all_of, any_of


class Case:
    """One applicant, and a second who differs from it only in what a rail varies, upward, or hides.

    formula: has `work` (whose answer has exact, limit and referred), `ops` and `policy` (with product.rounding, money).
    """

    def __init__(self, formula: Any, first: dict[str, Any], second: dict[str, Any]):
        self.formula, self.ops = formula, formula.ops
        self.first, self.second = first, second
        self.one: Any = formula.work(first)
        self.two: Any = self.one if first is second else formula.work(second)

    def all(self, *flags: Any) -> Any:
        return all_of(self.ops, flags)

    def any(self, *flags: Any) -> Any:
        return any_of(self.ops, flags)

    def money(self, amount: float) -> str:
        return f"{amount:,.0f} {self.formula.policy.money.en}"


@dataclass(frozen=True)
class Rail:
    """broken(case, slack): the rail fails, by more than `slack` where it is a matter of an amount.

    varies: fields in which the second applicant is higher.
    hides:  fields that the second applicant may leave out.
    opens:  parts of the formula that the rail speaks of, beyond those that read what varies.
    """

    name: str
    en: str
    zh: str
    broken: Callable[[Case, float], Any]
    tell: Callable[[Case], str]
    varies: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    opens: tuple[str, ...] = ()
    concerns: Callable[[Any], bool] = lambda policy: True


def helps(case: Case, slack: float) -> Any:
    """More of it lowered the limit, or turned an approval into a referral."""
    worse = case.two.exact < case.one.exact - slack
    return case.any(worse, case.all(case.two.referred, case.ops.negate(case.one.referred)))


def harms(case: Case, slack: float) -> Any:
    """More of it raised the limit, or turned a referral into an approval."""
    better = case.two.exact > case.one.exact + slack
    return case.any(better, case.all(case.one.referred, case.ops.negate(case.two.referred)))


def moved(case: Case) -> str:
    changed = [f"{name} {show(case.first[name])} -> {show(case.second[name])}" for name in case.first
               if case.first[name] != case.second[name] and case.first[name] == case.first[name]]  # fmt: skip
    return f"{', '.join(changed)}: limit {_answer(case, case.one)} -> {_answer(case, case.two)}"


def _answer(case: Case, worked: Any) -> str:
    tail = ", refer" if worked.referred else ""
    return f"{case.money(worked.limit)} ({case.money(worked.exact)} before rounding{tail})"


def show(value: float) -> str:
    """A number for a person; NaN is missing."""
    if value != value:
        return "missing"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.4g}"


def refers(when: Callable[[Case], Any]) -> Callable[[Case, float], Any]:
    """Broken where an applicant of this kind is approved."""
    return lambda case, slack: case.all(when(case), case.ops.negate(case.one.referred))


def rounding(field: str) -> Rail:
    """On any two amounts (told by a field, of 0 or more, that nothing else here reads), not on the limits."""

    def rounded(case: Case) -> tuple[Any, Any, Any, Any]:
        low, high, step = case.first[field], case.second[field], case.formula.policy.product.rounding
        return low, high, case.ops.floor_to(low, step), case.ops.floor_to(high, step)

    def broken(case: Case, slack: float) -> Any:
        low, _, less, more = rounded(case)
        return case.any(less > low, low - less >= case.formula.policy.product.rounding, more < less)

    def tell(case: Case) -> str:
        low, high, less, more = rounded(case)
        return f"{low:,.2f} and {high:,.2f} round to {less:,.2f} and {more:,.2f}"

    return Rail(
        "rounding_never_upward",
        "Rounding takes less than one step, never adds, and keeps every order.",
        "取整只向下、不足一档，且不改变大小次序。",
        broken,
        tell,
        varies=(field,),
    )
