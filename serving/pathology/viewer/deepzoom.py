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
from serving.pathology.viewer.colormap import colours

TILE = 256  # pixels a side
QUALITY = 85
WHOLE = 4_194_304  # pixels of a level that are read at once
DENSE = 33_554_432  # pixels of a level that may be read for one tile; beyond, it is sampled
ONCE = 134_217_728  # the same for the small picture of the whole slide, which is made once
SMALL = 2_048  # pixels of that picture's longer side, at most
SAMPLES, SAMPLE = 16, 64  # places a side, and the pixels a side read at each
XML = (
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
    def levels(self) -> int:
        return math.ceil(math.log2(max(self.width, self.height, 1))) + 1

    def shrink(self, level: int) -> int:
        """Pixels of the picture per pixel of the level."""
        return 1 << (self.levels - 1 - level)

    def box(self, level: int, x: int, y: int) -> Box | None:
        """Of the tile at column `x` and row `y`; None where there is none."""
        if not 0 <= level < self.levels or x < 0 or y < 0:
            return None
        width, height = (math.ceil(side / self.shrink(level)) for side in (self.width, self.height))
        left, top = x * TILE, y * TILE
        if left >= width or top >= height:
            return None
        return left, top, min(TILE, width - left), min(TILE, height - top)

    def dzi(self, kind: str) -> bytes:
        return XML.format(format=kind, tile=TILE, width=self.width, height=self.height).encode()


class Held:
    """A slide held open, and a small picture of it, from which the many levels that show it whole are made."""

    def __init__(self, slide: Slide):
        self.slide, self.pyramid = slide, Pyramid(*slide.facts.size)
        self.users, self.used = 0, time.monotonic()
        self._small: Pixels | None = None
        self._lock = threading.Lock()

    def tile(self, level: int, column: int, row: int) -> Pixels | None:
        box = self.pyramid.box(level, column, row)
        if box is None:
            return None
        left, top, width, height = box
        shrink, least = self.pyramid.shrink(level), self._least()
        if shrink >= least:
            small, again = self._picture(least), shrink // least
            part = small[top * again : (top + height) * again, left * again : (left + width) * again]
            return shrunk(part, (width, height))
        x, y = left * shrink, top * shrink
        extent = min(width * shrink, self.pyramid.width - x), min(height * shrink, self.pyramid.height - y)
        return region(self.slide, x, y, extent, (width, height))

    def _least(self) -> int:
        """Slide's pixels per pixel of the small picture."""
        shrink = 1
        while max(self.pyramid.width, self.pyramid.height) / shrink > SMALL:
            shrink *= 2
        return shrink

    def _picture(self, shrink: int) -> Pixels:
        with self._lock:
            if self._small is None:
                width, height = self.pyramid.width, self.pyramid.height
                size = math.ceil(width / shrink), math.ceil(height / shrink)
                self._small = region(self.slide, 0, 0, (width, height), size, ONCE)
            return self._small


class OpenSlides:
    """At most `most` slides held open, the longest unused closed first, each after `idle` seconds without a reader."""

    def __init__(self, most: int = 4, idle: float = 60.0):
        self.most, self.idle = most, idle
        self._held: OrderedDict[tuple[Path, float | None], Held] = OrderedDict()
        self._lock = threading.Lock()
        self._opening: dict[tuple[Path, float | None], threading.Lock] = {}
        self._sweeper: threading.Timer | None = None

    def __len__(self) -> int:
        return len(self._held)

    @contextmanager
    def use(self, path: Path, mpp: float | None) -> Iterator[Held]:
        """Raises SlideRefused. A slide whose process broke is not given to the next one."""
        key = path, mpp
        with self._lock:
            door = self._opening.setdefault(key, threading.Lock())
        with door:  # two readers of one slide start one process
            held = self._take(key)
            if held is None:
                held = self._put(key, sandbox.open_slide(path, mpp))
        broken = False
        try:
            yield held
        except BaseException:
            broken = True
            raise
        finally:
            self._give(key, held, broken)

    def _take(self, key: tuple[Path, float | None]) -> Held | None:
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                held.users += 1
                self._held.move_to_end(key)
            return held

    def _put(self, key: tuple[Path, float | None], slide: Slide) -> Held:
        held = Held(slide)
        held.users = 1
        with self._lock:
            self._held[key] = held
        self._sweep()
        return held

    def _give(self, key: tuple[Path, float | None], held: Held, broken: bool) -> None:
        with self._lock:
            held.users -= 1
            held.used = time.monotonic()
            if broken and self._held.get(key) is held:
                del self._held[key]
            gone = self._held.get(key) is not held and not held.users
        if gone:
            held.slide.close()
        self._sweep()

    def _sweep(self) -> None:
        """Closes what nobody reads and there are too many of, or that has been idle; comes again for the rest."""
        now = time.monotonic()
        closing = []
        with self._lock:
            for key, held in list(self._held.items()):
                if not held.users and (len(self._held) > self.most or now - held.used >= self.idle):
                    closing.append(self._held.pop(key).slide)
            for key in [key for key, door in self._opening.items() if key not in self._held and not door.locked()]:
                del self._opening[key]
            if self._sweeper is not None:
                self._sweeper.cancel()
                self._sweeper = None
            if self._held:
                self._sweeper = threading.Timer(self.idle, self._sweep)
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
            closing = [held.slide for held in self._held.values() if not held.users]
            self._held.clear()
        for slide in closing:
            slide.close()


class Heats:
    """The last few heatmaps that were asked for, as they are small."""

    def __init__(self, most: int = 8):
        self.most = most
        self._held: OrderedDict[Path, tuple[NDArray[np.float32], NDArray[np.float32]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(probability, attention), each (rows, columns), of a heat.npz. Raises OSError, ValueError, KeyError."""
        with self._lock:
            if path in self._held:
                self._held.move_to_end(path)
                return self._held[path]
        with np.load(path, allow_pickle=False) as found:
            heat = found["probability"], found["attention"]
        with self._lock:
            self._held[path] = heat
            while len(self._held) > self.most:
                self._held.popitem(last=False)
        return heat


class DeepZoom:
    """`threads` tiles are made at once, further ones wait their turn."""

    def __init__(self, threads: int = 2, most: int = 4, idle: float = 60.0):
        self.slides, self.heats = OpenSlides(most, idle), Heats()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="deepzoom")

    async def tile(self, path: Path, mpp: float | None, level: int, x: int, y: int) -> bytes | None:
        """JPEG, None where the pyramid has no such tile. Raises SlideRefused."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.read, path, mpp, level, x, y)

    async def pyramid(self, path: Path, mpp: float | None) -> Pyramid:
        """Raises SlideRefused."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._pyramid, path, mpp)

    async def picture(
        self, path: Path, mpp: float | None, box: Box | None = None, most: tuple[int, int] | None = None
    ) -> bytes:
        """JPEG of `box` in level-0 pixels, or of the whole slide, no larger than `most`. Raises SlideRefused."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.look, path, mpp, box, most)

    def read(self, path: Path, mpp: float | None, level: int, column: int, row: int) -> bytes | None:
        with self.slides.use(path, mpp) as held:
            pixels = held.tile(level, column, row)
        return None if pixels is None else encoded(pixels)

    def _pyramid(self, path: Path, mpp: float | None) -> Pyramid:
        with self.slides.use(path, mpp) as held:
            return held.pyramid

    def look(self, path: Path, mpp: float | None, box: Box | None, most: tuple[int, int] | None) -> bytes:
        with self.slides.use(path, mpp) as held:
            slide = held.slide
            left, top, width, height = box or (0, 0, *slide.facts.size)
            across, down = most or (width, height)
            shrink = max(width / across, height / down, 1.0)
            fits = max(1, round(width / shrink)), max(1, round(height / shrink))
            return encoded(region(slide, left, top, (width, height), fits, ONCE if box is None else DENSE))

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self.slides.close()


def region(
    slide: Slide, x: float, y: float, extent: tuple[float, float], size: tuple[int, int], dense: int = DENSE
) -> Pixels:
    """As read_scaled in bounded memory: by parts where a level has many pixels there, sampled where it has too many."""
    level = slide.facts.level_for(min(extent[0] / size[0], extent[1] / size[1]))
    downsample = slide.facts.levels[level].downsample
    pixels = extent[0] * extent[1] / downsample**2
    if pixels <= WHOLE:
        return read_scaled(slide, x, y, extent, size)
    if pixels > dense or size == (1, 1):
        return _sampled(slide, x, y, extent, size, level)
    along = 0 if size[0] >= size[1] else 1
    first = size[along] // 2
    cut = extent[along] * first / size[along]
    parts = []
    for start, length, count in ((0.0, cut, first), (cut, extent[along] - cut, size[along] - first)):
        place = (x + start, y) if along == 0 else (x, y + start)
        part = (length, extent[1]) if along == 0 else (extent[0], length)
        fits = (count, size[1]) if along == 0 else (size[0], count)
        parts.append(region(slide, *place, part, fits, dense))
    return np.concatenate(parts, axis=1 - along)


def shrunk(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    from PIL import Image

    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BOX))


def _sampled(
    slide: Slide, x: float, y: float, extent: tuple[float, float], size: tuple[int, int], level: int
) -> Pixels:
    """A slide without small levels seen from afar: the mean colour at some places, and what lies between is blended."""
    from PIL import Image

    downsample = slide.facts.levels[level].downsample
    across, down = (min(SAMPLES, side) for side in size)
    small = np.empty((down, across, 3), np.uint8)
    for row in range(down):
        for column in range(across):
            middle = x + (column + 0.5) * extent[0] / across, y + (row + 0.5) * extent[1] / down
            left, top = (round(each - SAMPLE / 2 * downsample) for each in middle)
            small[row, column] = slide.read(left, top, (SAMPLE, SAMPLE), level).reshape(-1, 3).mean(0)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BILINEAR))


def heat_tile(values: NDArray[np.float32], extent: tuple[float, float], shrink: int, box: Box) -> bytes:
    """PNG with opacity of the tile `box` at a level that is `shrink` times smaller than the slide.

    values: (rows, columns), each a cell of `extent` level-0 pixels (x, y). A pixel has its cell's colour, and where it
    covers several that of the highest, so that a single positive tile is seen from however far.
    """
    left, top, width, height = box
    for axis, (start, count, side) in enumerate(((top, height, extent[1]), (left, width, extent[0]))):
        last = values.shape[axis] - 1
        first = np.minimum((np.arange(start, start + count) * shrink / side).astype(np.intp), last)
        end = min(max(math.ceil((start + count) * shrink / side), int(first[-1]) + 1), last + 1)
        # Of equal neighbours in `first`, as where a cell is larger than a pixel, each takes the cell itself.
        values = np.fmax.reduceat(values.take(range(first[0], end), axis), first - first[0], axis)
    return encoded(colours(values), "PNG")


def encoded(pixels: NDArray[np.uint8], kind: str = "JPEG") -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    options = {"quality": QUALITY} if kind == "JPEG" else {"compress_level": 3}
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
