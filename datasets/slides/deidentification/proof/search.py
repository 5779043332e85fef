"""Search files for many words at once, in blocks, so that memory does not grow with the file."""

from __future__ import annotations

import bisect
import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.slides.byte_source import open_source

BLOCK_BYTES = 4 << 20
MIN_NEEDLE_BYTES_IN_TILES = 8  # shorter ones occur by chance in gigabytes of compressed pixels


@dataclass(slots=True)
class Ranges:
    """Ranges of bytes in a file, added in any order."""

    starts: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, start: int, length: int) -> None:
        self.starts.append(start)
        self.ends.append(start + length)

    def sort(self) -> None:
        order = sorted(range(len(self.starts)), key=self.starts.__getitem__)
        self.starts, self.ends = (array("Q", (values[index] for index in order)) for values in (self.starts, self.ends))

    def contain(self, start: int, end: int) -> bool:
        """Whether one range contains all of start to end; the ranges are sorted."""
        index = bisect.bisect_right(self.starts, start) - 1
        return index >= 0 and end <= self.ends[index]


class WordSearch:
    """Finds any of the needles: (bytes, whether case is ignored)."""

    def __init__(self, needles: Iterable[tuple[bytes, bool]]):
        import hyperscan

        self._needles = sorted(set(needles))
        self._longest = max((len(needle) for needle, _ in self._needles), default=0)
        self._database = hyperscan.Database()
        if self._needles:
            self._database.compile(
                expressions=[re.sub(rb"[^a-zA-Z0-9]", _escape, needle) for needle, _ in self._needles],
                ids=list(range(len(self._needles))),
                flags=[hyperscan.HS_FLAG_CASELESS if ignores_case else 0 for _, ignores_case in self._needles],
            )

    def __len__(self) -> int:
        return len(self._needles)

    def find(self, path: Path, tiles: Ranges) -> int | None:
        """The offset of the first match in a file. In tiles only long needles count."""
        matches: list[int] = []
        if not self._needles:
            return None

        def collect(needle: int, _start: int, end: int, _flags: int, block_offset: Any) -> None:
            length = len(self._needles[needle][0])
            start = block_offset + end - length
            if length >= MIN_NEEDLE_BYTES_IN_TILES or not tiles.contain(start, start + length):
                matches.append(start)

        with open_source(path) as source:
            overlap = self._longest - 1
            for offset in range(0, source.size, BLOCK_BYTES):
                block = source.read_up_to(offset, BLOCK_BYTES + overlap)
                self._database.scan(block, match_event_handler=collect, context=offset)
                if matches:
                    return min(matches)
        return None

    def matches(self, content: bytes) -> bool:
        needles: list[int] = []
        if self._needles:
            self._database.scan(content, match_event_handler=lambda needle, *_: needles.append(needle))
        return bool(needles)


def _escape(match: re.Match[bytes]) -> bytes:
    return b"\\x%02x" % match[0][0]
