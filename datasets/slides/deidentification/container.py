"""What each container format offers to de-identification, and the names of the files in a copy.

A copy is written from what is known to be needed. Its proof is derived from what the original held besides: the texts
that are not retained, and the bytes of the tissue pixels, which are to be found in the copy unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets.slides.byte_source import CheckedSlide
from datasets.slides.limits import SlideLimits

COPY_STEM = "slide"
# of files that slides have; another one is left out, as it could be part of a name
COPY_SUFFIXES = {
    *(".svs", ".tif", ".tiff", ".btf", ".ndpi", ".mrxs", ".ini", ".dat", ".scn", ".bif", ".svslide", ".czi", ".vms"),
    *(".dcm", ".kfb", ".png", ".jpg", ".jpeg", ".zip"),
}

# where it stands, such as "directory 0, ImageDescription" (it must not contain the value), and its bytes as stored;
# of "Filename = CMU-1" only the value
Text = tuple[str, bytes]
# a file of the slide, offset, length
TileRange = tuple[Path, int, int]

# Write the copy into the empty folder and return the path to open: checked original, folder, limits, pseudonym key.
# The originals are only read. Names of files are made by `copy_name`.
Clean = Callable[[CheckedSlide, Path, SlideLimits, bytes], Path]
# The texts of the original, of any type and in any place, that the copy does not retain. Texts that are retained (from
# a closed list, with values checked) are left out. Bytes of pixels are no text.
IterTexts = Callable[[CheckedSlide, SlideLimits], Iterator[Text]]
# The stored pixels of all levels, in the same order for the original and for its copy: every tile or strip, and tables
# needed to decode them. No label, macro or thumbnail. JPEG and JPEG 2000 streams are compared without comments and
# application segments (codestream.py), everything else byte by byte.
TileRanges = Callable[[CheckedSlide, SlideLimits], Iterator[TileRange]]


@dataclass(frozen=True, slots=True)
class Container:
    """The functions of one container format; CONTAINERS in deidentify.py lists them.

    words: the words, in small letters, of the texts that its copies retain, which are from a closed list. A reader that
    shows any other word in a copy disproves it. Numbers and UIDs need no entry.
    measures: numbers with their names that may have more digits than a date or an id, such as nanometres.
    """

    clean: Clean
    iter_texts: IterTexts
    tile_ranges: TileRanges
    words: frozenset[str]
    measures: re.Pattern[str] | None = None


def copy_name(original: Path, number: int | None = None) -> str:
    """The name of a file in the copy, such as slide.svs; of one of several files, slide-0001.dcm."""
    suffix = original.suffix.lower()
    return COPY_STEM + ("" if number is None else f"-{number:04d}") + (suffix if suffix in COPY_SUFFIXES else "")
