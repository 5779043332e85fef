"""How good and how steady: discrimination, calibration, shares and drift, each with its uncertainty; numpy alone.

Intervals hold 95 %. Where there is too little to say anything the answer is None, never a guess.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.959964
LEAST = 10  # of either outcome, below which nothing is said of discrimination or calibration
SLOPPY = 1e-12
DEALT = 500  # at once

Floats = NDArray[np.float64]
Interval = tuple[float, float, float]  # value, low, high


def share(some: int, of: int) -> Interval | None:
    """With Wilson's (1927) interval."""
    if not of:
        return None
    p, half = some / of, Z * Z / of
    middle = (p + half / 2) / (1 + half)
    reach = Z * math.sqrt(p * (1 - p) / of + half / (4 * of)) / (1 + half)
    return p, max(0.0, middle - reach), min(1.0, middle + reach)


# --- discrimination


def auc(score: Floats, bad: NDArray[np.bool_]) -> Interval | None:
    """That a bad one has the higher score, a tie counting half.

    By DeLong (1988) over midranks; its interval on the scale of log-odds, so that it stays between 0 and 1.
    """
    ill, well = score[bad], score[~bad]
    if min(len(ill), len(well)) < LEAST:
        return None
    among, apart_ill, apart_well = _midranks(np.concatenate([ill, well])), _midranks(ill), _midranks(well)
    over_well = (among[: len(ill)] - apart_ill) / len(well)  # of each bad one, the share of good ones below it
    under_ill = 1 - (among[len(ill) :] - apart_well) / len(ill)
    value = float(over_well.mean())
    spread = math.sqrt(over_well.var(ddof=1) / len(ill) + under_ill.var(ddof=1) / len(well))
    if not SLOPPY < value < 1 - SLOPPY:
        edge = 1 - 0.025 ** (1 / min(len(ill), len(well)))  # no pair was wrong: as if no case in so many
        return (value, value, edge) if value < 0.5 else (value, 1 - edge, value)
    centre, reach = math.log(value / (1 - value)), Z * spread / (value * (1 - value))
    return value, _expit(centre - reach), _expit(centre + reach)


def _midranks(values: Floats) -> Floats:
    """From 1; ties share the middle of theirs."""
    _, which, many = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(many)
    middle: Floats = (last - (many - 1) / 2)[which]
    return middle


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value))


# --- calibration


@dataclass(frozen=True)
class Calibration:
    """Perfect: slope 1, intercept 0, ratio 1. intercept: on the log-odds scale with the slope held at 1 (Cox 1958).

    ratio: observed / expected. groups: (mean PD, share bad, low, high, rows) by PD.
    """

    slope: Interval | None
    intercept: Interval | None
    ratio: Interval
    groups: list[tuple[float, float, float, float, int]]


def calibration(pd: Floats, bad: NDArray[np.bool_], groups: int = 10) -> Calibration | None:
    if min(bad.sum(), (~bad).sum()) < LEAST:
        return None
    pd = np.clip(pd, 1e-6, 1 - 1e-6)
    odds = np.log(pd / (1 - pd))
    both = _logistic(np.column_stack([np.ones(len(pd)), odds]), bad, np.zeros(len(pd)))
    alone = _logistic(np.ones((len(pd), 1)), bad, odds)
    expected = float(pd.sum())
    ratio, reach = float(bad.sum()) / expected, Z * math.sqrt(float((pd * (1 - pd)).sum())) / expected
    shown = []
    for part in np.array_split(np.argsort(pd, kind="stable"), min(groups, max(1, len(pd) // LEAST))):
        found = share(int(bad[part].sum()), len(part))
        assert found is not None
        shown.append((float(pd[part].mean()), *found, len(part)))
    return Calibration(
        slope=None if both is None else both[1],
        intercept=None if alone is None else alone[0],
        ratio=(ratio, max(0.0, ratio - reach), ratio + reach),
        groups=shown,
    )


def _logistic(x: Floats, y: NDArray[np.bool_], offset: Floats) -> list[Interval] | None:
    """Coefficients by Newton's method; None where there are none, as with outcomes that a line divides."""
    b = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ b + offset, -35, 35)))
        weighted = x * (p * (1 - p))[:, None]
        information = x.T @ weighted
        if np.linalg.cond(information) > 1e12:
            return None
        step = np.linalg.solve(information, x.T @ (y - p))
        b += np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-9:
            error = Z * np.sqrt(np.diag(np.linalg.inv(information)))
            return [(float(v), float(v - e), float(v + e)) for v, e in zip(b, error, strict=True)]
    return None


# --- a reader of slides, where more of the positives than of the negatives are looked at again


def both_ways(
    read: tuple[int, int], looked: tuple[int, int], ill: tuple[int, int], seed: int = 0
) -> dict[str, Interval]:
    """Sensitivity and specificity from (flagged, not flagged): read at all, with a diagnosis, with a positive one.

    As if all had one (Begg and Greenes 1983): each group's share of ill ones stands for the whole group. Intervals by
    draws from Jeffreys' posterior of the two shares.
    """
    if not all(looked):
        return {}
    rng = np.random.default_rng(seed)
    n_flagged, n_rest = read

    def shares(flagged: Floats, rest: Floats) -> tuple[Floats, Floats]:
        found, missed = n_flagged * flagged, n_rest * rest
        well, wrongly = n_rest - missed, n_flagged - found
        return found / np.maximum(found + missed, SLOPPY), well / np.maximum(well + wrongly, SLOPPY)

    value = shares(*(np.array([i / n]) for i, n in zip(ill, looked, strict=True)))
    drawn = shares(*(rng.beta(i + 0.5, n - i + 0.5, 4_000) for i, n in zip(ill, looked, strict=True)))
    told: dict[str, Interval] = {}
    for name, one, many in zip(("sensitivity", "specificity"), value, drawn, strict=True):
        low, high = (float(end) for end in np.quantile(many, [0.025, 0.975]))
        told[name] = (float(one[0]), min(low, float(one[0])), max(high, float(one[0])))
    return told


# --- drift


@dataclass(frozen=True)
class Shift:
    """psi: population stability index. threshold: what chance alone exceeds in one of twenty. p: how often chance alone
    gives as much. q: p among all that were tested (Benjamini and Hochberg 1995)."""

    name: str
    psi: float
    threshold: float
    p: float
    q: float = 1.0


def shifts(
    names: Sequence[str], before: Sequence[NDArray[np.int64]], after: Sequence[NDArray[np.int64]], seed: int = 0
) -> list[Shift]:
    """Each of `names`, counted by bins before and after: two samples of one spread, or not?

    What chance gives is drawn: both samples thrown together and dealt out anew, as often as the correction over so many
    tests needs. So the threshold follows from the numbers of rows, not from a rule of thumb.
    """
    draws = max(1_999, 100 * len(names))
    rng = np.random.default_rng(seed)
    found = []
    for name, old, new in zip(names, before, after, strict=True):
        pooled = old + new
        used = pooled > 0
        if not new.sum() or not old.sum() or used.sum() < 2:
            found.append(Shift(name, 0.0, 0.0, 1.0))
            continue
        old, new, pooled = old[used], new[used], pooled[used]
        chance = np.concatenate([_dealt(rng, pooled, int(new.sum())) for _ in range(-(-draws // DEALT))])
        value = float(psi(old[None], new[None])[0])
        p = (1 + int((chance >= value - SLOPPY).sum())) / (len(chance) + 1)
        found.append(Shift(name, value, float(np.quantile(chance, 0.95)), p))
    corrected = adjusted([shift.p for shift in found])
    return [Shift(s.name, s.psi, s.threshold, s.p, q) for s, q in zip(found, corrected, strict=True)]


def _dealt(rng: np.random.Generator, pooled: NDArray[np.int64], many: int) -> Floats:
    """The index of DEALT deals of `many` of the pooled rows, and the rest."""
    dealt = rng.multivariate_hypergeometric(pooled, many, size=DEALT, method="marginals")
    time.sleep(0)  # a service answers meanwhile: numpy holds Python's lock as it deals
    return psi(pooled - dealt, dealt)


def psi(old: NDArray[np.int64], new: NDArray[np.int64]) -> Floats:
    """(draws,) of counts (draws, bins). Half a row is added to each bin, so that an empty one can be told from."""
    a = (old + 0.5) / (old + 0.5).sum(axis=1, keepdims=True)
    b = (new + 0.5) / (new + 0.5).sum(axis=1, keepdims=True)
    index: Floats = ((b - a) * np.log(b / a)).sum(axis=1)
    return index


def adjusted(p: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's: the least share of false alarms at which each would be one."""
    order = np.argsort(p)
    scaled = np.array(p)[order] * len(p) / np.arange(1, len(p) + 1)
    lowest = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    back = np.empty(len(p))
    back[order] = lowest
    return [float(value) for value in back]
