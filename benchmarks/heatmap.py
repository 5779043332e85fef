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
from datasets.slides.tiling import Grid, GridConfig, read_tiles
from models.pathology.neural.network import NetConfig, TileNet
from training.evaluation.metrics import BootstrapSamples, Interval, ScoreCounter, auc, bootstrap_interval

CACHE = Path("var/heatmap")
GRID = GridConfig(mpp=0.5, tile_size=128)
TILE_STRIDE = 0.5  # of a tile, from one to the next
CENTRE_WIDTH = 0.5  # of a tile's width: what is seen from nearer
FEATURE_VIEWS = {"tile": slice(0, 1280), "middle": slice(1280, 2560), "both": slice(0, 2560)}
REGULARISATIONS = (1e-5, 1e-4, 1e-3, 1e-2)  # C of the logistic head
STORED_TILE_SIDE = 256  # px a side of a stored tile
PYRAMID_LEVELS = 3
TUMOUR_SHARE, MAX_NORMAL_SHARE = 0.5, 0.1  # share of tumour from which, and up to which, a tile is learned from
RESAMPLING_BLOCK = 4  # cells of the heatmap a side that are drawn together: 512 px, 128 um
Floats = NDArray[np.float64]


def write_pyramid(region: bcss.Region, path: Path) -> Path:
    """A pyramidal tiled TIFF with its scale, each level half of the one before."""
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
                compression="zlib",  # nothing is lost a second time
                resolution=(unit, unit),
                resolutionunit="CENTIMETER",
                subfiletype=int(level > 0),
                metadata=None,
            )
    return path


def overlapping_grid(slide: Slide, width_of: float = 1.0) -> Grid:
    """Every tile that lies within the slide, half a tile apart; or squares `width_of` it around their middles."""
    assert slide.metadata.mpp is not None
    side = GRID.tile_size * GRID.mpp / slide.metadata.mpp[0]  # level-0 px
    width, height = slide.metadata.size
    step = side * TILE_STRIDE
    columns, rows = int((width - side) / step + 1e-6) + 1, int((height - side) / step + 1e-6) + 1
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2).astype(np.int64)
    places = np.rint(cells * step - side * (width_of - 1) / 2).astype(np.int64)
    return Grid(places, cells, (side * width_of, side * width_of), (columns, rows), GRID)


def extract_features(region: bcss.Region, folder: Path) -> tuple[Floats, Grid]:
    """(tiles, 2 x 1280) what the network sees in each tile and in its middle, and where the tiles lie."""
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
    """(tiles,) share of tumour."""
    side = round(grid.extent[0])
    return np.array([region.tumour[y : y + side, x : x + side].mean() for x, y in grid.positions])


def build_heatmap(probability: Floats, grid: Grid) -> Floats:
    """(rows, columns) of cells half a tile wide: the mean of the tiles that cover each."""
    columns, rows = grid.shape
    total, count = np.zeros((rows + 1, columns + 1)), np.zeros((rows + 1, columns + 1))
    for down in (0, 1):
        for right in (0, 1):
            np.add.at(total, (grid.cells[:, 1] + down, grid.cells[:, 0] + right), probability)
            np.add.at(count, (grid.cells[:, 1] + down, grid.cells[:, 0] + right), 1)
    mean: Floats = total / count
    return mean


def pixel_auc(heat: Floats, region: bcss.Region, grid: Grid) -> Interval:
    """AUC by pixel: each cell's tumour pixels against all cells' other pixels."""
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
    """One region as a slide: what was seen in each tile, its share of tumour, and where it lies."""

    source: bcss.Region
    features: Floats  # (tiles, 2 x 1280)
    tumour_share: Floats  # (tiles,)
    grid: Grid

    def evaluate(self, head: Any, view: str) -> Interval:
        return pixel_auc(
            build_heatmap(head.predict_proba(self.features[:, FEATURE_VIEWS[view]])[:, 1], self.grid),
            self.source,
            self.grid,
        )


def fit_head(regions: Sequence[Region], view: str, regularisation: float) -> Any:
    """A head on the tiles that are clearly one or the other."""
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
    """What does best where each of the regions is asked of the other alone."""

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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heatmap", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=CACHE, help="for the slides and what the network saw in them")
    folder: Path = parser.parse_args(argv).folder
    folder.mkdir(parents=True, exist_ok=True)
    regions = []
    for name in bcss.NAMES:
        source = bcss.read(name)
        features, grid = extract_features(source, folder)
        regions.append(Region(source, features, tumour_shares(source, grid), grid))
    print("AUC of the heatmap by pixel of the mask, one region left out:")
    figures = []
    for held_out in regions:
        other_regions = [region for region in regions if region is not held_out]
        view, regularisation = choose_settings(other_regions)
        figures.append(held_out.evaluate(fit_head(other_regions, view, regularisation), view))
        note = f"{len(held_out.grid):,} tiles, {held_out.source.tumour.mean():.0%} tumour; chosen: {view}, C {regularisation:g}"
        print(f"  {held_out.source.name}: {figures[-1]}  {note}", flush=True)
    print(f"  mean of the three: {np.mean([region.value for region in figures]):.4f}")
    print("  Three patients: an engineering check.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
