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
class Point:
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
                f"Sensitivity is at least {_down(self.bound)} with 95 % confidence "
                f"({self.missed} of {self.positives} positive patients missed)."
            )
        return (
            f"A sensitivity of {self.target:g} is not claimable: {self.positives} positive patients, {self.missed} "
            f"missed, give a lower bound of {_down(self.bound)}. At least {needed(self.target)} without a miss are "
            "needed."
        )

    def claim_zh(self) -> str:
        if self.claimable:
            return f"灵敏度不低于{_down(self.bound)}（95%置信；{self.positives}例阳性患者中漏检{self.missed}例）。"
        return (
            f"不能声明{self.target:g}的灵敏度：{self.positives}例阳性患者，漏检{self.missed}例，"
            f"下限为{_down(self.bound)}；至少需要{needed(self.target)}例阳性且无漏检。"
        )


def choose(
    scores: ArrayLike,
    positive: ArrayLike,
    patients: Sequence[object],
    target: float,
    learned_from: Collection[object] = (),
) -> Point:
    """The highest threshold whose bound still reaches `target`; without enough positives, the one that misses nobody.

    scores, positive (0 or 1), patients: (n,). Slides of one patient are no independent trials, so a patient counts
    once, by the lowest score among the positives. learned_from: patients that the model has seen; none may be here.
    Raises ValueError for these, for no positive, for a missing score.
    """
    score, truth = np.asarray(scores, np.float64), np.asarray(positive)
    _check(score, truth, patients, target, learned_from)
    lowest: dict[object, float] = {}
    for value, is_positive, patient in zip(score.tolist(), truth.tolist(), patients, strict=True):
        if is_positive:
            lowest[patient] = min(value, lowest.get(patient, math.inf))
    found = np.sort(np.array(list(lowest.values())))
    allowed = misses_allowed(len(found), target)
    threshold = float(found[max(allowed, 0)])
    missed = int((found < threshold).sum())  # with ties fewer than allowed
    negatives = score[truth == 0]
    return Point(
        threshold,
        target,
        len(found),
        missed,
        lower_bound(len(found) - missed, len(found)),
        float((negatives < threshold).mean()) if len(negatives) else math.nan,
    )


def lower_bound(found: int, of: int, confidence: float = CONFIDENCE) -> float:
    """Clopper and Pearson's one-sided lower bound of a share: the p at which P(X >= found) is 1 - confidence."""
    if not 0 <= found <= of or of < 1:
        raise ValueError(f"{found} of {of} were found; 0 to {max(of, 1)} of at least 1 are needed.")
    if found == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):  # halves the interval down to the last bit that a float holds
        middle = (low + high) / 2
        low, high = (middle, high) if _at_least(found, of, middle) < 1 - confidence else (low, middle)
    return low


def misses_allowed(positives: int, target: float) -> int:
    """The most misses at which the bound still reaches `target`; -1 where even none would not do."""
    allowed = -1  # the bound reaches the target where finding as many would be rarer than 1 in 20 at the target itself
    while allowed + 1 < positives and _at_least(positives - allowed - 1, positives, target) < 1 - CONFIDENCE:
        allowed += 1
    return allowed


def needed(target: float) -> int:
    """Positives without a miss that `target` takes: 59 for .95, 299 for .99."""
    if not 0 < target < 1:
        raise ValueError(f"The target is {target}; it must lie between 0 and 1.")
    count = max(math.floor(math.log(1 - CONFIDENCE) / math.log(target)) - 1, 1)
    while lower_bound(count, count) < target:
        count += 1
    return count


def _at_least(found: int, of: int, share: float) -> float:
    """P(X >= found) of a binomial: of whichever tail has fewer terms, each from its logarithm."""
    if share in (0.0, 1.0):
        return share
    upper = of - found < found
    counts: NDArray[np.intp] = np.arange(found, of + 1) if upper else np.arange(found)
    whole = math.lgamma(of + 1)
    logs = [
        whole - math.lgamma(k + 1) - math.lgamma(of - k + 1) + k * math.log(share) + (of - k) * math.log1p(-share)
        for k in counts.tolist()
    ]
    tail = math.fsum(math.exp(value) for value in logs)
    return tail if upper else 1 - tail


def _check(
    score: NDArray[np.float64],
    truth: NDArray[np.generic],
    patients: Sequence[object],
    target: float,
    learned_from: Collection[object],
) -> None:
    faults = []
    if not 0 < target < 1:
        faults.append(f"The target is {target}; it must lie between 0 and 1.")
    if not len(score) == len(truth) == len(patients):
        faults.append(
            f"There are {len(score)} scores, {len(truth)} labels, {len(patients)} patients: give as many of each."
        )
    if not np.isfinite(score).all():
        faults.append(f"{int((~np.isfinite(score)).sum())} scores are missing or infinite; leave those slides out.")
    if not set(np.unique(truth).tolist()) <= {0, 1}:
        faults.append(f"The labels hold {np.unique(truth)[:5].tolist()}; they must be 0 or 1.")
    if not (truth == 1).any():
        faults.append("No slide is positive; sensitivity needs positive slides.")
    seen = set(learned_from) & set(patients)
    if seen:
        faults.append(
            f"{len(seen)} patients were learned from as well ({', '.join(map(str, sorted(seen, key=str)[:3]))} …); "
            "calibrate on patients that the model has not seen."
        )
    if faults:
        raise ValueError(" ".join(faults))


def _down(share: float) -> str:
    """Four places, never rounded up."""
    return f"{math.floor(share * 10_000) / 10_000:.4f}"
