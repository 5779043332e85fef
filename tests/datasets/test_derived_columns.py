"""Derived indicators are the same for one applicant and for a million, and missing where a part is."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from datasets.derived_columns import Derived
from datasets.errors import Faults
from datasets.schema import Column, Table, check
from models.feature_encoder import Encoder, encode

FORMULAS = [
    Derived(op="sum", of=("a", "b", "c")),
    Derived(op="mean", of=("a", "b", "c")),
    Derived(op="max", of=("a", "b", "c")),
    Derived(op="min", of=("a", "b")),
    Derived(op="ratio", of=("a", "b"), by=("c",)),
    Derived(op="difference", of=("a", "c")),
    Derived(op="count", of=("a", "b", "c"), over=1.5),
    Derived(op="at_least", of=("a",), over=2.0),
    Derived(op="at_most", of=("a",), over=2.0),
]
TABLE = Table(
    name="t",
    columns=(
        *(Column(name=name, low=-1e12, high=1e12) for name in "abc"),
        *(Column(name=f"d{i}", derived=formula) for i, formula in enumerate(FORMULAS)),
        Column(name="of_derived", derived=Derived(op="ratio", of=("d2",), by=("d0",))),
    ),
)
NUMBER = st.none() | st.floats(-1e12, 1e12) | st.integers(-3, 3).map(float)


@given(st.lists(st.fixed_dictionaries({name: NUMBER for name in "abc"}), min_size=1, max_size=8))
def test_one_row_and_many_rows_agree_to_the_last_bit(rows):
    frame = check(pl.DataFrame(rows, schema=dict.fromkeys("abc", pl.Float64)), TABLE)
    many = encode(frame, TABLE.columns)
    one = np.array([Encoder(TABLE.columns).one(row)[0] for row in rows])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(many, one.astype(np.float32))


def test_the_formulas_are_what_their_names_say():
    row, faults = Encoder(TABLE.columns).one({"a": 1, "b": 2, "c": 4})
    assert faults == []
    assert row == [1, 2, 4, 7, 7 / 3, 4, 1, 0.75, -3, 2, 2, 1, 4 / 7]


def test_a_missing_part_makes_the_whole_missing():
    row, _ = Encoder(TABLE.columns).one({"a": 1, "b": None, "c": 4})
    assert [math.isnan(value) for value in row[3:]] == [True] * 5 + [False, True, False, False, True]


def test_a_ratio_to_nothing_is_missing():
    row, _ = Encoder(TABLE.columns).one({"a": 1, "b": 1, "c": 0})
    assert math.isnan(row[7])


def test_a_ratio_to_next_to_nothing_is_missing_rather_than_infinite():
    ratio = Derived(op="ratio", of=("a",), by=("b",))
    assert math.isnan(ratio.one([1.0], [1e-300]))
    assert np.isnan(ratio.many([np.array([1.0])], [np.array([1e-300])])).all()


def test_a_derived_column_is_never_taken_from_the_applicant():
    assert [fault.column for fault in Encoder(TABLE.columns).unknown({"a": 1, "d0": 5})] == ["d0"]
    with pytest.raises(Faults, match="d0 is not in the contract"):
        check(pl.DataFrame({"a": [1.0], "d0": [5.0]}), TABLE)


def test_a_formula_over_later_columns_is_refused():
    with pytest.raises(ValidationError, match="not declared before it"):
        Table(name="t", columns=(Column(name="d", derived=FORMULAS[0]), *TABLE.columns[:3]))


@pytest.mark.parametrize(
    "wrong", [{"op": "ratio", "of": ["a"]}, {"op": "sum", "of": []}, {"op": "difference", "of": ["a"]}]
)
def test_a_formula_without_its_parts_is_refused(wrong):
    with pytest.raises(ValidationError):
        Derived.model_validate(wrong)
