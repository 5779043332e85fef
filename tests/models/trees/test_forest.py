"""The merged forest: the mean of its bag, exact in float32 in any order, and clear about what it refuses."""

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.trees.forest import FLOAT32_MAX, LIGHTGBM_ZERO, MIN_QUANTUM, extract_leaves, floor32, merge_boosters

BINARY = {"objective": "binary", "verbose": -1, "num_threads": 1, "max_depth": 3, "num_leaves": 8}


def applicants(rows=1500, features=5, seed=0, missing=0.05):
    """(x float32 with some values missing, y 0/1) with main effects and an interaction."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] * x[:, 2] + rng.logistic(size=rows) > 0.5).astype(int)
    x[rng.random(x.shape) < missing] = np.nan
    return x, y


def bag(size=3, trees=20, seed=0, **settings):
    x, y = applicants(seed=seed)
    draws = [np.random.default_rng(seed + i).integers(0, len(x), len(x)) for i in range(size)]
    return [lgb.train(BINARY | settings, lgb.Dataset(x[rows], y[rows]), trees) for rows in draws], x


def tree_values(booster):
    return [np.array([leaf.value for leaf in tree]) for tree in extract_leaves(booster)]


def times(booster, factor):
    """The booster with all its leaves multiplied; tree sizes are left out of the text, which LightGBM allows."""
    text = [line for line in booster.model_to_string().splitlines() if not line.startswith("tree_sizes=")]
    for index, line in enumerate(text):
        name, _, values = line.partition("=")
        if name == "leaf_value":
            text[index] = f"{name}=" + " ".join(repr(float(value) * factor) for value in values.split())
    return lgb.Booster(model_str="\n".join(text) + "\n")


def test_the_forest_gives_the_mean_raw_score_of_the_bag():
    boosters, x = bag()
    mean = np.mean([booster.predict(x, raw_score=True) for booster in boosters], axis=0)
    forest = merge_boosters(boosters)
    assert forest.num_trees() == sum(booster.num_trees() for booster in boosters)
    assert np.abs(forest.predict(x, raw_score=True) - mean).max() <= forest.num_trees() * MIN_QUANTUM / 2


def test_leaves_are_multiples_of_the_quantum_after_a_round_trip_through_text():
    forest = merge_boosters(bag()[0])
    steps = np.concatenate(tree_values(lgb.Booster(model_str=forest.model_to_string()))) / MIN_QUANTUM
    assert np.array_equal(steps, np.rint(steps))
    assert np.abs(steps).max() > 1000  # not merely all zero


def test_thresholds_are_float32_after_a_round_trip_through_text():
    conditions = [
        c for tree in extract_leaves(merge_boosters(bag()[0])) for leaf in tree for c in leaf.conditions.values()
    ]
    ends = np.array([end for c in conditions for end in (c.low, c.high)])
    assert np.array_equal(ends, ends.astype(np.float32).astype(np.float64))


def test_merging_changes_no_answer_of_any_question():
    """For each float32 value at a threshold or beside it, the forest of one booster falls into that booster's leaf."""
    (booster,), x = bag(size=1)
    forest = merge_boosters([booster])
    ends = {
        c.high
        for tree in extract_leaves(forest)
        for leaf in tree
        for c in leaf.conditions.values()
        if np.isfinite(c.high)
    }
    thresholds = np.float32(sorted(ends))
    extra = np.concatenate(
        [thresholds, np.nextafter(thresholds, np.float32(-np.inf)), np.nextafter(thresholds, np.float32(np.inf))]
    )
    rows = np.repeat(extra[:, None], x.shape[1], axis=1)
    assert np.array_equal(forest.predict(rows, pred_leaf=True), booster.predict(rows, pred_leaf=True))


@given(order=st.permutations(range(60)), rows=st.integers(0, 1499))
@settings(max_examples=50)
def test_float32_adds_the_trees_exactly_in_any_order(order, rows, forest_leaves):
    values, exact = forest_leaves
    total = np.float32(0)
    for tree in order:
        total = np.float32(total + np.float32(values[rows, tree]))
    assert float(total) == exact[rows]


@pytest.fixture(scope="module")
def forest_leaves():
    """(value of each row's leaf in each tree, raw score) of a forest that reaches far."""
    boosters, x = bag(learning_rate=0.5)
    forest = merge_boosters(boosters)
    trees = range(forest.num_trees())
    by_tree = [forest.predict(x, raw_score=True, start_iteration=tree, num_iteration=1) for tree in trees]
    return np.stack(by_tree, axis=1), forest.predict(x, raw_score=True)


@pytest.mark.parametrize(("factor", "quantum"), [(1, 2.0**-20), (8, 2.0**-19), (80, 2.0**-16)])
def test_a_forest_that_reaches_further_takes_a_coarser_quantum(factor, quantum):
    """Each partial sum is at most 2**24 quanta, whatever the order: the sum over the trees of the largest |leaf| is."""
    (booster,), x = bag(size=1)
    reach = float(sum(np.abs(values).max() for values in tree_values(booster)))
    values = tree_values(merge_boosters([times(booster, 2.5 * factor / reach)]))
    steps = np.concatenate(values) / quantum
    assert np.array_equal(steps, np.rint(steps))
    assert not np.array_equal(steps / 2, np.rint(steps / 2))
    assert sum(np.abs(v).max() for v in values) <= 2.0**24 * quantum


def test_raw_scores_beyond_any_log_odds_are_refused():
    (booster,), _ = bag(size=1)
    with pytest.raises(ValueError, match="sum to .* at most 1024 can be summed exactly"):
        merge_boosters([times(booster, 4000.0)])


@given(st.floats(-1e30, 1e30), st.floats(-(2.0**100), 2.0**100, width=32))
@settings(max_examples=300)
def test_a_floored_threshold_answers_each_float32_as_before(threshold, value):
    for x in (np.float32(value), np.float32(threshold), np.nextafter(np.float32(threshold), np.float32(np.inf))):
        read = 0.0 if abs(float(x)) <= LIGHTGBM_ZERO else float(x)  # as LightGBM reads it
        assert (float(x) <= floor32(threshold)) == (read <= threshold)


def test_the_split_between_missing_and_all_others_lies_at_the_largest_number():
    assert floor32(1e300) == FLOAT32_MAX
    assert not np.float32(np.inf) <= np.float32(floor32(1e300))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_depth": 4, "num_leaves": 16}, "has 4 splits on a path.* max_depth=3"),
        ({"zero_as_missing": True}, "reads zeros as missing.* zero_as_missing=false"),
        ({"linear_tree": True, "min_data_in_leaf": 100}, "linear leaves.* linear_tree=false"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "random forest.* boosting=gbdt"),
    ],
)
def test_what_cannot_be_exported_exactly_is_refused_in_a_sentence(settings, message):
    with pytest.raises(ValueError, match=message):
        merge_boosters(bag(**settings)[0])


def test_splits_on_categories_are_refused():
    x, y = applicants(missing=0)
    x[:, 0] = np.digitize(x[:, 0], [-1, 0, 1])
    with pytest.raises(ValueError, match="splits on categories.* ordinal codes"):
        merge_boosters([lgb.train(BINARY, lgb.Dataset(x, y, categorical_feature=[0]), 5)])


def test_boosters_of_different_columns_are_refused():
    x, y = applicants()
    boosters = [lgb.train(BINARY, lgb.Dataset(x[:, :width], y), 3) for width in (5, 4)]
    with pytest.raises(ValueError, match="Booster 1 has .* where the first has"):
        merge_boosters(boosters)


def test_an_empty_bag_is_refused():
    with pytest.raises(ValueError, match="no boosters"):
        merge_boosters([])


def test_a_booster_that_never_splits_keeps_its_constant():
    x, y = applicants()
    constant = lgb.train(BINARY | {"min_data_in_leaf": 5000}, lgb.Dataset(x, y), 3)
    assert merge_boosters([constant]).predict(x[:2], raw_score=True) == pytest.approx(
        constant.predict(x[:2], raw_score=True), abs=MIN_QUANTUM
    )


def test_a_forest_merged_again_alone_is_itself():
    forest = merge_boosters(bag()[0])
    assert merge_boosters([forest]).model_to_string() == forest.model_to_string()


def test_a_booster_ends_at_its_best_iteration():
    (booster,), _ = bag(size=1, trees=20)
    booster.best_iteration = 12
    assert merge_boosters([booster]).num_trees() == 12
