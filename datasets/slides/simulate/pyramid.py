"""Encode a simulated slide as a pyramid of tiles, and write it as a BigTIFF.

write_tiff("simulated.tiff", simulate_slide(7, "HSIL"))      # writers.py has DICOM and KFB

Each level is half the size of the one before and is computed while tiles pass, so memory does not grow with the height
of the slide.
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

from datasets.simulation import complete_file
from datasets.slides.simulate.cell_types import CLASSES
from datasets.slides.simulate.fields import Pixels, encode_jpeg
from datasets.slides.simulate.slides import TILE, SimulatedSlide

SIMULATED = "SIMULATED 模拟: painted by datasets.slides.simulate.slides; no patient, no evidence"
MIN_TOP_SIDE = 1_024  # pixels of the longer side below which no coarser level is added
MAX_LEVELS = 8  # 256 px can be halved this many times


class EncodedTile(NamedTuple):
    level: int
    jpeg: bytes


def level_sizes(slide: SimulatedSlide) -> list[tuple[int, int]]:
    """Width and height in pixels of each level, the finest first."""
    sizes = [slide.size]
    while max(sizes[-1]) > MIN_TOP_SIDE and len(sizes) < MAX_LEVELS:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


class _ChildTile(NamedTuple):
    """A tile as the next level needs it: a key of its content and its pixels at half the size."""

    key: int
    half_size_pixels: Pixels


class Pyramid:
    """The encoded tiles of a slide, the same in every format; repeated content is encoded once."""

    def __init__(self, slide: SimulatedSlide):
        self.slide, self.sizes = slide, level_sizes(slide)
        self._pending_rows: list[dict[int, list[_ChildTile | None]]] = [
            {} for _ in self.sizes
        ]  # by column, one row at a time
        self._encoded: dict[tuple[int, ...], tuple[bytes, _ChildTile]] = {}

    def tiles(self) -> Iterator[EncodedTile]:
        """Every tile of every level; those of one level come row by row."""
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
        joined = np.full((TILE, TILE, 3), 255, np.uint8)  # beyond the slide is white, as readers return it
        for position, child in enumerate(children):
            if child is not None:
                y, x = position // 2 * TILE // 2, position % 2 * TILE // 2
                joined[y : y + TILE // 2, x : x + TILE // 2] = child.half_size_pixels
        return joined


def tile_count(pixels: int) -> int:
    """Number of tiles that cover so many pixels."""
    return -(-pixels // TILE)


def _halve(pixels: Pixels) -> Pixels:
    """Half the size, (128, 128, 3): rounded means of four pixels."""
    wide_pixels = pixels.astype(np.uint16)
    sums = wide_pixels[::2, ::2] + wide_pixels[1::2, ::2] + wide_pixels[::2, 1::2] + wide_pixels[1::2, 1::2]
    return ((sums + 2) // 4).astype(np.uint8)


def write_tiff(path: str | Path, slide: SimulatedSlide, on_tile: Callable[[], None] | None = None) -> Path:
    """Write a BigTIFF of JPEG tiles; it appears under its name once it is complete.

    on_tile is called for each level-0 tile. Tiles are written as they are rendered, the directories of the levels after
    them. One row of coarser tiles is held in memory: 77 MB for a slide 100,000 px wide. (tifffile copies encoded tiles
    only if imagecodecs is installed.)
    """
    path, sizes = Path(path), level_sizes(slide)
    tile_tables = [(array("Q"), array("Q")) for _ in sizes]  # offsets and lengths of each level's tiles
    with complete_file(path) as partial_path, partial_path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        for level, jpeg in Pyramid(slide).tiles():
            tile_tables[level][0].append(file.tell())
            tile_tables[level][1].append(len(jpeg))
            file.write(jpeg)
            if on_tile and not level:
                on_tile()
        link = 8  # position of the next directory's offset
        for level, (size, (offsets, lengths)) in enumerate(zip(sizes, tile_tables, strict=True)):
            tags = _level_tags(slide, level, size) | {324: ("Q", offsets), 325: ("Q", lengths)}
            link = _write_directory(file, link, tags)
    return path


Tags = dict[int, tuple[str, Sequence[int]]]  # tag number -> (type of its values, values)
FIELD_TYPES = {"s": 2, "H": 3, "I": 4, "R": 5, "Q": 16}  # TEXT, SHORT, LONG, RATIONAL as pairs of LONG, LONG8


def _level_tags(slide: SimulatedSlide, level: int, size: tuple[int, int]) -> Tags:
    """The tags of a level, without the offsets of its tiles."""
    tags: Tags = {254: ("I", [int(level > 0)]), 256: ("I", [size[0]]), 257: ("I", [size[1]]), 258: ("H", [8, 8, 8])}
    tags |= {259: ("H", [7]), 262: ("H", [6]), 277: ("H", [3]), 284: ("H", [1]), 305: ("s", b"datasets.simulate\0")}
    tags |= {322: ("I", [TILE]), 323: ("I", [TILE]), 530: ("H", [1, 1])}  # JPEG, YCbCr, chroma not subsampled
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
    """Append a directory, put its offset at `link`, and return the position for the offset of the next one."""
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
