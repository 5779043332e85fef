"""Simulate whole slides with known cells. SIMULATED: they test the path from file to report and are no evidence.

    python -m datasets simulate slides --out var/slides_simulated --slides 8 --columns 12 --rows 10 --seed 7

slide = simulate_slide(seed=7, label="HSIL", columns=12, rows=10)     # tiles of 256 px: 3,072 x 2,560 px at 0.5 um/px
slide.tile(3, 4)                                                      # (256, 256, 3) uint8, any tile in any order
for cell in slide.cells(): ...                                        # x, y in level-0 pixels, label, kind
pyramid.write_tiff("simulated.tiff", slide)

A slide shows a liquid-based deposit: a disc of cells of varying density. Most cells of an abnormal slide are normal;
the abnormal ones lie in a few hot spots. A slide is rendered tile by tile, so memory does not grow with its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.slides.simulate.cell_types import CLASSES, NILM, OTHER
from datasets.slides.simulate.fields import (
    CLASS_MIX,
    MEAN_DENSITY,
    TILE_MARGIN,
    Appearance,
    CellStock,
    Pixels,
    PlacedCell,
    apply_stain,
    neighbouring,
    place_group,
    render_field,
)
from datasets.slides.simulate.noise import MAX_RADIUS

TILE = 256  # pixels a side of a stored tile
CROWD_REACH = 45.0  # microns that a crowd of cells may extend beyond its first cell
DEFECTS = {
    "all_background": "nothing but glass",
    "out_of_focus": "blurred by 3 um",
    "pen_marks": "half covered with blue ink",
    "wrong_stain": "brown and green, unlike any Papanicolaou stain",
    "no_scale": "the file does not state the size of a pixel in microns",
}
INK_DYE = (2.4, 1.05, 0.12)  # optical density in red, green and blue light
WRONG_STAIN_DYES = ((0.45, 1.0, 1.5), (0.75, 0.15, 0.7), (0.15, 0.45, 1.1))


class TrueCell(NamedTuple):
    x: int  # centre of the nucleus, in level-0 pixels
    y: int
    label: int  # index into CLASSES
    kind: str


@dataclass(frozen=True)
class SimulatedSlide:
    """repeat_tiles: only so many columns and rows of tiles are rendered, and repeated over the slide; 0 renders all."""

    seed: int
    label: int
    columns: int
    rows: int
    mpp: float = 0.5
    defect: str = ""
    repeat_tiles: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.columns * TILE, self.rows * TILE

    @cached_property
    def appearance(self) -> Appearance:
        appearance = Appearance.draw_random(self._random_stream(0))
        if self.defect == "out_of_focus":
            return replace(appearance, blur=3.0)
        if self.defect == "pen_marks":
            return replace(appearance, dyes=np.concatenate([appearance.dyes, np.array([INK_DYE], np.float32)]))
        return (
            replace(appearance, dyes=np.array(WRONG_STAIN_DYES, np.float32))
            if self.defect == "wrong_stain"
            else appearance
        )

    def tile(self, column: int, row: int) -> Pixels:
        """The pixels (256, 256, 3) as a scanner would see them, before JPEG compression."""
        column, row = self.source_tile(column, row)
        margin = max(4, math.ceil(3 * self.appearance.blur / self.mpp))
        side = TILE + 2 * margin
        left, top = ((index * TILE - margin) * self.mpp for index in (column, row))
        field = render_field(self._cells_near(column, row), self.mpp, left, top, side, side)
        if self.defect == "pen_marks":
            field = np.concatenate([field, self._ink_density(left, top, side)[None]])
        return apply_stain(field, self.appearance, self.mpp, self._random_stream(1, column, row), margin, (left, top))

    def cells(self) -> Iterator[TrueCell]:
        """Every squamous cell with the centre of its nucleus on the slide, by rows of tiles."""
        width, height = self.size
        margin_tiles = self._margin_tiles
        for row in range(-margin_tiles, self.rows + margin_tiles):
            for column in range(-margin_tiles, self.columns + margin_tiles):
                for placed in self._cells_of_tile(column, row):
                    x, y = round(placed.x / self.mpp), round(placed.y / self.mpp)
                    if placed.cell.label != OTHER and 0 <= x < width and 0 <= y < height:
                        yield TrueCell(x, y, placed.cell.label, placed.cell.kind)

    def source_tile(self, column: int, row: int) -> tuple[int, int]:
        """The column and row of the tile that is rendered at this position."""
        return (column % self.repeat_tiles, row % self.repeat_tiles) if self.repeat_tiles else (column, row)

    def _random_stream(self, *of: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.label, *of])

    @cached_property
    def _stock(self) -> CellStock:
        class_mix = np.array(CLASS_MIX[self.label] + (0.0,) * len(CLASSES))[: len(CLASSES)]
        counts = [160, *(np.ceil(60 * class_mix[1:]).astype(int))]
        return CellStock(self._random_stream(2), self.mpp, counts, background_count=40)

    @cached_property
    def _margin_tiles(self) -> int:
        """How many tiles away a cell may be and still be visible."""
        return math.ceil((MAX_RADIUS + CROWD_REACH) / (TILE * self.mpp))

    @cached_property
    def _cells_by_tile(self) -> dict[tuple[int, int], list[PlacedCell]]:
        return {}

    def _cells_near(self, column: int, row: int) -> list[PlacedCell]:
        offsets = range(-self._margin_tiles, self._margin_tiles + 1)
        return [placed for y in offsets for x in offsets for placed in self._cells_of_tile(column + x, row + y)]

    def _cells_of_tile(self, column: int, row: int) -> list[PlacedCell]:
        """The cells placed from this tile, in microns on the slide; cached for a few rows of tiles."""
        placed_cells = self._cells_by_tile.get((column, row))
        if placed_cells is None:
            placed_cells = self._cells_by_tile[column, row] = self._place_cells(column, row)
            if len(self._cells_by_tile) > (2 * self._margin_tiles + 2) * (self.columns + 2 * self._margin_tiles):
                del self._cells_by_tile[next(iter(self._cells_by_tile))]
        return placed_cells

    def _place_cells(self, column: int, row: int) -> list[PlacedCell]:
        is_outside = not (0 <= column < self.columns and 0 <= row < self.rows)
        if self.defect == "all_background" or (is_outside and not self.repeat_tiles):
            return []
        source_tile = self.source_tile(column, row)
        rng, side = self._random_stream(3, *source_tile), TILE * self.mpp
        mean_count = MEAN_DENSITY * side**2 / 1e6 * self._density_map.density[source_tile[::-1]]
        share = self._density_map.abnormal[source_tile[::-1]]
        placed_cells: list[PlacedCell] = []
        for _ in range(rng.poisson(mean_count)):
            label = rng.choice(len(CLASS_MIX[self.label]), p=CLASS_MIX[self.label]) if rng.random() < share else NILM
            placed_cells += place_group(rng, self._stock.by_class[label], *rng.uniform(0, side, 2))
        if source_tile in self._density_map.guaranteed:
            placed_cells += place_group(rng, self._stock.by_class[self.label], *rng.uniform(0.2 * side, 0.8 * side, 2))
        placed_cells += neighbouring(rng, self._stock, mean_count, 0, side)
        return [
            placed._replace(x=self._snap_to_pixel(placed.x, column), y=self._snap_to_pixel(placed.y, row))
            for placed in placed_cells
        ]

    def _snap_to_pixel(self, microns: float, tile: int) -> float:
        """A position within a tile -> microns on the slide, snapped to a pixel so that all tiles agree."""
        return (round(microns / self.mpp) + tile * TILE) * self.mpp

    @cached_property
    def _density_map(self) -> _DensityMap:
        rng = self._random_stream(4)
        columns, rows = (self.repeat_tiles, self.repeat_tiles) if self.repeat_tiles else (self.columns, self.rows)
        x, y = (np.arange(columns) + 0.5) / columns, ((np.arange(rows) + 0.5) / rows)[:, None]
        density = rng.uniform(0.6, 1.5) * np.exp(0.5 * _smooth_field(rng, x, y))
        if not self.repeat_tiles:
            disc = np.hypot(2 * x - 1, 2 * y - 1)
            density *= 0.02 + 1 / (1 + np.exp((disc - rng.uniform(0.9, 1.0)) / 0.04))
        hot_spots = np.exp(1.2 * _smooth_field(rng, x, y))
        abnormal_share = np.exp(rng.uniform(np.log(0.03), np.log(0.2))) if self.label != NILM else 0.0
        dense_tiles = np.argwhere(density >= np.quantile(density, 0.6))
        guaranteed_tiles = dense_tiles[rng.permutation(len(dense_tiles))[: max(1, columns * rows // 40)]]
        guaranteed = {(int(column), int(row)) for row, column in guaranteed_tiles} if self.label != NILM else set()
        return _DensityMap(
            density, np.minimum(abnormal_share * hot_spots / hot_spots.mean(), 0.8), frozenset(guaranteed)
        )

    def _ink_density(self, left: float, top: float, side: int) -> NDArray[np.float32]:
        """The density of broad parallel strokes of ink, (side, side)."""
        x, y = (start + self.mpp * np.arange(side, dtype=np.float32) for start in (left, top))
        across = (x + 0.6 * y[:, None] + 25 * np.sin(y[:, None] / 90)) % 600
        return np.asarray(np.clip((150 - np.abs(across - 300)) / 6, 0, 1) * (1 + 0.05 * np.sin(x / 3)), np.float32)


class _DensityMap(NamedTuple):
    """For each tile the density of cells and the share of abnormal ones; and the tiles that have at least one."""

    density: NDArray[np.float64]  # (rows, columns)
    abnormal: NDArray[np.float64]
    guaranteed: frozenset[tuple[int, int]]


def _smooth_field(rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """A smooth periodic field over the slide with a standard deviation of about 1."""
    total = np.zeros(np.broadcast(x, y).shape)
    for _ in range(6):
        along, down = rng.integers(-3, 4, 2)
        total += np.sin(2 * np.pi * (along * x + down * y + rng.random()))
    return np.asarray(total / np.sqrt(3))


def simulate_slide(
    seed: int,
    label: str | int = "NILM",
    columns: int = 12,
    rows: int = 10,
    mpp: float = 0.5,
    defect: str = "",
    repeat_tiles: int = 0,
) -> SimulatedSlide:
    """A slide whose worst cell is of `label`, of `columns` x `rows` tiles of 256 px. Raises DataError."""
    problems = []
    if label not in (*CLASSES, *range(len(CLASSES))):
        problems.append(f"label is {label!r}; it must be one of {', '.join(CLASSES)}")
    if columns < 1 or rows < 1:
        problems.append(f"it has {columns} x {rows} tiles; it must have at least 1 x 1")
    if not 0.1 <= mpp <= 2:
        problems.append(f"mpp is {mpp:g}; it must be 0.1 to 2 um/px")
    if defect and defect not in DEFECTS:
        problems.append(f"defect is {defect!r}; it must be one of {', '.join(DEFECTS)}, or none")
    if seed < 0:
        problems.append(f"seed is {seed}; it must be 0 or more")
    if repeat_tiles < 0 or (repeat_tiles and repeat_tiles & (repeat_tiles - 1)):
        problems.append(
            f"repeat_tiles is {repeat_tiles}; it must be 0 or a power of two, so that coarser levels repeat too"
        )
    if problems:
        raise DataError("The slide cannot be simulated: " + "; ".join(problems) + ".")
    class_index = CLASSES.index(label) if isinstance(label, str) else int(label)
    return SimulatedSlide(seed, class_index, columns, rows, mpp, defect, repeat_tiles)


def worst_labels(
    cells: Iterable[TrueCell], positions: NDArray[np.int64], extent: tuple[float, float], mpp: float
) -> NDArray[np.int64]:
    """The worst class with a nucleus inside each tile, (n,): NILM if there is none, -1 if an edge of the tile cuts it.

    positions: (n, 2) left and top in level-0 pixels. extent: width and height of a tile in level-0 pixels, as in
    datasets.slides.tiling.
    """
    labels = np.full(len(positions), NILM, np.int64)
    unsure_labels = np.full(len(positions), NILM, np.int64)
    inner_distance = TILE_MARGIN / mpp
    outer_distance = 2 * TILE_MARGIN / mpp  # a nucleus farther away than this shows too little of itself to matter
    for cell in cells:
        if cell.label == NILM:
            continue
        edge_distance = np.minimum(np.array([cell.x, cell.y]) - positions, positions + extent - (cell.x, cell.y)).min(1)
        labels[edge_distance >= inner_distance] = np.maximum(labels[edge_distance >= inner_distance], cell.label)
        is_cut = (edge_distance < inner_distance) & (edge_distance > -outer_distance)
        unsure_labels[is_cut] = np.maximum(unsure_labels[is_cut], cell.label)
    return np.where(unsure_labels > labels, -1, labels)


def sample(label: str = "HSIL") -> SimulatedSlide:
    """A small slide of 1,024 x 768 px."""
    return simulate_slide(seed=7, label=label, columns=4, rows=3)
