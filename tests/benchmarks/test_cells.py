"""The methods of the experiments on real cells and regions: operating point, stacking, measurements, heatmap."""

import numpy as np
import pytest

from benchmarks.quality import heatmap
from benchmarks.quality.herlev import morphometry
from benchmarks.quality.herlev.__main__ import specificity
from benchmarks.quality.herlev.networks import fold_sets
from benchmarks.quality.herlev.stack import ProductOfExperts, predict_stacked
from datasets.pathology import bcss, herlev
from datasets.slides.reader import open_slide
from training.evaluation.metrics import ScoreCounter


def cells(n=80, seed=0):
    """`n` cells whose nucleus grows with the class, two in each group, folds by group."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:200, :200] - 100
    label = np.arange(n) % 7
    masks = np.zeros((n, 200, 200), np.uint8)
    for mask, cell_class in zip(masks, label, strict=True):
        mask[np.hypot(y, 1.2 * x) < 80] = herlev.CYTOPLASM
        mask[np.hypot(y + 5, x) < 15 + 4 * cell_class] = herlev.NUCLEUS
    shade = np.array([[235, 230, 240], [180, 170, 200], [100, 60, 130], [0, 0, 0]])[masks]
    images = np.clip(shade + rng.normal(0, 6, shade.shape), 0, 255).astype(np.uint8)
    groups = np.arange(n) // 2
    return herlev.Cells(images, masks, label, groups, groups % 4)


def test_the_specificity_is_that_of_the_threshold_that_finds_19_of_20_positives():
    scores = np.r_[np.arange(20) / 10 + 1, np.linspace(0, 1.15, 10)]  # positives from 1.0; two normals above
    truth = np.r_[np.ones(20), np.zeros(10)].astype(int)
    values = specificity(ScoreCounter(scores, truth)(np.ones((1, 30))))
    assert values[0] == pytest.approx(np.mean(scores[20:] < 1.1))


def test_equal_scores_have_a_specificity_of_zero():
    values = specificity(ScoreCounter(np.ones(10), np.arange(10) % 2)(np.ones((2, 10))))
    assert values.tolist() == [0, 0]


def test_an_uninformative_base_model_gets_almost_no_weight():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    informative = 0.7 * np.eye(3)[labels] + 0.1
    random = rng.dirichlet(np.ones(3), 400)
    product = ProductOfExperts.fit(np.stack([informative, random], 1), labels)
    assert product.weights[0] > 10 * product.weights[1]
    assert product.predict(np.stack([informative, random], 1)).sum(1) == pytest.approx(1)


def test_no_base_model_predicts_a_fold_that_it_was_trained_on():
    sample = cells()
    calls = []

    def base_model(folds):
        calls.append(folds)
        probabilities = np.full((len(sample), 7), np.nan)  # NaN for the training folds
        probabilities[~np.isin(sample.folds, folds)] = 1 / 7
        return probabilities

    stacked = predict_stacked({"base": base_model}, sample)
    assert np.isfinite(stacked.class_probabilities).all()
    assert sorted(calls) == sorted(fold_sets())  # each once


def test_measurements_grow_with_the_nucleus_and_do_not_depend_on_the_lamp():
    sample = cells(14)
    features = morphometry.measure(sample)
    assert np.isfinite(features).all()
    assert (np.diff(features[:7, 0]) > 0).all()
    images = np.rint(sample.images * 0.9).astype(np.uint8)
    dimmed = herlev.Cells(images, sample.masks, sample.label7, sample.groups, sample.folds)
    assert np.abs(morphometry.measure(dimmed)[:, 14] - features[:, 14]).max() < 0.02  # density of the nucleus


def test_a_region_written_as_a_slide_is_read_at_its_scale_and_its_heatmap_finds_the_tumour(tmp_path):
    rng = np.random.default_rng(0)
    tumour = np.zeros((1_024, 1_536), bool)
    tumour[:512, :768] = True
    image = np.where(tumour[..., None], [120, 60, 140], [230, 190, 215]) + rng.integers(-9, 9, (1_024, 1_536, 3))
    region = bcss.Region("simulated", image.astype(np.uint8), tumour)
    with open_slide(heatmap.write_pyramid(region, tmp_path / "simulated.tiff")) as slide:
        assert slide.metadata.mpp == pytest.approx((0.25, 0.25), rel=1e-3)
        assert len(slide.metadata.levels) == heatmap.PYRAMID_LEVELS
        grid = heatmap.overlapping_grid(slide)
        assert np.array_equal(slide.read(256, 256, (64, 64)), region.image[256:320, 256:320])
    share = heatmap.tumour_shares(region, grid)
    assert heatmap.pixel_auc(heatmap.build_heatmap(share, grid), region, grid).value > 0.98
    assert heatmap.pixel_auc(heatmap.build_heatmap(1 - share, grid), region, grid).value < 0.02
