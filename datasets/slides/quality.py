"""Assess whether tiles and slides are fit to be read: focus, emptiness, pen marks.

reasons = assess_tiles(tiles)                              # (n,) "", "blank", "pen" or "focus"
issues = assess_slide(reasons, tissue.share)               # empty if the slide is fit
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.slides.errors import SlideIssue, slide_issue
from datasets.slides.reader import Pixels

BLANK, PEN, FOCUS = "blank", "pen", "focus"
CHUNK_TILES = 16  # tiles measured at a time


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """Measured at 0.5 um/px and 224 pixels, on tiles of five collections of three stains.

    focus: variance of the Laplacian over the variance of the grey values, so that a pale stain is not mistaken for
        blur. In focus, 95 of 100 tiles had more than .098 (Aperio), .034 (Aperio, JPEG 2000), .021 (liquid-based
        cytology) and .049 (breast); blurred by a Gaussian of 2 pixels their medians were .005, .016, .004 and .009.
    blank: standard deviation of the grey values, 0 to 255; scanned glass has 1 to 2.
    pen: ink is green to blue and far more saturated than a stain: of the same tiles 4 in 1,000 of the cytology and none
        of the others had a tenth of such pixels. Black ink is dark and grey. Red ink cannot be told from eosin.
    """

    focus: float = 0.02
    blank: float = 3.0
    pen: float = 0.10  # share of a tile that is ink
    ink_chroma: int = 100
    ink_hue: tuple[float, float] = (80.0, 255.0)  # degrees, from 60 to 300
    black_value: int = 60
    black_chroma: int = 30
    min_tissue: float = 0.0005  # share of the slide; the smallest biopsy available covers .003
    max_out_of_focus: float = 0.5  # share of its tiles that are not blank
    max_pen: float = 0.3


def assess_tiles(tiles: Pixels, config: QualityConfig | None = None) -> NDArray[np.str_]:
    """The first reason against each of `tiles` (n, h, w, 3), or "" if there is none, (n,)."""
    config = config or QualityConfig()
    reasons = np.full(len(tiles), "", dtype="<U8")
    for start in range(0, len(tiles), CHUNK_TILES):
        chunk = slice(start, start + CHUNK_TILES)
        grey = to_grey(tiles[chunk])
        reasons[chunk] = np.select(
            [
                grey.std((1, 2)) < config.blank,
                ink_share(tiles[chunk], config) > config.pen,
                focus_measure(grey) < config.focus,
            ],
            [BLANK, PEN, FOCUS],
            "",
        )
    return reasons


def assess_slide(reasons: Iterable[str], tissue: float, config: QualityConfig | None = None) -> tuple[SlideIssue, ...]:
    """Why the slide must be scanned again, by the reasons of its tiles and its share of tissue; empty if fit."""
    config = config or QualityConfig()
    informative_reasons = [reason for reason in reasons if reason != BLANK]
    if tissue < config.min_tissue or not informative_reasons:
        return (
            slide_issue("all_background", actual=tissue if informative_reasons else 0.0, expected=config.min_tissue),
        )
    blurred_share, pen_share = (informative_reasons.count(reason) / len(informative_reasons) for reason in (FOCUS, PEN))
    issues = []
    if blurred_share > config.max_out_of_focus:
        issues.append(slide_issue("out_of_focus", actual=blurred_share, expected=config.max_out_of_focus))
    if pen_share > config.max_pen:
        issues.append(slide_issue("pen_marks", actual=pen_share, expected=config.max_pen))
    return tuple(issues)


def to_grey(tiles: Pixels) -> NDArray[np.float32]:
    """Luma of ITU-R BT.601, 0 to 255, (n, h, w)."""
    red, green, blue = (tiles[..., channel].astype(np.float32) for channel in range(3))
    return np.asarray(0.299 * red + 0.587 * green + 0.114 * blue, np.float32)


def focus_measure(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Variance of the Laplacian over the variance of the grey values plus 1 (to avoid division by 0), (n,)."""
    inner = grey[:, 1:-1, 1:-1]
    laplacian = 4 * inner - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]
    return np.asarray(laplacian.var((1, 2)) / (grey.var((1, 2)) + 1), np.float32)


def ink_share(tiles: Pixels, config: QualityConfig) -> NDArray[np.float64]:
    """Share of each tile that is green, blue or black ink, from every fourth pixel, (n,)."""
    red, green, blue = (tiles[:, ::2, ::2, channel].astype(np.float32) for channel in range(3))
    maximum, minimum = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    chroma = maximum - minimum
    low, high = (
        degrees / 60 for degrees in config.ink_hue
    )  # the hue is 2 + (blue - red) / chroma where green is largest
    greenish = (maximum == green) & (blue - red > (low - 2) * chroma)
    bluish = (maximum == blue) & (red - green < (high - 4) * chroma)
    coloured = (chroma > config.ink_chroma) & (greenish | bluish)
    black = (maximum < config.black_value) & (chroma < config.black_chroma)
    return np.asarray((coloured | black).mean((1, 2)))
