"""Probabilities that mean what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.pathology import calibration
from models.pathology.onnx_sessions import softmax

ABNORMAL = np.array([3, 4, 5, 6])
LOGITS = arrays(np.float64, (5, 7), elements=st.floats(-20, 20))


@given(LOGITS)
def test_the_log_odds_are_those_of_the_summed_probabilities(logits):
    share = softmax(logits)[:, ABNORMAL].sum(1)
    result = calibration.PlattCalibration(1, 0).probability(calibration.log_odds(logits, ABNORMAL))
    np.testing.assert_allclose(result, share, atol=1e-12)


@given(LOGITS, st.floats(-30, 30))
def test_a_constant_on_all_logits_changes_nothing(logits, constant):
    np.testing.assert_allclose(
        calibration.log_odds(logits, ABNORMAL), calibration.log_odds(logits + constant, ABNORMAL), atol=1e-9
    )


@settings(max_examples=20)
@given(st.floats(0.2, 5), st.integers(0, 9))
def test_a_temperature_is_found_again(hot, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (1_500, 7))
    labels = (softmax(logits).cumsum(1) > rng.random((1_500, 1))).argmax(1)
    assert calibration.fit_temperature(logits * hot, labels) == pytest.approx(hot, rel=0.2)


def test_the_line_makes_overconfident_scores_honest_on_new_rows():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1.5, 6_000)
    positive = rng.random(6_000) < 1 / (1 + np.exp(-truth))
    raw = 4 * truth + 3
    line = calibration.fit_platt(raw[:2_000], positive[:2_000])
    before = calibration.expected_calibration_error(1 / (1 + np.exp(-raw[2_000:])), positive[2_000:])
    after = calibration.expected_calibration_error(line.probability(raw[2_000:]), positive[2_000:])
    assert before > 0.1
    assert after < 0.03


@given(st.integers(2, 40), st.integers(2, 40))
def test_perfect_separation_gives_finite_odds_and_keeps_the_order(batch, few):
    raw = np.concatenate([np.linspace(5, 9, batch), np.linspace(-9, -5, few)])
    line = calibration.fit_platt(raw, np.r_[np.ones(batch), np.zeros(few)])
    stated = line.probability(np.sort(raw))
    assert np.isfinite([line.slope, line.intercept]).all()
    assert (np.diff(stated) >= 0).all()
    assert ((stated > 0) & (stated < 1)).all()


def test_one_class_alone_cannot_be_calibrated():
    with pytest.raises(ValueError, match="3 positives and 0 negatives"):
        calibration.fit_platt([1.0, 2.0, 3.0], [1, 1, 1])
