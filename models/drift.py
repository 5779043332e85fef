"""Drift: count inputs and scores in the bins of a card, fitted in training, and compare two such counts (PSI)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.derived_columns import FloatArray
from datasets.schema import ColumnSchema
from models.card import BinCounts, DriftProfile

SCORE_NAME = "pd"
BIN_COUNT = 10  # of a number: deciles of the training rows


def fit_bins(
    columns: Sequence[ColumnSchema], training_x: np.ndarray, holdout_x: np.ndarray, pd: np.ndarray
) -> DriftProfile:
    """Fit bins to the training rows, and count the held-out rows in them.

    training_x, holdout_x: (rows, inputs), encoded. pd: (rows,) of the held-out rows. Held-out rows are counted because
    PDs of training rows are more extreme than any that the model will give later.
    """
    edges = [
        tuple(np.arange(len(column.levels) - 1) + 0.5)
        if column.kind == "category"
        else _decile_edges(training_x[:, index])
        for index, column in enumerate(columns)
    ]
    names = [*(column.name for column in columns), SCORE_NAME]
    empty_bins = [
        BinCounts(name=name, edges=bin_edges, counts=())
        for name, bin_edges in zip(names, [*edges, _decile_edges(pd)], strict=True)
    ]
    counts = BinCounter(empty_bins).count(holdout_x, pd)
    bins = [
        bin_counts.model_copy(update={"counts": tuple(column_counts.tolist())})
        for bin_counts, column_counts in zip(empty_bins, counts, strict=True)
    ]
    return DriftProfile(rows=len(holdout_x), inputs=tuple(bins[:-1]), score=bins[-1])


def _decile_edges(values: np.ndarray) -> tuple[float, ...]:
    """At most BIN_COUNT - 1 distinct values of the column, ascending: its deciles, as far as ties allow."""
    known = values[~np.isnan(values)].astype(np.float32)
    if not len(known):
        return ()
    deciles = np.quantile(known, np.arange(1, BIN_COUNT) / BIN_COUNT, method="inverted_cdf")
    return tuple(float(edge) for edge in np.unique(deciles) if edge < known.max())


@dataclass
class BinCounter:
    """bins: those of the inputs in their order, then those of the score."""

    bins: Sequence[BinCounts]

    def __post_init__(self) -> None:
        self._edges = [np.array(bin_counts.edges, np.float32) for bin_counts in self.bins]

    def count(self, x: np.ndarray, pd: np.ndarray) -> list[np.ndarray]:
        """Count rows in each bin: (edges + 2,) int64 for each of `bins`. Values are read as float32, like the graph."""
        x, pd = np.asarray(x, np.float32), np.asarray(pd, np.float32)
        counts = []
        for index, edges in enumerate(self._edges):
            values = pd if index == len(self._edges) - 1 else x[:, index]
            positions = np.searchsorted(edges, values)  # NaN sorts after the last edge
            positions[np.isnan(values)] = len(edges) + 1
            counts.append(np.bincount(positions, minlength=len(edges) + 2))
        return counts


def from_card(drift: DriftProfile) -> BinCounter:
    return BinCounter((*drift.inputs, drift.score))


def flatten(counts: Sequence[np.ndarray]) -> np.ndarray:
    """The counts concatenated, as they are stored."""
    return np.concatenate(counts).astype(np.int64)


def unflatten(drift: DriftProfile, counts: np.ndarray) -> list[np.ndarray]:
    """The inverse of `flatten`."""
    sizes = [len(bin_counts.counts) for bin_counts in (*drift.inputs, drift.score)]
    return np.split(counts, np.cumsum(sizes)[:-1])


def psi(reference_counts: NDArray[np.integer], current_counts: NDArray[np.integer]) -> FloatArray:
    """Population stability index of two histograms (..., bins); under 0.1 is read as stable, over 0.25 as shifted.

    Half a row is added to every bin, so that an empty bin leaves the index finite.
    """
    reference, current = reference_counts + 0.5, current_counts + 0.5
    reference = reference / reference.sum(axis=-1, keepdims=True)
    current = current / current.sum(axis=-1, keepdims=True)
    index: FloatArray = ((current - reference) * np.log(current / reference)).sum(axis=-1)
    return index
