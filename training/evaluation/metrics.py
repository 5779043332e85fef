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

CELLS = 200_000  # of a chunk of resamples: 1.6 MB of float64, which stays in cache
POOLS = 500  # of neighbouring PDs
HALVINGS = 30  # of a step of Newton's method
MEASURES = ("auc", "gini", "ks", "h", "brier", "slope", "intercept")


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its central 95 % bootstrap interval; NaN where the rows do not define it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def json(self) -> dict[str, float | None]:
        """NaN becomes None, which every JSON reader knows."""
        figures = {"value": self.value, "low": self.low, "high": self.high}
        return {name: float(figure) if np.isfinite(figure) else None for name, figure in figures.items()}


@dataclass(frozen=True)
class Draws:
    """Bootstrap resamples of `rows` rows, whole groups at a time where `groups` (rows,) is given (as by village)."""

    rows: int
    resamples: int = 300
    seed: int = 0
    groups: np.ndarray | None = None

    def chunks(self) -> Iterator[np.ndarray]:
        """How often each row is drawn: (some resamples, rows) float64, until all resamples are given."""
        rng = np.random.default_rng(self.seed)
        unit = np.arange(self.rows) if self.groups is None else np.unique(self.groups, return_inverse=True)[1]
        units = int(unit.max()) + 1 if self.rows else 0
        most = max(1, CELLS // max(1, self.rows))
        for start in range(0, self.resamples, most):
            count = min(most, self.resamples - start)
            drawn = rng.integers(0, units, (count, units)) + np.arange(count)[:, None] * units
            times = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)
            yield times if self.groups is None else times[:, unit]

    def take(self, rows: np.ndarray) -> Draws:
        """Draws among the chosen rows alone."""
        groups = None if self.groups is None else self.groups[rows]
        return Draws(len(rows), self.resamples, self.seed, groups)


@dataclass(frozen=True)
class Tally:
    """Weighted counts of bad and good rows, (resamples, values), at the ascending distinct `values` of the score."""

    values: np.ndarray
    bad: np.ndarray
    good: np.ndarray

    @property
    def both(self) -> np.ndarray:
        """(resamples,) whether both outcomes were drawn."""
        return np.asarray((self.bad.sum(axis=1) > 0) & (self.good.sum(axis=1) > 0))


class Tallier:
    """Sorts the rows once; each call then counts one chunk of resamples."""

    def __init__(self, score: np.ndarray, y: np.ndarray):
        self.order = np.argsort(score, kind="stable")
        ascending = score[self.order]
        self.starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
        self.values = ascending[self.starts]
        self.y = y[self.order].astype(np.float64)

    def __call__(self, weights: np.ndarray) -> Tally:
        weights = weights[:, self.order]
        bad = np.add.reduceat(weights * self.y, self.starts, axis=1)
        return Tally(self.values, bad, np.add.reduceat(weights, self.starts, axis=1) - bad)


def auc(tally: Tally) -> np.ndarray:
    """P(score of a bad row > score of a good one), ties half; (resamples,)."""
    below = np.cumsum(tally.good, axis=1) - tally.good / 2
    pairs = tally.bad.sum(axis=1) * tally.good.sum(axis=1)
    return _where(tally, (tally.bad * below).sum(axis=1), pairs)


def ks(tally: Tally) -> np.ndarray:
    """Largest gap between the outcomes' cumulative distributions (Kolmogorov-Smirnov); (resamples,)."""
    bad, good = np.cumsum(tally.bad, axis=1), np.cumsum(tally.good, axis=1)
    gap = np.abs(bad / np.maximum(bad[:, -1:], 1) - good / np.maximum(good[:, -1:], 1)).max(axis=1)
    return _where(tally, gap, np.ones_like(gap))


def brier(tally: Tally) -> np.ndarray:
    """Mean squared error of the PD (Brier 1950); (resamples,). `values` must be probabilities."""
    p = tally.values
    loss = tally.bad @ (1 - p) ** 2 + tally.good @ p**2
    return np.asarray(loss / (tally.bad + tally.good).sum(axis=1))


def h_measure(tally: Tally) -> np.ndarray:
    """The H-measure (Hand 2009) under the cost prior Beta(1 + bad rate, 1 + good rate) (Hand & Anagnostopoulos 2014).

    With c the cost of refusing a good row and 1 - c that of accepting a bad one, the best threshold for c refuses the
    blocks of the ROC curve's convex hull whose bad rate exceeds c. Those blocks are what isotonic regression of the
    outcome on the score finds, so the expected least loss is a sum over blocks of `_least_loss`; the useless score's is
    the same with one block.
    """
    figures = np.full(len(tally.bad), np.nan)
    for i in np.flatnonzero(tally.both):
        rows = tally.bad[i] + tally.good[i]
        seen = rows > 0
        rows, bad = rows[seen], tally.bad[i][seen]
        blocks = isotonic_regression(bad / rows, weights=rows).blocks[:-1]
        mass, rate = np.add.reduceat(rows, blocks), np.add.reduceat(bad, blocks)
        mass, rate, base = mass / rows.sum(), rate / mass, bad.sum() / rows.sum()
        figures[i] = 1 - mass @ _least_loss(rate, base) / _least_loss(np.array([base]), base)[0]
    return figures


def _least_loss(rate: np.ndarray, base: float) -> np.ndarray:
    """Expected least loss per row of blocks with bad rate `rate`: refused where c < rate, else accepted.

    (1 - r) * integral_0^r c u(c) dc  +  r * integral_r^1 (1 - c) u(c) dc,  u = Beta(1 + base, 2 - base).
    """
    a, b = 1 + base, 2 - base
    refused = a / (a + b) * betainc(a + 1, b, rate)
    accepted = b / (a + b) * (1 - betainc(a, b + 1, rate))
    return np.asarray((1 - rate) * refused + rate * accepted)


def calibration(tally: Tally, steps: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """(slope, intercept), each (resamples,), of the outcome's logistic regression on the PD's log-odds.

    The intercept is calibration in the large: with the slope held at 1 (Van Calster et al. 2019). 1 and 0 are perfect;
    a slope under 1 means that the PDs are too far apart. Newton's method, all resamples at once, each step halved until
    the loss does not rise: for PDs far too sure a whole step overshoots. For resamples, which only make an interval,
    neighbouring PDs are pooled into POOLS.
    """
    log_odds, bad, good = _logit(tally.values), tally.bad, tally.good
    if len(bad) > 1 and len(log_odds) > POOLS:
        starts = np.linspace(0, len(log_odds), POOLS, endpoint=False).astype(int)
        size = np.diff(np.r_[starts, len(log_odds)])
        log_odds = np.add.reduceat(log_odds, starts) / size
        bad, good = (np.add.reduceat(part, starts, axis=1) for part in (bad, good))
    rows = bad + good
    slope, joint, large = np.ones(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))

    def loss(intercept: np.ndarray, tilt: np.ndarray) -> np.ndarray:
        z = intercept[:, None] + tilt[:, None] * log_odds
        return np.asarray((rows * np.logaddexp(0.0, z) - bad * z).sum(axis=1))

    for step in range(steps):
        p = expit(joint[:, None] + slope[:, None] * log_odds)
        left, curve = bad - rows * p, rows * p * (1 - p)
        g0, g1 = left.sum(axis=1), left @ log_odds
        h0, h1, h2 = curve.sum(axis=1), curve @ log_odds, curve @ log_odds**2
        determinant = h0 * h2 - h1**2
        up, tilt = _safe(h2 * g0 - h1 * g1, determinant), _safe(h0 * g1 - h1 * g0, determinant)
        share = _halved(loss, (joint, slope), (up, tilt))
        joint, slope = joint + share * up, slope + share * tilt
        p = expit(large[:, None] + log_odds)
        shift = _safe((bad - rows * p).sum(axis=1), (rows * p * (1 - p)).sum(axis=1))
        large = large + _halved(loss, (large, np.ones_like(large)), (shift, np.zeros_like(shift))) * shift
        if step and np.abs(np.concatenate([up, tilt, shift])).max(initial=0) < 1e-7:
            break
    flat = np.ptp(log_odds) == 0 if len(log_odds) else True
    return (
        np.where(tally.both & ~flat & (np.abs(slope) < 50), slope, np.nan),
        np.where(tally.both, large, np.nan),
    )


def _halved(loss: Callable[..., np.ndarray], at: tuple[np.ndarray, ...], step: tuple[np.ndarray, ...]) -> np.ndarray:
    """(resamples,) the share of each step, 1, 1/2, 1/4, ..., at which the loss does not rise."""
    share, before = np.ones(len(at[0])), loss(*at)
    for _ in range(HALVINGS):
        rises = ~(loss(*(x + share * by for x, by in zip(at, step, strict=True))) <= before * (1 + 1e-12) + 1e-12)
        if not rises.any():
            break
        share = np.where(rises, share / 2, share)
    return share


def figures(tally: Tally) -> dict[str, np.ndarray]:
    """Every figure of MEASURES for every resample."""
    area = auc(tally)
    slope, intercept = calibration(tally)
    return {
        "auc": area,
        "gini": 2 * area - 1,
        "ks": ks(tally),
        "h": h_measure(tally),
        "brier": brier(tally),
        "slope": slope,
        "intercept": intercept,
    }


def measures(y: np.ndarray, pd: np.ndarray, draws: Draws) -> dict[str, Interval]:
    """Every figure of MEASURES of PDs (rows,) against outcomes (rows,) of 0 and 1, with its interval."""
    tallier = Tallier(pd, y)
    value = figures(tallier(np.ones((1, len(y)))))
    drawn = [figures(tallier(weights)) for weights in draws.chunks()]
    return {name: interval(value[name][0], np.concatenate([part[name] for part in drawn])) for name in MEASURES}


def difference(y: np.ndarray, new: np.ndarray, old: np.ndarray, draws: Draws) -> Interval:
    """AUC of `new` less AUC of `old` on the same resampled rows (paired bootstrap)."""
    ours, theirs = Tallier(new, y), Tallier(old, y)
    whole = np.ones((1, len(y)))
    drawn = [auc(ours(weights)) - auc(theirs(weights)) for weights in draws.chunks()]
    return interval((auc(ours(whole)) - auc(theirs(whole)))[0], np.concatenate(drawn))


def statistic(values: Callable[[np.ndarray], np.ndarray], draws: Draws) -> Interval:
    """Interval of any figure of row weights: `values` takes (resamples, rows) and gives (resamples,)."""
    whole = values(np.ones((1, draws.rows)))[0]
    return interval(whole, np.concatenate([values(weights) for weights in draws.chunks()]))


def interval(value: float, drawn: np.ndarray) -> Interval:
    """Percentile interval; resamples in which the figure is undefined are left out."""
    defined = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(defined) < max(2, len(drawn) // 2):
        return Interval(float(value), np.nan, np.nan)
    low, high = np.quantile(defined, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


def psi(before: np.ndarray, after: np.ndarray, bins: int = 10) -> float:
    """Population stability index over the quantiles of `before`, missing (NaN) a bin of its own.

    Under 0.1 is read as stable, over 0.25 as shifted. Empty bins count as half a row, which keeps it finite.
    """
    known = before[np.isfinite(before)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1])) if len(known) else np.empty(0)

    def share(values: np.ndarray) -> np.ndarray:
        at = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="left"))
        count = np.maximum(np.bincount(at, minlength=len(edges) + 2), 0.5)
        return np.asarray(count / count.sum())

    was, now = share(before), share(after)
    return float(((now - was) * np.log(now / was)).sum())


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(p / (1 - p)))


def _where(tally: Tally, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.where(tally.both, top / np.where(tally.both, bottom, 1), np.nan)


def _safe(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.asarray(top / np.where(np.abs(bottom) > 1e-12, bottom, np.inf))
