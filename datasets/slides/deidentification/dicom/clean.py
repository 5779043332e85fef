"""Copy a DICOM slide: one file for each level, rebuilt from the retained attributes, with its frames as they are.

Label, overview and thumbnail are never copied, and of several optical paths only the one that is read. Instances of one
concatenation become one. UIDs, accession numbers and names of containers are keyed, so they still fit together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from datasets.slides.byte_source import CheckedSlide, open_source
from datasets.slides.deidentification.container import TileRange, copy_name
from datasets.slides.deidentification.dicom.attributes import DEFAULTS, FIXED, HEADER
from datasets.slides.deidentification.dicom.rules import CopyDataset, rebuild, structure_of
from datasets.slides.deidentification.dicom.writer import write_level
from datasets.slides.deidentification.pseudonyms import keyed_uid
from datasets.slides.formats.dicom import tags
from datasets.slides.formats.dicom.elements import Dataset
from datasets.slides.formats.dicom.instance import items, read_header, text
from datasets.slides.formats.dicom.level import DicomLevel
from datasets.slides.formats.dicom.series import read_levels
from datasets.slides.limits import SlideLimits

BLOCK_BYTES = 1 << 20


def clean_dicom(checked: CheckedSlide, folder: Path, limits: SlideLimits, key: bytes) -> Path:
    """Write the copy; return its finest level."""
    copies = []
    for number, level in enumerate(read_levels(checked, limits)):
        copy = folder / copy_name(level.first.path, number)
        with copy.open("xb", buffering=BLOCK_BYTES) as file:
            write_level(file, level, rebuild_header(level, number, limits, key), limits, key)
        copies.append(copy)
    return copies[0]


def rebuild_header(level: DicomLevel, number: int, limits: SlideLimits, key: bytes) -> CopyDataset:
    """The header of a level's copy. number: of the level, from 0."""
    stored = read_level_header(level, limits)
    computed: CopyDataset = {
        0x0020_0013: ("IS", str(number + 1).encode()),  # InstanceNumber
        tags.ORGANISATION: ("CS", b"TILED_FULL" if level.table is None else b"TILED_SPARSE"),
        tags.FRAMES: ("IS", str(level.frames).encode()),
        tags.TOTAL_COLUMNS: ("UL", struct.pack("<I", level.size[0])),
        tags.TOTAL_ROWS: ("UL", struct.pack("<I", level.size[1])),
        tags.OPTICAL_PATHS: ("UL", struct.pack("<I", 1)),
        tags.FOCAL_PLANES: ("UL", struct.pack("<I", level.planes)),
    }
    series = text(stored, tags.SERIES)
    derived: CopyDataset = {  # where the original lacks them, or has something else than a UID
        tags.SERIES: ("UI", keyed_uid(key, series).encode()),
        tags.SOP_INSTANCE: ("UI", keyed_uid(key, f"{series} instance {number}").encode()),
        tags.STUDY: ("UI", keyed_uid(key, f"{series} study").encode()),
    }
    return {**DEFAULTS, **derived, **rebuild(stored, HEADER, key), **FIXED, **computed}


def read_level_header(level: DicomLevel, limits: SlideLimits) -> Dataset:
    """The retained values as stored, of the first instance and of the optical path that is read."""
    with open_source(level.first.path) as source:
        stored = read_header(source, limits, structure_of(HEADER))
    paths = items(stored, tags.OPTICAL_PATH)
    if paths:
        stored[tags.OPTICAL_PATH] = paths[level.path.index : level.path.index + 1]
    return stored


def tile_ranges(checked: CheckedSlide, limits: SlideLimits) -> Iterator[TileRange]:
    """The fragments of the frames that are copied."""
    for level in read_levels(checked, limits):
        for instance, frames in level.copied_frames():
            for frame in frames:
                yield instance.path, *instance.frame_range(frame)
