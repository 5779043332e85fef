"""Read a simulated county from a file, or simulate a small one on the spot."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from datasets.credit_limit.county.schema import TABLE
from datasets.credit_limit.county.simulator import simulate_county
from datasets.errors import DataError
from datasets.simulation import SIMULATED_KEY, is_marked_simulated
from datasets.validation import read_table

__all__ = ["TABLE", "read", "sample"]


def read(folder: Path | None = None) -> pl.DataFrame:
    """Read the county in the file `folder`.

    Raises DataError if no file is given, or if the file does not say that it is simulated: Parquet says so in its
    metadata, any other format in its name.
    """
    if folder is None:
        raise DataError(
            "county: no file was given. Simulate one: python -m datasets simulate county --households 50000 --seed 7"
        )
    path = Path(folder)
    if path.suffix == ".parquet" and path.is_file():
        simulated, expected = is_marked_simulated(path), f"metadata {SIMULATED_KEY} = true"
    else:
        simulated, expected = "simulated" in path.name, "'simulated' in its name"
    if not simulated:
        raise DataError(
            f"{path}: does not say that it is simulated ({expected}), and this contract describes simulated counties "
            "only. Declare a contract of its own for a bank's table."
        )
    return read_table(path, TABLE)


def sample(rows: int = 50, seed: int = 0) -> pl.DataFrame:
    """Simulate a small county."""
    return simulate_county(rows, seed)
