"""Find the changes within an applicant's power that would raise a limit or earn an approval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.schema import ColumnSchema, format_number
from models.credit_limit.limit_formula import (
    APPRAISAL,
    ASSETS,
    CONDUCT,
    CreditLimitFormula,
    CreditLimitResult,
)
from models.credit_limit.policy import ImprovementAction, Policy
from models.feature_encoder import FeatureEncoder

MORAL_INPUTS = frozenset(("self_score", *CONDUCT, *APPRAISAL, "village_leniency"))
Score = Callable[[NDArray[np.float32]], NDArray[np.float64]]


class ImprovementFinder:
    """The improvements of one model under one policy.

    score: encoded rows float32 (k, inputs) -> PD (k,). columns: the card's, by name. numbers: names of the columns that
    the formula reads. special_values: name -> source code of a value -> what the formula reads instead.
    """

    def __init__(
        self,
        policy: Policy,
        encoder: FeatureEncoder,
        score: Score,
        columns: Mapping[str, ColumnSchema],
        numbers: list[str],
        special_values: Mapping[str, Mapping[float, float]],
    ):
        self.policy, self.formula, self.encoder, self.score = policy, CreditLimitFormula(policy), encoder, score
        numeric = {name for name, column in columns.items() if column.kind == "number" and column.derived is None}
        self.actions = tuple(action for action in policy.raises if action.indicator in numeric)
        self._numbers, self._special_values = frozenset(numbers), special_values
        self._column_bounds = {name: columns[name].bounds for name in numeric}
        self._positions = {column.name: index for index, column in enumerate(encoder.columns)}
        self._has_derived = any(column.derived is not None for column in encoder.columns)
        collateral = (*ASSETS, "debts") if policy.product.asset_based else ()
        # These act on another bound than the PD's, or on the multiplier.
        self._limit_inputs = MORAL_INPUTS | {"declared_income", "monthly_debt_service", *collateral}

    def find(
        self, values: Mapping[str, Any], numbers: Mapping[str, float], result: CreditLimitResult, human_requested: bool
    ) -> list[dict[str, Any]]:
        """Each change that raises the limit, or gives an approval where there was none; the largest gain first."""
        changes = [
            (action, new_value)
            for action in self.actions
            if (new_value := self.improved_value(action, values)) is not None
        ]
        if not result.referred and result.base == _lowest_other_bound(result):  # a lower PD gains nothing
            changes = [(action, new_value) for action, new_value in changes if action.indicator in self._limit_inputs]
        if not changes:
            return []
        row = self.encoder.encode_row(values)[0]
        rows = np.array(
            [self._changed_row(row, values, action.indicator, new_value) for action, new_value in changes], np.float32
        )
        improvements = []
        for (action, new_value), pd in zip(changes, self.score(rows).tolist(), strict=True):
            new_numbers: dict[str, Any] = {**numbers, "pd": pd}
            if action.indicator in self._numbers:
                new_numbers[action.indicator] = float(new_value)
            if (
                not result.referred
                and action.indicator not in MORAL_INPUTS
                and self._has_same_bounds(result, new_numbers)
            ):
                continue
            new_result = self.formula.evaluate(new_numbers)
            gain = int(new_result.limit) - int(result.limit)
            new_result.referred = bool(new_result.referred or human_requested)
            approves = bool(result.referred and not new_result.referred)
            if gain > 0 or (approves and gain == 0):
                improvements.append(
                    self._entry(action, values[action.indicator], new_value, gain, new_result, approves)
                )
        return sorted(improvements, key=lambda improvement: -improvement["gain"])

    def improved_value(self, action: ImprovementAction, values: Mapping[str, Any]) -> float | None:
        """The indicator's value after the action; None if it is missing or cannot change further."""
        value = values.get(action.indicator)
        if value is None or value in self._special_values.get(action.indicator, ()):
            return None
        low, high = self._column_bounds[action.indicator]
        if action.step > 0:
            new_value = min(value + action.step, action.end, high)
            return new_value if new_value > value else None
        new_value = max(value + action.step, action.end, low)
        return new_value if new_value < value else None

    def _has_same_bounds(self, result: CreditLimitResult, new_numbers: Mapping[str, Any]) -> bool:
        """Whether the bounds that everything else rests on are unchanged; a third of the work of a full evaluation."""
        bounds = self.formula.bounds(new_numbers)
        affordability_equal: bool = bounds["affordability"] == result.bounds["affordability"]
        return affordability_equal and bool(self.formula.base_limit(bounds) == result.base)

    def _changed_row(self, row: list[float], values: Mapping[str, Any], name: str, new_value: float) -> list[float]:
        """The model's row with one indicator changed; encoded again if other columns are derived from it."""
        if self._has_derived:
            return self.encoder.encode_row({**values, name: new_value})[0]
        index = self._positions.get(name)
        return row if index is None else [*row[:index], new_value, *row[index + 1 :]]

    def _entry(
        self,
        action: ImprovementAction,
        value: float,
        new_value: float,
        gain: int,
        new_result: CreditLimitResult,
        approves: bool,
    ) -> dict[str, Any]:
        money = self.policy.money
        change = f"{format_number(value)} → {format_number(new_value)}"
        suffix, suffix_zh = (", and approved", "，并可自动批准") if approves else ("", "")
        return {
            "code": f"raise_{action.indicator}",
            "indicator": action.indicator,
            "from": value,
            "to": new_value,
            "limit": int(new_result.limit),
            "gain": gain,
            "decision": "refer" if new_result.referred else "approve",
            "en": f"{action.en} ({change}): {gain:+,} {money.en}{suffix}.",
            "zh": f"{action.zh}（{change}）：{gain:+,} {money.zh}{suffix_zh}。",
        }


def _lowest_other_bound(result: CreditLimitResult) -> float:
    """The lowest known bound other than that of the PD."""
    return float(min(amount for code, (amount, known) in result.bounds.items() if known and code != "risk_budget"))
