"""Figures against values that can be worked out by hand or by another library."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from training.evaluation.metrics import (
    BootstrapSamples,
    ScoreCounter,
    auc,
    auc_difference,
    brier,
    calibration,
    compute_intervals,
    h_measure,
    ks,
    psi,
)


def tally(score, y):
    return ScoreCounter(np.asarray(score, float), np.asarray(y))(np.ones((1, len(y))))


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    pd = rng.beta(1, 6, 6_000)
    return (rng.random(6_000) < pd).astype(int), pd


def test_auc_counts_the_pairs_in_order_and_half_the_ties():
    assert auc(tally([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]))[0] == 0.75
    assert auc(tally([0.5, 0.5], [0, 1]))[0] == 0.5


def test_ks_is_the_widest_gap():
    assert ks(tally([1, 2, 3, 4], [0, 0, 1, 1]))[0] == 1
    assert ks(tally([1, 2, 3, 4], [0, 1, 0, 1]))[0] == 0.5


def test_brier_is_the_mean_squared_error():
    assert brier(tally([0.2, 0.6], [0, 1]))[0] == pytest.approx((0.2**2 + 0.4**2) / 2)


def test_h_of_a_perfect_order_is_one_and_of_a_useless_one_zero():
    assert h_measure(tally([1, 2, 3, 4], [0, 0, 1, 1]))[0] == pytest.approx(1)
    assert h_measure(tally([1, 1, 1, 1], [0, 0, 1, 1]))[0] == pytest.approx(0)
    assert h_measure(tally([4, 3, 2, 1], [0, 0, 1, 1]))[0] == pytest.approx(0)  # the hull of an inverted order is flat


def test_h_equals_the_integral_of_the_least_loss_over_costs(rows):
    """Hand's definition, worked out with no hull: at each cost c the best of all thresholds."""
    y, pd = (part[:300] for part in rows)
    base = y.mean()
    cuts = np.r_[-1, np.sort(pd)]
    good_refused = np.array([((pd > t) & (y == 0)).mean() for t in cuts])
    bad_accepted = np.array([((pd <= t) & (y == 1)).mean() for t in cuts])
    prior = beta(1 + base, 2 - base)

    def loss(c: float) -> float:
        return (c * good_refused + (1 - c) * bad_accepted).min() * prior.pdf(c)

    def useless(c: float) -> float:
        return min(c * (1 - base), (1 - c) * base) * prior.pdf(c)

    costs = np.linspace(0, 1, 4_001)
    expected = 1 - np.trapezoid([loss(c) for c in costs], costs) / np.trapezoid([useless(c) for c in costs], costs)
    assert h_measure(tally(pd, y))[0] == pytest.approx(expected, abs=1e-5)


def test_calibration_finds_the_slope_and_the_shift_that_were_planted(rows):
    y, pd = rows
    log_odds = np.log(pd / (1 - pd))
    squeezed = 1 / (1 + np.exp(-0.5 * log_odds))
    slope, _ = calibration(tally(squeezed, y))
    assert slope[0] == pytest.approx(2, abs=0.2)
    _, intercept = calibration(tally(1 / (1 + np.exp(-(log_odds + 0.7))), y))
    assert intercept[0] == pytest.approx(-0.7, abs=0.12)


def test_figures_agree_with_scikit_learn(rows):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import brier_score_loss, roc_auc_score

    y, pd = rows
    found = compute_intervals(y, pd, BootstrapSamples(len(y), 20))
    assert found["auc"].value == pytest.approx(roc_auc_score(y, pd))
    assert found["brier"].value == pytest.approx(brier_score_loss(y, pd))
    fit = LogisticRegression(C=np.inf, tol=1e-9).fit(np.log(pd / (1 - pd))[:, None], y)
    assert found["slope"].value == pytest.approx(fit.coef_[0, 0], abs=1e-4)


def test_the_interval_holds_the_figure_and_narrows_with_more_rows(rows):
    y, pd = rows
    few, many = (
        compute_intervals(y[:500], pd[:500], BootstrapSamples(500, 200))["auc"],
        compute_intervals(y, pd, BootstrapSamples(len(y), 200))["auc"],
    )
    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low


def test_drawing_whole_groups_widens_the_interval_where_rows_of_a_group_are_alike():
    y = np.repeat(np.random.default_rng(0).integers(0, 2, 100), 30)
    pd = np.clip(np.repeat(np.random.default_rng(1).random(100), 30), 0.01, 0.99)
    alone = compute_intervals(y, pd, BootstrapSamples(len(y), 200))["auc"]
    together = compute_intervals(y, pd, BootstrapSamples(len(y), 200, groups=np.repeat(np.arange(100), 30)))["auc"]
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_rows_of_one_outcome_have_no_auc_and_do_not_fail():
    found = compute_intervals(np.zeros(50), np.linspace(0.1, 0.2, 50), BootstrapSamples(50, 20))
    assert np.isnan(found["auc"].value)
    assert found["auc"].to_json() == {"value": None, "low": None, "high": None}


def test_a_better_order_differs_beyond_the_interval_and_the_same_order_does_not(rows):
    y, pd = rows
    noisy = pd + np.random.default_rng(0).normal(0, 0.2, len(pd))
    assert auc_difference(y, pd, noisy, BootstrapSamples(len(y), 200)).low > 0
    same = auc_difference(y, pd, pd, BootstrapSamples(len(y), 50))
    assert (same.low, same.high) == (0, 0)


def test_psi_is_nothing_for_the_same_rows_and_sees_a_shift_and_new_gaps():
    x = np.random.default_rng(0).normal(size=5_000)
    assert psi(x, x) == 0
    assert psi(x, x + 1) > 0.25
    assert psi(x, np.where(np.arange(5_000) % 3 == 0, np.nan, x)) > 0.25
    assert psi(np.zeros(100), np.zeros(50)) < 0.01


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=60))
def test_no_order_preserving_change_of_the_score_changes_auc_ks_or_h(pairs):
    score, y = np.array([s for s, _ in pairs], float), np.array([b for _, b in pairs], int)
    for figure in (auc, ks, h_measure):
        before, after = figure(tally(score, y))[0], figure(tally(np.exp(score / 7), y))[0]
        assert np.isnan(before) == np.isnan(after)
        assert np.isnan(before) or before == pytest.approx(after, abs=1e-12)


def test_the_slope_of_pds_that_are_far_too_sure_is_that_of_a_plain_logistic_regression():
    """Newton's whole step overshoots there, and would never settle."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(3)
    sure = np.clip(np.r_[rng.normal(-14, 6, 4_000), rng.normal(16, 8, 300)], -13, 13)  # log-odds
    y = (rng.random(len(sure)) < 1 / (1 + np.exp(-(0.45 * sure + 1.5)))).astype(float)
    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10).fit(sure[:, None], y)
    draws = BootstrapSamples(len(y), 20, 0)
    slope = compute_intervals(y, 1 / (1 + np.exp(-sure)), draws)["slope"]
    assert slope.value == pytest.approx(fitted.coef_[0, 0], rel=1e-4)
    assert slope.low < slope.value < slope.high
