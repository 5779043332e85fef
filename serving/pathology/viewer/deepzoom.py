"""A slide and its heatmap in Deep Zoom's pyramid: what a browser's viewer asks for, tile by tile.

images = DeepZoom()
images.dzi(2_220, 2_967)                              # the descriptor; level 12 is the slide, level 0 one pixel
await images.tile(path, mpp, level=10, x=0, y=1)      # JPEG of 256 x 256 pixels, fewer at the edges; None outside

Decoding happens in the sandbox's processes, of which a few stay open while they are asked for.
"""

from __future__ import annotations

import asyncio
import io
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.slides import sandbox
from datasets.slides.reader import Pixels, Slide, read_scaled
from serving.pathology.viewer.colormap import to_rgba

TILE_SIZE = 256  # pixels a side
JPEG_QUALITY = 85
MAX_DIRECT_PIXELS = 4_194_304  # pixels of a level that are read at once
MAX_TILE_PIXELS = 33_554_432  # pixels of a level that may be read for one tile; beyond, it is sampled
MAX_OVERVIEW_PIXELS = 134_217_728  # the same for the small picture of the whole slide, which is made once
OVERVIEW_SIDE = 2_048  # pixels of that picture's longer side, at most
SAMPLES_PER_SIDE, SAMPLE_SIDE = 16, 64  # places a side, and the pixels a side read at each
DZI_TEMPLATE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" '
    'Format="{format}" Overlap="0" TileSize="{tile}"><Size Width="{width}" Height="{height}"/></Image>\n'
)
Box = tuple[int, int, int, int]  # left, top, width, height in pixels of a level


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Deep Zoom's rule: the last level is the picture, each before it half as large, rounded up, down to one pixel."""

    width: int
    height: int

    @property
    def level_count(self) -> int:
        return math.ceil(math.log2(max(self.width, self.height, 1))) + 1

    def downsample(self, level: int) -> int:
        """Pixels of the picture per pixel of the level."""
        return 1 << (self.level_count - 1 - level)

    def tile_box(self, level: int, x: int, y: int) -> Box | None:
        """Of the tile at column `x` and row `y`; None where there is none."""
        if not 0 <= level < self.level_count or x < 0 or y < 0:
            return None
        width, height = (math.ceil(side / self.downsample(level)) for side in (self.width, self.height))
        left, top = x * TILE_SIZE, y * TILE_SIZE
        if left >= width or top >= height:
            return None
        return left, top, min(TILE_SIZE, width - left), min(TILE_SIZE, height - top)

    def dzi(self, image_format: str) -> bytes:
        return DZI_TEMPLATE.format(format=image_format, tile=TILE_SIZE, width=self.width, height=self.height).encode()


class OpenSlide:
    """A slide held open, and a small picture of it, from which the many levels that show it whole are made."""

    def __init__(self, slide: Slide):
        self.slide, self.pyramid = slide, Pyramid(*slide.metadata.size)
        self.users, self.last_used = 0, time.monotonic()
        self._overview: Pixels | None = None
        self._lock = threading.Lock()

    def read_tile(self, level: int, column: int, row: int) -> Pixels | None:
        box = self.pyramid.tile_box(level, column, row)
        if box is None:
            return None
        left, top, width, height = box
        downsample, overview_downsample = self.pyramid.downsample(level), self._overview_downsample()
        if downsample >= overview_downsample:
            overview, step = self._load_overview(overview_downsample), downsample // overview_downsample
            pixels = overview[top * step : (top + height) * step, left * step : (left + width) * step]
            return downsample_pixels(pixels, (width, height))
        x, y = left * downsample, top * downsample
        extent = min(width * downsample, self.pyramid.width - x), min(height * downsample, self.pyramid.height - y)
        return read_region(self.slide, x, y, extent, (width, height))

    def _overview_downsample(self) -> int:
        """Slide's pixels per pixel of the small picture."""
        downsample = 1
        while max(self.pyramid.width, self.pyramid.height) / downsample > OVERVIEW_SIDE:
            downsample *= 2
        return downsample

    def _load_overview(self, downsample: int) -> Pixels:
        with self._lock:
            if self._overview is None:
                width, height = self.pyramid.width, self.pyramid.height
                size = math.ceil(width / downsample), math.ceil(height / downsample)
                self._overview = read_region(self.slide, 0, 0, (width, height), size, MAX_OVERVIEW_PIXELS)
            return self._overview


class SlideCache:
    """At most `most` slides held open, the longest unused closed first, each after `idle` seconds without a reader."""

    def __init__(self, capacity: int = 4, idle_seconds: float = 60.0):
        self.capacity, self.idle_seconds = capacity, idle_seconds
        self._open_slides: OrderedDict[tuple[Path, float | None], OpenSlide] = OrderedDict()
        self._lock = threading.Lock()
        self._opening_locks: dict[tuple[Path, float | None], threading.Lock] = {}
        self._sweeper: threading.Timer | None = None

    def __len__(self) -> int:
        return len(self._open_slides)

    @contextmanager
    def lease(self, path: Path, mpp: float | None) -> Iterator[OpenSlide]:
        """Raises SlideRefused. A slide whose process broke is not given to the next one."""
        key = path, mpp
        with self._lock:
            opening_lock = self._opening_locks.setdefault(key, threading.Lock())
        with opening_lock:  # two readers of one slide start one process
            open_slide = self._acquire(key)
            if open_slide is None:
                open_slide = self._insert(key, sandbox.open_slide(path, mpp))
        broken = False
        try:
            yield open_slide
        except BaseException:
            broken = True
            raise
        finally:
            self._release(key, open_slide, broken)

    def _acquire(self, key: tuple[Path, float | None]) -> OpenSlide | None:
        with self._lock:
            open_slide = self._open_slides.get(key)
            if open_slide is not None:
                open_slide.users += 1
                self._open_slides.move_to_end(key)
            return open_slide

    def _insert(self, key: tuple[Path, float | None], slide: Slide) -> OpenSlide:
        open_slide = OpenSlide(slide)
        open_slide.users = 1
        with self._lock:
            self._open_slides[key] = open_slide
        self._evict_idle()
        return open_slide

    def _release(self, key: tuple[Path, float | None], open_slide: OpenSlide, broken: bool) -> None:
        with self._lock:
            open_slide.users -= 1
            open_slide.last_used = time.monotonic()
            if broken and self._open_slides.get(key) is open_slide:
                del self._open_slides[key]
            should_close = self._open_slides.get(key) is not open_slide and not open_slide.users
        if should_close:
            open_slide.slide.close()
        self._evict_idle()

    def _evict_idle(self) -> None:
        """Closes what nobody reads and there are too many of, or that has been idle; comes again for the rest."""
        now = time.monotonic()
        closing = []
        with self._lock:
            for key, open_slide in list(self._open_slides.items()):
                if not open_slide.users and (
                    len(self._open_slides) > self.capacity or now - open_slide.last_used >= self.idle_seconds
                ):
                    closing.append(self._open_slides.pop(key).slide)
            for key in [
                key
                for key, opening_lock in self._opening_locks.items()
                if key not in self._open_slides and not opening_lock.locked()
            ]:
                del self._opening_locks[key]
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
            if self._open_slides:
                self._sweeper = threading.Timer(self.idle_seconds, self._evict_idle)
                self._sweeper.daemon = True
                self._sweeper.start()
        for slide in closing:
            slide.close()

    def close(self) -> None:
        """Whatever is still being read is closed by its last reader."""
        with self._lock:
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
            closing = [open_slide.slide for open_slide in self._open_slides.values() if not open_slide.users]
            self._open_slides.clear()
        for slide in closing:
            slide.close()


class HeatmapCache:
    """The last few heatmaps that were asked for, as they are small."""

    def __init__(self, capacity: int = 8):
        self.capacity = capacity
        self._heatmaps: OrderedDict[Path, tuple[NDArray[np.float32], NDArray[np.float32]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(probability, attention), each (rows, columns), of a heat.npz. Raises OSError, ValueError, KeyError."""
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
    """`threads` tiles are made at once, further ones wait their turn."""

    def __init__(self, threads: int = 2, max_open_slides: int = 4, idle_seconds: float = 60.0):
        self.slide_cache, self.heatmap_cache = SlideCache(max_open_slides, idle_seconds), HeatmapCache()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="deepzoom")

    async def read_tile(self, path: Path, mpp: float | None, level: int, x: int, y: int) -> bytes | None:
        """JPEG, None where the pyramid has no such tile. Raises SlideRefused."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, self.render_tile, path, mpp, level, x, y
        )

    async def read_pyramid(self, path: Path, mpp: float | None) -> Pyramid:
        """Raises SlideRefused."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._load_pyramid, path, mpp)

    async def read_region(
        self, path: Path, mpp: float | None, box: Box | None = None, max_size: tuple[int, int] | None = None
    ) -> bytes:
        """JPEG of `box` in level-0 pixels, or of the whole slide, no larger than `most`. Raises SlideRefused."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, self.render_region, path, mpp, box, max_size
        )

    def render_tile(self, path: Path, mpp: float | None, level: int, column: int, row: int) -> bytes | None:
        with self.slide_cache.lease(path, mpp) as open_slide:
            pixels = open_slide.read_tile(level, column, row)
        return None if pixels is None else encode_image(pixels)

    def _load_pyramid(self, path: Path, mpp: float | None) -> Pyramid:
        with self.slide_cache.lease(path, mpp) as open_slide:
            return open_slide.pyramid

    def render_region(self, path: Path, mpp: float | None, box: Box | None, max_size: tuple[int, int] | None) -> bytes:
        with self.slide_cache.lease(path, mpp) as open_slide:
            slide = open_slide.slide
            left, top, width, height = box or (0, 0, *slide.metadata.size)
            max_width, max_height = max_size or (width, height)
            scale = max(width / max_width, height / max_height, 1.0)
            size = max(1, round(width / scale)), max(1, round(height / scale))
            return encode_image(
                read_region(
                    slide, left, top, (width, height), size, MAX_OVERVIEW_PIXELS if box is None else MAX_TILE_PIXELS
                )
            )

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)
        self.slide_cache.close()


def read_region(
    slide: Slide,
    x: float,
    y: float,
    extent: tuple[float, float],
    size: tuple[int, int],
    max_pixels: int = MAX_TILE_PIXELS,
) -> Pixels:
    """As read_scaled in bounded memory: by parts where a level has many pixels there, sampled where it has too many."""
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
    from PIL import Image

    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BOX))


def _read_sampled(
    slide: Slide, x: float, y: float, extent: tuple[float, float], size: tuple[int, int], level: int
) -> Pixels:
    """A slide without small levels seen from afar: the mean colour at some places, and what lies between is blended."""
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
    """PNG with opacity of the tile `box` at a level that is `shrink` times smaller than the slide.

    values: (rows, columns), each a cell of `extent` level-0 pixels (x, y). A pixel has its cell's colour, and where it
    covers several that of the highest, so that a single positive tile is seen from however far.
    """
    left, top, width, height = box
    for axis, (start, count, side) in enumerate(((top, height, extent[1]), (left, width, extent[0]))):
        last = values.shape[axis] - 1
        first = np.minimum((np.arange(start, start + count) * downsample / side).astype(np.intp), last)
        end = min(max(math.ceil((start + count) * downsample / side), int(first[-1]) + 1), last + 1)
        # Of equal neighbours in `first`, as where a cell is larger than a pixel, each takes the cell itself.
        values = np.fmax.reduceat(values.take(range(first[0], end), axis), first - first[0], axis)
    return encode_image(to_rgba(values), "PNG")


def encode_image(pixels: NDArray[np.uint8], image_format: str = "JPEG") -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    options = {"quality": JPEG_QUALITY} if image_format == "JPEG" else {"compress_level": 3}
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()
