"""Statistics for monitoring: discrimination, calibration, shares and drift, each with a 95 % interval; numpy only.

Where there are too few cases for an estimate, the result is None.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.drift import psi
from models.metrics import Z_95, Interval, calibration_bins, fit_calibration, logit, placements, wilson_interval

MIN_OUTCOMES = 10  # of either outcome; with fewer, discrimination and calibration are not estimated
TOLERANCE = 1e-12
PERMUTATIONS_PER_DRAW = 500

Floats = NDArray[np.float64]


def proportion(count: int, total: int) -> Interval | None:
    """A share with its interval (Wilson 1927); None for no cases."""
    return wilson_interval(count, total) if total else None


# --- discrimination


def auc(score: Floats, bad: NDArray[np.bool_]) -> Interval | None:
    """The probability that a bad case has a higher score than a good one, ties counting half.

    score, bad: (cases,). The interval is that of DeLong et al. (1988), computed on the log-odds scale, so that it stays
    between 0 and 1.
    """
    if min(bad.sum(), (~bad).sum()) < MIN_OUTCOMES:
        return None
    positives, negatives = placements(score, bad)
    value = float(positives.mean())
    standard_error = math.sqrt(positives.var(ddof=1) / len(positives) + negatives.var(ddof=1) / len(negatives))
    if not TOLERANCE < value < 1 - TOLERANCE:
        bound = 1 - 0.025 ** (1 / min(len(positives), len(negatives)))  # 0 errors in n (Clopper-Pearson)
        return Interval(value, value, bound) if value < 0.5 else Interval(value, 1 - bound, value)
    centre, half_width = math.log(value / (1 - value)), Z_95 * standard_error / (value * (1 - value))
    return Interval(value, _expit(centre - half_width), _expit(centre + half_width))


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value))


# --- calibration


@dataclass(frozen=True)
class Calibration:
    """A perfectly calibrated model has slope 1, intercept 0 and ratio 1.

    slope, intercept: of a logistic regression on the log-odds of the PD; the intercept with the slope fixed at 1 (Cox
    1958). ratio: observed to expected defaults. groups: (mean PD, share bad, low, high, rows), by PD.
    """

    slope: Interval | None
    intercept: Interval | None
    ratio: Interval
    groups: list[tuple[float, float, float, float, int]]


def calibration(pd: Floats, bad: NDArray[np.bool_], groups: int = 10) -> Calibration | None:
    """pd, bad: (cases,). groups: at most so many, of MIN_OUTCOMES cases or more. Intervals are Wald's."""
    if min(bad.sum(), (~bad).sum()) < MIN_OUTCOMES:
        return None
    log_odds = logit(pd)
    fit = fit_calibration(log_odds, bad[None].astype(np.float64), (~bad)[None].astype(np.float64))
    slope, offset, intercept = (float(values[0]) for values in (fit.slope, fit.offset, fit.intercept))
    expected = float(pd.sum())
    ratio, half_width = float(bad.sum()) / expected, Z_95 * math.sqrt(float((pd * (1 - pd)).sum())) / expected
    bins = calibration_bins(pd, bad, min(groups, max(1, len(pd) // MIN_OUTCOMES)))
    return Calibration(
        slope=None if math.isnan(slope) else _wald_interval(slope, offset, slope, log_odds, slope_is_free=True),
        intercept=None if math.isnan(intercept) else _wald_interval(intercept, intercept, 1.0, log_odds),
        ratio=Interval(ratio, max(0.0, ratio - half_width), ratio + half_width),
        groups=[(group.mean_pd, *group.bad_rate, group.rows) for group in bins],
    )


def _wald_interval(
    value: float, offset: float, slope: float, log_odds: Floats, slope_is_free: bool = False
) -> Interval | None:
    """Interval of a coefficient from the Fisher information at the fit; None where that is singular."""
    p = 1 / (1 + np.exp(-np.clip(offset + slope * log_odds, -35, 35)))
    weight = p * (1 - p)
    information = float(weight.sum())
    if slope_is_free and information:
        mean = float(weight @ log_odds) / information
        information = float(weight @ (log_odds - mean) ** 2)
    if information < TOLERANCE:
        return None
    half_width = Z_95 / math.sqrt(information)
    return Interval(value, value - half_width, value + half_width)


# --- accuracy of slide reading, where flagged slides are verified more often than the others


def corrected_accuracy(
    totals: tuple[int, int], verified: tuple[int, int], positives: tuple[int, int], seed: int = 0
) -> dict[str, Interval]:
    """Sensitivity and specificity, corrected for partial verification (Begg and Greenes 1983).

    Each argument is (flagged slides, others): all of them, those with a diagnosis, those with a positive one. The share
    of positives among the verified slides of a group stands for the complete group. Intervals are quantiles of draws
    from the Jeffreys posterior of the two shares.
    """
    if not all(verified):
        return {}
    rng = np.random.default_rng(seed)
    n_flagged, n_unflagged = totals

    def accuracy(flagged: Floats, unflagged: Floats) -> tuple[Floats, Floats]:
        true_positives, false_negatives = n_flagged * flagged, n_unflagged * unflagged
        true_negatives, false_positives = n_unflagged - false_negatives, n_flagged - true_positives
        return true_positives / np.maximum(true_positives + false_negatives, TOLERANCE), true_negatives / np.maximum(
            true_negatives + false_positives, TOLERANCE
        )

    value = accuracy(*(np.array([i / n]) for i, n in zip(positives, verified, strict=True)))
    draws = accuracy(*(rng.beta(i + 0.5, n - i + 0.5, 4_000) for i, n in zip(positives, verified, strict=True)))
    intervals: dict[str, Interval] = {}
    for name, estimate, samples in zip(("sensitivity", "specificity"), value, draws, strict=True):
        low, high = (float(end) for end in np.quantile(samples, [0.025, 0.975]))
        intervals[name] = Interval(float(estimate[0]), min(low, float(estimate[0])), max(high, float(estimate[0])))
    return intervals


# --- drift


@dataclass(frozen=True)
class DriftTest:
    """A test of whether two samples of one input have the same distribution.

    psi: population stability index. threshold: its 95th percentile under the null hypothesis. p: the p value. q: p
    corrected for the number of tests (Benjamini and Hochberg 1995).
    """

    name: str
    psi: float
    threshold: float
    p: float
    q: float = 1.0


def drift_tests(
    names: Sequence[str],
    reference_counts: Sequence[NDArray[np.int64]],
    current_counts: Sequence[NDArray[np.int64]],
    seed: int = 0,
) -> list[DriftTest]:
    """Test each input for drift between two samples. reference_counts, current_counts: (bins,) for each of `names`.

    A permutation test: both samples are pooled and divided again at random, as often as the correction for the number
    of tests needs. The threshold thus follows from the numbers of rows, not from a rule of thumb.
    """
    draws = max(1_999, 100 * len(names))
    rng = np.random.default_rng(seed)
    tests = []
    for name, reference, current in zip(names, reference_counts, current_counts, strict=True):
        pooled = reference + current
        is_used = pooled > 0
        if not current.sum() or not reference.sum() or is_used.sum() < 2:
            tests.append(DriftTest(name, 0.0, 0.0, 1.0))
            continue
        reference, current, pooled = reference[is_used], current[is_used], pooled[is_used]
        null_values = np.concatenate(
            [_permutations(rng, pooled, int(current.sum())) for _ in range(-(-draws // PERMUTATIONS_PER_DRAW))]
        )
        value = float(psi(reference[None], current[None])[0])
        p = (1 + int((null_values >= value - TOLERANCE).sum())) / (len(null_values) + 1)
        tests.append(DriftTest(name, value, float(np.quantile(null_values, 0.95)), p))
    corrected = benjamini_hochberg([test.p for test in tests])
    return [DriftTest(test.name, test.psi, test.threshold, test.p, q) for test, q in zip(tests, corrected, strict=True)]


def _permutations(rng: np.random.Generator, pooled: NDArray[np.int64], size: int) -> Floats:
    """The PSI of PERMUTATIONS_PER_DRAW random divisions of the pooled rows, `size` of them in one sample."""
    permuted = rng.multivariate_hypergeometric(pooled, size, size=PERMUTATIONS_PER_DRAW, method="marginals")
    time.sleep(0)  # let the service run in between: numpy holds the interpreter lock while it draws
    return psi(pooled - permuted, permuted)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """For each p value, the smallest false discovery rate at which it is significant (Benjamini and Hochberg 1995)."""
    order = np.argsort(p_values)
    scaled = np.array(p_values)[order] * len(p_values) / np.arange(1, len(p_values) + 1)
    sorted_q_values = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    q_values = np.empty(len(p_values))
    q_values[order] = sorted_q_values
    return [float(value) for value in q_values]
