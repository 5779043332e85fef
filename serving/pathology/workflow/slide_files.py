"""The arrays in a slide's folder: the grid of its tiles, and what the network returned for each batch of them.

<slide>/grid.npz             places (n, 2) and cells (n, 2) of the tiles with tissue in reading order, extent, mpp,
                             shape (columns, rows), facts: the slide's metadata as JSON
<slide>/batches/00000.npz    TileOutputs of one batch

Files appear whole or not at all.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.pathology.slides import storage

Arrays = dict[str, NDArray[Any]]
BatchRange = tuple[int, int]  # first tile, and the one after the last
EMBEDDING_CHUNK_TILES = 8_192  # embeddings in memory at a time while a slide is aggregated


def load_grid(slide_dir: Path) -> Arrays:
    """The arrays of grid.npz."""
    with np.load(slide_dir / "grid.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write an npz."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    storage.write_file(path, buffer.getvalue())


def batch_ranges(tile_count: int, batch_size: int) -> list[BatchRange]:
    """The tiles of each batch."""
    return [(first, min(first + batch_size, tile_count)) for first in range(0, tile_count, batch_size)]


def batch_path(slide_dir: Path, number: int) -> Path:
    """The file that holds the outputs of a batch."""
    return slide_dir / "batches" / f"{number:05d}.npz"


def load_outputs(slide_dir: Path, batch_count: int) -> Arrays:
    """reasons, logits and distance of all tiles, without their embeddings."""
    names = ("reasons", "logits", "distance")
    batches = []
    for number in range(batch_count):
        with np.load(batch_path(slide_dir, number), allow_pickle=False) as arrays:
            batches.append([arrays[name] for name in names])
    return dict(zip(names, (np.concatenate(column) for column in zip(*batches, strict=True)), strict=True))


def iter_embeddings(
    slide_dir: Path, ranges: list[BatchRange], used_rows: NDArray[np.intp]
) -> Iterator[NDArray[np.float32]]:
    """The embeddings of the used tiles in order, in chunks of EMBEDDING_CHUNK_TILES tiles (less than a batch more)."""
    chunks: list[NDArray[np.float32]] = []
    for number, (start, stop) in enumerate(ranges):
        in_batch = used_rows[(used_rows >= start) & (used_rows < stop)] - start
        if len(in_batch):
            with np.load(batch_path(slide_dir, number), allow_pickle=False) as arrays:
                chunks.append(arrays["embedding"][in_batch].astype(np.float32))
        if sum(map(len, chunks)) >= EMBEDDING_CHUNK_TILES:
            yield np.concatenate(chunks)
            chunks = []
    if chunks:
        yield np.concatenate(chunks)
