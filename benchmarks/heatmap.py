"""Does the heatmap light up where the tumour is? Three breast regions (BCSS), each left out in turn, read as slides.

    YUHENG_DATA=../shared/data python -m benchmarks.heatmap        # minutes; keeps what it saw in var/heatmap

Each region is written as a pyramid of tiles in a TIFF at .25 um/px and read back as any slide is: checked, by its
scale, at .5 um/px. A head (logistic) is learned on the tiles of two regions, on what a network of ImageNet sees in a
tile of 128 px, in its middle at twice the scale, or in both: which, and how much the head is held back, is chosen on
those two regions, each asked of the other. The third region's heatmap is the mean of the tiles that overlap a place,
four at most. Its AUC is by pixel of the mask: a tumour's pixel against one that is none. The
interval is over 1,000 resamples of blocks of 128 um, as neighbours are alike.

Three patients, each with tumour, masks drawn coarsely: this shows that the way from slide to heatmap is sound, and
nothing about a clinic.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.pathology import bcss
from datasets.slides.reader import Slide, open_slide
from datasets.slides.tiling import Grid, GridConfig, read
from models.pathology.network import NetConfig, TileNet
from training.evaluation.metrics import Draws, Interval, Tallier, auc, statistic

CACHE = Path("var/heatmap")
GRID = GridConfig(mpp=0.5, tile=128)
STRIDE = 0.5  # of a tile, from one to the next
MIDDLE = 0.5  # of a tile's width: what is seen from nearer
EYES = {"tile": slice(0, 1280), "middle": slice(1280, 2560), "both": slice(0, 2560)}
HOLDS = (1e-5, 1e-4, 1e-3, 1e-2)  # C of the logistic head
STORED = 256  # px a side of a stored tile
LEVELS = 3
TUMOUR, NONE = 0.5, 0.1  # share of tumour from which, and up to which, a tile is learned from
BLOCK = 4  # cells of the heatmap a side that are drawn together: 512 px, 128 um
Floats = NDArray[np.float64]


def write(region: bcss.Region, path: Path) -> Path:
    """A pyramidal tiled TIFF with its scale, each level half of the one before."""
    import tifffile
    from PIL import Image

    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(LEVELS):
            size = (region.image.shape[1] >> level, region.image.shape[0] >> level)
            pixels = np.asarray(Image.fromarray(region.image).resize(size, Image.Resampling.BOX))
            unit = 1e4 / (bcss.MPP * 2**level)  # pixels per centimetre
            file.write(
                pixels,
                tile=(STORED, STORED),
                photometric="rgb",
                compression="zlib",  # nothing is lost a second time
                resolution=(unit, unit),
                resolutionunit="CENTIMETER",
                subfiletype=int(level > 0),
                metadata=None,
            )
    return path


def overlapping(slide: Slide, width_of: float = 1.0) -> Grid:
    """Every tile that lies within the slide, half a tile apart; or squares `width_of` it around their middles."""
    assert slide.facts.mpp is not None
    side = GRID.tile * GRID.mpp / slide.facts.mpp[0]  # level-0 px
    width, height = slide.facts.size
    step = side * STRIDE
    columns, rows = int((width - side) / step + 1e-6) + 1, int((height - side) / step + 1e-6) + 1
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2).astype(np.int64)
    places = np.rint(cells * step - side * (width_of - 1) / 2).astype(np.int64)
    return Grid(places, cells, (side * width_of, side * width_of), (columns, rows), GRID)


def seen(region: bcss.Region, folder: Path) -> tuple[Floats, Grid]:
    """(tiles, 2 x 1280) what the network sees in each tile and in its middle, and where the tiles lie."""
    path = folder / f"{region.name}.tiff"
    with open_slide(path if path.exists() else write(region, path)) as slide:
        grid, kept = overlapping(slide), folder / f"{region.name}.npy"
        if not kept.exists():
            from training.pathology.train_network import predict

            net = TileNet(NetConfig(side=GRID.tile))
            both = [
                np.concatenate([predict(net, tiles, turns=2)[1] for _, tiles in read(slide, one, batch=128)])
                for one in (grid, overlapping(slide, MIDDLE))
            ]
            np.save(kept, np.concatenate(both, 1))
    found: Floats = np.load(kept).astype(np.float64)
    return found, grid


def tumour(region: bcss.Region, grid: Grid) -> Floats:
    """(tiles,) share of tumour."""
    side = round(grid.extent[0])
    return np.array([region.tumour[y : y + side, x : x + side].mean() for x, y in grid.places])


def heatmap(probability: Floats, grid: Grid) -> Floats:
    """(rows, columns) of cells half a tile wide: the mean of the tiles that cover each."""
    columns, rows = grid.shape
    total, count = np.zeros((rows + 1, columns + 1)), np.zeros((rows + 1, columns + 1))
    for down in (0, 1):
        for right in (0, 1):
            np.add.at(total, (grid.cells[:, 1] + down, grid.cells[:, 0] + right), probability)
            np.add.at(count, (grid.cells[:, 1] + down, grid.cells[:, 0] + right), 1)
    mean: Floats = total / count
    return mean


def judge(heat: Floats, region: bcss.Region, grid: Grid) -> Interval:
    """AUC by pixel: each cell's tumour pixels against all cells' other pixels."""
    side = round(grid.extent[0] * STRIDE)
    rows, columns = heat.shape
    mask = region.tumour[: rows * side, : columns * side]
    mask = np.pad(mask, ((0, rows * side - mask.shape[0]), (0, columns * side - mask.shape[1])))
    positive = mask.reshape(rows, side, columns, side).sum((1, 3)).ravel()
    pixels = np.concatenate([positive, side * side - positive]).astype(np.float64)  # (2 cells,)
    block = (np.arange(rows)[:, None] // BLOCK * 1_000 + np.arange(columns) // BLOCK).ravel()
    tallier = Tallier(np.tile(heat.ravel(), 2), np.repeat([1, 0], heat.size))
    draws = Draws(len(pixels), 1_000, 0, np.tile(block, 2))
    return statistic(lambda times: auc(tallier(times * pixels)), draws)


@dataclass(frozen=True)
class Region:
    """One region as a slide: what was seen in each tile, its share of tumour, and where it lies."""

    truth: bcss.Region
    seen: Floats  # (tiles, 2 x 1280)
    share: Floats  # (tiles,)
    grid: Grid

    def judged(self, head: Any, eye: str) -> Interval:
        return judge(heatmap(head.predict_proba(self.seen[:, EYES[eye]])[:, 1], self.grid), self.truth, self.grid)


def learned(regions: Sequence[Region], eye: str, hold: float) -> Any:
    """A head on the tiles that are clearly one or the other."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, share = np.concatenate([one.seen for one in regions]), np.concatenate([one.share for one in regions])
    clear = (share >= TUMOUR) | (share <= NONE)
    head = make_pipeline(StandardScaler(), LogisticRegression(C=hold, max_iter=1_000, class_weight="balanced"))
    return head.fit(x[clear, EYES[eye]], share[clear] >= TUMOUR)


def chosen(regions: Sequence[Region]) -> tuple[str, float]:
    """What does best where each of the regions is asked of the other alone."""

    def worth(way: tuple[str, float]) -> float:
        asked = [(one, [other for other in regions if other is not one]) for one in regions]
        return float(np.mean([one.judged(learned(others, *way), way[0]).value for one, others in asked]))

    best: tuple[str, float] = max(itertools.product(EYES, HOLDS), key=worth)
    return best


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heatmap", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=CACHE, help="for the slides and what the network saw in them")
    folder: Path = parser.parse_args(argv).folder
    folder.mkdir(parents=True, exist_ok=True)
    regions = []
    for name in bcss.NAMES:
        truth = bcss.read(name)
        found, grid = seen(truth, folder)
        regions.append(Region(truth, found, tumour(truth, grid), grid))
    print("AUC of the heatmap by pixel of the mask, one region left out:")
    figures = []
    for left in regions:
        rest = [one for one in regions if one is not left]
        eye, hold = chosen(rest)
        figures.append(left.judged(learned(rest, eye, hold), eye))
        told = f"{len(left.grid):,} tiles, {left.truth.tumour.mean():.0%} tumour; chosen: {eye}, C {hold:g}"
        print(f"  {left.truth.name}: {figures[-1]}  {told}", flush=True)
    print(f"  mean of the three: {np.mean([one.value for one in figures]):.4f}")
    print("  Three patients: an engineering check.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
