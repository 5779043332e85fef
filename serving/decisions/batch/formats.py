"""The three formats of a batch, CSV, NDJSON and Parquet, and reading an upload in chunks of complete records.

A record that cannot be read is a fault of its row, and reading goes on; a file that cannot be read at all raises
UnreadableFileError.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import orjson
import polars as pl

from datasets.errors import FieldError, UnreadableFileError, did_you_mean
from datasets.schema import MAX_UNKNOWN_NAMES, ColumnSchema
from serving.core.http.validation import find_json_ambiguity

T = TypeVar("T")

MEDIA_TYPES = {
    "csv": "text/csv",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
FORMATS = {kind: name for name, kind in MEDIA_TYPES.items()} | {
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/parquet": "parquet",
}
SUBJECT_COLUMN = ColumnSchema(name="subject_id", kind="text", required=True)  # in a file that names stored subjects
EXPECTED_COLUMN = "a column of the model, or one named in ?keep=", "模型的列，或 ?keep= 所列的列"
MAX_RECORD_BYTES = 1_000_000  # bytes of one line


@dataclass(slots=True)
class Chunk:
    """Rows in the order of the file. In `frame`, a row that could not be read has missing values only.

    first_row: the position of the first row in the file, from 1. faults: of single rows.
    """

    first_row: int
    frame: pl.DataFrame
    faults: list[FieldError] = field(default_factory=list)

    def split(self, rows: int) -> Iterator[Chunk]:
        """Chunks of at most `rows` rows; a block of lines as short as ids holds more."""
        if self.frame.height <= rows:
            yield self
            return
        for offset in range(0, self.frame.height, rows):
            first_row, frame = self.first_row + offset, self.frame[offset : offset + rows]
            row_range = range(first_row, first_row + frame.height)
            yield Chunk(first_row, frame, [fault for fault in self.faults if fault.row in row_range])


Chunks = Iterator[Chunk]


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


def read_column_names(path: Path, format: str) -> list[str] | None:
    """The names in the file's header; None for NDJSON, where each row has its own. Raises UnreadableFileError."""
    if format == "csv":
        with path.open("rb") as file:
            return _read_header(file)[0]
    if format == "parquet":
        return _read_parquet(lambda: pl.scan_parquet(path).collect_schema().names())
    return None


def read_row_count(path: Path, format: str) -> int | None:
    """The number of rows, where the format states it; None for the others. Raises UnreadableFileError."""
    if format != "parquet":
        return None
    return _read_parquet(lambda: int(pl.scan_parquet(path).select(pl.len()).collect().item()))


def read_chunks(path: Path, format: str, columns: Sequence[ColumnSchema], keep: Sequence[str], rows: int) -> Chunks:
    """Chunks of about `rows` rows, with those of `columns` and `keep` that the file has. Raises UnreadableFileError."""
    if format == "csv":
        return _read_csv(path, rows)
    if format == "parquet":
        return _read_parquet_chunks(path, [*(column.name for column in columns), *keep], rows)
    return _read_ndjson(path, columns, keep, rows)


# --- CSV


def _read_header(file: BinaryIO) -> tuple[list[str], bytes]:
    """(column names, the header's bytes); `file` is left after the header."""
    line = file.readline(MAX_RECORD_BYTES)
    line = line.removeprefix(codecs.BOM_UTF8)
    try:
        names = next(csv.reader([line.decode()]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFileError(f"The header cannot be read: {error}. Save the file as UTF-8 CSV.") from error
    return names, line if line.endswith(b"\n") else line + b"\n"


def _read_csv(path: Path, rows: int) -> Chunks:
    with path.open("rb") as file:
        names, header = _read_header(file)
        first_row = 1
        for block in _read_blocks(file, rows, has_quotes=True):
            chunk = _parse_csv(block, names, header, first_row)
            first_row += chunk.frame.height
            yield chunk


def _read_blocks(file: BinaryIO, rows: int, has_quotes: bool) -> Iterator[bytes]:
    """The rest of the file in blocks of complete records: about `rows` each, estimated from the length of the first."""
    start = file.tell()
    sample = file.read(64 * 1024)
    file.seek(start)
    size = max(64 * 1024, rows * (len(sample) // max(1, sample.count(b"\n")) or 1))
    remainder = b""
    while True:
        data = file.read(min(size, 64 * 1024 * 1024))
        if not data:
            if remainder.strip(b"\r\n"):
                yield remainder.rstrip(b"\r\n") + b"\n"
            return
        block = remainder + data
        end = _last_record_end(block, has_quotes)
        if end == 0 and len(block) > MAX_RECORD_BYTES + size:
            raise UnreadableFileError(
                f"A record is longer than {MAX_RECORD_BYTES:,} bytes. Close its quotation mark, or shorten it."
            )
        if end:
            yield block[:end]
        remainder = block[end:]


def _last_record_end(block: bytes, has_quotes: bool) -> int:
    """The position after the last line break that ends a record: one inside quotation marks does not."""
    if not has_quotes or b'"' not in block:
        return block.rfind(b"\n") + 1
    ends = np.flatnonzero(_outside_quotes(block, b"\n"))
    return int(ends[-1]) + 1 if len(ends) else 0


def _outside_quotes(block: bytes, char: bytes) -> np.ndarray:
    """(bytes,): whether each byte is `char`, outside quotation marks."""
    codes = np.frombuffer(block, np.uint8)
    is_outside: np.ndarray = (codes == char[0]) & (np.cumsum(codes == ord('"')) % 2 == 0)
    return is_outside


def _has_even_records(block: bytes, columns: int) -> bool:
    """Whether all records together have as many values as the header asks for: Polars silently fills up a short one."""
    if b'"' not in block:
        return block.count(b",") == block.count(b"\n") * (columns - 1)
    return int(_outside_quotes(block, b",").sum()) == int(_outside_quotes(block, b"\n").sum()) * (columns - 1)


def _parse_csv(block: bytes, names: list[str], header: bytes, first_row: int) -> Chunk:
    has_blank_line = block.startswith((b"\n", b"\r\n")) or b"\n\n" in block or b"\n\r\n" in block
    if not has_blank_line and _has_even_records(block, len(names)):
        try:
            return Chunk(first_row, pl.read_csv(header + block, infer_schema=False))
        except pl.exceptions.PolarsError:
            pass  # a record does not match the header: reading record by record finds it
    return _parse_csv_by_record(block, names, first_row)


def _parse_csv_by_record(block: bytes, names: list[str], first_row: int) -> Chunk:
    """Parse record by record, for a block of which some records cannot be read."""
    faults: list[FieldError] = []
    rows: list[list[str | None]] = []
    lines = io.StringIO(block.decode("utf-8", "surrogateescape"), newline="")
    reader = csv.reader(lines, strict=True)
    while True:
        row = first_row + len(rows)
        try:
            values = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            faults.append(_record_fault(row, str(error), "a record of CSV", "CSV 记录"))
            rows.append([None] * len(names))
            continue
        if len(values) != len(names):
            actual = "a blank line" if not values else f"{len(values)} values"
            expected = (f"{len(names)} values, as many as the header has", f"与表头一致的 {len(names)} 个值")
            faults.append(_record_fault(row, actual, *expected))
            rows.append([None] * len(names))
        elif any("\udc80" <= char <= "\udcff" for value in values for char in value):
            faults.append(_record_fault(row, "bytes that are not UTF-8", "UTF-8 text", "UTF-8 文本"))
            rows.append([None] * len(names))
        else:
            rows.append([*values])
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return Chunk(first_row, frame, faults)


def _record_fault(row: int, actual: str, expected: str, expected_zh: str) -> FieldError:
    return FieldError("(record)", actual, expected, expected_zh, row)


# --- NDJSON


def _read_ndjson(path: Path, columns: Sequence[ColumnSchema], keep: Sequence[str], rows: int) -> Chunks:
    first_row = 1
    with path.open("rb") as file:
        for block in _read_blocks(file, rows, has_quotes=False):
            if first_row == 1:
                block = block.removeprefix(codecs.BOM_UTF8)
            lines = [line for line in block.split(b"\n") if line and not line.isspace()]
            if not lines:
                continue
            yield _parse_ndjson(lines, columns, keep, first_row)
            first_row += len(lines)


def _parse_ndjson(lines: list[bytes], columns: Sequence[ColumnSchema], keep: Sequence[str], first_row: int) -> Chunk:
    """Types are those of JSON: a number in quotation marks is text, not a number."""
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
            faults.append(_record_fault(first_row + i, str(error), "a JSON object in UTF-8", "UTF-8 的 JSON 对象"))
        else:
            if not isinstance(record, dict):
                faults.append(_record_fault(first_row + i, type(record).__name__, "a JSON object", "JSON 对象"))
            elif ambiguity := find_json_ambiguity(line, record):
                expected = ("a flat JSON object with each name once", "扁平的 JSON 对象，每个名称只出现一次")
                faults.append(_record_fault(first_row + i, ambiguity[0], *expected))
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
        json_column(column, [record.get(column.name) for record in records], first_row, faults) for column in columns
    ]
    passthrough = [
        pl.Series(name, [_to_text(record.get(name)) for record in records], dtype=pl.String) for name in keep
    ]
    return Chunk(first_row, pl.DataFrame([*series, *passthrough]), faults)


def json_column(column: ColumnSchema, values: list[Any], first_row: int, faults: list[FieldError]) -> pl.Series:
    """A column from JSON values; those of a wrong type become missing and are added to `faults`."""
    is_number = column.kind == "number"
    allowed_types = {int, float, type(None)} if is_number else {str, type(None)}
    if not set(map(type, values)) <= allowed_types:
        for i, value in enumerate(values):
            if type(value) not in allowed_types:
                faults.append(column.field_error(value, first_row + i))
                values[i] = None
    return pl.Series(column.name, values, dtype=pl.Float64 if is_number else pl.String, strict=False)


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


# --- Parquet


def _read_parquet(fn: Callable[[], T]) -> T:
    try:
        return fn()
    except pl.exceptions.PolarsError as error:
        raise UnreadableFileError(f"The file cannot be read as Parquet: {error}") from error
    except BaseException as error:  # the reader panics on a damaged file, with a subclass of BaseException
        if type(error).__name__ == "PanicException":
            raise UnreadableFileError("The file cannot be read as Parquet: it is damaged. Write it again.") from error
        raise


def _read_parquet_chunks(path: Path, column_names: Sequence[str], rows: int) -> Chunks:
    first_row = 1
    frame = pl.scan_parquet(path)
    names = [name for name in _read_parquet(lambda: frame.collect_schema().names()) if name in column_names]
    batches = iter(_read_parquet(lambda: frame.select(names).collect_batches(chunk_size=rows, maintain_order=True)))
    while (batch := _read_parquet(lambda: next(batches, None))) is not None:
        for rows_slice in batch.iter_slices(rows):
            yield Chunk(first_row, rows_slice)
            first_row += rows_slice.height


# --- output


def encode_rows(frame: pl.DataFrame, format: str, include_header: bool) -> bytes:
    """Encode rows as NDJSON or as CSV, with ; between the items of a list."""
    out = io.BytesIO()
    if format == "csv":
        frame.with_columns(pl.col(pl.List(pl.String)).list.join(";")).write_csv(out, include_header=include_header)
    else:
        frame.write_ndjson(out)
    return out.getvalue()
