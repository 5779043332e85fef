"""Walk the data elements of a DICOM file (PS3.5) in one pass, bounded in elements and depth, without decoding them.

A `Cursor` stands at a byte. Its generators `elements` and `items` move it; whoever iterates may read a sequence with
them, and what is not read is skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from datasets.slides.byte_source import ByteSource, CheckAbortedError
from datasets.slides.errors import slide_issue
from datasets.slides.limits import SlideLimits

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
ITEM_BYTES = b"\xfe\xff\x00\xe0"
PIXEL_DATA = 0x7FE0_0010
LONG_VRS = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}  # with a length of 4 bytes
SHORT_VRS = {
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
    *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
}
FRAGMENT_VRS = {"OB", "OW"}  # of undefined length they consist of fragments, not of items with elements
WINDOW_BYTES = 1 << 16

# The requested values of a data set: a tag without a dictionary is a value, one with a dictionary a sequence.
Structure = dict[int, "Structure | None"]
# The values of those tags, as stored, and the items of those sequences.
Dataset = dict[int, "bytes | list[Dataset]"]


class Element(NamedTuple):
    """vr: "" in implicit VR. offset, length: of the value; the length may be UNDEFINED."""

    tag: int
    vr: str
    offset: int
    length: int

    def __str__(self) -> str:
        return format_tag(self.tag)


def format_tag(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


class Cursor:
    """position: of the next element. explicit: whether elements state their value representation."""

    def __init__(self, source: ByteSource, position: int, explicit: bool, limits: SlideLimits):
        self.source, self.position, self.explicit, self.limits = source, position, explicit, limits
        self.count = self.depth = 0
        self._window, self._window_start = b"", 0

    def read(self, offset: int, length: int, label: str) -> bytes:
        """Bytes from a window of the file, as elements are small and many."""
        start = offset - self._window_start
        if start < 0 or start + length > len(self._window):
            if length > WINDOW_BYTES // 4:
                return self.source.read(offset, length, label)
            self._window, self._window_start = self.source.read_up_to(offset, WINDOW_BYTES), offset
            start = 0
            if length > len(self._window):
                return self.source.read(offset, length, label)  # which says that the file ends
        return self._window[start : start + length]

    def value(self, element: Element) -> bytes:
        return self.read(element.offset, element.length, f"element {element}")

    def is_sequence(self, element: Element) -> bool:
        """Whether the value consists of items. Elements of unknown VR may hide a sequence."""
        if element.vr == "SQ":
            return True
        if element.vr not in ("", "UN"):
            return False
        starts_with_item = element.length >= 8 and self.source.read_up_to(element.offset, 4) == ITEM_BYTES
        return (element.length == UNDEFINED and element.tag != PIXEL_DATA) or starts_with_item

    def elements(self, end: int, explicit: bool | None = None) -> Iterator[Element]:
        """The elements up to `end` or to the delimiter of an item. The cursor stands at the value of each.

        explicit: of an item whose encoding differs from that of the file.
        """
        outer = self.explicit
        self.explicit = outer if explicit is None else explicit
        self.depth += 1
        if self.depth > self.limits.depth:
            self._abort("too_many", what="nested DICOM sequences", actual=self.depth, limit=self.limits.depth)
        while self.position < end:
            element = self._next_element()
            if element.tag in (ITEM_END, SEQUENCE_END):
                break
            if element.length != UNDEFINED and element.offset + element.length > end:
                self._abort("truncated", what=f"element {element}", actual=element.offset + element.length, end=end)
            yield element
            if self.position == element.offset:
                self._skip(element)
        self.depth -= 1
        self.explicit = outer

    def items(self, element: Element) -> Iterator[int]:
        """The end of each item of a sequence, for `elements`, which must be iterated to its end."""
        outer = self.explicit
        self.explicit = outer and (element.vr != "UN" or self._has_explicit_items(element))
        end = self.source.size if element.length == UNDEFINED else element.offset + element.length
        while self.position < end:
            tag, length = self._next_item_header()
            if tag == SEQUENCE_END:
                break
            item_end = end if length == UNDEFINED else self.position + length
            if item_end > end:
                self._abort("truncated", what=f"an item of {element}", actual=item_end, end=end)
            yield item_end
            if length != UNDEFINED:
                self.position = item_end
        self.explicit = outer

    def fragments(self, element: Element) -> Iterator[tuple[int, int]]:
        """(offset, length) of each fragment; the first one is the offset table."""
        while True:
            tag, length = self._next_item_header()
            if tag == SEQUENCE_END:
                return
            if length == UNDEFINED or self.position + length > self.source.size:
                self._abort("truncated", what="a frame", actual=self.position + length, end=self.source.size)
            offset = self.position
            self.position += length
            yield offset, length

    def _has_explicit_items(self, element: Element) -> bool:
        """Items of unknown VR are implicit (PS3.5, 6.2.2), but some writers leave them explicit."""
        head = self.source.read_up_to(element.offset, 16)
        length = int.from_bytes(head[12:16], "little")
        return head[12:14].decode("latin-1") in SHORT_VRS | LONG_VRS and length > self.source.size - element.offset

    def _next_element(self) -> Element:
        start = self.position
        head = self.read(start, 8, "a DICOM element")
        group, number = struct.unpack_from("<HH", head)
        tag = group << 16 | number
        self._count_element()
        if not self.explicit or group == 0xFFFE:
            vr, self.position = "", start + 8
            length = int.from_bytes(head[4:], "little")
        else:
            vr = head[4:6].decode("latin-1")
            if vr in SHORT_VRS:
                length, self.position = int.from_bytes(head[6:8], "little"), start + 8
            elif vr in LONG_VRS:
                length, self.position = int.from_bytes(self.read(start + 8, 4, "a DICOM element"), "little"), start + 12
            else:
                self._abort(
                    "malformed",
                    what=f"the value representation of {format_tag(tag)}",
                    actual=ascii(vr),
                    expected="one of PS3.5, such as LO",
                )
        return Element(tag, vr, self.position, length)

    def _next_item_header(self) -> tuple[int, int]:
        start = self.position
        group, number, length = struct.unpack("<HHI", self.read(start, 8, "a DICOM item"))
        tag = group << 16 | number
        self._count_element()
        if tag not in (ITEM, SEQUENCE_END):
            self._abort("malformed", what=f"byte {start:,} of the DICOM", actual=format_tag(tag), expected="an item")
        self.position = start + 8
        return tag, length

    def _skip(self, element: Element) -> None:
        if element.length != UNDEFINED:
            self.position = element.offset + element.length
        elif element.vr in FRAGMENT_VRS or element.tag == PIXEL_DATA:
            for _ in self.fragments(element):
                continue
        elif element.vr in ("SQ", "UN", ""):
            for end in self.items(element):
                for _ in self.elements(end):
                    continue
        else:
            self._abort("malformed", what=f"the length of {element}", actual="undefined", expected="a number")

    def _count_element(self) -> None:
        self.count += 1
        if self.count > self.limits.elements:
            self._abort("too_many", what="DICOM elements", actual=self.count, limit=self.limits.elements)

    def _abort(self, code: str, **values: object) -> NoReturn:
        raise CheckAbortedError(slide_issue(code, **values))


def read_dataset(cursor: Cursor, end: int, structure: Structure, explicit: bool | None = None) -> Dataset:
    """The requested values up to `end`; of a tag that occurs twice the first."""
    dataset: Dataset = {}
    for element in cursor.elements(end, explicit):
        if element.tag in structure and element.tag not in dataset:
            dataset[element.tag] = read_value(cursor, element, structure[element.tag])
    return dataset


def read_value(cursor: Cursor, element: Element, structure: Structure | None) -> bytes | list[Dataset]:
    """A value, or the items of a sequence. What is not of the requested kind is empty."""
    if structure is not None:
        if not cursor.is_sequence(element):
            return []
        return [read_dataset(cursor, end, structure) for end in cursor.items(element)]
    if element.length == UNDEFINED or element.length > cursor.limits.text_bytes:
        return b""
    return cursor.value(element)
