"""Tiles of one scale over the tissue, in one order: the same for the same slide in any format.

grid = cover(slide.facts, tissue.find(slide))
for numbers, tiles in read(slide, grid, batch=32):      # tiles (n, 224, 224, 3) uint8, 0.5 um/px
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import Size
from datasets.slides.errors import SlideRefused, fault
from datasets.slides.reader import Facts, Part, Pixels, Slide
from datasets.slides.tissue import Tissue

BLOCK = 1 << 20  # pixels decoded at once at most: 4 MB on the way, and caches hold them
FULL = 0.5  # share of them that is asked for at least; a band that begins its second column has 5 of 8
ROWS = 4  # of tiles in a band: 512 pixels or more, as large as stored tiles are


@dataclass(frozen=True, slots=True)
class GridConfig:
    mpp: float = 0.5  # microns per pixel of a tile, the scale that the network was trained at
    tile: int = 224  # pixels a side
    tissue: float = 0.05  # least share of tissue in a tile
    coarser: float = 1.25  # a slide may be this many times coarser than `mpp`; detail cannot be made up


@dataclass(frozen=True, slots=True)
class Grid:
    """Tiles side by side without overlap, by rows from the top left; those without tissue are left out.

    places: (n, 2) int64, left and top in level-0 pixels.
    cells:  (n, 2) int64, column and row.
    extent: level-0 pixels that a tile covers (x, y).
    shape:  columns and rows of the whole slide.
    """

    places: NDArray[np.int64]
    cells: NDArray[np.int64]
    extent: tuple[float, float]
    shape: Size
    config: GridConfig

    def __len__(self) -> int:
        return len(self.places)


def cover(facts: Facts, tissue: Tissue, config: GridConfig | None = None, name: str = "slide") -> Grid:
    """Raises SlideRefused (no_scale, too_coarse) where tiles of the asked scale cannot be had."""
    config = config or GridConfig()
    if facts.mpp is None:
        raise SlideRefused(name, [fault("no_scale")])
    if max(facts.mpp) > config.mpp * config.coarser:
        raise SlideRefused(name, [fault("too_coarse", found=max(facts.mpp), needed=config.mpp * config.coarser)])
    x, y = (config.tile * config.mpp / mpp for mpp in facts.mpp)
    shape = math.ceil(facts.size[0] / x - 1e-6), math.ceil(facts.size[1] / y - 1e-6)
    cells = np.stack(np.meshgrid(np.arange(shape[0]), np.arange(shape[1])), -1).reshape(-1, 2).astype(np.int64)
    corners = cells * np.array([x, y])
    stained = tissue.shares(np.concatenate([corners, corners + (x, y)], 1)) >= config.tissue
    places = np.rint(corners[stained]).astype(np.int64)
    return Grid(places, cells[stained], (x, y), shape, config)


def read(
    slide: Slide, grid: Grid, batch: int, numbers: Sequence[int] | None = None
) -> Iterator[tuple[NDArray[np.int64], Pixels]]:
    """Batches of at most `batch` tiles: their numbers in the grid, and (n, tile, tile, 3) uint8."""
    chosen = np.arange(len(grid)) if numbers is None else np.asarray(numbers, np.int64)
    size = grid.config.tile, grid.config.tile
    for start in range(0, len(chosen), batch):
        part = chosen[start : start + batch]
        yield part, read_places(slide, grid.places[part], grid.extent, size)


def read_places(slide: Slide, places: NDArray[np.int64], extent: tuple[float, float], size: Size) -> Pixels:
    """(n, height, width, 3): at each of `places` (n, 2) what read_scaled answers, to the bit. Neighbours that follow
    one another are decoded together, so that what the file stores as one tile is decoded once."""
    parts = [Part.of(slide.facts, int(x), int(y), extent, size) for x, y in places]
    tiles = np.empty((len(parts), size[1], size[0], 3), np.uint8)
    for first, last, (left, top, right, bottom) in _together(slide.facts, parts):
        level = parts[first].level
        downsample = slide.facts.levels[level].downsample
        place = round(left * downsample), round(top * downsample)
        pixels = slide.read(*place, (right - left, bottom - top), level)
        for number in range(first, last):
            x0, y0, x1, y1 = parts[number].box
            tiles[number] = parts[number].scaled(pixels[y0 - top : y1 - top, x0 - left : x1 - left])
    return tiles


def _together(facts: Facts, parts: Sequence[Part]) -> Iterator[tuple[int, int, tuple[int, int, int, int]]]:
    """(first, last, what holds them all) of neighbours worth decoding at once.

    A level whose pixels are not a whole number of level 0's is read place by place: there a place is rounded.
    """
    whole = bool(parts) and facts.levels[parts[0].level].downsample.is_integer()
    first, held, needed = 0, (0, 0, 0, 0), 0
    for number, part in enumerate(parts):
        x0, y0, x1, y1 = part.box
        area = (x1 - x0) * (y1 - y0)
        grown = (min(held[0], x0), min(held[1], y0), max(held[2], x1), max(held[3], y1)) if needed else part.box
        pixels = (grown[2] - grown[0]) * (grown[3] - grown[1])
        if needed and (not whole or pixels > BLOCK or pixels * FULL > needed + area):
            yield first, number, held
            first, grown, needed = number, part.box, 0
        held, needed = grown, needed + area
    if parts:
        yield first, len(parts), held


def by_bands(cells: NDArray[np.int64]) -> NDArray[np.intp]:
    """The order in which neighbours follow one another: bands of ROWS rows from the top, in each column by column."""
    column, row = cells.T
    return np.lexsort((row, column, row // ROWS))
