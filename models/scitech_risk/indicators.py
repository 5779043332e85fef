"""Read what a company's decision needs from an encoded row or from a batch: numbers, the share known, what is
missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.card import Card
from models.feature_encoder import FeatureEncoder, date_operands, required_columns
from models.policy.arithmetic import any_of
from models.scitech_risk.limit_formula import BOUND_INPUTS, INDICATORS
from models.scitech_risk.policy import Policy
from models.scorecard.unknown_inputs import NeededInputs, missing_rows

LOOP_PATH_FIELD = "loop_path"  # text
TOTAL_ASSETS = "total_assets"
STATEMENT_ITEMS = (  # an item of a balance sheet or an income statement, and the total that includes it
    ("current_assets", TOTAL_ASSETS), ("cash", "current_assets"), ("receivables", "current_assets"),
    ("current_liabilities", "total_liabilities"), ("high_tech_revenue", "revenue"),
)  # fmt: skip
ROUNDING_TOLERANCE = 1.01  # an item may exceed its total by the rounding of a statement
MISSING = math.nan


class IndicatorReader:
    """The indicators of one model under one policy.

    fields: the columns read in addition to the model's inputs.
    """

    def __init__(self, card: Card, policy: Policy):
        columns = {column.name: column for column in (*card.also, *card.inputs)}
        statement_fields = (name for pair in STATEMENT_ITEMS for name in pair)
        self._names = tuple(
            dict.fromkeys((*INDICATORS, *(signal.indicator for signal in policy.signals), *statement_fields))
        )
        # A column that only shares the name is not the formula's input.
        self._numbers = [name for name in self._names if name in columns and columns[name].kind == "number"]
        self._has_loop_path = LOOP_PATH_FIELD in columns and columns[LOOP_PATH_FIELD].kind == "text"
        used_names = {*self._numbers, *([LOOP_PATH_FIELD] if self._has_loop_path else [])}
        inputs = {column.name for column in card.inputs}
        self.fields = tuple(columns[name] for name in columns if name in used_names - inputs)
        encoded_columns = required_columns(card.inputs, card.also)
        self.encoder = FeatureEncoder(encoded_columns, card.missing, date_operands(card.inputs, card.also))
        positions = {column.name: index for index, column in enumerate(encoded_columns)}
        self._number_positions = [(name, positions[name]) for name in self._numbers]
        self._derived_positions = [(c.name, index) for index, c in enumerate(encoded_columns) if c.derived is not None]
        self.needed_inputs = NeededInputs(card, policy, [name for names in BOUND_INPUTS.values() for name in names])
        self._needed_positions = [(name, positions[name]) for name in self.needed_inputs.names]
        group_weights = policy.least_known.weights
        self._input_weights = [
            (c.name, float(group_weights.get(c.group, 1.0))) for c in card.inputs if c.derived is None
        ]
        self._weight_positions = [(positions[name], weight) for name, weight in self._input_weights]
        self._total_weight = sum(weight for _, weight in self._input_weights) or 1.0
        self._stated_positions = [
            (c.name, positions[c.name])
            for c in (*card.inputs, *self.fields)
            if c.name in positions and c.derived is None
        ]
        self._derived_inputs = [
            (c.name, positions[c.name], [positions[operand] for operand in c.derived.operand_names])
            for c in encoded_columns
            if c.derived is not None
        ]

    def read_row(self, row: list[float], pd: float) -> dict[str, float]:
        """The formula's inputs and the other indicators of one company, by name; NaN is missing."""
        known_weight = 0.0
        for index, weight in self._weight_positions:
            known_weight += weight if row[index] == row[index] else 0.0
        numbers = dict.fromkeys(self._names, MISSING)
        numbers |= {name: row[index] for name, index in self._number_positions}
        unknown_inputs = float(len(self.unknown_needed(row)))
        return numbers | {"pd": pd, "known_share": known_weight / self._total_weight, "unknown_inputs": unknown_inputs}

    def unknown_needed(self, row: list[float]) -> list[str]:
        """The unknown inputs of the PD without which a person decides."""
        return [name for name, index in self._needed_positions if row[index] != row[index]]

    def read_batch(self, frame: pl.DataFrame, pd: NDArray[np.float64]) -> dict[str, Any]:
        """The same for the rows of a frame, each (rows,)."""
        inputs: dict[str, Any] = {name: np.full(len(pd), MISSING) for name in self._names}
        for name in self._numbers:
            inputs[name] = frame[name].cast(pl.Float64).to_numpy()  # null becomes NaN
        known_weight = np.zeros(len(pd))
        for name, weight in self._input_weights:
            known_weight = known_weight + np.where(missing_rows(frame[name]), 0.0, weight)
        unknown_inputs = self.needed_inputs.count_unknown(frame)
        return inputs | {"pd": pd, "known_share": known_weight / self._total_weight, "unknown_inputs": unknown_inputs}

    def loop_path(self, values: Mapping[str, Any]) -> str | None:
        """The loop of invoices, if the model's columns have one."""
        return values.get(LOOP_PATH_FIELD) if self._has_loop_path else None

    def with_derived(self, values: Mapping[str, Any], row: list[float]) -> Mapping[str, Any]:
        """The values together with the derived columns of their row."""
        if not self._derived_positions:
            return values
        return {**values, **{name: row[index] for name, index in self._derived_positions}}

    def missing(self, row: list[float]) -> list[str]:
        """Indicators that were not given, and ratios that the given ones do not determine (to 0 assets, say)."""
        absent = [name for name, index in self._stated_positions if row[index] != row[index]]
        underivable = [
            name
            for name, index, operands in self._derived_inputs
            if row[index] != row[index] and all(row[operand] == row[operand] for operand in operands)
        ]
        return absent + underivable


def has_unsound_books(inputs: Mapping[str, Any], ops: Any) -> Any:
    """Whether the statements cannot be right: no assets, or an item larger than its total. Missing values prove
    nothing.

    Like a warning this is outside the formula and its proofs: it can refer to a person and changes no amount.
    """
    exceeds_total = (inputs[item] > ROUNDING_TOLERANCE * inputs[total] for item, total in STATEMENT_ITEMS)
    return any_of(ops, (inputs[TOTAL_ASSETS] <= 0, *exceeds_total))
