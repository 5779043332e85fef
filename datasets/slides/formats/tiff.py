"""TIFF and BigTIFF directories, with NDPI's quirk, checked against the file they stand in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import Ends, Found, Size, Source
from datasets.slides.errors import fault
from datasets.slides.limits import Limits

WIDTH, HEIGHT, BITS, COMPRESSION, DESCRIPTION, SAMPLES, PLANAR = 256, 257, 258, 259, 270, 277, 284
STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_COUNTS, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 273, 278, 279, 282, 283, 296
SOFTWARE, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, SUBFILE, XMP, NDPI = (
    305,
    322,
    323,
    324,
    325,
    254,
    700,
    65420,
)
NUMBERS = {
    1: "u1",
    3: "u2",
    4: "u4",
    6: "i1",
    8: "i2",
    9: "i4",
    11: "f4",
    12: "f8",
    13: "u4",
    16: "u8",
    17: "i8",
    18: "u8",
}
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
TABLES = {STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS}
TEXTS = {DESCRIPTION, SOFTWARE, XMP}
IPTC, PHOTOSHOP, EXIF_MAKER = 33723, 34377, 37500  # what programs write about a picture, in a form of their own
USED = TABLES | TEXTS | {WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, PLANAR, ROWS_PER_STRIP, X_RESOLUTION, Y_RESOLUTION}
USED |= {RESOLUTION_UNIT, TILE_WIDTH, TILE_HEIGHT, SUBFILE, NDPI}
MICRONS = {2: 25_400.0, 3: 10_000.0}  # in an inch, in a centimetre


@dataclass(slots=True)
class Directory:
    """One image of the file: the tags that are used, as arrays or text.

    link:   where the offset of the next directory stands, as (byte, width).
    places: (offset, length) of all its values that stand outside of it.
    texts:  (tag, offset, length) of what is written in words, wherever it stands.
    """

    number: int
    offset: int
    tags: dict[int, Any] = field(default_factory=dict)
    link: tuple[int, int] = (0, 0)
    places: list[tuple[int, int]] = field(default_factory=list)
    texts: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"image {self.number}"

    @property
    def size(self) -> Size:
        return self.one(WIDTH, 0), self.one(HEIGHT, 0)

    @property
    def tiled(self) -> bool:
        return TILE_WIDTH in self.tags

    def one(self, tag: int, default: int) -> int:
        values = self.tags.get(tag)
        return int(values[0]) if isinstance(values, np.ndarray) and len(values) else default

    def text(self, tag: int) -> str:
        value = self.tags.get(tag, b"")
        return bytes(value).decode("utf-8", "replace").rstrip("\0") if isinstance(value, bytes) else ""


@dataclass(frozen=True, slots=True)
class Layout:
    """How this file writes its numbers."""

    order: str  # < or >
    big: bool
    ndpi: bool = False

    def number(self, data: bytes, width: int) -> int:
        return int.from_bytes(data[:width], "little" if self.order == "<" else "big")


def stored(directory: Directory) -> list[tuple[int, int]]:
    """(offset, length) of an image's tiles or strips."""
    offsets, counts = (TILE_OFFSETS, TILE_COUNTS) if directory.tiled else (STRIP_OFFSETS, STRIP_COUNTS)
    pairs = zip(directory.tags.get(offsets, ()), directory.tags.get(counts, ()), strict=False)
    return [(int(offset), int(count)) for offset, count in pairs]


def slide_images(kind: str, directories: list[Directory]) -> list[Directory]:
    """The slide's levels; label, macro and thumbnail have no tiles, or do not call themselves smaller copies."""
    if kind == "tiff":
        return directories[:1]
    if kind == "ndpi":
        return directories
    smaller = [each for each in directories if each.one(SUBFILE, 0) & 1 or not each.number or kind != "generic-tiff"]
    return [each for each in smaller if each.tiled]


def is_tiff(head: bytes) -> bool:
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def check(source: Source, limits: Limits) -> Found | None:
    """Reads every directory and checks it; None (and faults) where nothing can be said of the slide."""
    directories = read_directories(source, limits)
    if not directories:
        return None
    for directory in directories:
        check_image(directory, source, limits)
    kind = vendor(directories)
    flat = kind == "tiff"
    levels = slide_images(kind, directories)
    if flat and not source.faults:
        check_flat(directories[0], source, limits)
    notes = ("other_pages",) if flat and len(directories) > 1 else ()
    sizes = sorted({each.size for each in levels}, reverse=True)
    return Found(source.path, kind, tuple(sizes), scale(kind, levels[0], limits), (source.path,), flat, notes)


def read_directories(source: Source, limits: Limits) -> list[Directory]:
    head = source.read(0, 8, "the TIFF header")
    order = "<" if head[:2] == b"II" else ">"
    layout = Layout(order, head[2:4] in (b"+\0", b"\0+"))
    if layout.big:
        head = source.read(0, 16, "the BigTIFF header")
        if layout.number(head[4:], 2) != 8:
            raise Ends(fault("malformed", what="BigTIFF's offset size", found=layout.number(head[4:], 2), needed="8"))
    offset = layout.number(head[8:], 8) if layout.big else layout.number(head[4:], 4)
    if order == "<" and not layout.big and _is_ndpi(source, layout):
        layout = Layout(order, False, ndpi=True)
        offset = layout.number(source.read(4, 8, "the NDPI header"), 8)
    directories: list[Directory] = []
    seen: set[int] = set()
    while offset:
        if offset in seen:
            source.wrong("ifd_loop", found=len(directories), offset=offset)
            break
        if len(directories) == limits.directories:
            source.wrong("too_many", what="images", found=limits.directories + 1, most=limits.directories)
            break
        seen.add(offset)
        directory, offset = _directory(source, layout, offset, len(directories), limits)
        directories.append(directory)
    if not directories:
        source.wrong("no_pixels", what="the file")
    return directories


def _is_ndpi(source: Source, layout: Layout) -> bool:
    """NDPI is classic TIFF with offsets of 64 bits, which only one tag of its first directory tells."""
    offset = int.from_bytes(source.some(4, 8), "little")
    count = int.from_bytes(source.some(offset, 2), "little")
    entries = source.some(offset + 2, 12 * count)
    return any(layout.number(entries[at:], 2) == NDPI for at in range(0, len(entries) - 11, 12))


def _directory(source: Source, layout: Layout, offset: int, number: int, limits: Limits) -> tuple[Directory, int]:
    """The directory at `offset`, and where the next one stands (0: none)."""
    what = f"directory {number}"
    head, entry, wide = (8, 20, 8) if layout.big else (2, 12, 4)
    count = layout.number(source.read(offset, head, what), head)
    if not 1 <= count <= limits.tags:
        raise Ends(fault("too_many", what=f"entries in {what}", found=count, most=limits.tags))
    tail = 8 if layout.big or layout.ndpi else 4
    data = source.read(offset + head, count * entry + tail, what)
    directory = Directory(number, offset, link=(offset + head + count * entry, tail))
    seen: set[int] = set()
    for at in range(0, count * entry, entry):
        tag, kind = layout.number(data[at:], 2), layout.number(data[at + 2 :], 2)
        values = layout.number(data[at + 4 :], wide)
        if tag in seen:
            source.wrong("duplicate", what=f"tag {tag} of {what}")
        seen.add(tag)
        length = values * WIDTHS.get(kind, 1)
        inside = data[at + 4 + wide : at + entry]
        place = layout.number(inside, wide)
        if layout.ndpi and length > wide:
            place = _before(place, offset)
        if length > wide and place + length > source.size:
            source.wrong("truncated", what=f"tag {tag} of {what}", found=place + length, end=source.size)
            continue
        if length > wide:
            directory.places.append((place, length))
        if kind == 2 or tag in (XMP, IPTC, PHOTOSHOP, EXIF_MAKER):
            directory.texts.append((tag, place if length > wide else offset + head + at + 4 + wide, length))
        if tag not in USED or kind not in WIDTHS:
            continue
        if tag in TABLES and values > limits.tiles:
            source.wrong("too_many", what=f"tiles in {what}", found=values, most=limits.tiles)
            continue
        if tag not in TABLES and length > limits.text_bytes:
            source.wrong("too_many", what=f"bytes in tag {tag} of {what}", found=length, most=limits.text_bytes)
            continue
        source.held += length
        if source.held > limits.held_bytes:
            raise Ends(fault("too_many", what="bytes of tables", found=source.held, most=limits.held_bytes))
        raw = inside[:length] if length <= wide else source.read(place, length, f"tag {tag} of {what}")
        directory.tags[tag] = _values(raw, kind, layout)
    return directory, layout.number(data[count * entry :], tail)


def _before(place: int, directory: int) -> int:
    """NDPI keeps 32 bits of an offset; the value stands before its directory and as near as can be."""
    near = (directory & ~0xFFFFFFFF) | place
    return near if near < directory else max(near - 2**32, place)


def _values(raw: bytes, kind: int, layout: Layout) -> NDArray[Any] | bytes:
    if kind in (2, 7):
        return raw
    if kind in (5, 10):
        pairs = np.frombuffer(raw, f"{layout.order}{'u4' if kind == 5 else 'i4'}").reshape(-1, 2).astype(np.float64)
        return np.divide(pairs[:, 0], pairs[:, 1], out=np.zeros(len(pairs)), where=pairs[:, 1] != 0)
    return np.frombuffer(raw, layout.order + NUMBERS[kind])


def vendor(directories: list[Directory]) -> str:
    """Which scanner's TIFF it is, by what stands in it; `tiff` is a flat one."""
    first = directories[0]
    description, texts = first.text(DESCRIPTION), [each.text(XMP) for each in directories]
    if NDPI in first.tags:
        return "ndpi"
    if not any(each.tiled for each in directories):
        return "tiff"
    if description.startswith("Aperio"):
        return "aperio"
    if "http://www.leica-microsystems.com/scn/" in description:
        return "leica"
    if first.text(SOFTWARE).startswith("Philips"):
        return "philips"
    if any("iScan" in text for text in texts):
        return "ventana"
    return "generic-tiff" if first.tiled else "tiff"


def check_image(directory: Directory, source: Source, limits: Limits) -> None:
    """One image's declared size against what is stored for it."""
    width, height = directory.size
    name, ndpi = directory.name, NDPI in directory.tags
    if width < 1 or height < 1:
        source.wrong("no_size", what=name, width=width, height=height)
        return
    most = limits.pixels if directory.tiled or ndpi else limits.flat_pixels
    if width * height > most or max(width, height) > limits.side:
        source.wrong("pixel_bomb", what=name, width=width, height=height, most=most)
    rows = min(max(directory.one(ROWS_PER_STRIP, height), 1), height)
    across, down = (directory.one(TILE_WIDTH, 0), directory.one(TILE_HEIGHT, 0)) if directory.tiled else (width, rows)
    if across < 1 or down < 1:
        source.wrong("no_size", what=f"a tile of {name}", width=across, height=down)
        return
    if directory.tiled and across * down > limits.tile_pixels:
        source.wrong("tile_bomb", what=name, width=across, height=down, most=limits.tile_pixels)
    samples, bits = directory.one(SAMPLES, 1), directory.one(BITS, 1)
    if not 1 <= samples <= 64 or not 1 <= bits <= 64:
        source.wrong("malformed", what=f"{name}'s pixel", found=f"{samples} x {bits} bits", needed="3 x 8 bits")
        return
    planes = samples if directory.one(PLANAR, 1) == 2 else 1
    needed = math.ceil(width / across) * math.ceil(height / down) * planes
    offsets = directory.tags.get(TILE_OFFSETS if directory.tiled else STRIP_OFFSETS)
    counts = directory.tags.get(TILE_COUNTS if directory.tiled else STRIP_COUNTS)
    if not isinstance(offsets, np.ndarray) or not isinstance(counts, np.ndarray):
        if not source.faults:
            source.wrong("tile_table", what=name, found=0, needed=needed)
        return
    if len(offsets) != needed or len(counts) != needed:
        source.wrong("tile_table", what=name, found=min(len(offsets), len(counts)), needed=needed)
        return
    if ndpi:
        offsets = np.array([_before(int(each), directory.offset) for each in offsets], np.uint64)
    unpacked = across * min(down, height) * (samples // planes) * bits // 8
    _check_stored(directory, source, limits, offsets.astype(np.uint64), counts.astype(np.uint64), unpacked)


def _check_stored(
    directory: Directory,
    source: Source,
    limits: Limits,
    offsets: NDArray[np.uint64],
    counts: NDArray[np.uint64],
    unpacked: int,
) -> None:
    """`unpacked`: bytes of one tile once decoded. A tile with offset or length 0 is not stored, and is background."""
    name = directory.name
    stored = (counts > 0) & (offsets > 0)
    if not stored.any():
        source.wrong("no_pixels", what=name)
        return
    offsets, counts = offsets[stored], counts[stored]
    ends = [int(offsets[at]) + int(counts[at]) for at in (np.argmax(offsets), np.argmax(counts))]
    with np.errstate(over="ignore"):
        ends.append(int((offsets + counts).max()))
    if max(ends) > source.size:
        source.wrong("truncated", what=name, found=max(ends), end=source.size)
    if directory.tiled and int(counts.max()) > limits.tile_bytes:
        source.wrong("tile_bytes", what=name, found=int(counts.max()), most=limits.tile_bytes)
    if directory.one(COMPRESSION, 1) == 1:
        width, height = directory.size
        bits = directory.one(SAMPLES, 1) * directory.one(BITS, 1)
        needed = unpacked * len(counts) if directory.tiled else math.ceil(width * bits / 8) * height
        if int(counts.sum()) < needed:
            source.wrong("size_lies", what=name, found=int(counts.sum()), needed=needed)
    elif NDPI not in directory.tags:
        distinct = int(counts[np.unique(offsets, return_index=True)[1]].sum())  # a tile may stand for many
        ratio = unpacked * len(counts) / max(distinct, 1)
        if ratio > limits.ratio:
            source.wrong("ratio", what=name, found=ratio, most=limits.ratio)


def check_flat(directory: Directory, source: Source, limits: Limits) -> None:
    """A flat image is decoded whole, as 8 bits a channel."""
    width, height = directory.size
    if width * height > limits.flat_pixels:
        source.wrong("pixel_bomb", what=directory.name, width=width, height=height, most=limits.flat_pixels)
    bits = {int(each) for each in directory.tags.get(BITS, ())} or {1}
    if not bits <= {1, 8}:
        source.wrong("packing", found=f"{max(bits)} bits a channel", needed="8 bits")


def scale(kind: str, directory: Directory, limits: Limits) -> tuple[float, float] | None:
    """Microns per pixel where the format has a place for them; OpenSlide reads those of the rest."""
    if kind == "aperio":
        stated = [part.split("=", 1)[1] for part in directory.text(DESCRIPTION).split("|") if part.startswith("MPP")]
        try:
            value = float(stated[0]) if stated else 0.0
        except ValueError:
            return None
        return plausible(value, value, limits)
    unit = MICRONS.get(directory.one(RESOLUTION_UNIT, 2))
    x, y = (directory.tags.get(tag) for tag in (X_RESOLUTION, Y_RESOLUTION))
    if unit is None or not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray) or not len(x) or not len(y):
        return None
    return plausible(unit / x[0] if x[0] > 0 else 0.0, unit / y[0] if y[0] > 0 else 0.0, limits)


def plausible(x: float, y: float, limits: Limits) -> tuple[float, float] | None:
    """A stated scale, to a millionth of a micron; None outside of what a scanner's can be."""
    fits = all(math.isfinite(each) and limits.finest_mpp <= each <= limits.coarsest_mpp for each in (x, y))
    return (round(float(x), 6), round(float(y), 6)) if fits else None
