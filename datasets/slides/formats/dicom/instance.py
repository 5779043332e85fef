"""Read one DICOM instance: its header, the positions of its frames and where their bytes lie."""

from __future__ import annotations

import math
import struct
from array import array
from dataclasses import dataclass, field
from pathlib import Path

from datasets.slides.byte_source import ByteSource, CheckAbortedError
from datasets.slides.errors import slide_issue
from datasets.slides.formats.dicom import tags
from datasets.slides.formats.dicom.elements import (
    PIXEL_DATA,
    UNDEFINED,
    Cursor,
    Dataset,
    Element,
    Structure,
    read_dataset,
    read_value,
)
from datasets.slides.limits import SlideLimits

NEW_SYNTAXES = {  # which pydicom does not list yet
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}
NO_PATH = ""  # of a frame that names no optical path


@dataclass(slots=True)
class FramePositions:
    """What each frame states about itself; empty for TILED_FULL, where the order of the frames tells it."""

    columns: array[int] = field(default_factory=lambda: array("q"))  # of the total pixel matrix, from 1
    rows: array[int] = field(default_factory=lambda: array("q"))
    z_offsets: array[float] = field(default_factory=lambda: array("d"))  # microns; 0 if unstated
    paths: list[str] = field(default_factory=list)  # identifiers of optical paths, interned
    measures: Dataset = field(default_factory=dict)  # of the first frame

    def append(self, item: Dataset) -> None:
        if not self.columns:
            self.measures = first_item(item, tags.MEASURES)
        position = first_item(item, tags.POSITION)
        self.columns.append(signed(position, tags.COLUMN_POSITION))
        self.rows.append(signed(position, tags.ROW_POSITION))
        self.z_offsets.append(decimal(position, tags.Z_OFFSET) or 0.0)
        path = text(first_item(item, tags.PATH_REFERENCE), tags.OPTICAL_PATH_IDENTIFIER) or NO_PATH
        self.paths.append(self.paths[-1] if self.paths and self.paths[-1] == path else path)


@dataclass(slots=True)
class DicomInstance:
    """fragments: of the stored pixels, one for each frame; one alone of native pixels."""

    path: Path
    syntax: str
    header: Dataset
    positions: FramePositions
    dataset_offset: int
    has_pixels: bool = False
    fragment_offsets: array[int] = field(default_factory=lambda: array("Q"))
    fragment_lengths: array[int] = field(default_factory=lambda: array("Q"))

    @property
    def image_flavour(self) -> str:
        """The third value of the image type: VOLUME, LABEL, OVERVIEW or THUMBNAIL."""
        values = text(self.header, tags.IMAGE_TYPE).split("\\")
        return values[2].strip() if len(values) > 2 else ""

    @property
    def is_native(self) -> bool:
        return self.syntax in tags.NATIVE

    @property
    def frames(self) -> int:
        value = text(self.header, tags.FRAMES)
        return int(value) if value.isdecimal() and len(value) < 12 else 1

    @property
    def size(self) -> tuple[int, int]:
        """Of the total pixel matrix; an image of one frame may leave it out."""
        size = integer(self.header, tags.TOTAL_COLUMNS), integer(self.header, tags.TOTAL_ROWS)
        return self.tile_size if size == (0, 0) and self.frames == 1 else size

    @property
    def tile_size(self) -> tuple[int, int]:
        return integer(self.header, tags.COLUMNS), integer(self.header, tags.ROWS)

    @property
    def samples(self) -> int:
        return integer(self.header, tags.SAMPLES, 1)

    @property
    def photometric(self) -> str:
        return text(self.header, tags.PHOTOMETRIC)

    @property
    def bits(self) -> tuple[int, int]:
        """Bits allocated and stored of a sample."""
        allocated = integer(self.header, tags.BITS_ALLOCATED, 8)
        return allocated, integer(self.header, tags.BITS_STORED, allocated)

    @property
    def frame_bytes(self) -> int:
        """Of a native frame. Every second pixel of YBR_FULL_422 has no chroma."""
        width, height = self.tile_size
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return width * height * samples * ((self.bits[0] + 7) // 8)

    @property
    def height(self) -> float | None:
        """Where its only focal plane lies, in microns; None if it has several or does not say it."""
        groups = first_item(self.header, tags.SHARED_GROUPS)
        stated = [first_item(groups, tags.POSITION), first_item(self.header, tags.ORIGIN)]
        heights = {decimal(position, tags.Z_OFFSET) for position in stated if position.get(tags.Z_OFFSET)}
        heights = heights or {*self.positions.z_offsets}  # which differ where tiles were focused each by itself
        height = heights.pop() if len(heights) == 1 else None
        has_planes = integer(self.header, tags.FOCAL_PLANES, 1) > 1
        return None if height is None or has_planes or not math.isfinite(height) else height

    def frame_range(self, frame: int) -> tuple[int, int]:
        """(offset, length) of the bytes of a frame: its fragment, or its place in native pixels."""
        if self.is_native:
            return self.fragment_offsets[0] + frame * self.frame_bytes, self.frame_bytes
        return self.fragment_offsets[frame], self.fragment_lengths[frame]


def text(dataset: Dataset, tag: int) -> str:
    value = dataset.get(tag, b"")
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else ""


def integer(dataset: Dataset, tag: int, default: int = 0) -> int:
    value = dataset.get(tag, b"")
    return int.from_bytes(value, "little") if isinstance(value, bytes) and 0 < len(value) <= 4 else default


def signed(dataset: Dataset, tag: int) -> int:
    value = dataset.get(tag, b"")
    return int.from_bytes(value, "little", signed=True) if isinstance(value, bytes) and 0 < len(value) <= 4 else 0


def decimal(dataset: Dataset, tag: int) -> float | None:
    """A decimal string; of several values None."""
    try:
        return float(text(dataset, tag))
    except ValueError:
        return None


def real(dataset: Dataset, tag: int) -> float:
    """A binary float; 0 if there is none."""
    value = dataset.get(tag, b"")
    number = struct.unpack("<f", value)[0] if isinstance(value, bytes) and len(value) == 4 else 0.0
    return float(number) if math.isfinite(number) else 0.0


def items(dataset: Dataset, tag: int) -> list[Dataset]:
    value = dataset.get(tag, [])
    return value if isinstance(value, list) else []


def first_item(dataset: Dataset, tag: int) -> Dataset:
    return next(iter(items(dataset, tag)), {})


def is_dicom(head: bytes) -> bool:
    return head[128:132] == b"DICM"


def read_header(source: ByteSource, limits: SlideLimits, structure: Structure) -> Dataset:
    """The values of `structure` that stand before the pixels of a checked instance."""
    syntax, offset = read_file_meta(source, limits)
    cursor = Cursor(source, offset, syntax != tags.IMPLICIT, limits)
    header: Dataset = {}
    for element in cursor.elements(source.size):
        if element.tag == PIXEL_DATA:
            break
        if element.tag in structure and element.tag not in header:
            header[element.tag] = read_value(cursor, element, structure[element.tag])
    return header


def read_instance(source: ByteSource, limits: SlideLimits) -> DicomInstance:
    """Read an instance up to the end of its pixels."""
    syntax, offset = read_file_meta(source, limits)
    if syntax not in tags.READ_SYNTAXES:
        expected = "little endian, RLE, JPEG, JPEG-LS, JPEG 2000 or HTJ2K frames; convert the series to one of them"
        raise CheckAbortedError(slide_issue("packing", actual=name_syntax(syntax), expected=expected))
    cursor = Cursor(source, offset, syntax != tags.IMPLICIT, limits)
    instance = DicomInstance(source.path, syntax, {}, FramePositions(), offset)
    for element in cursor.elements(source.size):
        if instance.has_pixels:
            # What follows native pixels must be elements: otherwise bytes are missing, and their end, as their length
            # tells it, is something else.
            continue
        if element.tag == PIXEL_DATA:
            _read_pixel_data(cursor, element, instance)
            end = element.offset + element.length
            if not instance.is_native or not source.read_up_to(end, limits.text_bytes).strip(b"\0"):
                break
        if element.tag == tags.FRAME_GROUPS and cursor.is_sequence(element):
            for end in cursor.items(element):
                instance.positions.append(read_dataset(cursor, end, tags.GROUPS))
        elif element.tag in tags.HEADER_AND_HEIGHT and element.tag not in instance.header:
            instance.header[element.tag] = read_value(cursor, element, tags.HEADER_AND_HEIGHT[element.tag])
    if not instance.has_pixels:
        source.add_issue("no_pixels", what="the DICOM instance")
    return instance


def read_file_meta(source: ByteSource, limits: SlideLimits) -> tuple[str, int]:
    """The transfer syntax, and the offset of the data set."""
    head = source.read(132, 12, "the DICOM file header")
    if head[:4] != b"\x02\0\0\0" or head[4:6] != b"UL":
        raise CheckAbortedError(
            slide_issue("malformed", what="the DICOM file header", actual=head[:6].hex(), expected="group 0002")
        )
    end = 144 + int.from_bytes(head[8:12], "little")
    meta = read_dataset(Cursor(source, 144, True, limits), min(end, source.size), {tags.TRANSFER_SYNTAX: None})
    return text(meta, tags.TRANSFER_SYNTAX), end


def name_syntax(syntax: str) -> str:
    """The standard's name of a transfer syntax."""
    from pydicom.uid import UID

    if not syntax or not syntax.replace(".", "").isdecimal():
        return "an unstated transfer syntax"
    return NEW_SYNTAXES.get(syntax) or UID(syntax, 0).name


def _read_pixel_data(cursor: Cursor, element: Element, instance: DicomInstance) -> None:
    """Note where the pixels lie."""
    instance.has_pixels = True
    if instance.is_native != (element.length != UNDEFINED):
        actual = "encapsulated" if element.length == UNDEFINED else "not encapsulated"
        raise CheckAbortedError(
            slide_issue("malformed", what="the pixel data", actual=actual, expected=name_syntax(instance.syntax))
        )
    fragments = iter([(element.offset, element.length)])
    if not instance.is_native:
        fragments = cursor.fragments(element)
        next(fragments, None)  # the table of offsets, which the fragments themselves tell
    for offset, length in fragments:
        instance.fragment_offsets.append(offset)
        instance.fragment_lengths.append(length)
