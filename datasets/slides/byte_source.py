"""Read the bytes of a file at any offset, and describe a checked slide."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from datasets.slides.errors import SlideIssue, slide_issue
from datasets.slides.scale import ScaleStatement

Size = tuple[int, int]  # width, height


class CheckAbortedError(Exception):
    """The file ends too early or contradicts itself, so the check cannot continue."""

    def __init__(self, issue: SlideIssue):
        self.issue = issue
        super().__init__(issue.en)


@dataclass(slots=True)
class ByteSource:
    """Reads never go beyond the end. issues: what is wrong so far. table_bytes: bytes of tables in memory."""

    path: Path
    descriptor: int
    size: int
    issues: list[SlideIssue] = field(default_factory=list)
    table_bytes: int = 0

    def read(self, offset: int, length: int, label: str) -> bytes:
        """Exactly `length` bytes. Raises CheckAbortedError if the file has fewer. label: what they are, for the
        message.
        """
        if offset < 0 or offset + length > self.size:
            raise CheckAbortedError(slide_issue("truncated", what=label, actual=offset + length, end=self.size))
        data = b""
        while len(data) < length:
            chunk = os.pread(self.descriptor, length - len(data), offset + len(data))
            if not chunk:
                raise CheckAbortedError(
                    slide_issue("truncated", what=label, actual=offset + length, end=offset + len(data))
                )
            data += chunk
        return data

    def read_up_to(self, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes."""
        return os.pread(self.descriptor, limit, offset) if 0 <= offset < self.size else b""

    def add_issue(self, code: str, **values: object) -> None:
        """Add an issue unless it is there already, however many tiles have it."""
        issue = slide_issue(code, **values)
        if all(issue != existing for existing in self.issues):
            self.issues.append(issue)


@contextmanager
def open_source(path: Path) -> Iterator[ByteSource]:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        yield ByteSource(path, descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class CheckedSlide:
    """What a slide states about itself. files: all files of the slide, the only ones that may be opened for it.

    levels:  (width, height) from the finest, as far as the format states them without decoding.
    mpp:     microns per pixel (x, y) as stated, or None, also if the statements differ; never guessed.
    is_flat: without tiles, so there are no smaller levels.
    scales:  all statements about the scale.
    planes:  focal planes of a TIFF.
    """

    path: Path
    format: str
    levels: tuple[Size, ...]
    mpp: tuple[float, float] | None
    files: tuple[Path, ...]
    is_flat: bool = False
    notes: tuple[str, ...] = ()
    scales: tuple[ScaleStatement, ...] = ()
    planes: int = 1
