"""Which tiles to read where not all are: the whole slide looked at small, then the tiles with most dark matter at once.

A nucleus that is large or dark stands out at 2 um a pixel already. A tile is ranked by its darkest twentieth's mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.slides.grid import Grid
from datasets.slides.reader import Slide, read_scaled

MPP = 2.0  # microns per pixel of the small look
DARKEST = 0.05  # share of a tile's pixels
BLOCK = 16  # tiles a side looked at together, so that memory does not grow with the slide


def telling(slide: Slide, grid: Grid, share: float) -> NDArray[np.intp]:
    """The `share` of the grid's tiles that tell most, in the grid's order."""
    most = max(1, int(len(grid) * share))
    if most >= len(grid):
        return np.arange(len(grid))
    return np.sort(np.argsort(-darkness(slide, grid), kind="stable")[:most])


def darkness(slide: Slide, grid: Grid) -> NDArray[np.float64]:
    """(n,) of each tile, 0 white to 255 black."""
    assert slide.facts.mpp is not None, "a grid is laid over a slide of known scale"
    side = max(4, round(grid.config.tile * grid.config.mpp / MPP))
    found = np.zeros(len(grid))
    blocks = grid.cells // BLOCK
    for block in np.unique(blocks, axis=0):
        here = np.flatnonzero((blocks == block).all(1))
        first, last = grid.cells[here].min(0), grid.cells[here].max(0)
        tiles = last - first + 1
        extent = float(tiles[0] * grid.extent[0]), float(tiles[1] * grid.extent[1])
        size = int(tiles[0] * side), int(tiles[1] * side)
        seen = read_scaled(slide, first[0] * grid.extent[0], first[1] * grid.extent[1], extent, size)
        dark = 255 - seen.min(-1).astype(np.float64)  # stain of any colour darkens one channel most
        parts = dark.reshape(int(tiles[1]), side, int(tiles[0]), side).swapaxes(1, 2).reshape(*tiles[::-1], -1)
        count = max(1, int(side * side * DARKEST))
        top = np.partition(parts, -count, axis=-1)[..., -count:].mean(-1)
        column, row = (grid.cells[here] - first).T
        found[here] = top[row, column]
    return found
