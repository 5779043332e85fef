"""Write PNG and JPEG files anew with what determines their pixels, and nothing else."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from datasets.slides.byte_source import ByteSource, CheckAbortedError, CheckedSlide, open_source
from datasets.slides.deidentification.codestream import clean_jpeg
from datasets.slides.deidentification.container import Text, TileRange, copy_name
from datasets.slides.deidentification.icc import clean_icc_profile
from datasets.slides.errors import slide_issue
from datasets.slides.formats.exif import build_exif
from datasets.slides.formats.flat import EXIF_NAME
from datasets.slides.limits import SlideLimits

BLOCK_BYTES = 1 << 20
MAX_TEXT = 1 << 20  # of a text chunk, as stored and inflated
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# critical chunks, and those that change the colours of a pixel, with the most bytes that their values may have
PNG_CHUNKS = {
    **{b"IHDR": 13, b"PLTE": 768, b"IDAT": 1 << 31, b"IEND": 0},
    **{b"tRNS": 256, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"sBIT": 4},
}
MAX_PROFILE, MAX_SEGMENT = 4 << 20, 65_000  # bytes
ICC_SEGMENT, ICC_NAME = 0xE2, b"ICC_PROFILE\0"
JPEG_SCAN, JPEG_END = 0xDA, 0xD9
JPEG_STANDALONE = {0x01, *range(0xD0, 0xD9)}
JPEG_TEXTS = {*range(0xE0, 0xF0), 0xFE}  # application segments and comments

Read = Callable[[int, int], bytes]  # start, size -> bytes, fewer at the end


def clean_png(checked: CheckedSlide, folder: Path, limits: SlideLimits, key: bytes) -> Path:
    copy = folder / copy_name(checked.path.with_suffix(".png"))
    with open_source(checked.path) as source, copy.open("wb") as file:
        for block in _clean_png(source.read_up_to, source.size, checked.mpp):
            file.write(block)
    return copy


def clean_png_stream(content: bytes) -> bytes:
    """The same for a PNG in memory, such as a tile, without a scale."""
    return b"".join(_clean_png(read_from(content), len(content)))


def read_from(content: bytes) -> Read:
    """The bytes of a stream in memory."""
    return lambda start, size: content[start : start + size]


def clean_jpeg_file(checked: CheckedSlide, folder: Path, limits: SlideLimits, key: bytes) -> Path:
    copy = folder / copy_name(checked.path.with_suffix(".jpg"))
    with open_source(checked.path) as source, copy.open("wb") as file:
        profile = clean_icc_profile(_jpeg_profile(source))
        blocks = clean_jpeg(source.read_up_to, source.size)
        file.write(b"\xff\xd8" + _scale_segment(checked.mpp) + _profile_segments(profile or b""))
        file.write(next(blocks)[2:])
        for block in blocks:
            file.write(block)
    return copy


def iter_png_texts(checked: CheckedSlide, limits: SlideLimits) -> Iterator[Text]:
    with open_source(checked.path) as source:
        end = 8
        for name, offset, length in _png_chunks(source.read_up_to, source.size):
            end = offset + length
            is_scale = checked.mpp is not None and source.read_up_to(offset, length) == _png_chunk(
                b"eXIf", build_exif(checked.mpp)
            )
            is_retained = name in PNG_CHUNKS or is_scale
            if not is_retained and not (name == b"iCCP" and _is_clean_profile(source, offset, length)):
                yield from _png_texts(source, name, offset + 8, length - 12)
        yield "after the end", source.read_up_to(end, MAX_TEXT)


def iter_jpeg_texts(checked: CheckedSlide, limits: SlideLimits) -> Iterator[Text]:
    with open_source(checked.path) as source:
        first_scan = 0
        for marker, offset, length in _jpeg_segments(source):
            first_scan = offset
            head = source.read_up_to(offset, 12)
            if marker in JPEG_TEXTS and not (marker == ICC_SEGMENT and head == ICC_NAME):
                value = source.read_up_to(offset, length)
                if value != _scale_segment(checked.mpp)[4:]:
                    yield f"segment {marker:02x}", value
        yield from _profile_texts(_jpeg_profile(source))
        yield from _texts_after_jpeg(source, first_scan)


def png_tile_ranges(checked: CheckedSlide, limits: SlideLimits) -> Iterator[TileRange]:
    with open_source(checked.path) as source:
        for name, offset, length in _png_chunks(source.read_up_to, source.size):
            if name in PNG_CHUNKS:
                yield checked.path, offset, length


def jpeg_tile_ranges(checked: CheckedSlide, limits: SlideLimits) -> Iterator[TileRange]:
    yield checked.path, 0, checked.path.stat().st_size


def _clean_png(read: Read, size: int, mpp: tuple[float, float] | None = None) -> Iterator[bytes]:
    yield PNG_SIGNATURE
    inflater = zlib.decompressobj()
    for name, offset, length in _png_chunks(read, size):
        if name == b"iCCP":
            yield _profile_chunk(read(offset + 8, min(length - 12, MAX_PROFILE)))
        if name not in PNG_CHUNKS:
            continue
        for start in range(offset, offset + length, BLOCK_BYTES):
            block = read(start, min(BLOCK_BYTES, offset + length - start))
            yield block
        if name == b"IHDR" and mpp is not None:
            yield _png_chunk(b"eXIf", build_exif(mpp))
        if name == b"IDAT":
            _check_deflated(inflater, read, offset + 8, length - 12)


def _check_deflated(inflater: zlib._Decompress, read: Read, offset: int, length: int) -> None:
    """Raises CheckAbortedError if pixels end before their chunks do: a decoder would ignore what follows."""
    for start in range(offset, offset + length, BLOCK_BYTES):
        remaining = read(start, min(BLOCK_BYTES, offset + length - start))
        while remaining:
            if inflater.eof:
                raise _malformed("the pixels of the PNG", "followed by other bytes", "nothing after their end")
            try:
                inflater.decompress(remaining, BLOCK_BYTES)
            except zlib.error as error:
                raise _malformed("the pixels of the PNG", "damaged", "a deflate stream") from error
            remaining = inflater.unconsumed_tail or inflater.unused_data


def _png_chunks(read: Read, size: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, offset, length with head and checksum) of each chunk up to the end mark."""
    offset, name = len(PNG_SIGNATURE), b""
    while offset + 12 <= size and name != b"IEND":
        head = read(offset, 8)
        length, name = 12 + int.from_bytes(head[:4]), head[4:]
        if offset + length > size or length - 12 > PNG_CHUNKS.get(name, length):
            raise _malformed("a chunk of the PNG", f"{length:,} bytes", "as many as its name allows")
        yield name, offset, length
        offset += length


def _profile_chunk(value: bytes) -> bytes:
    """The chunk with a clean colour profile, without one nothing."""
    profile = clean_icc_profile(_inflate(value.partition(b"\0")[2][1:]))
    if profile is None:
        return b""
    return _png_chunk(b"iCCP", b"colour profile\0\0" + zlib.compress(profile))


def _png_chunk(name: bytes, value: bytes) -> bytes:
    return len(value).to_bytes(4) + name + value + zlib.crc32(name + value).to_bytes(4)


def _scale_segment(mpp: tuple[float, float] | None) -> bytes:
    """An EXIF segment that states the one scale of the original, wherever that stated it."""
    value = b"" if mpp is None else EXIF_NAME + build_exif(mpp)
    return b"\xff\xe1" + (len(value) + 2).to_bytes(2) + value if value else b""


def _profile_texts(profile: bytes) -> Iterator[Text]:
    """The values of texts and of tags that a clean profile does not have."""
    cleaned = clean_icc_profile(profile)
    if profile in (b"", cleaned):
        return
    for entry in range(132, 132 + 12 * min(int.from_bytes(profile[128:132]), 100), 12):
        offset, size = (int.from_bytes(profile[entry + start : entry + start + 4]) for start in (4, 8))
        value = profile[offset : offset + min(size, MAX_TEXT)]
        if cleaned is None or value not in cleaned:
            yield "colour profile", value[12 if value.startswith(b"desc") else 8 :]


def _is_clean_profile(source: ByteSource, offset: int, length: int) -> bool:
    value = source.read_up_to(offset, min(length, MAX_PROFILE))
    return value == _profile_chunk(value[8:-4])


def _inflate(value: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(value, MAX_PROFILE)
    except zlib.error:
        return b""


def _jpeg_profile(source: ByteSource) -> bytes:
    """The parts of the colour profile in their order, each after a number and the count of parts."""
    parts = {}
    for marker, offset, length in _jpeg_segments(source):
        value = source.read_up_to(offset, length) if marker == ICC_SEGMENT else b""
        if value.startswith(ICC_NAME):
            parts[value[12:13]] = value[14:]
    return b"".join(parts[number] for number in sorted(parts))


def _profile_segments(profile: bytes) -> bytes:
    parts = [profile[start : start + MAX_SEGMENT] for start in range(0, len(profile), MAX_SEGMENT)]
    return b"".join(
        b"\xff\xe2" + (len(chunk) + 16).to_bytes(2) + ICC_NAME + bytes((number, len(parts))) + chunk
        for number, chunk in enumerate(parts, 1)
    )


def _jpeg_segments(source: ByteSource) -> Iterator[tuple[int, int, int]]:
    """(marker, offset and length of the value) of each segment before the first scan, and that of its head."""
    offset = 2
    while len(head := source.read_up_to(offset, 4)) == 4 and head[0] == 0xFF and head[1] != JPEG_END:
        if head[1] in (0xFF, *JPEG_STANDALONE):
            offset += 1 if head[1] == 0xFF else 2
            continue
        length = int.from_bytes(head[2:4])
        yield head[1], offset + 4, max(length - 2, 0)
        offset += 2 + max(length, 2)
        if head[1] == JPEG_SCAN:
            return


def _png_texts(source: ByteSource, name: bytes, offset: int, length: int) -> Iterator[Text]:
    """The value of a chunk, and inflated what is deflated in it."""
    where, value = f"chunk {name.decode('latin-1')}", source.read_up_to(offset, min(length, MAX_TEXT))
    yield where, name
    for chunk in value[: 80 if name == b"iCCP" else MAX_TEXT].split(b"\0"):  # 80: its name
        yield where, chunk
    if name == b"iCCP":
        yield from _profile_texts(_inflate(value.partition(b"\0")[2][1:]))
    elif name in (b"zTXt", b"iTXt"):
        start = value.find(b"\x78")  # the first byte of a zlib stream
        while start >= 0:
            try:
                yield where, zlib.decompressobj().decompress(value[start:], MAX_TEXT)
                return
            except zlib.error:
                start = value.find(b"\x78", start + 1)


def _texts_after_jpeg(source: ByteSource, first_scan: int) -> Iterator[Text]:
    """Comments between scans, and what follows the end."""
    tail = source.read_up_to(max(first_scan, source.size - MAX_TEXT), MAX_TEXT)
    end = tail.rfind(b"\xff\xd9")
    if end >= 0:
        yield "after the end", tail[end + 2 :]


def _malformed(what: str, actual: str, expected: str) -> CheckAbortedError:
    return CheckAbortedError(slide_issue("malformed", what=what, actual=actual, expected=expected))
