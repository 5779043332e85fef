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

from datasets.slides.faults import SlideRefused, fault
from datasets.slides.reader import Facts, Pixels, Slide, read_scaled
from datasets.slides.source import Size
from datasets.slides.tissue import Tissue


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
        tiles = [read_scaled(slide, int(x), int(y), grid.extent, size) for x, y in grid.places[part]]
        yield part, np.stack(tiles)
