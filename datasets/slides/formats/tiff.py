"""Find the levels of the slide among the images of a TIFF, and the focal planes of a stack."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from datasets.slides.byte_source import CheckAbortedError
from datasets.slides.errors import slide_issue
from datasets.slides.formats.tiff_directories import (
    BITS,
    DESCRIPTION,
    NDPI,
    NDPI_FOCUS,
    NDPI_MAGNIFICATION,
    NDPI_MCU_STARTS,
    PHOTOMETRIC,
    PLANAR,
    SAMPLES,
    SOFTWARE,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    SUBFILE_TYPE,
    TILE_COUNTS,
    TILE_HEIGHT,
    TILE_OFFSETS,
    TILE_WIDTH,
    X_RESOLUTION,
    XMP,
    TiffDirectory,
)

LEICA_NAMESPACE = "http://www.leica-microsystems.com/scn/"
# What programs call the pictures beside the slide; they are never the slide, whatever their size.
ASSOCIATED_NAMES = re.compile(r"\b(label|macro|overview|thumbnail|barcode|preview)(_?image)?\b", re.IGNORECASE)
STACK_FORMATS = ("generic-tiff", "tiff")
# How programs mark the focal planes of a stack in the descriptions of images, such as "z=-1.5 um".
PLANE_MARK = re.compile(
    r"(?<![^\W_])(?:z|focus|(?:focal[ _-]?)?plane|z[ _-]?(?:offset|position|index|plane|level))\s*[=:]\s*"
    r"([+-]?\d{1,9}(?:[.,]\d{1,9})?)\s*(nm|um|µm|μm|microns?|mm)?(?![^\W_])",
    re.IGNORECASE,
)
MICRONS = {"nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1e3, "cm": 1e4}
MAX_SPACING = 1_000.0  # microns; a glass is 1,000 thick
SPACING_TOLERANCE = 0.02  # of the distances between planes, which are rounded
MAX_PIXELS_IN_ONE = 1 << 22  # of an image that is decoded at once
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
    return pyramid(_largest_image(images), images, is_aperio=kind == "aperio")


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


def pyramid(slide: TiffDirectory, images: list[TiffDirectory], is_aperio: bool = False) -> list[TiffDirectory]:
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


@dataclass(frozen=True, slots=True)
class FocalStack:
    """planes: the levels of each focal plane, those nearest to the glass first where the file says so; of a slide that
    is no stack the levels alone. spacing: microns between planes, or None.
    """

    planes: tuple[tuple[TiffDirectory, ...], ...]
    spacing: float | None = None

    @property
    def images(self) -> list[TiffDirectory]:
        return [level for levels in self.planes for level in levels]


def focal_stack(kind: str, directories: list[TiffDirectory]) -> FocalStack:
    """The focal planes of a slide: images of one size that OME-XML, ImageJ or a mark in each description makes a stack.

    Levels that only some planes have are left out. Raises CheckAbortedError if the file lacks planes that it declares.
    """
    levels = slide_images(kind, directories)
    if kind == "ndpi":
        return _ndpi_stack(levels)
    if kind not in STACK_FORMATS:
        return FocalStack((tuple(levels),))
    first, slide = directories[0], levels[0]
    planes, spacing = _ome_planes(directories, slide) or _imagej_planes(directories, first) or ([], None)
    if planes:
        pyramids = [pyramid(plane, []) for plane in planes]
    else:
        marked = _marked_planes(directories, slide)
        if marked is None:
            return FocalStack((tuple(levels),))
        planes, spacing, heights = marked
        pyramids = [
            pyramid(plane, [image for image in directories if heights.get(image.offset) == heights[plane.offset]])
            for plane in planes
        ]
    if any(_layout(plane) != _layout(slide) for plane in planes):
        raise _incomplete_stack("images of several sizes or kinds", len(planes))
    shared = set.intersection(*({level.size for level in levels} for levels in pyramids))
    return FocalStack(tuple(tuple(level for level in levels if level.size in shared) for levels in pyramids), spacing)


def _ndpi_stack(images: list[TiffDirectory]) -> FocalStack:
    """Images at different distances from the best focus; large ones are read by tables of their parts alone."""
    heights = {image.offset: float(image.tags.get(NDPI_FOCUS, (0,))[0]) for image in images}
    pyramids = [
        tuple(image for image in images if heights[image.offset] == height) for height in sorted(set(heights.values()))
    ]
    shared = set.intersection(*({level.size for level in levels} for levels in pyramids))
    planes = tuple(tuple(level for level in levels if level.size in shared) for levels in pyramids)
    if len(planes) < 2 or images[0].size not in shared or len({len(levels) for levels in planes}) > 1:
        return FocalStack((tuple(images),))
    if any(NDPI_MCU_STARTS not in level.entries and level.pixels > MAX_PIXELS_IN_ONE for level in sum(planes, ())):
        return FocalStack((tuple(images),))
    return FocalStack(planes, _uniform_spacing([height / 1_000 for height in sorted(set(heights.values()))]))


def _layout(image: TiffDirectory) -> tuple[object, ...]:
    tags = (TILE_WIDTH, TILE_HEIGHT, SAMPLES, PLANAR, PHOTOMETRIC, BITS)
    return (image.size, *(image.get_int(tag, 0) for tag in tags))


def _incomplete_stack(actual: str, planes: int) -> CheckAbortedError:
    expected = f"{planes} images of one size in this file"
    return CheckAbortedError(
        slide_issue("malformed", what="the stack of focal planes", actual=actual, expected=expected)
    )


def _ome_planes(
    directories: list[TiffDirectory], slide: TiffDirectory
) -> tuple[list[TiffDirectory], float | None] | None:
    """The images of a stack in the order of Z, and microns between them. Channels and times in images of their own make
    no stack.
    """
    text = directories[0].get_bytes(DESCRIPTION)
    root = parse_xml(text) if b"SizeZ" in text else None
    for pixels in root.iterfind(".//{*}Pixels") if root is not None else ():
        size = pixels.get("SizeX"), pixels.get("SizeY")
        count = int(pixels.get("SizeZ", "")) if pixels.get("SizeZ", "").isdecimal() else 1
        channels = pixels.findall("{*}Channel")
        if count < 2 or len(channels) > 1 or pixels.get("SizeT", "1") != "1" or size != tuple(map(str, slide.size)):
            continue
        numbers = _ome_image_numbers(pixels, count)
        if len(numbers) < count or max(numbers.values()) >= len(directories):
            raise _incomplete_stack(f"{len(numbers):,} of {count:,} planes in {len(directories):,} images", count)
        return [directories[numbers[z]] for z in range(count)], _ome_spacing(pixels)
    return None


def _ome_image_numbers(pixels: ElementTree.Element, count: int) -> dict[int, int]:
    """Number of the image of each Z, as far as it is in this file."""
    numbers: dict[int, int] = {}
    next_number = 0
    for item in pixels.iterfind("{*}TiffData"):
        values = {name: item.get(name, "") for name in ("IFD", "FirstZ", "PlaneCount")}
        if any(value and not value.isdecimal() for value in values.values()):
            return {}
        number = int(values["IFD"] or next_number)
        span = int(values["PlaneCount"] or (1 if values["IFD"] else count))
        for index in range(min(span, count)):
            numbers.setdefault(int(values["FirstZ"] or 0) + index, number + index)
        next_number = number + span
    return {z: number for z, number in numbers.items() if z < count}


def _ome_spacing(pixels: ElementTree.Element) -> float | None:
    try:
        value = float(pixels.get("PhysicalSizeZ", "")) * MICRONS[pixels.get("PhysicalSizeZUnit", "µm").strip().lower()]
    except (ValueError, KeyError):
        return None
    return value if 0 < value < MAX_SPACING else None


def _imagej_planes(
    directories: list[TiffDirectory], first: TiffDirectory
) -> tuple[list[TiffDirectory], float | None] | None:
    """The slices of an ImageJ stack with one channel and one time."""
    text = first.get_text(DESCRIPTION)
    if not text.startswith("ImageJ="):
        return None
    fields = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in text.splitlines())}
    slices = int(fields["slices"]) if fields.get("slices", "").isdecimal() else 1
    if slices < 2 or fields.get("channels", "1") != "1" or fields.get("frames", "1") != "1":
        return None
    if slices > len(directories):
        raise _incomplete_stack(f"{len(directories):,} images", slices)
    try:
        spacing = float(fields.get("spacing", "")) * MICRONS[fields.get("unit", "").replace("\\u00B5", "µ").lower()]
    except (ValueError, KeyError):
        spacing = 0.0
    return directories[:slices], spacing if 0 < spacing < MAX_SPACING else None


def _marked_planes(
    directories: list[TiffDirectory], slide: TiffDirectory
) -> tuple[list[TiffDirectory], float | None, dict[int, float]] | None:
    """The images of the slide's kind in the order of their marks, and the mark of each image by its offset."""
    marks: dict[int, tuple[float, str]] = {}
    for image in directories:
        text = image.get_text(DESCRIPTION)[:4_096]
        match = None if text.lstrip().startswith("<") else PLANE_MARK.search(text)
        if match is not None:
            marks[image.offset] = float(match[1].replace(",", ".")), (match[2] or "").lower()
    planes = [image for image in directories if image.offset in marks and _layout(image) == _layout(slide)]
    heights = {offset: value * MICRONS.get(unit, 1.0) for offset, (value, unit) in marks.items()}
    if len(planes) < 2 or len({heights[image.offset] for image in planes}) < len(planes):
        return None
    planes.sort(key=lambda image: heights[image.offset])
    has_unit = all(marks[image.offset][1] for image in planes)
    spacing = _uniform_spacing([heights[image.offset] for image in planes]) if has_unit else None
    return planes, spacing, heights


def _uniform_spacing(heights: Sequence[float]) -> float | None:
    steps = np.diff(heights)
    mean = float(steps.mean())
    return round(mean, 6) if np.abs(steps - mean).max() <= SPACING_TOLERANCE * mean and mean < MAX_SPACING else None


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
