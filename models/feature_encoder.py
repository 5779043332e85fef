"""Encode named values as the row of numbers that a model reads, by the same rules for one applicant and for a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from datasets.errors import FieldError
from datasets.schema import ColumnSchema, find_unknown_names

MISSING = math.nan


def order_levels(
    frame: pl.DataFrame, columns: Sequence[ColumnSchema], target: str, prior_weight: float = 20.0
) -> tuple[ColumnSchema, ...]:
    """The columns, with the levels of each unordered category sorted by their default rate in `frame`.

    Rates are shrunk toward the mean as if each level had `prior_weight` average rows in addition (target encoding,
    Micci-Barreca 2001), so a rare level does not come first or last by chance. Raises ValueError without targets.
    """
    mean = frame[target].mean()
    if not isinstance(mean, float):
        raise ValueError(f"{target}: no row has a value; at least one row needs a target.")
    ordered_columns = []
    for column in columns:
        if column.kind != "category" or column.ordered:
            ordered_columns.append(column)
            continue
        level_counts = (
            frame.group_by(column.name).agg(pl.col(target).sum().alias("bad"), pl.len().alias("rows")).to_dicts()
        )
        default_rates = {
            row[column.name]: (row["bad"] + prior_weight * mean) / (row["rows"] + prior_weight) for row in level_counts
        }
        levels = sorted(column.levels, key=lambda level: (default_rates.get(level, mean), level))  # noqa: B023
        ordered_columns.append(column.model_copy(update={"levels": tuple(levels), "ordered": True}))
    return tuple(ordered_columns)


def encode(frame: pl.DataFrame, columns: Sequence[ColumnSchema]) -> np.ndarray:
    """Encode the rows of a validated table as float32, (rows, columns): categories as positions of levels, NaN for
    missing.
    """
    arrays = []
    for column in columns:
        series = frame[column.name]
        if column.kind == "category":
            codes = {level: float(i) for i, level in enumerate(column.levels)}
            series = series.replace_strict(codes, default=None, return_dtype=pl.Float64)
        arrays.append(series.cast(pl.Float32).to_numpy())  # null becomes NaN
    return np.column_stack(arrays) if arrays else np.empty((frame.height, 0), np.float32)


def required_columns(inputs: Sequence[ColumnSchema], decision_only: Sequence[ColumnSchema]) -> tuple[ColumnSchema, ...]:
    """The columns that a model and its decision read as numbers, in a FeatureEncoder's order: derived ones last."""
    numeric = [column for column in (*inputs, *decision_only) if column.kind != "text"]
    return (*(c for c in numeric if c.derived is None), *(c for c in numeric if c.derived is not None))


class FeatureEncoder:
    """Encodes one applicant without a data frame: about 5 us for 50 columns. Derived columns must come last."""

    def __init__(self, columns: Sequence[ColumnSchema]):
        self.columns = tuple(columns)
        self.names = [
            column.name for column in columns if column.derived is None
        ]  # the fields that an applicant may give
        positions = {column.name: index for index, column in enumerate(columns)}
        self._derived = [
            (derived, [positions[name] for name in derived.of], [positions[name] for name in derived.by])
            for derived in (column.derived for column in columns)
            if derived is not None
        ]
        if any(column.derived is None for column in columns[len(self.names) :]):
            raise ValueError("a derived column is followed by another column; derived columns must come last")
        self._rules = [
            (
                column,
                column.name,
                *column.bounds,
                {level: float(i) for i, level in enumerate(column.levels)} if column.kind == "category" else None,
                {code: MISSING for code in column.missing_codes} | {float(k): v for k, v in column.recode.items()},
                column.integer,
            )
            for column in columns
            if column.derived is None
        ]

    def encode_row(self, values: Mapping[str, Any]) -> tuple[list[float], list[FieldError]]:
        """Encode one applicant: (row, errors). Unknown names are ignored, since other parts of a decision may know
        them.
        """
        row: list[float] = []
        faults: list[FieldError] = []
        for column, name, low, high, codes, special_values, integer in self._rules:
            value = values.get(name)
            if value is None:
                row.append(MISSING)
                if column.required:
                    faults.append(column.field_error("missing"))
            elif codes is not None:
                code = codes.get(str(value)) if type(value) in (str, int) else None
                row.append(MISSING if code is None else code)
                if code is None:
                    faults.append(column.field_error(value))
            elif type(value) not in (int, float):  # a bool is not accepted as a number
                row.append(MISSING)
                faults.append(column.field_error(value))
            elif special_values and value in special_values:
                row.append(special_values[value])
            elif low <= value <= high and not (integer and value != int(value)):
                row.append(value)
            else:
                row.append(MISSING)
                faults.append(column.field_error(value))
        for derived, operands, divisors in self._derived:
            row.append(derived.compute([row[index] for index in operands], [row[index] for index in divisors]))
        return row, faults

    def unknown_fields(self, values: Mapping[str, Any], extra_names: Sequence[str] = ()) -> list[FieldError]:
        """An error for each name that neither the model nor `extra_names` has."""
        known = dict.fromkeys([*self.names, *extra_names])
        return find_unknown_names(values, known, "one of the fields of this model", "本模型的字段之一")
