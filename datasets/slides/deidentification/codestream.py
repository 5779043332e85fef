"""Copy JPEG and JPEG 2000 streams without comments, application segments and bytes after their end.

b"".join(clean_jpeg(read, length))        # read(start, size) returns bytes of the stream

What decoding needs is copied as it is, so the pixels stay the same bit for bit. A stream that cannot be followed raises
CheckAbortedError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator

from datasets.slides.byte_source import CheckAbortedError
from datasets.slides.errors import slide_issue

Read = Callable[[int, int], bytes]  # start and size within the stream -> bytes, fewer at its end

BLOCK_BYTES = 1 << 20
JPEG_END, JPEG_SCAN = 0xD9, 0xDA
QUANTIZATION, HUFFMAN, RESTART_INTERVAL, LINE_COUNT, ADOBE = 0xDB, 0xC4, 0xDD, 0xDC, 0xEE
FRAMES = {*range(0xC0, 0xD0)} - {HUFFMAN, 0xC8, 0xCC}
DROPPED = {*range(0xE0, 0xF0), 0xFE}  # application segments and comments
RESTARTS = {*range(0xD0, 0xD8)}
# JFIF 1.1 without a density or thumbnail: a decoder takes three unnamed channels for YCbCr where it stands.
JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
SCAN_MARKER = re.compile(rb"\xff[^\0\xd0-\xd7]")  # within a scan: neither a stuffed byte nor a restart
LS_FRAME, LS_PRESET = 0xF7, 0xF8  # of JPEG-LS (ITU-T T.87), which stuffs a bit after ff, not a byte
LS_SCAN_MARKER = re.compile(rb"\xff[\x80-\xcf\xd8-\xff]")

MAIN_END, DATA, J2K_COMMENT, TILE_LENGTHS = 0xFF90, 0xFF93, 0xFF64, 0xFF55
# CAP, PRF, CPF, SIZ, COD, COC, TLM, PLM, PLT, QCD, QCC, RGN, POC, PPM, PPT, CRG (ITU-T T.800, A.2; T.814)
J2K_SEGMENTS = {
    0xFF50,
    0xFF56,
    0xFF59,
    0xFF51,
    0xFF52,
    0xFF53,
    TILE_LENGTHS,
    0xFF57,
    0xFF58,
    0xFF5C,
    0xFF5D,
    0xFF5E,
    0xFF5F,
}
J2K_SEGMENTS |= {0xFF60, 0xFF61, 0xFF63, J2K_COMMENT}


def clean_jpeg(read: Read, length: int) -> Iterator[bytes]:
    """The stream in blocks; it may be JPEG tables alone, or JPEG-LS. A missing end mark is left missing."""
    if read(0, 2) != b"\xff\xd8":
        raise _malformed("the start of a JPEG stream", read(0, 2).hex(" "), "ff d8")
    segments, position, is_scan = _copy_segments(read, 2, length)
    yield b"\xff\xd8" + segments
    scan_marker = LS_SCAN_MARKER if _is_jpeg_ls(segments) else SCAN_MARKER
    while is_scan:
        position = yield from _copy_scan(read, position, length, scan_marker)
        segments, position, is_scan = _copy_segments(read, position, length)
        yield segments


def removed_from_jpeg_header(read: Read, length: int) -> int:
    """By how many bytes the data of the first scan moves towards the start."""
    segments, position, _ = _copy_segments(read, 2, length)
    return position - 2 - len(segments)


def _copy_segments(read: Read, position: int, length: int) -> tuple[bytes, int, bool]:
    """The segments from `position`, where they end, and whether they end with the header of a scan."""
    segments = b""
    while position < length:
        head = read(position, 4)
        if head[0] != 0xFF:
            raise _malformed("a JPEG marker", head[:1].hex(), "ff")
        if len(head) < 2:
            break
        marker = head[1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == JPEG_END:
            return segments + b"\xff\xd9", position + 2, False
        if marker in RESTARTS or marker == 0x01:
            position += 2
            continue
        size = int.from_bytes(head[2:4])
        segment = read(position, 2 + size)
        if len(head) < 4 or size < 2 or len(segment) != 2 + size:
            raise _malformed("a JPEG segment", f"{len(segment)} bytes", f"{2 + size} bytes")
        position += 2 + size
        segments += _clean_segment(marker, segment)
        if marker == JPEG_SCAN:
            return segments, position, True
    return segments, position, False


def _is_jpeg_ls(segments: bytes) -> bool:
    position = 0
    while position < len(segments) and segments[position + 1] not in (JPEG_END, LS_FRAME):
        position += 2 + int.from_bytes(segments[position + 2 : position + 4])
    return segments[position + 1 : position + 2] == bytes([LS_FRAME])


def _clean_segment(marker: int, segment: bytes) -> bytes:
    body = segment[4:]
    if marker == ADOBE and body.startswith(b"Adobe") and len(body) >= 12:  # its last byte selects the colour transform
        return b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([body[11] if body[11] <= 2 else 0])
    if marker == 0xE0 and body.startswith(b"JFIF\0"):
        return JFIF
    if marker in DROPPED:
        return b""
    if marker not in {*FRAMES, HUFFMAN, QUANTIZATION, RESTART_INTERVAL, LINE_COUNT, JPEG_SCAN, LS_FRAME, LS_PRESET}:
        raise _malformed("a JPEG marker", f"ff {marker:02x}", "a baseline or progressive stream")
    if not _is_complete(marker, body):
        raise _malformed(f"JPEG segment ff {marker:02x}", f"{len(body)} bytes", "as many as its contents need")
    return segment


def _is_complete(marker: int, body: bytes) -> bool:
    """Whether a segment has exactly the bytes that its contents need, so that nothing stands behind them."""
    if marker in FRAMES or marker == LS_FRAME:
        return len(body) >= 6 and len(body) == 6 + 3 * body[5]
    if marker == JPEG_SCAN:
        return len(body) >= 1 and len(body) == 4 + 2 * body[0]
    if marker in (RESTART_INTERVAL, LINE_COUNT):
        return len(body) == 2
    if marker == LS_PRESET:  # thresholds; mapping tables are not used
        return len(body) == 11 and body[0] == 1
    position = 0
    while position < len(body):
        if marker == QUANTIZATION:
            position += 1 + (128 if body[position] >> 4 else 64)
        else:
            position += 17 + sum(body[position + 1 : position + 17])
    return position == len(body)


def _copy_scan(read: Read, position: int, length: int, scan_marker: re.Pattern[bytes]) -> Generator[bytes, None, int]:
    """The entropy-coded data from `position`; returns where it ends."""
    while position < length:
        block = read(position, min(BLOCK_BYTES, length - position))
        match = scan_marker.search(block)
        if match is not None:
            yield block[: match.start()]
            return position + match.start()
        if block.endswith(b"\xff") and len(block) > 1:  # what follows the last byte is in the next block
            block = block[:-1]
        yield block
        position += len(block)
    return position


def clean_j2k(data: bytes) -> bytes:
    """A JPEG 2000 codestream as it is stored in TIFF tiles, without a file around it."""
    if data[:2] != b"\xff\x4f":
        raise _malformed("the start of a JPEG 2000 codestream", data[:2].hex(" "), "ff 4f")
    main_header, position = _clean_j2k_header(data, 2, MAIN_END)
    tile_parts = []
    is_shortened = False
    while data[position : position + 2] == b"\xff\x90":
        start_segment = data[position : position + 12]
        size = int.from_bytes(start_segment[6:10])  # 0: to the end of the codestream
        header, content = _clean_j2k_header(data, position + 12, DATA)
        end = position + size if size else len(data) - (2 if data.endswith(b"\xff\xd9") else 0)
        if len(start_segment) < 12 or not content <= end <= len(data):
            raise _malformed("the length of a JPEG 2000 tile-part", size, f"at most {len(data) - position} bytes")
        removed = content - position - 12 - len(header)
        is_shortened |= removed > 0
        new_size = (size - removed if size else 0).to_bytes(4)
        tile_parts += [start_segment[:6], new_size, start_segment[10:], header, data[content:end]]
        position = end
    if is_shortened:  # optional, and wrong now
        main_header = _without(main_header, TILE_LENGTHS)
    return b"".join([b"\xff\x4f", main_header, *tile_parts, b"\xff\xd9"])


def _clean_j2k_header(data: bytes, position: int, end_marker: int) -> tuple[bytes, int]:
    """Segments up to `end_marker`. The mark of the data belongs to the header, that of a tile-part does not."""
    segments = b""
    while True:
        marker = int.from_bytes(data[position : position + 2])
        if marker == end_marker:
            return (segments + b"\xff\x93", position + 2) if marker == DATA else (segments, position)
        size = int.from_bytes(data[position + 2 : position + 4])
        segment = data[position : position + 2 + size]
        if marker not in J2K_SEGMENTS or size < 2 or len(segment) != 2 + size:
            raise _malformed("a JPEG 2000 marker", f"{marker:04x}", "one of ITU-T T.800")
        segments += b"" if marker == J2K_COMMENT else segment
        position += 2 + size


def _without(header: bytes, dropped: int) -> bytes:
    retained, position = b"", 0
    while position < len(header):
        size = 2 + int.from_bytes(header[position + 2 : position + 4])
        if int.from_bytes(header[position : position + 2]) != dropped:
            retained += header[position : position + size]
        position += size
    return retained


def _malformed(what: str, actual: object, expected: str) -> CheckAbortedError:
    return CheckAbortedError(slide_issue("malformed", what=what, actual=actual, expected=expected))
