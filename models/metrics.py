"""Compute the statistics that training and serving share: AUC, calibration, shares with their intervals.

Training evaluates a new model with them, serving monitors a deployed one. numpy alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959964  # two-sided 95 % quantile of the normal distribution
MIN_PD = 1e-9  # a probability closer to 0 or 1 is clipped before its log-odds are taken
MAX_SLOPE = 50.0  # a steeper calibration slope is undefined: the score separates the outcomes
MAX_STEPS, MAX_HALVINGS = 50, 30  # of Newton's method, and of one of its steps
SINGULAR = 1e-12  # determinant of the information matrix below which a step is 0

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A figure and its 95 % interval; NaN where the rows do not define it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def to_json(self) -> dict[str, float | None]:
        """NaN becomes None, because JSON has no NaN."""
        return {name: float(bound) if math.isfinite(bound) else None for name, bound in self._asdict().items()}


def wilson_interval(successes: int, trials: int) -> Interval:
    """A share and its interval (Wilson 1927). `trials` must be positive."""
    share, z2 = successes / trials, Z_95 * Z_95 / trials
    centre = (share + z2 / 2) / (1 + z2)
    half_width = Z_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials)) / (1 + z2)
    return Interval(share, max(0.0, centre - half_width), min(1.0, centre + half_width))


# --- discrimination


def auc(score: Floats, bad: NDArray[np.bool_]) -> float:
    """P(score of a bad row > score of a good one), ties counting half; NaN where one of the outcomes is missing."""
    if not bad.any() or bad.all():
        return math.nan
    return float(placements(score, bad)[0].mean())


def placements(score: Floats, bad: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Placement values (DeLong 1988): for each bad row the share of good rows scored below it, for each good row the
    share of bad rows scored above it, ties counting half. Both outcomes must occur."""
    positives, negatives = score[bad], score[~bad]
    ranks = _midranks(np.concatenate([positives, negatives]))
    return (
        (ranks[: len(positives)] - _midranks(positives)) / len(negatives),
        1 - (ranks[len(positives) :] - _midranks(negatives)) / len(positives),
    )


def _midranks(values: Floats) -> Floats:
    """Ranks from 1; tied values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    midranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return midranks


# --- calibration


def logit(pd: Floats) -> Floats:
    """Log-odds of probabilities, clipped so that 0 and 1 stay finite."""
    clipped = np.clip(pd, MIN_PD, 1 - MIN_PD)
    log_odds: Floats = np.log(clipped / (1 - clipped))
    return log_odds


@dataclass(frozen=True)
class CalibrationFit:
    """Logistic regressions of the outcome on the log-odds that were stated; one value for each resample.

    slope, offset: with both free. intercept: with the slope held at 1, which is calibration in the large (Cox 1958,
    Van Calster et al. 2019). Perfect are a slope of 1 and an intercept of 0; NaN where one of the outcomes is missing,
    the slope also where all log-odds are equal or it exceeds MAX_SLOPE.
    """

    slope: Floats
    offset: Floats
    intercept: Floats


def fit_calibration(log_odds: Floats, bad: Floats, good: Floats) -> CalibrationFit:
    """Fit slope and intercept to counts of bad and good rows, (resamples, values), at each of `log_odds` (values,).

    Newton's method on all resamples at once. Each step is halved until the loss does not rise, because a full step
    overshoots where the stated probabilities are far too extreme.
    """
    rows = bad + good
    slope, offset, intercept = np.ones(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))

    def loss(offset: Floats, slope: Floats) -> Floats:
        z = offset[:, None] + slope[:, None] * log_odds
        return np.asarray((rows * np.logaddexp(0.0, z) - bad * z).sum(axis=1))

    fixed_slope, no_step = np.ones(len(rows)), np.zeros(len(rows))
    for step in range(MAX_STEPS):
        p = _expit(offset[:, None] + slope[:, None] * log_odds)
        residual, curvature = bad - rows * p, rows * p * (1 - p)
        g0, g1 = residual.sum(axis=1), residual @ log_odds
        h0, h1, h2 = curvature.sum(axis=1), curvature @ log_odds, curvature @ log_odds**2
        determinant = h0 * h2 - h1**2
        offset_step, slope_step = (
            _safe_divide(h2 * g0 - h1 * g1, determinant),
            _safe_divide(h0 * g1 - h1 * g0, determinant),
        )
        fraction = _step_fraction(loss, (offset, slope), (offset_step, slope_step))
        offset, slope = offset + fraction * offset_step, slope + fraction * slope_step
        p = _expit(intercept[:, None] + log_odds)
        intercept_step = _safe_divide((bad - rows * p).sum(axis=1), (rows * p * (1 - p)).sum(axis=1))
        fraction = _step_fraction(loss, (intercept, fixed_slope), (intercept_step, no_step))
        intercept = intercept + fraction * intercept_step
        if step and np.abs(np.concatenate([offset_step, slope_step, intercept_step])).max(initial=0) < 1e-7:
            break
    has_both = (bad.sum(axis=1) > 0) & (good.sum(axis=1) > 0)
    has_slope = has_both & (np.ptp(log_odds) > 0) & (np.abs(slope) < MAX_SLOPE)
    return CalibrationFit(
        slope=np.where(has_slope, slope, np.nan),
        offset=np.where(has_slope, offset, np.nan),
        intercept=np.where(has_both, intercept, np.nan),
    )


def _step_fraction(loss: Callable[..., Floats], start: tuple[Floats, ...], step: tuple[Floats, ...]) -> Floats:
    """(resamples,) the share of each step, 1, 1/2, 1/4, ..., at which the loss does not rise."""
    fraction, initial_loss = np.ones(len(start[0])), loss(*start)
    for _ in range(MAX_HALVINGS):
        next_loss = loss(*(x + fraction * delta for x, delta in zip(start, step, strict=True)))
        rises = ~(next_loss <= initial_loss * (1 + 1e-12) + 1e-12)
        if not rises.any():
            break
        fraction = np.where(rises, fraction / 2, fraction)
    return fraction


def calibration_slope(pd: Floats, bad: NDArray[np.bool_]) -> float:
    """Slope of the outcome's logistic regression on the log-odds of `pd` (rows,); 1 is perfect."""
    return float(fit_calibration(logit(pd), bad[None].astype(np.float64), (~bad)[None].astype(np.float64)).slope[0])


@dataclass(frozen=True)
class CalibrationBin:
    """Rows of similar PD: their mean PD, and the share of bad ones with its interval (Wilson 1927)."""

    rows: int
    mean_pd: float
    bad_rate: Interval


def calibration_bins(pd: Floats, bad: NDArray[np.bool_], bins: int) -> list[CalibrationBin]:
    """At most `bins` bins of equally many rows, in ascending order of PD."""
    bin_rows = np.array_split(np.argsort(pd, kind="stable"), min(bins, len(pd)))
    return [
        CalibrationBin(len(rows), float(pd[rows].mean()), wilson_interval(int(bad[rows].sum()), len(rows)))
        for rows in bin_rows
    ]


def _expit(log_odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -500, 500))))


def _safe_divide(numerator: Floats, denominator: Floats) -> Floats:
    return np.asarray(numerator / np.where(np.abs(denominator) > SINGULAR, denominator, np.inf))
