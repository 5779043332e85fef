"""Cervical fields with known cells. SIMULATED: they teach and test a network, and are no evidence about patients.

images, labels, slides = tiles(1_000, seed=7)     # (n, 128, 128, 3) uint8 at 0.5 um/px, (n,) into CLASSES, (n,)

The dyes of all that lies at a place add up as optical density, as in transmitted light: cells that overlap are dark.
Each slide has its own stain, light, blur, noise and JPEG quality, drawn without regard to what is on it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.slides.simulate import render_cell
from datasets.slides.simulate.cell_types import CLASSES, HSIL, KINDS, LSIL, NILM, SCC, Cell, kinds_of
from datasets.slides.simulate.noise import MAX_RADIUS, Plane

Pixels = NDArray[np.uint8]
TILE_MARGIN = 4.0  # microns from a tile's side within which a nucleus' centre does not count for the tile
TILES_PER_SLIDE = 50  # tiles of one simulated slide
CLASS_SHARES = (0.4, 0.2, 0.2, 0.2)  # of the classes among training tiles
CLASS_MIX = {
    NILM: (1.0,),
    LSIL: (0, 1.0),
    HSIL: (0, 0.3, 0.7),
    SCC: (0, 0.1, 0.2, 0.7),
}  # abnormal cells beside each other
MEAN_DENSITY = 300.0  # cells a mm2 where the deposit is of mean density
BACKGROUND_RATES = {"neutrophil": 1.4, "debris": 1.0, "mucus": 0.12}  # of each, per cell


@dataclass(frozen=True, slots=True)
class Appearance:
    """How a slide was stained and scanned.

    dyes:   (3, 3) optical density of nuclear, blue and red dye in red, green and blue light; (4, 3) with ink.
    light:  of the empty glass, 0 to 255.
    uneven: how much the light wavers over the slide, as a share of it.
    blur:   standard deviation of the defocus, in microns.
    """

    dyes: Plane
    light: Plane
    blur: float = 0.35
    noise: float = 1.5
    quality: int = 88
    unevenness: float = 0.02

    @classmethod
    def draw_random(cls, rng: np.random.Generator) -> Appearance:
        """A laboratory's stain and a scanner, from the range that real collections span."""
        nuclear = _mix_colours(rng, (0.97, 0.88, 0.46), (0.76, 0.92, 0.36), (1.0, 0.87, 0.56))
        blue = _mix_colours(rng, (0.78, 0.39, 0.26), (0.72, 0.42, 0.3), (0.62, 0.6, 0.28))
        red = _mix_colours(rng, (0.12, 0.75, 0.4), (0.1, 0.5, 0.75), (0.25, 0.8, 0.45))
        strength = np.exp(rng.normal(0, (0.13, 0.2, 0.2)))
        light = 238 + rng.normal(0, 5) + rng.uniform(-2.5, 2.5, 3)
        return cls(
            np.asarray(np.stack([nuclear, blue, red]) * strength[:, None], np.float32),
            np.clip(light, 215, 250).astype(np.float32),
            rng.uniform(0.1, 0.4),
            rng.uniform(0.8, 2.2),
            int(rng.integers(78, 95)),
            rng.uniform(0, 0.03),
        )


def _mix_colours(rng: np.random.Generator, *colours: tuple[float, float, float]) -> NDArray[np.float64]:
    """A mixture of colours, near one of them more often than not."""
    return np.asarray(rng.dirichlet([0.7] * len(colours)) @ np.array(colours))


class CellStock:
    """Cells painted once for one slide, and laid down again and again, turned eight ways."""

    def __init__(self, rng: np.random.Generator, mpp: float, counts: Sequence[int], background_count: int = 16):
        self.mpp = mpp
        self.by_class: list[list[Cell]] = []
        for label, count in enumerate(counts):
            names, shares = kinds_of(label)
            kind_names = rng.choice(names, count, p=np.array(shares) / sum(shares))
            self.by_class.append([render_cell.render(rng, KINDS[str(name)], mpp) for name in kind_names])
        background_renderers = {
            "neutrophil": render_cell.render_neutrophil,
            "debris": render_cell.render_debris,
            "mucus": render_cell.render_mucus,
        }
        self.background_cells = {
            name: [render_background(rng, mpp) for _ in range(background_count)]
            for name, render_background in background_renderers.items()
        }


class PlacedCell(NamedTuple):
    """A cell laid down: where its nucleus is, in microns; which of eight ways it is turned; how much dye it took."""

    x: float
    y: float
    cell: Cell
    orientation: int
    gain: float


def place_cell(rng: np.random.Generator, cell: Cell, x: float, y: float) -> PlacedCell:
    return PlacedCell(x, y, cell, int(rng.integers(8)), float(rng.uniform(0.8, 1.2)))


def place_group(rng: np.random.Generator, cells: list[Cell], x: float, y: float) -> Iterator[PlacedCell]:
    """A cell, and where its kind lies in crowds at times others of its kind about it, overlapping a little."""
    first = cells[rng.integers(len(cells))]
    yield place_cell(rng, first, x, y)
    if rng.random() >= first.crowding:
        return
    same_kind = [candidate for candidate in cells if candidate.kind == first.kind]
    for _ in range(rng.integers(1, 8)):
        other = same_kind[rng.integers(len(same_kind))]
        direction, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 2.6) * (first.radius + other.radius) / 2
        yield place_cell(rng, other, x + distance * np.cos(direction), y + distance * np.sin(direction))


def neighbouring(
    rng: np.random.Generator, stock: CellStock, cell_count: float, low: float, high: float
) -> Iterator[PlacedCell]:
    """Neutrophils, debris and mucus among `number` cells, in a square from `low` to `high` microns."""
    for name, rate in BACKGROUND_RATES.items():
        for _ in range(rng.poisson(cell_count * rate)):
            yield from place_group(rng, stock.background_cells[name], *rng.uniform(low, high, 2))


def render_field(
    placed_cells: list[PlacedCell], mpp: float, left: float, top: float, width: int, height: int
) -> NDArray[np.float32]:
    """(3, height, width) densities of nuclear, blue and red dye in the field whose corner is at (left, top) microns."""
    field = np.zeros((3, height, width), np.float32)
    for placed in placed_cells:
        cell = placed.cell
        half_side = len(cell.nuclear_density) // 2
        dx, dy = _turn_point(cell.centre, placed.orientation)
        x0, y0 = round((placed.x - left) / mpp) - dx - half_side, round((placed.y - top) / mpp) - dy - half_side
        x1, y1 = max(x0, 0), max(y0, 0)
        x2, y2 = min(x0 + 2 * half_side + 1, width), min(y0 + 2 * half_side + 1, height)
        if x1 >= x2 or y1 >= y2:
            continue
        visible = slice(y1 - y0, y2 - y0), slice(x1 - x0, x2 - x0)
        nuclear, cytoplasm = (
            _turn_plane(plane, placed.orientation)[visible] * placed.gain
            for plane in (cell.nuclear_density, cell.cytoplasm_density)
        )
        field[0, y1:y2, x1:x2] += nuclear
        field[1, y1:y2, x1:x2] += (1 - cell.red_dye_share) * cytoplasm
        field[2, y1:y2, x1:x2] += cell.red_dye_share * cytoplasm
    return field


def _turn_plane(plane: Plane, orientation: int) -> Plane:
    plane = plane.T if orientation & 4 else plane
    return plane[:: -1 if orientation & 2 else 1, :: -1 if orientation & 1 else 1]


def _turn_point(centre: tuple[int, int], orientation: int) -> tuple[int, int]:
    x, y = centre[::-1] if orientation & 4 else centre
    return (-x if orientation & 1 else x), (-y if orientation & 2 else y)


def apply_stain(
    field: NDArray[np.float32],
    appearance: Appearance,
    mpp: float,
    rng: np.random.Generator,
    margin: int = 0,
    origin: tuple[float, float] = (0.0, 0.0),
) -> Pixels:
    """The field as the scanner saw it: (h, w, 3) uint8, less `margin` pixels all around, which the blur needs.

    `at`: where its corner is, in microns, as the light wavers over the slide.
    """
    from PIL import Image, ImageFilter

    dyes, height, width = field.shape
    field = field / (0.88 + 0.16 * field)  # glare: crowds never grow wholly black
    x, y = (
        appearance.unevenness / 2 * _light_variation(start, mpp, length)
        for start, length in zip(origin, (width, height), strict=True)
    )
    light = appearance.light[:, None] * np.exp(-(appearance.dyes.T @ field.reshape(dyes, -1)))
    light = light.reshape(3, height, width) * (1 + y[:, None] + x)
    pixels = np.ascontiguousarray(np.minimum(light, 255).transpose(1, 2, 0).astype(np.uint8))
    blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(appearance.blur / mpp))
    pixels = np.asarray(blurred)[margin : height - margin, margin : width - margin]
    height, width = pixels.shape[:2]
    grain = _noise_grain()
    y, x = rng.integers(0, len(grain) - height), rng.integers(0, len(grain) - width)
    noisy_pixels = pixels + appearance.noise * grain[y : y + height, x : x + width]
    return np.asarray(np.clip(noisy_pixels, 0, 255), np.uint8)


def _light_variation(start: float, mpp: float, length: int) -> Plane:
    return np.asarray(np.sin((start + mpp * np.arange(length)) * (2 * np.pi / 700)), np.float32)


@lru_cache(maxsize=1)
def _noise_grain() -> Plane:
    return np.random.default_rng(0).standard_normal((1_024, 1_024, 3)).astype(np.float32)


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """JPEG without subsampled colour, which every reader decodes to the same pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


class SimulatedTiles(NamedTuple):
    images: Pixels  # (n, side, side, 3)
    labels: NDArray[np.int64]  # (n,) into CLASSES: the worst class of a cell whose nucleus lies inside
    slides: NDArray[np.int64]  # (n,) which simulated slide each is of: its stain, its scanner and its cells


def simulate_tiles(n: int, seed: int, side: int = 128, mpp: float = 0.5) -> SimulatedTiles:
    """Training tiles, 50 of each simulated slide, of all classes on every slide.

    A nucleus lies inside where its centre is MARGIN microns or more from every side. No tile shows part of a cell that
    is worse than its label.
    """
    if n < 1 or side < 32 or not 0.1 <= mpp <= 2:
        raise DataError(
            f"{n} tiles of {side} px at {mpp:g} um/px; 1 or more, of 32 px or more, at 0.1 to 2 were needed."
        )
    images = np.empty((n, side, side, 3), np.uint8)
    labels = np.empty(n, np.int64)
    slides = np.arange(n) // TILES_PER_SLIDE
    for slide in range(int(slides[-1]) + 1):
        rng = np.random.default_rng([seed, slide])
        appearance, stock = Appearance.draw_random(rng), CellStock(rng, mpp, (24, 10, 12, 14), background_count=10)
        density = MEAN_DENSITY * np.exp(rng.normal(0, 0.3))
        for index in range(slide * TILES_PER_SLIDE, min(n, (slide + 1) * TILES_PER_SLIDE)):
            labels[index] = rng.choice(len(CLASSES), p=CLASS_SHARES)
            images[index] = _simulate_tile(rng, stock, appearance, int(labels[index]), side, density)
    return SimulatedTiles(images, labels, slides)


def _simulate_tile(
    rng: np.random.Generator, stock: CellStock, appearance: Appearance, label: int, side: int, density: float
) -> Pixels:
    from PIL import Image

    mpp, extent = stock.mpp, side * stock.mpp
    placed_cells: list[PlacedCell] = []
    low, high = -MAX_RADIUS / 2, extent + MAX_RADIUS / 2
    cell_count = density / 1e6 * (high - low) ** 2 * rng.gamma(2.0, 0.5)
    if label == NILM and rng.random() < 0.8 or label != NILM:
        x, y = rng.uniform(TILE_MARGIN, extent - TILE_MARGIN, 2)
        placed_cells += place_group(rng, stock.by_class[label], x, y)
    for _ in range(rng.poisson(cell_count)):
        worst_class = label if rng.random() < 0.25 else NILM
        drawn_class = rng.choice(len(CLASS_MIX[worst_class]), p=CLASS_MIX[worst_class])
        placed_cells += place_group(rng, stock.by_class[drawn_class], *rng.uniform(low, high, 2))
    placed_cells += neighbouring(rng, stock, cell_count, low, high)
    margin = 4
    edge_microns = margin * mpp
    field = render_field(placed_cells, mpp, -edge_microns, -edge_microns, side + 2 * margin, side + 2 * margin)
    pixels = apply_stain(field, appearance, mpp, rng, margin, (rng.uniform(0, 700), rng.uniform(0, 700)))
    return np.asarray(Image.open(io.BytesIO(encode_jpeg(pixels, appearance.quality))))
