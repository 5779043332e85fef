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

Z_95 = 1.959964
MIN_OUTCOMES = 10  # of either outcome; with fewer, discrimination and calibration are not estimated
TOLERANCE = 1e-12
PERMUTATIONS_PER_DRAW = 500

Floats = NDArray[np.float64]
Interval = tuple[float, float, float]  # value, low, high


def proportion(count: int, total: int) -> Interval | None:
    """A share with its interval (Wilson 1927)."""
    if not total:
        return None
    p, half = count / total, Z_95 * Z_95 / total
    centre = (p + half / 2) / (1 + half)
    half_width = Z_95 * math.sqrt(p * (1 - p) / total + half / (4 * total)) / (1 + half)
    return p, max(0.0, centre - half_width), min(1.0, centre + half_width)


# --- discrimination


def auc(score: Floats, bad: NDArray[np.bool_]) -> Interval | None:
    """The probability that a bad case has a higher score than a good one, ties counting half.

    score, bad: (cases,). DeLong et al. (1988), over midranks. The interval is computed on the log-odds scale, so that
    it stays between 0 and 1.
    """
    positives, negatives = score[bad], score[~bad]
    if min(len(positives), len(negatives)) < MIN_OUTCOMES:
        return None
    pooled_ranks, positive_ranks, negative_ranks = (
        _midranks(np.concatenate([positives, negatives])),
        _midranks(positives),
        _midranks(negatives),
    )
    positive_placements = (pooled_ranks[: len(positives)] - positive_ranks) / len(
        negatives
    )  # for each bad case, the share of good ones below it
    negative_placements = 1 - (pooled_ranks[len(positives) :] - negative_ranks) / len(positives)
    value = float(positive_placements.mean())
    standard_error = math.sqrt(
        positive_placements.var(ddof=1) / len(positives) + negative_placements.var(ddof=1) / len(negatives)
    )
    if not TOLERANCE < value < 1 - TOLERANCE:
        bound = 1 - 0.025 ** (
            1 / min(len(positives), len(negatives))
        )  # every pair was ordered correctly: the interval of 0 errors in n (Clopper-Pearson)
        return (value, value, bound) if value < 0.5 else (value, 1 - bound, value)
    centre, half_width = math.log(value / (1 - value)), Z_95 * standard_error / (value * (1 - value))
    return value, _expit(centre - half_width), _expit(centre + half_width)


def _midranks(values: Floats) -> Floats:
    """Ranks from 1; ties share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last_ranks = np.cumsum(counts)
    midranks: Floats = (last_ranks - (counts - 1) / 2)[inverse]
    return midranks


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
    """pd, bad: (cases,). groups: at most so many, of MIN_OUTCOMES cases or more."""
    if min(bad.sum(), (~bad).sum()) < MIN_OUTCOMES:
        return None
    pd = np.clip(pd, 1e-6, 1 - 1e-6)
    log_odds = np.log(pd / (1 - pd))
    slope_fit = _fit_logistic(np.column_stack([np.ones(len(pd)), log_odds]), bad, np.zeros(len(pd)))
    intercept_fit = _fit_logistic(np.ones((len(pd), 1)), bad, log_odds)
    expected = float(pd.sum())
    ratio, half_width = float(bad.sum()) / expected, Z_95 * math.sqrt(float((pd * (1 - pd)).sum())) / expected
    group_rows = []
    for indices in np.array_split(np.argsort(pd, kind="stable"), min(groups, max(1, len(pd) // MIN_OUTCOMES))):
        interval = proportion(int(bad[indices].sum()), len(indices))
        assert interval is not None
        group_rows.append((float(pd[indices].mean()), *interval, len(indices)))
    return Calibration(
        slope=None if slope_fit is None else slope_fit[1],
        intercept=None if intercept_fit is None else intercept_fit[0],
        ratio=(ratio, max(0.0, ratio - half_width), ratio + half_width),
        groups=group_rows,
    )


def _fit_logistic(x: Floats, y: NDArray[np.bool_], offset: Floats) -> list[Interval] | None:
    """Coefficients with intervals, by Newton's method; None where they do not exist, as for separable outcomes."""
    coefficients = np.zeros(x.shape[1])
    for _ in range(50):
        probabilities = 1 / (1 + np.exp(-np.clip(x @ coefficients + offset, -35, 35)))
        weighted = x * (probabilities * (1 - probabilities))[:, None]
        information = x.T @ weighted
        if np.linalg.cond(information) > 1e12:
            return None
        step = np.linalg.solve(information, x.T @ (y - probabilities))
        coefficients += np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-9:
            half_widths = Z_95 * np.sqrt(np.diag(np.linalg.inv(information)))
            return [(float(v), float(v - e), float(v + e)) for v, e in zip(coefficients, half_widths, strict=True)]
    return None


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
        intervals[name] = (float(estimate[0]), min(low, float(estimate[0])), max(high, float(estimate[0])))
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


def psi(reference: NDArray[np.int64], current: NDArray[np.int64]) -> Floats:
    """The population stability index, (draws,), of counts (draws, bins). Half a row is added to each bin."""
    reference_shares = (reference + 0.5) / (reference + 0.5).sum(axis=1, keepdims=True)
    current_shares = (current + 0.5) / (current + 0.5).sum(axis=1, keepdims=True)
    index: Floats = ((current_shares - reference_shares) * np.log(current_shares / reference_shares)).sum(axis=1)
    return index


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """For each p value, the smallest false discovery rate at which it is significant (Benjamini and Hochberg 1995)."""
    order = np.argsort(p_values)
    scaled = np.array(p_values)[order] * len(p_values) / np.arange(1, len(p_values) + 1)
    sorted_q_values = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    q_values = np.empty(len(p_values))
    q_values[order] = sorted_q_values
    return [float(value) for value in q_values]
