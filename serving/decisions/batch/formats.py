"""The three formats a batch may come and go in, and how an upload is read in pieces of whole records.

A record that cannot be read is a fault of its row, and the rest is read on; a file that cannot be read at all raises
Unreadable.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import orjson
import polars as pl

from datasets.errors import Fault, Unreadable
from datasets.schema import MOST_UNKNOWN, Column, nearest
from serving.core.http.validation import unclear

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
SUBJECT = Column(name="subject_id", kind="text", required=True)  # of a file that names stored subjects
COLUMN = "a column of the model, or one named in ?keep=", "模型的列，或 ?keep= 所列的列"  # what a name must be
LONGEST_RECORD = 1_000_000  # bytes of one line


@dataclass(slots=True)
class Piece:
    """Rows in the order of the file, the first of which is row `first`. Unread rows stand in `frame`, all missing."""

    first: int
    frame: pl.DataFrame
    faults: list[Fault] = field(default_factory=list)  # of single rows

    def parts(self, rows: int) -> Iterator[Piece]:
        """In pieces of at most `rows` rows: lines as short as ids come many at once."""
        if self.frame.height <= rows:
            yield self
            return
        for at in range(0, self.frame.height, rows):
            first, frame = self.first + at, self.frame[at : at + rows]
            mine = range(first, first + frame.height)
            yield Piece(first, frame, [fault for fault in self.faults if fault.row in mine])


Pieces = Iterator[Piece]


def first_record(path: Path) -> Mapping[str, Any] | None:
    """Of NDJSON; None where it is no object, which its row is told."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST_RECORD):
            if not line.isspace():
                try:
                    found = orjson.loads(line)
                except orjson.JSONDecodeError:
                    return None
                return found if isinstance(found, dict) else None
    return None


def columns_of(path: Path, format: str) -> list[str] | None:
    """The names in the head of the file; None for NDJSON, whose rows name their own."""
    if format == "csv":
        with path.open("rb") as file:
            return _head(file)[0]
    if format == "parquet":
        return _parquet(lambda: pl.scan_parquet(path).collect_schema().names())
    return None


def rows_of(path: Path, format: str) -> int | None:
    """How many rows the file says it has, where it does say."""
    if format != "parquet":
        return None
    return _parquet(lambda: int(pl.scan_parquet(path).select(pl.len()).collect().item()))


def pieces(path: Path, format: str, columns: Sequence[Column], keep: Sequence[str], rows: int) -> Pieces:
    """Pieces of about `rows` rows, with those of `columns` and `keep` that the file has."""
    if format == "csv":
        return _csv(path, rows)
    if format == "parquet":
        return _slices(path, [*(column.name for column in columns), *keep], rows)
    return _ndjson(path, columns, keep, rows)


# --- CSV


def _head(file: BinaryIO) -> tuple[list[str], bytes]:
    """(names, the header's bytes). Leaves `file` after the header."""
    line = file.readline(LONGEST_RECORD)
    if line[:3] == b"\xef\xbb\xbf":
        line = line[3:]
    try:
        names = next(csv.reader([line.decode()]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise Unreadable(f"The header cannot be read: {error}. Save the file as UTF-8 CSV.") from error
    return names, line if line.endswith(b"\n") else line + b"\n"


def _csv(path: Path, rows: int) -> Pieces:
    with path.open("rb") as file:
        names, head = _head(file)
        first = 1
        for block in _blocks(file, rows, quoted=True):
            piece = _csv_piece(block, names, head, first)
            first += piece.frame.height
            yield piece


def _blocks(file: BinaryIO, rows: int, quoted: bool) -> Iterator[bytes]:
    """The rest of the file in blocks of whole records, about `rows` in each, by the length of the first ones."""
    start = file.tell()
    sample = file.read(64 * 1024)
    file.seek(start)
    size = max(64 * 1024, rows * (len(sample) // max(1, sample.count(b"\n")) or 1))
    rest = b""
    while True:
        more = file.read(min(size, 64 * 1024 * 1024))
        if not more:
            if rest.strip(b"\r\n"):
                yield rest.rstrip(b"\r\n") + b"\n"
            return
        block = rest + more
        end = _last_end(block, quoted)
        if end == 0 and len(block) > LONGEST_RECORD + size:
            raise Unreadable(f"A record is over {LONGEST_RECORD:,} bytes. Close its quotation mark, or shorten it.")
        if end:
            yield block[:end]
        rest = block[end:]


def _last_end(block: bytes, quoted: bool) -> int:
    """Position after the last end of line that ends a record: one inside quotation marks does not."""
    if not quoted or b'"' not in block:
        return block.rfind(b"\n") + 1
    ends = np.flatnonzero(_outside(block, b"\n"))
    return int(ends[-1]) + 1 if len(ends) else 0


def _outside(block: bytes, char: bytes) -> np.ndarray:
    """Where `char` stands outside quotation marks, shape (bytes,)."""
    codes = np.frombuffer(block, np.uint8)
    outside: np.ndarray = (codes == char[0]) & (np.cumsum(codes == ord('"')) % 2 == 0)
    return outside


def _even(block: bytes, columns: int) -> bool:
    """Whether the records have as many values as the header, taken together: polars fills up a short one in silence."""
    if b'"' not in block:
        return block.count(b",") == block.count(b"\n") * (columns - 1)
    return int(_outside(block, b",").sum()) == int(_outside(block, b"\n").sum()) * (columns - 1)


def _csv_piece(block: bytes, names: list[str], head: bytes, first: int) -> Piece:
    blank = block.startswith((b"\n", b"\r\n")) or b"\n\n" in block or b"\n\r\n" in block
    if not blank and _even(block, len(names)):
        try:
            return Piece(first, pl.read_csv(head + block, infer_schema=False))
        except pl.exceptions.PolarsError:
            pass  # some record is not like the header: the slow way says which
    return _csv_slowly(block, names, first)


def _csv_slowly(block: bytes, names: list[str], first: int) -> Piece:
    """Record by record, for a block in which some cannot be read."""
    faults: list[Fault] = []
    rows: list[list[str | None]] = []
    lines = io.StringIO(block.decode("utf-8", "surrogateescape"), newline="")
    reader = csv.reader(lines, strict=True)
    while True:
        row = first + len(rows)
        try:
            found = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            faults.append(_row_fault(row, str(error), "a record of CSV", "CSV 记录"))
            rows.append([None] * len(names))
            continue
        if len(found) != len(names):
            told = "a blank line" if not found else f"{len(found)} values"
            needed = (f"{len(names)} values, as the header has", f"与表头一致的 {len(names)} 个值")
            faults.append(_row_fault(row, told, *needed))
            rows.append([None] * len(names))
        elif any("\udc80" <= char <= "\udcff" for value in found for char in value):
            faults.append(_row_fault(row, "bytes that are not UTF-8", "UTF-8 text", "UTF-8 文本"))
            rows.append([None] * len(names))
        else:
            rows.append([*found])
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return Piece(first, frame, faults)


def _row_fault(row: int, found: str, needed: str, needed_zh: str) -> Fault:
    return Fault("(record)", found, needed, needed_zh, row)


# --- NDJSON


def _ndjson(path: Path, columns: Sequence[Column], keep: Sequence[str], rows: int) -> Pieces:
    first = 1
    with path.open("rb") as file:
        for block in _blocks(file, rows, quoted=False):
            lines = [line for line in block.split(b"\n") if line and not line.isspace()]
            if not lines:
                continue
            yield _ndjson_piece(lines, columns, keep, first)
            first += len(lines)


def _ndjson_piece(lines: list[bytes], columns: Sequence[Column], keep: Sequence[str], first: int) -> Piece:
    """Types as JSON has them: a number in quotation marks is text, and no number."""
    faults: list[Fault] = []
    records: list[dict[str, Any]] = []
    known, stored = {*(column.name for column in columns), *keep}, columns == (SUBJECT,)
    hints: dict[str, str] = {}  # of the first names alone, as each is compared with all that are known

    def hint(name: str) -> str:
        if name not in hints and len(hints) < MOST_UNKNOWN:
            hints[name] = nearest(name[:60], sorted(known))
        return hints.get(name, "")

    for i, line in enumerate(lines):
        record: Any = None
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            faults.append(_row_fault(first + i, str(error), "a JSON object in UTF-8", "UTF-8 的 JSON 对象"))
        else:
            if not isinstance(record, dict):
                faults.append(_row_fault(first + i, type(record).__name__, "a JSON object", "JSON 对象"))
            elif doubt := unclear(line, record):
                needed = ("a flat JSON object with each name once", "扁平的 JSON 对象，每个名称只出现一次")
                faults.append(_row_fault(first + i, doubt[0], *needed))
            elif unknown := record.keys() - known:
                told = sorted(unknown)
                faults += [
                    _of_other_kind(name, first + i) if name == SUBJECT.name or stored
                    else _unknown(name, hint(name), first + i)
                    for name in told[:MOST_UNKNOWN]
                ]  # fmt: skip
                if (more := len(told) - MOST_UNKNOWN) > 0:
                    faults.append(_unknown("...", "", first + i, f"{more:,} more that are not known"))
        records.append(record if isinstance(record, dict) else {})
    series = [json_column(column, [r.get(column.name) for r in records], first, faults) for column in columns]
    kept = [pl.Series(name, [_text(record.get(name)) for record in records], dtype=pl.String) for name in keep]
    return Piece(first, pl.DataFrame([*series, *kept]), faults)


def json_column(column: Column, values: list[Any], first: int, faults: list[Fault]) -> pl.Series:
    number = column.kind == "number"
    fitting = {int, float, type(None)} if number else {str, type(None)}
    if not set(map(type, values)) <= fitting:
        for i, value in enumerate(values):
            if type(value) not in fitting:
                faults.append(column.fault(value, first + i))
                values[i] = None
    return pl.Series(column.name, values, dtype=pl.Float64 if number else pl.String, strict=False)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _of_other_kind(name: str, row: int) -> Fault:
    """In a record that is not of its file's kind."""
    needed = "in every row or in none: a file either names stored subjects or tells indicators, as its first row does"
    needed_zh = "全文件一致：要么只写已入库主体编号，要么只写指标，以首行为准"
    return Fault(name if len(name) <= 60 else name[:57] + "...", "not known", needed, needed_zh, row)


def _unknown(name: str, hint: str, row: int, found: str = "not known") -> Fault:
    shown = name if len(name) <= 60 else name[:57] + "..."
    return Fault(shown, found, f"{COLUMN[0]}{hint}", COLUMN[1], row)


# --- Parquet


def _parquet(read: Callable[[], T]) -> T:
    try:
        return read()
    except pl.exceptions.PolarsError as error:
        raise Unreadable(f"The file cannot be read as Parquet: {error}") from error
    except BaseException as error:  # a panic of the reader on a broken file derives from BaseException
        if type(error).__name__ == "PanicException":
            raise Unreadable("The file cannot be read as Parquet: it is broken. Write it again.") from error
        raise


def _slices(path: Path, wanted: Sequence[str], rows: int) -> Pieces:
    first = 1
    frame = pl.scan_parquet(path)
    names = [name for name in _parquet(lambda: frame.collect_schema().names()) if name in wanted]
    batches = iter(_parquet(lambda: frame.select(names).collect_batches(chunk_size=rows, maintain_order=True)))
    while (found := _parquet(lambda: next(batches, None))) is not None:
        for part in found.iter_slices(rows):
            yield Piece(first, part)
            first += part.height


# --- what goes out


def render(frame: pl.DataFrame, format: str, head: bool) -> bytes:
    """Rows as CSV (with the header where `head`; ';' between the several of a list) or NDJSON."""
    out = io.BytesIO()
    if format == "csv":
        frame.with_columns(pl.col(pl.List(pl.String)).list.join(";")).write_csv(out, include_header=head)
    else:
        frame.write_ndjson(out)
    return out.getvalue()
