"""Find the levels of the slide among the images of a TIFF."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from datasets.slides.formats.tiff_directories import (
    BITS,
    DESCRIPTION,
    NDPI,
    NDPI_MAGNIFICATION,
    SOFTWARE,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    SUBFILE_TYPE,
    TILE_COUNTS,
    TILE_OFFSETS,
    X_RESOLUTION,
    XMP,
    TiffDirectory,
)

LEICA_NAMESPACE = "http://www.leica-microsystems.com/scn/"
# What programs call the pictures beside the slide; they are never the slide, whatever their size.
ASSOCIATED_NAMES = re.compile(r"\b(label|macro|overview|thumbnail|barcode|preview)(_?image)?\b", re.IGNORECASE)
MIN_REDUCTION = 1.1  # of a level against the next finer one


def is_tiff(head: bytes) -> bool:
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tile_ranges(directory: TiffDirectory) -> list[tuple[int, int]]:
    """(offset, length) of the tiles or strips of an image."""
    offsets, counts = (TILE_OFFSETS, TILE_COUNTS) if directory.is_tiled else (STRIP_OFFSETS, STRIP_COUNTS)
    pairs = zip(directory.tags.get(offsets, ()), directory.tags.get(counts, ()), strict=False)
    return [(int(offset), int(count)) for offset, count in pairs]


def detect_vendor(directories: list[TiffDirectory]) -> str:
    """The vendor of a TIFF, by its tags; `tiff` is one whose slide has no tiles."""
    first = directories[0]
    if NDPI in first.tags:
        return "ndpi"
    if not any(directory.is_tiled for directory in directories):
        return "tiff"
    if any(directory.get_text(DESCRIPTION).startswith("Aperio") for directory in directories):
        return "aperio"
    if LEICA_NAMESPACE in first.get_text(DESCRIPTION):
        return "leica"
    if first.get_text(SOFTWARE).startswith("Philips"):
        return "philips"
    if any("iScan" in directory.get_text(XMP) for directory in directories):
        return "ventana"
    if first.get_text(SOFTWARE).startswith("MedScan"):
        return "trestle"
    return "generic-tiff" if slide_images("generic-tiff", directories)[0].is_tiled else "tiff"


def slide_images(kind: str, directories: list[TiffDirectory]) -> list[TiffDirectory]:
    """The levels of the slide, the largest first, in whatever order the file has them; SubIFDs included.

    The pictures that are left out may show a patient's name. kind: what detect_vendor has found.
    """
    images = [image for image in directories if not ASSOCIATED_NAMES.search(_picture_name(kind, image))]
    if kind == "ndpi":  # the macro image and the map of the scan have negative magnifications
        images = [image for image in directories if image.tags.get(NDPI_MAGNIFICATION, (1,))[0] > 0]
    elif kind == "leica":
        images = _leica_images(directories) or images
    elif kind == "ventana":
        images = [image for image in images if image.get_text(DESCRIPTION).startswith("level=")] or images
    images = images or directories
    if kind in ("ndpi", "leica", "philips", "ventana", "trestle"):
        tiled_images = [image for image in images if image.is_tiled or kind == "ndpi"] or images
        return sorted(tiled_images, key=lambda image: -image.pixels)
    return _pyramid(_largest_image(images), images, is_aperio=kind == "aperio")


def _picture_name(kind: str, image: TiffDirectory) -> str:
    """The words of a description that may name the picture: Aperio's follow the first line."""
    text = image.get_text(DESCRIPTION)[:4_096]
    if kind == "aperio" or text.startswith("Aperio"):
        return text.partition("\n")[2].partition("|")[0]
    return "" if text.lstrip().startswith("<") else text.partition("\n")[0][:64]


def _leica_images(directories: list[TiffDirectory]) -> list[TiffDirectory]:
    """The directories of all images but the one that covers the whole glass."""
    root = parse_xml(directories[0].get_bytes(DESCRIPTION))
    numbers: set[int] = set()
    for collection in root.iterfind(".//{*}collection") if root is not None else ():
        glass = collection.get("sizeX"), collection.get("sizeY")
        for image in collection.iterfind("{*}image"):
            view = image.find("{*}view")
            if view is None or (view.get("sizeX"), view.get("sizeY")) == glass:
                continue
            entries = (dimension.get("ifd", "") for dimension in image.iterfind(".//{*}dimension"))
            numbers.update(int(entry) for entry in entries if entry.isdecimal())
    return [directory for directory in directories if directory.number in numbers]


def _largest_image(images: list[TiffDirectory]) -> TiffDirectory:
    """The slide itself. Tiles are made for slides; a larger picture in strips is the slide only if the tiles show a
    smaller copy of it, or if it is larger than any photograph of the glass.
    """
    tiled_image = max((image for image in images if image.is_tiled), key=lambda image: image.pixels, default=None)
    striped_image = max((image for image in images if not image.is_tiled), key=lambda image: image.pixels, default=None)
    if tiled_image is None or striped_image is None:
        image = tiled_image or striped_image
        assert image is not None, "there is an image"
        return image
    is_copy = _reduction(striped_image, tiled_image) is not None
    return striped_image if is_copy or striped_image.pixels > 16 * tiled_image.pixels else tiled_image


def _pyramid(slide: TiffDirectory, images: list[TiffDirectory], is_aperio: bool) -> list[TiffDirectory]:
    """The slide and its smaller copies: those in its SubIFDs, those marked as smaller, tiles of an Aperio file, and
    unmarked ones whose size is a whole fraction of the slide's and whose resolution does not contradict it.
    """
    if not slide.is_tiled:
        return [slide]
    levels = [slide]
    candidates = [image for image in images if image is not slide and image.is_tiled]
    for image in sorted([*slide.sub_directories, *candidates], key=lambda image: -image.pixels):
        reduction, step = _reduction(slide, image), _reduction(levels[-1], image)
        if reduction is None or step is None or image.tags.get(BITS, (1,))[0] != slide.tags.get(BITS, (1,))[0]:
            continue
        is_marked = is_aperio or image in slide.sub_directories or image.get_int(SUBFILE_TYPE, 0) & 1
        if is_marked or (_is_whole_fraction(slide, image) and _resolution_fits(slide, image, reduction)):
            levels.append(image)
    return levels


def _reduction(slide: TiffDirectory, image: TiffDirectory) -> float | None:
    """How many times smaller `image` is; None if it has other proportions or is not smaller. Sizes are rounded, up to
    two pixels off after several halvings.
    """
    ranges = []
    for length, reduced_length in zip(slide.size, image.size, strict=True):
        if reduced_length < 1:
            return None
        slack = max(2.0, 0.01 * reduced_length)
        ranges.append((length / (reduced_length + slack), length / max(reduced_length - slack, 0.5)))
    low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
    reduction = max(slide.size) / max(image.size)
    return reduction if low <= high and reduction >= MIN_REDUCTION else None


def _is_whole_fraction(slide: TiffDirectory, image: TiffDirectory) -> bool:
    factor = round(max(slide.size) / max(image.size))
    return factor >= 2 and all(
        abs(length / factor - reduced) <= 2 for length, reduced in zip(slide.size, image.size, strict=True)
    )


def _resolution_fits(slide: TiffDirectory, image: TiffDirectory, reduction: float) -> bool:
    """Whether a smaller copy states a resolution as many times lower, or the same one, as programs write it."""
    values = [each.tags.get(X_RESOLUTION) for each in (slide, image)]
    if not all(isinstance(value, np.ndarray) and len(value) and value[0] > 0 for value in values):
        return True
    ratio = float(values[0][0]) / float(values[1][0])  # type: ignore[index]
    return abs(ratio - reduction) <= 0.05 * reduction or abs(ratio - 1) <= 0.05


def parse_xml(text: bytes) -> ElementTree.Element | None:
    """The root of an XML text; None if it is none, or defines entities, which no scanner's does."""
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        return None
    try:
        return ElementTree.fromstring(text.strip())
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
