"""KFB, the format of a Ningbo scanner maker: sections between marks, then a table of tiles, then JPEG after JPEG.

The layout is the one that the kfbslide package reads (its _kfbformat.py); no specification is public.
"""

from __future__ import annotations

import struct

import numpy as np

from datasets.slides.byte_source import Ends, Found, Source
from datasets.slides.errors import fault
from datasets.slides.formats.tiff import plausible
from datasets.slides.limits import Limits

ENTRY = np.dtype(
    {
        "names": ["x", "y", "width", "height", "scale", "size"],
        "formats": ["<u4", "<u4", "<u4", "<u4", "<f4", "<u4"],
        "offsets": [4, 8, 12, 16, 20, 32],
        "itemsize": 64,
    }
)
MOST_TILES = 1_000_000  # the package keeps a Python object for each: about 600 MB at this number
SCALES = 32
SEARCHED = 10_000 + 100_000  # bytes in which the package looks for the second section and its end


def is_kfb(head: bytes) -> bool:
    return head[1:4] == b"\x01\xee\xee" and head[4:7] == b"KFB"


def check(source: Source, limits: Limits) -> Found | None:
    head = source.read(4, 88, "the KFB header")
    tiles, height, width, power = struct.unpack("<IIII", head[12:28])
    end, start = struct.unpack("<QQ", head[56:72])
    (mpp,), (tile,) = struct.unpack("<f", head[72:76]), struct.unpack("<I", head[84:88])
    if width < 1 or height < 1:
        source.wrong("no_size", what="the KFB", width=width, height=height)
    if width * height > limits.pixels or max(width, height) > limits.side:
        source.wrong("pixel_bomb", what="the KFB", width=width, height=height, most=limits.pixels)
    if not 1 <= tile <= int(limits.tile_pixels**0.5):
        source.wrong("tile_bomb", what="the KFB", width=tile, height=tile, most=limits.tile_pixels)
    if not 1 <= power <= 1_000:
        source.wrong("malformed", what="the KFB's magnification", found=power, needed="1 to 1,000")
    if tiles > MOST_TILES:
        source.wrong("too_many", what="tiles", found=tiles, most=MOST_TILES)
    if not tiles:
        source.wrong("no_pixels", what="the KFB")
    if source.faults:
        return None
    if end and end < start:
        source.wrong("malformed", what="the end of the KFB's tile table", found=end, needed=f"{start} or more")
    entries = np.frombuffer(source.read(start, 64 * tiles, "the KFB's tile table"), ENTRY)
    first = _first_tile(source, limits)
    _check_tiles(source, entries, first, tile, power, limits)
    scales = sorted({float(each) for each in entries["scale"] if each >= 1}, reverse=True)
    levels = tuple((int(width * each / power), int(height * each / power)) for each in scales)
    return Found(source.path, "kfb", levels, plausible(mpp, mpp, limits), (source.path,))


def pictures(source: Source, limits: Limits) -> list[tuple[int, int]]:
    """(offset, length) of the macro and the label."""
    head = source.some(0, SEARCHED)
    second = head.find(b"\x02\xee\xee", 92)
    if second < 1:
        raise Ends(fault("malformed", what="the KFB's second section", found="missing", needed="a section 02"))
    (third,) = struct.unpack("<I", source.read(4 + 52, 4, "the KFB header"))
    sections = [second - 1]
    if third and source.some(third, 2) == b"\xf1\x03":
        sections.append(third)
    places = []
    for at in sections:
        length, offset = struct.unpack("<II", source.read(at + 20, 8, "a KFB section"))
        after = at + offset + length
        if after > min(source.size, limits.head_bytes):
            raise Ends(fault("truncated", what="a KFB section", found=after, end=min(source.size, limits.head_bytes)))
        places.append((at + offset, length))
    return places


def _first_tile(source: Source, limits: Limits) -> int:
    """Where the first JPEG stands: the package looks for its mark behind the macro and label pictures."""
    after = sum(pictures(source, limits)[-1])
    for at in range(after, source.size, 1 << 20):
        found = source.some(at, (1 << 20) + 2).find(b"\xff\xd8\xff")
        if found >= 0:
            return at + found
        if at - after > limits.head_bytes:
            break
    raise Ends(fault("no_pixels", what="the KFB"))


def _check_tiles(source: Source, entries: np.ndarray, first: int, tile: int, power: int, limits: Limits) -> None:
    scale = entries["scale"]
    if not np.isfinite(scale).all() or (scale <= 0).any() or not (scale >= 1).any() or (scale > power).any():
        source.wrong("malformed", what="a tile's magnification", found="out of range", needed=f"1 to {power}")
    elif len(np.unique(scale)) > SCALES:
        source.wrong("too_many", what="levels", found=len(np.unique(scale)), most=SCALES)
    if (entries["width"] > tile).any() or (entries["height"] > tile).any():
        width, height = int(entries["width"].max()), int(entries["height"].max())
        source.wrong("tile_bomb", what="the KFB", width=width, height=height, most=tile * tile)
    if not (entries["width"] * entries["height"]).all():
        source.wrong("no_size", what="a tile of the KFB", width=0, height=0)
    size = entries["size"].astype(np.uint64)
    if int(size.max()) > limits.tile_bytes:
        source.wrong("tile_bytes", what="the KFB", found=int(size.max()), most=limits.tile_bytes)
    if first + int(size.sum()) > source.size:
        source.wrong("truncated", what="the last tile", found=first + int(size.sum()), end=source.size)
    places = np.unique(np.stack([entries["x"], entries["y"], scale.view("<u4")]), axis=1)
    if places.shape[1] != len(entries):
        source.wrong("duplicate", what="the place of a tile")
    pixels = int((entries["width"].astype(np.int64) * entries["height"]).sum())
    if 3 * pixels / max(int(size.sum()), 1) > limits.ratio:
        source.wrong("ratio", what="the KFB", found=3 * pixels / max(int(size.sum()), 1), most=limits.ratio)
