"""Metrics compared with values computed by hand or by another library."""

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
    quantile_psi,
)


def counts(score, y):
    return ScoreCounter(np.asarray(score, float), np.asarray(y))(np.ones((1, len(y))))


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    pd = rng.beta(1, 6, 6_000)
    return (rng.random(6_000) < pd).astype(int), pd


def test_auc_is_the_share_of_pairs_in_order_with_ties_counting_half():
    assert auc(counts([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]))[0] == 0.75
    assert auc(counts([0.5, 0.5], [0, 1]))[0] == 0.5


def test_ks_is_the_largest_gap_between_the_distributions():
    assert ks(counts([1, 2, 3, 4], [0, 0, 1, 1]))[0] == 1
    assert ks(counts([1, 2, 3, 4], [0, 1, 0, 1]))[0] == 0.5


def test_brier_is_the_mean_squared_error():
    assert brier(counts([0.2, 0.6], [0, 1]))[0] == pytest.approx((0.2**2 + 0.4**2) / 2)


def test_h_is_one_for_a_perfect_ranking_and_zero_for_a_useless_one():
    assert h_measure(counts([1, 2, 3, 4], [0, 0, 1, 1]))[0] == pytest.approx(1)
    assert h_measure(counts([1, 1, 1, 1], [0, 0, 1, 1]))[0] == pytest.approx(0)
    assert h_measure(counts([4, 3, 2, 1], [0, 0, 1, 1]))[0] == pytest.approx(
        0
    )  # the hull of an inverted ranking is flat


def test_h_equals_the_integral_of_the_minimum_loss_over_costs(rows):
    """Hand's definition computed without a hull: at each cost c the best of all thresholds."""
    y, pd = (values[:300] for values in rows)
    base = y.mean()
    thresholds = np.r_[-1, np.sort(pd)]
    good_refused = np.array([((pd > t) & (y == 0)).mean() for t in thresholds])
    bad_accepted = np.array([((pd <= t) & (y == 1)).mean() for t in thresholds])
    prior = beta(1 + base, 2 - base)

    def loss(c: float) -> float:
        return (c * good_refused + (1 - c) * bad_accepted).min() * prior.pdf(c)

    def loss_of_useless_score(c: float) -> float:
        return min(c * (1 - base), (1 - c) * base) * prior.pdf(c)

    costs = np.linspace(0, 1, 4_001)
    expected = 1 - np.trapezoid([loss(c) for c in costs], costs) / np.trapezoid(
        [loss_of_useless_score(c) for c in costs], costs
    )
    assert h_measure(counts(pd, y))[0] == pytest.approx(expected, abs=1e-5)


def test_calibration_recovers_a_known_slope_and_intercept(rows):
    y, pd = rows
    log_odds = np.log(pd / (1 - pd))
    shrunken = 1 / (1 + np.exp(-0.5 * log_odds))
    slope, _ = calibration(counts(shrunken, y))
    assert slope[0] == pytest.approx(2, abs=0.2)
    _, intercept = calibration(counts(1 / (1 + np.exp(-(log_odds + 0.7))), y))
    assert intercept[0] == pytest.approx(-0.7, abs=0.12)


def test_metrics_agree_with_scikit_learn(rows):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import brier_score_loss, roc_auc_score

    y, pd = rows
    metrics = compute_intervals(y, pd, BootstrapSamples(len(y), 20))
    assert metrics["auc"].value == pytest.approx(roc_auc_score(y, pd))
    assert metrics["brier"].value == pytest.approx(brier_score_loss(y, pd))
    fit = LogisticRegression(C=np.inf, tol=1e-9).fit(np.log(pd / (1 - pd))[:, None], y)
    assert metrics["slope"].value == pytest.approx(fit.coef_[0, 0], abs=1e-4)


def test_an_interval_contains_its_value_and_narrows_with_more_rows(rows):
    y, pd = rows
    small_sample, full_sample = (
        compute_intervals(y[:500], pd[:500], BootstrapSamples(500, 200))["auc"],
        compute_intervals(y, pd, BootstrapSamples(len(y), 200))["auc"],
    )
    assert small_sample.low < small_sample.value < small_sample.high
    assert full_sample.high - full_sample.low < small_sample.high - small_sample.low


def test_resampling_whole_groups_widens_the_interval_where_the_rows_of_a_group_are_alike():
    y = np.repeat(np.random.default_rng(0).integers(0, 2, 100), 30)
    pd = np.clip(np.repeat(np.random.default_rng(1).random(100), 30), 0.01, 0.99)
    by_row = compute_intervals(y, pd, BootstrapSamples(len(y), 200))["auc"]
    by_group = compute_intervals(y, pd, BootstrapSamples(len(y), 200, groups=np.repeat(np.arange(100), 30)))["auc"]
    assert by_group.high - by_group.low > 2 * (by_row.high - by_row.low)


def test_rows_with_only_one_outcome_have_no_auc():
    metrics = compute_intervals(np.zeros(50), np.linspace(0.1, 0.2, 50), BootstrapSamples(50, 20))
    assert np.isnan(metrics["auc"].value)
    assert metrics["auc"].to_json() == {"value": None, "low": None, "high": None}


def test_the_difference_of_aucs_is_above_zero_for_a_better_ranking_and_zero_for_the_same(rows):
    y, pd = rows
    noisy = pd + np.random.default_rng(0).normal(0, 0.2, len(pd))
    assert auc_difference(y, pd, noisy, BootstrapSamples(len(y), 200)).low > 0
    same = auc_difference(y, pd, pd, BootstrapSamples(len(y), 50))
    assert (same.low, same.high) == (0, 0)


def test_psi_is_zero_for_the_same_rows_and_large_after_a_shift_or_new_missing_values():
    x = np.random.default_rng(0).normal(size=5_000)
    assert quantile_psi(x, x) == 0
    assert quantile_psi(x, x + 1) > 0.25
    assert quantile_psi(x, np.where(np.arange(5_000) % 3 == 0, np.nan, x)) > 0.25
    assert quantile_psi(np.zeros(100), np.zeros(50)) < 0.01


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=60))
def test_a_monotone_transformation_of_the_score_changes_neither_auc_nor_ks_nor_h(pairs):
    score, y = np.array([s for s, _ in pairs], float), np.array([b for _, b in pairs], int)
    for metric in (auc, ks, h_measure):
        before, after = metric(counts(score, y))[0], metric(counts(np.exp(score / 7), y))[0]
        assert np.isnan(before) == np.isnan(after)
        assert np.isnan(before) or before == pytest.approx(after, abs=1e-12)


def test_the_slope_of_far_too_extreme_pds_is_that_of_a_plain_logistic_regression():
    """Newton's full step overshoots there and would never converge."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(3)
    log_odds = np.clip(np.r_[rng.normal(-14, 6, 4_000), rng.normal(16, 8, 300)], -13, 13)
    y = (rng.random(len(log_odds)) < 1 / (1 + np.exp(-(0.45 * log_odds + 1.5)))).astype(float)
    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10).fit(log_odds[:, None], y)
    samples = BootstrapSamples(len(y), 20, 0)
    slope = compute_intervals(y, 1 / (1 + np.exp(-log_odds)), samples)["slope"]
    assert slope.value == pytest.approx(fitted.coef_[0, 0], rel=1e-4)
    assert slope.low < slope.value < slope.high
