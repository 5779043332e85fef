"""Read the levels of SVS and other TIFF tile by tile.

image = TiffImage(path, "generic-tiff", limits)
image.read(1_024, 2_048, (256, 256), level=1)        # (256, 256, 3) uint8; position in pixels of the finest level

The directories are those that the static check has accepted; tifffile chooses the codec of a tile, and imagecodecs
decodes it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import Size, open_source
from datasets.slides.decoding.focus import SharpestPlanes
from datasets.slides.decoding.pixel_types import PixelType
from datasets.slides.formats import tiff
from datasets.slides.formats import tiff_directories as tags
from datasets.slides.formats.flat import FRAME_MARKERS
from datasets.slides.formats.tiff_directories import BLACK_IS_ZERO, PALETTE, RGB, YCBCR, TiffDirectory, read_directories
from datasets.slides.limits import SlideLimits

CACHE_BYTES = 32 * 2**20  # of decoded tiles, or one tile if that is larger
SAMPLED_TILES = 16  # from which the range of 16-bit values and the use of transparency are known
JPEG_COMPRESSIONS = (6, 7, 33007)  # whose decoder returns RGB
NDPI_TILE_HEIGHT = 256  # pixels, at most
APERIO_YCBCR = 33003  # JPEG 2000 whose decoder returns YCbCr


class TiffImage:
    """The levels of one slide. Not for use by several threads."""

    def __init__(self, path: Path, kind: str, limits: SlideLimits):
        import tifffile

        with open_source(path) as source:
            stack = tiff.focal_stack(kind, read_directories(source, limits))
        images = stack.planes[0]
        self._file = tifffile.TiffFile(path)
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            level_type = NdpiLevel if kind == "ndpi" else TiffLevel
            planes = [[level_type(self._file, image, images[0].size) for image in levels] for levels in stack.planes]
            self.levels, self._levels_by_plane = planes[0], planes
            self.planes, self.plane_spacing = len(planes), stack.spacing
            self._sharpest = SharpestPlanes(self.planes)
            self.has_icc_profile = 34675 in self.levels[0].page.tags
            self._cache: OrderedDict[tuple[int, int, int, int], NDArray[np.uint8]] = OrderedDict()
            self._cached_bytes = 0
            self.pixel_type = pixel_type(images[0])
            if self.pixel_type.bits > 8 or self.pixel_type.alpha:
                self.pixel_type = self.pixel_type.fit(self._sample())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()
        os.close(self._descriptor)

    def read(self, x: int, y: int, size: Size, level: int, plane: int | None = None) -> NDArray[np.uint8]:
        """As Slide.read; tiles that are not stored, and what lies outside, are white."""
        image = self.levels[level]
        left, top = round(x / image.downsample), round(y / image.downsample)
        region = np.full((size[1], size[0], 3), 255, np.uint8)
        right, bottom = min(left + size[0], image.size[0]), min(top + size[1], image.size[1])
        tile_width, tile_height = image.tile_size
        for row in range(max(top, 0) // tile_height, -(-max(bottom, 0) // tile_height)):
            for column in range(max(left, 0) // tile_width, -(-max(right, 0) // tile_width)):
                tile = self._read_tile(level, column, row, plane)
                if tile is None:
                    continue
                tile_left, tile_top = column * tile_width, row * tile_height
                x0, x1 = max(left, tile_left), min(right, tile_left + tile.shape[1])
                y0, y1 = max(top, tile_top), min(bottom, tile_top + tile.shape[0])
                if x0 < x1 and y0 < y1:
                    visible = tile[y0 - tile_top : y1 - tile_top, x0 - tile_left : x1 - tile_left]
                    region[y0 - top : y1 - top, x0 - left : x1 - left] = visible
        return region

    def _read_tile(self, level: int, column: int, row: int, plane: int | None) -> NDArray[np.uint8] | None:
        """The tile in a focal plane; None: in the one where it is sharpest."""
        if plane is None:
            plane = self._sharpest.find((level, column, row), partial(self._read_tile, level, column, row))
        key = plane, level, column, row
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        samples = self._levels_by_plane[plane][level].decode(self._descriptor, column, row)
        if samples is None:
            return None
        tile = self.pixel_type.to_rgb(samples)
        self._cache[key] = tile
        self._cached_bytes += tile.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return tile

    def _sample(self) -> list[NDArray[Any]]:
        """Stored tiles of the coarsest level, evenly spread."""
        level = self.levels[-1]
        columns, rows = level.grid
        samples = []
        for number in np.linspace(0, columns * rows - 1, min(SAMPLED_TILES, columns * rows)).astype(int):
            tile = level.decode(self._descriptor, int(number) % columns, int(number) // columns)
            samples += [] if tile is None else [tile]
        return samples


def pixel_type(image: TiffDirectory) -> PixelType:
    """The pixels of an image that tiff_check has accepted; tifffile converts YCbCr to RGB."""
    photometric, bits = image.get_int(tags.PHOTOMETRIC, BLACK_IS_ZERO), image.get_int(tags.BITS, 1)
    palette = None
    if photometric == PALETTE:
        colours = np.asarray(image.tags[tags.COLOR_MAP]).reshape(3, -1).T
        palette = (colours >> 8 if colours.max(initial=0) > 255 else colours).astype(np.uint8)
    declared = image.tags.get(tags.MAX_SAMPLE_VALUE, ())
    if bits > 8 and len(declared) and 0 < max(declared) < (1 << bits) - 1:
        bits = max(8, int(max(declared)).bit_length())
    alpha = image.get_int(tags.EXTRA_SAMPLES, 0)
    photometric = RGB if photometric == YCBCR else photometric
    return PixelType(photometric, image.get_int(tags.SAMPLES, 1), bits, alpha if alpha in (1, 2) else 0, palette)


class TiffLevel:
    """One image: where its tiles are, by our own reading of the directory, and how tifffile decodes them.

    downsample: pixels of the finest level, of `full_size`, per pixel of this one; the mean of both axes, as OpenSlide
    computes it.
    """

    def __init__(self, file: Any, image: TiffDirectory, full_size: Size):
        import tifffile

        file.filehandle.seek(image.offset)
        self.page = tifffile.TiffPage(file, image.number)
        self.size = image.size
        width, height = image.size
        self.downsample = (full_size[0] / width + full_size[1] / height) / 2
        self.tile_size = (
            (image.get_int(tags.TILE_WIDTH, 0), image.get_int(tags.TILE_HEIGHT, 0))
            if image.is_tiled
            else (width, min(max(image.get_int(tags.ROWS_PER_STRIP, height), 1), height))
        )
        self.grid = -(-width // self.tile_size[0]), -(-height // self.tile_size[1])
        self.planes = image.get_int(tags.SAMPLES, 1) if image.get_int(tags.PLANAR, 1) == 2 else 1
        self._ranges = tiff.tile_ranges(image)
        compression, photometric = image.get_int(tags.COMPRESSION, 1), image.get_int(tags.PHOTOMETRIC, 1)
        self._is_ycbcr = compression == APERIO_YCBCR or (
            photometric == YCBCR and compression not in (*JPEG_COMPRESSIONS, 33005, 34712)
        )

    def _require_size(self, data: bytes) -> None:
        """Raises ValueError if the stream of a tile states more pixels than a tile has."""
        size = coded_size(data)
        if size is not None and size[0] * size[1] > self.tile_size[0] * self.tile_size[1]:
            width, height = self.tile_size
            raise ValueError(f"a tile of {size[0]:,} x {size[1]:,} pixels where {width} x {height} were expected")

    def decode(self, descriptor: int, column: int, row: int) -> NDArray[Any] | None:
        """(height, width, channels) of a tile, cut off at the edge of the image; None if it is not stored."""
        channels = []
        for plane in range(self.planes):
            number = (plane * self.grid[1] + row) * self.grid[0] + column
            offset, length = self._ranges[number]
            if not offset or not length:
                return None
            data = os.pread(descriptor, length, offset)
            self._require_size(data)
            segment, _, _ = self.page.decode(data, number, jpegtables=self.page.jpegtables)
            if segment is None:
                return None
            channels.append(segment[0])  # without the axis of depth
        samples = channels[0] if len(channels) == 1 else np.concatenate(channels, -1)
        width = min(self.tile_size[0], self.size[0] - column * self.tile_size[0])
        height = min(self.tile_size[1], self.size[1] - row * self.tile_size[1])
        if samples.ndim != 3 or samples.shape[0] < height or samples.shape[1] < width:
            raise ValueError(f"a tile of {samples.shape} where {width} x {height} pixels were expected")
        samples = np.asarray(samples[:height, :width])
        samples = samples.view(np.uint8) if samples.dtype == np.bool_ else samples
        return _ycbcr_to_rgb(samples) if self._is_ycbcr else samples


class NdpiLevel(TiffLevel):
    """A level of an NDPI is one JPEG; its table says where the parts of it begin, of which each is a band of few rows.
    Bands are decoded together, so that a tile is high enough for its focus to be judged.
    """

    def __init__(self, file: Any, image: TiffDirectory, full_size: Size):
        super().__init__(file, image, full_size)
        self.bands = 1
        if self.page.is_tiled:
            columns, rows = -(-self.size[0] // self.page.tilewidth), -(-self.size[1] // self.page.tilelength)
            self._ranges = list(zip(self.page.dataoffsets, self.page.databytecounts, strict=True))
            if len(self._ranges) < columns * rows or min(length for _, length in self._ranges) < 0:
                raise ValueError(f"{len(self._ranges):,} parts of an image where {columns * rows:,} were expected")
            self.bands = max(1, NDPI_TILE_HEIGHT // self.page.tilelength)
            self.tile_size = self.page.tilewidth, self.page.tilelength * self.bands
            self.grid = columns, -(-rows // self.bands)

    def decode(self, descriptor: int, column: int, row: int) -> NDArray[Any] | None:
        """As in a level of tiles."""
        width = min(self.tile_size[0], self.size[0] - column * self.tile_size[0])
        height = min(self.tile_size[1], self.size[1] - row * self.tile_size[1])
        bands: list[NDArray[Any]] = []
        for band in range(row * self.bands, (row + 1) * self.bands):
            number = band * self.grid[0] + column
            if sum(len(each) for each in bands) >= height:
                break
            offset, length = self._ranges[number]
            data = os.pread(descriptor, length, offset)
            segment, _, _ = self.page.decode(data, number, jpegheader=self.page.jpegheader or None)
            if segment is None:
                raise ValueError(f"part {number:,} has no pixels")
            bands.append(segment[0])
        samples = np.concatenate(bands)
        if samples.ndim != 3 or samples.shape[0] < height or samples.shape[1] < width:
            raise ValueError(f"a part of {samples.shape} where {width} x {height} pixels were expected")
        return np.asarray(samples[:height, :width])


def coded_size(data: bytes) -> Size | None:
    """The size that a JPEG or JPEG 2000 stream states, for which its decoder takes memory; None if it is neither."""
    if data[:4] == b"\xff\x4f\xff\x51":
        right, bottom, left, top = (int.from_bytes(data[start : start + 4]) for start in (8, 12, 16, 20))
        return right - left, bottom - top
    position = 2 if data[:2] == b"\xff\xd8" else len(data)
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4])
        if marker in FRAME_MARKERS:
            return int.from_bytes(data[position + 7 : position + 9]), int.from_bytes(data[position + 5 : position + 7])
        position += 1 if marker == 0xFF else 2 + max(length, 2)
    return None


def _ycbcr_to_rgb(samples: NDArray[Any]) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(samples), "YCbCr").convert("RGB"))
