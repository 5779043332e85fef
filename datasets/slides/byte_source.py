"""A file's bytes at any place, and what a static check hands on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from datasets.slides.errors import SlideFault, fault

Size = tuple[int, int]  # width, height


class Ends(Exception):
    """What was asked for lies beyond the end of the file, or contradicts itself; the check cannot go on from there."""

    def __init__(self, reason: SlideFault):
        self.reason = reason
        super().__init__(reason.en)


@dataclass(slots=True)
class Source:
    """Reads never go beyond the end; `faults` gathers what was found wrong, `held` counts the bytes of tables kept."""

    path: Path
    descriptor: int
    size: int
    faults: list[SlideFault] = field(default_factory=list)
    held: int = 0

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Exactly `length` bytes; raises Ends if the file does not hold them."""
        if offset < 0 or offset + length > self.size:
            raise Ends(fault("truncated", what=what, found=offset + length, end=self.size))
        parts = b""
        while len(parts) < length:
            part = os.pread(self.descriptor, length - len(parts), offset + len(parts))
            if not part:
                raise Ends(fault("truncated", what=what, found=offset + length, end=offset + len(parts)))
            parts += part
        return parts

    def some(self, offset: int, most: int) -> bytes:
        """Up to `most` bytes."""
        return os.pread(self.descriptor, most, offset) if 0 <= offset < self.size else b""

    def wrong(self, code: str, **values: object) -> None:
        """One fault is told once, however many tiles repeat it."""
        found = fault(code, **values)
        if all(found != each for each in self.faults):
            self.faults.append(found)


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        yield Source(path, descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Found:
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
    flat: bool = False
    notes: tuple[str, ...] = ()
