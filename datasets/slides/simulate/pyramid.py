"""A painted slide as a pyramid of encoded tiles, and as a BigTIFF.

write_tiff("simulated.tiff", slide(7, "HSIL"))      # memory is flat in the slide's height; .formats has DICOM and KFB

Each level is half the one before, and is made as the tiles pass.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from datasets.slides.simulate.cell_types import CLASSES
from datasets.slides.simulate.fields import Pixels, encode
from datasets.slides.simulate.slides import TILE, Slide

SIMULATED = "SIMULATED 模拟: painted by datasets.slides.simulate.slides; no patient, no evidence"
COARSEST = 1_024  # pixels of the longer side at which no coarser level is made
MOST_LEVELS = 8  # 256 px are halved exactly so often


class Stored(NamedTuple):
    level: int
    jpeg: bytes


def levels(slide: Slide) -> list[tuple[int, int]]:
    """Width and height of each level, the finest first."""
    sizes = [slide.size]
    while max(sizes[-1]) > COARSEST and len(sizes) < MOST_LEVELS:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


class _Child(NamedTuple):
    """A tile as the level above needs it: what it shows, where that repeats, and its pixels at half the size."""

    number: int
    half: Pixels


class Pyramid:
    """The encoded tiles of a slide, the same in every format; what shows the same is encoded once, if it repeats."""

    def __init__(self, slide: Slide):
        self.slide, self.sizes = slide, levels(slide)
        self._waiting: list[dict[int, list[_Child | None]]] = [{} for _ in self.sizes]  # by column, one row at a time
        self._known: dict[tuple[int, ...], tuple[bytes, _Child]] = {}

    def tiles(self) -> Iterator[Stored]:
        """Every tile of every level; those of one level come by rows."""
        for row in range(self.slide.rows):
            for column in range(self.slide.columns):
                place = self.slide.alike(column, row)
                yield from self._tile(0, column, row, place, partial(self.slide.tile, *place))

    def _tile(
        self, level: int, column: int, row: int, shows: tuple[int, ...], paint: Callable[[], Pixels]
    ) -> Iterator[Stored]:
        found = self._known.get((level, *shows))
        if found is None:
            pixels = paint()
            found = encode(pixels, self.slide.look.quality), _Child(len(self._known), _halved(pixels))
            if self.slide.repeat:
                self._known[level, *shows] = found
        yield Stored(level, found[0])
        if level + 1 == len(self.sizes):
            return
        four = self._waiting[level + 1].setdefault(column // 2, [None] * 4)
        four[2 * (row % 2) + column % 2] = found[1]
        last = column + 1 == across(self.sizes[level][0]), row + 1 == across(self.sizes[level][1])
        if (column % 2 or last[0]) and (row % 2 or last[1]):
            del self._waiting[level + 1][column // 2]
            above = tuple(each.number if each else -1 for each in four)
            yield from self._tile(level + 1, column // 2, row // 2, above, partial(self._joined, four))

    def _joined(self, four: list[_Child | None]) -> Pixels:
        whole = np.full((TILE, TILE, 3), 255, np.uint8)  # what lies beyond the slide is white, as readers have it
        for at, child in enumerate(four):
            if child is not None:
                y, x = at // 2 * TILE // 2, at % 2 * TILE // 2
                whole[y : y + TILE // 2, x : x + TILE // 2] = child.half
        return whole


def across(pixels: int) -> int:
    """Tiles that so many pixels take."""
    return -(-pixels // TILE)


def _halved(pixels: Pixels) -> Pixels:
    """(128, 128, 3) means of four, rounded."""
    wide = pixels.astype(np.uint16)
    four = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((four + 2) // 4).astype(np.uint8)


def write_tiff(path: str | Path, slide: Slide, seen: Callable[[], None] | None = None) -> Path:
    """BigTIFF of JPEG tiles; the file appears under its name when it is whole. `seen` is called at each level-0 tile.

    Tiles are written as they come, the levels after them. One row of coarser tiles is held: 77 MB where a slide is
    100,000 px wide. (tifffile copies encoded tiles only where imagecodecs is installed.)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = levels(slide)
    places = [(array("Q"), array("Q")) for _ in sizes]  # offsets and lengths of each level's tiles
    unfinished = path.with_name(f".{path.name}.partial")
    try:
        with unfinished.open("wb") as file:
            file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
            for level, jpeg in Pyramid(slide).tiles():
                places[level][0].append(file.tell())
                places[level][1].append(len(jpeg))
                file.write(jpeg)
                if seen and not level:
                    seen()
            link = 8  # where the offset of the next directory is to be put
            for level, (size, (offsets, lengths)) in enumerate(zip(sizes, places, strict=True)):
                tags = _tags(slide, level, size) | {324: ("Q", offsets), 325: ("Q", lengths)}
                link = _write_directory(file, link, tags)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


Tags = dict[int, tuple[str, Sequence[int]]]  # by number: how its values are packed, and they
KINDS = {"s": 2, "H": 3, "I": 4, "R": 5, "Q": 16}  # TEXT, SHORT, LONG, RATIONAL as pairs of LONG, LONG8


def _tags(slide: Slide, level: int, size: tuple[int, int]) -> Tags:
    """What a reader needs to know of a level besides its tiles' places."""
    tags: Tags = {254: ("I", [int(level > 0)]), 256: ("I", [size[0]]), 257: ("I", [size[1]]), 258: ("H", [8, 8, 8])}
    tags |= {259: ("H", [7]), 262: ("H", [6]), 277: ("H", [3]), 284: ("H", [1]), 305: ("s", b"datasets.simulate\0")}
    tags |= {322: ("I", [TILE]), 323: ("I", [TILE]), 530: ("H", [1, 1])}  # JPEG, YCbCr, colour as fine as light
    if level == 0:
        about = f"{SIMULATED}. seed={slide.seed} label={CLASSES[slide.label]} mpp={slide.mpp:g} {slide.fault}"
        tags[270] = ("s", about.strip().encode() + b"\0")
    if slide.fault != "no_scale":
        a_centimetre = [10**10, round(slide.mpp * 10**6) * 2**level]  # pixels: 10,000 um over um/px
        shrunk = max(1, *(each // 2**31 + 1 for each in a_centimetre))
        tags[282] = tags[283] = ("R", [round(each / shrunk) for each in a_centimetre])
        tags[296] = ("H", [3])
    return tags


def _write_directory(file: BinaryIO, link: int, tags: Tags) -> int:
    """Writes a directory at the end of the file, and leads there from `link`; returns the link to the next one."""
    entries = b""
    for number, (kind, values) in sorted(tags.items()):
        packed = bytes(values) if kind == "s" else struct.pack(f"<{len(values)}{'I' if kind == 'R' else kind}", *values)
        count = len(values) // 2 if kind == "R" else len(values)
        if len(packed) > 8:
            at = file.tell()
            file.write(packed)
            packed = struct.pack("<Q", at)
        entries += struct.pack("<HHQ", number, KINDS[kind], count) + packed.ljust(8, b"\0")
    at = file.tell()
    file.write(struct.pack("<Q", len(tags)) + entries + bytes(8))
    file.seek(link)
    file.write(struct.pack("<Q", at))
    file.seek(0, os.SEEK_END)
    return file.tell() - 8
