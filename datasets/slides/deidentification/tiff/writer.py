"""Write a TIFF, BigTIFF or NDPI from images of another one, block by block, so that memory does not grow with the file.

with path.open("xb") as file:
    writer = TiffWriter(file, layout)
    writer.add_image(tags, writer.copy_pixels(source, image))

Each directory follows its pixels. What is not given to the writer is not in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import numpy as np

from datasets.slides.byte_source import ByteSource, CheckAbortedError
from datasets.slides.deidentification.codestream import clean_j2k, clean_jpeg
from datasets.slides.deidentification.tiff.pixels import BLOCK_BYTES, Ranges, pixel_ranges, read_within, stored_length
from datasets.slides.deidentification.tiff.tags import LONG, LONG8, RATIONAL, Tags, Value
from datasets.slides.errors import slide_issue
from datasets.slides.formats.tiff_check import JPEG, JPEG_2000
from datasets.slides.formats.tiff_directories import (
    COMPRESSION,
    NUMBER_DTYPES,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    TILE_COUNTS,
    TILE_OFFSETS,
    TYPE_WIDTHS,
    ByteLayout,
    TiffDirectory,
)

MAX_CLASSIC_BYTES = 2**32 - 2**24
STRUCT_CODES = {1: "B", 3: "H", 4: "I", 5: "I", 9: "i", 11: "f", 16: "Q"}


def output_layout(source: ByteSource, layout: ByteLayout, images: list[TiffDirectory]) -> ByteLayout:
    """The layout of the copy, a BigTIFF if a classic one could not hold the images. The byte order stays, as samples of
    16 bits are stored in it.

    Raises CheckAbortedError if the tiles overlap, as the copy could then be far larger than the original.
    """
    size = sum(int(np.unique(pixel_ranges(image), axis=0)[:, 1].sum()) for image in images)
    if size > source.size:
        expected = f"at most {source.size:,} bytes, the size of the file"
        raise CheckAbortedError(slide_issue("malformed", what="the tiles together", actual=size, expected=expected))
    table_bytes = sum(16 * len(pixel_ranges(image)) for image in images)
    is_big = layout.is_big or (not layout.is_ndpi and size + table_bytes > MAX_CLASSIC_BYTES)
    return ByteLayout(layout.byte_order, is_big, layout.is_ndpi)


@dataclass(slots=True)
class TiffWriter:
    """Images are written in the order in which they are added. _link: where the offset of the next directory goes."""

    file: BinaryIO
    layout: ByteLayout
    _link: int = 0

    def __post_init__(self) -> None:
        mark = b"II" if self.layout.byte_order == "<" else b"MM"
        version = self._pack("H", 43 if self.layout.is_big else 42)
        header = mark + version + (self._pack("HHQ", 8, 0, 0) if self.layout.is_big else self._pack("I", 0))
        self.file.write(header + (bytes(4) if self.layout.is_ndpi else b""))  # an NDPI's offsets have 64 bits
        self._link = 8 if self.layout.is_big else 4

    def copy_pixels(self, source: ByteSource, image: TiffDirectory) -> Ranges:
        """Append the tiles or strips in the order in which they are stored; one that many places share once."""
        ranges, positions = np.unique(pixel_ranges(image), axis=0, return_inverse=True)
        copied = np.zeros_like(ranges)
        for index in range(len(ranges)):
            if offset := int(ranges[index, 0]):
                start = self.file.tell()
                for block in _clean_blocks(source, image, offset, int(ranges[index, 1])):
                    self.file.write(block)
                copied[index] = start, self.file.tell() - start
        return copied[positions.reshape(-1)]

    def add_bytes(self, data: bytes) -> Ranges:
        start = self.file.tell()
        self.file.write(data)
        return np.array([[start, len(data)]], np.uint64)

    def add_image(self, tags: Tags, ranges: Ranges, is_tiled: bool = True) -> None:
        offset_tag, count_tag = (TILE_OFFSETS, TILE_COUNTS) if is_tiled else (STRIP_OFFSETS, STRIP_COUNTS)
        kind = LONG8 if self.layout.is_big else LONG
        tags = tags | {offset_tag: (kind, ranges[:, 0]), count_tag: (kind, ranges[:, 1])}
        entries, high_bits = b"", b""
        for tag, value in sorted(tags.items()):
            entry, high = self._entry(tag, value)
            entries += entry
            high_bits += struct.pack("<I", high)
        self._align()
        start = self.file.tell()
        count = self._pack("Q" if self.layout.is_big else "H", len(tags))
        next_link = bytes(8 if self.layout.is_big or self.layout.is_ndpi else 4)
        self.file.write(count + entries + next_link + (high_bits if self.layout.is_ndpi else b""))
        self.file.seek(self._link)
        self.file.write(self._pack("Q" if len(next_link) == 8 else "I", start))
        self._link = start + len(count) + len(entries)
        self.file.seek(0, 2)

    def _entry(self, tag: int, value: Value) -> tuple[bytes, int]:
        """The bytes of an entry, and what NDPI has of its value or offset beyond 32 bits."""
        kind, items = value
        count = len(items) // 2 if kind == RATIONAL else len(items)
        inline_bytes = 8 if self.layout.is_big else 4
        high = 0
        if self.layout.is_ndpi and kind == LONG and count == 1:
            high, items = int(items[0]) >> 32, [int(items[0]) & 0xFFFFFFFF]
        if isinstance(items, np.ndarray):
            raw = items.astype(self.layout.byte_order + NUMBER_DTYPES[kind]).tobytes()
        else:
            raw = items if isinstance(items, bytes) else self._pack(f"{len(items)}{STRUCT_CODES[kind]}", *items)
        assert len(raw) == count * TYPE_WIDTHS[kind]
        if len(raw) > inline_bytes:
            self._align()
            offset = self.file.tell()
            self.file.write(raw)
            high = offset >> 32 if self.layout.is_ndpi else 0
            raw = self._pack("Q" if self.layout.is_big else "I", offset & 0xFFFFFFFF if self.layout.is_ndpi else offset)
        head = self._pack("HHQ" if self.layout.is_big else "HHI", tag, kind, count)
        return head + raw.ljust(inline_bytes, b"\0"), high

    def _pack(self, form: str, *values: float) -> bytes:
        return struct.pack(self.layout.byte_order + form, *values)

    def _align(self) -> None:
        self.file.write(bytes(self.file.tell() % 2))


def _clean_blocks(source: ByteSource, image: TiffDirectory, offset: int, length: int) -> Iterator[bytes]:
    """The bytes of a tile or strip without what its pixels do not need."""
    compression = image.get_int(COMPRESSION, 1)
    if compression in JPEG_2000:
        yield clean_j2k(source.read(offset, length, "a tile"))
    elif compression == JPEG and length <= BLOCK_BYTES:
        data = source.read(offset, length, "a tile")
        yield from clean_jpeg(lambda start, size: data[start : start + size], length)
    elif compression == JPEG:
        yield from clean_jpeg(partial(read_within, source, offset, length), length)
    else:
        length = stored_length(source, image, offset, length)
        for start in range(0, length, BLOCK_BYTES):
            yield source.read(offset + start, min(BLOCK_BYTES, length - start), "a tile")
