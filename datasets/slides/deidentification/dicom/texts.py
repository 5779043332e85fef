"""The texts of a DICOM slide that its copy does not hold, so that a search of the copy can show it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from datasets.slides.byte_source import ByteSource, CheckAbortedError, CheckedSlide, open_source
from datasets.slides.deidentification.container import Text
from datasets.slides.deidentification.dicom.attributes import DEFAULTS, FIXED, FRAME_GROUPS, HEADER
from datasets.slides.deidentification.dicom.rules import CopyDataset
from datasets.slides.deidentification.icc import profile_texts
from datasets.slides.formats.dicom import tags
from datasets.slides.formats.dicom.codes import CODES
from datasets.slides.formats.dicom.elements import PIXEL_DATA, UNDEFINED, Cursor, Element
from datasets.slides.formats.dicom.instance import read_file_meta
from datasets.slides.formats.dicom.series import read_levels
from datasets.slides.limits import SlideLimits

# Numbers as texts are left out: the same number may stand for something else in the copy.
NUMBER_VRS = {"AS", "AT", "DS", "FD", "FL", "IS", "OD", "OF", "OL", "OV", "SL", "SS", "SV", "UL", "US", "UV"}
FILE_META_VALUES, FILE_META_VERSION = 132, 0x0002_0001
WORD = re.compile(r"[^\W_]+")


def _constants(items: list[CopyDataset]) -> set[str]:
    texts: set[str] = set()
    for item in items:
        for _, value in item.values():
            texts |= _constants(value) if isinstance(value, list) else {value.decode("latin-1")}
    return texts


_TEXTS = {
    *(text for (scheme, value), meaning in CODES.items() for text in (scheme, value, meaning)),
    *(word for attribute in (*HEADER.values(), *FRAME_GROUPS.values()) for word in attribute.vocabulary),
    *_constants([FIXED, DEFAULTS]),
    *("CODE", "VL Whole Slide Microscopy Image Storage", "Explicit VR Little Endian"),
}
# The words of the texts that a copy may hold: terms, makers, meanings of codes, fixed values.
WORDS = frozenset(word for text in _TEXTS for word in WORD.findall(text.casefold()))


def iter_texts(checked: CheckedSlide, limits: SlideLimits) -> Iterator[Text]:
    """All values except numbers, pixels, terms of closed lists, and what the copy of a colour profile holds."""
    for level in read_levels(checked, limits):
        for instance in level.instances:
            with open_source(instance.path) as source:
                yield from _file_texts(source, limits)


def _file_texts(source: ByteSource, limits: SlideLimits) -> Iterator[Text]:
    yield "the preamble", source.read(0, 128, "the preamble")
    syntax, offset = read_file_meta(source, limits)
    yield from _dataset_texts(Cursor(source, FILE_META_VALUES, True, limits), offset, "")
    cursor = Cursor(source, offset, syntax != tags.IMPLICIT, limits)
    try:
        yield from _dataset_texts(cursor, source.size, "")
    except CheckAbortedError:  # what follows the pixels need not be elements
        yield "the bytes after the pixels", source.read_up_to(cursor.position, limits.text_bytes)


def _dataset_texts(cursor: Cursor, end: int, path: str) -> Iterator[Text]:
    for element in cursor.elements(end):
        label = f"{path}{element}"
        if cursor.is_sequence(element):
            for item_end in cursor.items(element):
                yield from _dataset_texts(cursor, item_end, f"{label}.")
        elif element.length not in (0, UNDEFINED) and element.tag not in (PIXEL_DATA, FILE_META_VERSION):
            if _representation(element) in NUMBER_VRS:
                continue
            value = cursor.read(element.offset, min(element.length, cursor.limits.text_bytes), "a text")
            if element.tag == tags.ICC_PROFILE:
                yield from ((label, text) for text in profile_texts(value))
            elif not set(value.decode("latin-1").rstrip(" \0").split("\\")) <= _TEXTS:
                yield label, value


def _representation(element: Element) -> str:
    """The value representation, where the file does not state it that of the standard."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    if element.vr in ("", "UN") and dictionary_has_tag(element.tag):
        return dictionary_VR(element.tag).split(" ")[0]
    return element.vr
