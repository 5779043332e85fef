"""The formats of a batch, CSV, xlsx, NDJSON and Parquet, and reading an upload in chunks of complete records.

A record that cannot be read is a fault of its row, and reading goes on; a file that cannot be read at all raises
UnreadableFileError.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from datasets.errors import FieldError, UnreadableFileError, did_you_mean
from datasets.schema import MAX_UNKNOWN_NAMES, ColumnSchema
from datasets.tables import parquet
from datasets.tables.chunk import Chunk, drop_empty_end, is_blank, mark_empty_rows, mark_foreign_rows, record_fault
from datasets.tables.delimited import MAX_RECORD_BYTES, DelimitedFile, unnamed
from datasets.tables.excel import Sheet, read_sheet
from datasets.tables.ndjson import has_long_number, loads_exactly
from datasets.tables.source import SourceFile, identify
from datasets.validation import validate_column
from serving.core.http.validation import find_json_ambiguity

MEDIA_TYPES = {
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
FORMATS = {kind: name for name, kind in MEDIA_TYPES.items()} | {
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/parquet": "parquet",
    "text/tab-separated-values": "csv",
    "application/vnd.ms-excel": "xlsx",  # browsers call a CSV so too, where Excel is installed
}
SUBJECT_COLUMN = ColumnSchema(name="subject_id", kind="text", required=True)  # in a file that names stored subjects
EXPECTED_COLUMN = "a column of the model, or one named in ?keep=", "模型的列，或 ?keep= 所列的列"
MAX_WORKBOOK_BYTES = 300_000_000  # of a workbook once it is unzipped: it is read as a whole, other formats in chunks


class BatchFile:
    """An uploaded file. known_names: the columns that it may have."""

    def __init__(self, path: Path, format: str, known_names: Sequence[str]):
        self.path, self.known_names = path, known_names
        self.format = format
        if format == "xlsx" and identify(path).kind == "delimited":
            self.format = "csv"

    @cached_property
    def _delimited(self) -> DelimitedFile:
        return DelimitedFile(SourceFile(self.path, "delimited"), self.known_names)

    @cached_property
    def _sheet(self) -> Sheet:
        return read_sheet(self.path, max_bytes=MAX_WORKBOOK_BYTES)

    @cached_property
    def _parquet(self) -> tuple[pl.LazyFrame, list[pl.Expr]]:
        """(the file, an expression of a plain type for each of its columns)."""
        frame = parquet.scan([self.path])
        return frame, parquet.to_plain(parquet.read_schema(frame, self.path))[0]

    def column_names(self) -> list[str] | None:
        """The names in the header; None for NDJSON, where each row has its own. Raises UnreadableFileError."""
        if self.format == "csv":
            return self._delimited.names
        if self.format == "xlsx":
            return self._sheet.names
        if self.format == "parquet":
            return [expression.meta.output_name() for expression in self._parquet[1]]
        return None

    def row_count(self) -> int | None:
        """The number of rows, where the format states it; None for the others. Raises UnreadableFileError."""
        if self.format != "parquet":
            return None
        return parquet.guarded(lambda: int(self._parquet[0].select(pl.len()).collect().item()), self.path)

    def chunks(
        self, columns: Sequence[ColumnSchema], keep: Sequence[str], rows: int, missing: Sequence[str] = ()
    ) -> Iterator[Chunk]:
        """Chunks of about `rows` rows, with those of `columns` and `keep` that the file has. Raises
        UnreadableFileError.

        missing: texts that mean "not known", in NDJSON too.
        """
        if self.format == "csv":
            yield from (_fault_nameless(chunk, self._delimited.names) for chunk in self._delimited.chunks(rows))
        elif self.format == "xlsx":
            sheet = self._sheet
            chunks = Chunk(1, sheet.frame).split(rows)
            marked = drop_empty_end(mark_foreign_rows(mark_empty_rows(chunk), sheet.names) for chunk in chunks)
            yield from (_fault_nameless(chunk, sheet.names) for chunk in marked)
        elif self.format == "parquet":
            chunks = self._parquet_chunks([*(column.name for column in columns), *keep], rows)
            yield from drop_empty_end(mark_empty_rows(chunk) for chunk in chunks)
        else:
            yield from _read_ndjson(self.path, columns, keep, rows, missing)

    def _parquet_chunks(self, names: Sequence[str], rows: int) -> Iterator[Chunk]:
        frame, expressions = self._parquet
        selected = [expression for expression in expressions if expression.meta.output_name() in names]
        first_row = 1
        for batch in parquet.batches(frame.select(selected), self.path, rows):
            yield Chunk(first_row, batch)
            first_row += batch.height


def _fault_nameless(chunk: Chunk, names: Sequence[str]) -> Chunk:
    """The chunk without the columns that have no heading; a row with a value in one of them is a fault."""
    nameless = [unnamed(index) for index, name in enumerate(names) if not name]
    faults = [
        record_fault(
            chunk.first_row + i,
            f"with a value in {column[1:-1]}, which has no heading",
            "without one, or the column needs a name",
            "该列无表头：请删去其值，或为该列命名",
        )
        for column in nameless
        if column in chunk.frame.columns
        for i in (~is_blank(chunk.frame[column])).arg_true().to_list()
    ]
    if not nameless:
        return chunk
    return Chunk(chunk.first_row, chunk.frame.drop(nameless, strict=False), [*chunk.faults, *faults])


def first_record(path: Path) -> Mapping[str, Any] | None:
    """The first record of NDJSON; None where it is not an object, which becomes a fault of its row."""
    with path.open("rb") as file:
        while line := file.readline(MAX_RECORD_BYTES):
            if not line.isspace():
                try:
                    record = orjson.loads(line.removeprefix(codecs.BOM_UTF8))
                except orjson.JSONDecodeError:
                    return None
                return record if isinstance(record, dict) else None
    return None


# --- NDJSON


def _read_ndjson(
    path: Path, columns: Sequence[ColumnSchema], keep: Sequence[str], rows: int, missing: Sequence[str]
) -> Iterator[Chunk]:
    first_row = 1
    with path.open("rb") as file:
        start = file.read(64 * 1024)
        file.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
        size = max(64 * 1024, rows * (len(start) // max(1, start.count(b"\n")) or 1))
        while lines := file.readlines(min(size, 64 * 1024 * 1024)):
            if len(lines[-1]) > MAX_RECORD_BYTES + size:
                raise UnreadableFileError(
                    f"A record is longer than {MAX_RECORD_BYTES:,} bytes. Shorten it.",
                    f"有一条记录超过 {MAX_RECORD_BYTES:,} 字节，请缩短。",
                )
            records = [line.rstrip(b"\r\n") for line in lines if line and not line.isspace()]
            if records:
                yield _parse_ndjson(records, columns, keep, first_row, missing)
                first_row += len(records)


def _parse_ndjson(
    lines: list[bytes], columns: Sequence[ColumnSchema], keep: Sequence[str], first_row: int, missing: Sequence[str]
) -> Chunk:
    """Types are those of JSON: a number in quotation marks is text, unless the column's contract knows such numbers."""
    faults: list[FieldError] = []
    records: list[dict[str, Any]] = []
    allowed_names, names_subjects = {*(column.name for column in columns), *keep}, columns == (SUBJECT_COLUMN,)
    hints: dict[str, str] = {}  # for the first names only, as each is compared with every known one

    def hint(name: str) -> str:
        if name not in hints and len(hints) < MAX_UNKNOWN_NAMES:
            hints[name] = did_you_mean(name[:60], sorted(allowed_names))
        return hints.get(name, "")

    for i, line in enumerate(lines):
        record: Any = None
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            faults.append(record_fault(first_row + i, str(error), "a JSON object in UTF-8", "UTF-8 的 JSON 对象"))
        else:
            if not isinstance(record, dict):
                faults.append(record_fault(first_row + i, type(record).__name__, "a JSON object", "JSON 对象"))
            elif ambiguity := find_json_ambiguity(line, record):
                expected = ("a flat JSON object with each name once", "扁平的 JSON 对象，每个名称只出现一次")
                faults.append(record_fault(first_row + i, ambiguity[0], *expected))
            elif unknown := record.keys() - allowed_names:
                unknown_names = sorted(unknown)
                faults += [
                    _mixed_kind_fault(name, first_row + i) if name == SUBJECT_COLUMN.name or names_subjects
                    else _unknown_name_fault(name, hint(name), first_row + i)
                    for name in unknown_names[:MAX_UNKNOWN_NAMES]
                ]  # fmt: skip
                if (extra_count := len(unknown_names) - MAX_UNKNOWN_NAMES) > 0:
                    faults.append(
                        _unknown_name_fault("...", "", first_row + i, f"{extra_count:,} more that are not known")
                    )
        records.append(record if isinstance(record, dict) else {})
    series = [
        json_column(column, [record.get(column.name) for record in records], first_row, faults, missing)
        for column in columns
    ]
    if keep:  # copied unread, so every digit of a long number stays
        records = [
            loads_exactly(line) if record and has_long_number(line) else record
            for line, record in zip(lines, records, strict=True)
        ]
    passthrough = [
        pl.Series(name, [_to_text(record.get(name)) for record in records], dtype=pl.String) for name in keep
    ]
    return Chunk(first_row, pl.DataFrame([*series, *passthrough]), faults)


def json_column(
    column: ColumnSchema, values: list[Any], first_row: int, faults: list[FieldError], missing: Sequence[str] = ()
) -> pl.Series:
    """A column from JSON values; those of a wrong type become missing and are added to `faults`."""
    is_number = column.kind == "number"
    allowed_types = {int, float, type(None)} if is_number else {str, type(None)}
    if not set(map(type, values)) <= allowed_types:
        for i, value in enumerate(values):
            if type(value) not in allowed_types:
                is_known, values[i] = _read_variant(column, value, missing)
                if not is_known:
                    faults.append(column.field_error(value, first_row + i))
    return pl.Series(column.name, values, dtype=pl.Float64 if is_number else pl.String, strict=False)


def _read_variant(column: ColumnSchema, value: Any, missing: Sequence[str]) -> tuple[bool, Any]:
    """(whether a value of another type is one of the column, as "1,200" or true may be; that value)."""
    is_text_number = column.kind == "number" and isinstance(value, str)
    if not isinstance(value, str | bool | int | float) or (column.kind == "text" and not column.date_format):
        return False, None
    if is_text_number and column.number_format is None:
        return False, None
    item = str(value) if type(value) is int else value
    typed, invalid = validate_column(pl.Series(column.name, [item]), column, missing)
    return not len(invalid), typed[0]


def _to_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _mixed_kind_fault(name: str, row: int) -> FieldError:
    """The fault of a record that names a subject in a file of indicators, or the other way round."""
    expected = (
        "in every row or in none: a file either names stored subjects or states indicators, as its first row does"
    )
    expected_zh = "全文件一致：要么只写已入库主体编号，要么只写指标，以首行为准"
    return FieldError(name if len(name) <= 60 else name[:57] + "...", "not known", expected, expected_zh, row)


def _unknown_name_fault(name: str, hint: str, row: int, actual: str = "not known") -> FieldError:
    truncated = name if len(name) <= 60 else name[:57] + "..."
    return FieldError(truncated, actual, f"{EXPECTED_COLUMN[0]}{hint}", EXPECTED_COLUMN[1], row)
