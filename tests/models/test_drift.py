"""The bins from which drift is measured: each row in one, by one rule, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from datasets.schema import ColumnSchema
from models.drift import BIN_COUNT, BinCounter, fit_bins, flatten, from_card, psi, unflatten

NUMBERS = st.floats(width=32, allow_infinity=False) | st.just(float("nan")) | st.sampled_from([0.0, 1.0, 0.1, 0.7])
ROWS = arrays(np.float32, st.tuples(st.integers(1, 60), st.just(2)), elements=NUMBERS)


def bin_index(edges, value) -> int:
    """As the card says: above edges[i - 1] and at most edges[i]; the last, what is missing."""
    return len(edges) + 1 if np.isnan(value) else sum(value > np.float32(edge) for edge in edges)


@given(ROWS, ROWS)
def test_each_row_falls_into_the_bin_that_the_card_describes(learned, fresh):
    columns = [ColumnSchema(name="a"), ColumnSchema(name="b")]
    drift = fit_bins(columns, learned, fresh, np.linspace(0.1, 0.9, len(fresh)))
    assert drift.rows == len(fresh)
    for column, bins in enumerate(drift.inputs):
        assert list(bins.edges) == sorted(set(bins.edges))
        assert len(bins.edges) < BIN_COUNT
        requested = np.bincount(
            [bin_index(bins.edges, value) for value in fresh[:, column]], minlength=len(bins.edges) + 2
        )
        assert bins.counts == tuple(requested.tolist())
    counted = from_card(drift).count(fresh, np.linspace(0.1, 0.9, len(fresh)))
    assert all(np.array_equal(a, b) for a, b in zip(unflatten(drift, flatten(counted)), counted, strict=True))


@pytest.mark.parametrize("levels", [2, 5, 60])
def test_a_category_has_a_bin_for_each_level(levels):
    column = ColumnSchema(name="c", kind="category", levels=tuple(f"l{i}" for i in range(levels)))
    x = np.arange(levels, dtype=np.float32)[:, None]
    drift = fit_bins([column], x[:1], x, np.full(levels, 0.5))
    assert drift.inputs[0].counts == (1,) * levels + (0,)


def test_a_value_is_read_as_the_graph_reads_it():
    """0.7 as a double lies above its float32: by that it would fall into the next bin."""
    drift = fit_bins([ColumnSchema(name="a")], np.float32([[0.1], [0.7], [0.9]]), np.float32([[0.7]]), np.array([0.5]))
    [single] = BinCounter([drift.inputs[0], drift.score]).count(np.array([[0.7]]), np.array([0.5]))[:1]
    assert tuple(single.tolist()) == drift.inputs[0].counts


def test_psi_is_zero_for_equal_histograms_and_finite_for_an_empty_bin():
    assert psi(np.array([5, 5]), np.array([5, 5])) == 0
    assert psi(np.array([[50, 50], [50, 50]]), np.array([[50, 50], [0, 100]])).tolist() == pytest.approx(
        [0, 2.6], abs=0.2
    )
