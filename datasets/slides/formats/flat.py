"""PNG and JPEG: their headers, and whether they end."""

from __future__ import annotations

from collections.abc import Iterator

from datasets.slides.byte_source import Ends, Found, Source
from datasets.slides.errors import fault
from datasets.slides.limits import Limits

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers that state a size
BLOCK = 1 << 20
PNG_WORDS = {b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME"}
JPEG_KEPT = {
    0xE0,
    0xE2,
    0xEE,
}  # JFIF, colour profile, Adobe's colour transform; other APP segments and comments are words


def check_png(source: Source, limits: Limits) -> Found | None:
    head = source.read(8, 25, "the PNG header")
    if head[4:8] != b"IHDR" or int.from_bytes(head[:4]) != 13:
        raise Ends(fault("malformed", what="the first PNG block", found=repr(head[4:8]), needed="IHDR"))
    width, height = int.from_bytes(head[8:12]), int.from_bytes(head[12:16])
    at, blocks, packed, kind = 8, 0, 0, b""
    while at + 8 <= source.size and kind != b"IEND":
        start = source.read(at, 8, "a PNG block")
        length, kind = int.from_bytes(start[:4]), start[4:]
        packed += length if kind == b"IDAT" else 0
        at, blocks = at + 12 + length, blocks + 1
        if blocks > limits.elements:
            raise Ends(fault("too_many", what="PNG blocks", found=blocks, most=limits.elements))
    if at > source.size:
        source.wrong("truncated", what=f"the PNG block {kind!r}", found=at, end=source.size)
    elif kind != b"IEND":
        source.wrong("no_end")
    if not packed:
        source.wrong("no_pixels", what="the PNG")
    return _found(source, limits, "png", width, height)


def check_jpeg(source: Source, limits: Limits) -> Found | None:
    at, marker = 2, 0
    while marker not in FRAMES:
        start = source.read(at, 4, "a JPEG segment")
        if start[0] != 0xFF:
            raise Ends(fault("malformed", what=f"byte {at:,} of the JPEG", found=hex(start[0]), needed="0xff"))
        marker, length = start[1], int.from_bytes(start[2:])
        if marker in (0xDA, 0xD9):
            raise Ends(fault("malformed", what="the JPEG's size", found="missing", needed="a frame header"))
        at += 1 if marker == 0xFF else 2 + max(length, 2)
    frame = source.read(at - length + 2, 5, "the JPEG's frame header")  # bits, height, width
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    _check_scans(source, limits, at)
    return _found(source, limits, "jpeg", width, height)


def png_words(source: Source) -> Iterator[tuple[int, int]]:
    """(offset, length) of the values of a checked PNG's blocks of words; each block's checksum follows its value."""
    at = 8
    while at + 8 <= source.size:
        start = source.read(at, 8, "a PNG block")
        length, kind = int.from_bytes(start[:4]), start[4:]
        if kind in PNG_WORDS:
            yield at + 8, length
        at += 12 + length


def jpeg_words(source: Source) -> Iterator[tuple[int, int]]:
    """(offset, length) of the comments and programs' own segments that stand before a checked JPEG's picture."""
    at, marker = 2, 0
    while marker != 0xDA:
        start = source.read(at, 4, "a JPEG segment")
        marker, length = start[1], int.from_bytes(start[2:])
        if (0xE0 <= marker <= 0xEF or marker == 0xFE) and marker not in JPEG_KEPT:
            yield at + 4, length - 2
        at += 1 if marker == 0xFF else 2 + max(length, 2)


def _check_scans(source: Source, limits: Limits, at: int) -> None:
    """Inside a scan 0xff is always followed by 0, so that markers can be counted without decoding."""
    scans, ends, last = 0, False, b""
    while block := source.some(at, BLOCK):
        scans += (last + block).count(b"\xff\xda")
        ends = ends or b"\xff\xd9" in last + block
        at, last = at + len(block), block[-1:]
    if scans > limits.scans:
        source.wrong("too_many", what="JPEG scans", found=scans, most=limits.scans)
    if not ends:
        source.wrong("no_end")
    if not scans:
        source.wrong("no_pixels", what="the JPEG")


def _found(source: Source, limits: Limits, kind: str, width: int, height: int) -> Found | None:
    """Neither states a scan's scale: dots per inch are written unasked."""
    if width < 1 or height < 1:
        source.wrong("no_size", what=f"the {kind.upper()}", width=width, height=height)
        return None
    if width * height > limits.flat_pixels:
        what = f"the {kind.upper()}"
        source.wrong("pixel_bomb", what=what, width=width, height=height, most=limits.flat_pixels)
    return Found(source.path, kind, ((width, height),), None, (source.path,), flat=True)
