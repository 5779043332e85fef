from __future__ import annotations

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.slides import reader
from datasets.slides.decoding.metadata import Level, SlideMetadata
from datasets.slides.errors import SlideError
from datasets.slides.reader import Slide
from serving.pathology.viewer import deepzoom
from serving.pathology.viewer.colormap import to_rgba
from serving.pathology.viewer.deepzoom import TILE_SIZE, DeepZoom, Pyramid, read_region, render_heatmap_tile
from tests.datasets.slides.slide_files import CMU


@pytest.fixture
def images():
    images = DeepZoom(threads=2, max_open_slides=2, idle_seconds=60)
    yield images
    images.close()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@given(st.integers(1, 300_000), st.integers(1, 300_000))
def test_levels_follow_deep_zooms_rule_down_to_one_pixel(width, height):
    pyramid = Pyramid(width, height)
    assert pyramid.tile_box(0, 0, 0) == (0, 0, 1, 1)
    last = pyramid.level_count - 1
    assert pyramid.downsample(last) == 1
    assert 2 ** (last - 1) < max(width, height) <= 2**last or max(width, height) == 1
    right, bottom = (width - 1) // TILE_SIZE, (height - 1) // TILE_SIZE
    left, top, tile_width, tile_height = pyramid.tile_box(last, right, bottom)
    assert (left + tile_width, top + tile_height) == (width, height)
    assert pyramid.tile_box(last, right + 1, 0) is None
    assert pyramid.tile_box(last, 0, bottom + 1) is None
    assert pyramid.tile_box(last + 1, 0, 0) is None


def test_the_tiles_of_the_last_level_make_up_the_slide(images):
    with reader.open_slide(CMU) as slide:
        slide_pixels = slide.read(0, 0, slide.metadata.size)
        pyramid = Pyramid(*slide.metadata.size)
    rows = []
    for y in range(12):
        rows.append(np.hstack([pixels(images.render_tile(CMU, None, pyramid.level_count - 1, x, y)) for x in range(9)]))
    tiles = np.vstack(rows)
    assert tiles.shape == slide_pixels.shape
    assert np.abs(tiles.astype(int) - slide_pixels).mean() < 4  # JPEG


def test_every_level_has_a_first_tile_and_tiles_outside_are_none(images):
    pyramid = Pyramid(2_220, 2_967)
    for level in range(pyramid.level_count):
        tile_bytes = images.render_tile(CMU, None, level, 0, 0)
        assert Image.open(io.BytesIO(tile_bytes)).size == pyramid.tile_box(level, 0, 0)[2:]
    assert images.render_tile(CMU, None, pyramid.level_count - 1, 9, 0) is None
    assert images.render_tile(CMU, None, 99, 0, 0) is None
    assert images.render_tile(CMU, None, 3, -1, 0) is None


def test_the_descriptor_is_what_openseadragon_reads():
    from xml.etree import ElementTree

    descriptor = ElementTree.fromstring(Pyramid(2_220, 2_967).dzi("jpeg"))
    assert descriptor.attrib == {"Format": "jpeg", "Overlap": "0", "TileSize": "256"}
    assert descriptor[0].attrib == {"Width": "2220", "Height": "2967"}


def test_a_region_keeps_its_aspect_ratio_within_the_maximum_size(images):
    assert Image.open(io.BytesIO(asyncio.run(images.read_region("a", CMU, None, None, (600, 600))))).size == (449, 600)
    assert Image.open(io.BytesIO(asyncio.run(images.read_region("a", CMU, None, (100, 200, 128, 96))))).size == (
        128,
        96,
    )


def make_striped_slide(width: int, height: int) -> Slide:
    """A slide with a single level of stripes, which counts the pixels read per call and in total."""
    facts = SlideMetadata("generic-tiff", (Level(width, height, 1.0),))

    def read(x: int, y: int, size: tuple[int, int], level: int) -> np.ndarray:
        slide.max_read, slide.pixels_read = (
            max(slide.max_read, size[0] * size[1]),
            slide.pixels_read + size[0] * size[1],
        )
        stripe = ((np.arange(x, x + size[0]) * 2 // width) % 2).astype(np.uint8) * 200
        return np.broadcast_to(stripe[None, :, None], (size[1], size[0], 3)).copy()

    class Counted(Slide):
        max_read = pixels_read = 0

    slide = Counted(facts, read, lambda: None)
    return slide


@pytest.mark.parametrize("side", [3_000, 5_000, 40_000, 200_000])
def test_low_levels_of_a_slide_without_a_pyramid_are_read_in_bounded_memory(side):
    slide = make_striped_slide(side, side)
    region = read_region(slide, 0, 0, (side, side), (100, 100))
    assert region.shape == (100, 100, 3)
    assert slide.max_read <= deepzoom.MAX_DIRECT_PIXELS + 4 * side
    assert slide.pixels_read <= deepzoom.MAX_TILE_PIXELS * 1.1
    assert region[:, 5].max() < 10
    assert region[:, -5].min() > 190


def test_a_heatmap_colours_cells_and_leaves_unread_ones_transparent():
    values = np.array([[0.0, 1.0], [np.nan, 0.5]], np.float32)
    tile = pixels(render_heatmap_tile(values, (100.0, 100.0), 1, (0, 0, 200, 150)))
    expected = to_rgba(values)
    assert (tile[:100, :100] == expected[0, 0]).all()
    assert (tile[:100, 100:] == expected[0, 1]).all()
    assert (tile[100:, :100, 3] == 0).all()
    assert (tile[100:, 100:] == expected[1, 1]).all()


def test_a_single_high_cell_is_visible_at_every_level():
    values = np.full((600, 700), 0.01, np.float32)
    values[333, 421] = 0.99
    pyramid = Pyramid(700 * 128, 600 * 128)
    hot = to_rgba(np.float32([0.99]))[0]
    for level in range(pyramid.level_count):
        box = pyramid.tile_box(level, 0, 0)
        if box[2] < TILE_SIZE:
            tile = pixels(render_heatmap_tile(values, (128.0, 128.0), pyramid.downsample(level), box))
            assert (tile == hot).all(-1).any(), level


def test_heatmap_tiles_adjoin_without_seams():
    values = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    extent = 31.7, 31.7
    slide_pixels = pixels(render_heatmap_tile(values, extent, 2, (0, 0, 512, 512)))
    parts = [[pixels(render_heatmap_tile(values, extent, 2, (x, y, 256, 256))) for x in (0, 256)] for y in (0, 256)]
    assert (np.vstack([np.hstack(row) for row in parts]) == slide_pixels).all()


def test_a_slide_whose_process_died_is_opened_again(images):
    with images.slide_cache.lease(CMU, None) as open_slide:
        open_slide.slide.close()
    with pytest.raises(SlideError):
        images.render_tile(CMU, None, 12, 0, 0)
    assert images.render_tile(CMU, None, 12, 0, 0)


def test_a_file_that_is_no_slide_is_refused_with_its_reason(images, tmp_path):
    path = Path(tmp_path / "a.svs")
    path.write_bytes(b"no slide")
    with pytest.raises(SlideError, match="a.svs"):
        images.render_tile(path, None, 0, 0, 0)
