"""Make the columns of a batch's answers: codes and whole units of money, for the ledgers of all products."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.policy.arithmetic import Bound


def to_int(amount: Any, rows: int) -> NDArray[np.int64]:
    return np.broadcast_to(amount, rows).astype(np.int64)


def amount_or_nan(bound: Bound, rows: int) -> NDArray[np.float64]:
    """The amount, NaN where its inputs are missing."""
    return np.where(bound[1], np.broadcast_to(bound[0], rows), math.nan)


def to_nullable_int(amount: NDArray[np.float64]) -> pl.Series:
    """Whole units, rounded down; null for NaN."""
    return pl.Series(np.floor(amount), nan_to_null=True).cast(pl.Int64)


def gather_codes(names: list[str], indices: NDArray[np.int64]) -> pl.Series:
    return pl.Series(names).gather(indices)


def join_codes(flags: Mapping[str, Any], rows: int) -> pl.Series:
    """The codes whose flags hold, joined by ';', (rows,). There are few combinations, so each is joined once."""
    mask = np.zeros(rows, np.int64)
    for bit, flag in enumerate(flags.values()):
        mask += np.broadcast_to(flag, rows).astype(np.int64) << bit
    combinations, indices = np.unique(mask, return_inverse=True)
    codes = list(flags)
    texts = [";".join(code for bit, code in enumerate(codes) if combination >> bit & 1) for combination in combinations]
    return pl.Series(texts, dtype=pl.String).gather(indices)


def check_pd_range(minimum: float, maximum: float) -> None:
    """Raise ValueError for a PD outside 0 to 1: a comparison with NaN would approve."""
    if not (minimum >= 0 and maximum <= 1):
        actual = f"{minimum}" if minimum == maximum else f"from {minimum} to {maximum}"
        raise ValueError(f"The PD is {actual}; it must be from 0 to 1. Export the graph again.")
