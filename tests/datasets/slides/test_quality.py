"""Tiles out of focus, empty or under ink are told apart, and a slide of them is sent back."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from datasets.slides import quality, tiling, tissue
from datasets.slides.reader import open_slide
from tests.datasets.slides.slide_files import CMU


@pytest.fixture(scope="module")
def tiles():
    with open_slide(CMU) as slide:
        covered = tiling.tile_grid(slide.metadata, tissue.find_tissue(slide))
        return np.concatenate([batch for _, batch in tiling.read_tiles(slide, covered, 16)])


def blurred(tiles, radius):
    return np.stack([np.asarray(Image.fromarray(tile).filter(ImageFilter.GaussianBlur(radius))) for tile in tiles])


def test_a_real_slide_in_focus_is_fit(tiles):
    reasons = quality.assess_tiles(tiles)
    assert (reasons == "").mean() > 0.95
    assert quality.assess_slide(reasons, 0.3) == ()


def test_the_same_slide_out_of_focus_is_sent_back(tiles):
    reasons = quality.assess_tiles(blurred(tiles, 3))
    assert (reasons == quality.FOCUS).mean() > 0.9
    assert [each.code for each in quality.assess_slide(reasons, 0.3)] == ["out_of_focus"]


def test_more_blur_never_looks_sharper(tiles):
    sharp = [quality.focus_measure(quality.to_grey(blurred(tiles, radius))) for radius in (0, 1, 2, 4)]
    assert all((fine > coarse).mean() > 0.95 for fine, coarse in zip(sharp, sharp[1:], strict=False))


def test_a_paler_stain_is_not_taken_for_blur(tiles):
    pale = (245 - (245 - tiles.astype(float)) * 0.4).clip(0, 255).astype(np.uint8)
    assert (quality.assess_tiles(pale) == quality.FOCUS).mean() < 0.05


def test_empty_glass_is_blank_and_not_out_of_focus():
    glass = np.random.default_rng(0).integers(241, 246, (3, 224, 224, 3)).astype(np.uint8)
    reasons = quality.assess_tiles(glass)
    assert list(reasons) == [quality.BLANK] * 3
    assert [each.code for each in quality.assess_slide(reasons, 0.0)] == ["all_background"]


@pytest.mark.parametrize("colour", [(20, 60, 200), (10, 160, 60), (0, 140, 170), (25, 25, 30)])
def test_a_stroke_of_ink_is_seen(tiles, colour):
    marked = tiles.copy()
    marked[:, 60:120] = colour
    reasons = quality.assess_tiles(marked)
    assert (reasons == quality.PEN).all()
    assert [each.code for each in quality.assess_slide(reasons, 0.3)] == ["pen_marks"]


def test_a_turned_tile_is_judged_alike(tiles):
    turned = np.ascontiguousarray(np.rot90(tiles, axes=(1, 2)))
    np.testing.assert_array_equal(quality.assess_tiles(turned), quality.assess_tiles(tiles))
