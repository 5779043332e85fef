"""What may be claimed of a threshold, and what may not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from models.pathology.operating_point import allowed_misses, fit_operating_point, lower_bound, required_positives


@given(st.data())
def test_the_bound_is_the_quantile_of_its_beta_law(data):
    of = data.draw(st.integers(1, 2_000))
    result = data.draw(st.integers(1, of))
    assert lower_bound(result, of) == pytest.approx(stats.beta.ppf(0.05, result, of - result + 1), abs=1e-9)


def test_no_miss_needs_59_positives_for_95_per_cent_and_299_for_99():
    assert required_positives(0.95) == 59
    assert required_positives(0.99) == 299
    assert lower_bound(58, 58) < 0.95 <= lower_bound(59, 59)
    assert lower_bound(298, 298) < 0.99 <= lower_bound(299, 299)


@given(st.integers(1, 600), st.floats(0.5, 0.995))
def test_one_miss_more_than_allowed_breaks_the_claim(positives, target):
    allowed = allowed_misses(positives, target)
    if allowed >= 0:
        assert lower_bound(positives - allowed, positives) >= target
    if allowed + 1 < positives:
        assert lower_bound(positives - allowed - 1, positives) < target


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=200), st.floats(0.6, 0.99))
def test_the_threshold_keeps_what_the_point_says(rows, target):
    scores, positive = np.array(rows).T
    if not positive.any():
        positive[0] = 1
    point = fit_operating_point(scores, positive, range(len(rows)), target)
    assert point.missed == (scores[positive == 1] < point.threshold).sum()
    assert point.claimable == (point.bound >= target)
    assert point.claimable or point.missed == 0  # too few positives: nobody is missed, and nothing claimed
    if (positive == 0).any():
        assert point.specificity == (scores[positive == 0] < point.threshold).mean()


def test_the_claim_holds_in_19_of_20_clinics():
    """Threshold and bound from the same 100 positives, 2,000 times; the true sensitivity is known."""
    rng = np.random.default_rng(0)
    retained = 0
    for _ in range(2_000):
        scores = rng.normal(2, 1, 100)
        point = fit_operating_point(scores, np.ones(100, int), range(100), 0.9)
        retained += stats.norm.sf(point.threshold, 2, 1) >= point.bound
    assert retained / 2_000 == pytest.approx(0.95, abs=0.015)


def test_few_positives_are_not_claimable_in_both_languages():
    point = fit_operating_point([0.9] * 58 + [0.1], [1] * 58 + [0], range(59), 0.95)
    assert point.claim().startswith("A sensitivity of 0.95 is not claimable: 58 positive patients, 0 missed")
    assert "At least 59" in point.claim()
    assert point.claim_zh().startswith("不能声明0.95的灵敏度")
    enough = fit_operating_point([0.9] * 59 + [0.1], [1] * 59 + [0], range(60), 0.95)
    assert enough.claim() == "Sensitivity is at least 0.9504 with 95 % confidence (0 of 59 positive patients missed)."
    assert enough.specificity == 1


def test_ten_slides_of_a_patient_count_once_by_the_lowest():
    point = fit_operating_point([0.9] * 9 + [0.2], [1] * 10, ["a"] * 10, 0.9)
    assert (point.positives, point.threshold) == (1, 0.2)


def test_patients_learned_from_are_refused_with_the_other_faults():
    with pytest.raises(
        ValueError, match=r"target is 1\.5.*1 scores are missing.*1 patients are in the training data too.*a"
    ):
        fit_operating_point([0.1, np.nan], [1, 0], ["a", "b"], 1.5, training_patients={"a"})
    with pytest.raises(ValueError, match="No slide is positive"):
        fit_operating_point([0.1], [0], ["a"], 0.9)
