"""Probabilities as colours that the colour-blind can tell apart too, light where there is more (viridis, CC0)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STOPS = (  # at 0, 1/15, ... 1
    (68, 1, 84), (72, 26, 108), (71, 47, 125), (65, 68, 135), (57, 86, 140), (49, 104, 142), (42, 120, 142),
    (35, 136, 142), (31, 152, 139), (34, 168, 132), (53, 183, 121), (84, 197, 104), (122, 209, 81), (165, 219, 54),
    (210, 226, 27), (253, 231, 37),
)  # fmt: skip
FAINT, STRONG = 45, 225  # opacity of 0 and of 1, of 255: what is low hides little of the slide

Colours = NDArray[np.uint8]


def colours(values: NDArray[Any]) -> Colours:
    """(..., 4) red, green, blue, opacity of (...) values 0 to 1; what is no number is clear."""
    known = np.isfinite(values)
    at = np.clip(np.where(known, values, 0.0), 0.0, 1.0).astype(np.float64)
    stops = np.linspace(0, 1, len(STOPS))
    table = np.array(STOPS, np.float64)
    drawn = np.empty((*at.shape, 4), np.uint8)
    for channel in range(3):
        drawn[..., channel] = np.rint(np.interp(at, stops, table[:, channel]))
    drawn[..., 3] = np.where(known, np.rint(FAINT + (STRONG - FAINT) * at), 0)
    return drawn
