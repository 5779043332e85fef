"""From named values to the row of numbers a model reads, by one set of rules for one applicant and for a million."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from datasets.errors import Fault
from datasets.schema import Column, unknown_names

MISSING = math.nan


def learn_levels(
    frame: pl.DataFrame, columns: Sequence[Column], target: str, strength: float = 20.0
) -> tuple[Column, ...]:
    """The columns, each unordered category's levels sorted by their default rate in `frame`.

    Rates are shrunk toward the mean as if `strength` average rows stood beside each level's own (Micci-Barreca 2001),
    so a level seen twice does not lead the order.
    """
    mean = frame[target].mean()
    if not isinstance(mean, float):
        raise ValueError(f"{target}: no row has a target")
    learned = []
    for column in columns:
        if column.kind != "category" or column.ordered:
            learned.append(column)
            continue
        seen = frame.group_by(column.name).agg(pl.col(target).sum().alias("bad"), pl.len().alias("rows")).to_dicts()
        rate = {row[column.name]: (row["bad"] + strength * mean) / (row["rows"] + strength) for row in seen}
        order = sorted(column.levels, key=lambda level: (rate.get(level, mean), level))  # noqa: B023
        learned.append(column.model_copy(update={"levels": tuple(order), "ordered": True}))
    return tuple(learned)


def encode(frame: pl.DataFrame, columns: Sequence[Column]) -> np.ndarray:
    """Rows of a conformed table as float32, shape (rows, columns); a category its level's position, missing NaN."""
    parts = []
    for column in columns:
        series = frame[column.name]
        if column.kind == "category":
            codes = {level: float(i) for i, level in enumerate(column.levels)}
            series = series.replace_strict(codes, default=None, return_dtype=pl.Float64)
        parts.append(series.cast(pl.Float32).to_numpy())  # null becomes NaN
    return np.column_stack(parts) if parts else np.empty((frame.height, 0), np.float32)


def all_read(inputs: Sequence[Column], also: Sequence[Column]) -> tuple[Column, ...]:
    """What a model and its decision read as numbers, in the order in which an Encoder takes it: derived ones last."""
    numbers = [column for column in (*inputs, *also) if column.kind != "text"]
    return (*(c for c in numbers if c.derived is None), *(c for c in numbers if c.derived is not None))


class Encoder:
    """The same rules for one applicant, without a data frame: about 5 us for 50 columns."""

    def __init__(self, columns: Sequence[Column]):
        self.columns = tuple(columns)
        self.names = [column.name for column in columns if column.derived is None]  # what an applicant may state
        place = {column.name: at for at, column in enumerate(columns)}
        self._made = [
            (made, [place[part] for part in made.of], [place[part] for part in made.by])
            for made in (column.derived for column in columns)
            if made is not None
        ]
        if any(column.derived is None for column in columns[len(self.names) :]):
            raise ValueError("derived columns stand after all others")
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

    def one(self, values: Mapping[str, Any]) -> tuple[list[float], list[Fault]]:
        """(row, faults). Names the model does not know are the caller's: other parts of a decision may know them."""
        row: list[float] = []
        faults: list[Fault] = []
        for column, name, low, high, codes, special, integer in self._rules:
            value = values.get(name)
            if value is None:
                row.append(MISSING)
                if column.required:
                    faults.append(column.fault("missing"))
            elif codes is not None:
                code = codes.get(str(value)) if type(value) in (str, int) else None
                row.append(MISSING if code is None else code)
                if code is None:
                    faults.append(column.fault(value))
            elif type(value) not in (int, float):  # a bool is no number here
                row.append(MISSING)
                faults.append(column.fault(value))
            elif special and value in special:
                row.append(special[value])
            elif low <= value <= high and not (integer and value != int(value)):
                row.append(value)
            else:
                row.append(MISSING)
                faults.append(column.fault(value))
        for made, of, by in self._made:
            row.append(made.one([row[at] for at in of], [row[at] for at in by]))
        return row, faults

    def unknown(self, values: Mapping[str, Any], also: Sequence[str] = ()) -> list[Fault]:
        """A fault for each name that neither the model nor `also` knows."""
        known = dict.fromkeys([*self.names, *also])
        return unknown_names(values, known, "one of the fields of this model", "本模型的字段之一")
