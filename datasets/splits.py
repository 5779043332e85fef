"""Which rows train, calibrate and test: stratified rows, whole groups, or by time; the same seed, the same split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from datasets.errors import DataError

Shares = tuple[float, float, float]  # train, calibrate, test; calibrate may be 0
PARTS = ("train", "calibrate", "test")


@dataclass(frozen=True)
class Split:
    """Row positions, ascending. `sha256` is the digest of all three arrays: the same digest, the same split."""

    train: np.ndarray
    calibrate: np.ndarray
    test: np.ndarray
    how: str

    @property
    def sha256(self) -> str:
        state = hashlib.sha256()
        for part in (self.train, self.calibrate, self.test):
            state.update(len(part).to_bytes(8, "little"))
            state.update(part.astype("<i8").tobytes())
        return state.hexdigest()


def split_rows(y: ArrayLike, seed: int, shares: Shares = (0.75, 0.0, 0.25)) -> Split:
    """Rows at random, each value of `y` (0/1) in the same shares in every part."""
    _check_shares(shares)
    y = np.asarray(y)
    rng = np.random.default_rng(seed)
    part = np.empty(len(y), np.int64)
    for value in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == value))
        part[rows] = np.searchsorted(_cuts(len(rows), shares), np.arange(len(rows)), side="right")
    return _split(part, shares, f"stratified rows, seed {seed}, {_told(shares)}", y)


def split_groups(groups: ArrayLike, seed: int, shares: Shares = (0.75, 0.0, 0.25), y: ArrayLike | None = None) -> Split:
    """Whole groups at random, so that no group is in two parts; shares are of rows, as near as whole groups come."""
    _check_shares(shares)
    groups = _known(groups, "group")
    names, member = np.unique(groups, return_inverse=True)
    _enough(len(names), shares, "groups")
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = np.bincount(member)[order]
    middle = np.cumsum(sizes) - sizes / 2  # a group goes where its middle row falls
    part_of = np.empty(len(names), np.int64)
    part_of[order] = np.searchsorted(np.cumsum(shares)[:2] * len(groups), middle, side="right")
    how = f"{len(names):,} whole groups, seed {seed}, {_told(shares)}"
    return _split(part_of[member], shares, how, None if y is None else np.asarray(y))


def split_time(times: ArrayLike, shares: Shares = (0.75, 0.0, 0.25), y: ArrayLike | None = None) -> Split:
    """The earliest rows train and the latest test. Rows of one time stay together; ISO dates or numbers."""
    _check_shares(shares)
    times = _known(times, "time")
    moments, at = np.unique(times, return_inverse=True)
    _enough(len(moments), shares, "times")
    upto = np.cumsum(np.bincount(at))  # rows up to and with each moment
    used = [i for i, share in enumerate(shares) if share > 0]
    first = [0]  # the moment with which each used part begins
    for turn, i in enumerate(used[:-1]):
        wanted = sum(shares[: i + 1]) * len(times)
        low, high = first[-1], len(moments) - (len(used) - turn - 1)  # leave a moment for every later part
        first.append(low + 1 + int(np.argmin(np.abs(upto[low:high] - wanted))))
    part = np.array(used)[np.searchsorted(first, at, side="right") - 1]
    told = ", ".join(f"{PARTS[i]} from {moments[start]}" for i, start in zip(used, first, strict=True))
    return _split(part, shares, f"time: {told}", None if y is None else np.asarray(y))


def _split(part: np.ndarray, shares: Shares, how: str, y: np.ndarray | None) -> Split:
    rows = [np.flatnonzero(part == i) for i in range(3)]
    for name, share, chosen in zip(PARTS, shares, rows, strict=True):
        if share > 0 and not len(chosen):
            raise DataError(
                f"split: {name} would be empty ({share:g} of {len(part):,} rows). "
                "Give it a larger share, or take another seed."
            )
        if share > 0 and y is not None and len(np.unique(y[chosen])) < 2:
            raise DataError(
                f"split: all {len(chosen):,} rows of {name} have the same outcome; both are needed. "
                "Give it a larger share, more rows, or split another way."
            )
    return Split(rows[0], rows[1], rows[2], how)


def _cuts(rows: int, shares: Shares) -> np.ndarray:
    """Where train and calibrate end. Every part that is wanted gets a row where there are enough."""
    return np.round(np.cumsum(shares)[:2] * rows).astype(np.int64)


def _check_shares(shares: Sequence[float]) -> None:
    good = len(shares) == 3 and all(0 <= share < 1 for share in shares) and abs(sum(shares) - 1) < 1e-9
    if not good or shares[0] == 0 or shares[2] == 0:
        raise DataError(
            f"split: the shares of train, calibrate and test are {tuple(shares)}; they must add up to 1, "
            "and only calibrate may be 0."
        )


def _known(values: ArrayLike, what: str) -> np.ndarray:
    array = np.asarray(values)
    unknown = (
        np.array([value is None for value in array], bool)
        if array.dtype == object
        else np.isnan(array)
        if array.dtype.kind == "f"
        else np.zeros(len(array), bool)
    )
    if unknown.any():
        raise DataError(
            f"split: {int(unknown.sum()):,} of {len(array):,} rows have no {what}; every row needs one. "
            "Fill the column, or split another way."
        )
    return array.astype(str) if array.dtype == object else array


def _enough(found: int, shares: Shares, what: str) -> None:
    needed = sum(share > 0 for share in shares)
    if found < needed:
        raise DataError(f"split: {found} {what} were found and {needed} parts are asked for. Split another way.")


def _told(shares: Shares) -> str:
    return ", ".join(f"{name} {share:g}" for name, share in zip(PARTS, shares, strict=True) if share > 0)
