"""Read CSV and its kin in blocks of complete records: with polars where a block is sound, else record by record.

A record that cannot be read is a fault of its row, and reading goes on; a file that cannot be read at all raises
UnreadableFileError.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from datasets.errors import FieldError, UnreadableFileError
from datasets.tables.chunk import (
    BLANK_LINE,
    Chunk,
    drop_empty_end,
    empty_row_fault,
    mark_empty_rows,
    mark_foreign_rows,
    record_fault,
)
from datasets.tables.dialect import DELIMITERS, Dialect, sniff
from datasets.tables.source import ENCODING_NAMES, SourceFile, detect_encoding, read_sample, utf8_blocks

MAX_RECORD_BYTES = 1_000_000  # bytes of one record
MAX_RECORD_LINES = 200  # lines of one record, where a quotation mark before it was not closed
SAMPLE_BYTES = 256 * 1024
MAX_BLOCK_BYTES = 16 * 1024 * 1024
MAX_NUL_SHARE = 0.01  # of the signs of a text; a value with one is a fault of its row
_SUBSTITUTE = "\x1f"  # of a delimiter that is more than one byte


class DelimitedFile:
    """A text file with a header and values between delimiters. known_names: column names that it may have."""

    def __init__(self, source: SourceFile, known_names: Collection[str] = ()):
        self.source, self._known_names = source, known_names

    @cached_property
    def dialect(self) -> Dialect:
        try:
            with self.source.open() as file:
                encoding, bom = detect_encoding(file)
            with self.source.open() as file:
                file.seek(bom)
                sample = read_sample(file, encoding, SAMPLE_BYTES)
        except (OSError, EOFError, ValueError) as error:
            raise UnreadableFileError(
                f"{self.source.path}: cannot be read: {error}. Save it again.",
                f"{self.source.path}：无法读取（{error}），请重新保存。",
            ) from error
        if sample.count("\x00") > len(sample) * MAX_NUL_SHARE:
            raise UnreadableFileError(
                f"{self.source.path}: is not text in UTF-8 or another known encoding. Save it as CSV in UTF-8.",
                f"{self.source.path}：不是 UTF-8 或其他可识别编码的文本，请另存为 UTF-8 的 CSV。",
            )
        return sniff(sample, encoding, bom, self._known_names)

    @cached_property
    def names(self) -> list[str]:
        """The names in the header, as they stand there without blanks around them. Raises UnreadableFileError."""
        return self._open()[0]

    def describe(self) -> str:
        """How the file is written, in words."""
        dialect = self.dialect
        mark = " with a byte order mark" if dialect.bom else ""
        words = [
            f"{ENCODING_NAMES.get(dialect.encoding, dialect.encoding)}{mark}",
            f"{DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))} between values",
        ]
        words += ["carriage returns between lines"] if dialect.newline == "\r" else []
        words += ["' around texts"] if dialect.quote == "'" else []
        words += [f"{dialect.preamble} line(s) above the header"] if dialect.preamble else []
        words += [f"compressed with {self.source.compression}"] if self.source.compression else []
        return ", ".join(words)

    def chunks(self, rows: int) -> Iterator[Chunk]:
        """The rows as text, about `rows` in a chunk, without the empty ones at the end. Raises UnreadableFileError."""
        chunks = (self._with_delimiters(chunk) for chunk in self._parsed_blocks(rows))
        return drop_empty_end(mark_foreign_rows(mark_empty_rows(chunk), self.names) for chunk in chunks)

    def _with_delimiters(self, chunk: Chunk) -> Chunk:
        """The chunk with the delimiter itself where its substitute stands inside a value."""
        if _is_one_byte(self.dialect.delimiter):
            return chunk
        frame = chunk.frame.with_columns(pl.all().str.replace_all(_SUBSTITUTE, self.dialect.delimiter, literal=True))
        return Chunk(chunk.first_row, frame, chunk.faults)

    def _parsed_blocks(self, rows: int) -> Iterator[Chunk]:
        names, rest, blocks = self._open()
        parser = _BlockParser(names, self.dialect)
        first_row, remainder = 1, b""
        try:
            for block in _resized(chain([rest], blocks), rows):
                chunk, remainder = parser.parse(remainder + block, first_row, is_last=False)
                first_row += chunk.frame.height
                if chunk.frame.height:
                    yield chunk
            if remainder.strip(b"\r\n"):
                chunk, _ = parser.parse(remainder.rstrip(b"\r\n") + b"\n", first_row, is_last=True)
                yield chunk
        except (OSError, EOFError) as error:
            raise UnreadableFileError(
                f"{self.source.path}: cannot be read to its end: {error}. Send it again.",
                f"{self.source.path}：文件不完整（{error}），请重新发送。",
            ) from error

    def _open(self) -> tuple[list[str], bytes, Iterator[bytes]]:
        """(names, the bytes read beyond the header, the blocks that follow)."""
        dialect = self.dialect
        blocks = _normalised(self._raw_blocks(), dialect)
        data, records = b"", dialect.preamble + 1
        for block in blocks:
            data += block
            end = _header_end(data, records, dialect.quote)
            if end:
                return _parse_header(data[:end], dialect, self.source), data[end:], blocks
            if len(data) > MAX_RECORD_BYTES:
                break
        end = data.find(b"\n") + 1 or len(data)  # a quotation mark in the header is not closed, or there are no rows
        return _parse_header(data[:end], dialect, self.source), data[end:], blocks

    def _raw_blocks(self) -> Iterator[bytes]:
        with self.source.open() as file:
            file.seek(self.dialect.bom)
            yield from utf8_blocks(file, self.dialect.encoding, 1024 * 1024)


def _normalised(blocks: Iterator[bytes], dialect: Dialect) -> Iterator[bytes]:
    """Blocks with \\n between lines, a delimiter of one byte, and quotation marks inside values doubled."""
    replacements = [(b'\\"', b'""')] if dialect.has_escapes else []
    if not _is_one_byte(dialect.delimiter):
        replacements.append((dialect.delimiter.encode(), _SUBSTITUTE.encode()))
    rest = b""
    for block in blocks:
        if dialect.newline == "\r":
            block = block.replace(b"\r", b"\n")
        if replacements:  # what is replaced has several bytes, which a block may cut; a line end never does
            data = rest + block
            end = data.rfind(b"\n") + 1
            block, rest = data[:end], data[end:]
        yield _replaced(block, replacements)
    yield _replaced(rest, replacements)


def _replaced(data: bytes, replacements: list[tuple[bytes, bytes]]) -> bytes:
    for old, new in replacements:
        data = data.replace(old, new)
    return data


def _is_one_byte(delimiter: str) -> bool:
    return len(delimiter.encode()) == 1


def _resized(blocks: Iterator[bytes], rows: int) -> Iterator[bytes]:
    """The same bytes in blocks of about `rows` rows, by the length of the rows in the first."""
    parts: list[bytes] = []
    length = size = 0
    for block in blocks:
        if block and not size:
            row_bytes = len(block) // max(1, block.count(b"\n")) or 1
            size = min(max(64 * 1024, rows * row_bytes), MAX_BLOCK_BYTES)
        parts.append(block)
        length += len(block)
        if not size or length < size:
            continue
        data = b"".join(parts)
        end = length - length % size
        yield from (data[start : start + size] for start in range(0, end, size))
        parts, length = [data[end:]], length - end
    yield b"".join(parts)


def _header_end(data: bytes, records: int, quote: str) -> int:
    """The position behind the first `records` records that are not blank; 0 where they are not complete."""
    end = 0
    while records:
        line_end = data.find(b"\n", end) + 1
        while line_end and quote and data.count(quote.encode(), end, line_end) % 2:
            line_end = data.find(b"\n", line_end) + 1
        if not line_end:
            return 0
        records -= bool(data[end:line_end].strip())
        end = line_end
    return end


def _parse_header(data: bytes, dialect: Dialect, source: SourceFile) -> list[str]:
    try:
        lines = [line for line in io.StringIO(data.decode(), newline="")]
    except UnicodeDecodeError as error:
        raise UnreadableFileError(
            f"The header cannot be read: {error}. Save the file as UTF-8 CSV.",
            f"表头无法读取（{error}），请另存为 UTF-8 的 CSV。",
        ) from error
    delimiter = dialect.delimiter if _is_one_byte(dialect.delimiter) else _SUBSTITUTE
    records = [record for record in csv.reader(lines, delimiter=delimiter, **_csv_quoting(dialect.quote)) if record]
    names = join_groups(records[-2] if len(records) > 1 else [], records[-1]) if records else []
    if any("\ufffd" in name or "\x00" in name for name in names):
        raise UnreadableFileError(
            f"{source.path}: its header is not UTF-8 text. Save it again as UTF-8.",
            f"{source.path}：表头不是 UTF-8 文本，请以 UTF-8 重新保存。",
        )
    return [clean_name(name.replace(_SUBSTITUTE, dialect.delimiter)) for name in names]


def join_groups(above: Sequence[str | None], headings: Sequence[str | None]) -> list[str]:
    """The headings; where some occur twice, each behind the name of the group that stands above it, if there is one.

    A group's name stands above the first of its columns: "this year", "", "last year", "".
    """
    names = [clean_name(heading or "") for heading in headings]
    groups = [clean_name(group or "") for group in above]
    filled = [name for name in names if name]
    if len(set(filled)) == len(filled) or sum(map(bool, groups)) < 2 or len(groups) != len(names):
        return names
    joined, current = [], ""
    for group, name in zip(groups, names, strict=True):
        current = group or current
        joined.append(f"{current} {name}".strip() if name else "")
    return joined


def clean_name(name: str) -> str:
    """A heading without blanks around it, and with one kind of line break inside."""
    return name.replace("\r\n", "\n").replace("\r", "\n").strip(" \t\n\u00a0\u3000\ufeff")


def _csv_quoting(quote: str) -> dict[str, Any]:
    return {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}


class _BlockParser:
    """Parses blocks of normalised bytes that begin at a record."""

    def __init__(self, names: list[str], dialect: Dialect):
        self.names, self.dialect = names, dialect
        self.delimiter = (dialect.delimiter if _is_one_byte(dialect.delimiter) else _SUBSTITUTE).encode()
        self.quote = dialect.quote.encode()
        separator, mark = re.escape(self.delimiter.decode()), re.escape(dialect.quote)
        value = f"(?:{mark}(?:[^{mark}]|{mark}{mark})*+{mark}|[^{mark}{separator}\n]*+)" if mark else ""
        self._record = re.compile(f"{value}(?:{separator}{value})*+\r?\n?\\Z") if mark else None

    def parse(self, data: bytes, first_row: int, is_last: bool) -> tuple[Chunk, bytes]:
        """(the complete records, the bytes of the incomplete one behind them)."""
        has_quotes = bool(self.quote) and self.quote in data
        if has_quotes and not self._has_sound_quotes(data):
            return self._parse_lines(data, first_row, is_last)
        end = self._last_record_end(data) if has_quotes else data.rfind(b"\n") + 1
        if end < len(data) and (is_last or len(data) > MAX_RECORD_BYTES + MAX_BLOCK_BYTES or (
            end == 0 and len(data) > 4 * MAX_RECORD_BYTES
        )):  # fmt: skip
            return self._parse_lines(data, first_row, is_last)
        return self._parse_block(data[:end], first_row), data[end:]

    def _parse_block(self, block: bytes, first_row: int) -> Chunk:
        # in a table of several columns a blank line makes the records uneven
        has_blank_line = len(self.names) < 2 and (
            block.startswith((b"\n", b"\r\n")) or b"\n\n" in block or b"\n\r\n" in block
        )
        has_replacements = self.dialect.encoding != "utf-8" and "\ufffd".encode() in block
        if not has_blank_line and not has_replacements and self._has_even_records(block):
            try:
                frame = pl.read_csv(
                    block,
                    has_header=False,
                    infer_schema=False,
                    separator=self.delimiter.decode(),
                    quote_char=self.dialect.quote or None,
                )
                frame.columns = self._unique_names()
                return Chunk(first_row, frame)
            except (pl.exceptions.PolarsError, ValueError):
                pass  # a record does not match the header: reading record by record finds it
        return self._parse_lines(block, first_row, is_last=True)[0]

    def _unique_names(self) -> list[str]:
        """The names; one that is empty or occurs before gets its position, which no heading has."""
        seen: set[str] = set()
        unique = []
        for index, name in enumerate(self.names):
            unique.append(unnamed(index, name) if not name or name in seen else name)
            seen.add(name)
        return unique

    def _parse_lines(self, data: bytes, first_row: int, is_last: bool) -> tuple[Chunk, bytes]:
        """Record by record, for a block of which some cannot be read. A damaged one ends with its line."""
        rows: list[list[str | None]] = []
        faults: list[FieldError] = []
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        rest = lines.pop()
        index = 0
        while index < len(lines):
            count = self._record_lines(lines, index, is_last)
            if count is None:  # it may end in the next block
                break
            values, fault = self._parse_record("\n".join(lines[index : index + count]), first_row + len(rows))
            rows.append(values)
            faults += [] if fault is None else [fault]
            index += count
        remainder = "\n".join([*lines[index:], rest]).encode("utf-8", "surrogateescape")
        frame = pl.DataFrame(rows, schema=dict.fromkeys(self._unique_names(), pl.String), orient="row")
        return Chunk(first_row, frame, faults), remainder

    def _record_lines(self, lines: list[str], index: int, is_last: bool) -> int | None:
        """How many lines from `index` on make one record: 1 where it is damaged; None where that cannot be seen yet."""
        quote = self.dialect.quote
        if self._record is None or lines[index].count(quote) % 2 == 0:
            return 1
        text = lines[index]
        for count in range(2, MAX_RECORD_LINES + 1):
            if index + count > len(lines):
                return 1 if is_last or count > MAX_RECORD_LINES else None
            line = lines[index + count - 1]
            text += "\n" + line
            if quote in line and line.count(quote) % 2:
                return count if self._record.match(text) and self._width(text) == len(self.names) else 1
        return 1

    def _width(self, record: str) -> int:
        return len(next(csv.reader(io.StringIO(record, newline=""), delimiter=self.delimiter.decode(),
                                   quotechar=self.dialect.quote), []))  # fmt: skip

    def _parse_record(self, text: str, row: int) -> tuple[list[str | None], FieldError | None]:
        missing: list[str | None] = [None] * len(self.names)
        text = text.removesuffix("\r")
        quote = self.dialect.quote
        if not text.strip():
            return missing, empty_row_fault(row, BLANK_LINE)
        if self._record is not None and quote in text and not self._record.match(text):
            expected = ("closed, and doubled inside a value", "成对，值内的引号应写两次")
            return missing, record_fault(row, "a quotation mark that opens or ends within a value", *expected)
        try:
            values = next(csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter.decode(),
                                     **_csv_quoting(quote)))  # fmt: skip
        except (csv.Error, StopIteration) as error:
            return missing, record_fault(row, str(error) or "no record", "a record of CSV", "CSV 记录")
        if len(values) != len(self.names):
            if not any(value.strip() for value in values):
                return missing, empty_row_fault(row)
            expected = (f"{len(self.names)} values, as many as the header has", f"与表头一致的 {len(self.names)} 个值")
            return missing, record_fault(row, f"{len(values)} values", *expected)
        if any("\udc80" <= char <= "\udcff" or char == "\ufffd" for value in values for char in value):
            encoding = {"utf-8": "UTF-8"}.get(self.dialect.encoding, self.dialect.encoding.upper())
            return missing, record_fault(row, f"bytes that are not {encoding}", f"{encoding} text", f"{encoding} 文本")
        return [value or None for value in values], None

    # --- sound blocks

    def _has_sound_quotes(self, data: bytes) -> bool:
        """Whether each quotation mark opens or closes a value, or is doubled inside one, up to an open last value."""
        codes = np.frombuffer(data, np.uint8)
        positions = np.flatnonzero(codes == self.quote[0])
        separators = np.array([self.delimiter[0], ord("\n"), self.quote[0]], np.uint8)
        opening, closing = positions[0::2], positions[1::2]
        before = codes[opening[opening > 0] - 1]
        after = codes[closing[closing < len(codes) - 1] + 1]
        return bool(np.isin(before, separators).all() and np.isin(after, [*separators, ord("\r")]).all())

    def _last_record_end(self, block: bytes) -> int:
        """The position after the last line break that ends a record: one inside quotation marks does not."""
        codes = np.frombuffer(block, np.uint8)
        for end in np.flatnonzero(codes == ord("\n"))[::-1]:
            if block.count(self.quote, 0, int(end)) % 2 == 0:
                return int(end) + 1
        return 0

    def _has_even_records(self, block: bytes) -> bool:
        """Whether all records together have as many values as the header: polars silently fills up a short one."""
        width = len(self.names) - 1
        if not self.quote or self.quote not in block:
            return block.count(self.delimiter) == block.count(b"\n") * width
        codes = np.frombuffer(block, np.uint8)
        is_inside = np.cumsum(codes == self.quote[0], dtype=np.uint8) & 1  # its parity survives the overflow
        is_outside = is_inside == 0
        delimiters = int(((codes == self.delimiter[0]) & is_outside).sum())
        return delimiters == int(((codes == ord("\n")) & is_outside).sum()) * width


def unnamed(index: int, name: str = "") -> str:
    """The name of a column whose heading is empty, or occurs before."""
    return f"(column {index + 1})" if not name else f"{name} (column {index + 1})"
