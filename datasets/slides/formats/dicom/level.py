"""Where the frames of one level lie: in which instance, at which tile, in which focal plane of which optical path.

A level is one instance, or the instances of one concatenation in their order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datasets.slides.byte_source import ByteSource, CheckAbortedError, Size
from datasets.slides.errors import slide_issue
from datasets.slides.formats.dicom import tags
from datasets.slides.formats.dicom.codes import CODES
from datasets.slides.formats.dicom.elements import Dataset
from datasets.slides.formats.dicom.instance import DicomInstance, decimal, first_item, integer, items, text
from datasets.slides.limits import SlideLimits

MAX_PLANES = 256


@dataclass(frozen=True, slots=True)
class OpticalPath:
    """The optical path that is read. index: among the `count` paths of the image."""

    index: int
    identifier: str
    count: int


class FrameTable(NamedTuple):
    """Frames that state their positions, sorted by tile and then by height. tiles: row x columns + column."""

    tiles: NDArray[np.int64]
    frames: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DicomLevel:
    """plane_spacing: microns between focal planes, None if unstated. table: None for TILED_FULL."""

    instances: tuple[DicomInstance, ...]
    path: OpticalPath
    planes: int
    plane_spacing: float | None
    table: FrameTable | None

    @property
    def first(self) -> DicomInstance:
        return self.instances[0]

    @property
    def size(self) -> Size:
        return self.first.size

    @property
    def grid(self) -> Size:
        """Columns and rows of tiles."""
        (width, height), (tile_width, tile_height) = self.size, self.first.tile_size
        return -(-width // tile_width), -(-height // tile_height)

    def frame_at(self, column: int, row: int, plane: int) -> int | None:
        """The frame of a tile, counted through all instances; None where nothing was scanned."""
        columns, rows = self.grid
        tile = row * columns + column
        if self.table is None:
            return (self.path.index * self.planes + plane) * columns * rows + tile
        index = int(np.searchsorted(self.table.tiles, tile)) + plane
        is_present = index < len(self.table.tiles) and self.table.tiles[index] == tile
        return int(self.table.frames[index]) if is_present else None

    def locate(self, frame: int) -> tuple[DicomInstance, int]:
        """The instance of a frame, and its number there."""
        ends = list(accumulate(instance.frames for instance in self.instances))
        index = bisect_right(ends, frame)
        return self.instances[index], frame - (ends[index - 1] if index else 0)

    def copied_frames(self) -> Iterator[tuple[DicomInstance, Sequence[int]]]:
        """The frames of the optical path that is read, of each instance and in the order of the file."""
        columns, rows = self.grid
        count = self.planes * columns * rows
        first, start = self.path.index * count, 0
        for instance in self.instances:
            end = start + instance.frames
            if self.table is None:
                yield instance, range(max(first, start) - start, min(first + count, end) - start)
            else:
                frames = self.table.frames
                yield instance, np.sort(frames[(start <= frames) & (frames < end)] - start).tolist()
            start = end

    @property
    def frames(self) -> int:
        """How many frames are copied."""
        return sum(len(numbers) for _, numbers in self.copied_frames())


def build_level(
    instances: tuple[DicomInstance, ...], source: ByteSource, limits: SlideLimits, is_stack: bool = False
) -> DicomLevel | None:
    """The level of checked instances, or None with the issues in `source`. is_stack: each is a focal plane."""
    path = _choose_path(instances, source)
    if path is None:
        return None
    first = instances[0]
    frames = sum(instance.frames for instance in instances)
    spacing = _plane_spacing(first)
    columns, rows = DicomLevel(instances, path, 1, spacing, None).grid
    is_sparse = text(first.header, tags.ORGANISATION) != "TILED_FULL" and all(
        len(instance.positions.columns) == instance.frames for instance in instances
    )
    if is_sparse and (columns, rows) != (1, 1):
        table, planes = _sort_frames(instances, path, columns)
        if table is None or planes > MAX_PLANES:
            expected = "each at a multiple of the tile size, in at most 256 focal planes; export it as TILED_FULL"
            source.add_issue("malformed", what="the grid of its frames", actual="irregular", expected=expected)
            return None
        return DicomLevel(instances, path, planes, spacing, table)
    planes = len(instances) if is_stack else max(integer(first.header, tags.FOCAL_PLANES, 1), 1)
    expected_frames = columns * rows * planes * path.count
    if planes > MAX_PLANES or frames != expected_frames:
        source.add_issue("tile_table", what="the DICOM instance", actual=frames, expected=expected_frames)
        return None
    return DicomLevel(instances, path, planes, spacing, None)


def _choose_path(instances: tuple[DicomInstance, ...], source: ByteSource) -> OpticalPath | None:
    """The only optical path, or of several the only one in bright field. Others look unlike what networks learned."""
    header = instances[0].header
    sequence = items(header, tags.OPTICAL_PATH)
    count = max(_count_paths(instance) for instance in instances)
    codes = [_illumination(item) for item in sequence]
    bright = [index for index, code in enumerate(codes) if code in tags.BRIGHTFIELD]
    if count == 1:
        if codes and codes[0] and not bright:
            source.add_issue("illumination", actual=_name_illumination(codes[0]))
            return None
        return OpticalPath(0, "", 1)
    if len(bright) == 1 and len(sequence) == count:
        return OpticalPath(bright[0], text(sequence[bright[0]], tags.OPTICAL_PATH_IDENTIFIER), count)
    names = ", ".join(sorted({_name_illumination(code) for code in codes or [""]}))
    source.add_issue("optical_paths", count=count, actual=names)
    return None


def may_be_brightfield(instance: DicomInstance) -> bool:
    """Whether one of its optical paths is in bright field, or does not say what it is in."""
    codes = [_illumination(item) for item in items(instance.header, tags.OPTICAL_PATH)]
    return not codes or any(code in ("", *tags.BRIGHTFIELD) for code in codes)


def _illumination(optical_path: Dataset) -> str:
    return text(first_item(optical_path, tags.ILLUMINATION), tags.CODE_VALUE)


def _name_illumination(code: str) -> str:
    """The standard's name of a code, never the text of the file."""
    return CODES.get(("DCM", code), "an illumination of another code" if code else "an unstated illumination")


def _plane_spacing(instance: DicomInstance) -> float | None:
    measures = first_item(first_item(instance.header, tags.SHARED_GROUPS), tags.MEASURES)
    spacing = decimal(measures, tags.PLANE_SPACING)
    return round(1_000 * spacing, 3) if spacing and 0 < spacing < 1 else None


def _sort_frames(
    instances: tuple[DicomInstance, ...], path: OpticalPath, columns: int
) -> tuple[FrameTable | None, int]:
    """The frames of a path by tile and height, and the number of focal planes: the largest number at one tile.

    Heights alone say nothing, as autofocus gives every tile one of its own.
    """
    width, height = instances[0].tile_size
    lefts, tops = (
        np.concatenate([np.asarray(getattr(instance.positions, name), np.int64) for instance in instances]) - 1
        for name in ("columns", "rows")
    )
    heights = np.concatenate([np.asarray(instance.positions.z_offsets) for instance in instances])
    identifiers = [identifier for instance in instances for identifier in instance.positions.paths]
    selected = np.array([path.count == 1 or identifier == path.identifier for identifier in identifiers])
    if not selected.any() or (lefts % width).any() or (tops % height).any() or min(lefts.min(), tops.min()) < 0:
        return None, 0
    tiles = tops // height * columns + lefts // width
    if (lefts // width >= columns).any() or not np.isfinite(heights).all():
        return None, 0
    order = np.lexsort((heights, tiles))
    order = order[selected[order]]
    return FrameTable(tiles[order], order), int(np.unique(tiles[order], return_counts=True)[1].max())


def gather_stacks(volumes: list[DicomInstance]) -> list[tuple[DicomInstance, ...]]:
    """Instances that differ in height alone, from the slide upwards; each of the others by itself."""
    alike: dict[tuple[object, ...], list[DicomInstance]] = {}
    for each in volumes:
        key = each.size, each.tile_size, each.syntax, each.samples, each.bits, each.photometric
        alike.setdefault(key, []).append(each)
    gathered: list[tuple[DicomInstance, ...]] = []
    for group in alike.values():
        by_height = {each.height: each for each in group if each.height is not None and _count_paths(each) == 1}
        if 1 < len(by_height) == len(group):
            gathered.append(tuple(by_height[height] for height in sorted(by_height)))
        else:
            gathered += [(each,) for each in group]
    return gathered


def _count_paths(instance: DicomInstance) -> int:
    sequence = items(instance.header, tags.OPTICAL_PATH)
    return max(integer(instance.header, tags.OPTICAL_PATHS, 1), len(sequence), len({*instance.positions.paths}), 1)


def order_concatenation(instances: list[DicomInstance], source: ByteSource) -> tuple[DicomInstance, ...]:
    """The instances of a concatenation in order. An issue for each that is missing."""
    numbered = {integer(instance.header, tags.CONCATENATION_NUMBER, 1): instance for instance in instances}
    total = max(integer(instance.header, tags.CONCATENATION_TOTAL) for instance in instances)
    total = max(total, *numbered)
    if total > 65_535 or set(numbered) != set(range(1, total + 1)):
        numbers = ", ".join(str(number) for number in sorted(numbered)[:20])
        raise CheckAbortedError(slide_issue("concatenation", actual=numbers, total=total))
    ordered = tuple(numbered[number] for number in sorted(numbered))
    offset = 0
    for instance in ordered:
        if integer(instance.header, tags.CONCATENATION_OFFSET, offset) != offset:
            actual = integer(instance.header, tags.CONCATENATION_OFFSET)
            source.add_issue(
                "malformed", what="the first frame of a concatenation's part", actual=actual, expected=offset
            )
        offset += instance.frames
    return ordered
