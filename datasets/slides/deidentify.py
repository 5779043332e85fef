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

from datasets.slides.byte_source import open_source
from datasets.slides.errors import SlideError, slide_issue
from datasets.slides.formats import dicom, flat, kfb, tiff
from datasets.slides.limits import SLIDE_LIMITS, SlideLimits
from datasets.slides.static_check import check_slide

SINGLE_IMAGE_FORMATS = ("png", "jpeg", "dicom")  # one picture a file, and a DICOM's other pictures are other files
TIFF_FORMATS = ("aperio", "generic-tiff", "tiff")
BLOCK_BYTES = 1 << 20
SIMULATED_PREFIX = b"SIMULATED"  # a made-up slide goes on saying so
# Of an Aperio's description, the keys whose values say how the picture was made and nothing of whom it shows.
APERIO_RETAINED_KEYS = {
    *("AppMag", "MPP", "StripeWidth", "Left", "Top", "LineCameraSkew", "LineAreaXOffset", "LineAreaYOffset"),
    *("Focus Offset", "Exposure Time", "Exposure Scale", "DisplayColor", "Gamma", "Filtered", "Parmset"),
    *("OriginalWidth", "OriginalHeight", "ICC Profile", "SessonMode"),
}


def deidentify_slide(path: str | Path, folder: Path, limits: SlideLimits = SLIDE_LIMITS) -> Path:
    """Copies the checked files into `folder`. Raises SlideRefused, label_inside for a format that cannot be cleaned."""
    checked = check_slide(path, limits)
    if checked.format not in (*SINGLE_IMAGE_FORMATS, *TIFF_FORMATS, "kfb"):
        expected = "SVS, tiled TIFF, KFB or DICOM"
        raise SlideError(checked.path.name, [slide_issue("label_inside", found=checked.format, needed=expected)])
    for path_to_copy in checked.files:
        shutil.copyfile(path_to_copy, folder / path_to_copy.name)
    copy = folder / checked.path.name
    if checked.format in TIFF_FORMATS:
        _deidentify_tiff(copy, checked.format, limits)
    if checked.format == "kfb":
        with open_source(copy) as source, copy.open("r+b") as file:
            for offset, length in kfb.associated_images(source, limits):
                _erase(file, offset, length)
    if checked.format == "dicom":
        for path_to_copy in checked.files:
            _deidentify_dicom(folder / path_to_copy.name, limits)
    if checked.format in ("png", "jpeg"):
        _deidentify_flat(copy, checked.format)
    return copy


def _deidentify_dicom(path: Path, limits: SlideLimits) -> None:
    """Words are emptied by blanks, which every representation of words may end with, so that nothing moves."""
    with open_source(path) as source, path.open("r+b") as file:
        for offset, length in dicom.read_instance(source, limits).personal_values:
            _erase(file, offset, length, b" ")


def _deidentify_flat(path: Path, kind: str) -> None:
    with open_source(path) as source, path.open("r+b") as file:
        for offset, length in list((flat.png_text_ranges if kind == "png" else flat.jpeg_text_ranges)(source)):
            _erase(file, offset, length)
            if kind == "png":  # the block's checksum is of its name and its value
                name = source.read(offset - 4, 4, "a PNG block")
                file.write(zlib.crc32(name + bytes(length)).to_bytes(4))


def _erase_texts(file: BinaryIO, kind: str, image: tiff.TiffDirectory) -> None:
    for tag, offset, length in image.text_ranges:
        file.seek(offset)
        text = file.read(length)
        if tag == tiff.SOFTWARE or (tag == tiff.DESCRIPTION and text.startswith(SIMULATED_PREFIX)):
            continue
        file.seek(offset)
        file.write(_redact_aperio(text) if tag == tiff.DESCRIPTION and kind == "aperio" else bytes(length))


def _redact_aperio(text: bytes) -> bytes:
    """The same with blanks for the values that the picture does not need."""
    head, *pairs = text.rstrip(b"\0").split(b"|")
    retained = [pair if _is_retained(pair) else b" " * len(pair) for pair in pairs]
    return b"|".join([head, *retained]).ljust(len(text), b"\0")


def _is_retained(pair: bytes) -> bool:
    return pair.partition(b"=")[0].decode("latin-1").strip() in APERIO_RETAINED_KEYS


def _deidentify_tiff(path: Path, kind: str, limits: SlideLimits) -> None:
    """Keeps the slide's levels; the other images are erased, and no directory leads to them."""
    with open_source(path) as source, path.open("r+b") as file:
        images = tiff.read_directories(source, limits)
        head = source.read(0, 4, "the TIFF header")
        retained = tiff.slide_images(kind, images)
        for image in images:
            if image.number not in {other.number for other in retained}:
                for offset, length in (
                    *tiff.tile_ranges(image),
                    *image.value_ranges,
                    (image.offset, image.next_link[0] - image.offset),
                ):
                    _erase(file, offset, min(length, source.size - offset))
            else:
                _erase_texts(file, kind, image)
        links = [(8, 8) if 43 in head[2:] else (4, 4), *(image.next_link for image in retained)]
        for (offset, width), target in zip(links, [*(each.offset for each in retained), 0], strict=True):
            file.seek(offset)
            file.write(target.to_bytes(width, "little" if head[:2] == b"II" else "big"))


def _erase(file: BinaryIO, offset: int, length: int, fill: bytes = b"\0") -> None:
    file.seek(offset)
    for start in range(0, length, BLOCK_BYTES):
        file.write(fill * min(BLOCK_BYTES, length - start))
