"""What every simulator of this package shares: the mark of simulated data, random streams, and files that are complete.

The commands are `python -m datasets simulate county|register|slides`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

SIMULATED_KEY = "yuheng.simulated"  # Parquet metadata; its value is "true"
Rng = np.random.Generator


def sigmoid(x: np.ndarray) -> np.ndarray:
    value: np.ndarray = 1.0 / (1.0 + np.exp(-x))
    return value


def is_marked_simulated(path: Path) -> bool:
    """Whether the metadata of a Parquet file say that it is simulated."""
    return pl.read_parquet_metadata(path).get(SIMULATED_KEY) == "true"


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; the file is renamed to `path` once the block has written it without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_name(f".{path.name}.partial")
    try:
        yield partial_path
        os.replace(partial_path, path)
    finally:
        partial_path.unlink(missing_ok=True)
