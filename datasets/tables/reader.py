"""Read a table from a file of any kind, a folder of parts, or a database, and say how it is written.

raw = read_raw("loans.xls")        # raw.frame, raw.format: "Excel, sheet 'loans', header in row 3", raw.remarks
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from datasets.errors import FieldError, UnreadableFileError
from datasets.tables import database, excel, ndjson, parquet
from datasets.tables.chunk import (
    HEADER_ROW,
    TOTALS_ROW,
    Chunk,
    is_blank,
    is_empty_row,
    is_foreign_row,
    mark_empty_rows,
    mark_foreign_rows,
)
from datasets.tables.delimited import DelimitedFile, clean_name, unnamed
from datasets.tables.source import SourceFile, identify

ROWS_PER_BLOCK = 250_000
ARCHIVE_MEMBERS = "csv, tsv, txt, ndjson, parquet, xlsx, xls, and csv or ndjson in gzip or zstd"


@dataclass(frozen=True)
class ReadOptions:
    """What a table's owner says where it cannot be seen: the sheet, the number of its header row, the query."""

    sheet: str | None = None
    header_row: int | None = None
    query: str = ""


@dataclass(frozen=True)
class RawTable:
    """A table as it was read: texts, and numbers and truth values where the format has them.

    format: how it is written, in words. remarks: a sentence on each thing that was changed or left out. rows: the
    number of each row in the file, where rows were left out. faults: the records that could not be read.
    """

    frame: pl.DataFrame
    format: str
    remarks: tuple[str, ...] = ()
    rows: pl.Series | None = None
    faults: tuple[FieldError, ...] = field(default=())

    def locate(self, error: FieldError) -> FieldError:
        """The error of a row of `frame`, with the number of the row in the file."""
        if error.row is None or self.rows is None:
            return error
        return replace(error, row=int(self.rows[error.row - 1]))


def read_raw(path: Path | str, options: ReadOptions | None = None, known_names: Collection[str] = ()) -> RawTable:
    """Read a table without validating its values. known_names: of columns, by which a delimiter is recognised.

    Raises UnreadableFileError.
    """
    options = options or ReadOptions()
    if isinstance(path, str) and database.is_address(path):
        return _finish(_plain_frame(database.read_query(path, options.query)), "a database", path.partition("://")[0])
    path = Path(path)
    if path.is_dir():
        return _read_parts(path, options, known_names)
    source = identify(path)
    if source.kind == "parquet":
        return _read_parquet([path], path)
    if source.kind == "excel":
        sheet = excel.read_sheet(path, options.sheet, options.header_row)
        return _finish((sheet.frame, ()), sheet.describe(), str(path), sheet.names, (), sheet.first_row - 1)
    if source.kind in ("ndjson", "json"):
        return _finish(_plain_frame(ndjson.read_frame(source)), "JSON, a record a line", str(path))
    return _read_delimited(source, known_names)


def _read_delimited(source: SourceFile, known_names: Collection[str]) -> RawTable:
    file = DelimitedFile(source, known_names)
    names = file.names
    chunks = list(file.chunks(ROWS_PER_BLOCK))
    faults = [fault for chunk in chunks for fault in chunk.faults]
    schema = dict.fromkeys((_unique(names)), pl.String)
    frame = pl.concat([chunk.frame for chunk in chunks]) if chunks else pl.DataFrame(schema=schema)
    return _finish((frame, ()), f"CSV, {file.describe()}", str(source.path), names, faults)


def _unique(names: Sequence[str]) -> list[str]:
    return [unnamed(index, name) if not name or name in names[:index] else name for index, name in enumerate(names)]


def _read_parquet(paths: list[Path], path: Path, hive_root: Path | None = None) -> RawTable:
    scan = parquet.scan(paths, hive_root)
    schema = parquet.read_schema(scan, path)
    expressions, remarks = parquet.to_plain(schema)
    frame = parquet.guarded(lambda: scan.select(expressions).collect(), path)
    parts = f" in {len(paths)} parts" if len(paths) > 1 else ""
    return _finish((frame, tuple(remarks)), f"Parquet{parts}", str(path))


def _read_parts(folder: Path, options: ReadOptions, known_names: Collection[str]) -> RawTable:
    paths = parquet.part_files(folder)
    if all(path.name.lower().endswith((".parquet", ".pq", ".parquet.gzip")) for path in paths):
        return _read_parquet(paths, folder, folder)
    tables = [read_raw(path, options, known_names) for path in paths]
    try:
        frame = pl.concat([table.frame for table in tables], how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise UnreadableFileError(
            f"{folder}: its parts have different columns: {str(error).splitlines()[0]}. Write the table again.",
            f"{folder}：各分片的列不一致，请重新生成数据表。",
        ) from error
    remarks = tuple(dict.fromkeys(remark for table in tables for remark in table.remarks))
    faults = tuple(fault for table in tables for fault in table.faults)
    return RawTable(frame, f"{tables[0].format}, in {len(paths)} parts", remarks, None, faults)


def _plain_frame(frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    expressions, remarks = parquet.to_plain(frame.schema)
    return frame.select(expressions), tuple(remarks)


def _finish(
    read: tuple[pl.DataFrame, tuple[str, ...]],
    format: str,
    file: str,
    names: list[str] | None = None,
    faults: Sequence[FieldError] = (),
    first_row: int = 1,
) -> RawTable:
    """Leave out empty rows, damaged records and columns without a name. names: as in the header."""
    frame, remarks = read[0], list(read[1])
    if not faults:
        faults = mark_foreign_rows(mark_empty_rows(Chunk(first_row, frame)), names or ()).faults
    named = [clean_name(name) for name in (names if names is not None else frame.columns)]
    if duplicates := list(dict.fromkeys(name for index, name in enumerate(named) if name and name in named[:index])):
        raise _duplicate_error(file, named, duplicates)
    if names is None:
        frame = frame.rename({name: clean_name(name) or unnamed(i) for i, name in enumerate(frame.columns)})
    frame = _drop_nameless(frame, named, remarks)
    empty = sum(is_empty_row(fault) for fault in faults)
    if empty:
        remarks.append(f"{empty:,} {'row is' if empty == 1 else 'rows are'} empty and left out.")
    remarks += _describe_foreign(faults)
    rows = None
    if faults:
        left_out = {fault.row - first_row for fault in faults if fault.row is not None}
        keep = pl.Series([index not in left_out for index in range(frame.height)], dtype=pl.Boolean)
        rows = pl.int_range(first_row, first_row + frame.height, eager=True).filter(keep)
        frame = frame.filter(keep)
    elif first_row != 1:
        rows = pl.int_range(first_row, first_row + frame.height, eager=True)
    damaged = tuple(
        replace(fault, file=Path(file).name) for fault in faults if not (is_empty_row(fault) or is_foreign_row(fault))
    )
    return RawTable(frame, format, tuple(remarks), rows, damaged)


def _duplicate_error(file: str, names: Sequence[str], duplicates: Sequence[str]) -> UnreadableFileError:
    positions = [[str(i) for i, name in enumerate(names, 1) if name == duplicate] for duplicate in duplicates[:5]]
    listed = ", ".join(repr(name) for name in duplicates[:5])
    columns = "; ".join(" and ".join(numbers) for numbers in positions)
    columns_zh = "；".join("、".join(numbers) for numbers in positions)
    return UnreadableFileError(
        f"{file}: its header names {listed} twice (columns {columns}). Keep one of the columns, or name them "
        "differently, such as 'income 2024' and 'income 2025'.",
        f"{file}：表头中 {listed} 重复（第 {columns_zh} 列）。"
        "请只保留其中一列，或改用不同的名称，如“2024年收入”与“2025年收入”。",
    )


def _describe_foreign(faults: Sequence[FieldError]) -> list[str]:
    """A remark on the rows that are no records."""
    remarks = []
    for kind in (HEADER_ROW, TOTALS_ROW):
        rows = [f"{fault.row:,}" for fault in faults if is_foreign_row(fault) and fault.actual == kind]
        if rows:
            verb = "row is" if len(rows) == 1 else "rows are"
            places = ", ".join(rows[:5]) + (", ..." if len(rows) > 5 else "")
            remarks.append(f"{len(rows):,} {verb} {kind} and left out (row {places}).")
    return remarks


def _drop_nameless(frame: pl.DataFrame, names: list[str], remarks: list[str]) -> pl.DataFrame:
    nameless = [column for column, name in zip(frame.columns, names, strict=True) if not name]
    empty = [column for column in nameless if is_blank(frame[column]).all()]
    if empty:
        verb = "has" if len(empty) == 1 else "have"
        count = f"{len(empty)} column{'s' if len(empty) > 1 else ''}"
        remarks.append(f"{count} {verb} no name and no value; {'it is' if len(empty) == 1 else 'they are'} left out.")
    for column in nameless:
        if column not in empty:
            remarks.append(f"{column[1:-1]} has values but no name; it is left out. Name it in the header to keep it.")
    return frame.drop(nameless)
