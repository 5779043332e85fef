"""A file's bytes at any place, and what a static check hands on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from datasets.slides.errors import SlideIssue, slide_issue

Size = tuple[int, int]  # width, height


class CheckAbortedError(Exception):
    """What was asked for lies beyond the end of the file, or contradicts itself; the check cannot go on from there."""

    def __init__(self, issue: SlideIssue):
        self.issue = issue
        super().__init__(issue.en)


@dataclass(slots=True)
class ByteSource:
    """Reads never go beyond the end; `faults` gathers what was found wrong, `held` counts the bytes of tables kept."""

    path: Path
    descriptor: int
    size: int
    issues: list[SlideIssue] = field(default_factory=list)
    table_bytes: int = 0

    def read(self, offset: int, length: int, label: str) -> bytes:
        """Exactly `length` bytes; raises Ends if the file does not hold them."""
        if offset < 0 or offset + length > self.size:
            raise CheckAbortedError(slide_issue("truncated", what=label, found=offset + length, end=self.size))
        data = b""
        while len(data) < length:
            chunk = os.pread(self.descriptor, length - len(data), offset + len(data))
            if not chunk:
                raise CheckAbortedError(
                    slide_issue("truncated", what=label, found=offset + length, end=offset + len(data))
                )
            data += chunk
        return data

    def read_up_to(self, offset: int, limit: int) -> bytes:
        """Up to `most` bytes."""
        return os.pread(self.descriptor, limit, offset) if 0 <= offset < self.size else b""

    def add_issue(self, code: str, **values: object) -> None:
        """One fault is told once, however many tiles repeat it."""
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
    """What a slide says of itself. `files` are all it is made of, and the only ones that may be opened for it.

    levels: (width, height) from the finest, as far as the format tells without decoding.
    mpp:    microns per pixel (x, y) as stated, or None; never guessed.
    flat:   it has no tiles, and is decoded whole.
    """

    path: Path
    format: str
    levels: tuple[Size, ...]
    mpp: tuple[float, float] | None
    files: tuple[Path, ...]
    is_flat: bool = False
    notes: tuple[str, ...] = ()
