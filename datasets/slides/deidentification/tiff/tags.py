"""The closed list of TIFF tags that a copy takes over from an image, each only with a value that its standard allows.

No tag of the list can hold words: values are numbers from short lists or within narrow bounds. Descriptions are written
anew by the module of each vendor.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import ByteSource, CheckAbortedError
from datasets.slides.deidentification.codestream import clean_jpeg
from datasets.slides.deidentification.icc import clean_icc_profile
from datasets.slides.errors import slide_issue
from datasets.slides.formats.tiff_check import JPEG, READ_COMPRESSIONS
from datasets.slides.formats.tiff_directories import (
    BITS,
    COLOR_MAP,
    COMPRESSION,
    EXTRA_SAMPLES,
    HEIGHT,
    MAX_SAMPLE_VALUE,
    NUMBER_DTYPES,
    PALETTE,
    PHOTOMETRIC,
    PLANAR,
    RESOLUTION_UNIT,
    ROWS_PER_STRIP,
    SAMPLE_FORMAT,
    SAMPLES,
    TILE_HEIGHT,
    TILE_WIDTH,
    WIDTH,
    X_RESOLUTION,
    Y_RESOLUTION,
    ByteLayout,
    TiffDirectory,
    TiffEntry,
    decode_values,
)
from datasets.slides.limits import SlideLimits

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SLONG, FLOAT, LONG8 = 1, 2, 3, 4, 5, 7, 9, 11, 16
# type and values of a new tag: numbers, numerators and denominators in turn, or bytes
Value = tuple[int, list[int] | list[float] | bytes | NDArray[Any]]
Tags = dict[int, Value]

FILL_ORDER, ORIENTATION, PREDICTOR = 266, 274, 317
JPEG_TABLES, COEFFICIENTS, SUBSAMPLING, POSITIONING, REFERENCE_BLACK_WHITE = 347, 529, 530, 531, 532
IMAGE_DEPTH, ICC_PROFILE = 32997, 34675

# Tags that decoding depends on: a value outside of the list is refused.
CLOSED_LISTS: dict[int, Collection[int]] = {
    BITS: (1, 2, 4, 8, 12, 16, 32),
    COMPRESSION: READ_COMPRESSIONS,
    PHOTOMETRIC: (0, 1, 2, PALETTE, 5, 6),
    FILL_ORDER: (1, 2),
    ORIENTATION: range(1, 9),
    SAMPLES: range(1, 65),
    PLANAR: (1, 2),
    PREDICTOR: (1, 2, 3),
    EXTRA_SAMPLES: (0, 1, 2),
    SAMPLE_FORMAT: (1, 2, 3),
    SUBSAMPLING: (1, 2, 4),
    POSITIONING: (1, 2),
    IMAGE_DEPTH: (1,),
}
SIZES = (WIDTH, HEIGHT, TILE_WIDTH, TILE_HEIGHT)  # checked against the pixels by formats/tiff.py
MAX_REFERENCE = 65_535
RESOLUTION_TAGS = (X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT)


def image_tags(
    source: ByteSource, layout: ByteLayout, directory: TiffDirectory, limits: SlideLimits, is_micron_scale: bool = False
) -> Tags:
    """Tags that decoding an image needs, its scale and its colour profile. is_micron_scale: see `_scale_tags`.

    Raises CheckAbortedError for a value that no list has.
    """
    tags: Tags = {tag: (LONG, [directory.get_int(tag, 0)]) for tag in SIZES if tag in directory.tags}
    if not directory.is_tiled:
        height = directory.size[1]
        tags[ROWS_PER_STRIP] = (LONG, [min(max(directory.get_int(ROWS_PER_STRIP, height), 1), height)])
    for tag, allowed in CLOSED_LISTS.items():
        if tag in directory.entries:
            values = _read_integers(source, layout, directory, tag)
            if not set(values) <= set(allowed):
                wrong = sorted(set(values) - set(allowed))[0]
                raise _unsupported(f"tag {tag} of {directory.name} = {wrong}", f"one of {sorted(allowed)}")
            tags[tag] = (SHORT, values)
    samples = directory.get_int(SAMPLES, 1)
    for tag, counts in ((BITS, {1, samples}), (SAMPLE_FORMAT, {1, samples}), (EXTRA_SAMPLES, range(samples))):
        if tag in tags and len(tags[tag][1]) not in counts:
            raise _unsupported(f"{len(tags[tag][1])} values of tag {tag} of {directory.name}", f"{samples} at most")
    declared = directory.entries.get(MAX_SAMPLE_VALUE)
    if declared is not None and declared.kind == SHORT:  # only the number of bits in use matters
        largest = max(_read_integers(source, layout, directory, MAX_SAMPLE_VALUE), default=0)
        tags[MAX_SAMPLE_VALUE] = (SHORT, [(1 << min(largest.bit_length(), 16)) - 1] * samples)
    tags |= _color_tags(source, layout, directory, limits)
    return tags | _scale_tags(source, layout, directory, limits, is_micron_scale)


def _color_tags(source: ByteSource, layout: ByteLayout, directory: TiffDirectory, limits: SlideLimits) -> Tags:
    tags: Tags = {}
    entries = directory.entries
    if JPEG_TABLES in entries and directory.get_int(COMPRESSION, 1) == JPEG:
        tables = read_bytes(source, entries[JPEG_TABLES], limits)
        tags[JPEG_TABLES] = (
            UNDEFINED,
            b"".join(clean_jpeg(lambda start, size: tables[start : start + size], len(tables))),
        )
    if ICC_PROFILE in entries:
        profile = clean_icc_profile(read_bytes(source, entries[ICC_PROFILE], limits))
        tags |= {ICC_PROFILE: (UNDEFINED, profile)} if profile else {}
    if COLOR_MAP in entries and _read_integers(source, layout, directory, PHOTOMETRIC) == [PALETTE]:
        colors = _read_integers(source, layout, directory, COLOR_MAP, limit=3 << 16)
        tags[COLOR_MAP] = (SHORT, [color & 0xFFFF for color in colors])
    for tag, count, limit in ((COEFFICIENTS, 3, 1), (REFERENCE_BLACK_WHITE, 6, MAX_REFERENCE)):
        if tag in entries:
            values = _read_rationals(source, layout, entries[tag])
            if len(values) != count or not all(0 <= value <= limit for value in values):
                raise _unsupported(f"tag {tag} of {directory.name}", f"{count} values from 0 to {limit}")
            tags[tag] = (RATIONAL, _terms(values, 10_000))
    return tags


def _scale_tags(
    source: ByteSource, layout: ByteLayout, directory: TiffDirectory, limits: SlideLimits, is_micron_scale: bool
) -> Tags:
    """The resolution if a scanner can have it, reduced. is_micron_scale: it is stated as microns per pixel."""
    if not {X_RESOLUTION, Y_RESOLUTION} <= directory.entries.keys():
        return {}
    unit = directory.get_int(RESOLUTION_UNIT, 2)
    microns = {2: 25_400, 3: 10_000}.get(unit)
    values = [
        value
        for tag in (X_RESOLUTION, Y_RESOLUTION)
        for value in _read_rationals(source, layout, directory.entries[tag])
    ]
    if len(values) != 2 or min(values) <= 0 or (microns is None and not is_micron_scale):
        return {}
    scales = values if is_micron_scale or microns is None else [microns / value for value in values]
    if not all(limits.finest_mpp <= scale <= limits.coarsest_mpp for scale in scales):
        return {}
    x, y = (_resolution_terms(value) for value in values)
    unit_tag: Tags = {RESOLUTION_UNIT: (SHORT, [unit])} if unit in (1, 2, 3) else {}
    return {X_RESOLUTION: (RATIONAL, x), Y_RESOLUTION: (RATIONAL, y)} | unit_tag


def resolution_tags(mpp: tuple[float, float]) -> Tags:
    """Microns per pixel (x, y), which the original may state in a text that the copy does not have."""
    x, y = (_resolution_terms(10_000 / Fraction(str(value))) for value in mpp)
    return {X_RESOLUTION: (RATIONAL, x), Y_RESOLUTION: (RATIONAL, y), RESOLUTION_UNIT: (SHORT, [3])}


def _resolution_terms(value: Fraction) -> list[int]:
    """Within 32 bits."""
    return _terms([value], min(1_000_000, int(0xFFFFFFFF / value)))


def _terms(values: list[Fraction], max_denominator: int) -> list[int]:
    """Numerators and denominators in turn."""
    reduced = [value.limit_denominator(max_denominator) for value in values]
    return [term for value in reduced for term in (value.numerator, value.denominator)]


def read_bytes(source: ByteSource, entry: TiffEntry, limits: SlideLimits) -> bytes:
    if entry.length > limits.text_bytes:
        what = f"bytes in tag {entry.tag}"
        raise CheckAbortedError(slide_issue("too_many", what=what, actual=entry.length, limit=limits.text_bytes))
    return source.read(entry.offset, entry.length, f"tag {entry.tag}")


def read_number(source: ByteSource, layout: ByteLayout, directory: TiffDirectory, tag: int) -> float | None:
    """The only value of a tag, if it is a finite number."""
    entry = directory.entries.get(tag)
    if entry is None or entry.count != 1 or entry.kind not in (*NUMBER_DTYPES, RATIONAL):
        return None
    values = decode_values(source.read(entry.offset, entry.length, f"tag {tag}"), entry.kind, layout)
    return float(values[0]) if math.isfinite(values[0]) else None


def _read_integers(
    source: ByteSource, layout: ByteLayout, directory: TiffDirectory, tag: int, limit: int = 256
) -> list[int]:
    entry = directory.entries.get(tag)
    if entry is None or entry.count > limit or entry.kind not in (BYTE, SHORT, LONG, LONG8):
        raise _unsupported(f"tag {tag} of {directory.name}", f"1 to {limit} whole numbers")
    values = decode_values(source.read(entry.offset, entry.length, f"tag {tag}"), entry.kind, layout)
    return [int(value) for value in np.asarray(values)]


def _read_rationals(source: ByteSource, layout: ByteLayout, entry: TiffEntry) -> list[Fraction]:
    """Exact values; a denominator of 0 gives -1, which no caller takes."""
    if entry.kind != RATIONAL or entry.count > 64:
        return []
    raw = source.read(entry.offset, entry.length, f"tag {entry.tag}")
    terms = [int(term) for term in np.frombuffer(raw, f"{layout.byte_order}u4")]
    pairs = zip(terms[::2], terms[1::2], strict=True)
    return [Fraction(numerator, denominator) if denominator else Fraction(-1) for numerator, denominator in pairs]


def _unsupported(actual: str, expected: str) -> CheckAbortedError:
    return CheckAbortedError(slide_issue("packing", actual=actual, expected=expected))
