"""The statistics that training and serving share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import Interval, auc, calibration_bins, calibration_slope, wilson_interval


@given(st.integers(0, 10_000), st.integers(2, 40))
def test_the_auc_is_the_share_of_pairs_in_order_with_ties_counting_half(seed, levels):
    rng = np.random.default_rng(seed)
    bad = np.arange(80) < 30
    score = rng.integers(0, levels, 80).astype(float)
    above = (score[bad][:, None] > score[~bad][None]).mean()
    assert auc(score, bad) == pytest.approx(above + 0.5 * (score[bad][:, None] == score[~bad][None]).mean())


def test_one_outcome_alone_has_no_auc():
    assert np.isnan(auc(np.arange(5.0), np.ones(5, bool)))


@given(st.integers(1, 1_000), st.data())
def test_a_wilson_interval_contains_the_share_and_stays_between_0_and_1(trials, data):
    successes = data.draw(st.integers(0, trials))
    share, low, high = wilson_interval(successes, trials)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1


def test_the_calibration_slope_is_that_of_a_logistic_regression():
    rng = np.random.default_rng(0)
    pd = rng.beta(2, 9, 5_000)
    bad = rng.random(5_000) < pd
    assert calibration_slope(pd, bad) == pytest.approx(1, abs=0.15)
    shrunken = 1 / (1 + np.exp(-0.5 * np.log(pd / (1 - pd))))
    assert calibration_slope(shrunken, bad) == pytest.approx(2 * calibration_slope(pd, bad))


@pytest.mark.parametrize("pd", [np.full(100, 0.1), np.linspace(0.01, 0.99, 100)])
def test_a_constant_score_and_outcomes_that_it_separates_have_no_calibration_slope(pd):
    assert np.isnan(calibration_slope(pd, np.arange(100) >= 50))


def test_calibration_bins_hold_equally_many_rows_in_order_of_the_pd():
    pd = np.linspace(0.9, 0.1, 100)
    bins = calibration_bins(pd, pd > 0.5, 10)
    assert [bin.rows for bin in bins] == [10] * 10
    assert [bin.mean_pd for bin in bins] == sorted(bin.mean_pd for bin in bins)
    assert (bins[0].bad_rate.value, bins[-1].bad_rate.value) == (0, 1)


def test_an_undefined_figure_is_null_in_json():
    assert Interval(0.5, float("nan"), float("nan")).to_json() == {"value": 0.5, "low": None, "high": None}
