"""When to give no answer: a tile unlike all that was learned, or a set of answers that spans the boundary.

far = Familiar.fit(training_embeddings, calibration_embeddings)        # (n, d) both, disjoint by patient
far.unknown(embeddings)                                                # (n,) True: out of distribution
sets = Conformal.fit(probabilities, labels)                            # rows not learned from
sets.spans(probabilities, positive)                                    # (n,) True: both answers remain possible

Numpy alone; what `fit` found is a few arrays that a bundle can hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FALSE_ALARMS = 0.05  # share of familiar tiles that may be called unknown
NEIGHBOURS = 5
BLOCK = 4_096  # tiles whose distances are in memory together

DENSITY = -np.log(np.maximum(np.arange(256, dtype=np.float32), 4) / 255)  # of each grey level

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Familiar:
    """Distance to the NEIGHBOURS-th nearest known embedding of unit length (Sun et al. 2022), and where it ends."""

    known: NDArray[np.float32]  # (m, d) unit length
    threshold: float

    @classmethod
    def fit(cls, learned: NDArray[Any], calibration: NDArray[Any], false_alarms: float = FALSE_ALARMS) -> Familiar:
        """The threshold lets at most `false_alarms` of tiles like the calibration's be called unknown, on average.

        Raises ValueError with too few calibration tiles to promise that.
        """
        _enough(len(learned), len(calibration), false_alarms)
        draft = cls.of(learned)
        return draft.calibrated(draft.distance(calibration), false_alarms)

    @classmethod
    def of(cls, embeddings: NDArray[Any]) -> Familiar:
        """These embeddings as the known ones; nothing is familiar until it is calibrated."""
        return cls(_unit(embeddings).astype(np.float32), -1.0)

    def calibrated(self, distances: NDArray[Any], false_alarms: float = FALSE_ALARMS) -> Familiar:
        """The same known embeddings, with the threshold that these distances of calibration tiles give."""
        rank = _enough(len(self.known), len(distances), false_alarms)
        return Familiar(self.known, float(np.sort(distances)[rank - 1]))

    def distance(self, embeddings: NDArray[Any]) -> Matrix:
        """(n,) 0: known, 2: the opposite direction."""
        unit = _unit(embeddings).astype(np.float32)
        parts = [unit[start : start + BLOCK] @ self.known.T for start in range(0, len(unit), BLOCK)]
        nearest = [-np.partition(-part, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1] for part in parts]
        far: Matrix = 1.0 - np.concatenate(nearest).astype(np.float64)
        return far

    def unknown(self, embeddings: NDArray[Any]) -> NDArray[np.bool_]:
        """(n,) A distance that is no number is unknown too."""
        return ~(self.distance(embeddings) <= self.threshold)


@dataclass(frozen=True, slots=True)
class Stain:
    """How far a tile's stain is from all known ones; an embedding is taught to overlook it, so it cannot tell.

    known: (m, 6) `density` of tiles, less `middle`, over `spread`. weight: makes it comparable with another distance.
    Measured on simulated slides at 5 % false alarms: of tiles in another stain the embedding knows 13 %, this all.
    """

    known: NDArray[np.float32]
    middle: NDArray[np.float32]  # (6,)
    spread: NDArray[np.float32]  # (6,)
    weight: float = 1.0

    @classmethod
    def of(cls, densities: NDArray[np.float32]) -> Stain:
        middle, spread = densities.mean(0), densities.std(0) + np.float32(1e-3)
        return cls((densities - middle) / spread, middle, spread)

    def distance(self, densities: NDArray[np.float32]) -> Matrix:
        """(n,) to the NEIGHBOURS-th nearest, Euclidean, times the weight; densities (n, 6)."""
        scaled = (densities - self.middle) / self.spread
        nearest = []
        for start in range(0, len(scaled), 256):
            apart = ((scaled[start : start + 256, None] - self.known) ** 2).sum(2)
            nearest.append(np.partition(apart, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1])
        far: Matrix = self.weight * np.sqrt(np.concatenate(nearest).astype(np.float64))
        return far

    def like(self, own: NDArray[Any], other: NDArray[Any], false_alarms: float = FALSE_ALARMS) -> Stain:
        """Weighed so that its distances `own` and those of another kind raise the same share of false alarms."""
        share = 1 - false_alarms / 2
        return Stain(self.known, self.middle, self.spread, float(np.quantile(other, share) / np.quantile(own, share)))


def density(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, 6) mean and deviation of the optical density in red, green and blue, from every second pixel each way."""
    optical = DENSITY[tiles[:, ::2, ::2].reshape(len(tiles), -1, 3)]
    return np.concatenate([optical.mean(1), optical.std(1)], 1)


@dataclass(frozen=True, slots=True)
class Conformal:
    """Sets that hold the true class with probability 1 - alpha, for each class apart (Vovk 2012, Mondrian)."""

    lowest: tuple[float, ...]  # per class: the least probability at which it stays in the set

    @classmethod
    def fit(cls, probabilities: NDArray[Any], labels: NDArray[np.intp], alpha: float = 0.05) -> Conformal:
        """probabilities (n, classes) of rows not learned from; a class too rare for a promise is always in the set."""
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1.")
        lowest = []
        for place in range(probabilities.shape[1]):
            own = np.sort(probabilities[labels == place, place])
            rank = int(np.floor(alpha * (len(own) + 1)))  # own probabilities below the limit
            lowest.append(float(own[rank - 1]) if rank >= 1 else 0.0)
        return cls(tuple(lowest))

    def sets(self, probabilities: NDArray[Any]) -> NDArray[np.bool_]:
        """(n, classes) True: possible. A row may be empty: like nothing seen."""
        possible: NDArray[np.bool_] = probabilities >= np.array(self.lowest)
        return possible

    def spans(self, probabilities: NDArray[Any], positive: NDArray[np.intp]) -> NDArray[np.bool_]:
        """(n,) True: the set holds classes on both sides, or none, so it decides nothing."""
        possible = self.sets(probabilities)
        rest = np.setdiff1d(np.arange(possible.shape[1]), positive)
        undecided: NDArray[np.bool_] = possible[:, positive].any(1) == possible[:, rest].any(1)
        return undecided


def _enough(known: int, calibration: int, false_alarms: float) -> int:
    """Which of the ascending calibration distances is the threshold; split conformal: exact on average."""
    rank = int(np.ceil((calibration + 1) * (1 - false_alarms)))
    if rank > calibration or known < NEIGHBOURS:
        raise ValueError(
            f"There are {known} tiles to know and {calibration} to calibrate on; at least {NEIGHBOURS} "
            f"and {int(np.ceil(1 / false_alarms)) - 1} are needed for {false_alarms:.0%} false alarms."
        )
    return rank


def _unit(embeddings: NDArray[Any]) -> Matrix:
    rows = np.asarray(embeddings, np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        unit: Matrix = rows / np.maximum(length, 1e-12)
    return unit
