"""Check PNG and JPEG files: their headers and their completeness."""

from __future__ import annotations

from collections.abc import Iterator

from datasets.slides.byte_source import ByteSource, CheckAbortedError, CheckedSlide
from datasets.slides.errors import slide_issue
from datasets.slides.formats.exif import exif_scales
from datasets.slides.limits import SlideLimits
from datasets.slides.scale import (
    MICRONS_PER_CENTIMETRE,
    MICRONS_PER_INCH,
    ScaleStatement,
    resolve_scale,
    state_resolution,
)

PNG_SIGNATURE, JPEG_SIGNATURE = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
FRAME_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers that state a size
BLOCK_BYTES = 1 << 20
EXIF_NAME, MAX_EXIF_BYTES = b"Exif\0\0", 1 << 20
MICRONS_PER_METRE = 1e6
PNG_TEXT_CHUNKS = {b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME"}
# JFIF, colour profile, Adobe's colour transform; other APP segments and comments are texts
JPEG_RETAINED_MARKERS = {0xE0, 0xE2, 0xEE}


def check_png(source: ByteSource, limits: SlideLimits) -> CheckedSlide | None:
    head = source.read(8, 25, "the PNG header")
    if head[4:8] != b"IHDR" or int.from_bytes(head[:4]) != 13:
        raise CheckAbortedError(
            slide_issue("malformed", what="the first PNG block", actual=repr(head[4:8]), expected="IHDR")
        )
    width, height = int.from_bytes(head[8:12]), int.from_bytes(head[12:16])
    offset, chunk_count, data_bytes, chunk_type = 8, 0, 0, b""
    scales: list[ScaleStatement] = []
    while offset + 8 <= source.size and chunk_type != b"IEND":
        chunk_head = source.read(offset, 8, "a PNG block")
        length, chunk_type = int.from_bytes(chunk_head[:4]), chunk_head[4:]
        data_bytes += length if chunk_type == b"IDAT" else 0
        if chunk_type == b"pHYs" and length == 9:
            scales += _png_scale(source.read(offset + 8, 9, "a PNG block"), limits)
        elif chunk_type == b"eXIf" and length <= MAX_EXIF_BYTES:
            scales += exif_scales(source.read(offset + 8, length, "a PNG block"), limits)
        offset, chunk_count = offset + 12 + length, chunk_count + 1
        if chunk_count > limits.elements:
            raise CheckAbortedError(
                slide_issue("too_many", what="PNG blocks", actual=chunk_count, limit=limits.elements)
            )
    if offset > source.size:
        source.add_issue("truncated", what=f"the PNG block {chunk_type!r}", actual=offset, end=source.size)
    elif chunk_type != b"IEND":
        source.add_issue("no_end")
    if not data_bytes:
        source.add_issue("no_pixels", what="the PNG")
    return _checked_slide(source, limits, "png", width, height, scales)


def check_jpeg(source: ByteSource, limits: SlideLimits) -> CheckedSlide | None:
    offset, marker = 2, 0
    scales: list[ScaleStatement] = []
    while marker not in FRAME_MARKERS:
        segment_head = source.read(offset, 4, "a JPEG segment")
        if segment_head[0] != 0xFF:
            raise CheckAbortedError(
                slide_issue(
                    "malformed", what=f"byte {offset:,} of the JPEG", actual=hex(segment_head[0]), expected="0xff"
                )
            )
        marker, length = segment_head[1], int.from_bytes(segment_head[2:])
        if marker in (0xDA, 0xD9):
            raise CheckAbortedError(
                slide_issue("malformed", what="the JPEG's size", actual="missing", expected="a frame header")
            )
        if marker == 0xE0 and length >= 14:
            scales += _jfif_scale(source.read(offset + 4, 12, "a JPEG segment"), limits)
        elif marker == 0xE1 and length > 8:
            segment = source.read(offset + 4, length - 2, "a JPEG segment")
            scales += exif_scales(segment[6:], limits) if segment.startswith(EXIF_NAME) else []
        offset += 1 if marker == 0xFF else 2 + max(length, 2)
    frame = source.read(offset - length + 2, 5, "the JPEG's frame header")  # bits, height, width
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    if frame[0] != 8:
        source.add_issue("packing", actual=f"{frame[0]} bits a channel", expected="8 bits")
    _check_scans(source, limits, offset)
    return _checked_slide(source, limits, "jpeg", width, height, scales)


def png_text_ranges(source: ByteSource) -> Iterator[tuple[int, int]]:
    """(offset, length) of the values of a checked PNG's text blocks; the checksum of a block follows its value."""
    offset = 8
    while offset + 8 <= source.size:
        chunk_head = source.read(offset, 8, "a PNG block")
        length, chunk_type = int.from_bytes(chunk_head[:4]), chunk_head[4:]
        if chunk_type in PNG_TEXT_CHUNKS:
            yield offset + 8, length
        offset += 12 + length


def jpeg_text_ranges(source: ByteSource) -> Iterator[tuple[int, int]]:
    """(offset, length) of the comments and application segments before a checked JPEG's image data."""
    offset, marker = 2, 0
    while marker != 0xDA:
        segment_head = source.read(offset, 4, "a JPEG segment")
        marker, length = segment_head[1], int.from_bytes(segment_head[2:])
        if (0xE0 <= marker <= 0xEF or marker == 0xFE) and marker not in JPEG_RETAINED_MARKERS:
            yield offset + 4, length - 2
        offset += 1 if marker == 0xFF else 2 + max(length, 2)


def _check_scans(source: ByteSource, limits: SlideLimits, offset: int) -> None:
    """Count scans and find the end. Inside a scan 0xff is always followed by 0, so no decoding is needed."""
    scans, has_end, previous_byte = 0, False, b""
    while block := source.read_up_to(offset, BLOCK_BYTES):
        scans += (previous_byte + block).count(b"\xff\xda")
        has_end = has_end or b"\xff\xd9" in previous_byte + block
        offset, previous_byte = offset + len(block), block[-1:]
    if scans > limits.scans:
        source.add_issue("too_many", what="JPEG scans", actual=scans, limit=limits.scans)
    if not has_end:
        source.add_issue("no_end")
    if not scans:
        source.add_issue("no_pixels", what="the JPEG")


def _png_scale(block: bytes, limits: SlideLimits) -> list[ScaleStatement]:
    """The scale of a pHYs block: pixels per metre, if the last byte is 1."""
    x, y = int.from_bytes(block[:4]), int.from_bytes(block[4:8])
    return state_resolution("PNG pHYs", x, y, MICRONS_PER_METRE, limits) if block[8] == 1 else []


def _jfif_scale(segment: bytes, limits: SlideLimits) -> list[ScaleStatement]:
    """The scale of a JFIF segment: pixels per inch or centimetre."""
    unit = {1: MICRONS_PER_INCH, 2: MICRONS_PER_CENTIMETRE}.get(segment[7])
    x, y = int.from_bytes(segment[8:10]), int.from_bytes(segment[10:12])
    return state_resolution("JFIF density", x, y, unit, limits) if segment[:5] == b"JFIF\0" and unit else []


def _checked_slide(
    source: ByteSource, limits: SlideLimits, kind: str, width: int, height: int, scales: list[ScaleStatement]
) -> CheckedSlide | None:
    if width < 1 or height < 1:
        source.add_issue("no_size", what=f"the {kind.upper()}", width=width, height=height)
        return None
    if width * height > limits.flat_pixels:
        label = f"the {kind.upper()}"
        source.add_issue("pixel_bomb", what=label, width=width, height=height, limit=limits.flat_pixels)
    scale = resolve_scale(scales)
    return CheckedSlide(
        source.path, kind, ((width, height),), scale, (source.path,), is_flat=True, scales=tuple(scales)
    )
