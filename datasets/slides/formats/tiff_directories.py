"""Read the directories of TIFF, BigTIFF and NDPI, a variant of TIFF with 64-bit offsets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import ByteSource, CheckAbortedError, Size
from datasets.slides.errors import slide_issue
from datasets.slides.limits import SlideLimits

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, SAMPLES, PLANAR = 256, 257, 258, 259, 262, 270, 277, 284
STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_COUNTS, MAX_SAMPLE_VALUE = 273, 278, 279, 281
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, SOFTWARE, COLOR_MAP = 282, 283, 296, 305, 320
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, SUB_DIRECTORIES = 322, 323, 324, 325, 330
SUBFILE_TYPE, EXTRA_SAMPLES, SAMPLE_FORMAT, XMP, NDPI, NDPI_MAGNIFICATION = 254, 338, 339, 700, 65420, 65421
NDPI_FOCUS, NDPI_MCU_STARTS = 65424, 65426  # nanometres from the best focus; where parts of a JPEG begin
NUMBER_DTYPES = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 11: "f4", 12: "f8", 13: "u4"}
NUMBER_DTYPES |= {16: "u8", 17: "i8", 18: "u8"}
TYPE_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
INTEGERS = (1, 3, 4, 13, 16, 18)  # unsigned
TABLE_TAGS = {STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS}
TEXT_TAGS = {DESCRIPTION, SOFTWARE, XMP}
READ_TAGS = {
    *(*TABLE_TAGS, *TEXT_TAGS, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR, ROWS_PER_STRIP),
    *(MAX_SAMPLE_VALUE, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, COLOR_MAP, TILE_WIDTH, TILE_HEIGHT),
    *(SUB_DIRECTORIES, SUBFILE_TYPE, EXTRA_SAMPLES, SAMPLE_FORMAT, NDPI, NDPI_MAGNIFICATION, NDPI_FOCUS),
}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6  # photometric interpretations
COLOUR_CHANNELS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
PADDING_BYTES = 64  # that may follow the last image


@dataclass(frozen=True, slots=True)
class TiffEntry:
    """One tag of a directory. offset, length: the bytes of its value, inside the directory or elsewhere."""

    tag: int
    kind: int
    count: int
    offset: int
    length: int


@dataclass(slots=True, eq=False)
class TiffDirectory:
    """One image of the file: the tags in use, as arrays or text.

    entries:         all tags, whether in use or not.
    next_link:       where the offset of the next directory stands, as (byte, width).
    value_ranges:    (offset, length) of all its values that stand outside of it.
    sub_directories: smaller copies of the image that no next link names, as in OME-TIFF; numbered after all others.
    """

    number: int
    offset: int
    tags: dict[int, Any] = field(default_factory=dict)
    entries: dict[int, TiffEntry] = field(default_factory=dict)
    next_link: tuple[int, int] = (0, 0)
    value_ranges: list[tuple[int, int]] = field(default_factory=list)
    sub_directories: list[TiffDirectory] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"image {self.number}"

    @property
    def size(self) -> Size:
        return self.get_int(WIDTH, 0), self.get_int(HEIGHT, 0)

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]

    @property
    def is_tiled(self) -> bool:
        return TILE_WIDTH in self.tags

    def get_int(self, tag: int, default: int) -> int:
        values = self.tags.get(tag)
        return int(values[0]) if isinstance(values, np.ndarray) and len(values) else default

    def get_text(self, tag: int) -> str:
        return self.get_bytes(tag).decode("utf-8", "replace")

    def get_bytes(self, tag: int) -> bytes:
        """The value of a text, which may be stored as numbers of one byte."""
        value = self.tags.get(tag, b"")
        is_text = isinstance(value, bytes) or value.dtype.itemsize == 1
        return bytes(value).rstrip(b"\0") if is_text else b""


@dataclass(frozen=True, slots=True)
class ByteLayout:
    """The byte order and offset size of this file."""

    byte_order: str  # < or >
    is_big: bool
    is_ndpi: bool = False

    def number(self, data: bytes, width: int) -> int:
        return int.from_bytes(data[:width], "little" if self.byte_order == "<" else "big")


def read_layout(source: ByteSource) -> tuple[ByteLayout, int]:
    """The layout of the file and the offset of its first directory."""
    head = source.read(0, 8, "the TIFF header")
    byte_order = "<" if head[:2] == b"II" else ">"
    layout = ByteLayout(byte_order, head[2:4] in (b"+\0", b"\0+"))
    if layout.is_big:
        head = source.read(0, 16, "the BigTIFF header")
        if layout.number(head[4:], 2) != 8:
            raise CheckAbortedError(
                slide_issue("malformed", what="BigTIFF's offset size", actual=layout.number(head[4:], 2), expected="8")
            )
    offset = layout.number(head[8:], 8) if layout.is_big else layout.number(head[4:], 4)
    if byte_order == "<" and not layout.is_big and _is_ndpi(source, layout):
        layout = ByteLayout(byte_order, False, is_ndpi=True)
        offset = layout.number(source.read(4, 8, "the NDPI header"), 8)
    return layout, offset


def read_directories(source: ByteSource, limits: SlideLimits) -> list[TiffDirectory]:
    layout, offset = read_layout(source)
    directories: list[TiffDirectory] = []
    visited: set[int] = set()
    while offset and not (offset >= source.size and _is_complete(source, directories)):
        if offset in visited:
            source.add_issue("ifd_loop", actual=len(directories), offset=offset)
            break
        if len(directories) == limits.directories:
            source.add_issue("too_many", what="images", actual=limits.directories + 1, limit=limits.directories)
            break
        visited.add(offset)
        directory, offset = read_directory(source, layout, offset, len(directories), limits)
        directories.append(directory)
    if not directories:
        source.add_issue("no_pixels", what="the file")
    _read_sub_directories(source, layout, directories, visited, limits)
    return directories


def _is_complete(source: ByteSource, directories: list[TiffDirectory]) -> bool:
    """Whether the file ends with its last image, so that a link out of the file, at which libtiff ends the list, does
    not lead to a part that is missing.
    """
    ends = [sum(value_range) for directory in directories for value_range in directory.value_ranges]
    ends += [sum(directory.next_link) for directory in directories]
    for directory in directories:
        ends += [int(table.max(initial=0)) for table in _tile_ends(directory)]
    return bool(ends) and source.size - max(ends) <= PADDING_BYTES


def _tile_ends(directory: TiffDirectory) -> Iterator[NDArray[np.uint64]]:
    for offsets_tag, counts_tag in ((TILE_OFFSETS, TILE_COUNTS), (STRIP_OFFSETS, STRIP_COUNTS)):
        offsets, counts = (np.asarray(directory.tags.get(tag, ()), np.uint64) for tag in (offsets_tag, counts_tag))
        yield offsets[: len(counts)] + counts[: len(offsets)]


def _read_sub_directories(
    source: ByteSource, layout: ByteLayout, directories: list[TiffDirectory], visited: set[int], limits: SlideLimits
) -> None:
    """Attach to each directory the images that its SubIFDs tag lists; each may begin a list of its own.

    What is no image or cannot be read is ignored, as by libtiff: the slide does not depend on it.
    """
    number, issues = len(directories), list(source.issues)
    for directory in directories:
        for entry in directory.tags.get(SUB_DIRECTORIES, ()):
            offset = int(entry)
            while 0 < offset < source.size and offset not in visited and number < limits.directories:
                visited.add(offset)
                number += 1
                try:
                    sub_directory, offset = read_directory(source, layout, offset, number - 1, limits)
                except CheckAbortedError:
                    break
                if source.issues == issues and sub_directory.pixels:
                    directory.sub_directories.append(sub_directory)
                source.issues[:] = issues


def _is_ndpi(source: ByteSource, layout: ByteLayout) -> bool:
    """NDPI is classic TIFF with 64-bit offsets; only one tag of its first directory shows it."""
    offset = int.from_bytes(source.read_up_to(4, 8), "little")
    count = int.from_bytes(source.read_up_to(offset, 2), "little")
    entries = source.read_up_to(offset + 2, 12 * count)
    return any(layout.number(entries[entry_start:], 2) == NDPI for entry_start in range(0, len(entries) - 11, 12))


def read_directory(
    source: ByteSource, layout: ByteLayout, offset: int, number: int, limits: SlideLimits
) -> tuple[TiffDirectory, int]:
    """The directory at `offset`, and the offset of the next one (0: none)."""
    label = f"directory {number}"
    count_bytes, entry_bytes, value_bytes = (8, 20, 8) if layout.is_big else (2, 12, 4)
    count = layout.number(source.read(offset, count_bytes, label), count_bytes)
    if not 1 <= count <= limits.tags:
        raise CheckAbortedError(slide_issue("too_many", what=f"entries in {label}", actual=count, limit=limits.tags))
    next_offset_bytes = 8 if layout.is_big or layout.is_ndpi else 4
    data = source.read(offset + count_bytes, count * entry_bytes + next_offset_bytes, label)
    directory = TiffDirectory(number, offset, next_link=(offset + count_bytes + count * entry_bytes, next_offset_bytes))
    high_bits = _ndpi_high_bits(source, offset, count) if layout.is_ndpi else None
    visited_tags: set[int] = set()
    for index, entry_start in enumerate(range(0, count * entry_bytes, entry_bytes)):
        tag, kind = layout.number(data[entry_start:], 2), layout.number(data[entry_start + 2 :], 2)
        value_count = layout.number(data[entry_start + 4 :], value_bytes)
        if tag in visited_tags:
            source.add_issue("duplicate", what=f"tag {tag} of {label}")
        visited_tags.add(tag)
        length = value_count * TYPE_WIDTHS.get(kind, 1)
        inline_value = data[entry_start + 4 + value_bytes : entry_start + entry_bytes]
        value_offset = layout.number(inline_value, value_bytes)
        if layout.is_ndpi and length > value_bytes:
            value_offset = _ndpi_offset(value_offset, offset, high_bits[index] if high_bits else None)
        if length > value_bytes and value_offset + length > source.size:
            source.add_issue("truncated", what=f"tag {tag} of {label}", actual=value_offset + length, end=source.size)
            continue
        start = value_offset if length > value_bytes else offset + count_bytes + entry_start + 4 + value_bytes
        directory.entries[tag] = TiffEntry(tag, kind, value_count, start, length)
        if length > value_bytes:
            directory.value_ranges.append((value_offset, length))
        if tag not in READ_TAGS or not value_count or not _is_readable(tag, kind):
            continue
        if tag in TABLE_TAGS and value_count > limits.tiles:
            source.add_issue("too_many", what=f"tiles in {label}", actual=value_count, limit=limits.tiles)
            continue
        if tag not in TABLE_TAGS and length > limits.text_bytes:
            source.add_issue("too_many", what=f"bytes in tag {tag} of {label}", actual=length, limit=limits.text_bytes)
            continue
        source.table_bytes += length
        if source.table_bytes > limits.table_bytes:
            raise CheckAbortedError(
                slide_issue("too_many", what="bytes of tables", actual=source.table_bytes, limit=limits.table_bytes)
            )
        raw = (
            inline_value[:length]
            if length <= value_bytes
            else source.read(value_offset, length, f"tag {tag} of {label}")
        )
        values = decode_values(raw, kind, layout)
        if layout.is_ndpi and tag == STRIP_OFFSETS and isinstance(values, np.ndarray):
            high = high_bits[index] if high_bits and value_count == 1 else None
            values = np.array([_ndpi_offset(int(value), offset, high) for value in values], np.uint64)
        directory.tags[tag] = values
    return directory, layout.number(data[count * entry_bytes :], next_offset_bytes)


def _is_readable(tag: int, kind: int) -> bool:
    """Whether a tag has a type that it can have: only a few are texts, and offsets and lengths are whole numbers."""
    if tag in TEXT_TAGS:
        return kind in TYPE_WIDTHS
    if tag in TABLE_TAGS:
        return kind in INTEGERS
    return kind in NUMBER_DTYPES or kind in (5, 10)


def _ndpi_high_bits(source: ByteSource, offset: int, count: int) -> list[int] | None:
    """The high 32 bits of each value, which stand after the directory; None if there are none, as in small files."""
    words = source.read_up_to(offset + 2 + 12 * count + 8, 4 * count)
    high_bits = [int.from_bytes(words[start : start + 4], "little") for start in range(0, 4 * count, 4)]
    return high_bits if len(words) == 4 * count and any(high_bits) else None


def _ndpi_offset(low_bits: int, directory_offset: int, high_bits: int | None) -> int:
    """Restore an NDPI offset from its low 32 bits. Without the high ones it is the nearest one before the directory."""
    if high_bits is not None:
        return high_bits << 32 | low_bits
    candidate = (directory_offset & ~0xFFFFFFFF) | low_bits
    return candidate if candidate < directory_offset else max(candidate - 2**32, low_bits)


def decode_values(raw: bytes, kind: int, layout: ByteLayout) -> NDArray[Any] | bytes:
    if kind in (2, 7):
        return raw
    if kind in (5, 10):
        pairs = (
            np.frombuffer(raw, f"{layout.byte_order}{'u4' if kind == 5 else 'i4'}").reshape(-1, 2).astype(np.float64)
        )
        return np.divide(pairs[:, 0], pairs[:, 1], out=np.zeros(len(pairs)), where=pairs[:, 1] != 0)
    return np.frombuffer(raw, layout.byte_order + NUMBER_DTYPES[kind])
