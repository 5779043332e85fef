"""Check TIFF and BigTIFF images, including those of NDPI, against the file, and find the levels of the slide."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import ByteSource, CheckedSlide
from datasets.slides.formats.tiff_directories import (
    BITS,
    COMPRESSION,
    DESCRIPTION,
    NDPI,
    PLANAR,
    RESOLUTION_UNIT,
    ROWS_PER_STRIP,
    SAMPLES,
    SOFTWARE,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    SUBFILE_TYPE,
    TILE_COUNTS,
    TILE_HEIGHT,
    TILE_OFFSETS,
    TILE_WIDTH,
    X_RESOLUTION,
    XMP,
    Y_RESOLUTION,
    TiffDirectory,
    read_directories,
)
from datasets.slides.limits import SlideLimits

MICRONS_PER_UNIT = {2: 25_400.0, 3: 10_000.0}  # in an inch, in a centimetre


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
