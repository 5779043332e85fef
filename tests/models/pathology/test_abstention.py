"""No answer where the model knows nothing, and sets that keep their promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.pathology.abstention import ConformalClassifier, KnnOodDetector
from models.pathology.onnx_sessions import TileGraph

ABNORMAL = np.array([2])


def by_group(cells, fold):
    """Rows to know, rows to calibrate on, rows held out: no group in two of them."""
    learn, judge = np.flatnonzero(cells.folds != fold), np.flatnonzero(cells.folds == fold)
    groups = np.random.default_rng(0).permutation(np.unique(cells.groups[learn]))
    retained = np.isin(cells.groups[learn], groups[: len(groups) // 3])
    return learn[~retained], learn[retained], judge


@pytest.mark.parametrize("fold", range(4))
def test_nine_of_ten_colon_tiles_are_unknown_at_5_per_cent_false_alarms(fold, cells, embeddings, frozen, colon_tiles):
    know, calibration, judge = by_group(cells, fold)
    familiar = KnnOodDetector.fit(embeddings[know], embeddings[calibration])
    assert familiar.is_ood(TileGraph(frozen).run(colon_tiles).embedding).mean() >= 0.9
    assert familiar.is_ood(embeddings[calibration]).mean() <= 0.05
    assert familiar.is_ood(embeddings[judge]).mean() <= 0.08  # 5 % on average over folds


def test_false_alarms_are_5_per_cent_on_average_over_the_folds(cells, embeddings):
    alarms = []
    for fold in range(4):
        know, calibration, judge = by_group(cells, fold)
        alarms.append(KnnOodDetector.fit(embeddings[know], embeddings[calibration]).is_ood(embeddings[judge]).mean())
    assert np.mean(alarms) <= 0.055


@given(st.floats(0.1, 100), st.integers(0, 5))
def test_a_known_tile_is_at_no_distance_however_bright(factor, seed):
    known = np.random.default_rng(seed).normal(size=(40, 8))
    familiar = KnnOodDetector.fit(np.repeat(known, 5, 0), known)
    assert np.abs(familiar.distance(known * factor)).max() < 1e-5


def test_an_embedding_that_is_no_number_is_unknown():
    known = np.random.default_rng(0).normal(size=(40, 8))
    assert KnnOodDetector.fit(known, known).is_ood(np.full((2, 8), np.nan)).all()


def test_too_few_tiles_promise_nothing():
    with pytest.raises(ValueError, match="40 tiles to know and 10 to calibrate on.*19 are needed"):
        KnnOodDetector.fit(np.ones((40, 8)), np.ones((10, 8)))


@given(st.integers(0, 20), st.sampled_from([0.05, 0.1, 0.3]))
def test_each_class_keeps_its_promise(seed, alpha):
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, 9_000, p=[0.6, 0.3, 0.1])
    logits = rng.normal(size=(9_000, 3)) + 1.5 * np.eye(3)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    sets = ConformalClassifier.fit(probabilities[:4_500], labels[:4_500], alpha).prediction_sets(probabilities[4_500:])
    for label in range(3):
        holdout = labels[4_500:] == label
        noise = np.sqrt(alpha / holdout.sum() + alpha / (labels[:4_500] == label).sum())  # of both halves
        assert sets[holdout, label].mean() >= 1 - alpha - 4 * noise


def test_a_class_too_rare_for_a_promise_is_always_possible():
    sets = ConformalClassifier.fit(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])).prediction_sets(
        np.array([[1.0, 0.0]])
    )
    assert sets.all()


def test_a_set_on_both_sides_or_empty_decides_nothing():
    conformal = ConformalClassifier((0.3, 0.3, 0.3))
    rows = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.4, 0.1, 0.5], [0.29, 0.29, 0.29], [0.45, 0.45, 0.1]])
    assert conformal.is_undecided(rows, ABNORMAL).tolist() == [False, False, True, True, False]
