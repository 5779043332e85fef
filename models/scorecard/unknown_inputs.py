"""What a PD's unknown inputs count as: by the policy, and by the graph that was exported under it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datasets.schema import ColumnSchema
from models.card import Card
from models.policy.config import Assumption, BasePolicy, PolicyError


def assumed_values(inputs: Iterable[ColumnSchema], unknown: Mapping[str, Assumption]) -> dict[str, float | str]:
    """Input -> what it counts as where it is unknown, for the inputs of a PD that the policy names."""
    return {column.name: unknown[column.name].counts_as for column in inputs if column.name in unknown}


def assumed_codes(inputs: Sequence[ColumnSchema], assumed: Mapping[str, float | str]) -> dict[int, float]:
    """Position of an input -> the number that the graph reads for what it counts as. Raises ValueError."""
    codes = {}
    for position, column in enumerate(inputs):
        value = assumed.get(column.name)
        if value is None:
            continue
        is_level = column.kind == "category" and value in column.levels
        if not is_level and (column.kind != "number" or isinstance(value, str)):
            raise ValueError(f"unknown.{column.name} counts as {value!r}; it must be {column.expected()[0]}")
        codes[position] = float(column.levels.index(str(value))) if is_level else float(value)
    return codes


def check_assumptions(card: Card, policy: BasePolicy) -> None:
    """Raise PolicyError unless the graph was exported under the assumptions of this policy."""
    expected = assumed_values(card.inputs, policy.unknown)
    if card.assumed != expected:
        differing = sorted(n for n in {*expected, *card.assumed} if expected.get(n) != card.assumed.get(n))
        raise PolicyError(
            policy.name,
            [
                f"unknown: the model was trained under other assumptions for {', '.join(differing)}. Train it again "
                "under this policy, or use the policy that it was trained under."
            ],
        )


class NeededInputs:
    """The inputs of a PD without which a person decides: the policy assumes nothing for them, or says that they refer.

    named_elsewhere: inputs whose absence another referral reason names.
    """

    def __init__(self, card: Card, policy: BasePolicy, named_elsewhere: Collection[str]):
        self.names = tuple(
            column.name
            for column in card.inputs
            if column.name not in named_elsewhere
            and (column.name not in policy.unknown or policy.unknown[column.name].refers)
        )
        self._missing_codes = {c.name: frozenset(c.missing_codes) for c in card.inputs if c.missing_codes}

    def unknown(self, values: Mapping[str, Any]) -> list[str]:
        """The names that are unknown among one applicant's values, derived ones included."""
        return [name for name in self.names if self._is_unknown(name, values.get(name))]

    def count_unknown(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """The number of unknown ones in each row of a validated frame, (rows,)."""
        count = np.zeros(frame.height)
        for name in self.names:
            count += missing_rows(frame[name])
        return count

    def _is_unknown(self, name: str, value: Any) -> bool:
        return value is None or value != value or value in self._missing_codes.get(name, ())


def missing_rows(column: pl.Series) -> NDArray[np.bool_]:
    """Whether the value of each row is missing: null or NaN."""
    missing = column.is_null()
    if column.dtype.is_float():
        missing |= column.is_nan().fill_null(True)
    return missing.to_numpy()
