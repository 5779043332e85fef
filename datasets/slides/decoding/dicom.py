"""Read the levels of a DICOM slide frame by frame.

image = DicomImage(checked, limits)
image.read(1_024, 2_048, (256, 256), level=1)        # (256, 256, 3) uint8; position in pixels of the finest level
"""

from __future__ import annotations

import os
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import CheckedSlide, Size
from datasets.slides.decoding.dicom_frames import decode_frame
from datasets.slides.decoding.focus import SharpestPlanes
from datasets.slides.formats.dicom import tags
from datasets.slides.formats.dicom.instance import items, name_syntax
from datasets.slides.formats.dicom.series import read_levels
from datasets.slides.limits import SlideLimits

CACHE_BYTES = 64 * 2**20  # of decoded frames, or one frame if that is larger


class DicomImage:
    """The levels of one slide. Not for use by several threads. plane_spacing: microns between focal planes, or None."""

    def __init__(self, checked: CheckedSlide, limits: SlideLimits):
        self.levels = read_levels(checked, limits)
        finest = self.levels[0]
        width, height = finest.size
        # the mean of both axes, as OpenSlide computes it
        self.downsamples = [(width / level.size[0] + height / level.size[1]) / 2 for level in self.levels]
        paths = items(finest.first.header, tags.OPTICAL_PATH)[finest.path.index :]
        self.has_icc_profile = bool(paths and paths[0].get(tags.ICC_PROFILE))
        self.planes, self.plane_spacing = finest.planes, finest.plane_spacing
        self._sharpest = SharpestPlanes(self.planes)
        self._cache: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._cached_bytes = 0
        self._descriptors = {path: os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in checked.files}

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def read(self, x: int, y: int, size: Size, level: int, plane: int | None = None) -> NDArray[np.uint8]:
        """As Slide.read; tiles that were not scanned, and what lies outside, are white."""
        image, downsample = self.levels[level], self.downsamples[level]
        left, top = round(x / downsample), round(y / downsample)
        region = np.full((size[1], size[0], 3), 255, np.uint8)
        right, bottom = min(left + size[0], image.size[0]), min(top + size[1], image.size[1])
        tile_width, tile_height = image.first.tile_size
        for row in range(max(top, 0) // tile_height, -(-max(bottom, 0) // tile_height)):
            for column in range(max(left, 0) // tile_width, -(-max(right, 0) // tile_width)):
                tile = self._read_tile(level, column, row, plane)
                if tile is None:
                    continue
                tile_left, tile_top = column * tile_width, row * tile_height
                x0, x1 = max(left, tile_left, 0), min(right, tile_left + tile_width)
                y0, y1 = max(top, tile_top, 0), min(bottom, tile_top + tile_height)
                if x0 < x1 and y0 < y1:
                    visible = tile[y0 - tile_top : y1 - tile_top, x0 - tile_left : x1 - tile_left]
                    region[y0 - top : y1 - top, x0 - left : x1 - left] = visible
        return region

    def _read_tile(self, level: int, column: int, row: int, plane: int | None) -> NDArray[np.uint8] | None:
        """The tile in a focal plane; None: in the one where it is sharpest."""
        image = self.levels[level]

        def read_plane(plane: int) -> NDArray[np.uint8] | None:
            frame = image.frame_at(column, row, plane) if plane < image.planes else None
            return None if frame is None else self._read_frame(level, frame)

        if plane is None:
            plane = self._sharpest.find((level, column, row), read_plane) if image.planes > 1 else 0
        return read_plane(min(plane, image.planes - 1))

    def _read_frame(self, level: int, frame: int) -> NDArray[np.uint8]:
        key = level, frame
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        instance, number = self.levels[level].locate(frame)
        offset, length = instance.frame_range(number)
        data = os.pread(self._descriptors[instance.path], length, offset)
        try:
            pixels = decode_frame(instance, data)
        except MemoryError:
            raise
        except Exception as error:  # a codec may raise anything
            raise ValueError(f"frame {number + 1:,} is no {name_syntax(instance.syntax)} ({error})") from error
        self._cache[key] = pixels
        self._cached_bytes += pixels.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return pixels
