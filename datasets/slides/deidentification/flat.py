"""Erase comments, EXIF and other texts of PNG and JPEG files."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

from datasets.slides.byte_source import CheckedSlide, open_source
from datasets.slides.deidentification.container import Text, TileRange, copy_name
from datasets.slides.deidentification.erase import erase
from datasets.slides.formats import flat
from datasets.slides.limits import SlideLimits


def clean_png(checked: CheckedSlide, folder: Path, limits: SlideLimits, key: bytes) -> Path:
    copy = folder / copy_name(checked.path)
    shutil.copyfile(checked.path, copy)
    with open_source(copy) as source, copy.open("r+b") as file:
        for offset, length in list(flat.png_text_ranges(source)):
            erase(file, offset, length)
            name = source.read(offset - 4, 4, "a PNG block")  # the checksum of a block covers its name and its value
            file.write(zlib.crc32(name + bytes(length)).to_bytes(4))
    return copy


def clean_jpeg(checked: CheckedSlide, folder: Path, limits: SlideLimits, key: bytes) -> Path:
    copy = folder / copy_name(checked.path)
    shutil.copyfile(checked.path, copy)
    with open_source(copy) as source, copy.open("r+b") as file:
        for offset, length in list(flat.jpeg_text_ranges(source)):
            erase(file, offset, length)
    return copy


def iter_png_texts(checked: CheckedSlide, limits: SlideLimits) -> Iterator[Text]:
    with open_source(checked.path) as source:
        for offset, length in flat.png_text_ranges(source):
            yield f"byte {offset}", source.read(offset, length, "a PNG block")


def iter_jpeg_texts(checked: CheckedSlide, limits: SlideLimits) -> Iterator[Text]:
    with open_source(checked.path) as source:
        for offset, length in flat.jpeg_text_ranges(source):
            yield f"byte {offset}", source.read(offset, length, "a JPEG segment")


def png_tile_ranges(checked: CheckedSlide, limits: SlideLimits) -> Iterator[TileRange]:
    yield from ()


def jpeg_tile_ranges(checked: CheckedSlide, limits: SlideLimits) -> Iterator[TileRange]:
    yield from ()
