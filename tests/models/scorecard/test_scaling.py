"""Points: 600 at odds of 50 to 1, 20 more whenever the odds double, and back to a probability."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.scorecard.scaling import ScoreScale, sigmoid


def test_odds_of_fifty_to_one_are_600_points():
    assert ScoreScale().points(-math.log(50)) == pytest.approx(600)


@given(st.floats(-20, 20))
def test_twenty_points_double_the_odds(log_odds):
    assert ScoreScale().points(log_odds - math.log(2)) == pytest.approx(ScoreScale().points(log_odds) + 20)


@given(st.lists(st.floats(-30, 30), min_size=1))
def test_points_lead_back_to_the_probability(log_odds):
    scale = ScoreScale(points_at_odds=500, odds=20, double=40)
    assert scale.pd(scale.points(log_odds)) == pytest.approx(sigmoid(log_odds), rel=1e-12)


def test_the_probability_of_extreme_log_odds_does_not_overflow():
    with np.errstate(over="raise"):
        assert sigmoid([-800.0, 0.0, 800.0]).tolist() == [pytest.approx(0.0, abs=1e-300), 0.5, 1.0]


@pytest.mark.parametrize("wrong", [{"odds": 0}, {"double": -20}, {"points_at_odds": math.inf}])
def test_a_scale_that_means_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match=f"Scale {next(iter(wrong))} is"):
        ScoreScale(**wrong)
