"""Draft a config as TOML for a user's table, from what was inferred about each column, for its owner to correct."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import polars as pl

from datasets.schema import ColumnSchema
from datasets.tables.values.numbers import NumberFormat, number_as_text
from training.tabular.columns.leaks import describe_leak
from training.tabular.columns.target import TargetValue
from training.tabular.user_table import UserTable, UserTableConfig, read_user_table

MAX_COMMENT = 500  # characters


def draft_config(data: UserTableConfig, product: str) -> str:
    """The config of a table, which is read. Raises DataError."""
    return format_config(read_user_table(data), data, product)


def format_config(user_table: UserTable, data: UserTableConfig, product: str) -> str:
    """The config of a table that was read."""
    leaks = {leak.column: leak for leak in user_table.leaks}
    lines = [
        f"# python -m training {product} --config THIS_FILE",
        *(f"# {_one_line(remark)}" for remark in (f"Read as {user_table.format}.", *user_table.remarks)),
        "[table]",
        *_source_lines(data),
        f"target = {_toml_string(data.target)}",
        *(
            f"{name} = {_toml_array(values)}"
            for name, values in (("positive_labels", data.positive_labels), ("negative_labels", data.negative_labels))
            if values
        ),
        *(["simulated = true"] if data.simulated else []),
        "",
        "# direction: 1 where a higher value means more risk, -1 where it means less, 0 where you do not know.",
        '# role: "audit" for a column that is compared between groups and no input, such as sex;',
        '# "leak" for a column that is known only after the outcome; "indicator" for an input. An input that describes',
        '# a protected attribute, or tells the outcome too well, needs a reason = "...", which stands in the card.',
        "[table.columns]",
    ]
    for column in user_table.table.columns:
        if column.role == "target":
            continue
        comments = [user_table.column_remarks.get(column.name, "")]
        if column.name in leaks:
            comments.insert(0, f"WARNING, {describe_leak(leaks[column.name], column)}")
        elif column.role == "indicator" and column.kind == "number":
            comments.insert(0, _value_range(user_table.frame[column.name]))
        comment = _one_line(" ".join(text for text in comments if text)).rstrip(";")
        lines.append(f"{_toml_string(column.name)} = {_column_table(column)}" + (f"  # {comment}" if comment else ""))
    lines += _split_lines(user_table)
    return "\n".join(lines) + "\n"


def _split_lines(user_table: UserTable) -> list[str]:
    """A split by time, which the owner may switch on, where the table has a date of application."""
    times = user_table.table.columns_with_role("time")
    if not times:
        return []
    column = _toml_string(times[0].name)
    return ["", "# To test on the latest rows:", "# [split]", '# how = "time"', f"# column = {_one_line(column)}"]


def _source_lines(data: UserTableConfig) -> list[str]:
    fields: Mapping[str, object] = {
        "file": None if data.file is None else str(data.file), "sheet": data.sheet, "header_row": data.header_row,
        "database": data.database or None, "query": data.query or None,
    }  # fmt: skip
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items() if value is not None]


def _column_table(column: ColumnSchema) -> str:
    """The declared fields of a column as an inline table."""
    fields: dict[str, str] = {"kind": f'"{column.kind}"'}
    if column.role != "indicator":
        fields = {"role": f'"{column.role}"'} | fields
    if column.kind == "category":
        fields["levels"] = _toml_array(column.levels)
    if column.other_level:
        fields["other_level"] = _toml_string(column.other_level)
    if column.kind == "number" and column.low is not None:
        fields["low"] = number_as_text(column.low)
    if column.kind == "number" and column.role == "indicator":
        fields["direction"] = str(column.direction)
    if column.missing_codes:
        fields["missing_codes"] = _toml_array(column.missing_codes)
    if column.derived:
        fields["derived"] = f'{{ op = "{column.derived.op}", of = {_toml_array(column.derived.of)} }}'
    fields |= {name: _toml_string(text) for name, text in (("unit", column.unit), ("zh", column.zh)) if text}
    if column.reason:
        fields["reason"] = _toml_string(column.reason)
    if column.boolean:
        fields["boolean"] = "true"
    if column.date_format:
        fields["date_format"] = _toml_string(column.date_format)
    if column.number_format not in (None, NumberFormat()):
        assert column.number_format is not None
        form = column.number_format
        suffix = f", suffix = {_toml_string(form.suffix)}" if form.suffix else ""
        fields["number_format"] = f'{{ decimal = "{form.decimal}", grouped = {str(form.grouped).lower()}{suffix} }}'
    return "{ " + ", ".join(f"{name} = {value}" for name, value in fields.items()) + " }"


def _value_range(series: pl.Series) -> str:
    minimum, maximum = series.min(), series.max()
    if not isinstance(minimum, int | float) or not isinstance(maximum, int | float):
        return "no value is known"
    return f"{float(minimum):,g} to {float(maximum):,g};"


def _one_line(text: str) -> str:
    """A comment, which ends with its line, without the signs that TOML forbids in one."""
    line = "".join(char if char.isprintable() else " " for char in " ".join(text.split()))
    return line if len(line) <= MAX_COMMENT else line[: MAX_COMMENT - 3] + "..."


def _toml_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_array(values: Iterable[TargetValue]) -> str:
    return json.dumps(list(values), ensure_ascii=False).replace("\x7f", "\\u007f")
