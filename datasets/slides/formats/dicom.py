"""DICOM whole-slide instances: their tags, walked without decoding, and the other instances of their series."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from datasets.slides.byte_source import Ends, Found, Source, opened
from datasets.slides.errors import fault
from datasets.slides.formats.tiff import plausible
from datasets.slides.limits import Limits

WSI = "1.2.840.10008.5.1.4.1.1.77.1.6"
IMPLICIT, NATIVE = "1.2.840.10008.1.2", ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
ENCAPSULATED = "1.2.840.10008.1.2.4."  # the JPEG family
LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
SYNTAX, CLASS, KIND, SERIES = (0x0002, 0x0010), (0x0008, 0x0016), (0x0008, 0x0008), (0x0020, 0x000E)
SAMPLES, FRAMES, ROWS, COLUMNS, BITS = (0x28, 2), (0x28, 8), (0x28, 0x10), (0x28, 0x11), (0x28, 0x100)
SPACING, TOTAL_COLUMNS, TOTAL_ROWS, PIXELS = (0x28, 0x30), (0x48, 6), (0x48, 7), (0x7FE0, 0x10)
ORGANISATION, SHARED = (0x0020, 0x9311), (0x5200, 0x9229)
KEPT = {CLASS, KIND, SERIES, SAMPLES, FRAMES, ROWS, COLUMNS, BITS, SPACING, TOTAL_COLUMNS, TOTAL_ROWS, ORGANISATION}
ITEM, ITEM_ENDS, SEQUENCE_ENDS, UNDEFINED = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD), 0xFFFFFFFF
VOLUME = "VOLUME"
WORDS = {
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
# What may say who the patient is, who treated them, when and where: the attributes that PS3.15's Basic Profile empties.
# Whole groups are: patient, trial, visit, procedure, container and specimen, results; odd ones are a maker's own.
PERSONAL_GROUPS = {0x0010, 0x0012, 0x0032, 0x0038, 0x0040, 0x4008}
PERSONAL = {
    *((0x0008, each) for each in (0x12, 0x13, 0x14, 0x20, 0x21, 0x22, 0x23, 0x2A, 0x30, 0x31, 0x32, 0x33, 0x50, 0x80)),
    *((0x0008, each) for each in (0x81, 0x90, 0x92, 0x94, 0x201, 0x1010, 0x1030, 0x1032, 0x103E, 0x1040, 0x1048)),
    *((0x0008, each) for each in (0x1049, 0x1050, 0x1060, 0x1070, 0x1080, 0x1084, 0x1110, 0x1111, 0x1115, 0x2111)),
    *((0x0018, each) for each in (0x1000, 0x1004, 0x1012, 0x1014, 0x1030, 0x1400, 0x4000)),
    *((0x0020, each) for each in (0x10, 0x4000)),
    (0x0400, 0x0561),
}


@dataclass(slots=True)
class Instance:
    """The tags that are used, as raw bytes; `fragments` and `stored` describe encapsulated pixels."""

    syntax: str = ""
    tags: dict[tuple[int, int], bytes] = field(default_factory=dict)
    elements: int = 0
    pixels: bool = False
    fragments: int = 0
    largest: int = 0
    stored: int = 0
    personal: list[tuple[int, int]] = field(default_factory=list)  # (offset, length) of words about people

    def text(self, tag: tuple[int, int]) -> str:
        return self.tags.get(tag, b"").decode("ascii", "replace").strip(" \0")

    def number(self, tag: tuple[int, int], default: int = 0) -> int:
        return int.from_bytes(self.tags[tag][:4], "little") if self.tags.get(tag) else default

    @property
    def flavour(self) -> str:
        """VOLUME, or LABEL, OVERVIEW, THUMBNAIL: the third value of the image type."""
        parts = self.text(KIND).split("\\")
        return parts[2].strip() if len(parts) > 2 else ""

    @property
    def frames(self) -> int:
        value = self.text(FRAMES)
        return int(value) if value.isdecimal() else 1


def is_personal(tag: tuple[int, int]) -> bool:
    return tag in PERSONAL or tag[0] in PERSONAL_GROUPS or bool(tag[0] % 2)


def is_dicom(head: bytes) -> bool:
    return head[128:132] == b"DICM"


def check(source: Source, limits: Limits) -> Found | None:
    """Checks this instance and every VOLUME of its series in the folder, which OpenSlide would read as well.

    Where it is a label, an overview or a thumbnail itself, the VOLUME beside it is what may be opened.
    """
    instance = read_instance(source, limits)
    volumes: list[tuple[Path, Instance]] = []
    if instance.text(CLASS) != WSI:
        source.wrong("not_a_slide", found=instance.text(CLASS) or "unstated")
    if instance.flavour == VOLUME:
        check_pixels(instance, source, limits)
        volumes.append((source.path, instance))
    for path in [] if source.faults else _neighbours(source, limits):
        with opened(path) as beside:
            if not is_dicom(beside.some(0, 132)):
                continue
            try:
                other = read_instance(beside, limits)
            except Ends as end:  # a broken file of another series is none of ours
                if instance.text(SERIES).encode() in beside.some(0, limits.text_bytes):
                    source.faults.append(end.reason)
                continue
            if other.text(SERIES) != instance.text(SERIES) or other.text(CLASS) != WSI or other.flavour != VOLUME:
                continue
            check_pixels(other, beside, limits)
            source.faults.extend(each for each in beside.faults if each not in source.faults)
            volumes.append((path, other))
    if not volumes:
        if not source.faults:
            source.wrong("associated_alone", found=instance.flavour or "nameless")
        return None
    volumes.sort(key=lambda volume: (-volume[1].number(TOTAL_COLUMNS), volume[0]))
    sizes = dict.fromkeys((each.number(TOTAL_COLUMNS), each.number(TOTAL_ROWS)) for _, each in volumes)
    files = tuple(path for path, _ in volumes)
    return Found(files[0], "dicom", tuple(sizes), scale(volumes[0][1], limits), files)


def _neighbours(source: Source, limits: Limits) -> list[Path]:
    """Other plain files of the folder; a link is not followed, as it may lead out of it."""
    folder = source.path.parent
    paths = sorted(
        path for path in folder.iterdir() if path != source.path and not path.is_symlink() and path.is_file()
    )
    if len(paths) > limits.files:
        source.wrong("too_many", what="files in the folder", found=len(paths), most=limits.files)
        return []
    return paths


def read_instance(source: Source, limits: Limits) -> Instance:
    instance = Instance()
    head = source.read(132, 12, "the DICOM file header")
    if head[:4] != b"\x02\0\0\0" or head[4:6] != b"UL":
        raise Ends(fault("malformed", what="the DICOM file header", found=head[:6].hex(), needed="group 0002"))
    end = 144 + int.from_bytes(head[8:12], "little")
    at = 144
    while at < end:
        tag, _, length, at = _element(source, at, explicit=True)
        if tag == SYNTAX and length <= 64:
            instance.syntax = source.read(at, length, "the transfer syntax").decode("ascii", "replace").strip("\0 ")
        at += length
    if instance.syntax not in NATIVE and not instance.syntax.startswith(ENCAPSULATED):
        needed = "little endian, or JPEG or JPEG 2000 frames"
        raise Ends(fault("packing", found=instance.syntax or "unstated", needed=needed))
    _walk(source, instance, end, source.size, limits, 0)
    if not instance.pixels:
        source.wrong("no_pixels", what="the DICOM instance")
    return instance


def _element(source: Source, at: int, explicit: bool) -> tuple[tuple[int, int], bytes, int, int]:
    """Tag, value representation, length, and where the value begins."""
    head = source.read(at, 8, "a DICOM element")
    tag: tuple[int, int] = struct.unpack("<HH", head[:4])
    if not explicit or tag[0] == 0xFFFE:
        return tag, b"", int.from_bytes(head[4:], "little"), at + 8
    if head[4:6] in LONG:
        length = int.from_bytes(source.read(at + 8, 4, "a DICOM element"), "little")
        return tag, head[4:6], length, at + 12
    return tag, head[4:6], int.from_bytes(head[6:8], "little"), at + 8


def _walk(
    source: Source, instance: Instance, at: int, end: int, limits: Limits, depth: int, personal: bool = False
) -> int:
    """Reads elements until `end` or the delimiter of an item; returns where it stopped. `personal`: all inside is."""
    if depth > limits.depth:
        raise Ends(fault("too_many", what="nested DICOM sequences", found=depth, most=limits.depth))
    explicit = instance.syntax != IMPLICIT
    while at < end:
        tag, kind, length, value = _element(source, at, explicit)
        instance.elements += 1
        if instance.elements > limits.elements:
            raise Ends(fault("too_many", what="DICOM elements", found=instance.elements, most=limits.elements))
        if tag in (ITEM_ENDS, SEQUENCE_ENDS):
            return value
        if tag == PIXELS and depth == 0:
            return _pixels(source, instance, value, length, limits)
        told = personal or is_personal(tag)
        inside = kind == b"SQ" or (kind == b"" and told and source.some(value, 4) == b"\xfe\xff\x00\xe0")
        if length == UNDEFINED or (tag == SHARED and kind in (b"SQ", b"")) or (inside and (depth or told)):
            at = _items(source, instance, value, length, limits, depth, told)
            continue
        if value + length > end:
            raise Ends(
                fault("truncated", what=f"DICOM element {tag[0]:04x},{tag[1]:04x}", found=value + length, end=end)
            )
        if told and length and (kind in WORDS or tag[0] % 2):
            instance.personal.append((value, length))
        if tag in KEPT and length <= 1024 and (depth == 0 or tag == SPACING):
            instance.tags.setdefault(tag, source.read(value, length, "a DICOM element"))
        at = value + length
    return at


def _items(source: Source, instance: Instance, at: int, length: int, limits: Limits, depth: int, personal: bool) -> int:
    end = source.size if length == UNDEFINED else at + length
    if end > source.size:
        raise Ends(fault("truncated", what="a DICOM sequence", found=end, end=source.size))
    while at < end:
        tag, _, inner, value = _element(source, at, explicit=False)
        if tag == SEQUENCE_ENDS:
            return value
        if tag != ITEM:
            found = f"{tag[0]:04x},{tag[1]:04x}"
            raise Ends(fault("malformed", what=f"byte {at:,} of the DICOM", found=found, needed="an item"))
        instance.elements += 1
        stop = end if inner == UNDEFINED else min(value + inner, end)
        at = _walk(source, instance, value, stop, limits, depth + 1, personal)
    return at


def _pixels(source: Source, instance: Instance, at: int, length: int, limits: Limits) -> int:
    """Native pixels have a length; encapsulated ones are a list of fragments, of which the first is a table."""
    instance.pixels = True
    if length != UNDEFINED:
        instance.stored = length
        if at + length > source.size:
            source.wrong("truncated", what="the pixels", found=at + length, end=source.size)
        return at + length
    first = True
    while True:
        tag, _, inner, value = _element(source, at, explicit=False)
        if tag == SEQUENCE_ENDS:
            return value
        if tag != ITEM or value + inner > source.size:
            raise Ends(fault("truncated", what="a frame", found=value + inner, end=source.size))
        if not first:
            instance.fragments += 1
            instance.stored += inner
            instance.largest = max(instance.largest, inner)
        first, at = False, value + inner
        if instance.fragments > limits.elements:
            raise Ends(fault("too_many", what="frames", found=instance.fragments, most=limits.elements))


def check_pixels(instance: Instance, source: Source, limits: Limits) -> None:
    width, height = instance.number(TOTAL_COLUMNS), instance.number(TOTAL_ROWS)
    across, down, frames = instance.number(COLUMNS), instance.number(ROWS), instance.frames
    if min(width, height, across, down) < 1:
        source.wrong("no_size", what="the DICOM instance", width=width or across, height=height or down)
        return
    if width * height > limits.pixels or max(width, height) > limits.side:
        source.wrong("pixel_bomb", what="the DICOM instance", width=width, height=height, most=limits.pixels)
    if across * down > limits.tile_pixels:
        what = "the DICOM instance"
        source.wrong("tile_bomb", what=what, width=across, height=down, most=limits.tile_pixels)
    if instance.largest > limits.tile_bytes:
        source.wrong("tile_bytes", what="the pixels", found=instance.largest, most=limits.tile_bytes)
    if frames > limits.tiles:
        source.wrong("too_many", what="frames", found=frames, most=limits.tiles)
    bits = instance.number(BITS, 8)
    if bits != 8:
        source.wrong("packing", found=f"{bits} bits a channel", needed="8 bits")
    needed = -(-width // across) * -(-height // down)
    if instance.text(ORGANISATION) == "TILED_FULL" and frames < needed:
        source.wrong("tile_table", what="the DICOM instance", found=frames, needed=needed)
    unpacked = across * down * instance.number(SAMPLES, 1) * frames
    if instance.syntax in NATIVE:
        if instance.pixels and instance.stored < unpacked:
            source.wrong("size_lies", what="the DICOM instance", found=instance.stored, needed=unpacked)
    elif instance.pixels and instance.fragments < frames:
        source.wrong("tile_table", what="the pixels", found=instance.fragments, needed=frames)
    elif instance.stored and unpacked / instance.stored > limits.ratio:
        source.wrong("ratio", what="the pixels", found=unpacked / instance.stored, most=limits.ratio)


def scale(instance: Instance, limits: Limits) -> tuple[float, float] | None:
    """Pixel spacing is given in millimetres, rows (y) first."""
    try:
        y, x = (1_000 * float(part) for part in instance.text(SPACING).split("\\"))
    except ValueError:
        return None
    return plausible(x, y, limits)
