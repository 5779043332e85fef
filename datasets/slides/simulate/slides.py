"""Whole slides with known cells. SIMULATED: they test the road from a file to a report, and are no evidence.

    python -m datasets.slides.simulate.slides --out var/slides_simulated --slides 8 --columns 12 --rows 10 --seed 7

painted = slide(seed=7, label="HSIL", columns=12, rows=10)     # stored tiles of 256 px: 3,072 x 2,560 px at 0.5 um/px
painted.tile(3, 4)                                             # (256, 256, 3) uint8, any tile, at any time
for cell in painted.cells(): ...                               # x, y in level-0 pixels, label, kind
pyramid.write_tiff("simulated.tiff", painted)

A liquid-based deposit: a disc of cells, denser here and thinner there. Most cells of an abnormal slide are normal ones;
the abnormal ones lie in a few hot spots. A slide is painted tile by tile, so memory does not grow with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.slides.simulate.cell_types import CLASSES, NILM, OTHER
from datasets.slides.simulate.fields import (
    DENSITY,
    MARGIN,
    WORSE,
    Item,
    Look,
    Pixels,
    Stock,
    beside,
    develop,
    group,
    lay_down,
)
from datasets.slides.simulate.noise import REACH

TILE = 256  # pixels a side of a stored tile
SPREAD = 45.0  # microns that a crowd may reach beyond its first cell
FAULTS = {
    "all_background": "nothing but glass",
    "out_of_focus": "blurred by 3 um",
    "pen_marks": "half of it under blue ink",
    "wrong_stain": "brown and green, as no Papanicolaou stain is",
    "no_scale": "the file does not say how many microns a pixel is",
}
INK = (2.4, 1.05, 0.12)  # its optical density in red, green and blue light
WRONG = ((0.45, 1.0, 1.5), (0.75, 0.15, 0.7), (0.15, 0.45, 1.1))


class TrueCell(NamedTuple):
    x: int  # of its nucleus, in level-0 pixels
    y: int
    label: int  # into CLASSES
    kind: str


@dataclass(frozen=True)
class Slide:
    """`repeat`: the first so many columns and rows of tiles are painted, and repeated all over; 0 paints them all."""

    seed: int
    label: int
    columns: int
    rows: int
    mpp: float = 0.5
    fault: str = ""
    repeat: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.columns * TILE, self.rows * TILE

    @cached_property
    def look(self) -> Look:
        look = Look.draw(self._rng(0))
        if self.fault == "out_of_focus":
            return replace(look, blur=3.0)
        if self.fault == "pen_marks":
            return replace(look, dyes=np.concatenate([look.dyes, np.array([INK], np.float32)]))
        return replace(look, dyes=np.array(WRONG, np.float32)) if self.fault == "wrong_stain" else look

    def tile(self, column: int, row: int) -> Pixels:
        """(256, 256, 3) as the scanner saw it, before it was stored as JPEG."""
        column, row = self.alike(column, row)
        margin = max(4, math.ceil(3 * self.look.blur / self.mpp))
        side = TILE + 2 * margin
        left, top = ((at * TILE - margin) * self.mpp for at in (column, row))
        field = lay_down(self._around(column, row), self.mpp, left, top, side, side)
        if self.fault == "pen_marks":
            field = np.concatenate([field, self._ink(left, top, side)[None]])
        return develop(field, self.look, self.mpp, self._rng(1, column, row), margin, (left, top))

    def cells(self) -> Iterator[TrueCell]:
        """Every squamous cell whose nucleus' centre lies on the slide, by rows of tiles."""
        width, height = self.size
        beyond = self._beyond
        for row in range(-beyond, self.rows + beyond):
            for column in range(-beyond, self.columns + beyond):
                for item in self._plot(column, row):
                    x, y = round(item.x / self.mpp), round(item.y / self.mpp)
                    if item.cell.label != OTHER and 0 <= x < width and 0 <= y < height:
                        yield TrueCell(x, y, item.cell.label, item.cell.kind)

    def alike(self, column: int, row: int) -> tuple[int, int]:
        """The tile that is painted for this place."""
        return (column % self.repeat, row % self.repeat) if self.repeat else (column, row)

    def _rng(self, *of: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.label, *of])

    @cached_property
    def _stock(self) -> Stock:
        wanted = np.array(WORSE[self.label] + (0.0,) * len(CLASSES))[: len(CLASSES)]
        numbers = [160, *(np.ceil(60 * wanted[1:]).astype(int))]
        return Stock(self._rng(2), self.mpp, numbers, others=40)

    @cached_property
    def _beyond(self) -> int:
        """How many plots away a cell may be and still be seen."""
        return math.ceil((REACH + SPREAD) / (TILE * self.mpp))

    @cached_property
    def _plots(self) -> dict[tuple[int, int], list[Item]]:
        return {}

    def _around(self, column: int, row: int) -> list[Item]:
        near = range(-self._beyond, self._beyond + 1)
        return [item for y in near for x in near for item in self._plot(column + x, row + y)]

    def _plot(self, column: int, row: int) -> list[Item]:
        """What was laid down from this tile's ground, in microns of the slide; kept for a few rows of tiles."""
        kept = self._plots.get((column, row))
        if kept is None:
            kept = self._plots[column, row] = self._sown(column, row)
            if len(self._plots) > (2 * self._beyond + 2) * (self.columns + 2 * self._beyond):
                del self._plots[next(iter(self._plots))]
        return kept

    def _sown(self, column: int, row: int) -> list[Item]:
        outside = not (0 <= column < self.columns and 0 <= row < self.rows)
        if self.fault == "all_background" or (outside and not self.repeat):
            return []
        at = self.alike(column, row)
        rng, side = self._rng(3, *at), TILE * self.mpp
        number = DENSITY * side**2 / 1e6 * self._ground.density[at[::-1]]
        share = self._ground.abnormal[at[::-1]]
        items: list[Item] = []
        for _ in range(rng.poisson(number)):
            label = rng.choice(len(WORSE[self.label]), p=WORSE[self.label]) if rng.random() < share else NILM
            items += group(rng, self._stock.by_class[label], *rng.uniform(0, side, 2))
        if at in self._ground.certain:
            items += group(rng, self._stock.by_class[self.label], *rng.uniform(0.2 * side, 0.8 * side, 2))
        items += beside(rng, self._stock, number, 0, side)
        return [item._replace(x=self._on_pixel(item.x, column), y=self._on_pixel(item.y, row)) for item in items]

    def _on_pixel(self, place: float, tile: int) -> float:
        """Microns on the slide of a place on a tile's ground, moved to a whole pixel: the same one in every tile."""
        return (round(place / self.mpp) + tile * TILE) * self.mpp

    @cached_property
    def _ground(self) -> _Ground:
        rng = self._rng(4)
        columns, rows = (self.repeat, self.repeat) if self.repeat else (self.columns, self.rows)
        x, y = (np.arange(columns) + 0.5) / columns, ((np.arange(rows) + 0.5) / rows)[:, None]
        density = rng.uniform(0.6, 1.5) * np.exp(0.5 * _waves(rng, x, y))
        if not self.repeat:
            disc = np.hypot(2 * x - 1, 2 * y - 1)
            density *= 0.02 + 1 / (1 + np.exp((disc - rng.uniform(0.9, 1.0)) / 0.04))
        hot = np.exp(1.2 * _waves(rng, x, y))
        share = np.exp(rng.uniform(np.log(0.03), np.log(0.2))) if self.label != NILM else 0.0
        inside = np.argwhere(density >= np.quantile(density, 0.6))
        certain = inside[rng.permutation(len(inside))[: max(1, columns * rows // 40)]]
        chosen = {(int(column), int(row)) for row, column in certain} if self.label != NILM else set()
        return _Ground(density, np.minimum(share * hot / hot.mean(), 0.8), frozenset(chosen))

    def _ink(self, left: float, top: float, side: int) -> NDArray[np.float32]:
        """(side, side) density of broad parallel strokes."""
        x, y = (start + self.mpp * np.arange(side, dtype=np.float32) for start in (left, top))
        across = (x + 0.6 * y[:, None] + 25 * np.sin(y[:, None] / 90)) % 600
        return np.asarray(np.clip((150 - np.abs(across - 300)) / 6, 0, 1) * (1 + 0.05 * np.sin(x / 3)), np.float32)


class _Ground(NamedTuple):
    """Of each tile: the density of cells, the share of abnormal ones; and the tiles that surely have one."""

    density: NDArray[np.float64]  # (rows, columns)
    abnormal: NDArray[np.float64]
    certain: frozenset[tuple[int, int]]


def _waves(rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """A smooth field over the slide that wraps around, of deviation about 1."""
    total = np.zeros(np.broadcast(x, y).shape)
    for _ in range(6):
        along, down = rng.integers(-3, 4, 2)
        total += np.sin(2 * np.pi * (along * x + down * y + rng.random()))
    return np.asarray(total / np.sqrt(3))


def slide(
    seed: int,
    label: str | int = "NILM",
    columns: int = 12,
    rows: int = 10,
    mpp: float = 0.5,
    fault: str = "",
    repeat: int = 0,
) -> Slide:
    """A slide whose worst cell is of `label`, of `columns` x `rows` tiles of 256 px. Raises DataError."""
    wrong = []
    if label not in (*CLASSES, *range(len(CLASSES))):
        wrong.append(f"label is {label!r}; it must be one of {', '.join(CLASSES)}")
    if columns < 1 or rows < 1:
        wrong.append(f"it is {columns} x {rows} tiles; 1 x 1 or more are needed")
    if not 0.1 <= mpp <= 2:
        wrong.append(f"mpp is {mpp:g}; it must be 0.1 to 2 um/px")
    if fault and fault not in FAULTS:
        wrong.append(f"fault is {fault!r}; it must be one of {', '.join(FAULTS)}, or none")
    if seed < 0:
        wrong.append(f"seed is {seed}; a whole number of 0 or more is needed")
    if repeat < 0 or (repeat and repeat & (repeat - 1)):
        wrong.append(f"repeat is {repeat}; it must be 0 or a power of two, so that coarser levels repeat as well")
    if wrong:
        raise DataError("The simulated slide cannot be painted: " + "; ".join(wrong) + ".")
    number = CLASSES.index(label) if isinstance(label, str) else int(label)
    return Slide(seed, number, columns, rows, mpp, fault, repeat)


def worst(
    cells: Iterable[TrueCell], places: NDArray[np.int64], extent: tuple[float, float], mpp: float
) -> NDArray[np.int64]:
    """(n,) the worst class whose nucleus lies inside each tile, NILM where there is none, -1 where a side cuts it.

    places: (n, 2) left and top in level-0 pixels, extent: what a tile covers of them; as datasets.slides.tiling has it.
    """
    labels = np.full(len(places), NILM, np.int64)
    unsure = np.full(len(places), NILM, np.int64)
    inner = MARGIN / mpp
    outer = 2 * MARGIN / mpp  # a nucleus whose centre is farther away than this shows too little to matter
    for cell in cells:
        if cell.label == NILM:
            continue
        near = np.minimum(np.array([cell.x, cell.y]) - places, places + extent - (cell.x, cell.y)).min(1)
        labels[near >= inner] = np.maximum(labels[near >= inner], cell.label)
        touched = (near < inner) & (near > -outer)
        unsure[touched] = np.maximum(unsure[touched], cell.label)
    return np.where(unsure > labels, -1, labels)


def sample(label: str = "HSIL") -> Slide:
    """A small one: 1,024 x 768 px."""
    return slide(seed=7, label=label, columns=4, rows=3)


def write(
    folder: str | Path, slides: int, columns: int, rows: int, seed: int, mpp: float = 0.5, progress: bool = False
) -> Path:
    """Writes slides of all classes by turns, and truth.json, whose path is returned. Raises DataError."""
    import json

    from rich.console import Console
    from rich.progress import Progress

    from datasets.slides.simulate.pyramid import write_tiff

    if slides < 1:
        raise DataError(f"slides is {slides}; 1 or more are needed.")
    folder = Path(folder)
    painted = [slide(seed + at, at % len(CLASSES), columns, rows, mpp) for at in range(slides)]
    folder.mkdir(parents=True, exist_ok=True)
    truth: dict[str, object] = {}
    with Progress(console=Console(stderr=True), disable=not progress, transient=True) as bar:
        task = bar.add_task("simulated slides", total=slides * columns * rows)
        for each in painted:
            path = folder / f"simulated_{each.seed}_{CLASSES[each.label]}.tiff"
            write_tiff(path, each, lambda: bar.advance(task))
            truth[path.name] = describe(each)
    whole = {"simulated": True, "classes": CLASSES, "seed": seed, "slides": truth}
    (folder / "truth.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    return folder / "truth.json"


def describe(painted: Slide) -> dict[str, object]:
    """What is true of a slide; null is the label of one without cells."""
    cells = list(painted.cells())
    return {
        "label": CLASSES[painted.label] if cells else None,
        "fault": painted.fault or None,
        "mpp": painted.mpp,
        "size": painted.size,
        "cells": [{"x": each.x, "y": each.y, "class": CLASSES[each.label], "kind": each.kind} for each in cells],
    }


def main() -> None:
    import argparse
    import sys

    words = argparse.ArgumentParser(
        prog="python -m datasets.slides.simulate.slides", description="Write SIMULATED slides as TIFF, and truth.json."
    )
    words.add_argument("--out", type=Path, default=Path("var/slides_simulated"))
    words.add_argument("--slides", type=int, default=8)
    words.add_argument("--columns", type=int, default=12, help=f"tiles of {TILE} px")
    words.add_argument("--rows", type=int, default=10)
    words.add_argument("--mpp", type=float, default=0.5, help="microns per pixel")
    words.add_argument("--seed", type=int, default=7)
    asked = words.parse_args()
    try:
        truth = write(asked.out, asked.slides, asked.columns, asked.rows, asked.seed, asked.mpp, sys.stderr.isatty())
    except DataError as error:
        raise SystemExit(str(error)) from error
    print(f"SIMULATED, nobody's cells: {asked.slides} slides, seed {asked.seed}: {truth}")


if __name__ == "__main__":
    main()
