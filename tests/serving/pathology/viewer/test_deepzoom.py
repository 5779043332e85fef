from __future__ import annotations

import asyncio
import io
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.slides import reader
from datasets.slides.errors import SlideError
from datasets.slides.reader import Level, Slide, SlideMetadata
from serving.core.http import caching
from serving.core.http.caching import etag_matches
from serving.pathology.viewer import deepzoom
from serving.pathology.viewer.colormap import to_rgba
from serving.pathology.viewer.deepzoom import TILE_SIZE, DeepZoom, Pyramid, SlideCache, read_region, render_heatmap_tile
from tests.datasets.slides.slide_files import CMU, painted


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
    left, top, across, down = pyramid.tile_box(last, right, bottom)
    assert (left + across, top + down) == (width, height)
    assert pyramid.tile_box(last, right + 1, 0) is None
    assert pyramid.tile_box(last, 0, bottom + 1) is None
    assert pyramid.tile_box(last + 1, 0, 0) is None


def test_the_last_level_put_together_is_the_slide(images):
    with reader.open_slide(CMU) as slide:
        whole = slide.read(0, 0, slide.metadata.size)
        pyramid = Pyramid(*slide.metadata.size)
    rows = []
    for y in range(12):
        rows.append(np.hstack([pixels(images.render_tile(CMU, None, pyramid.level_count - 1, x, y)) for x in range(9)]))
    found = np.vstack(rows)
    assert found.shape == whole.shape
    assert np.abs(found.astype(int) - whole).mean() < 4  # JPEG


def test_a_tile_outside_is_none_and_every_level_has_its_first(images):
    pyramid = Pyramid(2_220, 2_967)
    for level in range(pyramid.level_count):
        told = images.render_tile(CMU, None, level, 0, 0)
        assert Image.open(io.BytesIO(told)).size == pyramid.tile_box(level, 0, 0)[2:]
    assert images.render_tile(CMU, None, pyramid.level_count - 1, 9, 0) is None
    assert images.render_tile(CMU, None, 99, 0, 0) is None
    assert images.render_tile(CMU, None, 3, -1, 0) is None


def test_the_descriptor_is_what_openseadragon_reads():
    from xml.etree import ElementTree

    found = ElementTree.fromstring(Pyramid(2_220, 2_967).dzi("jpeg"))
    assert found.attrib == {"Format": "jpeg", "Overlap": "0", "TileSize": "256"}
    assert found[0].attrib == {"Width": "2220", "Height": "2967"}


def test_a_picture_for_a_report_keeps_its_shape_within_its_bounds(images):
    assert Image.open(io.BytesIO(asyncio.run(images.read_region(CMU, None, None, (600, 600))))).size == (449, 600)
    assert Image.open(io.BytesIO(asyncio.run(images.read_region(CMU, None, (100, 200, 128, 96))))).size == (128, 96)


def made(width: int, height: int) -> Slide:
    """One level only, seen as painted stripes; counts the pixels read at once and in all."""
    facts = SlideMetadata("generic-tiff", (Level(width, height, 1.0),))

    def read(x: int, y: int, size: tuple[int, int], level: int) -> np.ndarray:
        slide.most, slide.all = max(slide.most, size[0] * size[1]), slide.all + size[0] * size[1]
        stripe = ((np.arange(x, x + size[0]) * 2 // width) % 2).astype(np.uint8) * 200
        return np.broadcast_to(stripe[None, :, None], (size[1], size[0], 3)).copy()

    class Counted(Slide):
        most = all = 0

    slide = Counted(facts, read, lambda: None)
    return slide


@pytest.mark.parametrize("side", [3_000, 5_000, 40_000, 200_000])
def test_the_first_levels_of_a_slide_without_small_ones_are_made_in_bounded_memory_and_work(side):
    slide = made(side, side)
    found = read_region(slide, 0, 0, (side, side), (100, 100))
    assert found.shape == (100, 100, 3)
    assert slide.most <= deepzoom.MAX_DIRECT_PIXELS + 4 * side
    assert slide.all <= deepzoom.MAX_TILE_PIXELS * 1.1
    assert found[:, 5].max() < 10
    assert found[:, -5].min() > 190


def test_heat_colours_whole_cells_and_leaves_unread_ones_clear():
    values = np.array([[0.0, 1.0], [np.nan, 0.5]], np.float32)
    found = pixels(render_heatmap_tile(values, (100.0, 100.0), 1, (0, 0, 200, 150)))
    expected = to_rgba(values)
    assert (found[:100, :100] == expected[0, 0]).all()
    assert (found[:100, 100:] == expected[0, 1]).all()
    assert (found[100:, :100, 3] == 0).all()
    assert (found[100:, 100:] == expected[1, 1]).all()


def test_one_hot_cell_is_seen_from_however_far():
    values = np.full((600, 700), 0.01, np.float32)
    values[333, 421] = 0.99
    pyramid = Pyramid(700 * 128, 600 * 128)
    hot = to_rgba(np.float32([0.99]))[0]
    for level in range(pyramid.level_count):
        box = pyramid.tile_box(level, 0, 0)
        if box[2] < TILE_SIZE:
            found = pixels(render_heatmap_tile(values, (128.0, 128.0), pyramid.downsample(level), box))
            assert (found == hot).all(-1).any(), level


def test_tiles_of_heat_fit_together():
    values = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    extent = 31.7, 31.7
    whole = pixels(render_heatmap_tile(values, extent, 2, (0, 0, 512, 512)))
    parts = [[pixels(render_heatmap_tile(values, extent, 2, (x, y, 256, 256))) for x in (0, 256)] for y in (0, 256)]
    assert (np.vstack([np.hstack(row) for row in parts]) == whole).all()


def test_slides_are_closed_when_there_are_too_many_or_nobody_asks(tmp_path):
    slides = SlideCache(capacity=1, idle_seconds=0.3)
    names = []
    for at in range(2):
        names.append(tmp_path / f"{at}.png")
        Image.fromarray(painted(64, 48, at)).save(names[-1])
    with slides.lease(names[0], None) as first, slides.lease(names[1], None):
        assert len(slides) == 2  # one that is read is never closed
        first.slide.read(0, 0, (8, 8))
    assert len(slides) == 1
    deadline = time.monotonic() + 20
    while len(slides) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(slides) == 0
    slides.close()


def test_many_readers_of_one_slide_share_one_process(tmp_path):
    slides, found = SlideCache(), []

    def look() -> None:
        with slides.lease(CMU, None) as held:
            found.append(held)

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(each) for each in found}) == 1
    slides.close()


def test_a_slide_whose_process_died_is_opened_anew(images):
    with images.slide_cache.lease(CMU, None) as held:
        held.slide.close()
    with pytest.raises(SlideError):
        images.render_tile(CMU, None, 12, 0, 0)
    assert images.render_tile(CMU, None, 12, 0, 0)


def test_what_is_no_slide_is_refused_with_its_reason(images, tmp_path):
    path = Path(tmp_path / "a.svs")
    path.write_bytes(b"no slide")
    with pytest.raises(SlideError, match="a.svs"):
        images.render_tile(path, None, 0, 0, 0)


def test_a_browser_that_has_the_bytes_is_told_so():
    tag = caching.make_etag("slide", "model", 3)
    assert tag == caching.make_etag("slide", "model", 3) != caching.make_etag("slide", "model", 4)
    assert etag_matches(tag, tag)
    assert etag_matches(tag, f'"other", W/{tag}')
    assert etag_matches(tag, "*")
    assert not etag_matches(tag, '"other"')
    assert not etag_matches(tag, None)
