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
from datasets.slides.simulate.fields import Pixels, encode_jpeg
from datasets.slides.simulate.slides import TILE, SimulatedSlide

SIMULATED = "SIMULATED 模拟: painted by datasets.slides.simulate.slides; no patient, no evidence"
MIN_TOP_SIDE = 1_024  # pixels of the longer side at which no coarser level is made
MAX_LEVELS = 8  # 256 px are halved exactly so often


class EncodedTile(NamedTuple):
    level: int
    jpeg: bytes


def level_sizes(slide: SimulatedSlide) -> list[tuple[int, int]]:
    """Width and height of each level, the finest first."""
    sizes = [slide.size]
    while max(sizes[-1]) > MIN_TOP_SIDE and len(sizes) < MAX_LEVELS:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


class _ChildTile(NamedTuple):
    """A tile as the level above needs it: what it shows, where that repeats, and its pixels at half the size."""

    key: int
    half_size_pixels: Pixels


class Pyramid:
    """The encoded tiles of a slide, the same in every format; what shows the same is encoded once, if it repeats."""

    def __init__(self, slide: SimulatedSlide):
        self.slide, self.sizes = slide, level_sizes(slide)
        self._pending_rows: list[dict[int, list[_ChildTile | None]]] = [
            {} for _ in self.sizes
        ]  # by column, one row at a time
        self._encoded: dict[tuple[int, ...], tuple[bytes, _ChildTile]] = {}

    def tiles(self) -> Iterator[EncodedTile]:
        """Every tile of every level; those of one level come by rows."""
        for row in range(self.slide.rows):
            for column in range(self.slide.columns):
                source = self.slide.source_tile(column, row)
                yield from self._tile(0, column, row, source, partial(self.slide.tile, *source))

    def _tile(
        self, level: int, column: int, row: int, content_key: tuple[int, ...], render_pixels: Callable[[], Pixels]
    ) -> Iterator[EncodedTile]:
        encoded = self._encoded.get((level, *content_key))
        if encoded is None:
            pixels = render_pixels()
            encoded = encode_jpeg(pixels, self.slide.appearance.quality), _ChildTile(len(self._encoded), _halve(pixels))
            if self.slide.repeat_tiles:
                self._encoded[level, *content_key] = encoded
        yield EncodedTile(level, encoded[0])
        if level + 1 == len(self.sizes):
            return
        children = self._pending_rows[level + 1].setdefault(column // 2, [None] * 4)
        children[2 * (row % 2) + column % 2] = encoded[1]
        is_last = column + 1 == tile_count(self.sizes[level][0]), row + 1 == tile_count(self.sizes[level][1])
        if (column % 2 or is_last[0]) and (row % 2 or is_last[1]):
            del self._pending_rows[level + 1][column // 2]
            parent_key = tuple(child.key if child else -1 for child in children)
            yield from self._tile(level + 1, column // 2, row // 2, parent_key, partial(self._join, children))

    def _join(self, children: list[_ChildTile | None]) -> Pixels:
        joined = np.full((TILE, TILE, 3), 255, np.uint8)  # what lies beyond the slide is white, as readers have it
        for position, child in enumerate(children):
            if child is not None:
                y, x = position // 2 * TILE // 2, position % 2 * TILE // 2
                joined[y : y + TILE // 2, x : x + TILE // 2] = child.half_size_pixels
        return joined


def tile_count(pixels: int) -> int:
    """Tiles that so many pixels take."""
    return -(-pixels // TILE)


def _halve(pixels: Pixels) -> Pixels:
    """(128, 128, 3) means of four, rounded."""
    wide_pixels = pixels.astype(np.uint16)
    sums = wide_pixels[::2, ::2] + wide_pixels[1::2, ::2] + wide_pixels[::2, 1::2] + wide_pixels[1::2, 1::2]
    return ((sums + 2) // 4).astype(np.uint8)


def write_tiff(path: str | Path, slide: SimulatedSlide, on_tile: Callable[[], None] | None = None) -> Path:
    """BigTIFF of JPEG tiles; the file appears under its name when it is whole. `seen` is called at each level-0 tile.

    Tiles are written as they come, the levels after them. One row of coarser tiles is held: 77 MB where a slide is
    100,000 px wide. (tifffile copies encoded tiles only where imagecodecs is installed.)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = level_sizes(slide)
    tile_tables = [(array("Q"), array("Q")) for _ in sizes]  # offsets and lengths of each level's tiles
    partial_path = path.with_name(f".{path.name}.partial")
    try:
        with partial_path.open("wb") as file:
            file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
            for level, jpeg in Pyramid(slide).tiles():
                tile_tables[level][0].append(file.tell())
                tile_tables[level][1].append(len(jpeg))
                file.write(jpeg)
                if on_tile and not level:
                    on_tile()
            link = 8  # where the offset of the next directory is to be put
            for level, (size, (offsets, lengths)) in enumerate(zip(sizes, tile_tables, strict=True)):
                tags = _level_tags(slide, level, size) | {324: ("Q", offsets), 325: ("Q", lengths)}
                link = _write_directory(file, link, tags)
        os.replace(partial_path, path)
    finally:
        partial_path.unlink(missing_ok=True)
    return path


Tags = dict[int, tuple[str, Sequence[int]]]  # by number: how its values are packed, and they
FIELD_TYPES = {"s": 2, "H": 3, "I": 4, "R": 5, "Q": 16}  # TEXT, SHORT, LONG, RATIONAL as pairs of LONG, LONG8


def _level_tags(slide: SimulatedSlide, level: int, size: tuple[int, int]) -> Tags:
    """What a reader needs to know of a level besides its tiles' places."""
    tags: Tags = {254: ("I", [int(level > 0)]), 256: ("I", [size[0]]), 257: ("I", [size[1]]), 258: ("H", [8, 8, 8])}
    tags |= {259: ("H", [7]), 262: ("H", [6]), 277: ("H", [3]), 284: ("H", [1]), 305: ("s", b"datasets.simulate\0")}
    tags |= {322: ("I", [TILE]), 323: ("I", [TILE]), 530: ("H", [1, 1])}  # JPEG, YCbCr, colour as fine as light
    if level == 0:
        description = f"{SIMULATED}. seed={slide.seed} label={CLASSES[slide.label]} mpp={slide.mpp:g} {slide.defect}"
        tags[270] = ("s", description.strip().encode() + b"\0")
    if slide.defect != "no_scale":
        pixels_per_centimetre = [10**10, round(slide.mpp * 10**6) * 2**level]  # pixels: 10,000 um over um/px
        divisor = max(1, *(value // 2**31 + 1 for value in pixels_per_centimetre))
        tags[282] = tags[283] = ("R", [round(value / divisor) for value in pixels_per_centimetre])
        tags[296] = ("H", [3])
    return tags


def _write_directory(file: BinaryIO, link: int, tags: Tags) -> int:
    """Writes a directory at the end of the file, and leads there from `link`; returns the link to the next one."""
    entries = b""
    for number, (field_type, values) in sorted(tags.items()):
        packed_values = (
            bytes(values)
            if field_type == "s"
            else struct.pack(f"<{len(values)}{'I' if field_type == 'R' else field_type}", *values)
        )
        count = len(values) // 2 if field_type == "R" else len(values)
        if len(packed_values) > 8:
            offset = file.tell()
            file.write(packed_values)
            packed_values = struct.pack("<Q", offset)
        entries += struct.pack("<HHQ", number, FIELD_TYPES[field_type], count) + packed_values.ljust(8, b"\0")
    offset = file.tell()
    file.write(struct.pack("<Q", len(tags)) + entries + bytes(8))
    file.seek(link)
    file.write(struct.pack("<Q", offset))
    file.seek(0, os.SEEK_END)
    return file.tell() - 8
