"""Write a KFB anew: the header's known numbers, an empty macro section, the tiles, their table.

The layout is that of the kfbslide package; there is no public specification. What it does not know is not copied.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datasets.slides.byte_source import CheckedSlide, open_source
from datasets.slides.deidentification.codestream import clean_jpeg
from datasets.slides.deidentification.container import Text, TileRange, copy_name
from datasets.slides.deidentification.flat import read_from
from datasets.slides.formats import kfb
from datasets.slides.limits import SlideLimits

VERSION = 1.6
HEADER_BYTES, SECTION_BYTES = 4 + 88 + 4, 4 + 44 + 4
MACRO_SECTION = b"\xf1\x02\xee\xee" + struct.pack("<IIIIII20x", 0, 0, 0, 0, 0, SECTION_BYTES) + b"\xff\x02\xee\xee"
WORDS = frozenset({"kfb", "jpeg"})


def clean_kfb(checked: CheckedSlide, folder: Path, limits: SlideLimits, key: bytes) -> Path:
    """The tiles follow the header at once, as a reader searches for the first; the table follows them."""
    copy = folder / copy_name(checked.path.with_suffix(".kfb"))
    with open_source(checked.path) as source, copy.open("wb") as file:
        head = kfb.read_header(source)
        entries = kfb.read_entries(source, head)
        file.write(bytes(HEADER_BYTES) + MACRO_SECTION)
        retained = np.zeros(len(entries), kfb.ENTRY)
        for name in ("x", "y", "width", "height", "scale"):
            retained[name] = entries[name]
        offset = kfb.first_tile(source, limits)
        for number, size in enumerate(entries["size"].tolist()):
            tile = source.read(offset, size, "a tile")
            cleaned = b"".join(clean_jpeg(read_from(tile), size))
            retained["size"][number] = len(cleaned)
            file.write(cleaned)
            offset += size
        table = file.tell()
        file.write(retained.tobytes())
        file.seek(0)
        file.write(_header(head, table, table + retained.nbytes))
    return copy


def iter_texts(checked: CheckedSlide, limits: SlideLimits) -> Iterator[Text]:
    """What is before, between and after the parts that are known, and the unknown bytes of each entry of the table."""
    with open_source(checked.path) as source:
        head = kfb.read_header(source)
        entries = kfb.read_entries(source, head)
        first = kfb.first_tile(source, limits)
        parts = [(0, HEADER_BYTES), (head.table, 64 * len(entries)), (first, int(entries["size"].sum(dtype=np.uint64)))]
        parts += kfb.associated_images(source, limits)
        position = 4 + 4
        for offset, length in sorted(parts):
            if position < offset:
                yield f"byte {position:,}", source.read_up_to(position, min(offset - position, limits.text_bytes))
            position = max(position, offset + length)
        yield f"byte {position:,}", source.read_up_to(position, limits.text_bytes)
        yield "header", source.read(4 + 4, 4, "the header") + source.read(4 + 32, 4, "the header")
        yield "header", source.read(4 + 76, 8, "the header")
        unknown = entries.view(np.uint8).reshape(-1, 64)[:, [*range(4), *range(24, 32), *range(36, 64)]]
        for row in np.unique(unknown[unknown.any(axis=1)], axis=0):
            yield "the table of tiles", row.tobytes()


def tile_ranges(checked: CheckedSlide, limits: SlideLimits) -> Iterator[TileRange]:
    with open_source(checked.path) as source:
        entries = kfb.read_entries(source, kfb.read_header(source))
        offset = kfb.first_tile(source, limits)
    for size in entries["size"].tolist():
        yield checked.path, offset, size
        offset += size


def _header(head: kfb.KfbHeader, table: int, table_end: int) -> bytes:
    """Without the time and the duration of the scan."""
    header = bytearray(88)
    numbers = head.tiles, head.height, head.width, head.magnification
    struct.pack_into("<4s4xfIIII4s", header, 0, b"KFB", VERSION, *numbers, b"JPEG")
    struct.pack_into("<IIQQf", header, 48, HEADER_BYTES, 0, table_end, table, head.mpp)
    struct.pack_into("<I", header, 84, head.tile_side)
    return b"\xf1\x01\xee\xee" + bytes(header) + b"\xff\x01\xee\xee"
