"""Calibrate probabilities from logits. Numpy only: serving applies what training fitted.

temperature = fit_temperature(logits, labels)              # one number for all classes (Guo et al. 2017)
line = fit_platt(log_odds(logits, abnormal), label2)       # Platt's line for abnormal or not
p = line.probability(log_odds(new_logits, abnormal))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.02, 50.0  # temperatures tried
GOLDEN_RATIO = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class PlattCalibration:
    """slope > 0, so the order of the slides never changes."""

    slope: float
    intercept: float

    def probability(self, log_odds: ArrayLike) -> Vector:
        return sigmoid(self.slope * np.asarray(log_odds, np.float64) + self.intercept)


def log_odds(logits: NDArray[Any], positive: NDArray[np.intp]) -> Vector:
    """Log-odds of the classes `positive` together against all others, (n,); logits: (n, classes)."""
    logits = np.asarray(logits, np.float64)
    others = np.setdiff1d(np.arange(logits.shape[1]), positive)
    odds: Vector = np.logaddexp.reduce(logits[:, positive], axis=1) - np.logaddexp.reduce(logits[:, others], axis=1)
    return odds


def fit_platt(scores: ArrayLike, positive: ArrayLike) -> PlattCalibration:
    """Platt's line on rows that the network has not learned from; raw, positive: (n,).

    With his targets, (k + 1) / (k + 2) and 1 / (m + 2): k positives and m negatives that separate perfectly would
    otherwise have infinite odds. Raises ValueError if the scores are uninformative.
    """
    score_values, labels = np.asarray(scores, np.float64), np.asarray(positive, np.float64)
    positive_count, negative_count = (labels == 1).sum(), (labels == 0).sum()
    if not positive_count or not negative_count:
        raise ValueError(
            f"There are {positive_count} positives and {negative_count} negatives; both are needed to calibrate."
        )
    targets = np.where(labels == 1, (positive_count + 1) / (positive_count + 2), 1 / (negative_count + 2))
    mean, deviation = score_values.mean(), max(float(score_values.std()), 1e-9)  # Newton's steps suit numbers near 1
    slope, intercept = _fit_logistic((score_values - mean) / deviation, targets)
    if not slope > 0:
        raise ValueError(
            f"The scores do not tell positive from negative (slope {slope:.3g}; it must be above 0). "
            "Check the labels, or give more slides."
        )
    return PlattCalibration(slope / deviation, intercept - slope * mean / deviation)


def _fit_logistic(scores: Vector, targets: Vector) -> tuple[float, float]:
    """(slope, intercept) with the smallest log loss; truth is strictly between 0 and 1, so a finite one exists."""
    design = np.column_stack([scores, np.ones_like(scores)])
    beta = np.array([0.0, 0.0])
    for _ in range(100):
        predicted = sigmoid(design @ beta)
        curvature = (design * (predicted * (1 - predicted))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.clip(np.linalg.solve(curvature, design.T @ (targets - predicted)), -1, 1)
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    return float(beta[0]), float(beta[1])


def sigmoid(odds: Vector) -> Vector:
    """1 / (1 + exp(-odds)), without overflow."""
    probability: Vector = np.exp(-np.logaddexp(0.0, -odds))
    return probability


def fit_temperature(logits: NDArray[Any], labels: NDArray[np.intp]) -> float:
    """The divisor of logits (n, classes) with the smallest log loss on held-out rows, by golden section search."""
    low, high = np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)
    for _ in range(60):
        left, right = high - GOLDEN_RATIO * (high - low), low + GOLDEN_RATIO * (high - low)
        if log_loss(logits / np.exp(left), labels) < log_loss(logits / np.exp(right), labels):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def log_loss(logits: NDArray[Any], labels: NDArray[np.intp]) -> float:
    logits = np.asarray(logits, np.float64)
    label_logits = logits[np.arange(len(labels)), labels]
    return float(np.mean(np.logaddexp.reduce(logits, axis=1) - label_logits))


def expected_calibration_error(probability: ArrayLike, positive: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: mean difference of stated and true share over `bins` bins of equal size."""
    predicted, labels = np.asarray(probability, np.float64), np.asarray(positive, np.float64)
    bin_rows = np.array_split(np.argsort(predicted, kind="stable"), min(bins, len(predicted)))
    return float(
        sum(abs(predicted[rows].mean() - labels[rows].mean()) * len(rows) for rows in bin_rows) / len(predicted)
    )
