"""One set of rules from values to a row: for one applicant and for a table, whatever the values."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.credit_limit import taiwan
from datasets.credit_limit.county import reader
from datasets.schema import ColumnSchema, TableSchema
from datasets.validation import validate
from models.feature_encoder import FeatureEncoder, encode, order_levels

COLUMNS = (
    ColumnSchema(name="income", low=0, unit="RMB/year"),
    ColumnSchema(name="free"),
    ColumnSchema(name="months", low=0, high=84, integer=True, missing_codes=(-9, -8), recode={"-7": 84}),
    ColumnSchema(name="share", low=0, high=1),
    ColumnSchema(name="needed", low=-5, high=5, required=True),
    ColumnSchema(name="grade", kind="category", levels=("A", "B", "C"), ordered=True),
)
NUMBERS = (
    st.none()
    | st.floats()
    | st.integers(-(2**53), 2**53)
    | st.sampled_from([-9, -8, -7, -7.0, 84, 84.5, 3.0e38, 3.1e38, -3.1e38, 5e-324, -0.0, 1.5, True, False])
)
GRADES = st.none() | st.sampled_from(["A", "B", "C", "D", "a", "A "]) | st.booleans() | st.floats()
VALUES = st.fixed_dictionaries(
    {}, optional={column.name: GRADES if column.kind == "category" else NUMBERS for column in COLUMNS}
)


def as_frame(values):
    """A table of one row; a column of each value's own type."""
    return pl.DataFrame({name: [value] for name, value in values.items()} or {"income": [None]})


@given(values=VALUES)
def test_one_applicant_and_a_table_of_one_row_give_the_same_row_and_the_same_faults(values):
    row, faults = FeatureEncoder(COLUMNS).encode_row(values)
    frame, result, _ = validate(as_frame(values), TableSchema(name="t", columns=COLUMNS))
    expected = encode(frame, COLUMNS)[0]
    with np.errstate(over="ignore"):
        assert np.array_equal(np.array(row, np.float32), expected, equal_nan=True)
    assert {fault.field for fault in faults} == {fault.field for fault in result}


@given(values=VALUES)
def test_no_value_reaches_the_model_as_infinity(values):
    row, _ = FeatureEncoder(COLUMNS).encode_row(values)
    assert not np.isinf(np.array(row, np.float32)).any()


@given(values=VALUES)
def test_a_fault_says_the_same_for_one_as_for_many(values):
    _, faults = FeatureEncoder(COLUMNS).encode_row(values)
    _, result, _ = validate(as_frame(values), TableSchema(name="t", columns=COLUMNS))
    message = {fault.field: (fault.expected, fault.expected_zh) for fault in result if fault.actual != "absent"}
    for fault in faults:
        if fault.field in message:
            assert (fault.expected, fault.expected_zh) == message[fault.field]


@pytest.mark.parametrize("value", ["12", [1], {"a": 1}, b"1", math.inf, 10**400])
def test_a_value_of_a_wrong_kind_is_a_fault_for_one_applicant(value):
    row, faults = FeatureEncoder(COLUMNS).encode_row({"income": value, "needed": 0})
    assert math.isnan(row[0])
    assert [fault.field for fault in faults] == ["income"]


def test_a_whole_number_that_names_a_level_is_that_level_for_one_as_for_many():
    columns = [ColumnSchema(name="education", kind="category", levels=("1", "2"))]
    frame, faults, _ = validate(pl.DataFrame({"education": [2]}), TableSchema(name="t", columns=tuple(columns)))
    assert (encode(frame, columns)[0].tolist(), faults) == FeatureEncoder(columns).encode_row({"education": 2})


@pytest.mark.parametrize("module", [reader, taiwan])
def test_a_whole_table_encodes_as_its_rows_do(module):
    frame = module.sample(60, seed=4)
    columns = [column for column in module.TABLE.columns if column.kind != "text" and column.role == "indicator"]
    batch = encode(frame, columns)
    encoder = FeatureEncoder(columns)
    for values, row in zip(frame.to_dicts(), batch, strict=True):
        encoded, faults = encoder.encode_row(values)
        assert faults == []
        assert np.array_equal(np.array(encoded, np.float32), row, equal_nan=True)


def test_a_name_the_model_does_not_know_is_told_with_the_nearest():
    (fault,) = FeatureEncoder(COLUMNS).unknown_fields(
        {"incom": 1, "income": 2, "village_id": "V1"}, extra_names=["village_id"]
    )
    assert "did you mean 'income'" in str(fault)


def test_levels_are_ordered_by_their_default_rate_and_rare_ones_do_not_lead():
    column = ColumnSchema(name="job", kind="category", levels=("calm", "rare", "risky", "unseen"))
    frame = pl.DataFrame(
        {"job": ["calm"] * 200 + ["risky"] * 200 + ["rare"], "y": [0.0] * 190 + [1.0] * 10 + [1.0, 0.0] * 100 + [1.0]}
    )
    (learned,) = order_levels(frame, [column], "y")
    assert learned.levels == ("calm", "unseen", "rare", "risky")
    assert learned.ordered


def test_levels_that_are_ordered_already_stay():
    column = ColumnSchema(name="job", kind="category", levels=("b", "a"), ordered=True)
    frame = pl.DataFrame({"job": ["a", "b"], "y": [0.0, 1.0]})
    assert order_levels(frame, [column], "y") == (column,)


def test_missing_is_not_zero():
    row, _ = FeatureEncoder(COLUMNS).encode_row({"needed": 0})
    assert [math.isnan(value) for value in row] == [True, True, True, True, False, True]


def test_no_columns_give_rows_without_columns():
    assert encode(pl.DataFrame({"a": [1, 2]}), []).shape == (2, 0)


@pytest.mark.parametrize("value", ["wheat", "7", 7, "other crops", " rice ", "rice"])
def test_a_text_that_is_no_level_is_the_other_level_where_there_is_one(value):
    column = ColumnSchema(name="crop", kind="category", levels=("rice", "tea", "(other)"), other_level="(other)")
    row, faults = FeatureEncoder([column]).encode_row({"crop": value})
    frame, errors, _ = validate(pl.DataFrame({"crop": [str(value)]}), TableSchema(name="t", columns=(column,)))
    assert not faults
    assert not errors
    assert row[0] == encode(frame, [column])[0, 0] == (0.0 if "rice" in str(value) else 2.0)
