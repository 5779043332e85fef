"""The viridis colour map (CC0), which is readable with colour blindness, with an opacity that grows with the value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

VIRIDIS = (  # at 0, 1/15, ... 1
    (68, 1, 84), (72, 26, 108), (71, 47, 125), (65, 68, 135), (57, 86, 140), (49, 104, 142), (42, 120, 142),
    (35, 136, 142), (31, 152, 139), (34, 168, 132), (53, 183, 121), (84, 197, 104), (122, 209, 81), (165, 219, 54),
    (210, 226, 27), (253, 231, 37),
)  # fmt: skip
MIN_ALPHA, MAX_ALPHA = 45, 225  # opacity of values 0 and 1, out of 255: low values cover little of the slide

RgbaPixels = NDArray[np.uint8]


def to_rgba(values: NDArray[Any]) -> RgbaPixels:
    """Colour values from 0 to 1 of any shape; returns (..., 4) uint8 red, green, blue, opacity. NaN is transparent."""
    finite = np.isfinite(values)
    scaled = np.clip(np.where(finite, values, 0.0), 0.0, 1.0).astype(np.float64)
    stops = np.linspace(0, 1, len(VIRIDIS))
    table = np.array(VIRIDIS, np.float64)
    pixels = np.empty((*scaled.shape, 4), np.uint8)
    for channel in range(3):
        pixels[..., channel] = np.rint(np.interp(scaled, stops, table[:, channel]))
    pixels[..., 3] = np.where(finite, np.rint(MIN_ALPHA + (MAX_ALPHA - MIN_ALPHA) * scaled), 0)
    return pixels
