"""Measure whether a heatmap lights up where the tumour is, on three breast regions (BCSS), each held out in turn.

    YUHENG_DATA=../shared/data python -m benchmarks.quality.heatmap        # minutes; caches features in var/heatmap

Each region is written as a pyramidal TIFF at 0.25 um/px and read like any slide, at 0.5 um/px. A logistic head is
fitted to the tiles of two regions, on the features of an ImageNet network for a tile of 128 px, for its centre at twice
the scale, or for both; which of them, and the regularisation, is chosen on those two regions, each held out in turn.
The heatmap of the third region averages the tiles that overlap at a position, four at most. Its AUC is by pixel of the
mask: tumour against other tissue. The interval is over 1,000 resamples of blocks of 128 um, because neighbours are
alike.

Three patients with tumour and coarse masks: this verifies the way from slide to heatmap, and says nothing about
clinical use.
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
from datasets.slides.tiling import Grid, GridConfig, read_tiles
from models.metrics import Interval
from models.pathology.neural.network import NetConfig, TileNet
from training.evaluation.metrics import BootstrapSamples, ScoreCounter, auc, bootstrap_interval

CACHE = Path("var/heatmap")
GRID = GridConfig(mpp=0.5, tile_size=128)
TILE_STRIDE = 0.5  # of a tile, from one to the next
CENTRE_WIDTH = 0.5  # of a tile's width
FEATURE_VIEWS = {"tile": slice(0, 1280), "centre": slice(1280, 2560), "both": slice(0, 2560)}
REGULARISATIONS = (1e-5, 1e-4, 1e-3, 1e-2)  # C of the logistic head
STORED_TILE_SIDE = 256  # px a side of a stored tile
PYRAMID_LEVELS = 3
TUMOUR_SHARE, MAX_NORMAL_SHARE = 0.5, 0.1  # minimum share of a positive tile, maximum share of a negative one
RESAMPLING_BLOCK = 4  # side of a block in heatmap cells: 512 px, 128 um
Floats = NDArray[np.float64]


def write_pyramid(region: bcss.Region, path: Path) -> Path:
    """Write a pyramidal tiled TIFF with its scale, each level half the size of the one before; returns its path."""
    import tifffile
    from PIL import Image

    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(PYRAMID_LEVELS):
            size = (region.image.shape[1] >> level, region.image.shape[0] >> level)
            pixels = np.asarray(Image.fromarray(region.image).resize(size, Image.Resampling.BOX))
            unit = 1e4 / (bcss.MPP * 2**level)  # pixels per centimetre
            file.write(
                pixels,
                tile=(STORED_TILE_SIDE, STORED_TILE_SIDE),
                photometric="rgb",
                compression="zlib",  # lossless, because the source is already compressed
                resolution=(unit, unit),
                resolutionunit="CENTIMETER",
                subfiletype=int(level > 0),
                metadata=None,
            )
    return path


def overlapping_grid(slide: Slide, width_of: float = 1.0) -> Grid:
    """Every tile within the slide, half a tile apart; `width_of`: the share of a tile's width, around its centre."""
    assert slide.metadata.mpp is not None
    side = GRID.tile_size * GRID.mpp / slide.metadata.mpp[0]  # level-0 px
    width, height = slide.metadata.size
    step = side * TILE_STRIDE
    columns, rows = int((width - side) / step + 1e-6) + 1, int((height - side) / step + 1e-6) + 1
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2).astype(np.int64)
    places = np.rint(cells * step - side * (width_of - 1) / 2).astype(np.int64)
    return Grid(places, cells, (side * width_of, side * width_of), (columns, rows), GRID)


def extract_features(region: bcss.Region, folder: Path) -> tuple[Floats, Grid]:
    """(tiles, 2 x 1280) features of each tile and of its centre, and the grid of the tiles."""
    path = folder / f"{region.name}.tiff"
    with open_slide(path if path.exists() else write_pyramid(region, path)) as slide:
        grid, cache_path = overlapping_grid(slide), folder / f"{region.name}.npy"
        if not cache_path.exists():
            from training.pathology.train_network import predict

            net = TileNet(NetConfig(side=GRID.tile_size))
            features = [
                np.concatenate(
                    [predict(net, tiles, symmetry_count=2)[1] for _, tiles in read_tiles(slide, view_grid, batch=128)]
                )
                for view_grid in (grid, overlapping_grid(slide, CENTRE_WIDTH))
            ]
            np.save(cache_path, np.concatenate(features, 1))
    cached: Floats = np.load(cache_path).astype(np.float64)
    return cached, grid


def tumour_shares(region: bcss.Region, grid: Grid) -> Floats:
    """(tiles,) share of tumour in each tile."""
    side = round(grid.extent[0])
    return np.array([region.tumour[y : y + side, x : x + side].mean() for x, y in grid.positions])


def build_heatmap(probability: Floats, grid: Grid) -> Floats:
    """(rows, columns) of cells half a tile wide: the mean over the tiles that cover each; probability: (tiles,)."""
    columns, rows = grid.shape
    total, count = np.zeros((rows + 1, columns + 1)), np.zeros((rows + 1, columns + 1))
    for down in (0, 1):
        for right in (0, 1):
            np.add.at(total, (grid.cells[:, 1] + down, grid.cells[:, 0] + right), probability)
            np.add.at(count, (grid.cells[:, 1] + down, grid.cells[:, 0] + right), 1)
    mean: Floats = total / count
    return mean


def pixel_auc(heat: Floats, region: bcss.Region, grid: Grid) -> Interval:
    """AUC by pixel: the tumour pixels of each cell against the other pixels of all cells."""
    side = round(grid.extent[0] * TILE_STRIDE)
    rows, columns = heat.shape
    mask = region.tumour[: rows * side, : columns * side]
    mask = np.pad(mask, ((0, rows * side - mask.shape[0]), (0, columns * side - mask.shape[1])))
    positive = mask.reshape(rows, side, columns, side).sum((1, 3)).ravel()
    pixels = np.concatenate([positive, side * side - positive]).astype(np.float64)  # (2 cells,)
    block = (np.arange(rows)[:, None] // RESAMPLING_BLOCK * 1_000 + np.arange(columns) // RESAMPLING_BLOCK).ravel()
    counter = ScoreCounter(np.tile(heat.ravel(), 2), np.repeat([1, 0], heat.size))
    samples = BootstrapSamples(len(pixels), 1_000, 0, np.tile(block, 2))
    return bootstrap_interval(lambda weights: auc(counter(weights * pixels)), samples)


@dataclass(frozen=True)
class Region:
    """One region as a slide: features and share of tumour of each tile, and their grid."""

    source: bcss.Region
    features: Floats  # (tiles, 2 x 1280)
    tumour_share: Floats  # (tiles,)
    grid: Grid

    def evaluate(self, head: Any, view: str) -> Interval:
        """AUC of a head's heatmap."""
        return pixel_auc(
            build_heatmap(head.predict_proba(self.features[:, FEATURE_VIEWS[view]])[:, 1], self.grid),
            self.source,
            self.grid,
        )


def fit_head(regions: Sequence[Region], view: str, regularisation: float) -> Any:
    """Fit a logistic head to the tiles that are clearly positive or negative."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, tumour_share = (
        np.concatenate([region.features for region in regions]),
        np.concatenate([region.tumour_share for region in regions]),
    )
    is_clear = (tumour_share >= TUMOUR_SHARE) | (tumour_share <= MAX_NORMAL_SHARE)
    head = make_pipeline(
        StandardScaler(), LogisticRegression(C=regularisation, max_iter=1_000, class_weight="balanced")
    )
    return head.fit(x[is_clear, FEATURE_VIEWS[view]], tumour_share[is_clear] >= TUMOUR_SHARE)


def choose_settings(regions: Sequence[Region]) -> tuple[str, float]:
    """The view and regularisation with the best mean AUC, each of the regions held out in turn."""

    def mean_auc(settings: tuple[str, float]) -> float:
        folds = [
            (region, [other_region for other_region in regions if other_region is not region]) for region in regions
        ]
        return float(
            np.mean(
                [
                    region.evaluate(fit_head(other_regions, *settings), settings[0]).value
                    for region, other_regions in folds
                ]
            )
        )

    best_settings: tuple[str, float] = max(itertools.product(FEATURE_VIEWS, REGULARISATIONS), key=mean_auc)
    return best_settings


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.heatmap", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=CACHE, help="for the slides and their features")
    folder: Path = parser.parse_args(argv).folder
    folder.mkdir(parents=True, exist_ok=True)
    regions = []
    for name in bcss.NAMES:
        source = bcss.read(name)
        features, grid = extract_features(source, folder)
        regions.append(Region(source, features, tumour_shares(source, grid), grid))
    print("AUC of the heatmap by pixel of the mask, each region held out:")
    figures = []
    for held_out in regions:
        other_regions = [region for region in regions if region is not held_out]
        view, regularisation = choose_settings(other_regions)
        figures.append(held_out.evaluate(fit_head(other_regions, view, regularisation), view))
        tumour = f"{held_out.source.tumour.mean():.0%} tumour"
        note = f"{len(held_out.grid):,} tiles, {tumour}; chosen: {view}, C {regularisation:g}"
        print(f"  {held_out.source.name}: {figures[-1]}  {note}", flush=True)
    print(f"  mean of the three: {np.mean([region.value for region in figures]):.4f}")
    print("  Three patients: an engineering check only.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
