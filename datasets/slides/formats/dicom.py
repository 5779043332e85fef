"""Check DICOM whole-slide instances by walking their tags without decoding, and find the others of their series."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from datasets.slides.byte_source import ByteSource, CheckAbortedError, CheckedSlide, open_source
from datasets.slides.errors import slide_issue
from datasets.slides.limits import SlideLimits
from datasets.slides.scale import plausible_scale

WSI_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"
IMPLICIT_SYNTAX, NATIVE_SYNTAXES = "1.2.840.10008.1.2", ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
ENCAPSULATED_PREFIX = "1.2.840.10008.1.2.4."  # the JPEG family
LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
TRANSFER_SYNTAX, SOP_CLASS, IMAGE_TYPE, SERIES = (0x0002, 0x0010), (0x0008, 0x0016), (0x0008, 0x0008), (0x0020, 0x000E)
SAMPLES, FRAMES, ROWS, COLUMNS, BITS = (0x28, 2), (0x28, 8), (0x28, 0x10), (0x28, 0x11), (0x28, 0x100)
SPACING, TOTAL_COLUMNS, TOTAL_ROWS, PIXELS = (0x28, 0x30), (0x48, 6), (0x48, 7), (0x7FE0, 0x10)
ORGANISATION, SHARED = (0x0020, 0x9311), (0x5200, 0x9229)
READ_TAGS = {
    SOP_CLASS,
    IMAGE_TYPE,
    SERIES,
    SAMPLES,
    FRAMES,
    ROWS,
    COLUMNS,
    BITS,
    SPACING,
    TOTAL_COLUMNS,
    TOTAL_ROWS,
    ORGANISATION,
}
ITEM, ITEM_ENDS, SEQUENCE_ENDS, UNDEFINED = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD), 0xFFFFFFFF
VOLUME = "VOLUME"
TEXT_VRS = {
    b"AE",
    b"AS",
    b"CS",
    b"DA",
    b"DT",
    b"LO",
    b"LT",
    b"PN",
    b"SH",
    b"ST",
    b"TM",
    b"UC",
    b"UT",
    b"",
}  # b"": unstated
# Attributes that may identify patient, staff, time and place: those that the Basic Profile of PS3.15 empties.
# Complete groups: patient, trial, visit, procedure, container and specimen, results; odd groups are private.
PERSONAL_GROUPS = {0x0010, 0x0012, 0x0032, 0x0038, 0x0040, 0x4008}
PERSONAL_TAGS = {
    *(
        (0x0008, element)
        for element in (0x12, 0x13, 0x14, 0x20, 0x21, 0x22, 0x23, 0x2A, 0x30, 0x31, 0x32, 0x33, 0x50, 0x80)
    ),
    *((0x0008, each) for each in (0x81, 0x90, 0x92, 0x94, 0x201, 0x1010, 0x1030, 0x1032, 0x103E, 0x1040, 0x1048)),
    *((0x0008, each) for each in (0x1049, 0x1050, 0x1060, 0x1070, 0x1080, 0x1084, 0x1110, 0x1111, 0x1115, 0x2111)),
    *((0x0018, each) for each in (0x1000, 0x1004, 0x1012, 0x1014, 0x1030, 0x1400, 0x4000)),
    *((0x0020, each) for each in (0x10, 0x4000)),
    (0x0400, 0x0561),
}


@dataclass(slots=True)
class DicomInstance:
    """The tags in use, as raw bytes. fragments, stored_bytes: of encapsulated pixels."""

    syntax: str = ""
    tags: dict[tuple[int, int], bytes] = field(default_factory=dict)
    elements: int = 0
    has_pixels: bool = False
    fragments: int = 0
    largest_fragment: int = 0
    stored_bytes: int = 0
    personal_values: list[tuple[int, int]] = field(default_factory=list)  # (offset, length) of texts about people

    def get_text(self, tag: tuple[int, int]) -> str:
        return self.tags.get(tag, b"").decode("ascii", "replace").strip(" \0")

    def get_int(self, tag: tuple[int, int], default: int = 0) -> int:
        return int.from_bytes(self.tags[tag][:4], "little") if self.tags.get(tag) else default

    @property
    def image_flavour(self) -> str:
        """The third value of the image type: VOLUME, LABEL, OVERVIEW or THUMBNAIL."""
        values = self.get_text(IMAGE_TYPE).split("\\")
        return values[2].strip() if len(values) > 2 else ""

    @property
    def frames(self) -> int:
        value = self.get_text(FRAMES)
        return int(value) if value.isdecimal() else 1


def is_personal(tag: tuple[int, int]) -> bool:
    return tag in PERSONAL_TAGS or tag[0] in PERSONAL_GROUPS or bool(tag[0] % 2)


def is_dicom(head: bytes) -> bool:
    return head[128:132] == b"DICM"


def check_dicom(source: ByteSource, limits: SlideLimits) -> CheckedSlide | None:
    """Check this instance and all VOLUME instances of its series in the folder, which OpenSlide would read too.

    Where it is a label, an overview or a thumbnail itself, the VOLUME beside it is what may be opened.
    """
    instance = read_instance(source, limits)
    volumes: list[tuple[Path, DicomInstance]] = []
    if instance.get_text(SOP_CLASS) != WSI_SOP_CLASS:
        source.add_issue("not_a_slide", actual=instance.get_text(SOP_CLASS) or "unstated")
    if instance.image_flavour == VOLUME:
        check_pixels(instance, source, limits)
        volumes.append((source.path, instance))
    for path in [] if source.issues else _other_files(source, limits):
        with open_source(path) as other_source:
            if not is_dicom(other_source.read_up_to(0, 132)):
                continue
            try:
                other_instance = read_instance(other_source, limits)
            except CheckAbortedError as error:  # a broken file of another series does not matter
                if instance.get_text(SERIES).encode() in other_source.read_up_to(0, limits.text_bytes):
                    source.issues.append(error.issue)
                continue
            if (
                other_instance.get_text(SERIES) != instance.get_text(SERIES)
                or other_instance.get_text(SOP_CLASS) != WSI_SOP_CLASS
                or other_instance.image_flavour != VOLUME
            ):
                continue
            check_pixels(other_instance, other_source, limits)
            source.issues.extend(issue for issue in other_source.issues if issue not in source.issues)
            volumes.append((path, other_instance))
    if not volumes:
        if not source.issues:
            source.add_issue("associated_alone", actual=instance.image_flavour or "nameless")
        return None
    volumes.sort(key=lambda volume: (-volume[1].get_int(TOTAL_COLUMNS), volume[0]))
    sizes = dict.fromkeys(
        (volume_instance.get_int(TOTAL_COLUMNS), volume_instance.get_int(TOTAL_ROWS)) for _, volume_instance in volumes
    )
    files = tuple(path for path, _ in volumes)
    return CheckedSlide(files[0], "dicom", tuple(sizes), pixel_scale(volumes[0][1], limits), files)


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


def read_instance(source: ByteSource, limits: SlideLimits) -> DicomInstance:
    instance = DicomInstance()
    head = source.read(132, 12, "the DICOM file header")
    if head[:4] != b"\x02\0\0\0" or head[4:6] != b"UL":
        raise CheckAbortedError(
            slide_issue("malformed", what="the DICOM file header", actual=head[:6].hex(), expected="group 0002")
        )
    end = 144 + int.from_bytes(head[8:12], "little")
    offset = 144
    while offset < end:
        tag, _, length, offset = _read_element(source, offset, explicit=True)
        if tag == TRANSFER_SYNTAX and length <= 64:
            instance.syntax = source.read(offset, length, "the transfer syntax").decode("ascii", "replace").strip("\0 ")
        offset += length
    if instance.syntax not in NATIVE_SYNTAXES and not instance.syntax.startswith(ENCAPSULATED_PREFIX):
        expected = "little endian, or JPEG or JPEG 2000 frames"
        raise CheckAbortedError(slide_issue("packing", actual=instance.syntax or "unstated", expected=expected))
    _read_elements(source, instance, end, source.size, limits, 0)
    if not instance.has_pixels:
        source.add_issue("no_pixels", what="the DICOM instance")
    return instance


def _read_element(source: ByteSource, offset: int, explicit: bool) -> tuple[tuple[int, int], bytes, int, int]:
    """Tag, value representation, length, and offset of the value."""
    head = source.read(offset, 8, "a DICOM element")
    tag: tuple[int, int] = struct.unpack("<HH", head[:4])
    if not explicit or tag[0] == 0xFFFE:
        return tag, b"", int.from_bytes(head[4:], "little"), offset + 8
    if head[4:6] in LONG_VRS:
        length = int.from_bytes(source.read(offset + 8, 4, "a DICOM element"), "little")
        return tag, head[4:6], length, offset + 12
    return tag, head[4:6], int.from_bytes(head[6:8], "little"), offset + 8


def _read_elements(
    source: ByteSource,
    instance: DicomInstance,
    offset: int,
    end: int,
    limits: SlideLimits,
    depth: int,
    is_in_personal: bool = False,
) -> int:
    """Read elements up to `end` or an item delimiter; return the offset after them. personal: all values are
    personal.
    """
    if depth > limits.depth:
        raise CheckAbortedError(
            slide_issue("too_many", what="nested DICOM sequences", actual=depth, limit=limits.depth)
        )
    explicit = instance.syntax != IMPLICIT_SYNTAX
    while offset < end:
        tag, kind, length, value_offset = _read_element(source, offset, explicit)
        instance.elements += 1
        if instance.elements > limits.elements:
            raise CheckAbortedError(
                slide_issue("too_many", what="DICOM elements", actual=instance.elements, limit=limits.elements)
            )
        if tag in (ITEM_ENDS, SEQUENCE_ENDS):
            return value_offset
        if tag == PIXELS and depth == 0:
            return _read_pixel_data(source, instance, value_offset, length, limits)
        is_personal_value = is_in_personal or is_personal(tag)
        has_items = kind == b"SQ" or (
            kind == b"" and is_personal_value and source.read_up_to(value_offset, 4) == b"\xfe\xff\x00\xe0"
        )
        if (
            length == UNDEFINED
            or (tag == SHARED and kind in (b"SQ", b""))
            or (has_items and (depth or is_personal_value))
        ):
            offset = _read_items(source, instance, value_offset, length, limits, depth, is_personal_value)
            continue
        if value_offset + length > end:
            raise CheckAbortedError(
                slide_issue(
                    "truncated", what=f"DICOM element {tag[0]:04x},{tag[1]:04x}", actual=value_offset + length, end=end
                )
            )
        if is_personal_value and length and (kind in TEXT_VRS or tag[0] % 2):
            instance.personal_values.append((value_offset, length))
        if tag in READ_TAGS and length <= 1024 and (depth == 0 or tag == SPACING):
            instance.tags.setdefault(tag, source.read(value_offset, length, "a DICOM element"))
        offset = value_offset + length
    return offset


def _read_items(
    source: ByteSource,
    instance: DicomInstance,
    offset: int,
    length: int,
    limits: SlideLimits,
    depth: int,
    is_in_personal: bool,
) -> int:
    end = source.size if length == UNDEFINED else offset + length
    if end > source.size:
        raise CheckAbortedError(slide_issue("truncated", what="a DICOM sequence", actual=end, end=source.size))
    while offset < end:
        tag, _, item_length, value_offset = _read_element(source, offset, explicit=False)
        if tag == SEQUENCE_ENDS:
            return value_offset
        if tag != ITEM:
            actual = f"{tag[0]:04x},{tag[1]:04x}"
            raise CheckAbortedError(
                slide_issue("malformed", what=f"byte {offset:,} of the DICOM", actual=actual, expected="an item")
            )
        instance.elements += 1
        item_end = end if item_length == UNDEFINED else min(value_offset + item_length, end)
        offset = _read_elements(source, instance, value_offset, item_end, limits, depth + 1, is_in_personal)
    return offset


def _read_pixel_data(source: ByteSource, instance: DicomInstance, offset: int, length: int, limits: SlideLimits) -> int:
    """Measure the pixels: native ones have a length, encapsulated ones are fragments, the first of which is a table."""
    instance.has_pixels = True
    if length != UNDEFINED:
        instance.stored_bytes = length
        if offset + length > source.size:
            source.add_issue("truncated", what="the pixels", actual=offset + length, end=source.size)
        return offset + length
    is_offset_table = True
    while True:
        tag, _, item_length, value_offset = _read_element(source, offset, explicit=False)
        if tag == SEQUENCE_ENDS:
            return value_offset
        if tag != ITEM or value_offset + item_length > source.size:
            raise CheckAbortedError(
                slide_issue("truncated", what="a frame", actual=value_offset + item_length, end=source.size)
            )
        if not is_offset_table:
            instance.fragments += 1
            instance.stored_bytes += item_length
            instance.largest_fragment = max(instance.largest_fragment, item_length)
        is_offset_table, offset = False, value_offset + item_length
        if instance.fragments > limits.elements:
            raise CheckAbortedError(
                slide_issue("too_many", what="frames", actual=instance.fragments, limit=limits.elements)
            )


def check_pixels(instance: DicomInstance, source: ByteSource, limits: SlideLimits) -> None:
    width, height = instance.get_int(TOTAL_COLUMNS), instance.get_int(TOTAL_ROWS)
    tile_width, tile_height, frames = instance.get_int(COLUMNS), instance.get_int(ROWS), instance.frames
    if min(width, height, tile_width, tile_height) < 1:
        source.add_issue("no_size", what="the DICOM instance", width=width or tile_width, height=height or tile_height)
        return
    if width * height > limits.pixels or max(width, height) > limits.side:
        source.add_issue("pixel_bomb", what="the DICOM instance", width=width, height=height, limit=limits.pixels)
    if tile_width * tile_height > limits.tile_pixels:
        label = "the DICOM instance"
        source.add_issue("tile_bomb", what=label, width=tile_width, height=tile_height, limit=limits.tile_pixels)
    if instance.largest_fragment > limits.tile_bytes:
        source.add_issue("tile_bytes", what="the pixels", actual=instance.largest_fragment, limit=limits.tile_bytes)
    if frames > limits.tiles:
        source.add_issue("too_many", what="frames", actual=frames, limit=limits.tiles)
    bits = instance.get_int(BITS, 8)
    if bits != 8:
        source.add_issue("packing", actual=f"{bits} bits a channel", expected="8 bits")
    expected_frames = -(-width // tile_width) * -(-height // tile_height)
    if instance.get_text(ORGANISATION) == "TILED_FULL" and frames < expected_frames:
        source.add_issue("tile_table", what="the DICOM instance", actual=frames, expected=expected_frames)
    unpacked_bytes = tile_width * tile_height * instance.get_int(SAMPLES, 1) * frames
    if instance.syntax in NATIVE_SYNTAXES:
        if instance.has_pixels and instance.stored_bytes < unpacked_bytes:
            source.add_issue(
                "size_lies", what="the DICOM instance", actual=instance.stored_bytes, expected=unpacked_bytes
            )
    elif instance.has_pixels and instance.fragments < frames:
        source.add_issue("tile_table", what="the pixels", actual=instance.fragments, expected=frames)
    elif instance.stored_bytes and unpacked_bytes / instance.stored_bytes > limits.ratio:
        source.add_issue("ratio", what="the pixels", actual=unpacked_bytes / instance.stored_bytes, limit=limits.ratio)


def pixel_scale(instance: DicomInstance, limits: SlideLimits) -> tuple[float, float] | None:
    """Microns per pixel (x, y) from the pixel spacing, which is in millimetres with y first."""
    try:
        y, x = (1_000 * float(value) for value in instance.get_text(SPACING).split("\\"))
    except ValueError:
        return None
    return plausible_scale(x, y, limits)
