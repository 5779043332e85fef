"""What a copy will hold, and words that are common to all vendors: numbers and the mark of a simulated slide."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from datasets.slides.byte_source import ByteSource, CheckAbortedError
from datasets.slides.deidentification.tiff.tags import ASCII, LONG, LONG8, Tags, Value, image_tags, read_bytes
from datasets.slides.errors import slide_issue
from datasets.slides.formats.tiff_directories import (
    DESCRIPTION,
    SOFTWARE,
    SUBFILE_TYPE,
    TYPE_WIDTHS,
    XMP,
    ByteLayout,
    TiffDirectory,
    decode_values,
    read_directory,
)
from datasets.slides.limits import SlideLimits

MAKE, MODEL = 271, 272
IFD, IFD8 = 13, 18
# SubIFDs, global parameters, EXIF, GPS, interoperability: offsets of further directories
DIRECTORY_TAGS = (330, 400, 34665, 34853, 40965)
MAX_DEPTH = 8
SIMULATED = "SIMULATED"  # a simulated slide keeps saying so
NUMBER = re.compile(r"[+-]?\d{1,9}([.,]\d{1,12})?([eE][+-]?\d{1,2})?")


@dataclass(frozen=True, slots=True)
class Original:
    """The file that is copied, with the directories of its main chain."""

    source: ByteSource
    layout: ByteLayout
    directories: Sequence[TiffDirectory]
    limits: SlideLimits

    def text(self, directory: TiffDirectory, tag: int) -> str:
        entry = directory.entries.get(tag)
        return "" if entry is None else read_bytes(self.source, entry, self.limits).decode("latin-1").rstrip("\0")

    def offsets(self, directory: TiffDirectory, tag: int) -> list[int]:
        """Where the directories begin that a tag of this one leads to."""
        entry = directory.entries.get(tag)
        if entry is None or entry.kind not in (LONG, IFD, LONG8, IFD8) or entry.count > self.limits.directories:
            return []
        raw = self.source.read(entry.offset, entry.length, f"tag {tag}")
        return [int(offset) for offset in decode_values(raw, entry.kind, self.layout)]

    def is_simulated(self) -> bool:
        """Whether the file says so anywhere where scanners name themselves or describe the image."""
        tags = (DESCRIPTION, MAKE, MODEL, SOFTWARE, XMP)
        return any(SIMULATED in self.text(directory, tag) for directory in self.directories for tag in tags)

    def image_tags(self, directory: TiffDirectory, is_reduced: bool = False, is_micron_scale: bool = False) -> Tags:
        tags = image_tags(self.source, self.layout, directory, self.limits, is_micron_scale)
        return {SUBFILE_TYPE: (LONG, [int(is_reduced)]), **tags}


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image of the copy. directory: whose pixels it has; None: one white pixel, as some vendors have a directory
    before the slide.
    """

    directory: TiffDirectory | None
    tags: Tags = field(default_factory=dict)


Plan = Callable[[Original], list[PlannedImage]]


def text_value(text: str) -> Value:
    return ASCII, text.encode("utf-8") + b"\0"


def bounded_number(text: str | None, low: float, high: float) -> str | None:
    """The number with a decimal point, if the text is one and lies within the bounds; a text of other kinds is none."""
    stripped = (text or "").strip()
    if not NUMBER.fullmatch(stripped):
        return None
    number = stripped.replace(",", ".")
    return number if low <= float(number) <= high else None


def whole_number(text: str | None, low: int, high: int) -> int | None:
    number = bounded_number(text, low, high)
    return int(float(number)) if number is not None and float(number).is_integer() else None


def unreadable(what: str, actual: object, expected: str) -> CheckAbortedError:
    return CheckAbortedError(slide_issue("malformed", what=what, actual=actual, expected=expected))


def all_directories(original: Original) -> Iterator[tuple[TiffDirectory, str]]:
    """Those of the main chain and of tags that lead to others, at any depth."""
    visited = {directory.offset for directory in original.directories}
    pending = [(directory, f"directory {directory.number}", 0) for directory in original.directories]
    while pending:
        directory, name, depth = pending.pop()
        yield directory, name
        for tag in DIRECTORY_TAGS:
            for offset in original.offsets(directory, tag):
                if offset in visited or depth == MAX_DEPTH or len(visited) == original.limits.directories:
                    continue
                visited.add(offset)
                child = _read_child(original, offset)
                if child is not None:
                    pending.append((child, f"{name}, tag {tag}, directory at byte {offset}", depth + 1))


def _read_child(original: Original, offset: int) -> TiffDirectory | None:
    """None if there is no directory, as where a program has kept the link and not what it led to."""
    issue_count = len(original.source.issues)
    try:
        return read_directory(original.source, original.layout, offset, 0, original.limits)[0]
    except CheckAbortedError:
        return None
    finally:
        del original.source.issues[issue_count:]


def is_well_formed(directory: TiffDirectory) -> bool:
    """Whether types are known and tags ascend, which other bytes that are read as a directory hardly do."""
    tags = [entry.tag for entry in directory.entries.values()]
    return tags == sorted(tags) and all(entry.kind in TYPE_WIDTHS for entry in directory.entries.values())
