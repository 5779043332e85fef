"""Prove that a copy of a slide holds all of its tissue and nothing about the patient, before the original goes.

proof = prove_copy(checked, copy, container, limits, known=("ACC-77", "Zhang_San.svs"))

Two readers that did not write the copy show no picture beside the tissue and no word outside of the vocabulary of its
format; no word of the original's other texts stands in any byte of any file; all stored pixels are the same.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from datasets.slides import sandbox
from datasets.slides.byte_source import ByteSource, CheckAbortedError, CheckedSlide, open_source
from datasets.slides.deidentification.codestream import clean_j2k, clean_jpeg
from datasets.slides.deidentification.container import Container, TileRange
from datasets.slides.deidentification.proof.identifiers import MAX_WORDS, derive_words, needles, unknown_words
from datasets.slides.deidentification.proof.readers import Inspection, inspect_slide
from datasets.slides.deidentification.proof.search import Ranges, WordSearch
from datasets.slides.errors import SlideError, slide_issue
from datasets.slides.limits import SlideLimits
from datasets.slides.reader import Slide
from datasets.slides.static_check import check_slide

BLOCK_BYTES = 1 << 20
SAMPLES_PER_LEVEL, SAMPLE_SIDE = 4, 256
MAX_FAILURES_SHOWN = 5
OWN_READER = "Yuheng"  # the parser of the container, which is of this release
Failure = tuple[str, str]  # what disproves the copy, in English and in Chinese; it never quotes a text


@dataclass(frozen=True, slots=True)
class Proof:
    """readers: name and version of each. words: derived from the original; bytes: searched for them, in `files` files.
    tiles: stored tiles compared; regions: decoded and compared. The digests are over all files in order of their names.
    """

    readers: tuple[tuple[str, str], ...]
    words: int
    files: int
    bytes: int
    tiles: int
    regions: int
    original_sha256: str
    copy_sha256: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"readers": [{"name": name, "version": version} for name, version in self.readers]}


def prove_copy(
    checked: CheckedSlide, copy: Path, container: Container, limits: SlideLimits, known: Iterable[str] = ()
) -> Proof:
    """Raises SlideError with the code not_proved and everything that was found. known: words of the request form."""
    started = time.monotonic()
    copied = check_slide(copy, limits)
    files = sorted(path for path in copy.parent.rglob("*") if path.is_file())
    failures: list[Failure] = []
    readers = _inspect(copied, container, limits, failures)
    tiles, ranges = _compare_tiles(checked, copied, container, limits, failures)
    regions = _compare_pixels(checked, copied, limits, failures)
    names = [name for path in checked.files for name in path.relative_to(checked.path.parent).parts]
    texts = (raw for _, raw in container.iter_texts(checked, limits))
    words = derive_words(texts, [*known, *(name.rpartition(".")[0] or name for name in names)], container.words)
    if len(words) > MAX_WORDS:
        failures.append((f"its texts have more than {MAX_WORDS:,} words", f"原始文本超过 {MAX_WORDS:,} 个词"))
    else:
        _search(copy, files, ranges, words, container.words, failures)
    if failures:
        english, chinese = zip(*dict.fromkeys(failures[:MAX_FAILURES_SHOWN]), strict=True)
        issue = slide_issue("not_proved", actual="; ".join(english), actual_zh="；".join(chinese))
        raise SlideError(checked.path.name, [issue])
    return Proof(
        readers,
        len(words),
        len(files),
        sum(path.stat().st_size for path in files),
        tiles,
        regions,
        _sha256(sorted(checked.files)),
        _sha256(files),
        round(time.monotonic() - started, 3),
    )


def _inspect(
    copied: CheckedSlide, container: Container, limits: SlideLimits, failures: list[Failure]
) -> tuple[tuple[str, str], ...]:
    """Pictures and texts that independent readers show, and texts that the parser of the container does not know."""
    inspections = inspect_slide(copied)
    own = Inspection(OWN_READER, "")
    for where, raw in container.iter_texts(copied, limits):
        own.add(where, raw)
    inspections.append(own)
    for each in inspections:
        failures += [
            (f"{each.reader} shows a picture beside the tissue", f"{each.reader} 读到组织以外的图像")
            for _ in each.pictures
        ]
    for each in inspections:
        failures += [
            (
                f"{each.reader} shows a text that is not on the list of retained ones ({where})",
                f"{each.reader} 读到不在保留清单内的文本（{where}）",
            )
            for where, text in each.texts
            if unknown_words(container.measures.sub(" ", text) if container.measures else text, container.words)
        ]
    return tuple((each.reader, each.version) for each in inspections)


def _search(
    copy: Path,
    files: list[Path],
    tiles: dict[Path, Ranges],
    words: set[str],
    vocabulary: frozenset[str],
    failures: list[Failure],
) -> None:
    search = WordSearch(needle for word in words for needle in needles(word, vocabulary))
    for path in files:
        name = path.relative_to(copy.parent)
        if search.matches(str(name).encode()):
            failures.append(("a word of the original is in the name of a file", "文件名含原始文件中的词"))
        offset = search.find(path, tiles.get(path, Ranges()))
        if offset is not None:
            failures.append(
                (
                    f"a word of the original is at byte {offset:,} of {name}",
                    f"{name} 第 {offset:,} 字节处有原始文件中的词",
                )
            )


def _compare_tiles(
    original: CheckedSlide, copy: CheckedSlide, container: Container, limits: SlideLimits, failures: list[Failure]
) -> tuple[int, dict[Path, Ranges]]:
    """The number of stored tiles, and where they are in the copy."""
    count, ranges = 0, {path: Ranges() for path in copy.files}
    with _LastSource() as originals, _LastSource() as copies:
        for first, second in zip_longest(container.tile_ranges(original, limits), container.tile_ranges(copy, limits)):
            if first is None or second is None:
                failures.append((f"one of the two has only {count:,} tiles", f"两者之一只有 {count:,} 个图块"))
                break
            if not _same_tile(originals.open(first[0]), first, copies.open(second[0]), second):
                failures.append((f"tile {count:,} differs", f"第 {count:,} 个图块不同"))
            path, offset, length = second
            ranges[path].add(offset, length)
            count += 1
    for each in ranges.values():
        each.sort()
    return count, ranges


class _LastSource:
    """Keeps the last file open, as most tiles are in the same file as the one before."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._source: ByteSource | None = None

    def open(self, path: Path) -> ByteSource:
        if self._source is None or self._source.path != path:
            self._stack.close()
            self._source = self._stack.enter_context(open_source(path))
        return self._source

    def __enter__(self) -> _LastSource:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def _same_tile(first_source: ByteSource, first: TileRange, second_source: ByteSource, second: TileRange) -> bool:
    if first[2] == second[2] and _same_bytes(_blocks(first_source, first), _blocks(second_source, second)):
        return True
    return _same_bytes(_pixel_blocks(first_source, first), _pixel_blocks(second_source, second))


def _same_bytes(first: Iterator[bytes], second: Iterator[bytes]) -> bool:
    """Whether two streams are the same, whatever the sizes of their blocks."""
    left = right = b""
    while True:
        left, right = left or next(first, b""), right or next(second, b"")
        if not left or not right:
            return left == right
        size = min(len(left), len(right))
        if left[:size] != right[:size]:
            return False
        left, right = left[size:], right[size:]


def _blocks(source: ByteSource, tile: TileRange) -> Iterator[bytes]:
    _, offset, length = tile
    for start in range(0, length, BLOCK_BYTES):
        yield source.read(offset + start, min(BLOCK_BYTES, length - start), "a tile")


def _pixel_blocks(source: ByteSource, tile: TileRange) -> Iterator[bytes]:
    """A stored tile without comments and application segments, which are no pixels."""
    _, offset, length = tile
    head = source.read(offset, min(length, 4), "a tile")

    def read(start: int, size: int) -> bytes:
        return source.read_up_to(offset + start, max(min(size, length - start), 0))

    try:
        if head.startswith(b"\xff\xd8\xff"):
            yield from (block for block in clean_jpeg(read, length) if block)
        elif head == b"\xff\x4f\xff\x51":
            yield clean_j2k(source.read(offset, length, "a tile"))
        else:
            yield from _blocks(source, tile)
    except CheckAbortedError as error:
        raise SlideError(source.path.name, [error.issue]) from error


def _compare_pixels(original: CheckedSlide, copy: CheckedSlide, limits: SlideLimits, failures: list[Failure]) -> int:
    """The number of regions of each level that were decoded from both and are the same."""

    def compare() -> tuple[int, list[Failure]]:
        with (
            sandbox.open_slide(original.path, None, limits) as first,
            sandbox.open_slide(copy.path, None, limits) as second,
        ):
            if first.metadata.levels != second.metadata.levels:
                return 0, [("the levels differ", "层级不同")]
            if first.metadata.mpp != second.metadata.mpp:
                return 0, [("the scale differs", "比例尺不同")]
            planes = first.metadata.planes
            if planes != second.metadata.planes:
                return 0, [("the focal planes differ", "焦平面不同")]
            places = [(location, plane) for location in _sample_places(first) for plane in range(planes)]
            differing = [
                (f"the pixels at ({x:,}, {y:,}) of level {level} differ", f"第 {level} 层 ({x:,}, {y:,}) 处像素不同")
                for (level, x, y, size), plane in places
                if not np.array_equal(first.read(x, y, size, level, plane), second.read(x, y, size, level, plane))
            ]
            return len(places), differing

    count, differing = sandbox.retry_in_new_sandbox(compare)
    failures += differing
    return count


def _sample_places(slide: Slide) -> Iterator[tuple[int, int, int, tuple[int, int]]]:
    """(level, x, y, size) along the diagonal of each level; x and y in pixels of level 0."""
    for number, level in enumerate(slide.metadata.levels):
        size = min(level.width, SAMPLE_SIDE), min(level.height, SAMPLE_SIDE)
        for step in np.linspace(0, 1, SAMPLES_PER_LEVEL):
            x, y = (level.width - size[0]) * step, (level.height - size[1]) * step
            yield number, round(x * level.downsample), round(y * level.downsample), size


def _sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()
