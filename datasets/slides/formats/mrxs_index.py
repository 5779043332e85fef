"""Read the Index.dat of an MRXS slide: which bytes of which data file hold each tile and each other record.

The layout is that of OpenSlide's documentation of the format and of its driver; there is no public specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import ByteSource, CheckAbortedError, CheckedSlide, open_source
from datasets.slides.errors import slide_issue
from datasets.slides.formats.mrxs import INI_NAME, data_folder, last_value, parse_ini
from datasets.slides.limits import SlideLimits

INDEX_VERSION = b"01.02"
ZOOM_LEVELS = "Slide zoom level"
POSITION_LAYERS = ("VIMSLIDE_POSITION_BUFFER", "StitchingIntensityLayer")  # where the camera took each picture
MAX_LAYERS = 1_000

Entries = dict[tuple[str, str], list[str]]
Record = tuple[Path, int, int]  # file, offset, length


@dataclass(frozen=True, slots=True)
class MiraxLayout:
    """levels: of each zoom level its tiles, rows of image index, offset, length and number of the data file.

    records: of the layers without levels, (name of the layer, name of the record) -> where it is.
    """

    entries: Entries
    data_files: tuple[Path, ...]
    levels: tuple[NDArray[np.int64], ...]
    level_sections: tuple[str, ...]
    records: dict[tuple[str, str], Record]


def read_layout(checked: CheckedSlide, limits: SlideLimits) -> MiraxLayout:
    """Raises CheckAbortedError if the index contradicts itself or the files."""
    folder = data_folder(checked.path)
    entries = parse_ini((folder / INI_NAME).read_bytes().decode("utf-8-sig", "replace"))

    def number(key: str, section: str = "HIERARCHICAL", limit: int = MAX_LAYERS) -> int:
        value = last_value(entries, section, key)
        if not (value.isascii() and value.isdecimal()) or int(value) > limit:
            raise _malformed(f"{key} of {INI_NAME}", "no number" if value else "missing", f"0 to {limit:,}")
        return int(value)

    data_files = tuple(
        folder / last_value(entries, "DATAFILE", f"FILE_{index}")
        for index in range(number("FILE_COUNT", "DATAFILE", limits.files))
    )
    if last_value(entries, "HIERARCHICAL", "HIER_0_NAME") != ZOOM_LEVELS:
        raise _malformed(f"HIER_0_NAME of {INI_NAME}", "another layer", ZOOM_LEVELS)
    level_count = number("HIER_0_COUNT")
    sections = tuple(last_value(entries, "HIERARCHICAL", f"HIER_0_VAL_{level}_SECTION") for level in range(level_count))
    index_path = folder / last_value(entries, "HIERARCHICAL", "INDEXFILE")
    sizes = np.array([path.stat().st_size for path in data_files], np.int64)
    with open_source(index_path) as source:
        root = len(INDEX_VERSION) + len(last_value(entries, "GENERAL", "SLIDE_ID").encode())
        if source.read(0, len(INDEX_VERSION), "the index") != INDEX_VERSION:
            raise _malformed("the version of the index", "another one", INDEX_VERSION.decode())
        level_table = _pointer(source, root)
        levels = tuple(
            _read_level(source, _pointer(source, level_table + 4 * level), sizes, limits)
            for level in range(level_count)
        )
        names = [
            (
                last_value(entries, "HIERARCHICAL", f"NONHIER_{layer}_NAME"),
                last_value(entries, "HIERARCHICAL", f"NONHIER_{layer}_VAL_{value}"),
            )
            for layer in range(number("NONHIER_COUNT"))
            for value in range(number(f"NONHIER_{layer}_COUNT"))
        ]
        record_table = _pointer(source, root + 4) if names else 0
        records = {
            name: record
            for index, name in enumerate(names)
            if (record := _read_record(source, record_table + 4 * index, data_files, sizes)) is not None
        }
    return MiraxLayout(entries, data_files, levels, sections, records)


def _read_level(source: ByteSource, head: int, sizes: NDArray[np.int64], limits: SlideLimits) -> NDArray[np.int64]:
    """The tiles of one level from its pages, each of which names the next."""
    pages: list[NDArray[np.int64]] = []
    if not _pointer(source, head) == 0:
        raise _malformed("the start of a level's pages", "another number", "0")
    page, seen, count = _pointer(source, head + 4), set(), 0
    while page:
        length, following = _pointer(source, page), _pointer(source, page + 4)
        count += length
        if page in seen or count > limits.tiles:
            raise CheckAbortedError(slide_issue("too_many", what="tiles", actual=count, limit=limits.tiles))
        seen.add(page)
        rows = np.frombuffer(source.read(page + 8, 16 * length, "a page of the index"), "<i4")
        pages.append(rows.reshape(-1, 4).astype(np.int64))
        page = following
    tiles = np.concatenate(pages) if pages else np.empty((0, 4), np.int64)
    if (tiles < 0).any() or (tiles[:, 3] >= len(sizes)).any():
        raise _malformed("a tile of the index", "out of range", f"data files 0 to {len(sizes) - 1}")
    if (tiles[:, 1] + tiles[:, 2] > sizes[tiles[:, 3]]).any():
        raise CheckAbortedError(
            slide_issue("truncated", what="a tile", actual=int((tiles[:, 1] + tiles[:, 2]).max()), end=int(sizes.max()))
        )
    if (tiles[:, 2] > limits.tile_bytes).any():
        largest = int(tiles[:, 2].max())
        raise CheckAbortedError(slide_issue("tile_bytes", what="the MRXS", actual=largest, limit=limits.tile_bytes))
    return tiles


def _read_record(
    source: ByteSource, table_entry: int, data_files: tuple[Path, ...], sizes: NDArray[np.int64]
) -> Record | None:
    """A record without levels; None for a layer whose record is not as the others are, such as an empty one."""
    head = _pointer(source, table_entry)
    page = _pointer(source, head + 4)
    if _pointer(source, head) != 0 or page == 0 or _pointer(source, page) != 1:
        return None
    offset, length, file = np.frombuffer(source.read(page + 16, 12, "a record of the index"), "<i4").tolist()
    if min(offset, length, file) < 0 or file >= len(data_files) or offset + length > sizes[file]:
        return None
    return data_files[file], offset, length


def _pointer(source: ByteSource, offset: int) -> int:
    value = int.from_bytes(source.read(offset, 4, "the index"), "little", signed=True)
    if value < 0:
        raise _malformed("a pointer of the index", "negative", "0 or more")
    return value


def tile_records(layout: MiraxLayout) -> Iterator[Record]:
    """Where the tiles of all levels are, in the order of the index."""
    for level in layout.levels:
        for _, offset, length, file in level.tolist():
            yield layout.data_files[file], offset, length


def _malformed(what: str, actual: str, expected: str) -> CheckAbortedError:
    return CheckAbortedError(slide_issue("malformed", what=what, actual=actual, expected=expected))
