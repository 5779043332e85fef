"""Rules that rebuild one value of a retained attribute, or leave it out.

A rule gets the value as stored, whatever its value representation was there, and returns what the copy holds: bytes of
the attribute's own representation, items of a sequence, or None where the value is not what the standard permits. Texts
are only ever terms of closed lists, keyed replacements or numbers written anew.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datasets.slides.deidentification.icc import clean_icc_profile
from datasets.slides.deidentification.pseudonyms import keyed_text, keyed_uid
from datasets.slides.formats.dicom import tags
from datasets.slides.formats.dicom.codes import CODES
from datasets.slides.formats.dicom.elements import Dataset, Structure
from datasets.slides.formats.dicom.instance import first_item, text

# what the copy holds: (value representation, value) of each tag; items of a sequence are such data sets again
CopyDataset = dict[int, tuple[str, "bytes | list[CopyDataset]"]]
StoredValue = bytes | list[Dataset]
Rule = Callable[[Any, bytes], "bytes | list[CopyDataset] | None"]  # (stored value, pseudonym key)

UID = re.compile(r"[0-9]+(\.[0-9]+)*")
BINARY_FORMATS = {"US": "<H", "UL": "<I", "SL": "<i", "FL": "<f", "FD": "<d"}
CODE: Structure = dict.fromkeys((tags.CODE_VALUE, tags.CODE_SCHEME))
VALUE_TYPE, CONCEPT_NAME, CONCEPT_CODE = 0x0040_A040, 0x0040_A043, 0x0040_A168


@dataclass(frozen=True, slots=True)
class Attribute:
    """A retained attribute. structure: of its items, for a sequence. vocabulary: the texts that its rule can return."""

    vr: str
    rule: Rule
    structure: Structure | None = None
    vocabulary: frozenset[str] = frozenset()


Table = dict[int, Attribute]


def rebuild(dataset: Dataset, table: Table, key: bytes) -> CopyDataset:
    """The retained attributes of a data set, by ascending tag."""
    rebuilt: CopyDataset = {}
    for tag in sorted(dataset.keys() & table.keys()):
        attribute, stored = table[tag], dataset[tag]
        if isinstance(stored, list) != (attribute.structure is not None):
            continue
        value = attribute.rule(stored, key)
        if value is not None:
            rebuilt[tag] = attribute.vr, value
    return rebuilt


def structure_of(table: Table) -> Structure:
    return {tag: attribute.structure for tag, attribute in table.items()}


def sequence(table: Table) -> Attribute:
    """Items of the retained attributes of `table`; items without any are left out."""

    def rule(items: list[Dataset], key: bytes) -> list[CopyDataset] | None:
        return [item for item in (rebuild(each, table, key) for each in items) if item] or None

    words = frozenset().union(*(attribute.vocabulary for attribute in table.values()))
    return Attribute("SQ", rule, structure_of(table), words)


def terms(*vocabulary: str, values: int = 1) -> Attribute:
    """Defined terms, up to `values` of them."""

    def rule(value: bytes, key: bytes) -> bytes | None:
        stored = [each.strip(" \0") for each in value.decode("ascii", "replace").split("\\")]
        return "\\".join(stored).encode() if len(stored) <= values and set(stored) <= set(vocabulary) else None

    return Attribute("CS", rule, vocabulary=frozenset(vocabulary))


def image_type() -> Attribute:
    """Of a VOLUME; a value that is no term of the standard becomes the one that claims least."""
    positions = (("DERIVED", "ORIGINAL"), ("PRIMARY",), ("VOLUME",), ("NONE", "RESAMPLED"))

    def rule(value: bytes, key: bytes) -> bytes:
        stored = [each.strip(" \0") for each in value.decode("ascii", "replace").split("\\")]
        stored += [""] * (len(positions) - len(stored))
        pairs = zip(stored, positions, strict=False)
        return "\\".join(each if each in known else known[0] for each, known in pairs).encode()

    words = frozenset(term for known in positions for term in known)
    return Attribute("CS", rule, vocabulary=words)


def names(vocabulary: frozenset[str]) -> Attribute:
    """A name out of a closed list, in whatever case it is written."""
    by_lower_case = {name.lower(): name for name in vocabulary}

    def rule(value: bytes, key: bytes) -> bytes | None:
        name = by_lower_case.get(value.decode("ascii", "replace").strip(" \0").lower())
        return name.encode() if name else None

    return Attribute("LO", rule, vocabulary=vocabulary)


def decimals(low: float, high: float, count: int = 1) -> Attribute:
    """Up to `count` decimal strings, written anew."""

    def rule(value: bytes, key: bytes) -> bytes | None:
        try:
            numbers = [float(each) for each in value.decode("ascii").strip(" \0").split("\\")]
        except ValueError:
            return None
        if len(numbers) > count or not all(low <= number <= high for number in numbers):
            return None
        return "\\".join(format_decimal(number) for number in numbers).encode()

    return Attribute("DS", rule)


def format_decimal(number: float) -> str:
    """At most 16 characters, which a decimal string may have."""
    return next(formatted for digits in range(17, 0, -1) if len(formatted := f"{number:.{digits}g}") <= 16)


def numbers(vr: str, low: float, high: float, count: int = 1) -> Attribute:
    """Up to `count` binary numbers. Integers of another width, from a wrong representation, are taken too."""
    width = struct.calcsize(BINARY_FORMATS[vr])

    def rule(value: bytes, key: bytes) -> bytes | None:
        if count == 1 and vr in ("US", "UL", "SL") and len(value) in (2, 4):
            values = [int.from_bytes(value, "little", signed=vr == "SL")]
        elif len(value) % width or not 1 <= len(value) // width <= count:
            return None
        else:
            values = [each[0] for each in struct.iter_unpack(BINARY_FORMATS[vr], value)]
        if not all(math.isfinite(each) and low <= each <= high for each in values):
            return None
        return b"".join(struct.pack(BINARY_FORMATS[vr], each) for each in values)

    return Attribute(vr, rule)


def pointers(vocabulary: frozenset[int]) -> Attribute:
    """A tag of a closed list."""

    def rule(value: bytes, key: bytes) -> bytes | None:
        if len(value) != 4:
            return None
        group, number = struct.unpack("<HH", value)
        return value if group << 16 | number in vocabulary else None

    return Attribute("AT", rule)


def constant(vr: str, value: bytes) -> Attribute:
    """The same value for every slide, where the standard wants one."""
    return Attribute(vr, lambda stored, key: value)


def _replace_uid(value: bytes, key: bytes) -> bytes | None:
    uid = value.decode("ascii", "replace").strip(" \0")
    return keyed_uid(key, uid).encode() if uid and len(uid) <= 64 and UID.fullmatch(uid) else None


uid = Attribute("UI", _replace_uid)


def identifier(vr: str, kind: str) -> Attribute:
    """A keyed replacement of an accession number, or of the name of a container or specimen."""

    def rule(value: bytes, key: bytes) -> bytes | None:
        stripped = value.strip(b" \0")
        return keyed_text(key, kind, stripped.decode("latin-1")).encode() if stripped else b""

    return Attribute(vr, rule)


def lookup_table(vr: str = "OW") -> Attribute:
    """A palette's table: its numbers are colours."""
    return Attribute(vr, lambda value, key: value[: 2 * 65_536] or None)


def descriptor() -> Attribute:
    return Attribute("US", lambda value, key: value if len(value) == 6 else None)


def word(vr: str, prefix: bytes) -> Attribute:
    """A word that texts about how the image was made begin with, without the rest of the text."""
    return Attribute(vr, lambda value, key: prefix if value.startswith(prefix) else None)


icc_profile = Attribute("OB", lambda value, key: clean_icc_profile(value))


def rebuild_code(item: Dataset) -> CopyDataset | None:
    """A code of the closed list, with the standard's meaning: never the text of the file."""
    scheme, value = text(item, tags.CODE_SCHEME), text(item, tags.CODE_VALUE)
    meaning = CODES.get((scheme, value))
    if meaning is None:
        return None
    return {
        tags.CODE_VALUE: ("SH", value.encode()),
        tags.CODE_SCHEME: ("SH", scheme.encode()),
        tags.CODE_MEANING: ("LO", meaning.encode()),
    }


def _rebuild_codes(items: list[Dataset], key: bytes) -> list[CopyDataset] | None:
    return [code for code in (rebuild_code(item) for item in items) if code] or None


code_items = Attribute("SQ", _rebuild_codes, CODE)


def _rebuild_steps(items: list[Dataset], key: bytes) -> list[CopyDataset] | None:
    """Content items that are codes; texts, dates and names of people are left out."""
    steps: list[CopyDataset] = []
    for item in items:
        name, value = (rebuild_code(first_item(item, tag)) for tag in (CONCEPT_NAME, CONCEPT_CODE))
        if text(item, VALUE_TYPE) == "CODE" and name and value:
            steps.append({VALUE_TYPE: ("CS", b"CODE"), CONCEPT_NAME: ("SQ", [name]), CONCEPT_CODE: ("SQ", [value])})
    return steps or None


preparation_steps = Attribute("SQ", _rebuild_steps, {VALUE_TYPE: None, CONCEPT_NAME: CODE, CONCEPT_CODE: CODE})
