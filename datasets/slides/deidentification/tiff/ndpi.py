"""Copy Hamamatsu's NDPI: each level is one JPEG stream, and a table says where the parts of it begin."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
from numpy.typing import NDArray

from datasets.slides.deidentification.codestream import removed_from_jpeg_header
from datasets.slides.deidentification.tiff.pixels import read_within
from datasets.slides.deidentification.tiff.plan import (
    MAKE,
    MODEL,
    SIMULATED,
    Original,
    PlannedImage,
    text_value,
    unreadable,
)
from datasets.slides.deidentification.tiff.tags import FLOAT, LONG, SLONG, Tags, read_number
from datasets.slides.formats.tiff_directories import (
    NDPI,
    SOFTWARE,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    TiffDirectory,
    TiffEntry,
    decode_values,
)

MAGNIFICATION, X_OFFSET, Y_OFFSET, FOCUS = 65421, 65422, 65423, 65424
MCU_STARTS, MCU_STARTS_HIGH, PROPERTIES = 65426, 65432, 65449
NANOMETRE_LIMITS = {X_OFFSET: 100_000_000, Y_OFFSET: 100_000_000, FOCUS: 1_000_000}  # a glass is 76 mm long
MAX_MAGNIFICATION = 200.0
MAKER = "Hamamatsu"
SCANNERS = ("C9600", "C10730", "C12740", "C13140", "C13210", "C13220", "C13239", "C16300")  # NanoZoomers
SCANNER = re.compile(rf"(?:{'|'.join(SCANNERS)})(?:-\d{{2}})?(?![^\W_])")
PROGRAM = "NDP.scan"


def plan_ndpi(original: Original) -> list[PlannedImage]:
    """All images of the scan; macro image and map have negative magnifications."""
    levels = [image for image in original.directories if (_magnification(original, image) or 0) > 0]
    if not levels:
        raise unreadable("the magnification of all images", "0 or less", "a number for each level")
    return [PlannedImage(image, _level_tags(original, image)) for image in levels]


def _magnification(original: Original, image: TiffDirectory) -> float | None:
    return read_number(original.source, original.layout, image, MAGNIFICATION)


def _level_tags(original: Original, image: TiffDirectory) -> Tags:
    magnification = _magnification(original, image) or 0.0
    if magnification > MAX_MAGNIFICATION:
        raise unreadable(f"the magnification of {image.name}", magnification, f"at most {MAX_MAGNIFICATION:g}")
    simulated = f" {SIMULATED}" if original.is_simulated() else ""
    tags: Tags = {NDPI: (LONG, [1]), MAGNIFICATION: (FLOAT, [magnification]), MAKE: text_value(MAKER)}
    tags |= {SOFTWARE: text_value(PROGRAM + simulated)}
    tags |= {PROPERTIES: text_value(f"Objective.Lens.Magnificant={magnification:g}\r\n")}
    if scanner := SCANNER.match(original.text(image, MODEL)):
        tags |= {MODEL: text_value(scanner[0])}
    for tag, limit in NANOMETRE_LIMITS.items():
        value = read_number(original.source, original.layout, image, tag)
        if value is not None and value.is_integer() and abs(value) <= limit:
            tags |= {tag: (SLONG, [int(value)])}
    tags |= _part_starts(original, image)
    return original.image_tags(image) | tags


def _part_starts(original: Original, image: TiffDirectory) -> Tags:
    """Where the parts between restart marks begin, as many bytes earlier as the header has lost. Wrong tables are left
    out, as OpenSlide finds the parts without one.
    """
    offset, length = (int(image.tags[tag][0]) for tag in (STRIP_OFFSETS, STRIP_COUNTS))
    low, high = (_read_table(original, image.entries.get(tag)) for tag in (MCU_STARTS, MCU_STARTS_HIGH))
    if low is None or not len(low):
        return {}
    starts = low if high is None or len(high) != len(low) else low | high << np.uint64(32)
    if not (np.diff(starts.astype(np.int64)) > 0).all() or int(starts[-1]) >= length:
        return {}
    removed = removed_from_jpeg_header(partial(read_within, original.source, offset, length), length)
    if removed >= int(starts[0]):
        return {}
    starts = starts - np.uint64(removed)
    tags: Tags = {MCU_STARTS: (LONG, starts & np.uint64(0xFFFFFFFF))}
    return tags | ({MCU_STARTS_HIGH: (LONG, starts >> np.uint64(32))} if high is not None else {})


def _read_table(original: Original, entry: TiffEntry | None) -> NDArray[np.uint64] | None:
    if entry is None or entry.kind != LONG or entry.length > original.limits.table_bytes:
        return None
    values = decode_values(original.source.read(entry.offset, entry.length, f"tag {entry.tag}"), LONG, original.layout)
    return np.asarray(values).astype(np.uint64)
