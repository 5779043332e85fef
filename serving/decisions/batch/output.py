"""Write the rows of a batch: CSV that is safe to open in a spreadsheet, NDJSON, Parquet and xlsx."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from datasets.tables.values.numbers import PLAIN

READ_BYTES = 256 * 1024  # bytes of a file sent at a time
MAX_SHEET_ROWS = 1_048_576  # of a sheet, the header included
MAX_CELL_CHARS = 32_767
FORMULA = r"^[=+\-@\t\r]"  # what a spreadsheet would run


def serialise(frames: Iterator[pl.DataFrame], format: str, spool: Path) -> Generator[bytes, None, None]:
    """The bytes of one file from frames with the same columns.

    A Parquet file has its table of contents at the end, and a workbook is an archive, so both are put together on disk,
    in `spool`, before they are sent.
    """
    if format in ("csv", "ndjson"):
        for index, frame in enumerate(frames):
            yield encode_rows(frame, format, include_header=index == 0)
        return
    first = next(frames, None)
    if first is None:
        return
    spool.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"answer-{os.getpid()}-", dir=spool) as folder:
        write = _write_parquet if format == "parquet" else _write_workbook
        with (Path(folder) / "answer").open("wb+") as file:
            write(first, frames, file, Path(folder))
            file.seek(0)
            while data := file.read(READ_BYTES):
                yield data


def encode_rows(frame: pl.DataFrame, format: str, include_header: bool) -> bytes:
    """Encode rows as NDJSON or as CSV, with ; between the items of a list."""
    out = io.BytesIO()
    if format == "csv":
        escape_formulas(_join_lists(frame)).write_csv(out, include_header=include_header)
    else:
        frame.write_ndjson(out)
    return out.getvalue()


def escape_formulas(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with ' before each text, a number aside, that a spreadsheet would read as a formula."""
    text = pl.col(pl.String)
    is_formula = text.str.contains(FORMULA) & ~text.str.contains(PLAIN)
    return frame.with_columns(pl.when(is_formula).then(pl.lit("'") + text).otherwise(text).name.keep())


def _join_lists(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col(pl.List(pl.String)).list.join(";"))


def _write_parquet(first: pl.DataFrame, frames: Iterator[pl.DataFrame], file: BinaryIO, folder: Path) -> None:
    paths: list[Path] = []
    frame: pl.DataFrame | None = first
    while frame is not None:
        paths.append(folder / f"{len(paths):06d}.ipc")
        frame.write_ipc(paths[-1])
        frame = next(frames, None)
    # a file object: a thread of polars may open a path after the folder is gone
    pl.scan_ipc(paths).sink_parquet(file, compression="zstd", maintain_order=True)


def _write_workbook(first: pl.DataFrame, frames: Iterator[pl.DataFrame], file: BinaryIO, folder: Path) -> None:
    """Row by row on disk. Texts stay texts, so nothing in them is run; a full sheet is followed by another."""
    import xlsxwriter

    options = {"constant_memory": True, "tmpdir": str(folder), "strings_to_formulas": False, "strings_to_urls": False}
    workbook = xlsxwriter.Workbook(file, options)
    workbook.set_properties({"created": datetime(2000, 1, 1)})  # so that the same rows give the same bytes
    sheet, next_row = workbook.add_worksheet("1"), 0
    frame: pl.DataFrame | None = first
    while frame is not None:
        for values in _join_lists(frame).iter_rows():
            if next_row == MAX_SHEET_ROWS:
                sheet, next_row = workbook.add_worksheet(str(len(workbook.worksheets()) + 1)), 0
            if next_row == 0:
                _write_row(sheet, 0, frame.columns)
                next_row = 1
            _write_row(sheet, next_row, values)
            next_row += 1
        frame = next(frames, None)
    workbook.close()


def _write_row(sheet: Any, row: int, values: Sequence[object]) -> None:
    for column, value in enumerate(values):
        if isinstance(value, str):
            sheet.write_string(row, column, value[:MAX_CELL_CHARS])
        elif isinstance(value, bool):
            sheet.write_boolean(row, column, value)
        elif isinstance(value, int | float):
            sheet.write_number(row, column, value)
