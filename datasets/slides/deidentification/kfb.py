"""Erase label and macro image of a KFB. Texts before its tiles are kept, as its layout is not public."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from datasets.slides.byte_source import CheckedSlide, open_source
from datasets.slides.deidentification.container import Text, TileRange, copy_name
from datasets.slides.deidentification.erase import erase
from datasets.slides.formats import kfb
from datasets.slides.limits import SlideLimits


def clean_kfb(checked: CheckedSlide, folder: Path, limits: SlideLimits, key: bytes) -> Path:
    copy = folder / copy_name(checked.path)
    shutil.copyfile(checked.path, copy)
    with open_source(copy) as source, copy.open("r+b") as file:
        for offset, length in kfb.associated_images(source, limits):
            erase(file, offset, length)
    return copy


def iter_texts(checked: CheckedSlide, limits: SlideLimits) -> Iterator[Text]:
    yield from ()


def tile_ranges(checked: CheckedSlide, limits: SlideLimits) -> Iterator[TileRange]:
    yield from ()
