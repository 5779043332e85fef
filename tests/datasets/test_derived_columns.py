"""Derived indicators are the same for one applicant and for a million, and missing where a part is."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from datasets.derived_columns import DerivedFormula
from datasets.errors import InvalidTableError
from datasets.schema import ColumnSchema, TableSchema
from datasets.validation import validate_or_raise
from models.feature_encoder import FeatureEncoder, encode

FORMULAS = [
    DerivedFormula(op="sum", of=("a", "b", "c")),
    DerivedFormula(op="mean", of=("a", "b", "c")),
    DerivedFormula(op="max", of=("a", "b", "c")),
    DerivedFormula(op="min", of=("a", "b")),
    DerivedFormula(op="ratio", of=("a", "b"), by=("c",)),
    DerivedFormula(op="difference", of=("a", "c")),
    DerivedFormula(op="count", of=("a", "b", "c"), over=1.5),
    DerivedFormula(op="at_least", of=("a",), over=2.0),
    DerivedFormula(op="at_most", of=("a",), over=2.0),
]
TABLE = TableSchema(
    name="t",
    columns=(
        *(ColumnSchema(name=name, low=-1e12, high=1e12) for name in "abc"),
        *(ColumnSchema(name=f"d{i}", derived=formula) for i, formula in enumerate(FORMULAS)),
        ColumnSchema(name="of_derived", derived=DerivedFormula(op="ratio", of=("d2",), by=("d0",))),
    ),
)
NUMBER = st.none() | st.floats(-1e12, 1e12) | st.integers(-3, 3).map(float)


@given(st.lists(st.fixed_dictionaries({name: NUMBER for name in "abc"}), min_size=1, max_size=8))
def test_one_row_and_many_rows_agree_to_the_last_bit(rows):
    frame = validate_or_raise(pl.DataFrame(rows, schema=dict.fromkeys("abc", pl.Float64)), TABLE)
    batch = encode(frame, TABLE.columns)
    single_rows = np.array([FeatureEncoder(TABLE.columns).encode_row(row)[0] for row in rows])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(batch, single_rows.astype(np.float32))


def test_the_formulas_are_what_their_names_say():
    row, faults = FeatureEncoder(TABLE.columns).encode_row({"a": 1, "b": 2, "c": 4})
    assert faults == []
    assert row == [1, 2, 4, 7, 7 / 3, 4, 1, 0.75, -3, 2, 2, 1, 4 / 7]


def test_a_missing_part_makes_the_whole_missing():
    row, _ = FeatureEncoder(TABLE.columns).encode_row({"a": 1, "b": None, "c": 4})
    assert [math.isnan(value) for value in row[3:]] == [True] * 5 + [False, True, False, False, True]


def test_a_ratio_to_nothing_is_missing():
    row, _ = FeatureEncoder(TABLE.columns).encode_row({"a": 1, "b": 1, "c": 0})
    assert math.isnan(row[7])


def test_a_ratio_to_next_to_nothing_is_missing_rather_than_infinite():
    ratio = DerivedFormula(op="ratio", of=("a",), by=("b",))
    assert math.isnan(ratio.compute([1.0], [1e-300]))
    assert np.isnan(ratio.compute_batch([np.array([1.0])], [np.array([1e-300])])).all()


def test_a_derived_column_is_never_taken_from_the_applicant():
    assert [fault.field for fault in FeatureEncoder(TABLE.columns).unknown_fields({"a": 1, "d0": 5})] == ["d0"]
    with pytest.raises(InvalidTableError, match="d0 is not in the contract"):
        validate_or_raise(pl.DataFrame({"a": [1.0], "d0": [5.0]}), TABLE)


def test_a_formula_over_later_columns_is_refused():
    with pytest.raises(ValidationError, match="not declared before it"):
        TableSchema(name="t", columns=(ColumnSchema(name="d", derived=FORMULAS[0]), *TABLE.columns[:3]))


@pytest.mark.parametrize(
    "wrong", [{"op": "ratio", "of": ["a"]}, {"op": "sum", "of": []}, {"op": "difference", "of": ["a"]}]
)
def test_a_formula_without_its_parts_is_refused(wrong):
    with pytest.raises(ValidationError):
        DerivedFormula.model_validate(wrong)


@pytest.mark.parametrize("op", ["months", "ratio"])
def test_time_is_counted_between_dates_and_nothing_else_is(op):
    date_column = {"kind": "text", "date_format": "YYYY-MM-DD"} if op == "ratio" else {}
    formula = {"op": op, "of": ("a", "b"), **({"by": ("b",)} if op == "ratio" else {})}
    columns = [ColumnSchema(name="a", **date_column), ColumnSchema(name="b"), ColumnSchema(name="c", derived=formula)]
    with pytest.raises(ValueError, match="is derived from a.* is expected"):
        TableSchema(name="t", columns=tuple(columns))
