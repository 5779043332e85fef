"""Rows of a table as text or typed values, in the order of the file, with the faults of single records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datasets.errors import FieldError
from datasets.tables.values.marks import strip_blanks

RECORD = "(record)"
EMPTY_ROW, BLANK_LINE = "an empty row", "a blank line"
HEADER_ROW, TOTALS_ROW = "the header again", "a row of totals"
TOTAL_WORDS = ("合计", "总计", "小计", "共计", "累计", "本页合计", "total", "totals", "subtotal", "grandtotal", "sum")
_MAY_BE_TOTAL = r"计|(?i:total|sum)"
MIN_HEADER_COLUMNS, TOTAL_COLUMNS = 3, 3  # columns of a header that is recognised again; in which a total is named
MIN_BLANK_SHARE = 1 / 3  # of the cells of a row of totals that does not begin with the word


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
            yield self.slice(offset, rows)

    def split_by_bytes(self, max_bytes: int) -> Iterator[Chunk]:
        """Chunks of at most `max_bytes` of values, or of one row: a file may store a long text once for all rows."""
        sizes = row_bytes(self.frame)
        if not len(sizes) or int(sizes.sum()) <= max_bytes:
            yield self
            return
        ends = np.cumsum(sizes)
        offset = 0
        while offset < len(ends):
            before = ends[offset - 1] if offset else 0
            end = max(offset + 1, int(np.searchsorted(ends, before + max_bytes, side="right")))
            yield self.slice(offset, end - offset)
            offset = end

    def without_long_texts(self, max_chars: int) -> Chunk:
        """The chunk with a fault for each longer text, which is left out."""
        faults, frame = list(self.faults), self.frame
        for name, dtype in frame.schema.items():
            if dtype != pl.String:
                continue
            chars = frame[name].str.len_chars()
            for i in (chars > max_chars).fill_null(False).arg_true().to_list():
                actual = f"text of {chars[i]:,} characters"
                expected = f"at most {max_chars:,}", f"最多 {max_chars:,} 个字符"
                faults.append(FieldError(name, actual, *expected, self.first_row + i))
            if len(faults) > len(self.faults):
                frame = frame.with_columns(pl.when(pl.col(name).str.len_chars() <= max_chars).then(pl.col(name)))
        return Chunk(self.first_row, frame, faults) if len(faults) > len(self.faults) else self

    def slice(self, offset: int, rows: int) -> Chunk:
        first_row, frame = self.first_row + offset, self.frame[offset : offset + rows]
        row_range = range(first_row, first_row + frame.height)
        return Chunk(first_row, frame, [fault for fault in self.faults if fault.row in row_range])


def row_bytes(frame: pl.DataFrame) -> NDArray[np.int64]:
    """About how many bytes the values of each row have."""
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    total = np.full(frame.height, 8 * (frame.width - len(texts)), np.int64)
    for name in texts:
        total += frame[name].str.len_bytes().fill_null(0).to_numpy()
    return total


def record_fault(row: int, actual: str, expected: str, expected_zh: str) -> FieldError:
    return FieldError(RECORD, actual, expected, expected_zh, row)


def empty_row_fault(row: int, actual: str = EMPTY_ROW) -> FieldError:
    return record_fault(row, actual, "a row with a value; delete it", "有值的一行，请删除空行")


def is_empty_row(fault: FieldError) -> bool:
    return fault.field == RECORD and fault.actual in (EMPTY_ROW, BLANK_LINE)


def is_blank(series: pl.Series) -> pl.Series:
    """Whether each value is missing, or a text of blanks."""
    if series.dtype == pl.String:
        return series.is_null() | (strip_blanks(series) == "").fill_null(False)
    return series.is_null()


def mark_empty_rows(chunk: Chunk) -> Chunk:
    """The chunk with a fault for each row that has no value at all, as spreadsheets leave them below a table."""
    frame = chunk.frame
    if not frame.width or not frame.height:
        return chunk
    empty = is_blank(frame.to_series(0)).arg_true()
    for column in frame.columns[1:]:
        if not empty.len():
            return chunk
        empty = empty.filter(is_blank(frame[column].gather(empty)))
    known = {fault.row for fault in chunk.faults}
    new = [empty_row_fault(chunk.first_row + i) for i in empty.to_list() if chunk.first_row + i not in known]
    return Chunk(chunk.first_row, frame, [*chunk.faults, *new]) if new else chunk


def mark_foreign_rows(chunk: Chunk, names: Sequence[str]) -> Chunk:
    """The chunk with a fault for each row of text that is no record: the header again, or totals.

    Files that were put together have the first, spreadsheets for printing the second. names: as in the header.
    """
    texts = [index for index, dtype in enumerate(chunk.frame.dtypes) if dtype == pl.String]
    if not chunk.frame.height or not texts:
        return chunk
    known = {fault.row for fault in chunk.faults}
    rows = {row: HEADER_ROW for row in _header_rows(chunk.frame, texts, names)}
    rows |= {row: TOTALS_ROW for row in _total_rows(chunk.frame, texts)}
    new = [
        record_fault(chunk.first_row + row, actual, "a record; delete the row", "一条记录；请删除该行")
        for row, actual in sorted(rows.items())
        if chunk.first_row + row not in known
    ]
    return Chunk(chunk.first_row, chunk.frame, [*chunk.faults, *new]) if new else chunk


def is_foreign_row(fault: FieldError) -> bool:
    return fault.field == RECORD and fault.actual in (HEADER_ROW, TOTALS_ROW)


def _header_rows(frame: pl.DataFrame, texts: Sequence[int], names: Sequence[str]) -> list[int]:
    named = [index for index in texts if index < len(names) and names[index]]
    if len(named) < MIN_HEADER_COLUMNS:
        return []
    rows = pl.int_range(frame.height, eager=True)
    for index in named:
        column = frame.to_series(index).gather(rows)
        rows = rows.filter((strip_blanks(column) == names[index]).fill_null(False))
        if not rows.len():
            return []
    return rows.to_list()


def _total_rows(frame: pl.DataFrame, texts: Sequence[int]) -> list[int]:
    totals = []
    for index in [index for index in texts if index < TOTAL_COLUMNS]:
        column = frame.to_series(index)
        for row in column.str.contains(_MAY_BE_TOTAL).fill_null(False).arg_true().to_list():
            word = "".join(str(column[row]).split()).strip(":：").lower()
            blank = sum(value is None or not str(value).strip() for value in frame.row(row))
            minimum = 1 if index == 0 else max(1, MIN_BLANK_SHARE * frame.width)
            if word in TOTAL_WORDS and blank >= minimum:
                totals.append(row)
    return totals


def drop_empty_end(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The chunks without the empty rows at the end of the file: those are held back until a row with values follows."""
    pending: list[Chunk] = []
    for chunk in chunks:
        empty_rows = {fault.row for fault in chunk.faults if is_empty_row(fault)}
        end = chunk.frame.height
        while end and chunk.first_row + end - 1 in empty_rows:
            end -= 1
        if end == chunk.frame.height:
            yield from pending
            pending = []
            yield chunk
            continue
        if end:
            yield from pending
            pending = []
            yield chunk.slice(0, end)
        pending.append(chunk.slice(end, chunk.frame.height - end))
