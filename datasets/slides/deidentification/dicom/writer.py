"""Write a DICOM file of one level: its header, the positions of its frames, and its frames one after another."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from datasets.slides.byte_source import ByteSource, CheckAbortedError, open_source
from datasets.slides.deidentification.codestream import clean_j2k, clean_jpeg
from datasets.slides.deidentification.dicom.attributes import FRAME_GROUPS
from datasets.slides.deidentification.dicom.rules import CopyDataset, rebuild, structure_of
from datasets.slides.errors import slide_issue
from datasets.slides.formats.dicom import tags
from datasets.slides.formats.dicom.elements import (
    ITEM,
    LONG_VRS,
    PIXEL_DATA,
    SEQUENCE_END,
    UNDEFINED,
    Cursor,
    read_dataset,
)
from datasets.slides.formats.dicom.instance import DicomInstance, name_syntax
from datasets.slides.formats.dicom.level import DicomLevel
from datasets.slides.limits import SlideLimits

IMPLEMENTATION = b"2.25.302863291287391861318937201498250937716"  # of this writer
PADDING = {"UI": b"\0", "OB": b"\0", "OW": b"\0", "UN": b"\0"}  # all others end with a blank
EXTENDED_OFFSETS, EXTENDED_LENGTHS = 0x7FE0_0001, 0x7FE0_0002
BLOCK_BYTES = 1 << 20


def encode(dataset: CopyDataset) -> bytes:
    """Explicit little endian, by ascending tag; sequences and items have a length."""
    return b"".join(encode_element(tag, vr, value) for tag, (vr, value) in sorted(dataset.items()))


def encode_element(tag: int, vr: str, value: bytes | list[CopyDataset]) -> bytes:
    if isinstance(value, list):
        value = b"".join(_item(encode(item)) for item in value)
    elif len(value) % 2:
        value += PADDING.get(vr, b" ")
    return _head(tag, vr, len(value)) + value


def _head(tag: int, vr: str, length: int) -> bytes:
    if vr in LONG_VRS:
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length)


def _delimiter(tag: int, length: int = 0) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)


def _item(content: bytes) -> bytes:
    return _delimiter(ITEM, len(content)) + content


def write_level(file: BinaryIO, level: DicomLevel, header: CopyDataset, limits: SlideLimits, key: bytes) -> None:
    """The file of a level. The header has every attribute that stands before the pixels, except groups of frames."""
    file.write(bytes(128) + b"DICM" + _file_meta(level.first.syntax, header))
    file.write(encode(header))
    if level.table is not None:
        _write_frame_groups(file, level, limits, key)
    if level.first.is_native:
        _write_native(file, level)
    else:
        _write_encapsulated(file, level)


def _file_meta(syntax: str, header: CopyDataset) -> bytes:
    """A native image in implicit VR becomes explicit; frames keep their encoding."""
    meta: CopyDataset = {
        0x0002_0001: ("OB", b"\0\1"),
        0x0002_0002: header[tags.SOP_CLASS],
        0x0002_0003: header[tags.SOP_INSTANCE],
        tags.TRANSFER_SYNTAX: ("UI", (tags.EXPLICIT if syntax == tags.IMPLICIT else syntax).encode()),
        0x0002_0012: ("UI", IMPLEMENTATION),
    }
    content = encode(meta)
    return encode_element(0x0002_0000, "UL", struct.pack("<I", len(content))) + content


def _write_frame_groups(file: BinaryIO, level: DicomLevel, limits: SlideLimits, key: bytes) -> None:
    """An item for each frame that is copied, one at a time."""
    file.write(_head(tags.FRAME_GROUPS, "SQ", UNDEFINED))
    for instance, numbers in level.copied_frames():
        copied = set(numbers)
        for number, item in enumerate(_frame_groups(instance, limits, key)):
            if number in copied:
                file.write(_item(encode(item)))
    file.write(_delimiter(SEQUENCE_END))


def _frame_groups(instance: DicomInstance, limits: SlideLimits, key: bytes) -> Iterator[CopyDataset]:
    with open_source(instance.path) as source:
        cursor = Cursor(source, instance.dataset_offset, instance.syntax != tags.IMPLICIT, limits)
        structure = structure_of(FRAME_GROUPS)
        for element in cursor.elements(source.size):
            if element.tag == tags.FRAME_GROUPS and cursor.is_sequence(element):
                for end in cursor.items(element):
                    yield rebuild(read_dataset(cursor, end, structure), FRAME_GROUPS, key)
                return


def _write_native(file: BinaryIO, level: DicomLevel) -> None:
    length = level.first.frame_bytes * level.frames
    vr = "OW" if level.first.bits[0] == 16 else "OB"
    file.write(_head(PIXEL_DATA, vr, length + length % 2))
    for read, frame_length in _frame_readers(level):
        for start in range(0, frame_length, BLOCK_BYTES):
            file.write(read(start, min(BLOCK_BYTES, frame_length - start)))
    file.write(bytes(length % 2))


def _write_encapsulated(file: BinaryIO, level: DicomLevel) -> None:
    """One fragment a frame. The table of offsets is written when they are known: 64 bits wide if the file is large."""
    count = level.frames
    is_large = sum(sum(instance.fragment_lengths) + 16 * count for instance in level.instances) >= UNDEFINED
    tables = file.tell()
    if is_large:
        file.write(_head(EXTENDED_OFFSETS, "OV", 8 * count) + bytes(8 * count))
        file.write(_head(EXTENDED_LENGTHS, "OV", 8 * count) + bytes(8 * count))
    file.write(_head(PIXEL_DATA, "OB", UNDEFINED))
    basic_table = file.tell() + 8
    file.write(_delimiter(ITEM, 0 if is_large else 4 * count) + bytes(0 if is_large else 4 * count))
    start = file.tell()
    for index, (read, length) in enumerate(_frame_readers(level)):
        offset = file.tell()
        file.write(bytes(8))
        try:
            written = sum(file.write(block) for block in _clean_frame(level.first.syntax, read, length))
        except CheckAbortedError as error:
            actual = f"frame {index + 1:,} is no {name_syntax(level.first.syntax)}"
            raise CheckAbortedError(slide_issue("undecodable", actual=actual)) from error
        file.write(bytes(written % 2))
        end = file.tell()
        file.seek(offset)
        file.write(_delimiter(ITEM, written + written % 2))
        if is_large:
            file.seek(tables + 12 + 8 * index)
            file.write(struct.pack("<Q", offset - start))
            file.seek(tables + 12 + 8 * count + 12 + 8 * index)
            file.write(struct.pack("<Q", written))
        else:
            file.seek(basic_table + 4 * index)
            file.write(struct.pack("<I", offset - start))
        file.seek(end)
    file.write(_delimiter(SEQUENCE_END))


def _clean_frame(syntax: str, read: Callable[[int, int], bytes], length: int) -> Iterator[bytes]:
    """A frame without texts beside its pixels."""
    if syntax in (*tags.JPEG, *tags.JPEG_LOSSLESS, *tags.JPEG_LS):
        yield from clean_jpeg(read, length)
    elif syntax in (*tags.JPEG_2000, *tags.HTJ2K):
        yield clean_j2k(read(0, length))
    else:
        for start in range(0, length, BLOCK_BYTES):
            yield read(start, min(BLOCK_BYTES, length - start))


def _frame_readers(level: DicomLevel) -> Iterator[tuple[Callable[[int, int], bytes], int]]:
    """A function that reads bytes of a frame, and its length, for each frame that is copied."""
    for instance, numbers in level.copied_frames():
        with open_source(instance.path) as source:
            for number in numbers:
                yield _frame_reader(source, instance, number)


def _frame_reader(source: ByteSource, instance: DicomInstance, frame: int) -> tuple[Callable[[int, int], bytes], int]:
    offset, length = instance.frame_range(frame)

    def read(start: int, size: int) -> bytes:
        return source.read(offset + start, max(min(size, length - start), 0), "a frame")

    return read, length
