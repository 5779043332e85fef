"""Write the copy of a slide in a TIFF container: its levels with what is needed to read them, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from datasets.slides.byte_source import CheckAbortedError, CheckedSlide, open_source
from datasets.slides.deidentification.container import TileRange, copy_name
from datasets.slides.deidentification.tiff import descriptions, ndpi, vendor_xml
from datasets.slides.deidentification.tiff.pixels import pixel_ranges, require_separate, stored_length
from datasets.slides.deidentification.tiff.plan import Original, Plan, PlannedImage, all_directories, is_well_formed
from datasets.slides.deidentification.tiff.tags import JPEG_TABLES, LONG, RESOLUTION_TAGS, SHORT, Tags, resolution_tags
from datasets.slides.deidentification.tiff.writer import TiffWriter, output_layout
from datasets.slides.errors import SlideError
from datasets.slides.formats.tiff_check import PLAIN_FORMATS
from datasets.slides.formats.tiff_directories import (
    BITS,
    COMPRESSION,
    HEIGHT,
    ROWS_PER_STRIP,
    SAMPLES,
    WIDTH,
    read_directories,
    read_layout,
)
from datasets.slides.limits import SlideLimits

BUFFER_BYTES = 1 << 20
PLANS: dict[str, Plan] = {
    "aperio": descriptions.plan_aperio,
    "generic-tiff": descriptions.plan_pyramid,
    "tiff": descriptions.plan_pyramid,
    "trestle": descriptions.plan_trestle,
    "ndpi": ndpi.plan_ndpi,
    "leica": vendor_xml.plan_leica,
    "ventana": vendor_xml.plan_ventana,
    "philips": vendor_xml.plan_philips,
}
WHITE_PIXEL: Tags = {
    **{tag: (LONG, [1]) for tag in (WIDTH, HEIGHT, ROWS_PER_STRIP)},
    **{BITS: (SHORT, [8]), COMPRESSION: (SHORT, [1]), 262: (SHORT, [1]), SAMPLES: (SHORT, [1])},
}


def clean_tiff(checked: CheckedSlide, folder: Path, limits: SlideLimits, key: bytes) -> Path:
    """Raises SlideError if the file has no copy that would be read like it, with the reason."""
    path = folder / copy_name(checked.path)
    try:
        with open_original(checked, limits) as original, path.open("xb", BUFFER_BYTES) as file:
            images = PLANS[checked.format](original)
            if checked.format in PLAIN_FORMATS:
                sizes = [image.directory.size if image.directory else None for image in images]
                for index in [index for index, size in enumerate(sizes) if size == sizes[0]]:  # of each focal plane
                    images[index] = replace(images[index], tags=state_scale(images[index].tags, checked))
            _write_copy(original, images, file)
    except SlideError:
        path.unlink(missing_ok=True)
        raise
    return path


def state_scale(tags: Tags, checked: CheckedSlide) -> Tags:
    """The tags with the one scale of the original, which may have stated it in a text that the copy does not have. If
    its statements differed, the copy states none of them; an Aperio file has its own in its description.
    """
    if checked.mpp is not None:
        return tags | resolution_tags(checked.mpp)
    return tags if checked.format == "aperio" else {tag: tags[tag] for tag in tags if tag not in RESOLUTION_TAGS}


def _write_copy(original: Original, images: list[PlannedImage], file: BinaryIO) -> None:
    pixels = [image.directory for image in images if image.directory is not None]
    children = [directory for directory, _ in all_directories(original) if is_well_formed(directory)]
    require_separate(pixels, [*dict.fromkeys((*original.directories, *children))])
    writer = TiffWriter(file, output_layout(original.source, original.layout, pixels))
    for image in images:
        if image.directory is None:
            writer.add_image(WHITE_PIXEL | image.tags, writer.add_bytes(b"\xff"), is_tiled=False)
        else:
            ranges = writer.copy_pixels(original.source, image.directory)
            writer.add_image(image.tags, ranges, image.directory.is_tiled)


def tile_ranges(checked: CheckedSlide, limits: SlideLimits) -> Iterator[TileRange]:
    """The tables of each level, then its tiles or strips as far as pixels need them."""
    with open_original(checked, limits) as original:
        for image in PLANS[checked.format](original):
            if image.directory is None:
                continue
            tables = image.directory.entries.get(JPEG_TABLES)
            if tables is not None and JPEG_TABLES in image.tags:
                yield checked.path, tables.offset, tables.length
            for offset, length in pixel_ranges(image.directory):
                used = stored_length(original.source, image.directory, int(offset), int(length)) if length else 0
                yield checked.path, int(offset), used


@contextmanager
def open_original(checked: CheckedSlide, limits: SlideLimits) -> Iterator[Original]:
    """Raises SlideError with all that is wrong, for what is read inside too."""
    with open_source(checked.path) as source:
        try:
            layout, _ = read_layout(source)
            directories = read_directories(source, limits)
            if not source.issues:
                yield Original(source, layout, directories, limits)
        except CheckAbortedError as error:
            source.issues.append(error.issue)
        if source.issues:
            raise SlideError(checked.path.name, source.issues)
