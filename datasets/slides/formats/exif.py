"""Read and write the resolution of a picture in EXIF, which JPEG and PNG share."""

from __future__ import annotations

import struct
from fractions import Fraction

from datasets.slides.limits import SlideLimits
from datasets.slides.scale import MICRONS_PER_CENTIMETRE, MICRONS_PER_INCH, ScaleStatement, state_resolution

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
SHORT, RATIONAL = 3, 5
MICRONS_PER_UNIT = {2: MICRONS_PER_INCH, 3: MICRONS_PER_CENTIMETRE}
CENTIMETRE = 3
MAX_ENTRIES = 1_024
MAX_TERM = 0xFFFFFFFF


def exif_scales(exif: bytes, limits: SlideLimits) -> list[ScaleStatement]:
    """What the first directory states; nothing if it cannot be followed. exif: a TIFF header and what follows it."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8 or struct.unpack_from(f"{order}H", exif, 2)[0] != 42:
        return []
    values: dict[int, float] = {}
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * min(count, MAX_ENTRIES), 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == RESOLUTION_UNIT and kind == SHORT:
                (values[tag],) = struct.unpack_from(f"{order}H", exif, entry + 8)
            elif tag in (X_RESOLUTION, Y_RESOLUTION) and kind == RATIONAL:
                (offset,) = struct.unpack_from(f"{order}I", exif, entry + 8)
                numerator, denominator = struct.unpack_from(f"{order}II", exif, offset)
                values[tag] = numerator / denominator if denominator else 0.0
    except struct.error:
        return []
    unit = MICRONS_PER_UNIT.get(int(values.get(RESOLUTION_UNIT, 2)))
    if unit is None:
        return []
    x, y = values.get(X_RESOLUTION, 0.0), values.get(Y_RESOLUTION, 0.0)
    return state_resolution("EXIF XResolution, YResolution", x, y, unit, limits)


def build_exif(mpp: tuple[float, float]) -> bytes:
    """EXIF that states this scale, in microns per pixel, and nothing else."""
    head = struct.pack("<2sHIH", b"II", 42, 8, 3)
    end = len(head) + 3 * 12 + 4
    entries = struct.pack("<HHII", X_RESOLUTION, RATIONAL, 1, end)
    entries += struct.pack("<HHII", Y_RESOLUTION, RATIONAL, 1, end + 8)
    entries += struct.pack("<HHIHH", RESOLUTION_UNIT, SHORT, 1, CENTIMETRE, 0)
    terms = []
    for microns in mpp:
        resolution = Fraction(MICRONS_PER_CENTIMETRE) / Fraction(str(microns))
        reduced = resolution.limit_denominator(min(1_000_000, int(MAX_TERM / resolution)))
        terms += [reduced.numerator, reduced.denominator]
    return head + entries + bytes(4) + struct.pack("<4I", *terms)
