"""Render a slide and its heatmap as Deep Zoom pyramids, tile by tile.

Pyramid(2_220, 2_967).dzi("jpeg")                                    # the descriptor; level 12 is the slide
await DeepZoom().read_tile(tenant, path, mpp, level=10, column=0, row=1)     # JPEG of up to 256 x 256 pixels, or None

Slides are decoded in sandboxed processes, a few of which stay open while they are in use.
"""

from __future__ import annotations

import io
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.slides.reader import Pixels, Slide, read_scaled
from serving.core.security.admission import FairExecutor
from serving.pathology.slides.slide_cache import SlideCache
from serving.pathology.viewer.colormap import to_rgba

TILE_SIZE = 256  # pixels a side
JPEG_QUALITY = 85
MAX_DIRECT_PIXELS = 4_194_304  # pixels of a level that are read in one call
MAX_TILE_PIXELS = 33_554_432  # pixels of a level that may be read for one tile; larger areas are sampled
MAX_OVERVIEW_PIXELS = 134_217_728  # the same limit for the overview, which is made once per slide
OVERVIEW_SIDE = 2_048  # pixels of the overview's longer side, at most
MAX_OVERVIEWS = 3  # of an open slide, one for each focal plane that was viewed last; 13 MB each
SAMPLES_PER_SIDE, SAMPLE_SIDE = 16, 64  # sampled areas per side, and the side of each in pixels
DZI_TEMPLATE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" '
    'Format="{format}" Overlap="0" TileSize="{tile}"><Size Width="{width}" Height="{height}"/></Image>\n'
)
Box = tuple[int, int, int, int]  # left, top, width, height in pixels of a level
MAX_SQUARE_RATIO = 1.02  # of the sides of a pixel; beyond it the picture is resampled to square pixels


def display_stretch(mpp: Sequence[float] | None) -> tuple[float, float]:
    """Display pixels, which are square, per slide pixel along x and y. mpp: microns per pixel (x, y)."""
    if mpp is None or max(mpp) <= MAX_SQUARE_RATIO * min(mpp):
        return 1.0, 1.0
    return mpp[0] / min(mpp), mpp[1] / min(mpp)


@dataclass(frozen=True, slots=True)
class Pyramid:
    """The levels of a Deep Zoom image: the last is the image itself; each one before it has half the size, rounded up,
    down to a single pixel at level 0."""

    width: int
    height: int

    @classmethod
    def of_slide(cls, size: tuple[int, int], mpp: Sequence[float] | None) -> Pyramid:
        """The pyramid of a slide in square pixels."""
        width, height = (max(1, round(side * factor)) for side, factor in zip(size, display_stretch(mpp), strict=True))
        return cls(width, height)

    @property
    def level_count(self) -> int:
        return math.ceil(math.log2(max(self.width, self.height, 1))) + 1

    def downsample(self, level: int) -> int:
        """Pixels of the image per pixel of the level."""
        return 1 << (self.level_count - 1 - level)

    def tile_box(self, level: int, column: int, row: int) -> Box | None:
        """The tile's box in pixels of its level; None if the level has no such tile."""
        if not 0 <= level < self.level_count or column < 0 or row < 0:
            return None
        width, height = (math.ceil(side / self.downsample(level)) for side in (self.width, self.height))
        left, top = column * TILE_SIZE, row * TILE_SIZE
        if left >= width or top >= height:
            return None
        return left, top, min(TILE_SIZE, width - left), min(TILE_SIZE, height - top)

    def dzi(self, image_format: str) -> bytes:
        """The XML descriptor (.dzi) of the pyramid with tiles of `image_format`."""
        return DZI_TEMPLATE.format(format=image_format, tile=TILE_SIZE, width=self.width, height=self.height).encode()


class OpenSlide:
    """An open slide and its overview, from which all levels of low magnification are made."""

    def __init__(self, slide: Slide):
        self.slide, self.stretch = slide, display_stretch(slide.metadata.mpp)
        self.pyramid = Pyramid.of_slide(slide.metadata.size, slide.metadata.mpp)
        self._overviews: OrderedDict[int | None, Pixels] = OrderedDict()  # by focal plane
        self._lock = threading.Lock()

    def read_tile(self, level: int, column: int, row: int, plane: int | None = None) -> Pixels | None:
        """(height, width, 3) uint8; None if the pyramid has no such tile. plane: None is the sharpest of each tile.

        Raises PlaneError.
        """
        slide, box = self.slide.at_plane(plane), self.pyramid.tile_box(level, column, row)
        if box is None:
            return None
        left, top, width, height = box
        downsample, overview_downsample = self.pyramid.downsample(level), self._overview_downsample()
        if downsample >= overview_downsample:
            overview, step = self._load_overview(overview_downsample, plane), downsample // overview_downsample
            pixels = overview[top * step : (top + height) * step, left * step : (left + width) * step]
            return downsample_pixels(pixels, (width, height))
        x, y = left * downsample, top * downsample
        extent = min(width * downsample, self.pyramid.width - x), min(height * downsample, self.pyramid.height - y)
        stretch_x, stretch_y = self.stretch
        slide_extent = extent[0] / stretch_x, extent[1] / stretch_y
        return read_region(slide, x / stretch_x, y / stretch_y, slide_extent, (width, height))

    def _overview_downsample(self) -> int:
        """Pixels of the slide per pixel of the overview."""
        downsample = 1
        while max(self.pyramid.width, self.pyramid.height) / downsample > OVERVIEW_SIDE:
            downsample *= 2
        return downsample

    def _load_overview(self, downsample: int, plane: int | None) -> Pixels:
        with self._lock:
            if plane not in self._overviews:
                width, height = self.pyramid.width, self.pyramid.height
                size = math.ceil(width / downsample), math.ceil(height / downsample)
                slide = self.slide.at_plane(plane)
                self._overviews[plane] = read_region(slide, 0, 0, slide.metadata.size, size, MAX_OVERVIEW_PIXELS)
                if len(self._overviews) > MAX_OVERVIEWS:
                    self._overviews.popitem(last=False)
            self._overviews.move_to_end(plane)
            return self._overviews[plane]


class HeatmapCache:
    """The most recently used heatmaps, which are small enough to stay in memory."""

    def __init__(self, capacity: int = 8):
        self.capacity = capacity
        self._heatmaps: OrderedDict[Path, tuple[NDArray[np.float32], NDArray[np.float32]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Read (probability, attention), each (rows, columns) float32, from a heat.npz. Raises OSError, ValueError or
        KeyError if the file cannot be read or lacks an array."""
        with self._lock:
            if path in self._heatmaps:
                self._heatmaps.move_to_end(path)
                return self._heatmaps[path]
        with np.load(path, allow_pickle=False) as arrays:
            heatmap = arrays["probability"], arrays["attention"]
        with self._lock:
            self._heatmaps[path] = heatmap
            while len(self._heatmaps) > self.capacity:
                self._heatmaps.popitem(last=False)
        return heatmap


class DeepZoom:
    """Renders tiles and regions on `threads` threads; further requests wait, and tenants take turns.

    One thread is left to others by a tenant whose slides take long.

    The coroutines and the blocking `render_` methods raise SlideError if the slide cannot be decoded, and PlaneError if
    it has no such focal plane. Without a plane each tile is from the one in which it is sharpest.
    """

    def __init__(self, threads: int = 3, max_open_slides: int = 4, idle_seconds: float = 60.0):
        self.slide_cache = SlideCache(OpenSlide, max_open_slides, idle_seconds)
        self.heatmap_cache = HeatmapCache()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="deepzoom")
        self._executor = FairExecutor(self._pool, threads, max(1, threads - 1))

    async def read_tile(
        self,
        tenant: str,
        path: Path,
        mpp: float | None,
        level: int,
        column: int,
        row: int,
        plane: int | None = None,
    ) -> bytes | None:
        """The tile as JPEG; None if the pyramid has no such tile."""
        return await self._executor.run(tenant, self.render_tile, path, mpp, level, column, row, plane)

    async def read_pyramid(self, tenant: str, path: Path, mpp: float | None) -> Pyramid:
        """The slide's levels."""
        return await self._executor.run(tenant, self._load_pyramid, path, mpp)

    async def read_region(
        self,
        tenant: str,
        path: Path,
        mpp: float | None,
        box: Box | None = None,
        max_size: tuple[int, int] | None = None,
    ) -> bytes:
        """JPEG of `box` in level-0 pixels, or of the whole slide, scaled down to `max_size` (width, height)."""
        return await self._executor.run(tenant, self.render_region, path, mpp, box, max_size)

    def render_tile(
        self, path: Path, mpp: float | None, level: int, column: int, row: int, plane: int | None = None
    ) -> bytes | None:
        """As `read_tile`, blocking."""
        with self.slide_cache.lease(path, mpp) as open_slide:
            pixels = open_slide.read_tile(level, column, row, plane)
        return None if pixels is None else encode_image(pixels)

    def _load_pyramid(self, path: Path, mpp: float | None) -> Pyramid:
        with self.slide_cache.lease(path, mpp) as open_slide:
            return open_slide.pyramid

    def render_region(
        self,
        path: Path,
        mpp: float | None,
        box: Box | None,
        max_size: tuple[int, int] | None,
        plane: int | None = None,
    ) -> bytes:
        """As `read_region`, blocking."""
        with self.slide_cache.lease(path, mpp) as open_slide:
            slide = open_slide.slide.at_plane(plane)
            left, top, width, height = box or (0, 0, *slide.metadata.size)
            stretch_x, stretch_y = open_slide.stretch
            max_width, max_height = max_size or (width * stretch_x, height * stretch_y)
            scale = max(width * stretch_x / max_width, height * stretch_y / max_height, 1.0)
            size = max(1, round(width * stretch_x / scale)), max(1, round(height * stretch_y / scale))
            return encode_image(
                read_region(
                    slide, left, top, (width, height), size, MAX_OVERVIEW_PIXELS if box is None else MAX_TILE_PIXELS
                )
            )

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self.slide_cache.close()


def read_region(
    slide: Slide,
    x: float,
    y: float,
    extent: tuple[float, float],
    size: tuple[int, int],
    max_pixels: int = MAX_TILE_PIXELS,
) -> Pixels:
    """As read_scaled, in bounded memory: large regions are read in halves, those of more than `max_pixels` sampled.

    extent: (width, height) in level-0 pixels. size: (width, height) of the result. Returns (height, width, 3) uint8.
    """
    level = slide.metadata.level_for(min(extent[0] / size[0], extent[1] / size[1]))
    downsample = slide.metadata.levels[level].downsample
    pixels = extent[0] * extent[1] / downsample**2
    if pixels <= MAX_DIRECT_PIXELS:
        return read_scaled(slide, x, y, extent, size)
    if pixels > max_pixels or size == (1, 1):
        return _read_sampled(slide, x, y, extent, size, level)
    axis = 0 if size[0] >= size[1] else 1
    first_count = size[axis] // 2
    first_extent = extent[axis] * first_count / size[axis]
    parts = []
    for offset, length, count in (
        (0.0, first_extent, first_count),
        (first_extent, extent[axis] - first_extent, size[axis] - first_count),
    ):
        origin = (x + offset, y) if axis == 0 else (x, y + offset)
        part_extent = (length, extent[1]) if axis == 0 else (extent[0], length)
        part_size = (count, size[1]) if axis == 0 else (size[0], count)
        parts.append(read_region(slide, *origin, part_extent, part_size, max_pixels))
    return np.concatenate(parts, axis=1 - axis)


def downsample_pixels(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Scale (height, width, 3) down to `size` (width, height) by averaging."""
    from PIL import Image

    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BOX))


def _read_sampled(
    slide: Slide, x: float, y: float, extent: tuple[float, float], size: tuple[int, int], level: int
) -> Pixels:
    """Approximate a large region of a slide that lacks low-resolution levels: mean colours of a grid of small areas,
    interpolated between them."""
    from PIL import Image

    downsample = slide.metadata.levels[level].downsample
    columns, rows = (min(SAMPLES_PER_SIDE, side) for side in size)
    samples = np.empty((rows, columns, 3), np.uint8)
    for row in range(rows):
        for column in range(columns):
            center = x + (column + 0.5) * extent[0] / columns, y + (row + 0.5) * extent[1] / rows
            left, top = (round(coordinate - SAMPLE_SIDE / 2 * downsample) for coordinate in center)
            samples[row, column] = slide.read(left, top, (SAMPLE_SIDE, SAMPLE_SIDE), level).reshape(-1, 3).mean(0)
    return np.asarray(Image.fromarray(samples).resize(size, Image.Resampling.BILINEAR))


def render_heatmap_tile(values: NDArray[np.float32], extent: tuple[float, float], downsample: int, box: Box) -> bytes:
    """PNG with transparency of the heatmap tile `box`, at a level `downsample` times smaller than the slide.

    values: (rows, columns), each a cell of `extent` level-0 pixels (x, y). A pixel takes the colour of its cell, or of
    the highest cell that it covers, so that a single positive tile stays visible at any magnification.
    """
    left, top, width, height = box
    for axis, (start, count, side) in enumerate(((top, height, extent[1]), (left, width, extent[0]))):
        last = values.shape[axis] - 1
        first = np.minimum((np.arange(start, start + count) * downsample / side).astype(np.intp), last)
        end = min(max(math.ceil((start + count) * downsample / side), int(first[-1]) + 1), last + 1)
        # Where a cell is larger than a pixel, neighbours in `first` are equal, and each takes the cell itself.
        values = np.fmax.reduceat(values.take(range(first[0], end), axis), first - first[0], axis)
    return encode_image(to_rgba(values), "PNG")


def encode_image(pixels: NDArray[np.uint8], image_format: str = "JPEG") -> bytes:
    """JPEG or PNG of (height, width, channels) uint8."""
    from PIL import Image

    buffer = io.BytesIO()
    options = {"quality": JPEG_QUALITY} if image_format == "JPEG" else {"compress_level": 3}
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()
