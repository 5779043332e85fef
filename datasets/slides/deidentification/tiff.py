"""Erase all images of a TIFF that are no level of the slide, and its texts, except what the image needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from datasets.slides.byte_source import CheckedSlide, open_source
from datasets.slides.deidentification.container import Text, TileRange, copy_name
from datasets.slides.deidentification.erase import erase
from datasets.slides.formats import tiff
from datasets.slides.formats.tiff_directories import DESCRIPTION, SOFTWARE, TiffDirectory, read_directories
from datasets.slides.limits import SlideLimits

SIMULATED_PREFIX = b"SIMULATED"  # a simulated slide keeps saying so
# Keys of an Aperio description about how the image was made, not about whom it shows.
APERIO_RETAINED_KEYS = {
    *("AppMag", "MPP", "StripeWidth", "Left", "Top", "LineCameraSkew", "LineAreaXOffset", "LineAreaYOffset"),
    *("Focus Offset", "Exposure Time", "Exposure Scale", "DisplayColor", "Gamma", "Filtered", "Parmset"),
    *("OriginalWidth", "OriginalHeight", "ICC Profile", "SessonMode"),
}


def clean_tiff(checked: CheckedSlide, folder: Path, limits: SlideLimits, key: bytes) -> Path:
    """Keep the levels of the slide; erase all other images and unlink their directories."""
    path, kind = folder / copy_name(checked.path), checked.format
    shutil.copyfile(checked.path, path)
    with open_source(path) as source, path.open("r+b") as file:
        images = read_directories(source, limits)
        head = source.read(0, 4, "the TIFF header")
        retained = tiff.slide_images(kind, images)
        for image in images:
            if image.number not in {other.number for other in retained}:
                for offset, length in (
                    *tiff.tile_ranges(image),
                    *image.value_ranges,
                    (image.offset, image.next_link[0] - image.offset),
                ):
                    erase(file, offset, min(length, source.size - offset))
            else:
                _erase_texts(file, kind, image)
        links = [(8, 8) if 43 in head[2:] else (4, 4), *(image.next_link for image in retained)]
        for (offset, width), target in zip(links, [*(each.offset for each in retained), 0], strict=True):
            file.seek(offset)
            file.write(target.to_bytes(width, "little" if head[:2] == b"II" else "big"))
    return path


def iter_texts(checked: CheckedSlide, limits: SlideLimits) -> Iterator[Text]:
    with open_source(checked.path) as source:
        for image in tiff.read_directories(source, limits):
            for tag, offset, length in image.text_ranges:
                yield f"directory {image.number}, tag {tag}", source.read(offset, length, "a text")


def tile_ranges(checked: CheckedSlide, limits: SlideLimits) -> Iterator[TileRange]:
    with open_source(checked.path) as source:
        images = tiff.slide_images(checked.format, tiff.read_directories(source, limits))
    for image in images:
        yield from ((checked.path, offset, length) for offset, length in tiff.tile_ranges(image))


def _erase_texts(file: BinaryIO, kind: str, image: TiffDirectory) -> None:
    for tag, offset, length in image.text_ranges:
        file.seek(offset)
        text = file.read(length)
        if tag == SOFTWARE or (tag == DESCRIPTION and text.startswith(SIMULATED_PREFIX)):
            continue
        file.seek(offset)
        file.write(_redact_aperio(text) if tag == DESCRIPTION and kind == "aperio" else bytes(length))


def _redact_aperio(text: bytes) -> bytes:
    """The same text with blanks in place of values that the image does not need."""
    head, *pairs = text.rstrip(b"\0").split(b"|")
    retained = [pair if _is_retained(pair) else b" " * len(pair) for pair in pairs]
    return b"|".join([head, *retained]).ljust(len(text), b"\0")


def _is_retained(pair: bytes) -> bool:
    return pair.partition(b"=")[0].decode("latin-1").strip() in APERIO_RETAINED_KEYS
