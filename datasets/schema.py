"""A table's contract, declared once: what each column means, holds and may be used for; and reading by it.

frame = read("applications.csv", TABLE)      # polars frame, or Faults with every fault in the file
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from datasets.derived_columns import LARGEST, Derived, Floats
from datasets.errors import DataError, Fault, Faults, Unreadable

Kind = Literal["number", "category", "text"]
Role = Literal["indicator", "target", "time", "group", "weight", "audit", "leak", "id"]
MOST_FAULTS = 1_000  # kept per table; the rest are counted

UNITS_ZH = {
    "months": "个月", "days": "天", "years": "年", "points": "分", "items": "件", "persons": "人", "count": "次",
    "RMB": "元", "RMB/month": "元/月", "RMB/year": "元/年", "NT$": "新台币元", "10k RMB": "万元",
    "10k RMB/year": "万元/年", "10k RMB/MWh": "万元/兆瓦时", "MWh": "兆瓦时", "companies": "家", "share": "比例",
    "probability": "概率", "codes, ';' between": "代码，以 ; 分隔",
}  # fmt: skip


class Column(BaseModel):
    """One column. `low` and `high` bound a number, inclusive; `levels` lists the values of a category.

    direction: +1 where a higher value (or a later level) can only raise the risk, -1 only lower it, 0 unknown.
    group:     the indicator group under which an authorisation grants it.
    missing_codes: numbers by which the source says "not known"; recode: numbers that stand for another value.
    derived: how it is made from columns before it; such a column is never read from a file.
    ordered:   the levels' order means something; otherwise training orders them by their default rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind = "number"
    role: Role = "indicator"
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
    derived: Derived | None = None
    en: str = ""
    zh: str = ""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Column:
        if self.kind == "category" and not self.levels:
            raise ValueError(f"{self.name}: a category needs its levels")
        if self.kind != "category" and self.levels:
            raise ValueError(f"{self.name}: only a category has levels")
        if len(set(self.levels)) != len(self.levels):
            raise ValueError(f"{self.name}: a level is named twice")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"{self.name}: low {self.low:g} is above high {self.high:g}")
        both = sorted({float(code) for code in self.recode} & set(self.missing_codes))
        if both:
            raise ValueError(f"{self.name}: {both[0]:g} is both a missing code and recoded")
        return self

    @property
    def label(self) -> str:
        return self.en or self.name.replace("_", " ")

    @property
    def label_zh(self) -> str:
        return self.zh or self.label

    @property
    def bounds(self) -> tuple[float, float]:
        return (-LARGEST if self.low is None else self.low, LARGEST if self.high is None else self.high)

    def needed(self) -> tuple[str, str]:
        """What the column asks for, in English and in Chinese."""
        if self.kind == "text":
            return "text", "文本"
        if self.kind == "category":
            return f"one of {', '.join(self.levels)}", f"以下之一：{'、'.join(self.levels)}"
        noun, noun_zh = ("a whole number", "整数") if self.integer else ("a number", "数值")
        unit = f", in {self.unit}" if self.unit else ""
        unit_zh = f"，单位 {UNITS_ZH.get(self.unit, self.unit)}" if self.unit else ""
        low, high = ("" if end is None else number_text(end) for end in (self.low, self.high))
        if low and high:
            return f"{noun} from {low} to {high}{unit}", f"{low} 至 {high} 的{noun_zh}{unit_zh}"
        if low:
            return f"{noun} of {low} or more{unit}", f"不小于 {low} 的{noun_zh}{unit_zh}"
        if high:
            return f"{noun} of {high} or less{unit}", f"不大于 {high} 的{noun_zh}{unit_zh}"
        return f"{noun}{unit}", f"{noun_zh}{unit_zh}"

    def fault(self, found: object, row: int | None = None, file: str | None = None) -> Fault:
        needed, needed_zh = self.needed()
        absent = found is None or (isinstance(found, str) and found == "missing")
        shown = "missing" if absent else repr(found) if isinstance(found, str) else " ".join(str(found).split())
        return Fault(self.name, shown if len(shown) <= 60 else shown[:57] + "...", needed, needed_zh, row, file)


class Origin(BaseModel):
    """Where a table comes from. `simulated` follows the data into every card, report and answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = ""
    licence: str = ""
    sha256: str = ""
    simulated: bool = False


class Table(BaseModel):
    """A contract: columns and origin. `missing` are the texts that mean "not known" in a CSV."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    columns: tuple[Column, ...]
    origin: Origin = Origin()
    missing: tuple[str, ...] = ("", "NA")

    @model_validator(mode="after")
    def _names_each_column_once(self) -> Table:
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{self.name}: declared twice: {', '.join(twice)}")
        for at, column in enumerate(self.columns):
            late = [part for part in column.derived.parts if part not in names[:at]] if column.derived else []
            if late:
                raise ValueError(f"{self.name}: {column.name} is made from {', '.join(late)}, not declared before it")
        return self

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name!r}{nearest(name, [c.name for c in self.columns])}")

    def role(self, role: Role) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.role == role)

    @property
    def indicators(self) -> tuple[Column, ...]:
        return self.role("indicator")

    @property
    def target(self) -> Column:
        found = self.role("target")
        if len(found) != 1:
            raise DataError(f"{self.name}: {len(found)} columns have the role 'target'; exactly one must.")
        return found[0]


def number_text(value: float) -> str:
    """1234567.0 -> 1,234,567; 1234.567 -> 1,234.57; 0.01234 -> 0.0123."""
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"


def nearest(name: str, known: list[str]) -> str:
    """'; did you mean ...?' or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


MOST_UNKNOWN = 20  # names told one by one: each is compared with all that are known


def unknown_names(
    names: Iterable[str], known: Collection[str], needed: str, needed_zh: str, place: str = ""
) -> list[Fault]:
    """A fault for each of the first `MOST_UNKNOWN` names that are not known, and one for how many more there are.
    `place`: before each name, where it stands."""
    strange = [name for name in names if name not in known]
    faults = [
        Fault(
            place + (name if len(name) <= 60 else name[:57] + "..."),
            "not known", f"{needed}{nearest(name[:60], sorted(known))}", needed_zh,
        )
        for name in strange[:MOST_UNKNOWN]
    ]  # fmt: skip
    if (more := len(strange) - MOST_UNKNOWN) > 0:
        faults.append(Fault(f"{place}...", f"{more:,} more that are not known", needed, needed_zh))
    return faults


def table_from_toml(path: Path | str) -> Table:
    """A contract written as TOML (`name`, `[origin]`, `[[columns]]`)."""
    try:
        return Table.model_validate(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise DataError(f"{path}: {error}") from error


def scan(path: Path | str) -> pl.DataFrame:
    """A CSV (every column as text), NDJSON or Parquet file as it stands, by the ending of its name."""
    path = Path(path)
    try:
        if path.name.endswith((".csv", ".csv.gz")):
            return _with_a_sound_header(pl.read_csv(path, infer_schema=False), path)
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        if path.suffix in (".ndjson", ".jsonl"):
            return pl.read_ndjson(path)
    except FileNotFoundError as error:
        raise Unreadable(f"{path}: there is no such file. Check the path.") from error
    except pl.exceptions.NoDataError as error:
        raise Unreadable(f"{path}: is empty; a header and rows are needed. Send the whole file.") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        said = str(error).strip().split("\n")[0].rstrip(".")
        todo = "Save it again as UTF-8" if "utf" in said.lower() else "Correct the file, or save it again"
        raise Unreadable(f"{path}: cannot be read as {path.suffix[1:]}: {said}. {todo}.") from error
    raise Unreadable(f"{path}: ends in {path.suffix!r}; .csv, .csv.gz, .ndjson or .parquet is needed.")


def _with_a_sound_header(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Polars reads names in any bytes, and numbers those that stand twice."""
    for name in frame.columns:
        if "\ufffd" in name or "\x00" in name:
            raise Unreadable(f"{path}: its header is not UTF-8 text ({name!r}). Save it again as UTF-8.")
        once, mark, number = name.rpartition("_duplicated_")
        if mark and number.isdecimal() and once in frame.columns:
            raise Unreadable(f"{path}: its header names {once!r} twice. Keep one of the two columns.")
    return frame


def read(path: Path | str, table: Table) -> pl.DataFrame:
    """The table in a file, typed by its contract. Raises Faults (all of them) or Unreadable."""
    frame, faults, total = conform(scan(path), table, file=Path(path).name)
    if faults:
        raise Faults(faults, total)
    return frame


def check(frame: pl.DataFrame, table: Table, file: str | None = None) -> pl.DataFrame:
    """The frame typed by its contract; raises Faults."""
    frame, faults, total = conform(frame, table, file)
    if faults:
        raise Faults(faults, total)
    return frame


def conform(
    frame: pl.DataFrame, table: Table, file: str | None = None, first_row: int = 1
) -> tuple[pl.DataFrame, list[Fault], int]:
    """Typed frame (faulty values null), the first faults, and how many there are in all.

    Columns that the contract does not name are faults too; one that the file lacks is a fault where it is required,
    and all missing otherwise.
    """
    known = [column.name for column in table.columns if column.derived is None]
    faults = [
        Fault(
            name,
            "not in the contract",
            f"a column of {table.name}{nearest(name, known)}",
            f"{table.name} 的列",
            None,
            file,
        )
        for name in frame.columns
        if name not in known
    ]
    total = len(faults)
    typed: list[pl.Series] = []
    for column in table.columns:
        if column.derived is not None:
            done = {series.name: series for series in typed}
            of, by = ([_numbers(done[part]) for part in parts] for parts in (column.derived.of, column.derived.by))
            typed.append(pl.Series(column.name, column.derived.many(of, by), nan_to_null=True))
            continue
        if column.name not in frame.columns:
            if column.required:
                faults.append(Fault(column.name, "absent", "a column of the file", "文件中的一列", None, file))
                total += 1
            typed.append(pl.Series(column.name, [None] * frame.height, dtype=_DTYPES[column.kind]))
            continue
        series, bad = _conform_column(frame[column.name], column, table.missing)
        total += len(bad)
        room = max(0, MOST_FAULTS - len(faults))
        faults += [column.fault(frame[column.name][i], first_row + i, file) for i in bad[:room].to_list()]
        typed.append(series)
    return pl.DataFrame(typed), faults, total


_DTYPES: dict[str, type[pl.DataType]] = {"number": pl.Float64, "category": pl.String, "text": pl.String}


def _numbers(series: pl.Series) -> Floats:
    return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _conform_column(raw: pl.Series, column: Column, missing: tuple[str, ...]) -> tuple[pl.Series, pl.Series]:
    """(typed series, positions of the faulty values)."""
    if raw.dtype == pl.String:
        raw = raw.set(raw.is_in(list(missing)), None) if raw.len() else raw
    value: pl.Series
    if column.kind == "number":
        numeric = raw.dtype.is_numeric() or raw.dtype == pl.String or raw.dtype == pl.Null
        value = (
            raw.cast(pl.Float64, strict=False) if numeric else pl.Series(raw.name, [None] * raw.len(), dtype=pl.Float64)
        )
        low, high = column.bounds
        if _all_fit(raw, value, column):
            return _decode(value, column), pl.Series(dtype=pl.UInt32)
        usual = value.is_between(low, high) & value.is_finite()
        if column.integer:
            usual &= value == value.round(0)
        coded = list(column.missing_codes) + [float(code) for code in column.recode]
        good = (usual | value.is_in(coded)) if coded else usual
    else:
        told = not raw.dtype.is_nested() and raw.dtype not in (pl.Binary, pl.Object)
        value = raw.cast(pl.String, strict=False) if told else pl.Series(raw.name, [None] * raw.len(), dtype=pl.String)
        good = value.is_in(list(column.levels)) if column.kind == "category" else value.is_not_null()
    bad = raw.is_not_null() & ~good.fill_null(False)
    if column.required:
        bad |= raw.is_null()
    if column.kind == "number":
        value = _decode(value, column)
    return value.set(bad, None) if bad.any() else value, bad.arg_true()


def _all_fit(raw: pl.Series, value: pl.Series, column: Column) -> bool:
    """Whether no value of a number is faulty, asked in one pass: most columns of most files are so."""
    if value.null_count() != raw.null_count() or (column.required and raw.null_count()):
        return False
    low, high = column.bounds
    found = value.to_numpy()  # null becomes NaN
    missing = np.isnan(found)
    if missing.sum() != value.null_count():
        return False
    if not missing.all() and not (np.fmin.reduce(found) >= low and np.fmax.reduce(found) <= high):
        return False
    return not column.integer or bool(((found == np.rint(found)) | missing).all())


def _decode(value: pl.Series, column: Column) -> pl.Series:
    """Source codes -> the value the model sees."""
    said = value
    if column.missing_codes:
        value = value.set(said.is_in(list(column.missing_codes)), None)
    for code, meant in column.recode.items():
        value = value.set(said == float(code), meant)
    return value
