"""How large anything in a slide may be before it is taken for an attack or an accident, all in one table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlideLimits:
    """The largest scans known are about 200,000 pixels a side and 60 GiB; everything is set well above such."""

    file_bytes: int = 128 * 2**30
    side: int = 1_000_000  # pixels
    pixels: int = 60_000_000_000  # of one level
    flat_pixels: int = 80_000_000  # of an image that has no tiles, as it is decoded whole: 240 MB of RGB
    tile_pixels: int = 4096 * 4096
    tile_bytes: int = 64 * 2**20  # as stored
    tiles: int = 2_000_000  # of one level
    ratio: float = 5_000.0  # decoded bytes to stored ones; an empty JPEG 2000 tile reaches 2,000, deflate 1,032
    directories: int = 256  # a TIFF's images
    tags: int = 1_024  # of one TIFF directory
    elements: int = 3_000_000  # of one DICOM file, frames included
    depth: int = 16  # of nested DICOM sequences
    files: int = 1_000  # that make up one slide
    text_bytes: int = 16 * 2**20  # a description, an XML, an INI
    table_bytes: int = 256 * 2**20  # all tables and texts of one TIFF together
    scans: int = 100  # of one progressive JPEG
    header_bytes: int = 64 * 2**20  # what stands before a KFB's tiles
    finest_mpp: float = 0.02  # microns per pixel; what lies outside these two is no scan's scale,
    coarsest_mpp: float = 40.0  # such as 352.8, which is the 72 dots per inch that programs write unasked


SLIDE_LIMITS = SlideLimits()
