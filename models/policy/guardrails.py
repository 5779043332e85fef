"""A guard rail: a sentence, and what it would mean to break it, in the operations of the formula it speaks of.

One definition serves the solver and the floats. What a product's rails say stands in its own rails.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.policy.arithmetic import all_of, any_of


class Scenario:
    """One applicant, and a second who differs from it only in what a rail varies, upward, or hides.

    formula: has `evaluate` (whose answer has unrounded, limit and referred), `ops` and `policy` (with product.rounding, money).
    """

    def __init__(self, formula: Any, baseline_inputs: dict[str, Any], variant_inputs: dict[str, Any]):
        self.formula, self.ops = formula, formula.ops
        self.baseline_inputs, self.variant_inputs = baseline_inputs, variant_inputs
        self.baseline: Any = formula.evaluate(baseline_inputs)
        self.variant: Any = self.baseline if baseline_inputs is variant_inputs else formula.evaluate(variant_inputs)

    def all_of(self, *flags: Any) -> Any:
        return all_of(self.ops, flags)

    def any_of(self, *flags: Any) -> Any:
        return any_of(self.ops, flags)

    def format_money(self, amount: float) -> str:
        return f"{amount:,.0f} {self.formula.policy.money.en}"


@dataclass(frozen=True)
class Guardrail:
    """is_violated(scenario, slack): the rail fails, by more than `slack` where it is a matter of an amount.

    varied_fields: fields in which the second applicant is higher.
    hidden_fields: fields that the second applicant may leave out.
    unfolds: parts of the formula that the rail speaks of, beyond those that read what varies.
    """

    name: str
    en: str
    zh: str
    is_violated: Callable[[Scenario, float], Any]
    describe: Callable[[Scenario], str]
    varied_fields: tuple[str, ...] = ()
    hidden_fields: tuple[str, ...] = ()
    unfolds: tuple[str, ...] = ()
    applies_to: Callable[[Any], bool] = lambda policy: True


def non_decreasing(scenario: Scenario, slack: float) -> Any:
    """More of it lowered the limit, or turned an approval into a referral."""
    decreased = scenario.variant.unrounded < scenario.baseline.unrounded - slack
    return scenario.any_of(
        decreased, scenario.all_of(scenario.variant.referred, scenario.ops.logical_not(scenario.baseline.referred))
    )


def non_increasing(scenario: Scenario, slack: float) -> Any:
    """More of it raised the limit, or turned a referral into an approval."""
    increased = scenario.variant.unrounded > scenario.baseline.unrounded + slack
    return scenario.any_of(
        increased, scenario.all_of(scenario.baseline.referred, scenario.ops.logical_not(scenario.variant.referred))
    )


def describe_change(scenario: Scenario) -> str:
    changes = [f"{name} {format_value(scenario.baseline_inputs[name])} -> {format_value(scenario.variant_inputs[name])}" for name in scenario.baseline_inputs
               if scenario.baseline_inputs[name] != scenario.variant_inputs[name] and scenario.baseline_inputs[name] == scenario.baseline_inputs[name]]  # fmt: skip
    return f"{', '.join(changes)}: limit {_format_result(scenario, scenario.baseline)} -> {_format_result(scenario, scenario.variant)}"


def _format_result(scenario: Scenario, result: Any) -> str:
    suffix = ", refer" if result.referred else ""
    return f"{scenario.format_money(result.limit)} ({scenario.format_money(result.unrounded)} before rounding{suffix})"


def format_value(value: float) -> str:
    """A number for a person; NaN is missing."""
    if value != value:
        return "missing"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.4g}"


def must_refer(condition: Callable[[Scenario], Any]) -> Callable[[Scenario, float], Any]:
    """Broken where an applicant of this kind is approved."""
    return lambda scenario, slack: scenario.all_of(
        condition(scenario), scenario.ops.logical_not(scenario.baseline.referred)
    )


def rounding_guardrail(field: str) -> Guardrail:
    """On any two amounts (told by a field, of 0 or more, that nothing else here reads), not on the limits."""

    def round_both(scenario: Scenario) -> tuple[Any, Any, Any, Any]:
        low, high, step = (
            scenario.baseline_inputs[field],
            scenario.variant_inputs[field],
            scenario.formula.policy.product.rounding,
        )
        return low, high, scenario.ops.floor_to(low, step), scenario.ops.floor_to(high, step)

    def is_violated(scenario: Scenario, slack: float) -> Any:
        low, _, rounded_low, rounded_high = round_both(scenario)
        return scenario.any_of(
            rounded_low > low, low - rounded_low >= scenario.formula.policy.product.rounding, rounded_high < rounded_low
        )

    def describe(scenario: Scenario) -> str:
        low, high, rounded_low, rounded_high = round_both(scenario)
        return f"{low:,.2f} and {high:,.2f} round to {rounded_low:,.2f} and {rounded_high:,.2f}"

    return Guardrail(
        "rounding_never_upward",
        "Rounding takes less than one step, never adds, and keeps every order.",
        "取整只向下、不足一档，且不改变大小次序。",
        is_violated,
        describe,
        varied_fields=(field,),
    )
