"""How well a probability of default orders and states the risk, each figure with a bootstrap interval.

measures(y, pd, Draws(len(y)))["auc"]      # Interval(value=.7838, low=.7722, high=.7951)

Every figure is computed from the counts of bad and good rows at each distinct PD, so a resample costs one pass over the
rows and ties are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import betainc, expit

MAX_CHUNK_CELLS = 200_000  # of a chunk of resamples: 1.6 MB of float64, which stays in cache
MAX_POOLS = 500  # of neighbouring PDs
MAX_HALVINGS = 30  # of a step of Newton's method
METRICS = ("auc", "gini", "ks", "h", "brier", "slope", "intercept")


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its central 95 % bootstrap interval; NaN where the rows do not define it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def to_json(self) -> dict[str, float | None]:
        """NaN becomes None, which every JSON reader knows."""
        bounds = {"value": self.value, "low": self.low, "high": self.high}
        return {name: float(bound) if np.isfinite(bound) else None for name, bound in bounds.items()}


@dataclass(frozen=True)
class BootstrapSamples:
    """Bootstrap resamples of `rows` rows, whole groups at a time where `groups` (rows,) is given (as by village)."""

    rows: int
    resamples: int = 300
    seed: int = 0
    groups: np.ndarray | None = None

    def iter_weights(self) -> Iterator[np.ndarray]:
        """How often each row is drawn: (some resamples, rows) float64, until all resamples are given."""
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
        """Draws among the chosen rows alone."""
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
    """Sorts the rows once; each call then counts one chunk of resamples."""

    def __init__(self, score: np.ndarray, y: np.ndarray):
        self.order = np.argsort(score, kind="stable")
        ascending = score[self.order]
        self.starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
        self.values = ascending[self.starts]
        self.y = y[self.order].astype(np.float64)

    def __call__(self, weights: np.ndarray) -> ScoreCounts:
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
    blocks of the ROC curve's convex hull whose bad rate exceeds c. Those blocks are what isotonic regression of the
    outcome on the score finds, so the expected least loss is a sum over blocks of `_least_loss`; the useless score's is
    the same with one block.
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
    """Expected least loss per row of blocks with bad rate `rate`: refused where c < rate, else accepted.

    (1 - r) * integral_0^r c u(c) dc  +  r * integral_r^1 (1 - c) u(c) dc,  u = Beta(1 + base, 2 - base).
    """
    a, b = 1 + base, 2 - base
    refused = a / (a + b) * betainc(a + 1, b, rate)
    accepted = b / (a + b) * (1 - betainc(a, b + 1, rate))
    return np.asarray((1 - rate) * refused + rate * accepted)


def calibration(counts: ScoreCounts, steps: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """(slope, intercept), each (resamples,), of the outcome's logistic regression on the PD's log-odds.

    The intercept is calibration in the large: with the slope held at 1 (Van Calster et al. 2019). 1 and 0 are perfect;
    a slope under 1 means that the PDs are too far apart. Newton's method, all resamples at once, each step halved until
    the loss does not rise: for PDs far too sure a whole step overshoots. For resamples, which only make an interval,
    neighbouring PDs are pooled into POOLS.
    """
    log_odds, bad, good = _logit(counts.values), counts.bad, counts.good
    if len(bad) > 1 and len(log_odds) > MAX_POOLS:
        starts = np.linspace(0, len(log_odds), MAX_POOLS, endpoint=False).astype(int)
        size = np.diff(np.r_[starts, len(log_odds)])
        log_odds = np.add.reduceat(log_odds, starts) / size
        bad, good = (np.add.reduceat(values, starts, axis=1) for values in (bad, good))
    rows = bad + good
    slope, joint_intercept, intercept_in_large = np.ones(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))

    def loss(intercept: np.ndarray, slope_values: np.ndarray) -> np.ndarray:
        z = intercept[:, None] + slope_values[:, None] * log_odds
        return np.asarray((rows * np.logaddexp(0.0, z) - bad * z).sum(axis=1))

    for step in range(steps):
        p = expit(joint_intercept[:, None] + slope[:, None] * log_odds)
        residual, curvature = bad - rows * p, rows * p * (1 - p)
        g0, g1 = residual.sum(axis=1), residual @ log_odds
        h0, h1, h2 = curvature.sum(axis=1), curvature @ log_odds, curvature @ log_odds**2
        determinant = h0 * h2 - h1**2
        intercept_step, slope_step = (
            _safe_divide(h2 * g0 - h1 * g1, determinant),
            _safe_divide(h0 * g1 - h1 * g0, determinant),
        )
        step_fraction = _damped_step(loss, (joint_intercept, slope), (intercept_step, slope_step))
        joint_intercept, slope = joint_intercept + step_fraction * intercept_step, slope + step_fraction * slope_step
        p = expit(intercept_in_large[:, None] + log_odds)
        large_step = _safe_divide((bad - rows * p).sum(axis=1), (rows * p * (1 - p)).sum(axis=1))
        intercept_in_large = (
            intercept_in_large
            + _damped_step(
                loss, (intercept_in_large, np.ones_like(intercept_in_large)), (large_step, np.zeros_like(large_step))
            )
            * large_step
        )
        if step and np.abs(np.concatenate([intercept_step, slope_step, large_step])).max(initial=0) < 1e-7:
            break
    is_constant = np.ptp(log_odds) == 0 if len(log_odds) else True
    return (
        np.where(counts.has_both_outcomes & ~is_constant & (np.abs(slope) < 50), slope, np.nan),
        np.where(counts.has_both_outcomes, intercept_in_large, np.nan),
    )


def _damped_step(
    loss: Callable[..., np.ndarray], start: tuple[np.ndarray, ...], step: tuple[np.ndarray, ...]
) -> np.ndarray:
    """(resamples,) the share of each step, 1, 1/2, 1/4, ..., at which the loss does not rise."""
    fraction, initial_loss = np.ones(len(start[0])), loss(*start)
    for _ in range(MAX_HALVINGS):
        rises = ~(
            loss(*(x + fraction * delta for x, delta in zip(start, step, strict=True)))
            <= initial_loss * (1 + 1e-12) + 1e-12
        )
        if not rises.any():
            break
        fraction = np.where(rises, fraction / 2, fraction)
    return fraction


def compute_values(counts: ScoreCounts) -> dict[str, np.ndarray]:
    """Every figure of MEASURES for every resample."""
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
    """Every figure of MEASURES of PDs (rows,) against outcomes (rows,) of 0 and 1, with its interval."""
    counter = ScoreCounter(pd, y)
    value = compute_values(counter(np.ones((1, len(y)))))
    resampled = [compute_values(counter(weights)) for weights in samples.iter_weights()]
    return {
        name: percentile_interval(value[name][0], np.concatenate([values[name] for values in resampled]))
        for name in METRICS
    }


def auc_difference(y: np.ndarray, new: np.ndarray, old: np.ndarray, samples: BootstrapSamples) -> Interval:
    """AUC of `new` less AUC of `old` on the same resampled rows (paired bootstrap)."""
    new_counter, old_counter = ScoreCounter(new, y), ScoreCounter(old, y)
    unit_weights = np.ones((1, len(y)))
    differences = [auc(new_counter(weights)) - auc(old_counter(weights)) for weights in samples.iter_weights()]
    return percentile_interval(
        (auc(new_counter(unit_weights)) - auc(old_counter(unit_weights)))[0], np.concatenate(differences)
    )


def bootstrap_interval(values: Callable[[np.ndarray], np.ndarray], samples: BootstrapSamples) -> Interval:
    """Interval of any figure of row weights: `values` takes (resamples, rows) and gives (resamples,)."""
    value = values(np.ones((1, samples.rows)))[0]
    return percentile_interval(value, np.concatenate([values(weights) for weights in samples.iter_weights()]))


def percentile_interval(value: float, resampled: np.ndarray) -> Interval:
    """Percentile interval; resamples in which the figure is undefined are left out."""
    defined = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or len(defined) < max(2, len(resampled) // 2):
        return Interval(float(value), np.nan, np.nan)
    low, high = np.quantile(defined, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


def psi(before: np.ndarray, after: np.ndarray, bins: int = 10) -> float:
    """Population stability index over the quantiles of `before`, missing (NaN) a bin of its own.

    Under 0.1 is read as stable, over 0.25 as shifted. Empty bins count as half a row, which keeps it finite.
    """
    known_values = before[np.isfinite(before)]
    edges = (
        np.unique(np.quantile(known_values, np.linspace(0, 1, bins + 1)[1:-1])) if len(known_values) else np.empty(0)
    )

    def share(values: np.ndarray) -> np.ndarray:
        bin_index = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="left"))
        count = np.maximum(np.bincount(bin_index, minlength=len(edges) + 2), 0.5)
        return np.asarray(count / count.sum())

    before_share, after_share = share(before), share(after)
    return float(((after_share - before_share) * np.log(after_share / before_share)).sum())


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(p / (1 - p)))


def _divide_or_nan(counts: ScoreCounts, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.where(counts.has_both_outcomes, numerator / np.where(counts.has_both_outcomes, denominator, 1), np.nan)


def _safe_divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.asarray(numerator / np.where(np.abs(denominator) > 1e-12, denominator, np.inf))
