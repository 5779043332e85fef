"""The tissue is found, and covered by the same tiles whatever the format."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets.slides import sandbox, tiling, tissue
from datasets.slides.decoding.metadata import Level, SlideMetadata
from datasets.slides.errors import SlideError
from datasets.slides.reader import Slide, open_slide, read_scaled
from datasets.slides.tiling import GridConfig, read_tiles_at, scan_order, tile_grid
from datasets.slides.tissue import Tissue, find_tissue
from tests.datasets.slides.slide_files import CMU, jpeg, kfb, one_image, painted, tiled

KIDNEY = Path(os.environ.get("YUHENG_DATA", "/nowhere")) / "pathology" / "slides" / "kidney-48-5.tif"
SMALL = GridConfig(mpp=1.0, tile_size=64)


def from_pixels(pixels, mpp=(0.5, 0.5)):
    """A slide of one level from an array."""
    height, width = pixels.shape[:2]

    def read(x, y, size, level):
        padded = np.full((size[1], size[0], 3), 255, np.uint8)
        region = pixels[max(y, 0) : y + size[1], max(x, 0) : x + size[0]]
        padded[: region.shape[0], : region.shape[1]] = region
        return padded

    return Slide(SlideMetadata("array", (Level(width, height, 1.0),), mpp), read, lambda: None)


def test_the_mask_is_where_the_stain_is():
    result = tissue.find_tissue(from_pixels(painted(2_000, 1_600)))
    height, width = result.mask.shape
    y, x = np.mgrid[:height, :width]
    inside = ((x + 0.5) / width * 2 - 1) ** 2 + ((y + 0.5) / height * 2 - 1) ** 2 < 0.25
    assert (result.mask == inside).mean() > 0.98


def test_empty_glass_has_no_tissue():
    noise = np.random.default_rng(0).integers(240, 246, (800, 800, 3)).astype(np.uint8)
    assert tissue.find_tissue(from_pixels(noise)).share == 0


def test_pale_tissue_beside_dark_is_not_left_out():
    pixels = np.full((1_600, 1_600, 3), 245, np.uint8)
    pixels[200:600, 200:600] = (240, 205, 225)  # chroma 35
    pixels[1_000:1_400, 1_000:1_400] = (150, 20, 130)
    result = tissue.find_tissue(from_pixels(pixels))
    assert result.share == pytest.approx(2 * 400**2 / 1_600**2, rel=0.15)


@pytest.mark.skipif(not KIDNEY.is_file(), reason="YUHENG_DATA names no folder with pathology/slides")
def test_one_small_piece_of_a_biopsy_is_found_on_an_empty_slide():
    with open_slide(KIDNEY, mpp=0.5) as slide:
        result = tissue.find_tissue(slide)
        tiles = tiling.tile_grid(slide.metadata, result, GridConfig(min_tissue=0.01))
        complete = slide.read(0, 0, slide.metadata.size)
    chroma = complete.max(-1).astype(int) - complete.min(-1)
    y, x = (axis.mean() for axis in np.nonzero(chroma > 20))
    assert 0 < result.share < 0.02
    assert 1 <= len(tiles) <= 4
    assert any(left <= x < left + 224 and top <= y < top + 224 for left, top in tiles.positions)


def test_the_same_slide_has_the_same_tiles_in_every_format(tmp_path):
    pixels = painted(1_400, 1_000)
    (tmp_path / "a.tif").write_bytes(tiled(pixels, levels=3))
    (tmp_path / "b.kfb").write_bytes(kfb(pixels, levels=2))
    Image.fromarray(pixels).save(tmp_path / "c.png")
    result = []
    for name in ("a.tif", "b.kfb", "c.png"):
        with open_slide(tmp_path / name, mpp=0.5) as slide:
            result.append(tiling.tile_grid(slide.metadata, tissue.find_tissue(slide), SMALL).positions)
    np.testing.assert_array_equal(result[0], result[1])
    np.testing.assert_array_equal(result[0], result[2])


def test_tiles_have_their_scale_and_stand_in_rows():
    with open_slide(CMU) as slide:
        tiles = tiling.tile_grid(slide.metadata, tissue.find_tissue(slide))
        assert tiles.extent == pytest.approx((224 * 0.5 / 0.499,) * 2)
        assert [tuple(cell)[::-1] for cell in tiles.cells] == sorted(tuple(cell)[::-1] for cell in tiles.cells)
        batches = list(tiling.read_tiles(slide, tiles, batch=32, indices=range(40)))
        assert [len(numbers) for numbers, _ in batches] == [32, 8]
        assert batches[0][1].shape == (32, 224, 224, 3)


@settings(max_examples=60)
@given(
    st.integers(1, 3_000),
    st.integers(1, 3_000),
    st.floats(0.1, 0.6),
    st.integers(16, 512),
    st.integers(0, 2**32 - 1),
)
def test_a_grid_covers_every_stained_place_once(width, height, mpp, tile, seed):
    facts = SlideMetadata("any", (Level(width, height, 1.0),), (mpp, mpp))
    mask = np.random.default_rng(seed).random((40, 50)) < 0.1
    result = Tissue(mask, (width / 50, height / 40), 20.0)
    tiles = tiling.tile_grid(facts, result, GridConfig(tile_size=tile, min_tissue=1e-9))
    size = np.array(tiles.extent)
    assert len({tuple(cell) for cell in tiles.cells}) == len(tiles)
    assert np.abs(tiles.positions - tiles.cells * size).max(initial=0) <= 0.5
    for row, column in np.argwhere(mask):
        expected_cell = ((np.array([column, row]) + 0.5) * result.downsample / size).astype(int)
        assert tuple(expected_cell) in {tuple(cell) for cell in tiles.cells}


def test_without_a_scale_or_with_too_coarse_a_one_there_are_no_tiles():
    result = Tissue(np.ones((4, 4), bool), (16.0, 16.0), 20.0)
    level = (Level(64, 64, 1.0),)
    for mpp, code in ((None, "no_scale"), ((2.0, 2.0), "too_coarse")):
        with pytest.raises(SlideError) as refused:
            tiling.tile_grid(SlideMetadata("any", level, mpp), result)
        assert refused.value.codes == (code,)


def test_a_scaled_region_is_the_average_of_its_pixels():
    pixels = painted(512, 512)
    slide = from_pixels(pixels)
    expected = pixels[100:300, 60:260].reshape(50, 4, 50, 4, 3).mean((1, 3))
    assert np.abs(read_scaled(slide, 60, 100, (200, 200), (50, 50)) - expected).max() <= 1


def test_memory_does_not_grow_with_the_slide(tmp_path):
    """A slide of 100,000 x 80,000 pixels with one tile stored, read wherever there is a tile to read."""
    stored, tiles = jpeg(painted(128, 128)), 782 * 625
    table = {"offsets": [16] + [0] * (tiles - 1), "counts": [len(stored)] + [0] * (tiles - 1)}
    scale = {"resolution": [10_000_000, 250], "unit": 3}
    (tmp_path / "large.tif").write_bytes(one_image(width=100_000, height=80_000, **table, **scale))
    with sandbox.open_slide(tmp_path / "large.tif") as slide:
        assert slide.metadata.mpp == (0.25, 0.25)
        child = slide._read.__self__._child.process.pid
        everything = Tissue(np.ones((10, 10), bool), (10_000.0, 8_000.0), 20.0)
        tiles = tiling.tile_grid(slide.metadata, everything)
        assert len(tiles) == 224 * 179
        selected = range(0, len(tiles), 200)
        for _ in tiling.read_tiles(slide, tiles, 16, selected[:50]):
            early = high_water(child)
        for _ in tiling.read_tiles(slide, tiles, 16, selected[50:]):
            late = high_water(child)
    assert late < 400 * 2**20
    assert late - early < 40 * 2**20


def high_water(pid):
    """Most bytes that a process ever held in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize(("mpp", "side"), [(None, 128), (0.25, 128), (0.3, 100)])
def test_neighbours_decoded_together_are_the_tiles_decoded_one_by_one(mpp, side):
    with open_slide(CMU, mpp) as slide:
        grid = tile_grid(slide.metadata, find_tissue(slide), GridConfig(tile_size=side))
        places = grid.positions[scan_order(grid.cells)][:80]
        together = read_tiles_at(slide, places, grid.extent, (side, side))
        for (x, y), tile in zip(places, together, strict=True):
            np.testing.assert_array_equal(tile, read_scaled(slide, int(x), int(y), grid.extent, (side, side)))


def test_tiles_that_lie_beside_each_other_are_asked_for_once():
    requested = []

    def read(x, y, size, level):
        requested.append((x, y, *size))
        return np.zeros((size[1], size[0], 3), np.uint8)

    slide = Slide(SlideMetadata("test", (Level(4_096, 4_096, 1.0),), (0.5, 0.5)), read, lambda: None)
    cells = np.stack(np.meshgrid(np.arange(8), np.arange(6)), -1).reshape(-1, 2)
    order = scan_order(cells)
    assert sorted(order.tolist()) == list(range(48))
    read_tiles_at(slide, cells[order][:32] * 128, (128.0, 128.0), (128, 128))
    assert requested == [(0, 0, 1_024, 512)]
    far = np.array([[0, 0], [3_000, 3_000]])
    read_tiles_at(slide, far, (128.0, 128.0), (128, 128))
    assert requested[1:] == [(0, 0, 128, 128), (3_000, 3_000, 128, 128)]
