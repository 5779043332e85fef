"""Blank the DICOM attributes about patient, staff, dates and containers. UIDs are kept; they identify the study only to
its holder.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from datasets.slides.byte_source import CheckedSlide, open_source
from datasets.slides.deidentification.container import Text, TileRange, copy_name
from datasets.slides.deidentification.erase import erase
from datasets.slides.formats import dicom
from datasets.slides.limits import SlideLimits


def clean_dicom(checked: CheckedSlide, folder: Path, limits: SlideLimits, key: bytes) -> Path:
    """Overwrite texts with blanks, which every text representation may end with, so that no offset changes."""
    copies = [folder / copy_name(original, number) for number, original in enumerate(checked.files)]
    for original, copy in zip(checked.files, copies, strict=True):
        shutil.copyfile(original, copy)
        with open_source(copy) as source, copy.open("r+b") as file:
            for offset, length in dicom.read_instance(source, limits).personal_values:
                erase(file, offset, length, b" ")
    return copies[0]


def iter_texts(checked: CheckedSlide, limits: SlideLimits) -> Iterator[Text]:
    for path in checked.files:
        with open_source(path) as source:
            for offset, length in dicom.read_instance(source, limits).personal_values:
                yield f"byte {offset}", source.read(offset, length, "an attribute")


def tile_ranges(checked: CheckedSlide, limits: SlideLimits) -> Iterator[TileRange]:
    yield from ()  # the frames
