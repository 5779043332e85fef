"""How inputs are spread over a card's bins: learned once in training, counted of what is answered later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.schema import Column
from models.card import Bins, Drift

SCORE = "pd"
BINS = 10  # of a number: tenths of the rows learned from


def learn(columns: Sequence[Column], learned: np.ndarray, fresh: np.ndarray, pd: np.ndarray) -> Drift:
    """learned, fresh: (rows, inputs), encoded; pd: (rows,) of the fresh ones.

    The edges are those of the rows learned from. Counted are rows that the model had not seen: of those it had, its PD
    is more certain than any that it will give.
    """
    edges = [
        tuple(np.arange(len(column.levels) - 1) + 0.5) if column.kind == "category" else _tenths(learned[:, at])
        for at, column in enumerate(columns)
    ]
    names = [*(column.name for column in columns), SCORE]
    empty = [Bins(name=name, edges=told, counts=()) for name, told in zip(names, [*edges, _tenths(pd)], strict=True)]
    counted = Counter(empty).count(fresh, pd)
    bins = [one.model_copy(update={"counts": tuple(part.tolist())}) for one, part in zip(empty, counted, strict=True)]
    return Drift(rows=len(fresh), inputs=tuple(bins[:-1]), score=bins[-1])


def _tenths(values: np.ndarray) -> tuple[float, ...]:
    """At most BINS - 1 values of the column, ascending; below each lies as large a share as there can."""
    known = values[~np.isnan(values)].astype(np.float32)
    if not len(known):
        return ()
    steps = np.quantile(known, np.arange(1, BINS) / BINS, method="inverted_cdf")
    return tuple(float(edge) for edge in np.unique(steps) if edge < known.max())


@dataclass
class Counter:
    """`bins`: of the inputs in their order, then of the score."""

    bins: Sequence[Bins]

    def __post_init__(self) -> None:
        self._edges = [np.array(one.edges, np.float32) for one in self.bins]

    def count(self, x: np.ndarray, pd: np.ndarray) -> list[np.ndarray]:
        """Rows in each bin, (edges + 2,) int64 for each of `bins`. As the graph does, it reads float32."""
        x, pd = np.asarray(x, np.float32), np.asarray(pd, np.float32)
        counted = []
        for at, edges in enumerate(self._edges):
            values = pd if at == len(self._edges) - 1 else x[:, at]
            place = np.searchsorted(edges, values)  # a NaN goes behind the last edge
            place[np.isnan(values)] = len(edges) + 1
            counted.append(np.bincount(place, minlength=len(edges) + 2))
        return counted


def of_card(drift: Drift) -> Counter:
    return Counter((*drift.inputs, drift.score))


def flat(counted: Sequence[np.ndarray]) -> np.ndarray:
    """Side by side, as they are kept."""
    return np.concatenate(counted).astype(np.int64)


def apart(drift: Drift, counts: np.ndarray) -> list[np.ndarray]:
    """`flat` undone."""
    sizes = [len(one.counts) for one in (*drift.inputs, drift.score)]
    return np.split(counts, np.cumsum(sizes)[:-1])
