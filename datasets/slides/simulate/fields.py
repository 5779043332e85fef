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
from datasets.slides.simulate.noise import REACH, Plane

Pixels = NDArray[np.uint8]
MARGIN = 4.0  # microns from a tile's side within which a nucleus' centre does not count for the tile
PER_SLIDE = 50  # tiles of one simulated slide
SHARES = (0.4, 0.2, 0.2, 0.2)  # of the classes among training tiles
WORSE = {NILM: (1.0,), LSIL: (0, 1.0), HSIL: (0, 0.3, 0.7), SCC: (0, 0.1, 0.2, 0.7)}  # abnormal cells beside each other
DENSITY = 300.0  # cells a mm2 where the deposit is of mean density
BESIDE = {"neutrophil": 1.4, "debris": 1.0, "mucus": 0.12}  # of each, per cell


@dataclass(frozen=True, slots=True)
class Look:
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
    uneven: float = 0.02

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Look:
        """A laboratory's stain and a scanner, from the range that real collections span."""
        nuclear = _between(rng, (0.97, 0.88, 0.46), (0.76, 0.92, 0.36), (1.0, 0.87, 0.56))
        blue = _between(rng, (0.78, 0.39, 0.26), (0.72, 0.42, 0.3), (0.62, 0.6, 0.28))
        red = _between(rng, (0.12, 0.75, 0.4), (0.1, 0.5, 0.75), (0.25, 0.8, 0.45))
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


def _between(rng: np.random.Generator, *colours: tuple[float, float, float]) -> NDArray[np.float64]:
    """A mixture of colours, near one of them more often than not."""
    return np.asarray(rng.dirichlet([0.7] * len(colours)) @ np.array(colours))


class Stock:
    """Cells painted once for one slide, and laid down again and again, turned eight ways."""

    def __init__(self, rng: np.random.Generator, mpp: float, numbers: Sequence[int], others: int = 16):
        self.mpp = mpp
        self.by_class: list[list[Cell]] = []
        for label, number in enumerate(numbers):
            names, shares = kinds_of(label)
            chosen = rng.choice(names, number, p=np.array(shares) / sum(shares))
            self.by_class.append([render_cell.paint(rng, KINDS[str(name)], mpp) for name in chosen])
        makers = {"neutrophil": render_cell.neutrophil, "debris": render_cell.debris, "mucus": render_cell.mucus}
        self.others = {name: [make(rng, mpp) for _ in range(others)] for name, make in makers.items()}


class Item(NamedTuple):
    """A cell laid down: where its nucleus is, in microns; which of eight ways it is turned; how much dye it took."""

    x: float
    y: float
    cell: Cell
    turn: int
    gain: float


def lay(rng: np.random.Generator, cell: Cell, x: float, y: float) -> Item:
    return Item(x, y, cell, int(rng.integers(8)), float(rng.uniform(0.8, 1.2)))


def group(rng: np.random.Generator, stock: list[Cell], x: float, y: float) -> Iterator[Item]:
    """A cell, and where its kind lies in crowds at times others of its kind about it, overlapping a little."""
    first = stock[rng.integers(len(stock))]
    yield lay(rng, first, x, y)
    if rng.random() >= first.crowd:
        return
    alike = [each for each in stock if each.kind == first.kind]
    for _ in range(rng.integers(1, 8)):
        other = alike[rng.integers(len(alike))]
        way, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 2.6) * (first.radius + other.radius) / 2
        yield lay(rng, other, x + away * np.cos(way), y + away * np.sin(way))


def beside(rng: np.random.Generator, stock: Stock, number: float, low: float, high: float) -> Iterator[Item]:
    """Neutrophils, debris and mucus among `number` cells, in a square from `low` to `high` microns."""
    for name, each in BESIDE.items():
        for _ in range(rng.poisson(number * each)):
            yield from group(rng, stock.others[name], *rng.uniform(low, high, 2))


def lay_down(items: list[Item], mpp: float, left: float, top: float, width: int, height: int) -> NDArray[np.float32]:
    """(3, height, width) densities of nuclear, blue and red dye in the field whose corner is at (left, top) microns."""
    field = np.zeros((3, height, width), np.float32)
    for item in items:
        cell = item.cell
        half = len(cell.nuclear) // 2
        dx, dy = _turned(cell.centre, item.turn)
        x0, y0 = round((item.x - left) / mpp) - dx - half, round((item.y - top) / mpp) - dy - half
        x1, y1 = max(x0, 0), max(y0, 0)
        x2, y2 = min(x0 + 2 * half + 1, width), min(y0 + 2 * half + 1, height)
        if x1 >= x2 or y1 >= y2:
            continue
        part = slice(y1 - y0, y2 - y0), slice(x1 - x0, x2 - x0)
        nuclear, cytoplasm = (_turn(plane, item.turn)[part] * item.gain for plane in (cell.nuclear, cell.cytoplasm))
        field[0, y1:y2, x1:x2] += nuclear
        field[1, y1:y2, x1:x2] += (1 - cell.pink) * cytoplasm
        field[2, y1:y2, x1:x2] += cell.pink * cytoplasm
    return field


def _turn(plane: Plane, turn: int) -> Plane:
    plane = plane.T if turn & 4 else plane
    return plane[:: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]


def _turned(centre: tuple[int, int], turn: int) -> tuple[int, int]:
    x, y = centre[::-1] if turn & 4 else centre
    return (-x if turn & 1 else x), (-y if turn & 2 else y)


def develop(
    field: NDArray[np.float32],
    look: Look,
    mpp: float,
    rng: np.random.Generator,
    margin: int = 0,
    at: tuple[float, float] = (0.0, 0.0),
) -> Pixels:
    """The field as the scanner saw it: (h, w, 3) uint8, less `margin` pixels all around, which the blur needs.

    `at`: where its corner is, in microns, as the light wavers over the slide.
    """
    from PIL import Image, ImageFilter

    dyes, height, width = field.shape
    field = field / (0.88 + 0.16 * field)  # glare: crowds never grow wholly black
    x, y = (look.uneven / 2 * _waver(start, mpp, length) for start, length in zip(at, (width, height), strict=True))
    light = look.light[:, None] * np.exp(-(look.dyes.T @ field.reshape(dyes, -1)))
    light = light.reshape(3, height, width) * (1 + y[:, None] + x)
    pixels = np.ascontiguousarray(np.minimum(light, 255).transpose(1, 2, 0).astype(np.uint8))
    blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(look.blur / mpp))
    pixels = np.asarray(blurred)[margin : height - margin, margin : width - margin]
    height, width = pixels.shape[:2]
    grain = _grain()
    y, x = rng.integers(0, len(grain) - height), rng.integers(0, len(grain) - width)
    noisy = pixels + look.noise * grain[y : y + height, x : x + width]
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def _waver(start: float, mpp: float, length: int) -> Plane:
    return np.asarray(np.sin((start + mpp * np.arange(length)) * (2 * np.pi / 700)), np.float32)


@lru_cache(maxsize=1)
def _grain() -> Plane:
    return np.random.default_rng(0).standard_normal((1_024, 1_024, 3)).astype(np.float32)


def encode(pixels: Pixels, quality: int) -> bytes:
    """JPEG without subsampled colour, which every reader decodes to the same pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


class Tiles(NamedTuple):
    images: Pixels  # (n, side, side, 3)
    labels: NDArray[np.int64]  # (n,) into CLASSES: the worst class of a cell whose nucleus lies inside
    slides: NDArray[np.int64]  # (n,) which simulated slide each is of: its stain, its scanner and its cells


def tiles(n: int, seed: int, side: int = 128, mpp: float = 0.5) -> Tiles:
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
    slides = np.arange(n) // PER_SLIDE
    for slide in range(int(slides[-1]) + 1):
        rng = np.random.default_rng([seed, slide])
        look, stock = Look.draw(rng), Stock(rng, mpp, (24, 10, 12, 14), others=10)
        density = DENSITY * np.exp(rng.normal(0, 0.3))
        for at in range(slide * PER_SLIDE, min(n, (slide + 1) * PER_SLIDE)):
            labels[at] = rng.choice(len(CLASSES), p=SHARES)
            images[at] = _tile(rng, stock, look, int(labels[at]), side, density)
    return Tiles(images, labels, slides)


def _tile(rng: np.random.Generator, stock: Stock, look: Look, label: int, side: int, density: float) -> Pixels:
    from PIL import Image

    mpp, extent = stock.mpp, side * stock.mpp
    items: list[Item] = []
    low, high = -REACH / 2, extent + REACH / 2
    number = density / 1e6 * (high - low) ** 2 * rng.gamma(2.0, 0.5)
    if label == NILM and rng.random() < 0.8 or label != NILM:
        x, y = rng.uniform(MARGIN, extent - MARGIN, 2)
        items += group(rng, stock.by_class[label], x, y)
    for _ in range(rng.poisson(number)):
        worse = label if rng.random() < 0.25 else NILM
        kind = rng.choice(len(WORSE[worse]), p=WORSE[worse])
        items += group(rng, stock.by_class[kind], *rng.uniform(low, high, 2))
    items += beside(rng, stock, number, low, high)
    margin = 4
    edge = margin * mpp
    field = lay_down(items, mpp, -edge, -edge, side + 2 * margin, side + 2 * margin)
    pixels = develop(field, look, mpp, rng, margin, (rng.uniform(0, 700), rng.uniform(0, 700)))
    return np.asarray(Image.open(io.BytesIO(encode(pixels, look.quality))))
