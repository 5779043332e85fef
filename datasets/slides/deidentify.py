"""A copy of a slide without its label, macro and thumbnail, which may show a patient's name.

stripped = strip("slide.svs", Path("store"))        # the path to open from now on

The reader never shows those pictures; here they are gone from the bytes as well. So are words that may name people: of
an Aperio's description all but what the picture needs, other texts of a TIFF, DICOM's attributes about patient, staff,
dates and containers, comments and EXIF of PNG and JPEG. UIDs of a DICOM are kept: they name the study to who holds it.
What a KFB says in words before its tiles is kept too, as its layout is not public.
"""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path
from typing import BinaryIO

from datasets.slides.byte_source import opened
from datasets.slides.errors import SlideRefused, fault
from datasets.slides.formats import dicom, flat, kfb, tiff
from datasets.slides.limits import LIMITS, Limits
from datasets.slides.static_check import check

WHOLE = ("png", "jpeg", "dicom")  # one picture a file, and a DICOM's other pictures are other files
TIFFS = ("aperio", "generic-tiff", "tiff")
BLOCK = 1 << 20
SIMULATED = b"SIMULATED"  # a made-up slide goes on saying so
# Of an Aperio's description, the keys whose values say how the picture was made and nothing of whom it shows.
APERIO_KEPT = {
    *("AppMag", "MPP", "StripeWidth", "Left", "Top", "LineCameraSkew", "LineAreaXOffset", "LineAreaYOffset"),
    *("Focus Offset", "Exposure Time", "Exposure Scale", "DisplayColor", "Gamma", "Filtered", "Parmset"),
    *("OriginalWidth", "OriginalHeight", "ICC Profile", "SessonMode"),
}


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
    if found.format == "dicom":
        for each in found.files:
            _strip_dicom(folder / each.name, limits)
    if found.format in ("png", "jpeg"):
        _strip_flat(copy, found.format)
    return copy


def _strip_dicom(path: Path, limits: Limits) -> None:
    """Words are emptied by blanks, which every representation of words may end with, so that nothing moves."""
    with opened(path) as source, path.open("r+b") as file:
        for place, length in dicom.read_instance(source, limits).personal:
            _erase(file, place, length, b" ")


def _strip_flat(path: Path, kind: str) -> None:
    with opened(path) as source, path.open("r+b") as file:
        for place, length in list((flat.png_words if kind == "png" else flat.jpeg_words)(source)):
            _erase(file, place, length)
            if kind == "png":  # the block's checksum is of its name and its value
                name = source.read(place - 4, 4, "a PNG block")
                file.write(zlib.crc32(name + bytes(length)).to_bytes(4))


def _strip_words(file: BinaryIO, kind: str, image: tiff.Directory) -> None:
    for tag, place, length in image.texts:
        file.seek(place)
        text = file.read(length)
        if tag == tiff.SOFTWARE or (tag == tiff.DESCRIPTION and text.startswith(SIMULATED)):
            continue
        file.seek(place)
        file.write(_aperio(text) if tag == tiff.DESCRIPTION and kind == "aperio" else bytes(length))


def _aperio(text: bytes) -> bytes:
    """The same with blanks for the values that the picture does not need."""
    head, *pairs = text.rstrip(b"\0").split(b"|")
    kept = [pair if _needed(pair) else b" " * len(pair) for pair in pairs]
    return b"|".join([head, *kept]).ljust(len(text), b"\0")


def _needed(pair: bytes) -> bool:
    return pair.partition(b"=")[0].decode("latin-1").strip() in APERIO_KEPT


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
            else:
                _strip_words(file, kind, each)
        links = [(8, 8) if 43 in head[2:] else (4, 4), *(each.link for each in kept)]
        for (place, width), target in zip(links, [*(each.offset for each in kept), 0], strict=True):
            file.seek(place)
            file.write(target.to_bytes(width, "little" if head[:2] == b"II" else "big"))


def _erase(file: BinaryIO, place: int, length: int, by: bytes = b"\0") -> None:
    file.seek(place)
    for start in range(0, length, BLOCK):
        file.write(by * min(BLOCK, length - start))
