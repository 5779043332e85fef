"""Measure how well a PD ranks and states the risk, each metric with a bootstrap interval.

compute_intervals(y, pd, BootstrapSamples(len(y)))["auc"]      # Interval(value=.7838, low=.7722, high=.7951)

Every metric is computed from the counts of bad and good rows at each distinct PD, so a resample costs one pass over the
rows and ties are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import betainc

from models.drift import psi
from models.metrics import Interval, fit_calibration, logit

MAX_CHUNK_CELLS = 200_000  # resamples times rows of one chunk: 1.6 MB of float64, which stays in cache
MAX_POOLS = 500  # groups of neighbouring PDs
METRICS = ("auc", "gini", "ks", "h", "brier", "slope", "intercept")


@dataclass(frozen=True)
class BootstrapSamples:
    """Bootstrap resamples of `rows` rows; with `groups` (rows,), whole groups such as villages are drawn."""

    rows: int
    resamples: int = 300
    seed: int = 0
    groups: np.ndarray | None = None

    def iter_weights(self) -> Iterator[np.ndarray]:
        """Yield how often each row is drawn, (resamples of a chunk, rows) float64, chunk by chunk."""
        rng = np.random.default_rng(self.seed)
        unit = np.arange(self.rows) if self.groups is None else np.unique(self.groups, return_inverse=True)[1]
        units = int(unit.max()) + 1 if self.rows else 0
        chunk_size = max(1, MAX_CHUNK_CELLS // max(1, self.rows))
        for start in range(0, self.resamples, chunk_size):
            count = min(chunk_size, self.resamples - start)
            indices = rng.integers(0, units, (count, units)) + np.arange(count)[:, None] * units
            weights = np.bincount(indices.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)
            yield weights if self.groups is None else weights[:, unit]

    def subset(self, rows: np.ndarray) -> BootstrapSamples:
        """Resamples of these rows alone."""
        groups = None if self.groups is None else self.groups[rows]
        return BootstrapSamples(len(rows), self.resamples, self.seed, groups)


@dataclass(frozen=True)
class ScoreCounts:
    """Weighted counts of bad and good rows, (resamples, values), at the ascending distinct `values` of the score."""

    values: np.ndarray
    bad: np.ndarray
    good: np.ndarray

    @property
    def has_both_outcomes(self) -> np.ndarray:
        """(resamples,) whether both outcomes were drawn."""
        return np.asarray((self.bad.sum(axis=1) > 0) & (self.good.sum(axis=1) > 0))


class ScoreCounter:
    """Count the rows of resamples by score. The rows are sorted once; each call counts one chunk of resamples."""

    def __init__(self, score: np.ndarray, y: np.ndarray):
        """score (rows,); y (rows,) 1 bad, 0 good."""
        self.order = np.argsort(score, kind="stable")
        ascending = score[self.order]
        self.starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
        self.values = ascending[self.starts]
        self.y = y[self.order].astype(np.float64)

    def __call__(self, weights: np.ndarray) -> ScoreCounts:
        """weights (resamples, rows): how often each row is drawn."""
        weights = weights[:, self.order]
        bad = np.add.reduceat(weights * self.y, self.starts, axis=1)
        return ScoreCounts(self.values, bad, np.add.reduceat(weights, self.starts, axis=1) - bad)


def auc(counts: ScoreCounts) -> np.ndarray:
    """P(score of a bad row > score of a good one), ties half; (resamples,)."""
    below = np.cumsum(counts.good, axis=1) - counts.good / 2
    pairs = counts.bad.sum(axis=1) * counts.good.sum(axis=1)
    return _divide_or_nan(counts, (counts.bad * below).sum(axis=1), pairs)


def ks(counts: ScoreCounts) -> np.ndarray:
    """Largest gap between the outcomes' cumulative distributions (Kolmogorov-Smirnov); (resamples,)."""
    bad, good = np.cumsum(counts.bad, axis=1), np.cumsum(counts.good, axis=1)
    gap = np.abs(bad / np.maximum(bad[:, -1:], 1) - good / np.maximum(good[:, -1:], 1)).max(axis=1)
    return _divide_or_nan(counts, gap, np.ones_like(gap))


def brier(counts: ScoreCounts) -> np.ndarray:
    """Mean squared error of the PD (Brier 1950); (resamples,). `values` must be probabilities."""
    p = counts.values
    loss = counts.bad @ (1 - p) ** 2 + counts.good @ p**2
    return np.asarray(loss / (counts.bad + counts.good).sum(axis=1))


def h_measure(counts: ScoreCounts) -> np.ndarray:
    """The H-measure (Hand 2009) under the cost prior Beta(1 + bad rate, 1 + good rate) (Hand & Anagnostopoulos 2014).

    With c the cost of refusing a good row and 1 - c that of accepting a bad one, the best threshold for c refuses the
    blocks of the ROC curve's convex hull whose bad rate exceeds c. Isotonic regression of the outcome on the score
    finds those blocks, so the expected minimum loss is a sum of `_minimum_loss` over blocks; a useless score has one
    block.
    """
    values = np.full(len(counts.bad), np.nan)
    for i in np.flatnonzero(counts.has_both_outcomes):
        rows = counts.bad[i] + counts.good[i]
        occupied = rows > 0
        rows, bad = rows[occupied], counts.bad[i][occupied]
        blocks = isotonic_regression(bad / rows, weights=rows).blocks[:-1]
        mass, rate = np.add.reduceat(rows, blocks), np.add.reduceat(bad, blocks)
        mass, rate, base = mass / rows.sum(), rate / mass, bad.sum() / rows.sum()
        values[i] = 1 - mass @ _minimum_loss(rate, base) / _minimum_loss(np.array([base]), base)[0]
    return values


def _minimum_loss(rate: np.ndarray, base: float) -> np.ndarray:
    """Expected minimum loss per row of blocks with bad rate `rate`: refused where c < rate, else accepted.

    (1 - r) * integral_0^r c u(c) dc  +  r * integral_r^1 (1 - c) u(c) dc,  u = Beta(1 + base, 2 - base).
    """
    a, b = 1 + base, 2 - base
    refused = a / (a + b) * betainc(a + 1, b, rate)
    accepted = b / (a + b) * (1 - betainc(a, b + 1, rate))
    return np.asarray((1 - rate) * refused + rate * accepted)


def calibration(counts: ScoreCounts) -> tuple[np.ndarray, np.ndarray]:
    """(slope, intercept), each (resamples,), of the outcome's logistic regression on the log-odds of the PD.

    See models.metrics.fit_calibration. For resamples, which only make an interval, neighbouring PDs are pooled into at
    most MAX_POOLS groups.
    """
    log_odds, bad, good = logit(counts.values), counts.bad, counts.good
    if len(bad) > 1 and len(log_odds) > MAX_POOLS:
        starts = np.linspace(0, len(log_odds), MAX_POOLS, endpoint=False).astype(int)
        size = np.diff(np.r_[starts, len(log_odds)])
        log_odds = np.add.reduceat(log_odds, starts) / size
        bad, good = (np.add.reduceat(values, starts, axis=1) for values in (bad, good))
    fit = fit_calibration(log_odds, bad, good)
    return fit.slope, fit.intercept


def compute_values(counts: ScoreCounts) -> dict[str, np.ndarray]:
    """Every metric of METRICS for every resample."""
    area = auc(counts)
    slope, intercept = calibration(counts)
    return {
        "auc": area,
        "gini": 2 * area - 1,
        "ks": ks(counts),
        "h": h_measure(counts),
        "brier": brier(counts),
        "slope": slope,
        "intercept": intercept,
    }


def compute_intervals(y: np.ndarray, pd: np.ndarray, samples: BootstrapSamples) -> dict[str, Interval]:
    """Every metric of METRICS, with its interval, of PDs (rows,) against outcomes (rows,) of 0 and 1."""
    counter = ScoreCounter(pd, y)
    value = compute_values(counter(np.ones((1, len(y)))))
    resampled = [compute_values(counter(weights)) for weights in samples.iter_weights()]
    return {
        name: percentile_interval(value[name][0], np.concatenate([values[name] for values in resampled]))
        for name in METRICS
    }


def auc_difference(y: np.ndarray, new: np.ndarray, old: np.ndarray, samples: BootstrapSamples) -> Interval:
    """AUC of `new` minus AUC of `old` on the same resampled rows (paired bootstrap)."""
    new_counter, old_counter = ScoreCounter(new, y), ScoreCounter(old, y)
    unit_weights = np.ones((1, len(y)))
    differences = [auc(new_counter(weights)) - auc(old_counter(weights)) for weights in samples.iter_weights()]
    return percentile_interval(
        (auc(new_counter(unit_weights)) - auc(old_counter(unit_weights)))[0], np.concatenate(differences)
    )


def bootstrap_interval(values: Callable[[np.ndarray], np.ndarray], samples: BootstrapSamples) -> Interval:
    """Interval of any statistic of weighted rows: `values` maps weights (resamples, rows) to (resamples,)."""
    value = values(np.ones((1, samples.rows)))[0]
    return percentile_interval(value, np.concatenate([values(weights) for weights in samples.iter_weights()]))


def percentile_interval(value: float, resampled: np.ndarray) -> Interval:
    """Percentile interval; resamples without a defined value are left out."""
    defined = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or len(defined) < max(2, len(resampled) // 2):
        return Interval(float(value), np.nan, np.nan)
    low, high = np.quantile(defined, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


def quantile_psi(before: np.ndarray, after: np.ndarray, bins: int = 10) -> float:
    """Population stability index of two samples over the quantiles of `before`, with missing values (NaN) as a bin."""
    known_values = before[np.isfinite(before)]
    edges = (
        np.unique(np.quantile(known_values, np.linspace(0, 1, bins + 1)[1:-1])) if len(known_values) else np.empty(0)
    )

    def count(values: np.ndarray) -> np.ndarray:
        bin_index = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="left"))
        return np.bincount(bin_index, minlength=len(edges) + 2)

    return float(psi(count(before), count(after)))


def _divide_or_nan(counts: ScoreCounts, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.where(counts.has_both_outcomes, numerator / np.where(counts.has_both_outcomes, denominator, 1), np.nan)
