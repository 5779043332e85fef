"""Simulated tiles: the same from the same seed, of cells as the classes are defined, and not told apart by colour."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from datasets.errors import DataError
from datasets.slides.simulate import fields, render_cell
from datasets.slides.simulate.cell_types import CLASSES, HSIL, KINDS, LSIL, NILM, SCC


@pytest.fixture(scope="module")
def tiles():
    return fields.simulate_tiles(1_600, seed=3)


@pytest.fixture(scope="module")
def painted():
    """Sixty cells of each kind."""
    rng = np.random.default_rng(5)
    return {name: [render_cell.render(rng, kind, 0.5) for _ in range(60)] for name, kind in KINDS.items()}


def of_class(painted, label):
    return [cell for each in painted.values() for cell in each if cell.label == label]


def test_the_same_seed_paints_the_same_tiles_and_another_seed_others():
    first, again, other = (fields.simulate_tiles(60, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.images != other.images).any((1, 2, 3)).mean() > 0.9


def test_fewer_tiles_are_the_first_of_more():
    few, more = fields.simulate_tiles(60, seed=4), fields.simulate_tiles(110, seed=4)
    np.testing.assert_array_equal(few.images, more.images[:60])


def test_tiles_have_their_shape_and_every_slide_has_every_class(tiles):
    assert tiles.images.shape == (1_600, 128, 128, 3)
    assert tiles.images.dtype == np.uint8
    assert set(tiles.labels) == set(range(len(CLASSES)))
    assert all(set(tiles.labels[tiles.slides == slide]) == set(range(4)) for slide in np.unique(tiles.slides))


def test_a_finer_scale_shows_a_larger_nucleus():
    kind = KINDS["intermediate"]
    coarse, fine = (render_cell.render(np.random.default_rng(7), kind, mpp) for mpp in (0.5, 0.25))
    assert coarse.areas[0] == pytest.approx(fine.areas[0], rel=0.15)  # in um2
    assert (fine.nuclear_density > 0.2).sum() > 3 * (coarse.nuclear_density > 0.2).sum()


def test_the_nucleus_to_cell_ratio_grows_from_normal_to_high_grade(painted):
    normal, low, high = (np.median([each.ratio for each in of_class(painted, label)]) for label in (NILM, LSIL, HSIL))
    mature = np.median([each.ratio for each in painted["superficial"] + painted["intermediate"]])
    assert mature < 0.06 < low < 0.25
    assert normal < 0.2
    assert high > 0.45


def test_a_low_grade_nucleus_is_more_than_three_times_that_of_an_intermediate_cell(painted):
    intermediate = np.median([each.areas[0] for each in painted["intermediate"]])
    assert 30 < intermediate < 50  # um2
    assert np.median([each.areas[0] for each in of_class(painted, LSIL)]) > 3 * intermediate


def test_cancer_differs_most_from_cell_to_cell(painted):
    spread = {
        label: np.std(np.log([each.areas[1] for each in of_class(painted, label)])) for label in (LSIL, HSIL, SCC)
    }
    assert spread[SCC] > spread[LSIL]
    assert spread[SCC] > spread[HSIL]


def test_neighbouring_classes_overlap(painted):
    reactive = [each.areas[0] for each in painted["reactive"]]
    low_grade = [each.areas[0] for each in painted["low_grade"]]
    assert max(reactive) > min(low_grade)
    assert max(each.ratio for each in painted["metaplastic"]) > min(each.ratio for each in painted["high_grade"])


@pytest.mark.parametrize("label", ["any", *range(len(CLASSES))])
def test_mean_colour_does_not_tell_the_class(tiles, label):
    """By a split in which no slide is on both sides."""
    colour = tiles.images.mean((1, 2)) / 255
    positive = tiles.labels > 0 if label == "any" else tiles.labels == label
    learned = tiles.slides % 2 == 0
    model = LogisticRegression(C=100).fit(colour[learned], positive[learned])
    assert roc_auc_score(positive[~learned], model.decision_function(colour[~learned])) < 0.65


def test_stain_differs_from_slide_to_slide(tiles):
    glass = np.stack(
        [np.quantile(tiles.images[tiles.slides == slide], 0.95, (0, 1, 2)) for slide in np.unique(tiles.slides)]
    )
    assert glass.std(0).min() > 1
    first, second = (fields.Appearance.draw_random(np.random.default_rng(seed)).dyes for seed in (1, 2))
    assert np.abs(first - second).max() > 0.1


def test_overlapping_cells_are_darker():
    rng = np.random.default_rng(1)
    cell = render_cell.render(rng, KINDS["intermediate"], 0.5)
    item = fields.place_cell(rng, cell, 30.0, 30.0)
    single, double = (fields.render_field([item] * number, 0.5, 0, 0, 120, 120) for number in (1, 2))
    np.testing.assert_allclose(double, 2 * single, rtol=1e-6)


def test_a_cell_turned_eight_ways_keeps_its_nucleus_where_it_was_laid():
    rng = np.random.default_rng(2)
    cell = max(
        (render_cell.render(rng, KINDS["intermediate"], 0.5) for _ in range(20)), key=lambda each: sum(each.centre)
    )
    assert min(cell.centre) > 1  # else it would turn about its middle
    for turn in range(8):
        field = fields.render_field([fields.PlacedCell(30.0, 32.0, cell, turn, 1.0)], 0.5, 0, 0, 128, 128)
        y, x = np.argwhere(field[0] > 0.2).mean(0)
        assert np.hypot(x - 60, y - 64) < 3


@pytest.mark.parametrize("wrong", [{"n": 0}, {"side": 8}, {"mpp": 9.0}])
def test_tiles_that_cannot_be_are_refused(wrong):
    with pytest.raises(DataError, match="needed"):
        fields.simulate_tiles(**({"n": 5, "seed": 1} | wrong))
