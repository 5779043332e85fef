"""Read records of JSON, one a line or in one list, and keep every digit of a long number."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import polars as pl

from datasets.errors import UnreadableFileError
from datasets.tables.source import SourceFile
from datasets.tables.values.numbers import MAX_EXACT_DIGITS

_LONG_NUMBER = re.compile(rb"[:\[,\s]-?\d[\d.]{15,}")


def has_long_number(line: bytes) -> bool:
    """Whether a line of JSON may have a number with more digits than a float64 holds."""
    return _LONG_NUMBER.search(line) is not None


def loads_exactly(text: bytes | str) -> Any:
    """JSON whose numbers of more digits than a float64 holds stay text, as they stand there. Raises ValueError."""
    return json.loads(text, parse_int=_parse_int, parse_float=_parse_float, parse_constant=_missing_constant)


def _parse_int(text: str) -> int | str:
    return int(text) if len(text.lstrip("-")) <= MAX_EXACT_DIGITS else text


def _parse_float(text: str) -> float | str:
    digits = sum(char.isdigit() for char in text.lower().partition("e")[0].strip("-0."))
    return float(text) if digits <= 17 else text


def _missing_constant(text: str) -> None:
    return None  # NaN and Infinity, which JSON does not have, are missing


def read_frame(source: SourceFile) -> pl.DataFrame:
    """All records: numbers where a column has nothing else, else text. Raises UnreadableFileError."""
    path = source.path
    try:
        with source.open() as file:
            data = file.read()
    except (OSError, EOFError) as error:
        raise UnreadableFileError(
            f"{path}: cannot be read to its end: {error}. Send it again.",
            f"{path}：文件不完整（{error}），请重新发送。",
        ) from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    if source.kind == "ndjson" and not has_long_number(data):
        try:
            return _plain(pl.read_ndjson(data, infer_schema_length=None))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            pass  # records of mixed types, or a damaged one: reading record by record finds it
    return _plain(_frame_of(list(_records(data, source)), source))


def _records(data: bytes, source: SourceFile) -> Iterator[dict[str, Any]]:
    try:
        items = loads_exactly(data) if source.kind == "json" else None
    except ValueError as error:
        raise UnreadableFileError(
            f"{source.path}: cannot be read as JSON: {error}. Correct the file.",
            f"{source.path}：不是有效的 JSON（{error}），请更正。",
        ) from error
    numbered = enumerate(items if items is not None else (line for line in data.split(b"\n") if line.strip()), 1)
    for row, item in numbered:
        try:
            record = item if items is not None else loads_exactly(item)
        except ValueError as error:
            raise UnreadableFileError(
                f"{source.path}: cannot be read as ndjson: record {row}: {error}. Correct the record.",
                f"{source.path}：第 {row} 条记录不是有效的 JSON（{error}），请更正。",
            ) from error
        if not isinstance(record, dict):
            raise UnreadableFileError(
                f"{source.path}: record {row} is {type(record).__name__}; it must be a JSON object. "
                "Correct the record.",
                f"{source.path}：第 {row} 条记录应为 JSON 对象，请更正。",
            )
        try:
            yield _flat(record)
        except ValueError as error:
            raise UnreadableFileError(
                f"{source.path}: record {row} {error}. Rename one of them.",
                f"{source.path}：第 {row} 条记录中有重名的字段，请改名。",
            ) from error


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A record whose inner records are columns of their own, named after both. Raises ValueError for a name twice."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        if duplicates := flat.keys() & inner.keys():
            raise ValueError(f"names {min(duplicates)!r} twice, as a field and inside another")
        flat |= inner
    return flat


def _frame_of(records: list[dict[str, Any]], source: SourceFile) -> pl.DataFrame:
    names = list(dict.fromkeys(name for record in records for name in record))
    return pl.DataFrame([_series(name, [record.get(name) for record in records]) for name in names])


def _series(name: str, values: list[Any]) -> pl.Series:
    types = {type(value) for value in values} - {type(None)}
    if list in types:
        return pl.Series(name, values, dtype=pl.Object)
    if types <= {int, float}:
        return pl.Series(name, values, dtype=pl.Float64, strict=False)
    if types == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    return pl.Series(
        name, [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    )


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Inner records as columns of their own."""
    while structs := [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Struct)]:
        frame = frame.with_columns(pl.col(name).name.prefix_fields(f"{name}.") for name in structs).unnest(structs)
    return frame
