"""An unknown value scores as the policy assumes, and the check that it is not rewarded is exact, tree by tree."""

import numpy as np
import pytest

from models.trees.estimator import BaggedTrees, EstimatorConfig
from models.trees.forest import assume_values, merge_boosters
from models.trees.unknown_values import find_rewarded_unknowns

SMALL = {"folds": 2, "trees": 40, "min_data_in_leaf": 20, "missing_value_dropout": 0.05}
BOUNDS = (-4.0, 4.0)


@pytest.fixture(scope="module")
def fitted():
    """A forest in which the first column raises the risk and the second lowers it, with missing values in both."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(4_000, 3)).clip(*BOUNDS).astype(np.float32)
    y = (x[:, 0] - x[:, 1] + x[:, 0] * x[:, 2] + rng.logistic(size=len(x)) > 1.5).astype(int)
    x[rng.random(x.shape) < 0.1] = np.nan
    model = BaggedTrees(EstimatorConfig(**SMALL)).fit(x, y, directions=[1, -1, 0])
    return merge_boosters(model.boosters_), x


def raw(forest, x):
    return forest.predict(x, raw_score=True)


@pytest.mark.parametrize("values", [{0: 1.25}, {0: 4.0, 1: -4.0}, {0: 0.0, 1: 0.0, 2: 0.0}])
def test_an_unknown_value_scores_exactly_as_the_assumed_one(fitted, values):
    forest, x = fitted
    assumed = assume_values(forest, values)
    filled = x.copy()
    for feature, value in values.items():
        filled[np.isnan(filled[:, feature]), feature] = value
    assert np.array_equal(raw(assumed, x), raw(forest, filled))
    contributions, expected = (f.predict(v, pred_contrib=True) for f, v in ((assumed, x[:200]), (forest, filled[:200])))
    assert np.abs(contributions - expected).max() < 1e-9


def test_a_known_value_scores_as_before(fitted):
    forest, x = fitted
    known = x[~np.isnan(x).any(axis=1)]
    assert np.array_equal(raw(assume_values(forest, {0: 4.0, 1: -4.0}), known), raw(forest, known))


def test_the_worst_values_reward_no_unknown_and_milder_ones_do(fitted):
    forest, x = fitted
    bounds = {0: BOUNDS, 1: BOUNDS}
    assert find_rewarded_unknowns(assume_values(forest, {0: 4.0, 1: -4.0}), bounds) == {}
    mild = find_rewarded_unknowns(assume_values(forest, {0: 0.0, 1: -4.0}), bounds)
    assert set(mild) == {0}
    assert mild[0] > 0


def test_what_no_tree_rewards_no_applicant_can_gain_by(fitted):
    forest, x = fitted
    worst = assume_values(forest, {0: 4.0, 1: -4.0})
    for feature in (0, 1):
        hidden = x.copy()
        hidden[:, feature] = np.nan
        assert (raw(worst, hidden) >= raw(worst, x)).all()


def test_a_value_that_is_worse_only_beyond_the_contract_is_no_reward(fitted):
    forest, _ = fitted
    assumed = assume_values(forest, {0: 1.0})
    assert find_rewarded_unknowns(assumed, {0: BOUNDS}) != {}
    assert find_rewarded_unknowns(assumed, {0: (-4.0, 1.0)}) == {}


def test_every_tree_moves_in_the_direction_of_its_columns():
    """With missing values LightGBM's method `advanced` let trees fall where they must rise."""
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(6_000, 6))).astype(np.float32) * 100
    y = (x[:, 0] / 50 - x[:, 1] / 50 + x[:, 2] * x[:, 3] / 5_000 + rng.logistic(size=len(x)) > 2).astype(int)
    x[rng.random(x.shape) < 0.1] = np.nan
    directions = [1, -1, 1, 1, -1, 1]
    model = BaggedTrees(EstimatorConfig(folds=3, trees=100)).fit(x, y, directions=directions)
    ends = {f: 1e6 if direction > 0 else 0.0 for f, direction in enumerate(directions)}
    forest = assume_values(merge_boosters(model.boosters_), ends)
    assert find_rewarded_unknowns(forest, {f: (0.0, 1e6) for f in ends}) == {}
