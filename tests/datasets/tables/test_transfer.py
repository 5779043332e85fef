"""A frame comes out of a transfer as it went in; bytes that are no frame are refused."""

import json
from datetime import date, datetime, time

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from polars.testing.parametric import dataframes

from datasets.tables.transfer import InvalidFrameError, body_size, decode_frame, encode_frame

LIMITS = 1_000_000, 1_000
FRAME = pl.DataFrame(
    {
        "text": ["a", None, "中文", "", "x\x1fy\x1ez"],
        "number": [1.5, None, -0.0, 1e300, 2.0],
        "whole": pl.Series([1, None, 3, 4, 2**63 - 1], dtype=pl.Int64),
        "byte": pl.Series([1, None, 255, 0, 9], dtype=pl.UInt8),
        "truth": [True, None, False, True, True],
        "day": [date(2026, 1, 1), None, date(1950, 5, 5), date(1, 1, 1), date(9999, 12, 31)],
        "hour": [time(1), None, time(23, 59), time(0), time(12)],
        "at": pl.Series([datetime(2026, 1, 1, 8)] * 4 + [None]).dt.replace_time_zone("Asia/Shanghai"),
        "empty": pl.Series([None] * 5, dtype=pl.String),
    }
)


def through(frame):
    header, body = encode_frame(frame)
    return decode_frame(json.loads(json.dumps(header)), body, *LIMITS)


def test_every_type_and_every_missing_value_comes_through():
    assert_frame_equal(through(FRAME), FRAME)
    assert_frame_equal(through(FRAME[:0]), FRAME[:0])
    assert_frame_equal(through(FRAME[1:2]), FRAME[1:2])


PLAIN = [pl.String, pl.Float64, pl.Int64, pl.UInt32, pl.Boolean, pl.Date, pl.Datetime("us")]


@given(dataframes(allowed_dtypes=PLAIN, max_cols=4, max_size=12, allow_null=True))
def test_any_frame_comes_through(frame):
    frame = frame.with_columns(pl.col(pl.Float64).fill_nan(None))  # as a reader leaves it
    assert_frame_equal(through(frame), frame)


def test_a_type_of_another_kind_is_refused():
    with pytest.raises(InvalidFrameError):
        encode_frame(pl.DataFrame({"a": [[1]]}))


@pytest.mark.parametrize(
    "change",
    [
        {"height": 4}, {"height": 10**12}, {"height": -1}, {"height": 5.0}, {"height": True}, {"columns": None},
        {"columns": [1]}, {"columns": [{}]},
    ],
)  # fmt: skip
def test_a_header_that_does_not_fit_is_refused(change):
    header, body = encode_frame(FRAME)
    with pytest.raises(InvalidFrameError):
        decode_frame(header | change, body, *LIMITS)


@pytest.mark.parametrize(
    ("column", "change"),
    [
        (0, {"separator": ""}), (0, {"separator": "a"}), (0, {"separator": None}), (0, {"type": "Binary"}),
        (0, {"type": "Float64"}), (1, {"type": "String"}), (1, {"bytes": 8}), (1, {"bytes": -40}),
        (1, {"name": "text"}), (1, {"name": 5}), (1, {"nulls": 1}),
        (7, {"zone": "../../etc/passwd"}), (7, {"zone": "Nowhere/Else"}),
        (7, {"unit": "s"}),
    ],
)  # fmt: skip
def test_a_column_that_does_not_fit_is_refused(column, change):
    header, body = encode_frame(FRAME)
    header["columns"][column] |= change
    with pytest.raises(InvalidFrameError):
        decode_frame(header, body, *LIMITS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["height", "columns", "name", "type", "bytes", "nulls", "separator"]), inner)
    ),
    max_leaves=20,
)


@given(JSON, st.binary(max_size=64))
def test_anything_else_is_refused_or_a_frame(header, body):
    try:
        frame = decode_frame(header, body, *LIMITS)
    except InvalidFrameError:
        return
    assert body_size(header, *LIMITS) == len(body)
    assert frame.height <= LIMITS[0]
