"""Where on a slide there is something: a mask at low resolution, from how colourful each place is.

tissue = find(slide)         # tissue.mask (h, w) bool, tissue.share, tissue.downsample
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.slides.reader import Facts, Pixels, Slide, read_scaled

Mask = NDArray[np.bool_]
BLOCK = 2_048  # pixels a side read at a time, so that memory does not grow with the slide


@dataclass(frozen=True, slots=True)
class TissueConfig:
    """Glass is grey, stain is not: chroma is the largest less the smallest of red, green and blue, 0 to 255.

    Otsu's threshold parts two heaps of pixels and knows nothing of pale tissue beside dark; so it is held between
    `least`, below which lies the noise of empty glass, and `most`, above which no stain is left out. Measured on four
    real slides (Aperio, DICOM, flat): empty glass has a chroma of 0 to 6, Otsu's thresholds were 12, 30, 41 and 49.
    """

    mpp: float = 8.0  # microns per pixel of the mask
    side: int = 1_024  # pixels of the mask's longer side where the scale is not known
    largest: int = 8_192  # pixels of the mask's longer side, at most
    least: float = 10.0
    most: float = 25.0
    support: int = 4  # of the 9 pixels around and at a place that must be stained, lest dust be tissue


@dataclass(frozen=True, slots=True)
class Tissue:
    mask: Mask  # (h, w)
    downsample: tuple[float, float]  # level-0 pixels per pixel of the mask (x, y)
    threshold: float  # of chroma

    @property
    def share(self) -> float:
        return float(self.mask.mean())

    def shares(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) share of tissue in each of `boxes` (n, 4): left, top, right, bottom in level-0 pixels."""
        height, width = self.mask.shape
        total = np.zeros((height + 1, width + 1), np.int32)
        inner = total[1:, 1:]  # summed in place: a mask may have 60 million pixels
        np.cumsum(self.mask, 0, out=inner)
        np.cumsum(inner, 1, out=inner)
        x, y = self.downsample
        left, top = (
            np.clip(np.floor(boxes[:, at] / by), 0, edge - 1) for at, by, edge in ((0, x, width), (1, y, height))
        )
        right, bottom = (
            np.clip(np.ceil(boxes[:, at] / by), 1, edge) for at, by, edge in ((2, x, width), (3, y, height))
        )
        x0, y0, x1, y1 = (each.astype(np.int64) for each in (left, top, right, bottom))
        inside = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
        covered = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (x * y)
        share: NDArray[np.float64] = np.minimum(inside / np.maximum(covered, (x1 - x0) * (y1 - y0)), 1.0)
        return share


def find(slide: Slide, config: TissueConfig | None = None) -> Tissue:
    config = config or TissueConfig()
    pixels, downsample = overview(slide, config)
    chroma = pixels.max(-1) - pixels.min(-1)
    threshold = min(max(otsu(chroma), config.least), config.most)
    return Tissue(supported(chroma > threshold, config.support), downsample, threshold)


def overview(slide: Slide, config: TissueConfig) -> tuple[Pixels, tuple[float, float]]:
    """The whole slide, small: (h, w, 3), and the level-0 pixels per pixel of it (x, y)."""
    width, height = slide.facts.size
    across, down = _downsample(slide.facts, config)
    size = math.ceil(width / across), math.ceil(height / down)
    finest = slide.facts.levels[slide.facts.level_for(min(across, down))].downsample
    step = max(1, int(BLOCK * finest / max(across, down)))
    pixels = np.empty((size[1], size[0], 3), np.uint8)
    for y in range(0, size[1], step):
        for x in range(0, size[0], step):
            part = min(step, size[0] - x), min(step, size[1] - y)
            region = read_scaled(slide, x * across, y * down, (part[0] * across, part[1] * down), part)
            pixels[y : y + part[1], x : x + part[0]] = region
    return pixels, (across, down)


def _downsample(facts: Facts, config: TissueConfig) -> tuple[float, float]:
    """A fixed scale in microns, so that a slide has one mask whatever its format; coarser for a huge one."""
    longest = max(facts.size)
    least = max(1.0, longest / config.largest)
    if facts.mpp is None:
        return (max(least, longest / config.side),) * 2
    x, y = (config.mpp / mpp for mpp in facts.mpp)
    grow = max(1.0, least / min(x, y))
    return x * grow, y * grow


def otsu(values: NDArray[np.uint8]) -> float:
    """The threshold of whole numbers 0 to 255 that leaves least variance within the two parts (Otsu 1979)."""
    count = np.zeros(256, np.int64)
    for row in np.atleast_2d(values):  # counting takes eight times the room of what it counts
        count += np.bincount(row, minlength=256)
    share = count / values.size
    below, mean = share.cumsum(), (share * np.arange(256)).cumsum()
    both = below * (1 - below)
    between = np.divide((mean[-1] * below - mean) ** 2, both, out=np.zeros(256), where=both > 1e-12)
    return float(between.argmax())


def supported(mask: Mask, support: int) -> Mask:
    """Places with at least `support` stained ones among the nine around and at them."""
    height, width = mask.shape
    padded = np.pad(mask, 1, mode="edge").astype(np.uint8)
    near = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))
    return np.asarray(near >= support)
