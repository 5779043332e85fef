"""Where the tiles or strips of an image stand, and how many of their bytes the pixels need; bytes behind those could
hold anything.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import ByteSource, CheckAbortedError, Size
from datasets.slides.errors import slide_issue
from datasets.slides.formats.tiff_check import DEFLATE, LZW, OLD_DEFLATE, PACKBITS, UNCOMPRESSED
from datasets.slides.formats.tiff_directories import (
    BITS,
    COMPRESSION,
    PLANAR,
    ROWS_PER_STRIP,
    SAMPLES,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    TILE_COUNTS,
    TILE_HEIGHT,
    TILE_OFFSETS,
    TILE_WIDTH,
    TiffDirectory,
)

BLOCK_BYTES = 1 << 20
LZW_CLEAR, LZW_END = 256, 257
LZW_WIDTHS = np.repeat([9, 10, 11, 12], [254, 512, 1024, 2308])  # bits of the codes after the table is cleared
LZW_STARTS = np.cumsum(LZW_WIDTHS) - LZW_WIDTHS
LZW_BLOCK_BYTES = 8_192  # more than the codes between two marks
Ranges = NDArray[np.uint64]  # (n, 2): offset and length of each tile or strip; both 0 if it is not stored


def pixel_ranges(image: TiffDirectory) -> Ranges:
    """Of as many tiles or strips as the size needs; libtiff ignores further entries."""
    tags = (TILE_OFFSETS, TILE_COUNTS) if image.is_tiled else (STRIP_OFFSETS, STRIP_COUNTS)
    count = _tile_count(image)
    ranges = np.stack([np.asarray(image.tags[tag])[:count].astype(np.uint64) for tag in tags], axis=1)
    ranges[(ranges == 0).any(axis=1)] = 0
    return ranges


def require_separate(images: Sequence[TiffDirectory], directories: Sequence[TiffDirectory]) -> None:
    """Raises CheckAbortedError if a tile reaches into a directory, the value of a tag, or another image that is not
    copied: it would bring their bytes into the copy.
    """
    copied = {image.offset for image in images}
    others = [_own_ranges(directory) for directory in directories]
    others += [pixel_ranges(each) for each in directories if each.offset not in copied and _has_pixels(each)]
    forbidden = _sorted_ranges(others)
    for image in images:
        ranges = _sorted_ranges([pixel_ranges(image)])
        following = np.searchsorted(forbidden[:, 0], ranges[:, 0], side="right")
        reach = np.maximum.accumulate(forbidden.sum(axis=1)) if len(forbidden) else np.zeros(0, np.uint64)
        begins_inside = (following > 0) & (reach[following - 1] > ranges[:, 0]) if len(reach) else np.zeros(0, bool)
        starts = np.append(forbidden[:, 0], np.uint64(2**64 - 1))
        if begins_inside.any() or (starts[following] < ranges.sum(axis=1)).any():
            raise _malformed("bytes of another image or of a tag", "its own", f"a tile of {image.name}")


def _own_ranges(directory: TiffDirectory) -> Ranges:
    values = [(entry.offset, entry.length) for entry in directory.entries.values()]
    return np.array([(directory.offset, directory.next_link[0] - directory.offset), *values], np.uint64)


def _has_pixels(directory: TiffDirectory) -> bool:
    tags = (TILE_OFFSETS, TILE_COUNTS) if directory.is_tiled else (STRIP_OFFSETS, STRIP_COUNTS)
    return all(len(directory.tags.get(tag, ())) for tag in tags) and min(*directory.size, *_tile_size(directory)) > 0


def _sorted_ranges(ranges: list[Ranges]) -> Ranges:
    joined = np.concatenate([*ranges, np.zeros((0, 2), np.uint64)])
    joined = joined[joined[:, 1] > 0]
    return joined[np.argsort(joined[:, 0], kind="stable")]


def _tile_count(image: TiffDirectory) -> int:
    columns, rows = (math.ceil(length / extent) for length, extent in zip(image.size, _tile_size(image), strict=True))
    return columns * rows * (image.get_int(SAMPLES, 1) if image.get_int(PLANAR, 1) == 2 else 1)


def _tile_size(image: TiffDirectory) -> Size:
    """Of a tile or of a complete strip."""
    width, height = image.size
    if image.is_tiled:
        return image.get_int(TILE_WIDTH, 0), image.get_int(TILE_HEIGHT, 0)
    return width, min(max(image.get_int(ROWS_PER_STRIP, height), 1), height)


def read_within(source: ByteSource, offset: int, length: int, start: int, size: int) -> bytes:
    """`size` bytes from `start` within a tile or strip, fewer at its end."""
    return source.read(offset + start, max(0, min(size, length - start)), "a tile")


def stored_length(source: ByteSource, image: TiffDirectory, offset: int, length: int) -> int:
    """At most `length`. Streams of JPEG end by their own mark (codestream.py)."""
    compression = image.get_int(COMPRESSION, 1)
    if compression == UNCOMPRESSED:
        expected = _decoded_bytes(image)
        if image.is_tiled and length < expected:
            raise _malformed(f"{length:,} bytes", f"{expected:,} bytes, as none are packed", f"a tile of {image.name}")
        return min(length, expected)
    if compression in (DEFLATE, OLD_DEFLATE):
        return _deflated_length(source, offset, length, _decoded_bytes(image))
    if compression == LZW:
        return _lzw_length(source, offset, length)
    if compression == PACKBITS:
        return _packed_length(source, offset, length, _decoded_bytes(image))
    return length


def _decoded_bytes(image: TiffDirectory) -> int:
    width, height = _tile_size(image)
    samples = 1 if image.get_int(PLANAR, 1) == 2 else image.get_int(SAMPLES, 1)
    return math.ceil(width * samples * image.get_int(BITS, 1) / 8) * height


def _deflated_length(source: ByteSource, offset: int, length: int, decoded_bytes: int) -> int:
    decoder, position, decoded = zlib.decompressobj(), 0, 0
    pending = b""
    while not decoder.eof and (pending or position < length):
        if not pending:
            pending = source.read(offset + position, min(BLOCK_BYTES, length - position), "a tile")
            position += len(pending)
        try:
            decoded += len(decoder.decompress(pending, BLOCK_BYTES))
        except zlib.error as error:
            raise _malformed(str(error)) from error
        if decoded > decoded_bytes:
            raise _malformed(f"more than {decoded_bytes:,} bytes of pixels")
        pending = decoder.unconsumed_tail
    return position - len(decoder.unused_data)


def _packed_length(source: ByteSource, offset: int, length: int, decoded_bytes: int) -> int:
    """PackBits (TIFF 6.0, section 9): a count up to 127 precedes literal bytes, one from 129 a byte to repeat."""
    position = decoded = 0
    while position < length and decoded < decoded_bytes:
        start, data = position, source.read(offset + position, min(BLOCK_BYTES, length - position), "a strip")
        while position - start < len(data) and decoded < decoded_bytes:
            count = data[position - start]
            position += 2 + count if count < 128 else 1 + (count > 128)
            decoded += 1 + count if count < 128 else (257 - count) * (count > 128)
    return min(position, length)


def _lzw_length(source: ByteSource, offset: int, length: int) -> int:
    """Up to the code of the end (TIFF 6.0, section 13); codes grow from 9 to 12 bits until the table is cleared."""
    if source.read(offset, min(length, 2), "a strip")[:1] != b"\x80":  # the first code clears the table
        return length
    position = 9  # in bits
    while position < 8 * length:
        first_byte = position // 8
        data = source.read(offset + first_byte, min(LZW_BLOCK_BYTES, length - first_byte), "a strip")
        octets = np.frombuffer(data + bytes(3), np.uint8).astype(np.uint32)
        starts = position - 8 * first_byte + LZW_STARTS
        starts = starts[starts + LZW_WIDTHS <= 8 * len(data)]
        widths = LZW_WIDTHS[: len(starts)]
        index = starts // 8
        words = octets[index] << 16 | octets[index + 1] << 8 | octets[index + 2]
        codes = words >> (24 - starts % 8 - widths).astype(np.uint32) & ((1 << widths) - 1).astype(np.uint32)
        marks = np.flatnonzero((codes == LZW_CLEAR) | (codes == LZW_END))
        if not len(marks):
            return length
        position = 8 * first_byte + int(starts[marks[0]] + widths[marks[0]])
        if codes[marks[0]] == LZW_END:
            return -(-position // 8)
    return length


def _malformed(actual: str, expected: str = "a deflate stream of its size", what: str = "a tile") -> CheckAbortedError:
    return CheckAbortedError(slide_issue("malformed", what=what, actual=actual, expected=expected))
