"""A table nobody here has seen: from a file and what its owner says about it to a contract and a frame.

table, frame, remarks = read(OwnData(file="loans.csv", target="status", bad="defaulted"))

What the owner declares for a column holds; what is left open is read off the values: numbers, categories with their
levels, and columns that tell a model nothing (identifiers, constants, free text), which are left out with a remark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field, ValidationError, field_validator, model_validator

from datasets.errors import DataError, Faults
from datasets.schema import Column, Origin, Table, conform, nearest, scan, table_from_toml
from training.config import Settings

MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "?")
MOST_LEVELS = 60  # of a category; a text column with more is taken for free text
DATE = r"^\d{4}[-/]\d{1,2}([-/]\d{1,2}.*)?$"
ID_NAME = re.compile(r"(^|_|\b)(id|uuid|guid|key|index|rownum|row_number|unnamed.*)$", re.IGNORECASE)

Value = str | int | float | bool


class OwnData(Settings):
    """What the owner of a table says about it. Only `file` and `target` are needed.

    bad, good: values of the target; both may be lists. Without `bad` the target must be 0 (good) and 1 (bad); rows with
               neither value are left out where both are given.
    columns:   by name, any field of datasets.schema.Column: role, kind, direction, unit, low, high, levels, ...
    """

    file: Path
    target: str
    bad: tuple[Value, ...] = ()
    good: tuple[Value, ...] = ()
    contract: Path | None = None  # a whole contract as TOML, instead of `columns`
    columns: dict[str, dict[str, Any]] = Field(default_factory=dict)
    missing: tuple[str, ...] = MISSING
    origin: str = ""  # where it comes from
    licence: str = ""
    simulated: bool = False

    @field_validator("bad", "good", mode="before")
    @classmethod
    def _one_or_more(cls, given: Any) -> Any:
        return given if isinstance(given, list | tuple) else (given,)

    @model_validator(mode="after")
    def _knows_its_fields(self) -> OwnData:
        known = sorted(set(Column.model_fields) - {"name"})
        for name, declared in self.columns.items():
            for key in declared:
                if key not in known:
                    raise ValueError(
                        f"columns.{name}.{key} is not known{nearest(key, known)}. Known: {', '.join(known)}"
                    )
        if self.contract and self.columns:
            raise ValueError("both contract and columns are given; keep one of them")
        return self


def read(data: OwnData) -> tuple[Table, pl.DataFrame, list[str]]:
    """(contract, conformed frame with a target of 0 and 1, remarks on what was inferred or left out)."""
    raw = scan(data.file)
    if raw.width < 2 or raw.height < 1:
        raise DataError(
            f"{data.file}: holds {raw.width} column(s) and {raw.height} row(s). "
            "A header and rows are needed, with ',' between values."
        )
    made = [name for name, declared in data.columns.items() if "derived" in declared]
    _present([data.target, *(name for name in data.columns if name not in made)], raw, data.file)
    raw = raw.with_columns(_outcome(raw[data.target], data))
    remarks: list[str] = []
    if data.contract:
        table = table_from_toml(data.contract)
    else:
        raw = raw.with_columns([_plain(raw[name], data.columns.get(name, {})) for name in raw.columns])
        table = _infer(raw, data, remarks)
    frame, faults, total = conform(raw, table, data.file.name)
    if faults:
        raise Faults(faults, total)
    known = frame[data.target].is_not_null()
    if not known.all():
        remarks.append(f"{data.target}: {int((~known).sum()):,} rows have no known outcome; they are left out.")
    return table, frame.filter(known), remarks


def _present(names: list[str], raw: pl.DataFrame, file: Path) -> None:
    absent = [f"{name!r}{nearest(name, raw.columns)}" for name in names if name not in raw.columns]
    if absent:
        raise DataError(f"{file}: has no column {', '.join(absent)}. It has: {', '.join(raw.columns[:40])}.")


def _outcome(series: pl.Series, data: OwnData) -> pl.Series:
    """The target as 0.0, 1.0 or null."""
    text = series.cast(pl.String).str.strip_chars()
    text = text.set(text.is_in(list(data.missing)), None)
    bad, good = data.bad, data.good
    values = text.drop_nulls().unique().sort().to_list()
    if not bad:
        bad, good = (1, "true", "True"), (0, "false", "False")
    known = [_is(text, options) for options in (bad, good)]
    if data.bad and not data.good:
        if len(values) != 2:
            raise DataError(
                f"{data.target}: holds {len(values)} values ({_few(values)}); name the good ones too: good = [...]."
            )
        known[1] = text.is_not_null() & ~known[0]
    neither = text.filter(~known[0] & ~known[1]).drop_nulls().unique().sort().to_list()
    if neither and not (data.bad and data.good):
        raise DataError(
            f"{data.target}: holds {_few(neither)}; it must be 0 (good) or 1 (bad). "
            f"Say which value is bad, for example: bad = {neither[0]!r}."
        )
    if not known[0].any() or not known[1].any():
        raise DataError(f"{data.target}: holds {_few(values)}; both outcomes must occur. Check `bad` and `good`.")
    outcome = pl.Series(data.target, [None] * len(text), dtype=pl.Float64)
    return outcome.set(known[0].fill_null(False), 1.0).set(known[1].fill_null(False), 0.0)


def _is(text: pl.Series, options: tuple[Value, ...]) -> pl.Series:
    """Whether each text is one of the options; 1, 1.0 and "1" are the same."""
    found = text.is_in([str(option).lower() if isinstance(option, bool) else str(option) for option in options])
    numbers = [float(option) for option in options if isinstance(option, int | float)]
    return (found | text.cast(pl.Float64, strict=False).is_in(numbers).fill_null(False)).fill_null(False)


def _plain(series: pl.Series, declared: dict[str, Any]) -> pl.Series:
    """A column as numbers or text; a category stored as a number becomes the text that a person would write."""
    if series.dtype.is_temporal() or series.dtype.is_nested() or series.dtype == pl.Object:
        return (
            series.cast(pl.String, strict=False)
            if not series.dtype.is_nested()
            else series.map_elements(str, pl.String)
        )
    if (
        declared.get("kind") == "category"
        and series.dtype.is_float()
        and series.drop_nulls().eq(series.drop_nulls().round(0)).all()
    ):
        return series.cast(pl.Int64).cast(pl.String)
    return series.cast(pl.String) if series.dtype in (pl.Boolean, pl.Categorical, pl.Enum) else series


def _infer(raw: pl.DataFrame, data: OwnData, remarks: list[str]) -> Table:
    columns = []
    made = [name for name, declared in data.columns.items() if "derived" in declared]
    for name in [*raw.columns, *made]:
        declared = dict(data.columns.get(name, {}))
        if name == data.target:
            declared |= {"role": "target", "kind": "number", "low": 0, "high": 1, "integer": True}
        elif name not in made:
            remark = _look(raw[name], declared, data.missing)
            if remark:
                remarks.append(f"{name}: {remark}")
        try:
            columns.append(Column(name=name, **declared))
        except ValidationError as error:
            faults = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
            raise DataError(f"{data.file.name}, column {name}: {faults}. Correct table.columns.{name}.") from error
    if not any(column.role == "indicator" and column.kind != "text" for column in columns):
        raise DataError(f"{data.file}: no column is left that a model could read. {' '.join(remarks)}")
    origin = Origin(source=data.origin or data.file.name, licence=data.licence, simulated=data.simulated)
    return Table(name=data.file.name.split(".")[0], columns=tuple(columns), origin=origin, missing=data.missing)


def _look(series: pl.Series, declared: dict[str, Any], missing: tuple[str, ...]) -> str | None:
    """Fill in what `declared` leaves open about a column; a remark where it is left out of the model."""
    known = series.drop_nulls()
    if known.dtype == pl.String:
        known = known.filter(~known.is_in(list(missing)))
    number = known.cast(pl.Float64, strict=False)
    numeric = len(known) > 0 and number.null_count() == 0 and bool(number.is_finite().all())
    distinct = known.n_unique()
    if "kind" not in declared:
        declared["kind"] = "category" if "levels" in declared else "number" if numeric else "category"
        if declared["kind"] == "category" and "levels" not in declared and not 0 < distinct <= MOST_LEVELS:
            declared["kind"] = "text"
    if declared["kind"] == "category" and "levels" not in declared:
        declared["levels"] = known.cast(pl.String).unique().sort().to_list()
        if numeric:
            declared["levels"] = sorted(declared["levels"], key=float)
    if declared["kind"] == "number" and numeric and "low" not in declared and float(number.min()) >= 0:  # type: ignore[arg-type]
        declared["low"] = 0  # none was negative; an upper end is the owner's to declare
    if "role" in declared:
        return None
    why = _useless(series.name, known, number, numeric, distinct, declared["kind"])
    if why:
        declared |= {"role": "id", "kind": "text", "levels": ()}
        declared.pop("low", None)
    return why and f"{why}; it is left out of the model. To keep it, declare its role."


def _useless(name: str, known: pl.Series, number: pl.Series, numeric: bool, distinct: int, kind: str) -> str | None:
    if distinct <= 1:
        return "holds no value" if distinct == 0 else f"holds one value only ({known[0]})"
    if numeric and distinct == len(known) and bool((number == number.round(0)).all()):
        run = float(number.max()) - float(number.min()) + 1 == len(known)  # type: ignore[arg-type]
        if run or ID_NAME.search(name):
            return "numbers the rows, as an identifier does"
    if not numeric and bool(known.cast(pl.String).str.contains(DATE).all()):
        return "holds dates"
    if kind == "text":
        alone = distinct == len(known)
        return "differs in every row, as an identifier does" if alone else f"has {distinct:,} different texts"
    return None


def _few(values: list[str]) -> str:
    return ", ".join(repr(value) for value in values[:6]) + (", ..." if len(values) > 6 else "")


def starter(data: OwnData, product: str) -> str:
    """A config to begin with, as TOML: what was read off each column of the file, for its owner to correct."""
    table, frame, remarks = read(data)
    why = dict(remark.split(": ", 1) for remark in remarks)
    lines = [
        f"# python -m training {product} --config THIS_FILE",
        "[table]",
        f"file = {_quoted(str(data.file))}",
        f"target = {_quoted(data.target)}",
        *(f"{name} = {_listed(values)}" for name, values in (("bad", data.bad), ("good", data.good)) if values),
        *(["simulated = true"] if data.simulated else []),
        "",
        "# direction: 1 where more is riskier, -1 where more is safer, 0 where you do not know.",
        '# role: "audit" is looked at for fairness and never scored, as sex; "leak" is known only afterwards.',
        "[table.columns]",
    ]
    for column in table.columns:
        if column.role == "id":
            lines.append(
                f'{_quoted(column.name)} = {{ role = "id", kind = "text" }}  # {why[column.name].split(";")[0]}'
            )
        elif column.kind == "category":
            lines.append(f'{_quoted(column.name)} = {{ kind = "category", levels = {_listed(column.levels)} }}')
        elif column.role == "indicator":
            low = f", low = {column.low:g}" if column.low is not None else ""
            least, most = (float(end) for end in (frame[column.name].min(), frame[column.name].max()))  # type: ignore[arg-type]
            told = f"# {least:,g} to {most:,g}"
            lines.append(f'{_quoted(column.name)} = {{ kind = "number"{low}, direction = 0 }}  {told}')
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _listed(values: Iterable[Value]) -> str:
    return json.dumps(list(values), ensure_ascii=False)
