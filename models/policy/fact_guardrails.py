"""The guard rails about facts that all products share: facts that stop, and indicators that are not known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from models.policy.config import IndicatorCondition
from models.policy.guardrails import Guardrail, Scenario, describe_change, format_value, must_refer

StopSentences = Mapping[str, tuple[str, str, str]]  # indicator -> name of the rail, English, Chinese


def fact_guardrails(
    required_stops: Sequence[IndicatorCondition],
    sentences: StopSentences,
    hidden_fields: tuple[str, ...],
    assumed_fields: tuple[str, ...],
) -> tuple[Guardrail, ...]:
    """The rails of a product.

    required_stops: what no policy may let pass, with their sentences; hidden_fields: what an applicant can leave out;
    assumed_fields: inputs of bounds, which count as the policy assumes where they are unknown.
    """
    stops = tuple(
        _conditions_guardrail(*sentences[stop.indicator], lambda policy, stop=stop: (stop,))  # type: ignore[misc]
        for stop in required_stops
    )
    return (
        _conditions_guardrail(
            "every_stop_fact_refers",
            "A stop fact of the policy that holds, or is not known, is referred to a person.",
            "政策所列的停审事实成立或不明的，转人工。",
            lambda policy: policy.stops,
        ),
        *stops,
        Guardrail(
            "a_needed_input_refers",
            "An applicant of whom the PD lacks an input that the policy needs is referred to a person.",
            "缺少政策所需的评分输入时转人工。",
            must_refer(lambda scenario: scenario.baseline_inputs["unknown_inputs"] > 0),
            lambda scenario: f"approve {scenario.format_money(scenario.baseline.limit)} without an input of the PD",
        ),
        Guardrail(
            "hiding_never_pays",
            "No limit is approved, or is higher, because an indicator was left out, whatever its value is.",
            "隐瞒任何指标，无论其真实值如何，都不会带来批准或更高的额度。",
            hiding_pays,
            describe_change,
            hidden_fields=hidden_fields,
            one_at_a_time=True,
        ),
        Guardrail(
            "an_unknown_counts_as_assumed",
            f"Without {', '.join(assumed_fields)} no limit, indicative or not, is higher than under the assumption.",
            f"缺少 {'、'.join(assumed_fields)} 时，额度（含参考额度）不高于按假定值测算的额度。",
            exceeds_baseline,
            describe_change,
            hidden_fields=assumed_fields,
            one_at_a_time=True,
            premise=counts_as_assumed,
        ),
    )


def warning_guardrail() -> Guardrail:
    """The rail about early warnings of severity 'act'."""
    return _conditions_guardrail(
        "an_urgent_warning_refers",
        "A warning that requires action, or not knowing its indicator, is referred to a person.",
        "存在须处置的预警信号或其指标不明的，转人工。",
        lambda policy: policy.act_signals,
    )


def hiding_pays(scenario: Scenario, slack: float) -> Any:
    """Violation: leaving out an indicator, whatever its value, gave an approval or a higher approved limit."""
    better = scenario.any_of(
        scenario.baseline.referred, scenario.variant.unrounded > scenario.baseline.unrounded + slack
    )
    return scenario.all_of(scenario.ops.logical_not(scenario.variant.referred), better)


def exceeds_baseline(scenario: Scenario, slack: float) -> Any:
    """Violation: the variant's limit, indicative or not, is higher."""
    return scenario.variant.unrounded > scenario.baseline.unrounded + slack


def counts_as_assumed(policy: Any, ops: Any, baseline: Mapping[str, Any], variant: Mapping[str, Any], name: str) -> Any:
    """Premise: the variant leaves out what the baseline states to be just what the policy assumes."""
    assumed = ops.number(policy.unknown[name].counts_as)
    is_stated = ops.logical_and(ops.is_known(baseline[name]), baseline[name] == assumed)
    return ops.logical_and(is_stated, ops.logical_not(ops.is_known(variant[name])))


def _conditions_guardrail(
    name: str, en: str, zh: str, conditions: Callable[[Any], Iterable[IndicatorCondition]]
) -> Guardrail:
    """The rail that a condition of the policy that holds, or is not known, is referred; judged by the inputs alone."""

    def must_stop(scenario: Scenario) -> Any:
        ops = scenario.ops
        flags = []
        for condition in conditions(scenario.formula.policy):
            value, bound = scenario.baseline_inputs[condition.indicator], ops.number(condition.bound)
            flags += [
                ops.logical_not(ops.is_known(value)),
                value >= bound if condition.at_least is not None else value <= bound,
            ]
        return scenario.any_of(*flags)

    def describe(scenario: Scenario) -> str:
        names = sorted({condition.indicator for condition in conditions(scenario.formula.policy)})
        facts = ", ".join(f"{name} {format_value(scenario.baseline_inputs[name])}" for name in names)
        return f"approve {scenario.format_money(scenario.baseline.limit)} with {facts}"

    return Guardrail(name, en, zh, must_refer(must_stop), describe, applies_to=lambda policy: any(conditions(policy)))
