"""Encode named values as the row of numbers that a model reads, by the same rules for one applicant and for a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from datasets.errors import FieldError
from datasets.schema import ColumnSchema, find_unknown_names
from datasets.tables.values.dates import to_days
from datasets.validation import validate_column

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


def date_operands(inputs: Sequence[ColumnSchema], others: Sequence[ColumnSchema]) -> tuple[ColumnSchema, ...]:
    """The dates among `others` between which an input counts the months or years."""
    operands = {name for column in inputs if column.derived for name in column.derived.operand_names}
    return tuple(column for column in others if column.date_format and column.name in operands)


class FeatureEncoder:
    """Encodes one applicant without a data frame: about 5 us for 50 columns. Derived columns must come last.

    missing: texts that mean "not known", as in the columns' table. dates: columns that only derived ones read.
    """

    def __init__(
        self, columns: Sequence[ColumnSchema], missing: Sequence[str] = (), dates: Sequence[ColumnSchema] = ()
    ):
        self.columns, self.missing, self.dates = tuple(columns), tuple(missing), tuple(dates)
        stated = [column for column in columns if column.derived is None]
        derived_columns = [column for column in columns if column.derived is not None]
        self.names = [column.name for column in (*stated, *dates)]  # the fields that an applicant may give
        self._stated_count = len(stated)
        positions = {column.name: index for index, column in enumerate((*stated, *dates, *derived_columns))}
        self._derived = [
            (derived, [positions[name] for name in derived.of], [positions[name] for name in derived.by])
            for derived in (column.derived for column in columns)
            if derived is not None
        ]
        if any(column.derived is None for column in columns[self._stated_count :]):
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
                row.append(self._encode_variant(column, value, codes, faults) if code is None else code)
            elif type(value) not in (int, float):
                row.append(self._encode_variant(column, value, None, faults))
            elif special_values and value in special_values:
                row.append(special_values[value])
            elif low <= value <= high and not (integer and value != int(value)):
                row.append(value)
            else:
                row.append(MISSING)
                faults.append(column.field_error(value))
        row += [self._encode_date(column, values.get(column.name), faults) for column in self.dates]
        for derived, operands, divisors in self._derived:
            row.append(derived.compute([row[index] for index in operands], [row[index] for index in divisors]))
        if self.dates:
            del row[self._stated_count : self._stated_count + len(self.dates)]
        return row, faults

    def _encode_date(self, column: ColumnSchema, value: object, faults: list[FieldError]) -> float:
        """A date as days since 1970."""
        if value is None:
            if column.required:
                faults.append(column.field_error("missing"))
            return MISSING
        item = str(value) if type(value) is int else value
        if isinstance(item, str):
            typed, invalid = validate_column(pl.Series(column.name, [item]), column, self.missing)
            if not len(invalid):
                days = to_days(typed)[0]
                return MISSING if days is None else float(days)
        faults.append(column.field_error(value))
        return MISSING

    def plain_values(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values of one applicant, each as a machine writes it: "1,200" as 1200.0, "-" as None, true as 1.0.

        A value that is none of its column stays as it is.
        """
        plain: dict[str, Any] = {}
        for column, name, _, _, codes, _, _ in self._rules:
            value = values.get(name)
            is_plain = value is None or (type(value) in (int, float) if codes is None else value in codes)
            if not is_plain:
                is_known, plain_value = self._read_variant(column, value)
                if is_known:
                    plain[name] = plain_value
        return {**values, **plain} if plain else values

    def _encode_variant(
        self, column: ColumnSchema, value: object, codes: Mapping[str, float] | None, faults: list[FieldError]
    ) -> float:
        """Encode a value that is not written as the model reads it; one that is none of the column is a fault."""
        is_known, plain = self._read_variant(column, value)
        if not is_known:
            faults.append(column.field_error(value))
        return MISSING if plain is None else plain if codes is None else codes[plain]

    def _read_variant(self, column: ColumnSchema, value: object) -> tuple[bool, Any]:
        """(whether it is a value of the column by the rules of a table, that value)."""
        is_text_number = column.kind == "number" and isinstance(value, str)
        if not isinstance(value, str | bool | int | float) or (is_text_number and column.number_format is None):
            return False, None
        item = str(value) if type(value) is int else value
        typed, invalid = validate_column(pl.Series(column.name, [item]), column, self.missing)
        return not len(invalid), typed[0]

    def unknown_fields(self, values: Mapping[str, Any], extra_names: Sequence[str] = ()) -> list[FieldError]:
        """An error for each name that neither the model nor `extra_names` has."""
        known = dict.fromkeys([*self.names, *extra_names])
        return find_unknown_names(values, known, "one of the fields of this model", "本模型的字段之一")
