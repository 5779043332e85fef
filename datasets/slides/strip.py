"""A copy of a slide without its label, macro and thumbnail, which may show a patient's name.

stripped = strip("slide.svs", Path("store"))        # the path to open from now on

The reader never shows those pictures; here they are gone from the bytes as well. What is written as text in a slide's
metadata is kept: DICOM's patient attributes and a scanner's comments are another step's concern.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO

from datasets.slides.check import check
from datasets.slides.faults import SlideRefused, fault
from datasets.slides.formats import kfb, tiff
from datasets.slides.limits import LIMITS, Limits
from datasets.slides.source import opened

WHOLE = ("png", "jpeg", "dicom")  # one picture a file, and a DICOM's other pictures are other files
TIFFS = ("aperio", "generic-tiff", "tiff")
BLOCK = 1 << 20


def strip(path: str | Path, folder: Path, limits: Limits = LIMITS) -> Path:
    """Copies the checked files into `folder`. Raises SlideRefused, label_inside for a format that cannot be cleaned."""
    found = check(path, limits)
    if found.format not in (*WHOLE, *TIFFS, "kfb"):
        needed = "SVS, tiled TIFF, KFB or DICOM"
        raise SlideRefused(found.path.name, [fault("label_inside", found=found.format, needed=needed)])
    for each in found.files:
        shutil.copyfile(each, folder / each.name)
    copy = folder / found.path.name
    if found.format in TIFFS:
        _strip_tiff(copy, found.format, limits)
    if found.format == "kfb":
        with opened(copy) as source, copy.open("r+b") as file:
            for place, length in kfb.pictures(source, limits):
                _erase(file, place, length)
    return copy


def _strip_tiff(path: Path, kind: str, limits: Limits) -> None:
    """Keeps the slide's levels; the other images are erased, and no directory leads to them."""
    with opened(path) as source, path.open("r+b") as file:
        images = tiff.read_directories(source, limits)
        head = source.read(0, 4, "the TIFF header")
        kept = tiff.slide_images(kind, images)
        for each in images:
            if each.number not in {other.number for other in kept}:
                for place, length in (*tiff.stored(each), *each.places, (each.offset, each.link[0] - each.offset)):
                    _erase(file, place, min(length, source.size - place))
        links = [(8, 8) if 43 in head[2:] else (4, 4), *(each.link for each in kept)]
        for (place, width), target in zip(links, [*(each.offset for each in kept), 0], strict=True):
            file.seek(place)
            file.write(target.to_bytes(width, "little" if head[:2] == b"II" else "big"))


def _erase(file: BinaryIO, place: int, length: int) -> None:
    file.seek(place)
    for start in range(0, length, BLOCK):
        file.write(bytes(min(BLOCK, length - start)))
