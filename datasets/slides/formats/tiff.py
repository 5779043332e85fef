"""Check TIFF and BigTIFF directories, including NDPI's variant, against the file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import ByteSource, CheckAbortedError, CheckedSlide, Size
from datasets.slides.errors import slide_issue
from datasets.slides.limits import SlideLimits

WIDTH, HEIGHT, BITS, COMPRESSION, DESCRIPTION, SAMPLES, PLANAR = 256, 257, 258, 259, 270, 277, 284
STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_COUNTS, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 273, 278, 279, 282, 283, 296
SOFTWARE, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS, SUBFILE_TYPE, XMP, NDPI = (
    305,
    322,
    323,
    324,
    325,
    254,
    700,
    65420,
)
NUMBER_DTYPES = {
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
TYPE_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
TABLE_TAGS = {STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS}
TEXT_TAGS = {DESCRIPTION, SOFTWARE, XMP}
IPTC, PHOTOSHOP, EXIF_MAKER = 33723, 34377, 37500  # written by programs about an image, in their own formats
READ_TAGS = (
    TABLE_TAGS
    | TEXT_TAGS
    | {WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, PLANAR, ROWS_PER_STRIP, X_RESOLUTION, Y_RESOLUTION}
)
READ_TAGS |= {RESOLUTION_UNIT, TILE_WIDTH, TILE_HEIGHT, SUBFILE_TYPE, NDPI}
MICRONS_PER_UNIT = {2: 25_400.0, 3: 10_000.0}  # in an inch, in a centimetre


@dataclass(slots=True)
class TiffDirectory:
    """One image of the file: the tags in use, as arrays or text.

    link:   where the offset of the next directory stands, as (byte, width).
    places: (offset, length) of all its values that stand outside of it.
    texts:  (tag, offset, length) of what is written in words, wherever it stands.
    """

    number: int
    offset: int
    tags: dict[int, Any] = field(default_factory=dict)
    next_link: tuple[int, int] = (0, 0)
    value_ranges: list[tuple[int, int]] = field(default_factory=list)
    text_ranges: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"image {self.number}"

    @property
    def size(self) -> Size:
        return self.get_int(WIDTH, 0), self.get_int(HEIGHT, 0)

    @property
    def is_tiled(self) -> bool:
        return TILE_WIDTH in self.tags

    def get_int(self, tag: int, default: int) -> int:
        values = self.tags.get(tag)
        return int(values[0]) if isinstance(values, np.ndarray) and len(values) else default

    def get_text(self, tag: int) -> str:
        value = self.tags.get(tag, b"")
        return bytes(value).decode("utf-8", "replace").rstrip("\0") if isinstance(value, bytes) else ""


@dataclass(frozen=True, slots=True)
class ByteLayout:
    """The byte order and offset size of this file."""

    byte_order: str  # < or >
    is_big: bool
    is_ndpi: bool = False

    def number(self, data: bytes, width: int) -> int:
        return int.from_bytes(data[:width], "little" if self.byte_order == "<" else "big")


def tile_ranges(directory: TiffDirectory) -> list[tuple[int, int]]:
    """(offset, length) of the tiles or strips of an image."""
    offsets, counts = (TILE_OFFSETS, TILE_COUNTS) if directory.is_tiled else (STRIP_OFFSETS, STRIP_COUNTS)
    pairs = zip(directory.tags.get(offsets, ()), directory.tags.get(counts, ()), strict=False)
    return [(int(offset), int(count)) for offset, count in pairs]


def slide_images(kind: str, directories: list[TiffDirectory]) -> list[TiffDirectory]:
    """The levels of the slide; label, macro and thumbnail have no tiles or are not declared as smaller copies."""
    if kind == "tiff":
        return directories[:1]
    if kind == "ndpi":
        return directories
    reduced_images = [
        directory
        for directory in directories
        if directory.get_int(SUBFILE_TYPE, 0) & 1 or not directory.number or kind != "generic-tiff"
    ]
    return [directory for directory in reduced_images if directory.is_tiled]


def is_tiff(head: bytes) -> bool:
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def check_tiff(source: ByteSource, limits: SlideLimits) -> CheckedSlide | None:
    """Read and check all directories; None, with issues in the source, if there is no valid slide."""
    directories = read_directories(source, limits)
    if not directories:
        return None
    for directory in directories:
        check_image(directory, source, limits)
    kind = detect_vendor(directories)
    is_flat = kind == "tiff"
    levels = slide_images(kind, directories)
    if is_flat and not source.issues:
        check_flat(directories[0], source, limits)
    notes = ("other_pages",) if is_flat and len(directories) > 1 else ()
    sizes = sorted({level_image.size for level_image in levels}, reverse=True)
    return CheckedSlide(
        source.path, kind, tuple(sizes), pixel_scale(kind, levels[0], limits), (source.path,), is_flat, notes
    )


def read_directories(source: ByteSource, limits: SlideLimits) -> list[TiffDirectory]:
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
    directories: list[TiffDirectory] = []
    visited: set[int] = set()
    while offset:
        if offset in visited:
            source.add_issue("ifd_loop", actual=len(directories), offset=offset)
            break
        if len(directories) == limits.directories:
            source.add_issue("too_many", what="images", actual=limits.directories + 1, limit=limits.directories)
            break
        visited.add(offset)
        directory, offset = _read_directory(source, layout, offset, len(directories), limits)
        directories.append(directory)
    if not directories:
        source.add_issue("no_pixels", what="the file")
    return directories


def _is_ndpi(source: ByteSource, layout: ByteLayout) -> bool:
    """NDPI is classic TIFF with 64-bit offsets; only one tag of its first directory shows it."""
    offset = int.from_bytes(source.read_up_to(4, 8), "little")
    count = int.from_bytes(source.read_up_to(offset, 2), "little")
    entries = source.read_up_to(offset + 2, 12 * count)
    return any(layout.number(entries[entry_start:], 2) == NDPI for entry_start in range(0, len(entries) - 11, 12))


def _read_directory(
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
    visited_tags: set[int] = set()
    for entry_start in range(0, count * entry_bytes, entry_bytes):
        tag, kind = layout.number(data[entry_start:], 2), layout.number(data[entry_start + 2 :], 2)
        value_count = layout.number(data[entry_start + 4 :], value_bytes)
        if tag in visited_tags:
            source.add_issue("duplicate", what=f"tag {tag} of {label}")
        visited_tags.add(tag)
        length = value_count * TYPE_WIDTHS.get(kind, 1)
        inline_value = data[entry_start + 4 + value_bytes : entry_start + entry_bytes]
        value_offset = layout.number(inline_value, value_bytes)
        if layout.is_ndpi and length > value_bytes:
            value_offset = _ndpi_offset(value_offset, offset)
        if length > value_bytes and value_offset + length > source.size:
            source.add_issue("truncated", what=f"tag {tag} of {label}", actual=value_offset + length, end=source.size)
            continue
        if length > value_bytes:
            directory.value_ranges.append((value_offset, length))
        if kind == 2 or tag in (XMP, IPTC, PHOTOSHOP, EXIF_MAKER):
            directory.text_ranges.append(
                (
                    tag,
                    value_offset if length > value_bytes else offset + count_bytes + entry_start + 4 + value_bytes,
                    length,
                )
            )
        if tag not in READ_TAGS or kind not in TYPE_WIDTHS:
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
        directory.tags[tag] = _decode_values(raw, kind, layout)
    return directory, layout.number(data[count * entry_bytes :], next_offset_bytes)


def _ndpi_offset(low_bits: int, directory_offset: int) -> int:
    """Restore an NDPI offset from its low 32 bits: the nearest one before the directory."""
    candidate = (directory_offset & ~0xFFFFFFFF) | low_bits
    return candidate if candidate < directory_offset else max(candidate - 2**32, low_bits)


def _decode_values(raw: bytes, kind: int, layout: ByteLayout) -> NDArray[Any] | bytes:
    if kind in (2, 7):
        return raw
    if kind in (5, 10):
        pairs = (
            np.frombuffer(raw, f"{layout.byte_order}{'u4' if kind == 5 else 'i4'}").reshape(-1, 2).astype(np.float64)
        )
        return np.divide(pairs[:, 0], pairs[:, 1], out=np.zeros(len(pairs)), where=pairs[:, 1] != 0)
    return np.frombuffer(raw, layout.byte_order + NUMBER_DTYPES[kind])


def detect_vendor(directories: list[TiffDirectory]) -> str:
    """The vendor of a TIFF, by its tags; `tiff` is a flat one."""
    first = directories[0]
    description, texts = first.get_text(DESCRIPTION), [directory.get_text(XMP) for directory in directories]
    if NDPI in first.tags:
        return "ndpi"
    if not any(directory.is_tiled for directory in directories):
        return "tiff"
    if description.startswith("Aperio"):
        return "aperio"
    if "http://www.leica-microsystems.com/scn/" in description:
        return "leica"
    if first.get_text(SOFTWARE).startswith("Philips"):
        return "philips"
    if any("iScan" in text for text in texts):
        return "ventana"
    return "generic-tiff" if first.is_tiled else "tiff"


def check_image(directory: TiffDirectory, source: ByteSource, limits: SlideLimits) -> None:
    """Check the declared size of an image against the data stored for it."""
    width, height = directory.size
    name, is_ndpi = directory.name, NDPI in directory.tags
    if width < 1 or height < 1:
        source.add_issue("no_size", what=name, width=width, height=height)
        return
    max_pixels = limits.pixels if directory.is_tiled or is_ndpi else limits.flat_pixels
    if width * height > max_pixels or max(width, height) > limits.side:
        source.add_issue("pixel_bomb", what=name, width=width, height=height, limit=max_pixels)
    rows = min(max(directory.get_int(ROWS_PER_STRIP, height), 1), height)
    tile_width, tile_height = (
        (directory.get_int(TILE_WIDTH, 0), directory.get_int(TILE_HEIGHT, 0)) if directory.is_tiled else (width, rows)
    )
    if tile_width < 1 or tile_height < 1:
        source.add_issue("no_size", what=f"a tile of {name}", width=tile_width, height=tile_height)
        return
    if directory.is_tiled and tile_width * tile_height > limits.tile_pixels:
        source.add_issue("tile_bomb", what=name, width=tile_width, height=tile_height, limit=limits.tile_pixels)
    samples, bits = directory.get_int(SAMPLES, 1), directory.get_int(BITS, 1)
    if not 1 <= samples <= 64 or not 1 <= bits <= 64:
        source.add_issue("malformed", what=f"{name}'s pixel", actual=f"{samples} x {bits} bits", expected="3 x 8 bits")
        return
    planes = samples if directory.get_int(PLANAR, 1) == 2 else 1
    expected_tiles = math.ceil(width / tile_width) * math.ceil(height / tile_height) * planes
    offsets = directory.tags.get(TILE_OFFSETS if directory.is_tiled else STRIP_OFFSETS)
    counts = directory.tags.get(TILE_COUNTS if directory.is_tiled else STRIP_COUNTS)
    if not isinstance(offsets, np.ndarray) or not isinstance(counts, np.ndarray):
        if not source.issues:
            source.add_issue("tile_table", what=name, actual=0, expected=expected_tiles)
        return
    if len(offsets) != expected_tiles or len(counts) != expected_tiles:
        source.add_issue("tile_table", what=name, actual=min(len(offsets), len(counts)), expected=expected_tiles)
        return
    if is_ndpi:
        offsets = np.array([_ndpi_offset(int(offset), directory.offset) for offset in offsets], np.uint64)
    unpacked_bytes = tile_width * min(tile_height, height) * (samples // planes) * bits // 8
    _check_stored_bytes(directory, source, limits, offsets.astype(np.uint64), counts.astype(np.uint64), unpacked_bytes)


def _check_stored_bytes(
    directory: TiffDirectory,
    source: ByteSource,
    limits: SlideLimits,
    offsets: NDArray[np.uint64],
    counts: NDArray[np.uint64],
    unpacked_bytes: int,
) -> None:
    """Check stored tiles. unpacked: decoded bytes of a tile. A tile with offset or length 0 is background, not
    stored.
    """
    name = directory.name
    is_stored = (counts > 0) & (offsets > 0)
    if not is_stored.any():
        source.add_issue("no_pixels", what=name)
        return
    offsets, counts = offsets[is_stored], counts[is_stored]
    ends = [int(offsets[index]) + int(counts[index]) for index in (np.argmax(offsets), np.argmax(counts))]
    with np.errstate(over="ignore"):
        ends.append(int((offsets + counts).max()))
    if max(ends) > source.size:
        source.add_issue("truncated", what=name, actual=max(ends), end=source.size)
    if directory.is_tiled and int(counts.max()) > limits.tile_bytes:
        source.add_issue("tile_bytes", what=name, actual=int(counts.max()), limit=limits.tile_bytes)
    if directory.get_int(COMPRESSION, 1) == 1:
        width, height = directory.size
        bits = directory.get_int(SAMPLES, 1) * directory.get_int(BITS, 1)
        expected_bytes = unpacked_bytes * len(counts) if directory.is_tiled else math.ceil(width * bits / 8) * height
        if int(counts.sum()) < expected_bytes:
            source.add_issue("size_lies", what=name, actual=int(counts.sum()), expected=expected_bytes)
    elif NDPI not in directory.tags:
        distinct_bytes = int(
            counts[np.unique(offsets, return_index=True)[1]].sum()
        )  # stored data may be shared by many tiles
        ratio = unpacked_bytes * len(counts) / max(distinct_bytes, 1)
        if ratio > limits.ratio:
            source.add_issue("ratio", what=name, actual=ratio, limit=limits.ratio)


def check_flat(directory: TiffDirectory, source: ByteSource, limits: SlideLimits) -> None:
    """Check a flat image, which is decoded as a whole with 8 bits per channel."""
    width, height = directory.size
    if width * height > limits.flat_pixels:
        source.add_issue("pixel_bomb", what=directory.name, width=width, height=height, limit=limits.flat_pixels)
    bits = {int(value) for value in directory.tags.get(BITS, ())} or {1}
    if not bits <= {1, 8}:
        source.add_issue("packing", actual=f"{max(bits)} bits a channel", expected="8 bits")


def pixel_scale(kind: str, directory: TiffDirectory, limits: SlideLimits) -> tuple[float, float] | None:
    """Microns per pixel if the format has a field for them; OpenSlide reads those of other formats."""
    if kind == "aperio":
        mpp_texts = [
            item.split("=", 1)[1] for item in directory.get_text(DESCRIPTION).split("|") if item.startswith("MPP")
        ]
        try:
            value = float(mpp_texts[0]) if mpp_texts else 0.0
        except ValueError:
            return None
        return plausible_scale(value, value, limits)
    unit = MICRONS_PER_UNIT.get(directory.get_int(RESOLUTION_UNIT, 2))
    x, y = (directory.tags.get(tag) for tag in (X_RESOLUTION, Y_RESOLUTION))
    if unit is None or not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray) or not len(x) or not len(y):
        return None
    return plausible_scale(unit / x[0] if x[0] > 0 else 0.0, unit / y[0] if y[0] > 0 else 0.0, limits)


def plausible_scale(x: float, y: float, limits: SlideLimits) -> tuple[float, float] | None:
    """A stated scale rounded to a millionth of a micron; None if no scanner has such a scale."""
    is_plausible = all(math.isfinite(value) and limits.finest_mpp <= value <= limits.coarsest_mpp for value in (x, y))
    return (round(float(x), 6), round(float(y), 6)) if is_plausible else None
