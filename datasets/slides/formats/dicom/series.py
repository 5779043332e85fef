"""Check the VOLUME instances of a DICOM series: those of a folder that belong to one slide, and their pixels."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

from datasets.slides.byte_source import ByteSource, CheckAbortedError, CheckedSlide, open_source
from datasets.slides.errors import SlideError
from datasets.slides.formats.dicom import tags
from datasets.slides.formats.dicom.instance import (
    DicomInstance,
    decimal,
    first_item,
    integer,
    is_dicom,
    items,
    read_instance,
    real,
    text,
)
from datasets.slides.formats.dicom.level import (
    DicomLevel,
    build_level,
    gather_stacks,
    may_be_brightfield,
    order_concatenation,
)
from datasets.slides.limits import SlideLimits
from datasets.slides.scale import ScaleStatement, parse_decimal, resolve_scale, state_magnification, state_scale

# photometric interpretation: samples a pixel
COLOURS = {
    **dict.fromkeys(("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"), 1),
    **dict.fromkeys(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), 3),
}


def check_dicom(source: ByteSource, limits: SlideLimits) -> CheckedSlide | None:
    """Check this instance and all VOLUME instances of its series in the folder.

    Where it is a label, an overview or a thumbnail itself, the VOLUME beside it is what may be opened.
    """
    volumes = read_volumes(source, limits)
    if not volumes and not source.issues:
        source.add_issue("associated_alone", actual=_flavour(source, limits))
    levels = [] if source.issues else build_levels(volumes, source, limits)
    if source.issues:
        return None
    files = tuple(instance.path for level in levels for instance in level.instances)
    sizes = dict.fromkeys(level.size for level in levels)
    scales = state_scales(levels[0], limits)
    return CheckedSlide(files[0], "dicom", tuple(sizes), resolve_scale(scales), files, scales=scales)


def read_volumes(source: ByteSource, limits: SlideLimits) -> list[DicomInstance]:
    """The checked VOLUME instances of the series, each once."""
    instance = read_instance(source, limits)
    series = text(instance.header, tags.SERIES)
    if text(instance.header, tags.SOP_CLASS) != tags.WSI_SOP_CLASS:
        source.add_issue("not_a_slide", actual=text(instance.header, tags.SOP_CLASS) or "unstated")
    if not series:
        source.add_issue("malformed", what="its SeriesInstanceUID", actual="absent", expected="the UID of its series")
    volumes: list[DicomInstance] = []
    if instance.image_flavour == tags.VOLUME:
        check_pixels(instance, source, limits)
        volumes.append(instance)
    for path in [] if source.issues else _other_files(source, limits):
        with suppress(PermissionError), open_source(path) as other_source:  # what may not be read is no part of it
            if not is_dicom(other_source.read_up_to(0, 132)):
                continue
            try:
                other = read_instance(other_source, limits)
            except CheckAbortedError as error:  # a broken file of another series does not matter
                if series.encode() in other_source.read_up_to(0, limits.text_bytes):
                    source.issues.append(error.issue)
                continue
            if (
                text(other.header, tags.SERIES) != series
                or text(other.header, tags.SOP_CLASS) != tags.WSI_SOP_CLASS
                or other.image_flavour != tags.VOLUME
            ):
                continue
            check_pixels(other, other_source, limits)
            source.issues.extend(issue for issue in other_source.issues if issue not in source.issues)
            volumes.append(other)
    identifiers = [text(volume.header, tags.SOP_INSTANCE) or str(volume.path) for volume in volumes]
    return list(dict(zip(reversed(identifiers), reversed(volumes), strict=True)).values())[::-1]


def build_levels(volumes: list[DicomInstance], source: ByteSource, limits: SlideLimits) -> list[DicomLevel]:
    """The levels from the finest. Instances of one concatenation are one level, and so are the focal planes of a stack;
    of instances of several optical paths only the ones in bright field are levels.
    """
    concatenations: dict[str, list[DicomInstance]] = {}
    bright = [volume for volume in volumes if may_be_brightfield(volume)]
    alone: list[DicomInstance] = []
    for volume in bright or volumes:
        identifier = text(volume.header, tags.CONCATENATION)
        (concatenations.setdefault(identifier, []) if identifier else alone).append(volume)
    groups = [(order_concatenation(parts, source), False) for parts in concatenations.values()]
    groups += [(stack, len(stack) > 1) for stack in gather_stacks(alone)]
    built = (build_level(instances, source, limits, is_stack) for instances, is_stack in groups)
    levels = [level for level in built if level is not None]
    levels.sort(key=lambda level: (-level.size[0], level.first.path))
    _check_pyramid(levels, source)
    return levels


def _check_pyramid(levels: list[DicomLevel], source: ByteSource) -> None:
    """Levels show the same field: their sides have the same ratio, up to rounding."""
    if not levels:
        return
    for (width, height), count in Counter(level.size for level in levels).items():
        if count > 1:
            source.add_issue("separate_planes", count=count, width=width, height=height)
    width, height = levels[0].size
    for level in levels[1:]:
        level_width, level_height = level.size
        differs = (
            abs(level_width * height - level_height * width) > 2 * max(width, height) + 0.02 * width * level_height
        )
        if differs:
            sizes = f"{width:,} x {height:,} and {level_width:,} x {level_height:,}"
            source.add_issue("two_images", actual=sizes)


def _flavour(source: ByteSource, limits: SlideLimits) -> str:
    flavour = read_instance(source, limits).image_flavour
    return flavour if flavour in ("LABEL", "OVERVIEW", "THUMBNAIL", "LOCALIZER") else "nameless"


def _other_files(source: ByteSource, limits: SlideLimits) -> list[Path]:
    """Other regular files of the folder; links are not followed, as they may lead outside."""
    folder = source.path.parent
    candidates = sorted(
        path for path in folder.iterdir() if path != source.path and not path.is_symlink() and path.is_file()
    )
    if len(candidates) > limits.files:
        source.add_issue("too_many", what="files in the folder", actual=len(candidates), limit=limits.files)
        return []
    return candidates


def check_pixels(instance: DicomInstance, source: ByteSource, limits: SlideLimits) -> None:
    (width, height), (tile_width, tile_height) = instance.size, instance.tile_size
    label = "the DICOM instance"
    if min(width, height, tile_width, tile_height) < 1:
        source.add_issue("no_size", what=label, width=width or tile_width, height=height or tile_height)
        return
    if width * height > limits.pixels or max(width, height) > limits.side:
        source.add_issue("pixel_bomb", what=label, width=width, height=height, limit=limits.pixels)
    if tile_width * tile_height > limits.tile_pixels:
        source.add_issue("tile_bomb", what=label, width=tile_width, height=tile_height, limit=limits.tile_pixels)
    if instance.frames > limits.tiles:
        source.add_issue("too_many", what="frames", actual=instance.frames, limit=limits.tiles)
    for tag in (tags.BURNED_IN, tags.LABEL_IN_IMAGE):
        if text(instance.header, tag) == "YES":
            source.add_issue(
                "burned_in", actual="SpecimenLabelInImage" if tag == tags.LABEL_IN_IMAGE else "BurnedInAnnotation"
            )
    _check_packing(instance, source)
    if not source.issues and instance.has_pixels:
        _check_stored_bytes(instance, source, limits)


def _check_packing(instance: DicomInstance, source: ByteSource) -> None:
    """Whether the decoder knows this layout of samples; it is refused by its name if not."""
    allocated, stored = instance.bits
    photometric, samples = instance.photometric or ("RGB" if instance.samples == 3 else "MONOCHROME2"), instance.samples
    if COLOURS.get(photometric) != samples:
        known = photometric if photometric.replace("_", "").replace(" ", "").isalnum() else "another"
        actual = f"{known[:16]} with {samples} samples a pixel"
        source.add_issue("packing", actual=actual, expected="RGB, YBR_FULL, MONOCHROME or PALETTE COLOR")
    if allocated not in (8, 16) or not 0 < stored <= allocated or (stored < 8 and allocated > 8):
        source.add_issue("packing", actual=f"{stored} of {allocated} bits", expected="8 bits, or 8 to 16 of 16 bits")
    elif integer(instance.header, tags.HIGH_BIT, stored - 1) != stored - 1 or integer(instance.header, tags.SIGNED):
        source.add_issue("packing", actual="signed or shifted samples", expected="unsigned samples in the low bits")
    if instance.syntax in tags.JPEG and allocated != 8:
        source.add_issue("packing", actual=f"JPEG of {stored} bits", expected="JPEG of 8 bits, or JPEG 2000")
    if (
        photometric == "YBR_FULL_422"
        and instance.syntax not in tags.JPEG
        and not instance.syntax.startswith("1.2.840.10008.1.2.4.")
    ):
        source.add_issue("packing", actual="YBR_FULL_422 without compression", expected="RGB or YBR_FULL")
    if photometric == "PALETTE COLOR" and not all(instance.header.get(tag) for tag in tags.PALETTE_DATA):
        source.add_issue("packing", actual="PALETTE COLOR without its tables", expected="tables that are not segmented")


def _check_stored_bytes(instance: DicomInstance, source: ByteSource, limits: SlideLimits) -> None:
    label, stored = "the DICOM instance", sum(instance.fragment_lengths)
    unpacked = instance.frame_bytes * instance.frames
    count, largest = len(instance.fragment_lengths), max(instance.fragment_lengths, default=0)
    if instance.is_native:
        end = instance.fragment_offsets[0] + stored
        if end > source.size:
            source.add_issue("truncated", what="the pixels", actual=end, end=source.size)
        elif stored < unpacked:
            source.add_issue("size_lies", what=label, actual=stored, expected=unpacked)
    elif largest > limits.tile_bytes:
        source.add_issue("tile_bytes", what="the pixels", actual=largest, limit=limits.tile_bytes)
    elif count < instance.frames:
        source.add_issue("tile_table", what="the pixels", actual=count, expected=instance.frames)
    elif count > instance.frames:
        source.add_issue("fragments", frames=instance.frames, count=count)
    elif stored and unpacked / stored > limits.ratio:
        source.add_issue("ratio", what="the pixels", actual=unpacked / stored, limit=limits.ratio)


def state_scales(level: DicomLevel, limits: SlideLimits) -> tuple[ScaleStatement, ...]:
    """What the finest level states: lengths are in millimetres, spacings with y first."""
    header, (width, height) = level.first.header, level.size
    groups = first_item(header, tags.SHARED_GROUPS)
    measures = first_item(groups, tags.MEASURES) or level.first.positions.measures
    spacing = [parse_decimal(value) for value in text(measures or header, tags.SPACING).split("\\")]
    y, x = spacing if len(spacing) == 2 else (None, None)
    volume = [real(header, tag) for tag in (tags.VOLUME_WIDTH, tags.VOLUME_HEIGHT)]
    path = next(iter(items(header, tags.OPTICAL_PATH)[level.path.index :]), {})
    return (
        *(state_scale("DICOM PixelSpacing", 1_000 * x, 1_000 * y, limits) if x and y else ()),
        *state_scale("DICOM ImagedVolume", 1_000 * volume[0] / width, 1_000 * volume[1] / height, limits),
        *state_magnification("DICOM ObjectiveLensPower", decimal(path, tags.LENS_POWER)),
    )


def read_levels(checked: CheckedSlide, limits: SlideLimits) -> list[DicomLevel]:
    """The levels of a checked slide. Raises SlideError if its files have changed."""
    instances = []
    for path in checked.files:
        with open_source(path) as source:
            instances.append(read_instance(source, limits))
    with open_source(checked.path) as source:
        levels = build_levels(instances, source, limits)
        if source.issues:
            raise SlideError(checked.path.name, source.issues)
    return levels
