"""The operating point: which score sends a slide to the pathologist, and which sensitivity may be claimed for it.

point = choose(scores, positive, patients, target=0.95, learned_from=training_patients)
point.threshold, point.claim()

Exact, and free of any assumption about the scores: the misses allowed follow from the number of positive patients and
the target alone, so the threshold is one order statistic of their scores. Its true sensitivity has the Beta law whose
5 % quantile is Clopper and Pearson's one-sided bound (1934; Wilks 1941 on tolerance limits): looking at the same scores
twice, for the threshold and for the bound, costs nothing.
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
    target: float  # sensitivity asked for
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
        """For a card or a report."""
        if self.claimable:
            return (
                f"Sensitivity is at least {_format_down(self.bound)} with 95 % confidence "
                f"({self.missed} of {self.positives} positive patients missed)."
            )
        return (
            f"A sensitivity of {self.target:g} is not claimable: {self.positives} positive patients, {self.missed} "
            f"missed, give a lower bound of {_format_down(self.bound)}. At least {required_positives(self.target)} without a miss are "
            "needed."
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
    """The highest threshold whose bound still reaches `target`; without enough positives, the one that misses nobody.

    scores, positive (0 or 1), patients: (n,). Slides of one patient are no independent trials, so a patient counts
    once, by the lowest score among the positives. learned_from: patients that the model has seen; none may be here.
    Raises ValueError for these, for no positive, for a missing score.
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
    for _ in range(60):  # halves the interval down to the last bit that a float holds
        mid = (low + high) / 2
        low, high = (mid, high) if _upper_tail(successes, trials, mid) < 1 - confidence else (low, mid)
    return low


def allowed_misses(positives: int, target: float) -> int:
    """The most misses at which the bound still reaches `target`; -1 where even none would not do."""
    allowed = -1  # the bound reaches the target where finding as many would be rarer than 1 in 20 at the target itself
    while allowed + 1 < positives and _upper_tail(positives - allowed - 1, positives, target) < 1 - CONFIDENCE:
        allowed += 1
    return allowed


def required_positives(target: float) -> int:
    """Positives without a miss that `target` takes: 59 for .95, 299 for .99."""
    if not 0 < target < 1:
        raise ValueError(f"The target is {target}; it must lie between 0 and 1.")
    count = max(math.floor(math.log(1 - CONFIDENCE) / math.log(target)) - 1, 1)
    while lower_bound(count, count) < target:
        count += 1
    return count


def _upper_tail(successes: int, trials: int, probability: float) -> float:
    """P(X >= found) of a binomial: of whichever tail has fewer terms, each from its logarithm."""
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
        errors.append("No slide is positive; sensitivity needs positive slides.")
    overlapping = set(training_patients) & set(patients)
    if overlapping:
        errors.append(
            f"{len(overlapping)} patients were learned from as well ({', '.join(map(str, sorted(overlapping, key=str)[:3]))} …); "
            "calibrate on patients that the model has not seen."
        )
    if errors:
        raise ValueError(" ".join(errors))


def _format_down(value: float) -> str:
    """Four places, never rounded up."""
    return f"{math.floor(value * 10_000) / 10_000:.4f}"
