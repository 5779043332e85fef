"""What the figures on real cells and regions are made with: the curve's point, the product of parts, measures, heat."""

import numpy as np
import pytest

from benchmarks import heatmap
from benchmarks.herlev import morphometry
from benchmarks.herlev.__main__ import specificity
from benchmarks.herlev.networks import fold_sets
from benchmarks.herlev.stack import ProductOfExperts, predict_stacked
from datasets.pathology import bcss, herlev
from datasets.slides.reader import open_slide
from training.evaluation.metrics import ScoreCounter


def cells(n=80, seed=0):
    """Cells whose nucleus grows with the class: `n` of them, two to a group, folds by group."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:200, :200] - 100
    label = np.arange(n) % 7
    masks = np.zeros((n, 200, 200), np.uint8)
    for mask, one in zip(masks, label, strict=True):
        mask[np.hypot(y, 1.2 * x) < 80] = herlev.CYTOPLASM
        mask[np.hypot(y + 5, x) < 15 + 4 * one] = herlev.NUCLEUS
    shade = np.array([[235, 230, 240], [180, 170, 200], [100, 60, 130], [0, 0, 0]])[masks]
    images = np.clip(shade + rng.normal(0, 6, shade.shape), 0, 255).astype(np.uint8)
    groups = np.arange(n) // 2
    return herlev.Cells(images, masks, label, groups, groups % 4)


def test_the_specificity_is_read_where_19_of_20_positives_are_found():
    scores = np.r_[np.arange(20) / 10 + 1, np.linspace(0, 1.15, 10)]  # positives from 1.0; two normals above
    truth = np.r_[np.ones(20), np.zeros(10)].astype(int)
    found = specificity(ScoreCounter(scores, truth)(np.ones((1, 30))))
    assert found[0] == pytest.approx(np.mean(scores[20:] < 1.1))


def test_scores_that_are_all_the_same_have_no_specificity():
    found = specificity(ScoreCounter(np.ones(10), np.arange(10) % 2)(np.ones((2, 10))))
    assert found.tolist() == [0, 0]


def test_a_part_that_knows_nothing_gets_next_to_no_weight():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    knows = 0.7 * np.eye(3)[labels] + 0.1
    guesses = rng.dirichlet(np.ones(3), 400)
    product = ProductOfExperts.fit(np.stack([knows, guesses], 1), labels)
    assert product.weights[0] > 10 * product.weights[1]
    assert product.predict(np.stack([knows, guesses], 1)).sum(1) == pytest.approx(1)


def test_no_part_is_asked_of_a_fold_that_it_learned_from():
    some = cells()
    asked = []

    def part(folds):
        asked.append(folds)
        said = np.full((len(some), 7), np.nan)  # of a fold that was learned from: a figure would be no number
        said[~np.isin(some.folds, folds)] = 1 / 7
        return said

    found = predict_stacked({"one": part}, some)
    assert np.isfinite(found.class_probabilities).all()
    assert sorted(asked) == sorted(fold_sets())  # each once


def test_measures_tell_a_larger_nucleus_and_do_not_tell_a_brighter_lamp():
    some = cells(14)
    found = morphometry.measure(some)
    assert np.isfinite(found).all()
    assert (np.diff(found[:7, 0]) > 0).all()
    dimmed = herlev.Cells(np.rint(some.images * 0.9).astype(np.uint8), some.masks, some.label7, some.groups, some.folds)
    assert np.abs(morphometry.measure(dimmed)[:, 14] - found[:, 14]).max() < 0.02  # the nucleus's density


def test_a_region_written_as_a_slide_is_read_at_its_scale_and_lights_up_where_it_should(tmp_path):
    rng = np.random.default_rng(0)
    tumour = np.zeros((1_024, 1_536), bool)
    tumour[:512, :768] = True
    image = np.where(tumour[..., None], [120, 60, 140], [230, 190, 215]) + rng.integers(-9, 9, (1_024, 1_536, 3))
    region = bcss.Region("painted", image.astype(np.uint8), tumour)
    with open_slide(heatmap.write_pyramid(region, tmp_path / "painted.tiff")) as slide:
        assert slide.metadata.mpp == pytest.approx((0.25, 0.25), rel=1e-3)
        assert len(slide.metadata.levels) == heatmap.PYRAMID_LEVELS
        grid = heatmap.overlapping_grid(slide)
        assert np.array_equal(slide.read(256, 256, (64, 64)), region.image[256:320, 256:320])
    share = heatmap.tumour_shares(region, grid)
    assert heatmap.pixel_auc(heatmap.build_heatmap(share, grid), region, grid).value > 0.98
    assert heatmap.pixel_auc(heatmap.build_heatmap(1 - share, grid), region, grid).value < 0.02
