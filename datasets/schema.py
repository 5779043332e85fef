"""Declare the contract of a table: what each column means, contains and may be used for, and how it is written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from datasets.derived_columns import DAYS_PER, MAX_VALUE, DerivedFormula
from datasets.errors import DataError, FieldError, did_you_mean
from datasets.files.config_file import ConfigFileError, read_config
from datasets.tables.values.dates import DATE_FORMS
from datasets.tables.values.numbers import NumberFormat

ColumnKind = Literal["number", "category", "text"]
ColumnRole = Literal["indicator", "target", "time", "group", "weight", "audit", "leak", "id"]

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
    other_level: the level of every text that is none of the others, where rare ones are joined.
    ordered: whether the order of the levels has a meaning; otherwise training orders them by default rate.
    codes: of a text that lists codes with ';' between; a word for "none" says that there are none, no text nothing.
    number_format: how its numbers are written where they are text, in JSON too; None: as machines write them.
    boolean: whether true and false stand for 1 and 0. date_format: the form of its dates, which are read as YYYY-MM-DD.
    reason: why it is an input although it describes a protected attribute, or tells the outcome too well.
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
    other_level: str = ""
    ordered: bool = False
    direction: Literal[-1, 0, 1] = 0
    group: str = ""
    required: bool = False
    missing_codes: tuple[float, ...] = ()
    recode: dict[str, float] = Field(default_factory=dict)
    number_format: NumberFormat | None = None
    boolean: bool = False
    codes: tuple[str, ...] = ()
    date_format: str = ""
    derived: DerivedFormula | None = None
    reason: str = ""
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
        if self.other_level and self.other_level not in self.levels:
            raise ValueError(f"{self.name}: other_level is {self.other_level!r}, which is not among the levels")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"{self.name}: low {self.low:g} is above high {self.high:g}")
        overlapping_codes = sorted({float(code) for code in self.recode} & set(self.missing_codes))
        if overlapping_codes:
            raise ValueError(f"{self.name}: {overlapping_codes[0]:g} is both in missing_codes and in recode")
        if self.date_format not in ("", *DATE_FORMS):
            raise ValueError(f"{self.name}: date_format is {self.date_format!r}; one of {', '.join(DATE_FORMS)}")
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
        if self.codes:
            names = ", ".join(self.codes)
            return (
                f"text: none, or codes among {names} with ';' between",
                f"文本：none（无），或以下代码（以 ; 分隔）：{names}",
            )
        if self.kind == "text":
            return "text", "文本"
        if self.kind == "category" and self.other_level:
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
    """A contract: columns and origin. missing: texts that mean "not known", unless they are a level of the column."""

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
            if column.derived:
                _check_operands(self.name, column, self.columns[:index])
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


def _check_operands(table: str, column: ColumnSchema, earlier: Sequence[ColumnSchema]) -> None:
    """Raises ValueError where dates are added up as numbers, or the time between others than dates is asked for."""
    assert column.derived is not None
    dates = {other.name for other in earlier if other.date_format}
    reads_dates = column.derived.op in DAYS_PER
    wrong = [name for name in column.derived.operand_names if (name in dates) != reads_dates]
    if wrong:
        expected = "a column with a date_format" if reads_dates else "a number"
        raise ValueError(f"{table}: {column.name} is derived from {', '.join(wrong)}; {expected} is expected")


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
