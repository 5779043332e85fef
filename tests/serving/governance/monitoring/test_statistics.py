"""The statistics for monitoring: they match slow definitions, rarely raise false alarms, and detect changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.governance.monitoring import statistics


def pairs(score, bad):
    above = (score[bad][:, None] > score[~bad][None]).mean()
    return above + 0.5 * (score[bad][:, None] == score[~bad][None]).mean()


@given(st.integers(0, 10_000), st.integers(2, 40))
def test_the_auc_is_the_share_of_correctly_ordered_pairs(seed, levels):
    rng = np.random.default_rng(seed)
    bad = np.arange(80) < 30
    score = rng.integers(0, levels, 80) + bad * rng.integers(0, 3, 80).astype(float)
    value, low, high = statistics.auc(score.astype(float), bad)
    assert value == pytest.approx(pairs(score, bad))
    assert 0 <= low <= value <= high <= 1


def test_the_interval_of_the_auc_has_its_nominal_coverage():
    rng = np.random.default_rng(9)
    truth, covered = 0.7602, 0  # of two normals one apart
    for _ in range(1_000):
        bad = np.arange(200) < 60
        _, low, high = statistics.auc(rng.normal(size=200) + bad, bad)
        covered += low <= truth <= high
    assert 0.93 <= covered / 1_000 <= 0.97


def test_a_calibrated_pd_has_ratio_one_and_a_doubled_one_has_not():
    rng = np.random.default_rng(2)
    pd = rng.beta(2, 12, 20_000)
    bad = rng.random(20_000) < pd
    fine = statistics.calibration(pd, bad)
    assert fine.slope[1] < 1 < fine.slope[2]
    assert fine.intercept[1] < 0 < fine.intercept[2]
    assert fine.ratio[1] < 1 < fine.ratio[2]
    assert len(fine.groups) == 10
    doubled = statistics.calibration(np.minimum(2 * pd, 0.99), bad)
    assert doubled.ratio[2] < 0.6
    assert doubled.intercept[2] < 0


def test_too_few_cases_give_no_estimate():
    few = np.arange(100) < statistics.MIN_OUTCOMES - 1
    assert statistics.auc(np.arange(100.0), few) is None
    assert statistics.calibration(np.full(100, 0.1), few) is None
    assert statistics.proportion(0, 0) is None
    assert statistics.corrected_accuracy((5, 5), (5, 0), (1, 0)) == {}


def test_separable_outcomes_have_no_slope_and_an_auc_of_one():
    pd = np.linspace(0.01, 0.99, 100)
    assert statistics.calibration(pd, pd > 0.5).slope is None
    value, low, high = statistics.auc(pd, pd > 0.5)
    assert value == high == 1
    assert 0.9 < low < 1


def test_the_sensitivity_accounts_for_unverified_negatives():
    accuracy = statistics.corrected_accuracy((100, 900), (100, 90), (60, 3))
    assert accuracy["sensitivity"][0] == pytest.approx(60 / 90)
    assert accuracy["specificity"][0] == pytest.approx(870 / 910)
    assert all(low <= value <= high for value, low, high in accuracy.values())


def samples(rng, inputs, rows, skewed=()):
    weights = np.array([0.1] * 10 + [0.0])
    other = np.array([0.05] * 5 + [0.15] * 5 + [0.0])
    return [rng.multinomial(rows, other if i in skewed else weights) for i in range(inputs)]


def test_false_alarms_are_rare_however_few_the_rows():
    rng = np.random.default_rng(3)
    alarms = 0
    for run in range(20):
        for rows in (30, 2_000):
            names = [str(i) for i in range(20)]
            tests = statistics.drift_tests(names, samples(rng, 20, 5_000), samples(rng, 20, rows), seed=run)
            alarms += any(shift.q <= 0.05 for shift in tests)
    assert alarms <= 6, "40 looks at 5 % each"


def test_drifted_inputs_are_detected_among_stable_ones():
    rng = np.random.default_rng(4)
    names = [str(i) for i in range(40)]
    tests = statistics.drift_tests(names, samples(rng, 40, 5_000), samples(rng, 40, 800, skewed=(3, 17)))
    assert {shift.name for shift in tests if shift.q <= 0.05} >= {"3", "17"}
    assert len([shift for shift in tests if shift.q <= 0.05]) <= 3
    assert all(shift.psi > shift.threshold for shift in tests if shift.name in ("3", "17"))


def test_the_threshold_depends_on_the_number_of_rows():
    rng = np.random.default_rng(5)
    few_rows, many_rows = (
        statistics.drift_tests(["a"], samples(rng, 1, 5_000), samples(rng, 1, n))[0] for n in (50, 5_000)
    )
    assert few_rows.threshold > 0.1 > 0.02 > many_rows.threshold, (
        "a rule of 0.1 would cry wolf with few rows and sleep with many"
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_correction_never_lowers_a_p_value_and_keeps_the_order(p):
    q = statistics.benjamini_hochberg(p)
    assert all(a <= b + 1e-12 for a, b in zip(p, q, strict=True))
    ordered = [q[i] for i in np.argsort(p, kind="stable")]
    assert ordered == sorted(ordered)


def test_a_new_category_is_drift_and_an_empty_sample_is_not():
    old, gone = np.array([50, 50, 0, 0]), np.zeros(4, np.int64)
    assert statistics.drift_tests(["a"], [old], [np.array([0, 0, 0, 40])])[0].q < 0.05
    assert statistics.drift_tests(["a"], [old], [gone])[0].q == 1
