"""The bag of boosters: what fit promises."""

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.trees.calibration import fit_platt
from models.trees.estimator import BaggedTrees, EstimatorConfig, sigmoid

SMALL = {"folds": 3, "trees": 60, "learning_rate": 0.15, "min_data_in_leaf": 20}


def applicants(rows: int = 3_000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Arrears raise the risk, income lowers it, the third column is noise; (rows, 3) float32 and (rows,)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    log_odds = -1.5 + 1.2 * x[:, 0] - 0.8 * x[:, 1] + 0.5 * np.sin(3 * x[:, 0])
    return x, (rng.random(rows) < sigmoid(log_odds)).astype(float)


@pytest.fixture(scope="module")
def fitted() -> BaggedTrees:
    x, y = applicants()
    return BaggedTrees(EstimatorConfig(**SMALL)).fit(x, y, directions=[1, -1, 0])


def test_the_constructor_only_stores():
    assert set(vars(BaggedTrees())) == {"config"}


def test_an_unknown_setting_is_refused_and_the_nearest_known_one_named():
    with pytest.raises(ValidationError, match="learning_rat.*did you mean 'learning_rate'"):
        EstimatorConfig(learning_rat=0.1)


def test_deeper_trees_than_can_be_explained_exactly_are_refused():
    with pytest.raises(ValidationError, match="depth"):
        EstimatorConfig(depth=4)


@settings(max_examples=50)
@given(
    row=st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3),
    more=st.floats(0, 4, width=32),
)
def test_more_arrears_or_less_income_never_lowers_the_risk(fitted, row, more):
    worse = [[row[0] + more, row[1], row[2]], [row[0], row[1] - more, row[2]]]
    assert (fitted.decision_raw(worse) >= fitted.decision_raw([row]) - 1e-12).all()


def test_no_tree_is_deeper_than_three_questions(fitted):
    for booster in fitted.boosters_:
        depth = booster.trees_to_dataframe()["node_depth"].max() - 1  # LightGBM counts the root as 1
        assert depth <= 3


def test_all_boosters_hold_the_chosen_number_of_trees(fitted):
    assert {booster.num_trees() for booster in fitted.boosters_} == {fitted.trees_}
    assert fitted.trees_ == np.argmin(fitted.curve_) + 1


def test_the_raw_score_is_the_mean_of_the_boosters(fitted):
    x, _ = applicants(50, seed=2)
    each = [lightgbm.Booster(model_str=b.model_to_string()).predict(x, raw_score=True) for b in fitted.boosters_]
    assert np.allclose(fitted.decision_raw(x), np.mean(each, axis=0), rtol=0, atol=1e-12)


def test_the_same_seed_gives_the_same_scores_on_any_number_of_threads():
    x, y = applicants(1_000)
    single_threaded, two_threaded = (
        BaggedTrees(EstimatorConfig(**SMALL, threads=threads)).fit(x, y) for threads in (1, 2)
    )
    assert np.array_equal(single_threaded.predict_pd(x), two_threaded.predict_pd(x))


def test_probabilities_are_calibrated_on_rows_never_seen(fitted):
    x, y = applicants(20_000, seed=3)
    slope, intercept = fit_platt(fitted.slope_ * fitted.decision_raw(x) + fitted.intercept_, y, np.ones(len(y)))
    assert slope == pytest.approx(1, abs=0.15)
    assert intercept == pytest.approx(0, abs=0.15)


def test_a_gap_never_met_in_training_has_a_branch_of_its_own(fitted):
    x, _ = applicants(200, seed=4)
    gap, zero = x.copy(), x.copy()
    gap[:, 0], zero[:, 0] = np.nan, 0
    assert np.isfinite(fitted.predict_pd(gap)).all()
    assert not np.array_equal(fitted.decision_raw(gap), fitted.decision_raw(zero))


def test_every_row_is_scored_by_a_booster_that_did_not_see_it(fitted):
    x, y = applicants()
    seen = fitted.decision_raw(x)
    assert np.isfinite(fitted.raw_out_of_fold_).all()
    gap = [raw[y == 1].mean() - raw[y == 0].mean() for raw in (seen, fitted.raw_out_of_fold_)]
    assert gap[0] > gap[1]  # a row's own label pulls only the scores of boosters that saw it


def test_a_later_period_may_take_the_place_of_the_left_out_rows():
    x, y = applicants(1_000)
    later = applicants(1_000, seed=5)
    model = BaggedTrees(EstimatorConfig(**(SMALL | {"folds": 1, "repeats": 2}))).fit(x, y, valid=later)
    assert len(model.boosters_) == 2
    assert np.isnan(model.raw_out_of_fold_).all()
    assert model.slope_ > 0


def test_rows_of_one_group_are_left_out_together():
    x, y = applicants(600)
    x, y, groups = np.repeat(x, 2, axis=0), np.repeat(y, 2), np.repeat(np.arange(600), 2)
    model = BaggedTrees(EstimatorConfig(**SMALL)).fit(x, y, groups=groups)
    twins = model.raw_out_of_fold_.reshape(-1, 2)
    assert np.array_equal(twins[:, 0], twins[:, 1])


def test_a_row_of_weight_two_counts_in_calibration_as_two_rows():
    x, y = applicants(400)
    raw, twice = x[:, 0].astype(float), np.where(y == 1, 2.0, 1.0)
    doubled = np.concatenate([np.arange(400), np.flatnonzero(y == 1)])
    assert fit_platt(raw, y, twice) == pytest.approx(fit_platt(raw[doubled], y[doubled], np.ones(len(doubled))))


def test_progress_runs_to_the_end():
    seen = []
    x, y = applicants(300)
    BaggedTrees(EstimatorConfig(**SMALL)).fit(x, y, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (180, 180)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize(
    ("change", "output"),
    [
        ({"y": np.zeros(300)}, "must hold 0 .good. and 1 .bad., both"),
        ({"y": np.zeros(299)}, r"y \(299,\)"),
        ({"directions": [1]}, "each of the 3 columns"),
        ({"directions": [1, 2, 0]}, "one of -1, 0, 1"),
        ({"weight": np.full(300, -1.0)}, "weights must be 0 or more"),
        ({"y": np.arange(300) < 2}, "Only 2 rows are of the rarer class; 3 folds"),
    ],
)
def test_wrong_use_is_refused_in_a_sentence(change, output):
    x, y = applicants(300)
    with pytest.raises(ValueError, match=output):
        BaggedTrees(EstimatorConfig(**SMALL)).fit(**({"x": x, "y": y} | change))


def test_one_fold_without_a_later_period_is_refused():
    x, y = applicants(300)
    with pytest.raises(ValueError, match="Set folds to 2 or more"):
        BaggedTrees(EstimatorConfig(folds=1)).fit(x, y)


def test_scores_that_tell_nothing_are_refused():
    rng = np.random.default_rng(0)
    y = (rng.random(500) < 0.5).astype(float)
    with pytest.raises(ValueError, match="do not tell bad from good"):
        fit_platt(rng.normal(size=500) - y, y, np.ones(500))


def test_no_log_odds_overflow():
    assert sigmoid(np.array([-1e4, 0, 1e4])) == pytest.approx([0, 0.5, 1])


def test_platt_settles_on_scores_that_are_far_too_sure():
    """Newton's whole step overshoots there."""
    rng = np.random.default_rng(3)
    raw = np.r_[rng.normal(-14, 6, 4_000), rng.normal(16, 8, 300)]
    y = (rng.random(len(raw)) < sigmoid(0.45 * raw + 1.5)).astype(float)
    slope, intercept = fit_platt(raw, y, np.ones(len(y)))
    left = y - sigmoid(slope * raw + intercept)
    assert abs(left.sum()) < 1e-3
    assert abs((left * raw).sum()) < 1e-3
    assert slope == pytest.approx(0.45, abs=0.05)
