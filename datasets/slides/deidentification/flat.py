"""Erase comments, EXIF and other texts of PNG and JPEG files."""

from __future__ import annotations

import zlib
from pathlib import Path

from datasets.slides.byte_source import CheckedSlide, open_source
from datasets.slides.deidentification.erase import erase
from datasets.slides.formats import flat
from datasets.slides.limits import SlideLimits


def clean_png(checked: CheckedSlide, folder: Path, limits: SlideLimits) -> None:
    copy = folder / checked.path.name
    with open_source(copy) as source, copy.open("r+b") as file:
        for offset, length in list(flat.png_text_ranges(source)):
            erase(file, offset, length)
            name = source.read(offset - 4, 4, "a PNG block")  # the checksum of a block covers its name and its value
            file.write(zlib.crc32(name + bytes(length)).to_bytes(4))


def clean_jpeg(checked: CheckedSlide, folder: Path, limits: SlideLimits) -> None:
    copy = folder / checked.path.name
    with open_source(copy) as source, copy.open("r+b") as file:
        for offset, length in list(flat.jpeg_text_ranges(source)):
            erase(file, offset, length)
