"""Send a frame between processes as plain arrays, so that what reads it decodes no format of a library.

header, body = encode_frame(frame)          # header: for JSON
frame = decode_frame(header, body)          # InvalidFrameError for anything that encode_frame never makes
"""

from __future__ import annotations

import re
import secrets
from typing import Any

import numpy as np
import polars as pl

NUMBERS: dict[str, tuple[pl.DataType, Any]] = {  # name: type of polars, of NumPy
    "Float64": (pl.Float64(), np.float64),
    "Boolean": (pl.Boolean(), np.uint8),
    "Date": (pl.Date(), np.int32),
    "Time": (pl.Time(), np.int64),
    **{
        f"{sign}Int{bits}": (getattr(pl, f"{sign}Int{bits}")(), np.dtype(f"{sign.lower()}int{bits}"))
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
}
TIME_UNITS = ("ms", "us", "ns")
TIME_ZONE = re.compile(r"[A-Za-z0-9_+/:-]{1,60}")
SEPARATORS = ("\x1f", "\x1e", "\x1d")  # between texts; another is chosen where a text has it
MAX_NAME_CHARS = 10_000
Header = dict[str, Any]


class InvalidFrameError(ValueError):
    """Not a frame that was encoded here."""


def encode_frame(frame: pl.DataFrame) -> tuple[Header, bytes]:
    """Raises InvalidFrameError for columns of other types than text, numbers, truth values and times."""
    columns, parts = [], []
    for series in frame:
        column, data = _encode_column(series)
        validity = b"" if not series.null_count() else series.is_not_null().cast(pl.UInt8).to_numpy().tobytes()
        columns.append(column | {"name": series.name, "bytes": len(data), "nulls": bool(validity)})
        parts += [validity, data]
    return {"height": frame.height, "columns": columns}, b"".join(parts)


def body_size(header: Any, max_rows: int, max_columns: int) -> int:
    """The bytes that follow a header. Raises InvalidFrameError."""
    height, columns = _counts(header, max_rows, max_columns)
    return sum(_count(column, "bytes") + (height if column.get("nulls") is True else 0) for column in columns)


def decode_frame(header: Header, body: bytes, max_rows: int, max_columns: int) -> pl.DataFrame:
    """Raises InvalidFrameError."""
    if len(body) != body_size(header, max_rows, max_columns):
        raise InvalidFrameError("its body has another size")
    height, columns = _counts(header, max_rows, max_columns)
    names = [column.get("name") for column in columns]
    if not all(isinstance(name, str) and len(name) <= MAX_NAME_CHARS for name in names) or len({*names}) != len(names):
        raise InvalidFrameError("its columns have no names of their own")
    offset, series = 0, []
    for column in columns:
        validity = None
        if column["nulls"]:
            validity = pl.Series(np.frombuffer(body, np.uint8, height, offset) != 0)
            offset += height
        values = _decode_column(column, body[offset : offset + column["bytes"]], height).alias(column["name"])
        offset += column["bytes"]
        series.append(values if validity is None else values.set(~validity, None))
    return pl.DataFrame(series) if series else pl.DataFrame(height=height)


def _encode_column(series: pl.Series) -> tuple[Header, bytes]:
    dtype = series.dtype
    if dtype == pl.String:
        return _encode_texts(series)
    if isinstance(dtype, pl.Datetime):
        values = series.to_physical().fill_null(0).to_numpy()
        return {"type": "Datetime", "unit": dtype.time_unit, "zone": dtype.time_zone}, values.tobytes()
    name = str(dtype)
    if name not in NUMBERS:
        raise InvalidFrameError(f"column {series.name} has the type {name}")
    physical = series.cast(pl.UInt8) if dtype == pl.Boolean else series.to_physical()
    return {"type": name}, physical.fill_null(0).to_numpy().astype(NUMBERS[name][1], copy=False).tobytes()


def _encode_texts(series: pl.Series) -> tuple[Header, bytes]:
    texts = series.fill_null("")
    candidates = (*SEPARATORS, secrets.token_hex(16))
    separator = next(each for each in candidates if not texts.str.contains(each, literal=True).any())
    joined = texts.str.join(separator).item() if len(texts) else ""
    return {"type": "String", "separator": separator}, joined.encode()


def _decode_column(column: Header, data: bytes, height: int) -> pl.Series:
    kind = column.get("type")
    if kind == "String":
        return _decode_texts(column.get("separator"), data, height)
    if kind == "Datetime":
        unit, zone = column.get("unit"), column.get("zone")
        is_zone = zone is None or (isinstance(zone, str) and TIME_ZONE.fullmatch(zone) is not None)
        if unit not in TIME_UNITS or not is_zone:
            raise InvalidFrameError("a time has no unit or no time zone")
        try:
            return pl.Series(_array(data, np.int64, height)).cast(pl.Datetime(unit, zone))
        except pl.exceptions.PolarsError as error:
            raise InvalidFrameError("a time has an unknown time zone") from error
    if kind not in NUMBERS:
        raise InvalidFrameError("a column has an unknown type")
    dtype, array_type = NUMBERS[kind]
    values = _array(data, array_type, height)
    series = pl.Series(values != 0) if kind == "Boolean" else pl.Series(values).cast(dtype, strict=False)
    return series.fill_nan(None) if kind == "Float64" else series


def _decode_texts(separator: Any, data: bytes, height: int) -> pl.Series:
    if not isinstance(separator, str) or not 1 <= len(separator) <= 32:
        raise InvalidFrameError("a column of texts has no separator")
    try:
        joined = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidFrameError("a text is not UTF-8") from error
    if not height:
        return pl.Series([], dtype=pl.String)
    texts = pl.Series([joined], dtype=pl.String).str.split(separator).explode()
    if len(texts) != height:
        raise InvalidFrameError("a column has another number of texts")
    return texts


def _array(data: bytes, array_type: Any, height: int) -> np.ndarray:
    if len(data) != height * np.dtype(array_type).itemsize:
        raise InvalidFrameError("a column has another number of values")
    return np.frombuffer(data, array_type)


def _counts(header: Any, max_rows: int, max_columns: int) -> tuple[int, list[Header]]:
    if not isinstance(header, dict) or not isinstance(header.get("columns"), list):
        raise InvalidFrameError("it has no header")
    height, columns = _count(header, "height"), header["columns"]
    if height > max_rows or len(columns) > max_columns or not all(isinstance(column, dict) for column in columns):
        raise InvalidFrameError("it has too many rows or columns")
    if any(not isinstance(column.get("nulls"), bool) for column in columns):
        raise InvalidFrameError("a column does not say whether values are missing")
    return height, columns


def _count(values: Header, name: str) -> int:
    value = values.get(name)
    if type(value) is not int or value < 0:
        raise InvalidFrameError(f"its {name} is no count")
    return value
