"""Read Parquet of any type as text, numbers and truth values; also a folder of parts, as Spark writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import polars as pl

from datasets.errors import UnreadableFileError

T = TypeVar("T")
MAX_EXACT = 2**53  # beyond it a float64 does not hold every whole number
PART_SUFFIXES = (".parquet", ".pq", ".parquet.gzip", ".csv", ".csv.gz", ".ndjson", ".jsonl", ".json")


def part_files(folder: Path) -> list[Path]:
    """The parts of a table in a folder, without _SUCCESS, checksums and hidden files. Raises UnreadableFileError."""
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(name.startswith(("_", ".")) for name in path.relative_to(folder).parts)
    ]
    parts = [path for path in files if path.name.lower().endswith(PART_SUFFIXES)]
    if not parts:
        raise UnreadableFileError(
            f"{folder}: is a folder without parts of a table ({', '.join(PART_SUFFIXES)}). Name the file to read.",
            f"{folder}：文件夹中没有数据文件（{', '.join(PART_SUFFIXES)}），请指明要读取的文件。",
        )
    return parts


def scan(paths: list[Path], hive_root: Path | None = None) -> pl.LazyFrame:
    """A scan of one file, or of parts with the same columns; folders named key=value below hive_root become columns."""
    has_keys = hive_root is not None and any("=" in path.parent.name for path in paths)
    return pl.scan_parquet(paths, hive_partitioning=has_keys, missing_columns="insert", extra_columns="raise")


def read_schema(frame: pl.LazyFrame, path: Path) -> pl.Schema:
    return guarded(frame.collect_schema, path)


def guarded(fn: Callable[[], T], path: Path) -> T:
    """Run a function that reads; what the reader cannot read is an UnreadableFileError, a panic of it too."""
    try:
        return fn()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise UnreadableFileError(
            f"{path}: cannot be read as Parquet: {reason}. Write it again.",
            f"{path}：无法作为 Parquet 读取（{reason}），请重新生成。",
        ) from error
    except BaseException as error:  # the reader panics on a damaged file, with a subclass of BaseException
        if type(error).__name__ == "PanicException":
            raise UnreadableFileError(
                f"{path}: cannot be read as Parquet: it is damaged. Write it again.",
                f"{path}：Parquet 文件已损坏，请重新生成。",
            ) from error
        raise


def to_plain(schema: pl.Schema) -> tuple[list[pl.Expr], list[str]]:
    """(expressions for columns of plain types, a remark for each column that changed its form or is left out).

    Bytes become text, decimals numbers, durations days, records one column for each field; NaN is missing.
    """
    expressions: list[pl.Expr] = []
    remarks: list[str] = []
    for name, dtype in schema.items():
        _add_plain(pl.col(name), name, dtype, expressions, remarks)
    return expressions, remarks


def _add_plain(value: pl.Expr, name: str, dtype: pl.DataType, expressions: list[pl.Expr], remarks: list[str]) -> None:
    if isinstance(dtype, pl.Struct):
        remarks.append(f"{name}: holds records; each of their fields is a column of its own")
        for field in dtype.fields:
            _add_plain(value.struct.field(field.name), f"{name}.{field.name}", field.dtype, expressions, remarks)  # type: ignore[arg-type]
        return
    if dtype.is_nested() or dtype == pl.Object:
        remarks.append(f"{name}: holds lists ({dtype}); it is left out")
        return
    if dtype == pl.Binary:
        remarks.append(f"{name}: holds bytes, which are read as text in UTF-8")
        value = value.cast(pl.String, strict=False)
    elif dtype == pl.Duration:
        remarks.append(f"{name}: holds durations, which are read as days")
        value = value.dt.total_microseconds().cast(pl.Float64) / 86_400_000_000
    elif dtype.is_decimal():
        value = _exact_or_text(value, dtype)
    elif dtype in (pl.Int64, pl.UInt64, pl.Int128):
        value = value.cast(pl.String) if dtype == pl.Int128 else value
    elif dtype in (pl.Categorical, pl.Enum, pl.Null):
        value = value.cast(pl.String)
    elif dtype.is_float():
        value = value.cast(pl.Float64).fill_nan(None)
    expressions.append(value.alias(name))


def _exact_or_text(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Decimals as numbers; whole ones with more digits than a number holds, which are ids, as text."""
    precision, scale = getattr(dtype, "precision", None) or 38, getattr(dtype, "scale", 0) or 0
    return value.cast(pl.String) if scale == 0 and precision > 18 else value.cast(pl.Float64)


def batches(frame: pl.LazyFrame, path: Path, rows: int) -> Iterator[pl.DataFrame]:
    """Frames of at most `rows` rows in the order of the file."""
    iterator = iter(guarded(lambda: frame.collect_batches(chunk_size=rows, maintain_order=True), path))
    while (batch := guarded(lambda: next(iterator, None), path)) is not None:
        yield from batch.iter_slices(rows)
