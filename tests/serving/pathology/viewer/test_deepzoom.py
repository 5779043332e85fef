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
from datasets.slides.errors import SlideRefused
from datasets.slides.reader import Facts, Level, Slide
from serving.core.http import caching
from serving.core.http.caching import matches
from serving.pathology.viewer import deepzoom
from serving.pathology.viewer.colormap import colours
from serving.pathology.viewer.deepzoom import TILE, DeepZoom, OpenSlides, Pyramid, heat_tile, region
from tests.datasets.slides.slide_files import CMU, painted


@pytest.fixture
def images():
    images = DeepZoom(threads=2, most=2, idle=60)
    yield images
    images.close()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@given(st.integers(1, 300_000), st.integers(1, 300_000))
def test_levels_follow_deep_zooms_rule_down_to_one_pixel(width, height):
    pyramid = Pyramid(width, height)
    assert pyramid.box(0, 0, 0) == (0, 0, 1, 1)
    last = pyramid.levels - 1
    assert pyramid.shrink(last) == 1
    assert 2 ** (last - 1) < max(width, height) <= 2**last or max(width, height) == 1
    right, bottom = (width - 1) // TILE, (height - 1) // TILE
    left, top, across, down = pyramid.box(last, right, bottom)
    assert (left + across, top + down) == (width, height)
    assert pyramid.box(last, right + 1, 0) is None
    assert pyramid.box(last, 0, bottom + 1) is None
    assert pyramid.box(last + 1, 0, 0) is None


def test_the_last_level_put_together_is_the_slide(images):
    with reader.open_slide(CMU) as slide:
        whole = slide.read(0, 0, slide.facts.size)
        pyramid = Pyramid(*slide.facts.size)
    rows = []
    for y in range(12):
        rows.append(np.hstack([pixels(images.read(CMU, None, pyramid.levels - 1, x, y)) for x in range(9)]))
    found = np.vstack(rows)
    assert found.shape == whole.shape
    assert np.abs(found.astype(int) - whole).mean() < 4  # JPEG


def test_a_tile_outside_is_none_and_every_level_has_its_first(images):
    pyramid = Pyramid(2_220, 2_967)
    for level in range(pyramid.levels):
        told = images.read(CMU, None, level, 0, 0)
        assert Image.open(io.BytesIO(told)).size == pyramid.box(level, 0, 0)[2:]
    assert images.read(CMU, None, pyramid.levels - 1, 9, 0) is None
    assert images.read(CMU, None, 99, 0, 0) is None
    assert images.read(CMU, None, 3, -1, 0) is None


def test_the_descriptor_is_what_openseadragon_reads():
    from xml.etree import ElementTree

    found = ElementTree.fromstring(Pyramid(2_220, 2_967).dzi("jpeg"))
    assert found.attrib == {"Format": "jpeg", "Overlap": "0", "TileSize": "256"}
    assert found[0].attrib == {"Width": "2220", "Height": "2967"}


def test_a_picture_for_a_report_keeps_its_shape_within_its_bounds(images):
    assert Image.open(io.BytesIO(asyncio.run(images.picture(CMU, None, None, (600, 600))))).size == (449, 600)
    assert Image.open(io.BytesIO(asyncio.run(images.picture(CMU, None, (100, 200, 128, 96))))).size == (128, 96)


def made(width: int, height: int) -> Slide:
    """One level only, seen as painted stripes; counts the pixels read at once and in all."""
    facts = Facts("generic-tiff", (Level(width, height, 1.0),))

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
    found = region(slide, 0, 0, (side, side), (100, 100))
    assert found.shape == (100, 100, 3)
    assert slide.most <= deepzoom.WHOLE + 4 * side
    assert slide.all <= deepzoom.DENSE * 1.1
    assert found[:, 5].max() < 10
    assert found[:, -5].min() > 190


def test_heat_colours_whole_cells_and_leaves_unread_ones_clear():
    values = np.array([[0.0, 1.0], [np.nan, 0.5]], np.float32)
    found = pixels(heat_tile(values, (100.0, 100.0), 1, (0, 0, 200, 150)))
    expected = colours(values)
    assert (found[:100, :100] == expected[0, 0]).all()
    assert (found[:100, 100:] == expected[0, 1]).all()
    assert (found[100:, :100, 3] == 0).all()
    assert (found[100:, 100:] == expected[1, 1]).all()


def test_one_hot_cell_is_seen_from_however_far():
    values = np.full((600, 700), 0.01, np.float32)
    values[333, 421] = 0.99
    pyramid = Pyramid(700 * 128, 600 * 128)
    hot = colours(np.float32([0.99]))[0]
    for level in range(pyramid.levels):
        box = pyramid.box(level, 0, 0)
        if box[2] < TILE:
            found = pixels(heat_tile(values, (128.0, 128.0), pyramid.shrink(level), box))
            assert (found == hot).all(-1).any(), level


def test_tiles_of_heat_fit_together():
    values = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    extent = 31.7, 31.7
    whole = pixels(heat_tile(values, extent, 2, (0, 0, 512, 512)))
    parts = [[pixels(heat_tile(values, extent, 2, (x, y, 256, 256))) for x in (0, 256)] for y in (0, 256)]
    assert (np.vstack([np.hstack(row) for row in parts]) == whole).all()


def test_slides_are_closed_when_there_are_too_many_or_nobody_asks(tmp_path):
    slides = OpenSlides(most=1, idle=0.3)
    names = []
    for at in range(2):
        names.append(tmp_path / f"{at}.png")
        Image.fromarray(painted(64, 48, at)).save(names[-1])
    with slides.use(names[0], None) as first, slides.use(names[1], None):
        assert len(slides) == 2  # one that is read is never closed
        first.slide.read(0, 0, (8, 8))
    assert len(slides) == 1
    deadline = time.monotonic() + 20
    while len(slides) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(slides) == 0
    slides.close()


def test_many_readers_of_one_slide_share_one_process(tmp_path):
    slides, found = OpenSlides(), []

    def look() -> None:
        with slides.use(CMU, None) as held:
            found.append(held)

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(each) for each in found}) == 1
    slides.close()


def test_a_slide_whose_process_died_is_opened_anew(images):
    with images.slides.use(CMU, None) as held:
        held.slide.close()
    with pytest.raises(SlideRefused):
        images.read(CMU, None, 12, 0, 0)
    assert images.read(CMU, None, 12, 0, 0)


def test_what_is_no_slide_is_refused_with_its_reason(images, tmp_path):
    path = Path(tmp_path / "a.svs")
    path.write_bytes(b"no slide")
    with pytest.raises(SlideRefused, match="a.svs"):
        images.read(path, None, 0, 0, 0)


def test_a_browser_that_has_the_bytes_is_told_so():
    tag = caching.etag("slide", "model", 3)
    assert tag == caching.etag("slide", "model", 3) != caching.etag("slide", "model", 4)
    assert matches(tag, tag)
    assert matches(tag, f'"other", W/{tag}')
    assert matches(tag, "*")
    assert not matches(tag, '"other"')
    assert not matches(tag, None)
