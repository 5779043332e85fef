"""Is a tile fit to be looked at, and is a slide: focus, emptiness, pen.

reasons = judge_tiles(tiles)                              # (n,) "", "blank", "pen" or "focus"
faults = judge_slide(reasons, tissue.share)               # empty where the slide is fit
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.slides.errors import SlideFault, fault
from datasets.slides.reader import Pixels

BLANK, PEN, FOCUS = "blank", "pen", "focus"
CHUNK = 16  # tiles measured at a time


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """Measured at 0.5 um/px and 224 pixels, on tiles of five collections of three stains.

    focus: variance of the Laplacian over the variance of the grey values, so that a pale stain is not taken for a
        blurred one. In focus 95 of 100 tiles had more than .098 (Aperio), .034 (Aperio, JPEG 2000), .021 (liquid-based
        cytology) and .049 (breast); blurred by a Gaussian of 2 pixels their medians were .005, .016, .004 and .009.
    blank: standard deviation of the grey values, 0 to 255; glass as scanned has 1 to 2.
    pen: ink is green to blue and far more colourful than a stain: of the same tiles 4 in 1,000 of the cytology and none
        of the others had a tenth of such pixels. Black ink is dark and grey. Red ink is not told from eosin.
    """

    focus: float = 0.02
    blank: float = 3.0
    pen: float = 0.10  # share of a tile that is ink
    ink_chroma: int = 100
    ink_hue: tuple[float, float] = (80.0, 255.0)  # degrees, from 60 to 300
    black_value: int = 60
    black_chroma: int = 30
    least_tissue: float = 0.0005  # of the slide; the smallest biopsy piece at hand covers .003
    most_out_of_focus: float = 0.5  # of its tiles that are not blank
    most_pen: float = 0.3


def judge_tiles(tiles: Pixels, config: QualityConfig | None = None) -> NDArray[np.str_]:
    """(n,) the first reason against each of `tiles` (n, h, w, 3), or "" where there is none."""
    config = config or QualityConfig()
    reasons = np.full(len(tiles), "", dtype="<U8")
    for start in range(0, len(tiles), CHUNK):
        part = slice(start, start + CHUNK)
        grey = greys(tiles[part])
        reasons[part] = np.select(
            [grey.std((1, 2)) < config.blank, ink(tiles[part], config) > config.pen, focus(grey) < config.focus],
            [BLANK, PEN, FOCUS],
            "",
        )
    return reasons


def judge_slide(reasons: Iterable[str], tissue: float, config: QualityConfig | None = None) -> tuple[SlideFault, ...]:
    """Why the slide must be scanned again, from its tiles' reasons and its share of tissue; nothing where it is fit."""
    config = config or QualityConfig()
    told = [reason for reason in reasons if reason != BLANK]
    if tissue < config.least_tissue or not told:
        return (fault("all_background", found=tissue if told else 0.0, needed=config.least_tissue),)
    blurred, pen = (told.count(reason) / len(told) for reason in (FOCUS, PEN))
    faults = []
    if blurred > config.most_out_of_focus:
        faults.append(fault("out_of_focus", found=blurred, needed=config.most_out_of_focus))
    if pen > config.most_pen:
        faults.append(fault("pen_marks", found=pen, needed=config.most_pen))
    return tuple(faults)


def greys(tiles: Pixels) -> NDArray[np.float32]:
    """(n, h, w) luma of ITU-R BT.601, 0 to 255."""
    red, green, blue = (tiles[..., at].astype(np.float32) for at in range(3))
    return np.asarray(0.299 * red + 0.587 * green + 0.114 * blue, np.float32)


def focus(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) variance of the Laplacian over the variance of the grey values; 1 is added to this, lest it be 0."""
    inner = grey[:, 1:-1, 1:-1]
    laplacian = 4 * inner - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]
    return np.asarray(laplacian.var((1, 2)) / (grey.var((1, 2)) + 1), np.float32)


def ink(tiles: Pixels, config: QualityConfig) -> NDArray[np.float64]:
    """(n,) share of each tile that is green, blue or black ink, from every fourth pixel."""
    red, green, blue = (tiles[:, ::2, ::2, at].astype(np.float32) for at in range(3))
    most, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    chroma = most - least
    low, high = (degrees / 60 for degrees in config.ink_hue)  # a hue is 2 + (blue - red) / chroma where green is most
    greenish = (most == green) & (blue - red > (low - 2) * chroma)
    bluish = (most == blue) & (red - green < (high - 4) * chroma)
    coloured = (chroma > config.ink_chroma) & (greenish | bluish)
    black = (most < config.black_value) & (chroma < config.black_chroma)
    return np.asarray((coloured | black).mean((1, 2)))
