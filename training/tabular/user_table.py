"""Read a user's own table: infer its schema from the file and from what its owner declares about it.

table, frame, remarks = read(UserTableConfig(file="loans.csv", target="status", positive_labels="defaulted"))

What the owner declares about a column is kept. Everything else is inferred from the values: numbers, categories with
their levels, and columns without information for a model (identifiers, constants, free text), which are left out with a
remark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field, ValidationError, field_validator, model_validator

from datasets.errors import DataError, InvalidTableError, did_you_mean
from datasets.schema import ColumnSchema, Source, TableSchema, load_table_schema, read_raw, validate
from training.config import ConfigSection

MISSING_TOKENS = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "?")
MAX_LEVELS = 60  # of a category; a text column with more distinct values counts as free text
DATE_PATTERN = r"^\d{4}[-/]\d{1,2}([-/]\d{1,2}.*)?$"
ID_NAME_PATTERN = re.compile(r"(^|_|\b)(id|uuid|guid|key|index|rownum|row_number|unnamed.*)$", re.IGNORECASE)

TargetValue = str | int | float | bool


class UserTableConfig(ConfigSection):
    """What the owner of a table declares about it. Only `file` and `target` are required.

    positive_labels: values of the target that mean a default; without them the target must be 0 (good) or 1 (bad).
    negative_labels: values that mean no default. Where both are given, rows with any other value are left out.
    columns: by name, any field of datasets.schema.ColumnSchema: role, kind, direction, unit, low, high, levels, ...
    """

    file: Path
    target: str
    positive_labels: tuple[TargetValue, ...] = ()
    negative_labels: tuple[TargetValue, ...] = ()
    contract: Path | None = None  # a complete schema as TOML, instead of `columns`
    columns: dict[str, dict[str, Any]] = Field(default_factory=dict)
    missing: tuple[str, ...] = MISSING_TOKENS
    origin: str = ""  # where it comes from
    licence: str = ""
    simulated: bool = False

    @field_validator("positive_labels", "negative_labels", mode="before")
    @classmethod
    def _to_tuple(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @model_validator(mode="after")
    def _check_column_fields(self) -> UserTableConfig:
        known_fields = sorted(set(ColumnSchema.model_fields) - {"name"})
        for name, declared in self.columns.items():
            for key in declared:
                if key not in known_fields:
                    raise ValueError(
                        f"columns.{name}.{key} is not a known key{did_you_mean(key, known_fields)}. "
                        f"Known keys: {', '.join(known_fields)}"
                    )
        if self.contract and self.columns:
            raise ValueError("both contract and columns are given; keep one of them")
        return self


def read(data: UserTableConfig) -> tuple[TableSchema, pl.DataFrame, list[str]]:
    """Return the schema, the validated frame with a target of 0 and 1, and remarks on what was inferred or left out.

    Raises DataError, or InvalidTableError with every value outside its declared range.
    """
    raw = read_raw(data.file)
    if raw.width < 2 or raw.height < 1:
        raise DataError(
            f"{data.file} has {raw.width} column(s) and {raw.height} row(s); a header and at least one row are "
            "expected, "
            "with ',' between values. Check the separator."
        )
    derived_names = [name for name, declared in data.columns.items() if "derived" in declared]
    _require_columns([data.target, *(name for name in data.columns if name not in derived_names)], raw, data.file)
    raw = raw.with_columns(_encode_target(raw[data.target], data))
    remarks: list[str] = []
    if data.contract:
        table = load_table_schema(data.contract)
    else:
        raw = raw.with_columns([_normalise_column(raw[name], data.columns.get(name, {})) for name in raw.columns])
        table = _infer_table(raw, data, remarks)
    frame, errors, total = validate(raw, table, data.file.name)
    if errors:
        raise InvalidTableError(errors, total)
    has_outcome = frame[data.target].is_not_null()
    if not has_outcome.all():
        remarks.append(f"{data.target}: {int((~has_outcome).sum()):,} rows have no known outcome; they are left out.")
    return table, frame.filter(has_outcome), remarks


def _require_columns(names: list[str], raw: pl.DataFrame, file: Path) -> None:
    missing_columns = [f"{name!r}{did_you_mean(name, raw.columns)}" for name in names if name not in raw.columns]
    if missing_columns:
        raise DataError(
            f"{file} has no column {', '.join(missing_columns)}. Its columns: {', '.join(raw.columns[:40])}."
        )


def _encode_target(series: pl.Series, data: UserTableConfig) -> pl.Series:
    """The target as 0.0, 1.0 or null."""
    text = series.cast(pl.String).str.strip_chars()
    text = text.set(text.is_in(list(data.missing)), None)
    positive_labels, negative_labels = data.positive_labels, data.negative_labels
    distinct_values = text.drop_nulls().unique().sort().to_list()
    if not positive_labels:
        positive_labels, negative_labels = (1, "true", "True"), (0, "false", "False")
    label_masks = [_matches_any(text, options) for options in (positive_labels, negative_labels)]
    if data.positive_labels and not data.negative_labels:
        if len(distinct_values) != 2:
            raise DataError(
                f"{data.target} has {len(distinct_values)} values ({_format_values(distinct_values)}), where two are "
                "expected. Name the values without a default too: negative_labels = [...]."
            )
        label_masks[1] = text.is_not_null() & ~label_masks[0]
    unknown_labels = text.filter(~label_masks[0] & ~label_masks[1]).drop_nulls().unique().sort().to_list()
    if unknown_labels and not (data.positive_labels and data.negative_labels):
        raise DataError(
            f"{data.target} has the values {_format_values(unknown_labels)}; 0 (good) or 1 (bad) is expected. "
            f"Name the value of a default, for example: positive_labels = {unknown_labels[0]!r}."
        )
    if not label_masks[0].any() or not label_masks[1].any():
        raise DataError(
            f"{data.target} has the values {_format_values(distinct_values)}; both outcomes must occur. "
            "Check positive_labels and negative_labels."
        )
    outcome = pl.Series(data.target, [None] * len(text), dtype=pl.Float64)
    return outcome.set(label_masks[0].fill_null(False), 1.0).set(label_masks[1].fill_null(False), 0.0)


def _matches_any(text: pl.Series, options: tuple[TargetValue, ...]) -> pl.Series:
    """Whether each text is one of the options; 1, 1.0 and "1" are equal."""
    matches = text.is_in([str(option).lower() if isinstance(option, bool) else str(option) for option in options])
    numbers = [float(option) for option in options if isinstance(option, int | float)]
    return (matches | text.cast(pl.Float64, strict=False).is_in(numbers).fill_null(False)).fill_null(False)


def _normalise_column(series: pl.Series, declared: dict[str, Any]) -> pl.Series:
    """Convert a column to numbers or text; a category stored as 1.0 becomes "1"."""
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


def _infer_table(raw: pl.DataFrame, data: UserTableConfig, remarks: list[str]) -> TableSchema:
    columns = []
    derived_names = [name for name, declared in data.columns.items() if "derived" in declared]
    for name in [*raw.columns, *derived_names]:
        declared = dict(data.columns.get(name, {}))
        if name == data.target:
            declared |= {"role": "target", "kind": "number", "low": 0, "high": 1, "integer": True}
        elif name not in derived_names:
            remark = _infer_column(raw[name], declared, data.missing)
            if remark:
                remarks.append(f"{name}: {remark}")
        try:
            columns.append(ColumnSchema(name=name, **declared))
        except ValidationError as error:
            messages = "; ".join(detail["msg"].removeprefix("Value error, ") for detail in error.errors())
            raise DataError(f"{data.file.name}, column {name}: {messages}. Correct table.columns.{name}.") from error
    if not any(column.role == "indicator" and column.kind != "text" for column in columns):
        raise DataError(f"{data.file} has no column that a model could read. {' '.join(remarks)}")
    origin = Source(source=data.origin or data.file.name, licence=data.licence, simulated=data.simulated)
    return TableSchema(name=data.file.name.split(".")[0], columns=tuple(columns), origin=origin, missing=data.missing)


def _infer_column(series: pl.Series, declared: dict[str, Any], missing: tuple[str, ...]) -> str | None:
    """Fill in what `declared` leaves open about a column; returns a remark where it is left out of the model."""
    known_values = series.drop_nulls()
    if known_values.dtype == pl.String:
        known_values = known_values.filter(~known_values.is_in(list(missing)))
    as_number = known_values.cast(pl.Float64, strict=False)
    is_numeric = len(known_values) > 0 and as_number.null_count() == 0 and bool(as_number.is_finite().all())
    distinct_count = known_values.n_unique()
    if "kind" not in declared:
        declared["kind"] = "category" if "levels" in declared else "number" if is_numeric else "category"
        if declared["kind"] == "category" and "levels" not in declared and not 0 < distinct_count <= MAX_LEVELS:
            declared["kind"] = "text"
    if declared["kind"] == "category" and "levels" not in declared:
        declared["levels"] = known_values.cast(pl.String).unique().sort().to_list()
        if is_numeric:
            declared["levels"] = sorted(declared["levels"], key=float)
    if declared["kind"] == "number" and is_numeric and "low" not in declared and float(as_number.min()) >= 0:  # type: ignore[arg-type]
        declared["low"] = 0  # no value is negative; an upper bound is for the owner to declare
    if "role" in declared:
        return None
    reason = _exclusion_reason(series.name, known_values, as_number, is_numeric, distinct_count, declared["kind"])
    if reason:
        declared |= {"role": "id", "kind": "text", "levels": ()}
        declared.pop("low", None)
    return reason and f"{reason}; it is left out of the model. Declare its role to keep it."


def _exclusion_reason(
    name: str, known_values: pl.Series, as_number: pl.Series, is_numeric: bool, distinct_count: int, kind: str
) -> str | None:
    if distinct_count <= 1:
        return "has no value" if distinct_count == 0 else f"has only one value ({known_values[0]})"
    if is_numeric and distinct_count == len(known_values) and bool((as_number == as_number.round(0)).all()):
        is_sequence = float(as_number.max()) - float(as_number.min()) + 1 == len(known_values)  # type: ignore[arg-type]
        if is_sequence or ID_NAME_PATTERN.search(name):
            return "numbers the rows like an identifier"
    if not is_numeric and bool(known_values.cast(pl.String).str.contains(DATE_PATTERN).all()):
        return "contains dates"
    if kind == "text":
        all_distinct = distinct_count == len(known_values)
        return "differs in every row like an identifier" if all_distinct else f"has {distinct_count:,} different texts"
    return None


def _format_values(values: list[str]) -> str:
    return ", ".join(repr(value) for value in values[:6]) + (", ..." if len(values) > 6 else "")


def draft_config(data: UserTableConfig, product: str) -> str:
    """Draft a config as TOML from what was inferred about each column, for the table's owner to correct."""
    table, frame, remarks = read(data)
    reasons = dict(remark.split(": ", 1) for remark in remarks)
    lines = [
        f"# python -m training {product} --config THIS_FILE",
        "[table]",
        f"file = {_toml_string(str(data.file))}",
        f"target = {_toml_string(data.target)}",
        *(
            f"{name} = {_toml_array(values)}"
            for name, values in (("positive_labels", data.positive_labels), ("negative_labels", data.negative_labels))
            if values
        ),
        *(["simulated = true"] if data.simulated else []),
        "",
        "# direction: 1 where a higher value means more risk, -1 where it means less, 0 where you do not know.",
        '# role: "audit" for a column that is checked for fairness and never scored, such as sex;',
        '# "leak" for a column that is known only after the outcome.',
        "[table.columns]",
    ]
    for column in table.columns:
        if column.role == "id":
            lines.append(
                f'{_toml_string(column.name)} = {{ role = "id", kind = "text" }}  '
                f"# {reasons[column.name].split(';')[0]}"
            )
        elif column.kind == "category":
            lines.append(
                f'{_toml_string(column.name)} = {{ kind = "category", levels = {_toml_array(column.levels)} }}'
            )
        elif column.role == "indicator":
            low = f", low = {column.low:g}" if column.low is not None else ""
            minimum, maximum = (float(bound) for bound in (frame[column.name].min(), frame[column.name].max()))  # type: ignore[arg-type]
            comment = f"# {minimum:,g} to {maximum:,g}"
            lines.append(f'{_toml_string(column.name)} = {{ kind = "number"{low}, direction = 0 }}  {comment}')
    return "\n".join(lines) + "\n"


def _toml_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _toml_array(values: Iterable[TargetValue]) -> str:
    return json.dumps(list(values), ensure_ascii=False)
