"""Guard rails: a sentence about a limit formula, and the condition that violates it, in the formula's own operations.

One definition serves the solver and the floats. The rails of a product are in its guardrails.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datasets.schema import ColumnSchema
from models.policy.arithmetic import all_of, any_of

Premise = Callable[[Any, Any, Mapping[str, Any], Mapping[str, Any], str], Any]


class Scenario:
    """One applicant (baseline), and a second (variant) that differs only in the fields that a rail raises or hides.

    formula: has `evaluate` (its result has unrounded, limit and referred), `ops` and `policy` (with product.rounding
    and money).
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
    """is_violated(scenario, slack): whether the rail fails, by more than `slack` if it is about an amount.

    varied_fields: fields in which the variant is higher.
    hidden_fields: fields that the variant may leave out.
    one_at_a_time: the variant leaves out one of them, each in turn. By induction the rail then holds for several, since
        the other fields may be unknown already.
    premise: (policy, operations, baseline, variant, hidden field) -> what the rail presupposes of the two.
    unfolds: methods of the formula that the rail mentions; the proof needs their definition, not only their lemmas.
    """

    name: str
    en: str
    zh: str
    is_violated: Callable[[Scenario, float], Any]
    describe: Callable[[Scenario], str]
    varied_fields: tuple[str, ...] = ()
    hidden_fields: tuple[str, ...] = ()
    one_at_a_time: bool = False
    premise: Premise | None = None
    unfolds: tuple[str, ...] = ()
    applies_to: Callable[[Any], bool] = lambda policy: True


def non_decreasing(scenario: Scenario, slack: float) -> Any:
    """Violation: a higher value lowered the limit, or turned an approval into a referral."""
    decreased = scenario.variant.unrounded < scenario.baseline.unrounded - slack
    return scenario.any_of(
        decreased, scenario.all_of(scenario.variant.referred, scenario.ops.logical_not(scenario.baseline.referred))
    )


def non_increasing(scenario: Scenario, slack: float) -> Any:
    """Violation: a higher value raised the limit, or turned a referral into an approval."""
    increased = scenario.variant.unrounded > scenario.baseline.unrounded + slack
    return scenario.any_of(
        increased, scenario.all_of(scenario.baseline.referred, scenario.ops.logical_not(scenario.variant.referred))
    )


def describe_change(scenario: Scenario) -> str:
    """The changed fields and both limits, in a sentence."""
    changes = [
        f"{name} {format_value(value)} -> {format_value(scenario.variant_inputs[name])}"
        for name, value in scenario.baseline_inputs.items()
        if value != scenario.variant_inputs[name] and value == value
    ]
    results = (_format_result(scenario, result) for result in (scenario.baseline, scenario.variant))
    return f"{', '.join(changes)}: limit {' -> '.join(results)}"


def _format_result(scenario: Scenario, result: Any) -> str:
    suffix = ", refer" if result.referred else ""
    return f"{scenario.format_money(result.limit)} ({scenario.format_money(result.unrounded)} before rounding{suffix})"


def format_value(value: float) -> str:
    """A number as text; NaN is 'missing'."""
    if value != value:
        return "missing"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.4g}"


def expected_loss(scenario: Scenario) -> Any:
    """The expected loss a year of the base limit."""
    formula, pd = scenario.formula, scenario.baseline_inputs["pd"]
    return scenario.ops.maximum(pd, formula.pd_floor) * formula.severity * scenario.baseline.base


def find_counted_inputs(inputs: Iterable[ColumnSchema], names: Iterable[str], groups: Collection[str]) -> list[str]:
    """The inputs of a PD model that are among `names`, belong to one of `groups`, or are derived from such inputs."""
    counted = set(names)
    counted_inputs = []
    for column in inputs:  # a derived column comes after its operands
        operands = set(column.derived.operand_names) if column.derived else set()
        if column.name in counted or column.group in groups or operands & counted:
            counted.add(column.name)
            counted_inputs.append(column.name)
    return counted_inputs


def must_refer(condition: Callable[[Scenario], Any]) -> Callable[[Scenario, float], Any]:
    """Violation: an applicant for whom the condition holds is approved."""
    return lambda scenario, slack: scenario.all_of(
        condition(scenario), scenario.ops.logical_not(scenario.baseline.referred)
    )


def rounding_guardrail(field: str) -> Guardrail:
    """The rail that rounding goes down by less than one step and keeps the order of any two amounts.

    field: any input of 0 or more; it stands for the two amounts, so the limits themselves play no part.
    """

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
        "Rounding lowers an amount by less than one step, never raises it, and keeps the order of amounts.",
        "取整只向下、不足一档，且不改变大小次序。",
        is_violated,
        describe,
        varied_fields=(field,),
    )
