"""Fit the operating point: the score from which a pathologist reviews, and the sensitivity that may be claimed.

point = fit_operating_point(scores, positive, patients, target=0.95, training_patients=training_patients)
point.threshold, point.claim()

The method is exact and makes no assumption about the scores: the number of allowed misses follows from the number of
positive patients and the target, so the threshold is an order statistic of their scores. Its true sensitivity has a
Beta distribution whose 5 % quantile is Clopper and Pearson's one-sided bound (1934; Wilks 1941 on tolerance limits), so
the same scores may serve for both the threshold and the bound.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95  # one-sided


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    threshold: float  # a score of at least this is positive
    target: float  # required sensitivity
    positives: int  # patients
    missed: int  # of them, at this threshold
    bound: float  # one-sided 95 % exact lower bound of the sensitivity
    specificity: float  # share of negative rows below the threshold; NaN where there are none

    @property
    def claimable(self) -> bool:
        return self.bound >= self.target

    @property
    def sensitivity(self) -> float:
        return 1 - self.missed / self.positives

    def claim(self) -> str:
        """The claim as a sentence for a card or a report."""
        if self.claimable:
            return (
                f"Sensitivity is at least {_format_down(self.bound)} with 95 % confidence "
                f"({self.missed} of {self.positives} positive patients missed)."
            )
        return (
            f"A sensitivity of {self.target:g} is not claimable: {self.positives} positive patients, {self.missed} "
            f"missed, give a lower bound of {_format_down(self.bound)}. "
            f"At least {required_positives(self.target)} without a miss are needed."
        )

    def claim_zh(self) -> str:
        if self.claimable:
            return (
                f"灵敏度不低于{_format_down(self.bound)}（95%置信；{self.positives}例阳性患者中漏检{self.missed}例）。"
            )
        return (
            f"不能声明{self.target:g}的灵敏度：{self.positives}例阳性患者，漏检{self.missed}例，"
            f"下限为{_format_down(self.bound)}；至少需要{required_positives(self.target)}例阳性且无漏检。"
        )


def fit_operating_point(
    scores: ArrayLike,
    positive: ArrayLike,
    patients: Sequence[object],
    target: float,
    training_patients: Collection[object] = (),
) -> OperatingPoint:
    """The highest threshold whose bound reaches `target`; with too few positives, the one that misses nobody.

    scores, positive (0 or 1), patients: (n,). Slides of one patient are not independent, so a patient counts once, by
    the lowest score among the positives. training_patients: patients that the model has seen; none may occur here.
    Raises ValueError for those, without positives, and for missing scores.
    """
    score_values, labels = np.asarray(scores, np.float64), np.asarray(positive)
    _check_inputs(score_values, labels, patients, target, training_patients)
    lowest: dict[object, float] = {}
    for value, is_positive, patient in zip(score_values.tolist(), labels.tolist(), patients, strict=True):
        if is_positive:
            lowest[patient] = min(value, lowest.get(patient, math.inf))
    sorted_scores = np.sort(np.array(list(lowest.values())))
    max_misses = allowed_misses(len(sorted_scores), target)
    threshold = float(sorted_scores[max(max_misses, 0)])
    missed = int((sorted_scores < threshold).sum())  # with ties fewer than allowed
    negatives = score_values[labels == 0]
    return OperatingPoint(
        threshold,
        target,
        len(sorted_scores),
        missed,
        lower_bound(len(sorted_scores) - missed, len(sorted_scores)),
        float((negatives < threshold).mean()) if len(negatives) else math.nan,
    )


def lower_bound(successes: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Clopper and Pearson's one-sided lower bound of a share: the p at which P(X >= found) is 1 - confidence."""
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} of {trials} were found; 0 to {max(trials, 1)} of at least 1 are needed.")
    if successes == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):  # halves the interval down to the last bit of a float
        mid = (low + high) / 2
        low, high = (mid, high) if _upper_tail(successes, trials, mid) < 1 - confidence else (low, mid)
    return low


def allowed_misses(positives: int, target: float) -> int:
    """The largest number of misses at which the bound reaches `target`; -1 if even 0 is too many."""
    allowed = -1  # the bound reaches the target if so many successes are rarer than 1 in 20 at the target itself
    while allowed + 1 < positives and _upper_tail(positives - allowed - 1, positives, target) < 1 - CONFIDENCE:
        allowed += 1
    return allowed


def required_positives(target: float) -> int:
    """The number of positives without a miss that `target` requires: 59 for .95, 299 for .99."""
    if not 0 < target < 1:
        raise ValueError(f"The target is {target}; it must lie between 0 and 1.")
    count = max(math.floor(math.log(1 - CONFIDENCE) / math.log(target)) - 1, 1)
    while lower_bound(count, count) < target:
        count += 1
    return count


def _upper_tail(successes: int, trials: int, probability: float) -> float:
    """P(X >= successes) of a binomial, from the tail with fewer terms, each by its logarithm."""
    if probability in (0.0, 1.0):
        return probability
    use_upper_tail = trials - successes < successes
    counts: NDArray[np.intp] = np.arange(successes, trials + 1) if use_upper_tail else np.arange(successes)
    log_trials_factorial = math.lgamma(trials + 1)
    log_terms = [
        log_trials_factorial
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * math.log(probability)
        + (trials - k) * math.log1p(-probability)
        for k in counts.tolist()
    ]
    tail = math.fsum(math.exp(log_term) for log_term in log_terms)
    return tail if use_upper_tail else 1 - tail


def _check_inputs(
    scores: NDArray[np.float64],
    labels: NDArray[np.generic],
    patients: Sequence[object],
    target: float,
    training_patients: Collection[object],
) -> None:
    errors = []
    if not 0 < target < 1:
        errors.append(f"The target is {target}; it must lie between 0 and 1.")
    if not len(scores) == len(labels) == len(patients):
        errors.append(
            f"There are {len(scores)} scores, {len(labels)} labels, {len(patients)} patients: give as many of each."
        )
    if not np.isfinite(scores).all():
        errors.append(f"{int((~np.isfinite(scores)).sum())} scores are missing or infinite; leave those slides out.")
    if not set(np.unique(labels).tolist()) <= {0, 1}:
        errors.append(f"The labels hold {np.unique(labels)[:5].tolist()}; they must be 0 or 1.")
    if not (labels == 1).any():
        errors.append("No slide is positive; at least one must be.")
    overlapping = set(training_patients) & set(patients)
    if overlapping:
        errors.append(
            f"{len(overlapping)} patients are in the training data too "
            f"({', '.join(map(str, sorted(overlapping, key=str)[:3]))} …); "
            "calibrate on patients that the model has not seen."
        )
    if errors:
        raise ValueError(" ".join(errors))


def _format_down(value: float) -> str:
    """Four decimals, rounded down."""
    return f"{math.floor(value * 10_000) / 10_000:.4f}"
