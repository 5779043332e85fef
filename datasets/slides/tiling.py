"""Cover the tissue with tiles of one scale, in an order that does not depend on the format of the slide.

grid = tile_grid(slide.metadata, tissue.find_tissue(slide))
for numbers, tiles in read_tiles(slide, grid, batch=32):      # tiles (n, 224, 224, 3) uint8, 0.5 um/px
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import Size
from datasets.slides.decoding.metadata import SlideMetadata
from datasets.slides.errors import SlideError, slide_issue
from datasets.slides.reader import LevelRegion, Pixels, Slide
from datasets.slides.scale import scale_issue
from datasets.slides.tissue import Tissue

MAX_BLOCK_PIXELS = 1 << 20  # maximum pixels decoded at once: 4 MB, which fit into caches
MIN_BLOCK_USE = 0.5  # minimum share of them that is needed; a band that begins its second column has 5 of 8
BAND_ROWS = 4  # rows of tiles in a band: 512 pixels or more, the size of stored tiles


@dataclass(frozen=True, slots=True)
class GridConfig:
    mpp: float = 0.5  # microns per pixel of a tile, the scale of the network's training
    tile_size: int = 224  # pixels a side
    min_tissue: float = 0.05  # minimum share of tissue in a tile
    max_coarsening: float = 1.25  # a slide may be this many times coarser than `mpp`; missing detail cannot be restored


@dataclass(frozen=True, slots=True)
class Grid:
    """Adjacent tiles by rows from the top left; tiles without tissue are left out.

    positions: (n, 2) int64, left and top in level-0 pixels.
    cells:     (n, 2) int64, column and row.
    extent:    level-0 pixels that a tile covers (x, y).
    shape:     columns and rows of the complete slide.
    """

    positions: NDArray[np.int64]
    cells: NDArray[np.int64]
    extent: tuple[float, float]
    shape: Size
    config: GridConfig

    def __len__(self) -> int:
        return len(self.positions)


def tile_grid(metadata: SlideMetadata, tissue: Tissue, config: GridConfig | None = None, name: str = "slide") -> Grid:
    """The tiles of a slide at the scale of `config`.

    Raises SlideError (no_scale, scale_conflict, too_coarse) if there are none.
    """
    config = config or GridConfig()
    if metadata.mpp is None:
        raise SlideError(name, [scale_issue(metadata.scales)])
    if max(metadata.mpp) > config.mpp * config.max_coarsening:
        raise SlideError(
            name, [slide_issue("too_coarse", actual=max(metadata.mpp), expected=config.mpp * config.max_coarsening)]
        )
    x, y = (config.tile_size * config.mpp / mpp for mpp in metadata.mpp)
    shape = math.ceil(metadata.size[0] / x - 1e-6), math.ceil(metadata.size[1] / y - 1e-6)
    cells = np.stack(np.meshgrid(np.arange(shape[0]), np.arange(shape[1])), -1).reshape(-1, 2).astype(np.int64)
    corners = cells * np.array([x, y])
    has_tissue = tissue.shares(np.concatenate([corners, corners + (x, y)], 1)) >= config.min_tissue
    positions = np.rint(corners[has_tissue]).astype(np.int64)
    return Grid(positions, cells[has_tissue], (x, y), shape, config)


def read_tiles(
    slide: Slide, grid: Grid, batch: int, indices: Sequence[int] | None = None
) -> Iterator[tuple[NDArray[np.int64], Pixels]]:
    """Yield batches of at most `batch` tiles: their numbers in the grid, and pixels (n, tile, tile, 3) uint8."""
    selected = np.arange(len(grid)) if indices is None else np.asarray(indices, np.int64)
    size = grid.config.tile_size, grid.config.tile_size
    for start in range(0, len(selected), batch):
        chunk = selected[start : start + batch]
        yield chunk, read_tiles_at(slide, grid.positions[chunk], grid.extent, size)


def read_tiles_at(slide: Slide, positions: NDArray[np.int64], extent: tuple[float, float], size: Size) -> Pixels:
    """The tiles at `positions` (n, 2), (n, height, width, 3), with the same bits as read_scaled.

    Consecutive neighbours are decoded together, so that a stored tile is decoded once.
    """
    regions = [LevelRegion.locate(slide.metadata, int(x), int(y), extent, size) for x, y in positions]
    tiles = np.empty((len(regions), size[1], size[0], 3), np.uint8)
    for start, stop, (left, top, right, bottom) in _group_adjacent(slide.metadata, regions):
        level = regions[start].level
        downsample = slide.metadata.levels[level].downsample
        origin = round(left * downsample), round(top * downsample)
        pixels = slide.read(*origin, (right - left, bottom - top), level)
        for index in range(start, stop):
            x0, y0, x1, y1 = regions[index].box
            tiles[index] = regions[index].resample(pixels[y0 - top : y1 - top, x0 - left : x1 - left])
    return tiles


def _group_adjacent(
    metadata: SlideMetadata, regions: Sequence[LevelRegion]
) -> Iterator[tuple[int, int, tuple[int, int, int, int]]]:
    """Yield (start, end, enclosing box) of consecutive regions to be decoded together.

    A level whose downsample is not an integer is read region by region, because positions are rounded there.
    """
    has_integer_scale = bool(regions) and metadata.levels[regions[0].level].downsample.is_integer()
    start, box, used_pixels = 0, (0, 0, 0, 0), 0
    for index, region in enumerate(regions):
        x0, y0, x1, y1 = region.box
        area = (x1 - x0) * (y1 - y0)
        merged_box = (min(box[0], x0), min(box[1], y0), max(box[2], x1), max(box[3], y1)) if used_pixels else region.box
        pixels = (merged_box[2] - merged_box[0]) * (merged_box[3] - merged_box[1])
        if used_pixels and (
            not has_integer_scale or pixels > MAX_BLOCK_PIXELS or pixels * MIN_BLOCK_USE > used_pixels + area
        ):
            yield start, index, box
            start, merged_box, used_pixels = index, region.box, 0
        box, used_pixels = merged_box, used_pixels + area
    if regions:
        yield start, len(regions), box


def scan_order(cells: NDArray[np.int64]) -> NDArray[np.intp]:
    """The order in which neighbours are consecutive: bands of BAND_ROWS rows from the top, column by column within
    each.
    """
    column, row = cells.T
    return np.lexsort((row, column, row // BAND_ROWS))
