"""Read tables by their contract: every value typed, or every error of the file reported together.

frame = read_table("applications.csv", TABLE)      # a polars frame, or InvalidTableError with every error in the file
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from datasets.derived_columns import FloatArray
from datasets.errors import FieldError, InvalidTableError, did_you_mean
from datasets.schema import ColumnSchema, TableSchema
from datasets.tables import reader
from datasets.tables.values.dates import to_days, to_iso
from datasets.tables.values.marks import NO_CODE, missing_mask, split_codes, states_codes
from datasets.tables.values.numbers import TRUTH, canonical_level, parse_numbers

MAX_ERRORS = 1_000  # listed per table; the rest are counted
INFINITY = "inf"  # among the marks of a missing value: infinity is missing too


def read_raw(path: Path | str, known_names: Collection[str] = ()) -> pl.DataFrame:
    """Read a file of any kind that the reader knows, without validating its values; text formats give texts.

    known_names: of columns, by which a delimiter is recognised. Raises UnreadableFileError, and InvalidTableError with
    every record that cannot be read.
    """
    raw = reader.read_raw(path, None, known_names)
    if raw.faults:
        raise InvalidTableError(raw.faults[:MAX_ERRORS], len(raw.faults))
    return raw.frame


def read_table(path: Path | str, table: TableSchema) -> pl.DataFrame:
    """Read a table from a file and type it by its contract. Raises InvalidTableError (all errors) or
    UnreadableFileError.
    """
    raw = reader.read_raw(path, None, [column.name for column in table.columns])
    frame, errors, total = validate(raw.frame, table, file=Path(path).name)
    if errors or raw.faults:
        all_errors = [*raw.faults, *(raw.locate(error) for error in errors)]
        raise InvalidTableError(all_errors[:MAX_ERRORS], len(raw.faults) + total)
    return frame


def validate_or_raise(frame: pl.DataFrame, table: TableSchema, file: str | None = None) -> pl.DataFrame:
    """The frame typed by its contract. Raises InvalidTableError."""
    frame, errors, total = validate(frame, table, file)
    if errors:
        raise InvalidTableError(errors, total)
    return frame


def validate(
    frame: pl.DataFrame, table: TableSchema, file: str | None = None, first_row: int = 1
) -> tuple[pl.DataFrame, list[FieldError], int]:
    """Type a frame by its contract: the frame (invalid values null), the first errors, and the number of all errors.

    Columns that the contract does not name are errors. An absent column is an error if it is required; otherwise all of
    its values are missing. first_row: number of the first row in error messages.
    """
    declared = [column.name for column in table.columns if column.derived is None]
    errors = [
        FieldError(
            name,
            "not in the contract",
            f"a column of {table.name}{did_you_mean(name, declared)}",
            f"{table.name} 的列",
            None,
            file,
        )
        for name in frame.columns
        if name not in declared
    ]
    total = len(errors)
    series_by_column: list[pl.Series] = []
    for column in table.columns:
        if column.derived is not None:
            typed_columns = {series.name: series for series in series_by_column}
            operands, divisors = (
                [_to_floats(typed_columns[operand]) for operand in operand_names]
                for operand_names in (column.derived.of, column.derived.by)
            )
            series_by_column.append(
                pl.Series(column.name, column.derived.compute_batch(operands, divisors), nan_to_null=True)
            )
            continue
        if column.name not in frame.columns:
            if column.required:
                errors.append(FieldError(column.name, "absent", "a column of the file", "文件中的一列", None, file))
                total += 1
            series_by_column.append(pl.Series(column.name, [None] * frame.height, dtype=_DTYPES[column.kind]))
            continue
        series, invalid_rows = validate_column(frame[column.name], column, table.missing)
        total += len(invalid_rows)
        remaining = max(0, MAX_ERRORS - len(errors))
        errors += [
            column.field_error(frame[column.name][i], first_row + i, file) for i in invalid_rows[:remaining].to_list()
        ]
        series_by_column.append(series)
    return pl.DataFrame(series_by_column), errors, total


_DTYPES: dict[str, type[pl.DataType]] = {"number": pl.Float64, "category": pl.String, "text": pl.String}


def _to_floats(series: pl.Series) -> FloatArray:
    series = to_days(series) if series.dtype == pl.String else series
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def validate_column(raw: pl.Series, column: ColumnSchema, missing: Sequence[str]) -> tuple[pl.Series, pl.Series]:
    """(typed series, positions of invalid values)."""
    raw = _drop_marks(raw, column, missing)
    value: pl.Series
    if column.kind == "number":
        raw, value = _to_numbers(raw, column, missing)
        low, high = column.bounds
        if _all_valid(raw, value, column):
            return _decode(value, column), pl.Series(dtype=pl.UInt32)
        in_range = value.is_between(low, high) & value.is_finite()
        if column.integer:
            in_range &= value == value.round(0)
        allowed_codes = list(column.missing_codes) + [float(code) for code in column.recode]
        is_valid = (in_range | value.is_in(allowed_codes)) if allowed_codes else in_range
    else:
        is_text = raw.dtype == pl.String
        is_scalar = not raw.dtype.is_nested() and raw.dtype not in (pl.Binary, pl.Object)
        value = raw.cast(pl.String, strict=False) if is_scalar else _nulls(raw, pl.String)
        if column.kind == "category":
            raw = _drop_padded_marks(raw, ~raw.is_in(list(column.levels)), missing) if is_text else raw
            value = _to_levels(raw.cast(pl.String), column) if is_scalar else value
            is_valid = value.is_in(list(column.levels))
        elif column.codes:
            raw, value = _to_codes(value, column.codes)
            is_valid = value.is_not_null()
        else:
            value = to_iso(value, column.date_format) if column.date_format else value
            is_valid = value.is_not_null()
    is_invalid = raw.is_not_null() & ~is_valid.fill_null(False)
    if column.required:
        is_invalid |= raw.is_null()
    if column.kind == "number":
        value = _decode(value, column)
    return value.set(is_invalid, None) if is_invalid.any() else value, is_invalid.arg_true()


def _nulls(raw: pl.Series, dtype: type[pl.DataType]) -> pl.Series:
    return pl.Series(raw.name, [None] * raw.len(), dtype=dtype)


def _drop_marks(raw: pl.Series, column: ColumnSchema, missing: Sequence[str]) -> pl.Series:
    """Null where a text is a mark of a missing value and no level."""
    marks = [mark for mark in missing if mark not in column.levels]
    if raw.dtype == pl.String and raw.len():
        raw = raw.set(raw.is_in(marks), None)
    elif raw.dtype.is_float() and INFINITY in marks:
        raw = raw.set(raw.is_infinite().fill_null(False), None)
    return raw


def _drop_padded_marks(raw: pl.Series, is_odd: pl.Series, missing: Sequence[str]) -> pl.Series:
    """Null where a text that is odd is a mark with blanks around it."""
    odd = (is_odd & raw.is_not_null()).fill_null(False).arg_true()
    if not odd.len():
        return raw
    marks = odd.filter(missing_mask(raw.gather(odd), missing))
    return raw.scatter(marks, [None] * marks.len()) if marks.len() else raw


def _to_numbers(raw: pl.Series, column: ColumnSchema, missing: Sequence[str]) -> tuple[pl.Series, pl.Series]:
    """(raw values, their numbers; null where a value is none)."""
    if raw.dtype == pl.String:
        value = parse_numbers(raw, column.number_format)
        if value.null_count() > raw.null_count():
            raw = _drop_padded_marks(raw, value.is_null(), missing)
        if column.boolean and value.null_count() > raw.null_count():
            truth = (
                raw.str.strip_chars().str.to_lowercase().replace_strict(TRUTH, default=None, return_dtype=pl.Float64)
            )
            value = value.fill_null(truth)
        return raw, value
    if raw.dtype.is_numeric() or raw.dtype == pl.Null or (raw.dtype == pl.Boolean and column.boolean):
        return raw, raw.cast(pl.Float64, strict=False)
    return raw, _nulls(raw, pl.Float64)


def _to_levels(text: pl.Series, column: ColumnSchema) -> pl.Series:
    """The texts, with the level itself for each that is only another way to write it: "1.0" for 1, "True" for true."""
    is_odd = text.is_not_null() & ~text.is_in(list(column.levels))
    if not is_odd.any():
        return text
    matches = {}
    levels = {canonical_level(level): level for level in column.levels}
    for odd in text.filter(is_odd).unique():
        canonical = canonical_level(odd)
        same_truth = {"true": "1", "1": "true", "false": "0", "0": "false"}.get(canonical, canonical)
        if (level := levels.get(canonical, levels.get(same_truth, column.other_level))) is not None and level:
            matches[odd] = level
    return text.replace(matches) if matches else text


def _to_codes(text: pl.Series, codes: Sequence[str]) -> tuple[pl.Series, pl.Series]:
    """(texts that state codes, the same as codes with ';' between, NO_CODE where they state that there are none; null
    where one of them is not among `codes`).
    """
    known, raw, value = {*codes}, {}, {}
    for item in text.drop_nulls().unique():
        listed = split_codes(item)
        raw[item] = item if states_codes(item) else None
        value[item] = (";".join(listed) or NO_CODE) if known.issuperset(listed) and states_codes(item) else None
    replace = text.replace_strict(value, default=None, return_dtype=pl.String)
    return text.replace_strict(raw, default=None, return_dtype=pl.String), replace


def _all_valid(raw: pl.Series, value: pl.Series, column: ColumnSchema) -> bool:
    """Whether all values of a number column are valid, in one pass: the common case."""
    if value.null_count() != raw.null_count() or (column.required and raw.null_count()):
        return False
    low, high = column.bounds
    numbers = value.to_numpy()  # null becomes NaN
    missing = np.isnan(numbers)
    if missing.sum() != value.null_count():
        return False
    if not missing.all() and not (np.fmin.reduce(numbers) >= low and np.fmax.reduce(numbers) <= high):
        return False
    return not column.integer or bool(((numbers == np.rint(numbers)) | missing).all())


def _decode(value: pl.Series, column: ColumnSchema) -> pl.Series:
    """Replace the source's codes by the values that the model sees."""
    raw = value
    if column.missing_codes:
        value = value.set(raw.is_in(list(column.missing_codes)), None)
    for code, replacement in column.recode.items():
        value = value.set(raw == float(code), replacement)
    return value
