"""Which tiles to read where not all are: the slide is looked at small, then read in stages until the answer stands.

A nucleus that is large or dark stands out at 2 um a pixel already, so tiles are ranked by the mean of their darkest
twentieth. Of what a stage reads, half are the darkest tiles, and half is spread evenly over all others and
stands for them: what attention gives such a tile counts as often as there are tiles like it. Each stage reads more of
both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.slides.reader import Slide, read_scaled
from datasets.slides.tiling import Grid, scan_order

MPP = 2.0  # microns per pixel of the small look
DARKEST = 0.05  # share of a tile's pixels
BLOCK = 16  # tiles a side looked at together, so that memory does not grow with the slide
TELLING = 1 / 2  # share of a stage's tiles that are the darkest ones
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True)
class Stages:
    """order: (n,) tiles as they are read. ends: (stages,) how many have been read after each; the last reads all.

    rank: (n,) of each tile in that order by darkness, 0 the darkest. tops: (stages,) how many darkest ones are read.
    """

    order: NDArray[np.intp]
    ends: NDArray[np.int64]
    rank: NDArray[np.int64]
    tops: NDArray[np.int64]


def plan(dark: NDArray[np.float64], cells: NDArray[np.int64], shares: Sequence[float], least: int) -> Stages:
    """`shares` of the tiles, ascending, each `least` tiles at least; all of them come last.

    Within a stage neighbours follow one another.
    """
    n = len(dark)
    rank = np.empty(n, np.int64)
    rank[np.argsort(-dark, kind="stable")] = np.arange(n)
    spread = np.argsort((np.arange(n) * GOLDEN) % 1, kind="stable")  # each beginning of it lies evenly over the slide
    parts: list[NDArray[np.intp]] = []
    ends: list[int] = []
    tops: list[int] = []
    read = np.zeros(n, bool)
    for share in (*shares, 1.0):
        most = max(int(n * share), min(n, least))
        if ends and most <= ends[-1]:
            continue
        top = n if most == n else int(most * TELLING)
        new = (rank < top) & ~read
        others = spread[(rank[spread] >= top) & ~read[spread]]
        new[others[: max(0, most - int(read.sum()) - int(new.sum()))]] = True
        part = np.flatnonzero(new)
        parts.append(part[scan_order(cells[part])])
        read |= new
        ends.append(int(read.sum()))
        tops.append(top)
    order = np.concatenate(parts)
    return Stages(order, np.array(ends), rank[order], np.array(tops))


def weights(
    rank: NDArray[np.int64], ends: NDArray[np.int64], tops: NDArray[np.int64], stage: int
) -> NDArray[np.float64]:
    """(read,) how many tiles each of those read after a stage stands for."""
    read = int(ends[stage])
    others = rank[:read] >= tops[stage]
    return np.where(others, (len(rank) - int(tops[stage])) / max(1, int(others.sum())), 1.0)


def darkness(slide: Slide, grid: Grid) -> NDArray[np.float64]:
    """(n,) of each tile, 0 white to 255 black."""
    assert slide.metadata.mpp is not None, "a grid is laid over a slide of known scale"
    side = max(4, round(grid.config.tile_size * grid.config.mpp / MPP))
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
