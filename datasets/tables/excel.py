"""Read a sheet of an Excel workbook, xlsx or xls, as text; find its header row, and join the rows of a merged one."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from datasets.errors import UnreadableFileError
from datasets.tables.delimited import join_groups, unnamed

MAX_CONTENT_BYTES = 2_000_000_000  # of a workbook once it is unzipped
MAX_HEADER_ROW = 20  # rows searched for the header


@dataclass(frozen=True)
class Sheet:
    """names: as in the header, empty where there is none. first_row: the number in the sheet of the first row below."""

    name: str
    names: list[str]
    frame: pl.DataFrame
    first_row: int
    other_sheets: tuple[str, ...] = ()

    def describe(self) -> str:
        others = f" (not read: {', '.join(self.other_sheets)})" if self.other_sheets else ""
        return f"Excel, sheet {self.name!r}{others}, header in row {self.first_row - 1}"


def read_sheet(
    path: Path, sheet: str | None = None, header_row: int | None = None, max_bytes: int = MAX_CONTENT_BYTES
) -> Sheet:
    """Read one sheet, the first with a table by default. header_row: its number in the sheet, from 1.

    Dates become YYYY-MM-DD, whole numbers have no decimals, errors such as #DIV/0! are missing. Raises
    UnreadableFileError.
    """
    _check_size(path, max_bytes)
    import fastexcel

    try:
        workbook = fastexcel.read_excel(path)
        if sheet is not None and sheet not in workbook.sheet_names:
            raise UnreadableFileError(
                f"{path}: has no sheet {sheet!r}; its sheets are {', '.join(workbook.sheet_names)}.",
                f"{path}：没有名为 {sheet} 的工作表；现有工作表：{'、'.join(workbook.sheet_names)}。",
            )
        name, cells = _choose_sheet(workbook, sheet)
        if cells is not None:
            others = tuple(other for other in workbook.sheet_names if other != name)
            return _to_sheet(name, cells, header_row, others, path)
    except UnreadableFileError:
        raise
    except Exception as error:  # the parser's own errors have no common base
        reason = str(error).strip().split("\n")[0]
        raise UnreadableFileError(
            f"{path}: cannot be read as an Excel workbook: {reason}. Save it again, without a password, as "
            "xlsx or CSV.",
            f"{path}：无法作为 Excel 工作簿读取（{reason}）。请去除密码，重新保存为 xlsx 或 CSV。",
        ) from error
    raise UnreadableFileError(
        f"{path}: none of its sheets has a header and rows: {', '.join(workbook.sheet_names)}.",
        f"{path}：所有工作表均无表头和数据行：{'、'.join(workbook.sheet_names)}。",
    )


def _choose_sheet(workbook: Any, sheet: str | None) -> tuple[str, pl.DataFrame | None]:
    """(name, cells) of the sheet to read: the first with columns and rows; a single column may be a page of notes."""
    names = [sheet] if sheet else workbook.sheet_names
    if len(names) == 1:
        return names[0], _load(workbook, names[0])
    first: tuple[str, pl.DataFrame | None] = "", None
    for name in names:
        cells = _load(workbook, name)
        if cells.height >= 2 and cells.width >= 2:
            return name, cells
        if cells.height >= 2 and first[1] is None:
            first = name, cells
    return first


def _check_size(path: Path, max_bytes: int) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if "[Content_Types].xml" not in archive.namelist():
            raise UnreadableFileError(
                f"{path}: is a ZIP archive, not an Excel workbook. Unpack it first.",
                f"{path}：是 ZIP 压缩包，不是 Excel 工作簿，请先解压。",
            )
        size = sum(info.file_size for info in archive.infolist())
    if size > max_bytes:
        raise UnreadableFileError(
            f"{path}: holds {size:,} bytes once it is unzipped; at most {max_bytes:,} are read of a workbook. "
            "Save it as CSV or Parquet.",
            f"{path}：解压后为 {size:,} 字节，工作簿最多 {max_bytes:,} 字节。请另存为 CSV 或 Parquet。",
        )


def _load(workbook: Any, name: str) -> pl.DataFrame:
    cells: pl.DataFrame = workbook.load_sheet(name, header_row=None, skip_rows=0, dtypes="string").to_polars()
    is_midnight = r"^(\d{4}-\d{2}-\d{2}) 00:00:00$"
    return cells.with_columns(pl.all().str.replace(is_midnight, "${1}"))


def _to_sheet(name: str, cells: pl.DataFrame, header_row: int | None, others: tuple[str, ...], path: Path) -> Sheet:
    if not cells.height:
        raise UnreadableFileError(
            f"{path}: sheet {name!r} is empty; it must have a header and rows.",
            f"{path}：工作表 {name} 为空，应有表头和数据行。",
        )
    rows = [list(row) for row in cells.head(MAX_HEADER_ROW + 1).rows()]
    start = header_row - 1 if header_row else _find_header(rows)
    if not 0 <= start < len(rows):
        raise UnreadableFileError(
            f"{path}: header_row is {header_row}; sheet {name!r} has {cells.height} rows.",
            f"{path}：header_row 为 {header_row}，而工作表 {name} 只有 {cells.height} 行。",
        )
    headings, end = rows[start], start + 1
    if header_row is None and end < len(rows) and _continues_header(headings, rows[end]):
        headings, end = _join_headings(headings, rows[end]), end + 1
    names = join_groups(rows[start - 1] if start and end == start + 1 else [], headings)
    width = max((index + 1 for index, heading in enumerate(names) if heading), default=0)
    frame = cells[end:]
    used = [
        index for index in range(frame.width) if index < width or frame.to_series(index).null_count() < frame.height
    ]
    frame = frame.select(pl.nth(used))
    names = [names[index] for index in used]
    seen: set[str] = set()
    unique = []
    for index, heading in zip(used, names, strict=True):
        unique.append(unnamed(index, heading) if not heading or heading in seen else heading)
        seen.add(heading)
    frame.columns = unique
    return Sheet(name, names, frame, end + 1, others)


def _find_header(rows: list[list[str | None]]) -> int:
    """The first row that fills most of the columns: what stands above it is a title."""
    widest = max(sum(cell is not None for cell in row) for row in rows)
    return next(i for i, row in enumerate(rows) if sum(cell is not None for cell in row) * 2 > widest or widest == 0)


def _continues_header(headings: list[str | None], below: list[str | None]) -> bool:
    """Whether the row below names the parts of merged headings: it is empty but for the columns that they span."""
    spanned = set()
    for index in range(1, len(headings)):
        if headings[index] is None and below[index] is not None and (headings[index - 1] or index - 1 in spanned):
            spanned |= {index - 1, index}
    return bool(spanned) and all((below[index] is not None) == (index in spanned) for index in range(len(headings)))


def _join_headings(headings: list[str | None], below: list[str | None]) -> list[str | None]:
    joined: list[str | None] = []
    current: str | None = None
    for heading, detail in zip(headings, below, strict=True):
        current = heading if heading is not None else current if detail is not None else None
        joined.append(" ".join(text for text in (current, detail) if text) or None)
    return joined
