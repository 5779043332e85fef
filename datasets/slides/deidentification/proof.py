"""Prove that a copy of a slide holds all of its tissue and nothing about the patient, before the original goes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from datasets.slides.byte_source import CheckedSlide, open_source
from datasets.slides.deidentification.container import Container, TileRange
from datasets.slides.errors import SlideError, slide_issue
from datasets.slides.limits import SlideLimits
from datasets.slides.static_check import check_slide

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Proof:
    """tiles: compared, bit for bit. The digests are over all files of the slide; seconds: how long the proof took."""

    tiles: int
    original_sha256: str
    copy_sha256: str
    seconds: float


def prove_copy(checked: CheckedSlide, copy: Path, container: Container, limits: SlideLimits) -> Proof:
    """Raises SlideError with the code not_proved and everything that was found."""
    started = time.monotonic()
    copied = check_slide(copy, limits)
    tiles = _compare_tiles(checked, copied, container, limits)
    return Proof(tiles, _sha256(checked.files), _sha256(copied.files), round(time.monotonic() - started, 3))


def _compare_tiles(original: CheckedSlide, copy: CheckedSlide, container: Container, limits: SlideLimits) -> int:
    count = 0
    for first, second in zip_longest(container.tile_ranges(original, limits), container.tile_ranges(copy, limits)):
        if first is None or second is None or _digest(first) != _digest(second):
            raise SlideError(original.path.name, [slide_issue("not_proved", actual=f"tile {count:,} differs")])
        count += 1
    return count


def _digest(tile: TileRange) -> bytes:
    path, offset, length = tile
    digest = hashlib.blake2b()
    for block in _blocks(path, offset, length):
        digest.update(block)
    return digest.digest()


def _sha256(paths: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        for block in _blocks(path, 0, path.stat().st_size):
            digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path, offset: int, length: int) -> Iterator[bytes]:
    with open_source(path) as source:
        for start in range(0, length, BLOCK_BYTES):
            yield source.read(offset + start, min(BLOCK_BYTES, length - start), "a tile")
