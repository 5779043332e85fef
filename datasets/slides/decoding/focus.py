"""Choose the focal plane in which a tile is sharpest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MIN_GAIN = 1.05  # over the middle plane; without it, as on empty glass, the middle one is chosen


def sharpest_plane(tiles: Sequence[NDArray[np.uint8]]) -> int:
    """The index of the sharpest of (height, width, 3) tiles, which show the same place from the slide upwards."""
    sharpness = [_laplacian_variance(tile) for tile in tiles]
    middle = len(tiles) // 2
    best = int(np.argmax(sharpness))
    return best if sharpness[best] > MIN_GAIN * sharpness[middle] else middle


def _laplacian_variance(tile: NDArray[np.uint8]) -> float:
    green = tile[..., 1].astype(np.float32)  # in which stained nuclei have most contrast
    laplacian = green[1:-1, :-2] + green[1:-1, 2:] + green[:-2, 1:-1] + green[2:, 1:-1] - 4 * green[1:-1, 1:-1]
    return float(laplacian.var()) if laplacian.size else 0.0
