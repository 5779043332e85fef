"""Split rows into train, calibrate and test: stratified rows, whole groups, or by time; a seed determines the split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from datasets.errors import DataError

Shares = tuple[float, float, float]  # train, calibrate, test; calibrate may be 0
SPLIT_NAMES = ("train", "calibrate", "test")


@dataclass(frozen=True)
class Split:
    """Row positions, ascending. sha256: digest of the three arrays, which identifies the split."""

    train: np.ndarray
    calibrate: np.ndarray
    test: np.ndarray
    method: str

    @property
    def sha256(self) -> str:
        hasher = hashlib.sha256()
        for rows in (self.train, self.calibrate, self.test):
            hasher.update(len(rows).to_bytes(8, "little"))
            hasher.update(rows.astype("<i8").tobytes())
        return hasher.hexdigest()


def split_rows(y: ArrayLike, seed: int, shares: Shares = (0.75, 0.0, 0.25)) -> Split:
    """Assign rows at random, with the same share of each outcome `y` (0/1) in every part. Raises DataError."""
    _check_shares(shares)
    y = np.asarray(y)
    rng = np.random.default_rng(seed)
    assignment = np.empty(len(y), np.int64)
    for outcome in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == outcome))
        assignment[rows] = np.searchsorted(_split_boundaries(len(rows), shares), np.arange(len(rows)), side="right")
    return _make_split(assignment, shares, f"stratified rows, seed {seed}, {_format_shares(shares)}", y)


def split_groups(groups: ArrayLike, seed: int, shares: Shares = (0.75, 0.0, 0.25), y: ArrayLike | None = None) -> Split:
    """Assign whole groups at random, so that no group is in two parts; shares of rows are met approximately.

    Raises DataError.
    """
    _check_shares(shares)
    groups = _require_known(groups, "group")
    group_ids, group_index = np.unique(groups, return_inverse=True)
    _require_enough(len(group_ids), shares, "groups")
    order = np.random.default_rng(seed).permutation(len(group_ids))
    sizes = np.bincount(group_index)[order]
    midpoints = np.cumsum(sizes) - sizes / 2  # a group is assigned by its middle row
    assignment_of_group = np.empty(len(group_ids), np.int64)
    assignment_of_group[order] = np.searchsorted(np.cumsum(shares)[:2] * len(groups), midpoints, side="right")
    method = f"{len(group_ids):,} whole groups, seed {seed}, {_format_shares(shares)}"
    return _make_split(assignment_of_group[group_index], shares, method, None if y is None else np.asarray(y))


def split_time(times: ArrayLike, shares: Shares = (0.75, 0.0, 0.25), y: ArrayLike | None = None) -> Split:
    """Train on the earliest rows and test on the latest. times: ISO dates or numbers; equal times stay together.

    Raises DataError.
    """
    _check_shares(shares)
    times = _require_known(times, "time")
    distinct_times, time_index = np.unique(times, return_inverse=True)
    _require_enough(len(distinct_times), shares, "times")
    cumulative_rows = np.cumsum(np.bincount(time_index))  # rows up to and including each time
    used_parts = [i for i, share in enumerate(shares) if share > 0]
    first_times = [0]  # the time at which each used part begins
    for position, i in enumerate(used_parts[:-1]):
        target_rows = sum(shares[: i + 1]) * len(times)
        # leave a time for every later part
        low, high = first_times[-1], len(distinct_times) - (len(used_parts) - position - 1)
        first_times.append(low + 1 + int(np.argmin(np.abs(cumulative_rows[low:high] - target_rows))))
    assignment = np.array(used_parts)[np.searchsorted(first_times, time_index, side="right") - 1]
    boundaries = ", ".join(
        f"{SPLIT_NAMES[i]} from {distinct_times[start]}" for i, start in zip(used_parts, first_times, strict=True)
    )
    return _make_split(assignment, shares, f"time: {boundaries}", None if y is None else np.asarray(y))


def _make_split(assignment: np.ndarray, shares: Shares, method: str, y: np.ndarray | None) -> Split:
    rows = [np.flatnonzero(assignment == i) for i in range(3)]
    for name, share, part_rows in zip(SPLIT_NAMES, shares, rows, strict=True):
        if share > 0 and not len(part_rows):
            raise DataError(
                f"split: {name} would be empty ({share:g} of {len(assignment):,} rows). "
                "Give it a larger share, or use another seed."
            )
        if share > 0 and y is not None and len(np.unique(y[part_rows])) < 2:
            raise DataError(
                f"split: all {len(part_rows):,} rows of {name} have the same outcome; both outcomes must occur. "
                "Give it a larger share, more rows, or split another way."
            )
    return Split(rows[0], rows[1], rows[2], method)


def _split_boundaries(rows: int, shares: Shares) -> np.ndarray:
    """The row numbers at which train and calibrate end."""
    return np.round(np.cumsum(shares)[:2] * rows).astype(np.int64)


def _check_shares(shares: Sequence[float]) -> None:
    is_valid = len(shares) == 3 and all(0 <= share < 1 for share in shares) and abs(sum(shares) - 1) < 1e-9
    if not is_valid or shares[0] == 0 or shares[2] == 0:
        raise DataError(
            f"split: the shares of train, calibrate and test are {tuple(shares)}; they must add up to 1, "
            "and only calibrate may be 0."
        )


def _require_known(values: ArrayLike, label: str) -> np.ndarray:
    array = np.asarray(values)
    missing = (
        np.array([value is None for value in array], bool)
        if array.dtype == object
        else np.isnan(array)
        if array.dtype.kind == "f"
        else np.zeros(len(array), bool)
    )
    if missing.any():
        raise DataError(
            f"split: {int(missing.sum()):,} of {len(array):,} rows have no {label}; every row needs one. "
            "Fill the column, or split another way."
        )
    return array.astype(str) if array.dtype == object else array


def _require_enough(count: int, shares: Shares, label: str) -> None:
    required = sum(share > 0 for share in shares)
    if count < required:
        raise DataError(f"split: there are {count} {label}; {required} parts need at least as many. Split another way.")


def _format_shares(shares: Shares) -> str:
    return ", ".join(f"{name} {share:g}" for name, share in zip(SPLIT_NAMES, shares, strict=True) if share > 0)
