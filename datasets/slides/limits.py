"""Limits on the size of everything in a slide; a file beyond them is taken for an attack or an accident."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlideLimits:
    """The largest known scans have about 200,000 pixels a side and 60 GiB; the limits are well above these."""

    file_bytes: int = 128 * 2**30
    side: int = 1_000_000  # pixels
    pixels: int = 60_000_000_000  # of one level
    flat_pixels: int = 80_000_000  # of an image without tiles, which is decoded as a whole: 240 MB of RGB
    tile_pixels: int = 4096 * 4096
    tile_bytes: int = 64 * 2**20  # as stored
    tiles: int = 2_000_000  # of one level
    ratio: float = 5_000.0  # decoded over stored bytes; an empty JPEG 2000 tile reaches 2,000, deflate 1,032
    directories: int = 256  # a TIFF's images
    tags: int = 1_024  # of one TIFF directory
    elements: int = 3_000_000  # of one DICOM file, frames included
    depth: int = 16  # of nested DICOM sequences
    files: int = 1_000  # that make up one slide
    text_bytes: int = 16 * 2**20  # a description, an XML, an INI
    table_bytes: int = 256 * 2**20  # all tables and texts of one TIFF together
    scans: int = 100  # of one progressive JPEG
    header_bytes: int = 64 * 2**20  # before the tiles of a KFB
    finest_mpp: float = 0.02  # microns per pixel; no scan has a scale outside these two,
    coarsest_mpp: float = 40.0  # such as 352.8, the 72 dots per inch that programs write by default


SLIDE_LIMITS = SlideLimits()
