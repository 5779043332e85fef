"""Check KFB slides, the format of a scanner maker in Ningbo: marked sections, a table of tiles, then JPEG data.

The layout is that of the kfbslide package (its _kfbformat.py); there is no public specification.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from datasets.slides.byte_source import ByteSource, CheckAbortedError, CheckedSlide
from datasets.slides.errors import slide_issue
from datasets.slides.limits import SlideLimits
from datasets.slides.scale import resolve_scale, state_magnification, state_scale

ENTRY = np.dtype(
    {
        "names": ["x", "y", "width", "height", "scale", "size"],
        "formats": ["<u4", "<u4", "<u4", "<u4", "<f4", "<u4"],
        "offsets": [4, 8, 12, 16, 20, 32],
        "itemsize": 64,
    }
)
MAX_TILES = 1_000_000  # the package has a Python object for each: about 600 MB at this number
MAX_SCALES = 32
SEARCH_BYTES = 10_000 + 100_000  # bytes that the package searches for the second section and its end


def is_kfb(head: bytes) -> bool:
    return head[1:4] == b"\x01\xee\xee" and head[4:7] == b"KFB"


@dataclass(frozen=True, slots=True)
class KfbHeader:
    """table, table_end: offsets of the table of tiles. tile_side: pixels. mpp: microns per pixel as stated."""

    tiles: int
    height: int
    width: int
    magnification: int
    table: int
    table_end: int
    mpp: float
    tile_side: int


def read_header(source: ByteSource) -> KfbHeader:
    head = source.read(4, 88, "the KFB header")
    table_end, table = struct.unpack("<QQ", head[56:72])
    (mpp,), (tile_side,) = struct.unpack("<f", head[72:76]), struct.unpack("<I", head[84:88])
    tiles, height, width, magnification = struct.unpack("<IIII", head[12:28])
    return KfbHeader(tiles, height, width, magnification, table, table_end, mpp, tile_side)


def read_entries(source: ByteSource, header: KfbHeader) -> np.ndarray:
    """The table of tiles, as ENTRY."""
    return np.frombuffer(source.read(header.table, 64 * header.tiles, "the KFB's tile table"), ENTRY)


def check_kfb(source: ByteSource, limits: SlideLimits) -> CheckedSlide | None:
    header = read_header(source)
    tiles, height, width, power = header.tiles, header.height, header.width, header.magnification
    end, start, mpp, tile = header.table_end, header.table, header.mpp, header.tile_side
    if width < 1 or height < 1:
        source.add_issue("no_size", what="the KFB", width=width, height=height)
    if width * height > limits.pixels or max(width, height) > limits.side:
        source.add_issue("pixel_bomb", what="the KFB", width=width, height=height, limit=limits.pixels)
    if not 1 <= tile <= int(limits.tile_pixels**0.5):
        source.add_issue("tile_bomb", what="the KFB", width=tile, height=tile, limit=limits.tile_pixels)
    if not 1 <= power <= 1_000:
        source.add_issue("malformed", what="the KFB's magnification", actual=power, expected="1 to 1,000")
    if tiles > MAX_TILES:
        source.add_issue("too_many", what="tiles", actual=tiles, limit=MAX_TILES)
    if not tiles:
        source.add_issue("no_pixels", what="the KFB")
    if source.issues:
        return None
    if end and end < start:
        source.add_issue("malformed", what="the end of the KFB's tile table", actual=end, expected=f"{start} or more")
    entries = read_entries(source, header)
    _check_tiles(source, entries, first_tile(source, limits), tile, power, limits)
    _check_places(source, entries, header)
    scales = sorted({float(scale) for scale in entries["scale"] if scale >= 1}, reverse=True)
    levels = tuple((int(width * scale / power), int(height * scale / power)) for scale in scales)
    statements = (*state_scale("KFB header", mpp, None, limits), *state_magnification("KFB magnification", power))
    return CheckedSlide(source.path, "kfb", levels, resolve_scale(statements), (source.path,), scales=statements)


def associated_images(source: ByteSource, limits: SlideLimits) -> list[tuple[int, int]]:
    """(offset, length) of the macro and of the label image."""
    head = source.read_up_to(0, SEARCH_BYTES)
    second_section = head.find(b"\x02\xee\xee", 92)
    if second_section < 1:
        raise CheckAbortedError(
            slide_issue("malformed", what="the KFB's second section", actual="missing", expected="a section 02")
        )
    (third_section,) = struct.unpack("<I", source.read(4 + 52, 4, "the KFB header"))
    sections = [second_section - 1]
    if third_section and source.read_up_to(third_section, 2) == b"\xf1\x03":
        sections.append(third_section)
    ranges = []
    for section in sections:
        length, offset = struct.unpack("<II", source.read(section + 20, 8, "a KFB section"))
        section_end = section + offset + length
        if section_end > min(source.size, limits.header_bytes):
            raise CheckAbortedError(
                slide_issue(
                    "truncated", what="a KFB section", actual=section_end, end=min(source.size, limits.header_bytes)
                )
            )
        ranges.append((section + offset, length))
    return ranges


def first_tile(source: ByteSource, limits: SlideLimits) -> int:
    """The offset of the first JPEG: the package searches for its marker after the macro and label images."""
    search_start = sum(associated_images(source, limits)[-1])
    for block_start in range(search_start, source.size, 1 << 20):
        position = source.read_up_to(block_start, (1 << 20) + 2).find(b"\xff\xd8\xff")
        if position >= 0:
            return block_start + position
        if block_start - search_start > limits.header_bytes:
            break
    raise CheckAbortedError(slide_issue("no_pixels", what="the KFB"))


def _check_tiles(
    source: ByteSource, entries: np.ndarray, first: int, tile: int, power: int, limits: SlideLimits
) -> None:
    scale = entries["scale"]
    if not np.isfinite(scale).all() or (scale <= 0).any() or not (scale >= 1).any() or (scale > power).any():
        source.add_issue("malformed", what="a tile's magnification", actual="out of range", expected=f"1 to {power}")
    elif len(np.unique(scale)) > MAX_SCALES:
        source.add_issue("too_many", what="levels", actual=len(np.unique(scale)), limit=MAX_SCALES)
    if (entries["width"] > tile).any() or (entries["height"] > tile).any():
        width, height = int(entries["width"].max()), int(entries["height"].max())
        source.add_issue("tile_bomb", what="the KFB", width=width, height=height, limit=tile * tile)
    if not (entries["width"] * entries["height"]).all():
        source.add_issue("no_size", what="a tile of the KFB", width=0, height=0)
    size = entries["size"].astype(np.uint64)
    if int(size.max()) > limits.tile_bytes:
        source.add_issue("tile_bytes", what="the KFB", actual=int(size.max()), limit=limits.tile_bytes)
    if first + int(size.sum()) > source.size:
        source.add_issue("truncated", what="the last tile", actual=first + int(size.sum()), end=source.size)
    distinct_places = np.unique(np.stack([entries["x"], entries["y"], scale.view("<u4")]), axis=1)
    if distinct_places.shape[1] != len(entries):
        source.add_issue("duplicate", what="the place of a tile")
    pixels = int((entries["width"].astype(np.int64) * entries["height"]).sum())
    if 3 * pixels / max(int(size.sum()), 1) > limits.ratio:
        source.add_issue("ratio", what="the KFB", actual=3 * pixels / max(int(size.sum()), 1), limit=limits.ratio)


def _check_places(source: ByteSource, entries: np.ndarray, header: KfbHeader) -> None:
    """A tile begins within its level; other numbers could be letters."""
    level = entries["scale"].astype(np.float64) / header.magnification
    for axis, extent in (("x", header.width), ("y", header.height)):
        outside = entries[axis] >= np.ceil(np.maximum(extent * level, 1)) + 1
        if outside.any():
            actual, expected = int(entries[axis][outside][0]), f"within {header.width:,} x {header.height:,} pixels"
            source.add_issue("malformed", what="the place of a tile", actual=f"{axis} {actual:,}", expected=expected)
            return
