"""Decide when to give no answer: tiles out of distribution, or a prediction set on both sides of the boundary.

detector = KnnOodDetector.fit(training_embeddings, calibration_embeddings)      # (n, d) both, disjoint by patient
detector.is_ood(embeddings)                                                    # (n,) True: out of distribution
sets = ConformalClassifier.fit(probabilities, labels)                          # rows not learned from
sets.is_undecided(probabilities, positive)                                     # (n,) True: both answers are possible

Numpy only; the result of `fit` is a few arrays that a bundle can contain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FALSE_POSITIVE_RATE = 0.05  # share of familiar tiles that may be called unknown
NEIGHBOURS = 5
CHUNK_TILES = 4_096  # tiles whose distances are in memory together

OPTICAL_DENSITY = -np.log(np.maximum(np.arange(256, dtype=np.float32), 4) / 255)  # of each grey level

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class KnnOodDetector:
    """Out-of-distribution detection by the distance to the NEIGHBOURS-th nearest known embedding (Sun et al. 2022)."""

    reference_embeddings: NDArray[np.float32]  # (m, d) unit length
    threshold: float

    @classmethod
    def fit(
        cls, training: NDArray[Any], calibration: NDArray[Any], false_positive_rate: float = FALSE_POSITIVE_RATE
    ) -> KnnOodDetector:
        """Fit the threshold so that, on average, at most `false_alarms` of tiles like the calibration tiles are
        called OOD.

        Raises ValueError if there are too few calibration tiles for this guarantee.
        """
        _threshold_rank(len(training), len(calibration), false_positive_rate)
        detector = cls.from_embeddings(training)
        return detector.calibrate(detector.distance(calibration), false_positive_rate)

    @classmethod
    def from_embeddings(cls, embeddings: NDArray[Any]) -> KnnOodDetector:
        """A detector of these known embeddings; every tile is OOD until it is calibrated."""
        return cls(_normalise(embeddings).astype(np.float32), -1.0)

    def calibrate(self, distances: NDArray[Any], false_positive_rate: float = FALSE_POSITIVE_RATE) -> KnnOodDetector:
        """The same detector with the threshold from these distances of calibration tiles."""
        rank = _threshold_rank(len(self.reference_embeddings), len(distances), false_positive_rate)
        return KnnOodDetector(self.reference_embeddings, float(np.sort(distances)[rank - 1]))

    def distance(self, embeddings: NDArray[Any]) -> Matrix:
        """Distance from the known embeddings, (n,): 0 for a known one, 2 for the opposite direction."""
        unit = _normalise(embeddings).astype(np.float32)
        similarities = [
            unit[start : start + CHUNK_TILES] @ self.reference_embeddings.T
            for start in range(0, len(unit), CHUNK_TILES)
        ]
        nearest = [-np.partition(-similarity, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1] for similarity in similarities]
        distances: Matrix = 1.0 - np.concatenate(nearest).astype(np.float64)
        return distances

    def is_ood(self, embeddings: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each distance is out of distribution, (n,); NaN is."""
        return ~(self.distance(embeddings) <= self.threshold)


@dataclass(frozen=True, slots=True)
class StainOodDetector:
    """Distance of a tile's stain from all known stains; embeddings are trained to ignore the stain.

    known: (m, 6) stain_density of tiles, less `middle`, over `spread`. weight: makes distances comparable.
    On simulated slides at 5 % false alarms, embeddings detect 13 % of tiles in another stain, this detects all.
    """

    reference_densities: NDArray[np.float32]
    mean: NDArray[np.float32]  # (6,)
    deviation: NDArray[np.float32]  # (6,)
    weight: float = 1.0

    @classmethod
    def from_densities(cls, densities: NDArray[np.float32]) -> StainOodDetector:
        mean, deviation = densities.mean(0), densities.std(0) + np.float32(1e-3)
        return cls((densities - mean) / deviation, mean, deviation)

    def distance(self, densities: NDArray[np.float32]) -> Matrix:
        """Weighted Euclidean distance to the NEIGHBOURS-th nearest, (n,); densities: (n, 6)."""
        scaled = (densities - self.mean) / self.deviation
        nearest = []
        for start in range(0, len(scaled), 256):
            squared_distances = ((scaled[start : start + 256, None] - self.reference_densities) ** 2).sum(2)
            nearest.append(np.partition(squared_distances, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1])
        distances: Matrix = self.weight * np.sqrt(np.concatenate(nearest).astype(np.float64))
        return distances

    def matched_to(
        self,
        stain_distances: NDArray[Any],
        other_distances: NDArray[Any],
        false_positive_rate: float = FALSE_POSITIVE_RATE,
    ) -> StainOodDetector:
        """The detector weighted so that its distances `own` cause the same share of false alarms as those of another
        kind.
        """
        quantile = 1 - false_positive_rate / 2
        return StainOodDetector(
            self.reference_densities,
            self.mean,
            self.deviation,
            float(np.quantile(other_distances, quantile) / np.quantile(stain_distances, quantile)),
        )


def stain_density(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, 6) mean and deviation of the optical density in red, green and blue, from every second pixel each way."""
    densities = OPTICAL_DENSITY[tiles[:, ::2, ::2].reshape(len(tiles), -1, 3)]
    return np.concatenate([densities.mean(1), densities.std(1)], 1)


@dataclass(frozen=True, slots=True)
class ConformalClassifier:
    """Prediction sets that contain the true class with probability 1 - alpha, for each class (Vovk 2012, Mondrian)."""

    lowest: tuple[float, ...]  # per class: the least probability at which it stays in the set

    @classmethod
    def fit(cls, probabilities: NDArray[Any], labels: NDArray[np.intp], alpha: float = 0.05) -> ConformalClassifier:
        """Fit to probabilities (n, classes) of held-out rows; a class too rare for a guarantee is always in the set."""
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1.")
        lowest = []
        for index in range(probabilities.shape[1]):
            class_probabilities = np.sort(probabilities[labels == index, index])
            rank = int(np.floor(alpha * (len(class_probabilities) + 1)))  # own probabilities below the limit
            lowest.append(float(class_probabilities[rank - 1]) if rank >= 1 else 0.0)
        return cls(tuple(lowest))

    def prediction_sets(self, probabilities: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each class is possible, (n, classes). A row may be empty: unlike everything seen."""
        possible: NDArray[np.bool_] = probabilities >= np.array(self.lowest)
        return possible

    def is_undecided(self, probabilities: NDArray[Any], positive: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether the set contains classes of both sides, or none, and so decides nothing, (n,)."""
        possible = self.prediction_sets(probabilities)
        negative = np.setdiff1d(np.arange(possible.shape[1]), positive)
        undecided: NDArray[np.bool_] = possible[:, positive].any(1) == possible[:, negative].any(1)
        return undecided


def _threshold_rank(reference_count: int, calibration_count: int, false_positive_rate: float) -> int:
    """The rank of the threshold among the ascending calibration distances (split conformal, exact on average)."""
    rank = int(np.ceil((calibration_count + 1) * (1 - false_positive_rate)))
    if rank > calibration_count or reference_count < NEIGHBOURS:
        raise ValueError(
            f"There are {reference_count} tiles to know and {calibration_count} to calibrate on; at least {NEIGHBOURS} "
            f"and {int(np.ceil(1 / false_positive_rate)) - 1} are needed for {false_positive_rate:.0%} false alarms."
        )
    return rank


def _normalise(embeddings: NDArray[Any]) -> Matrix:
    rows = np.asarray(embeddings, np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        unit: Matrix = rows / np.maximum(length, 1e-12)
    return unit
