"""Read a user's own table: infer its schema from the file and from what its owner declares about it.

table, frame, remarks = read(UserTableConfig(file="loans.csv", target="status", positive_labels="defaulted"))

What the owner declares about a column is kept. Everything else is inferred from the values: how numbers and dates are
written, what stands for a missing value, categories with their levels, and columns without information for a model
(identifiers, constants, free text), which are left out with a remark.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field, ValidationError, field_validator, model_validator

from datasets.errors import DataError, InvalidTableError, did_you_mean
from datasets.leakage import Leak
from datasets.schema import ColumnSchema, Source, TableSchema, load_table_schema
from datasets.tables.reader import RawTable, ReadOptions, read_raw
from datasets.tables.values.marks import MISSING_MARKS, NONE_WORDS
from datasets.validation import MAX_ERRORS, validate
from training.config import ConfigSection
from training.tabular.columns.date_features import add_date_features
from training.tabular.columns.inference import ColumnInference, infer_column, infer_file_decimal
from training.tabular.columns.leaks import exclude_leaks
from training.tabular.columns.roles import Protected
from training.tabular.columns.target import TargetValue, encode_target

MAX_DAMAGED_SHARE = 0.01  # of the records; up to so many are left out with a remark, beyond it the file is refused
MAX_DAMAGED = 3  # records that are left out of a small file
PLAIN_FORMATS = ("CSV, UTF-8, ',' between values", "Parquet", "JSON, a record a line")  # nothing to remark on


class UserTableConfig(ConfigSection):
    """What the owner of a table declares about it. Only `target` and one of `file` and `database` are required.

    file: of any kind that datasets.tables reads, or a folder of its parts; sheet, header_row: of a workbook.
    database: a SQLAlchemy address; query: the rows to read, or the name of a table.
    positive_labels: values of the target that mean a default; without them the target must be 0 (good) or 1 (bad).
    negative_labels: values that mean no default. Where both are given, rows with any other value are left out.
    The two may be called `bad` and `good`.
    columns: by name, any field of datasets.schema.ColumnSchema: role, kind, direction, unit, low, high, levels, ...
    missing: texts that mean "not known"; among the texts of a category, a word for "none" is a level of its own.
    """

    file: Path | None = None
    sheet: str | None = None
    header_row: int | None = Field(default=None, ge=1)
    database: str = ""
    query: str = ""
    target: str
    positive_labels: tuple[TargetValue, ...] = ()
    negative_labels: tuple[TargetValue, ...] = ()
    contract: Path | None = None  # a complete schema as TOML, instead of `columns`
    columns: dict[str, dict[str, Any]] = Field(default_factory=dict)
    missing: tuple[str, ...] = MISSING_MARKS
    origin: str = ""  # where it comes from
    licence: str = ""
    simulated: bool = False

    @model_validator(mode="before")
    @classmethod
    def _take_short_names(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        names = {"bad": "positive_labels", "good": "negative_labels"}
        return {names.get(key, key) if names.get(key) not in values else key: value for key, value in values.items()}

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
        if (self.file is None) == (not self.database):
            raise ValueError("exactly one of file and database is required")
        return self

    @property
    def label(self) -> str:
        """What messages and cards call the table: the name of its file, or of its table in a database."""
        return self.file.name if self.file is not None else self.query.split("\n")[0][:60] or "query"

    @property
    def name(self) -> str:
        return self.label.split(".")[0]


@dataclass(frozen=True)
class UserTable:
    """A table whose rows conform to its schema, with a target of 0 and 1.

    format: how it is written. remarks: sentences about the table. column_remarks: about single columns, by name.
    leaks: columns that reveal the outcome, or seem to. protected: column -> the protected attribute that it describes.
    """

    table: TableSchema
    frame: pl.DataFrame
    format: str
    remarks: tuple[str, ...]
    column_remarks: dict[str, str]
    leaks: tuple[Leak, ...] = ()
    protected: dict[str, Protected] = field(default_factory=dict)

    def all_remarks(self) -> list[str]:
        return [*self.remarks, *(f"{name}: {remark}" for name, remark in self.column_remarks.items())]


def read(data: UserTableConfig) -> tuple[TableSchema, pl.DataFrame, list[str]]:
    """Return the schema, the validated frame with a target of 0 and 1, and remarks on what was inferred or left out.

    Raises DataError, or InvalidTableError with every value outside its declared range.
    """
    user_table = read_user_table(data)
    return user_table.table, user_table.frame, user_table.all_remarks()


def read_user_table(data: UserTableConfig) -> UserTable:
    """As `read`, with what was inferred about each column."""
    options = ReadOptions(data.sheet, data.header_row, data.query)
    source: Path | str = data.file if data.file is not None else data.database
    raw = read_raw(source, options, [data.target, *data.columns])
    remarks = [*([] if raw.format in PLAIN_FORMATS else [f"{data.label} is read as {raw.format}."]), *raw.remarks]
    remarks += _check_damage(raw)
    if raw.frame.width < 2 or raw.frame.height < 1:
        raise DataError(
            f"{data.label} has {raw.frame.width} column(s) and {raw.frame.height} row(s) (read as {raw.format}); a "
            "header and at least one row are expected. Check the file, and the signs between its values."
        )
    derived_names = [name for name, declared in data.columns.items() if "derived" in declared]
    _require_columns([data.target, *(name for name in data.columns if name not in derived_names)], raw.frame, data)
    frame = raw.frame.with_columns(
        encode_target(raw.frame[data.target], data.positive_labels, data.negative_labels, data.missing)
    )
    column_remarks: dict[str, str] = {}
    protected: dict[str, Protected] = {}
    if data.contract:
        table = load_table_schema(data.contract)
    else:
        table, frame = _infer_table(frame, data, column_remarks, protected)
    typed, errors, total = validate(frame, table, data.label)
    if errors:
        raise InvalidTableError([raw.locate(error) for error in errors], total)
    has_outcome = typed[data.target].is_not_null()
    if not has_outcome.all():
        remarks.append(f"{data.target}: {int((~has_outcome).sum()):,} rows have no known outcome; they are left out.")
    typed = typed.filter(has_outcome)
    declared_roles = [name for name, declared in data.columns.items() if "role" in declared]
    if data.contract:
        declared_roles = [column.name for column in table.columns]
    table, leaks = exclude_leaks(table, typed, declared_roles)
    return UserTable(table, typed, raw.format, tuple(remarks), column_remarks, leaks, protected)


def _check_damage(raw: RawTable) -> list[str]:
    """A remark on records that cannot be read. Raises InvalidTableError where they are more than a few."""
    if not raw.faults:
        return []
    count, total = len(raw.faults), raw.frame.height + len(raw.faults)
    if count > max(MAX_DAMAGED, MAX_DAMAGED_SHARE * total):
        raise InvalidTableError(raw.faults[:MAX_ERRORS], count)
    places = ", ".join(str(fault.row) for fault in raw.faults[:10]) + (", ..." if count > 10 else "")
    return [f"{count:,} of {total:,} records cannot be read and are left out: rows {places}. {raw.faults[0]}"]


def _require_columns(names: list[str], frame: pl.DataFrame, data: UserTableConfig) -> None:
    missing_columns = [f"{name!r}{did_you_mean(name, frame.columns)}" for name in names if name not in frame.columns]
    if missing_columns:
        raise DataError(
            f"{data.label} has no column {', '.join(missing_columns)}. Its columns: {', '.join(frame.columns[:40])}."
        )


def _infer_table(
    raw: pl.DataFrame, data: UserTableConfig, column_remarks: dict[str, str], protected: dict[str, Protected]
) -> tuple[TableSchema, pl.DataFrame]:
    """The schema, and the frame with its columns as the schema reads them."""
    columns: list[ColumnSchema] = []
    series: list[pl.Series] = []
    missing = [*data.missing, *(NONE_WORDS if data.missing == MISSING_MARKS else ())]
    decimal = infer_file_decimal(raw, data.missing)
    derived_names = [name for name, declared in data.columns.items() if "derived" in declared]
    for name in [*raw.columns, *derived_names]:
        declared = dict(data.columns.get(name, {}))
        if name == data.target:
            declared |= {"role": "target", "kind": "number", "low": 0, "high": 1, "integer": True}
            series.append(raw[name])
        elif name not in derived_names:
            inference: ColumnInference = infer_column(raw[name], declared, data.missing, decimal)
            declared = inference.declared
            series.append(inference.series)
            missing += [mark for mark in inference.marks if mark not in missing]
            if inference.remarks:
                column_remarks[name] = " ".join(inference.remarks)
            if inference.protected:
                protected[name] = inference.protected
        try:
            columns.append(ColumnSchema(name=name, **declared))
        except ValidationError as error:
            messages = "; ".join(detail["msg"].removeprefix("Value error, ") for detail in error.errors())
            raise DataError(f"{data.label}, column {name}: {messages}. Correct table.columns.{name}.") from error
    _require_reasons(columns, protected, data)
    birth_dates = [name for name, attribute in protected.items() if attribute.name == "date of birth"]
    features = add_date_features(columns, pl.DataFrame(series), data.columns, birth_dates)
    columns = features.columns
    column_remarks |= features.remarks
    if not any(column.role == "indicator" and column.kind != "text" for column in columns):
        remarks = " ".join(f"{name}: {remark}" for name, remark in list(column_remarks.items())[:20])
        raise DataError(f"{data.label} has no column that a model could read. {remarks}")
    origin = Source(source=data.origin or data.label, licence=data.licence, simulated=data.simulated)
    table = TableSchema(name=data.name or "table", columns=tuple(columns), origin=origin, missing=tuple(missing))
    return table, pl.DataFrame(series)


def _require_reasons(columns: list[ColumnSchema], protected: dict[str, Protected], data: UserTableConfig) -> None:
    """Raises DataError for each protected attribute that is an input without a reason."""
    unexplained = [
        f'{column.name} describes {protected[column.name].name} and is declared role = "indicator"'
        for column in columns
        if column.name in protected and column.role == "indicator" and not column.reason.strip()
    ]
    if unexplained:
        raise DataError(
            f"{data.label}: {'; '.join(unexplained)}. A protected attribute is an input only with a reason, which "
            'stands in the model card: reason = "...". Without role, it is compared between groups and no input.'
        )
