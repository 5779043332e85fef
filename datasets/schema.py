"""Declare the contract of a table (what each column means, contains and may be used for), and read tables by it.

frame = read_table("applications.csv", TABLE)      # a polars frame, or InvalidTableError with every error in the file
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from datasets.derived_columns import MAX_VALUE, DerivedFormula, FloatArray
from datasets.errors import DataError, FieldError, InvalidTableError, UnreadableFileError, did_you_mean
from datasets.files.config_file import ConfigFileError, read_config

ColumnKind = Literal["number", "category", "text"]
ColumnRole = Literal["indicator", "target", "time", "group", "weight", "audit", "leak", "id"]
MAX_ERRORS = 1_000  # listed per table; the rest are counted

UNITS_ZH = {
    "months": "个月", "days": "天", "years": "年", "points": "分", "items": "件", "persons": "人", "count": "次",
    "RMB": "元", "RMB/month": "元/月", "RMB/year": "元/年", "NT$": "新台币元", "10k RMB": "万元",
    "10k RMB/year": "万元/年", "10k RMB/MWh": "万元/兆瓦时", "MWh": "兆瓦时", "companies": "家", "share": "比例",
    "probability": "概率", "codes, ';' between": "代码，以 ; 分隔",
}  # fmt: skip


class ColumnSchema(BaseModel):
    """One column. `low` and `high` bound a number, inclusive; `levels` lists the values of a category.

    direction: +1 if a higher value (or a later level) can only raise the risk, -1 if only lower it, 0 if unknown.
    group: the indicator group in which an authorisation grants the column.
    missing_codes: numbers that mean "not known" in the source. recode: numbers that stand for another value.
    derived: how the column is computed from columns before it; such a column is never read from a file.
    ordered: whether the order of the levels has a meaning; otherwise training orders them by default rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: ColumnKind = "number"
    role: ColumnRole = "indicator"
    unit: str = ""
    low: float | None = None
    high: float | None = None
    integer: bool = False
    levels: tuple[str, ...] = ()
    ordered: bool = False
    direction: Literal[-1, 0, 1] = 0
    group: str = ""
    required: bool = False
    missing_codes: tuple[float, ...] = ()
    recode: dict[str, float] = Field(default_factory=dict)
    derived: DerivedFormula | None = None
    en: str = ""
    zh: str = ""

    @model_validator(mode="after")
    def _validate_kind(self) -> ColumnSchema:
        if self.kind == "category" and not self.levels:
            raise ValueError(f"{self.name}: kind is category, so levels are required")
        if self.kind != "category" and self.levels:
            raise ValueError(f"{self.name}: kind is {self.kind}, but only a category has levels")
        if len(set(self.levels)) != len(self.levels):
            raise ValueError(f"{self.name}: a level occurs twice")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"{self.name}: low {self.low:g} is above high {self.high:g}")
        overlapping_codes = sorted({float(code) for code in self.recode} & set(self.missing_codes))
        if overlapping_codes:
            raise ValueError(f"{self.name}: {overlapping_codes[0]:g} is both in missing_codes and in recode")
        return self

    @property
    def label(self) -> str:
        return self.en or self.name.replace("_", " ")

    @property
    def label_zh(self) -> str:
        return self.zh or self.label

    @property
    def bounds(self) -> tuple[float, float]:
        return (-MAX_VALUE if self.low is None else self.low, MAX_VALUE if self.high is None else self.high)

    def expected(self) -> tuple[str, str]:
        """A description of valid values, in English and in Chinese."""
        if self.kind == "text":
            return "text", "文本"
        if self.kind == "category":
            return f"one of {', '.join(self.levels)}", f"以下之一：{'、'.join(self.levels)}"
        noun, noun_zh = ("a whole number", "整数") if self.integer else ("a number", "数值")
        unit = f", in {self.unit}" if self.unit else ""
        unit_zh = f"，单位 {UNITS_ZH.get(self.unit, self.unit)}" if self.unit else ""
        low, high = ("" if bound is None else format_number(bound) for bound in (self.low, self.high))
        if low and high:
            return f"{noun} from {low} to {high}{unit}", f"{low} 至 {high} 的{noun_zh}{unit_zh}"
        if low:
            return f"{noun} of {low} or more{unit}", f"不小于 {low} 的{noun_zh}{unit_zh}"
        if high:
            return f"{noun} of {high} or less{unit}", f"不大于 {high} 的{noun_zh}{unit_zh}"
        return f"{noun}{unit}", f"{noun_zh}{unit_zh}"

    def field_error(self, actual: object, row: int | None = None, file: str | None = None) -> FieldError:
        """The error that `actual` is not a valid value of this column."""
        expected, expected_zh = self.expected()
        is_missing = actual is None or (isinstance(actual, str) and actual == "missing")
        text = "missing" if is_missing else repr(actual) if isinstance(actual, str) else " ".join(str(actual).split())
        return FieldError(self.name, text if len(text) <= 60 else text[:57] + "...", expected, expected_zh, row, file)


class Source(BaseModel):
    """Where a table comes from. `simulated` is passed on to every card, report and answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = ""
    licence: str = ""
    sha256: str = ""
    simulated: bool = False


class TableSchema(BaseModel):
    """A contract: columns and origin. missing: texts that mean "not known" in a CSV."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    columns: tuple[ColumnSchema, ...]
    origin: Source = Source()
    missing: tuple[str, ...] = ("", "NA")

    @model_validator(mode="after")
    def _validate_column_names(self) -> TableSchema:
        names = [column.name for column in self.columns]
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            raise ValueError(f"{self.name}: columns declared twice: {', '.join(duplicates)}")
        for index, column in enumerate(self.columns):
            undeclared = (
                [operand for operand in column.derived.operand_names if operand not in names[:index]]
                if column.derived
                else []
            )
            if undeclared:
                raise ValueError(
                    f"{self.name}: {column.name} is derived from {', '.join(undeclared)}, not declared before it"
                )
        return self

    def __getitem__(self, name: str) -> ColumnSchema:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name!r}{did_you_mean(name, [c.name for c in self.columns])}")

    def columns_with_role(self, role: ColumnRole) -> tuple[ColumnSchema, ...]:
        return tuple(column for column in self.columns if column.role == role)

    @property
    def indicators(self) -> tuple[ColumnSchema, ...]:
        return self.columns_with_role("indicator")

    @property
    def target(self) -> ColumnSchema:
        targets = self.columns_with_role("target")
        if len(targets) != 1:
            raise DataError(f"{self.name}: {len(targets)} columns have the role 'target'; there must be exactly one.")
        return targets[0]


def format_number(value: float) -> str:
    """A number as text: 1234567.0 -> 1,234,567; 1234.567 -> 1,234.57; 0.01234 -> 0.0123."""
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"


MAX_UNKNOWN_NAMES = 20  # unknown names listed; each is compared with all known names


def find_unknown_names(
    names: Iterable[str], known_names: Collection[str], expected: str, expected_zh: str, prefix: str = ""
) -> list[FieldError]:
    """An error for each of the first MAX_UNKNOWN_NAMES unknown names, and one for the number of the others.

    prefix: put before each name to say where it is.
    """
    unknown = [name for name in names if name not in known_names]
    errors = [
        FieldError(
            prefix + (name if len(name) <= 60 else name[:57] + "..."),
            "not known", f"{expected}{did_you_mean(name[:60], sorted(known_names))}", expected_zh,
        )
        for name in unknown[:MAX_UNKNOWN_NAMES]
    ]  # fmt: skip
    if (remaining := len(unknown) - MAX_UNKNOWN_NAMES) > 0:
        errors.append(FieldError(f"{prefix}...", f"{remaining:,} more that are not known", expected, expected_zh))
    return errors


def load_table_schema(path: Path | str) -> TableSchema:
    """Read a contract from TOML (`name`, `[origin]`, `[[columns]]`). Raises DataError."""
    try:
        return read_config(path, TableSchema)
    except ConfigFileError as error:
        raise DataError(str(error)) from error


def read_raw(path: Path | str) -> pl.DataFrame:
    """Read a CSV (every column as text), NDJSON or Parquet file, chosen by its suffix, without validating it.

    Raises UnreadableFileError.
    """
    path = Path(path)
    try:
        if path.name.endswith((".csv", ".csv.gz")):
            return _check_header(pl.read_csv(path, infer_schema=False), path)
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        if path.suffix in (".ndjson", ".jsonl"):
            return pl.read_ndjson(path)
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{path}: there is no such file. Check the path.") from error
    except pl.exceptions.NoDataError as error:
        raise UnreadableFileError(
            f"{path}: is empty; it must have a header and rows. Send the complete file."
        ) from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        action = "Save it again as UTF-8" if "utf" in reason.lower() else "Correct the file, or save it again"
        raise UnreadableFileError(f"{path}: cannot be read as {path.suffix[1:]}: {reason}. {action}.") from error
    raise UnreadableFileError(
        f"{path}: its name ends in {path.suffix!r}; it must end in .csv, .csv.gz, .ndjson or .parquet."
    )


def _check_header(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Refuse names that are not UTF-8 or occur twice: Polars accepts any bytes and numbers duplicates."""
    for name in frame.columns:
        if "\ufffd" in name or "\x00" in name:
            raise UnreadableFileError(f"{path}: its header is not UTF-8 text ({name!r}). Save it again as UTF-8.")
        original, separator, suffix = name.rpartition("_duplicated_")
        if separator and suffix.isdecimal() and original in frame.columns:
            raise UnreadableFileError(f"{path}: its header names {original!r} twice. Keep one of the two columns.")
    return frame


def read_table(path: Path | str, table: TableSchema) -> pl.DataFrame:
    """Read a table from a file and type it by its contract. Raises InvalidTableError (all errors) or
    UnreadableFileError.
    """
    frame, errors, total = validate(read_raw(path), table, file=Path(path).name)
    if errors:
        raise InvalidTableError(errors, total)
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
        series, invalid_rows = _validate_column(frame[column.name], column, table.missing)
        total += len(invalid_rows)
        remaining = max(0, MAX_ERRORS - len(errors))
        errors += [
            column.field_error(frame[column.name][i], first_row + i, file) for i in invalid_rows[:remaining].to_list()
        ]
        series_by_column.append(series)
    return pl.DataFrame(series_by_column), errors, total


_DTYPES: dict[str, type[pl.DataType]] = {"number": pl.Float64, "category": pl.String, "text": pl.String}


def _to_floats(series: pl.Series) -> FloatArray:
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _validate_column(raw: pl.Series, column: ColumnSchema, missing: tuple[str, ...]) -> tuple[pl.Series, pl.Series]:
    """(typed series, positions of invalid values)."""
    if raw.dtype == pl.String:
        raw = raw.set(raw.is_in(list(missing)), None) if raw.len() else raw
    value: pl.Series
    if column.kind == "number":
        is_convertible = raw.dtype.is_numeric() or raw.dtype == pl.String or raw.dtype == pl.Null
        value = (
            raw.cast(pl.Float64, strict=False)
            if is_convertible
            else pl.Series(raw.name, [None] * raw.len(), dtype=pl.Float64)
        )
        low, high = column.bounds
        if _all_valid(raw, value, column):
            return _decode(value, column), pl.Series(dtype=pl.UInt32)
        in_range = value.is_between(low, high) & value.is_finite()
        if column.integer:
            in_range &= value == value.round(0)
        allowed_codes = list(column.missing_codes) + [float(code) for code in column.recode]
        is_valid = (in_range | value.is_in(allowed_codes)) if allowed_codes else in_range
    else:
        is_scalar = not raw.dtype.is_nested() and raw.dtype not in (pl.Binary, pl.Object)
        value = (
            raw.cast(pl.String, strict=False) if is_scalar else pl.Series(raw.name, [None] * raw.len(), dtype=pl.String)
        )
        is_valid = value.is_in(list(column.levels)) if column.kind == "category" else value.is_not_null()
    is_invalid = raw.is_not_null() & ~is_valid.fill_null(False)
    if column.required:
        is_invalid |= raw.is_null()
    if column.kind == "number":
        value = _decode(value, column)
    return value.set(is_invalid, None) if is_invalid.any() else value, is_invalid.arg_true()


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
