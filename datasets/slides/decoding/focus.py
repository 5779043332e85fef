"""Choose the focal plane in which a tile is sharpest, the same way for stacks of every format."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

MIN_GAIN = 1.05  # over the middle plane; without it, as on empty glass, the middle one is chosen
MAX_TILES = 100_000  # whose sharpest focal plane is remembered
Tile = NDArray[np.uint8]
TileKey = tuple[int, int, int]  # level, column, row


class SharpestPlanes:
    """The sharpest focal plane of each stored tile of a stack, found once."""

    def __init__(self, planes: int):
        self.planes = planes
        self._selected: dict[TileKey, int] = {}

    def find(self, key: TileKey, read_tile: Callable[[int], Tile | None]) -> int:
        """read_tile: the tile in a plane, or None if it is not stored there."""
        if self.planes == 1:
            return 0
        if key not in self._selected:
            tiles = {plane: tile for plane in range(self.planes) if (tile := read_tile(plane)) is not None}
            if len(self._selected) >= MAX_TILES:
                self._selected.clear()
            self._selected[key] = list(tiles)[sharpest_plane(list(tiles.values()))] if tiles else 0
        return self._selected[key]


def sharpest_plane(tiles: Sequence[Tile]) -> int:
    """The index of the sharpest of (height, width, 3) tiles, which show the same place from the slide upwards."""
    sharpness = [_laplacian_variance(tile) for tile in tiles]
    middle = len(tiles) // 2
    best = int(np.argmax(sharpness))
    return best if sharpness[best] > MIN_GAIN * sharpness[middle] else middle


def _laplacian_variance(tile: Tile) -> float:
    green = tile[..., 1].astype(np.float32)  # in which stained nuclei have most contrast
    laplacian = green[1:-1, :-2] + green[1:-1, 2:] + green[:-2, 1:-1] + green[2:, 1:-1] - 4 * green[1:-1, 1:-1]
    return float(laplacian.var()) if laplacian.size else 0.0
