"""Copy a slide without its label, macro and thumbnail images, which may show a patient's name.

copy = deidentify_slide("slide.svs", Path("store"))        # the path to open from now on

The reader never shows these images; here they are erased from the bytes too. Texts that may identify people are erased
as well: everything in an Aperio description that the image does not need, other texts of a TIFF, DICOM attributes about
patient, staff, dates and containers, comments and EXIF of PNG and JPEG. DICOM UIDs are kept; they identify the study
only to its holder. Texts before the tiles of a KFB are kept too, as its layout is not public.
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

SINGLE_IMAGE_FORMATS = ("png", "jpeg", "dicom")  # one image per file; the other images of a DICOM are other files
TIFF_FORMATS = ("aperio", "generic-tiff", "tiff")
BLOCK_BYTES = 1 << 20
SIMULATED_PREFIX = b"SIMULATED"  # a simulated slide keeps saying so
# Keys of an Aperio description about how the image was made, not about whom it shows.
APERIO_RETAINED_KEYS = {
    *("AppMag", "MPP", "StripeWidth", "Left", "Top", "LineCameraSkew", "LineAreaXOffset", "LineAreaYOffset"),
    *("Focus Offset", "Exposure Time", "Exposure Scale", "DisplayColor", "Gamma", "Filtered", "Parmset"),
    *("OriginalWidth", "OriginalHeight", "ICC Profile", "SessonMode"),
}


def deidentify_slide(path: str | Path, folder: Path, limits: SlideLimits = SLIDE_LIMITS) -> Path:
    """Copy the checked files into `folder` and clean them. Raises SlideError; label_inside if the format cannot be
    cleaned.
    """
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
    """Overwrite texts with blanks, which every text representation may end with, so that no offset changes."""
    with open_source(path) as source, path.open("r+b") as file:
        for offset, length in dicom.read_instance(source, limits).personal_values:
            _erase(file, offset, length, b" ")


def _deidentify_flat(path: Path, kind: str) -> None:
    with open_source(path) as source, path.open("r+b") as file:
        for offset, length in list((flat.png_text_ranges if kind == "png" else flat.jpeg_text_ranges)(source)):
            _erase(file, offset, length)
            if kind == "png":  # the checksum of a block covers its name and its value
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
    """The same text with blanks in place of values that the image does not need."""
    head, *pairs = text.rstrip(b"\0").split(b"|")
    retained = [pair if _is_retained(pair) else b" " * len(pair) for pair in pairs]
    return b"|".join([head, *retained]).ljust(len(text), b"\0")


def _is_retained(pair: bytes) -> bool:
    return pair.partition(b"=")[0].decode("latin-1").strip() in APERIO_RETAINED_KEYS


def _deidentify_tiff(path: Path, kind: str, limits: SlideLimits) -> None:
    """Keep the levels of the slide; erase all other images and unlink their directories."""
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
