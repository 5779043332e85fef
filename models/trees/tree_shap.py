"""Exact Shapley values of a forest as a few look-ups: numbers only, no graph format.

The path-dependent value of a tree (Lundberg et al., Nature Machine Intelligence 2020; LightGBM's pred_contrib), given
what is known of some features, is the sum over its leaves of v * prod I_f over the known features on the way * prod
p_f over the others: I_f is whether x passes the leaf's conditions on feature f, p_f the share of training rows that
did. That is linear in the leaves, and a leaf at depth <= 3 asks about at most three features. So the leaves, of all
trees, that ask about the same few features make ONE table: a cell for each combination of answers, and in it the
contributions of these features and their part of the raw score.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.trees.forest import Condition, Leaf

WIDTH = 5  # features of one table; measured: 3 makes twice the tables and so more look-ups, 6 a larger graph, no faster
CELLS = 512  # of one table: 4,096 makes the graph two to three times as large, and no faster

Thresholds = dict[int, frozenset[float]]  # what is asked of each feature
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """One feature of a table: the bins it falls into, and what each adds to the number of the cell.

    Bin i of 0..k holds thresholds[i - 1] < x <= thresholds[i], open at both ends; bin k + 1 holds the missing value.
    """

    feature: int
    thresholds: Floats  # (k,) ascending
    steps: NDArray[np.int64]  # (k + 2,)


@dataclass(frozen=True)
class Table:
    """Contributions of up to WIDTH features for each combination of their answers."""

    axes: tuple[Axis, ...]
    contributions: Floats  # (cells, axes) raw-score units
    raw: Floats  # (cells,) part of the raw score: sums of leaf values, exact


def expected(leaves: Iterable[Leaf]) -> float:
    """Mean raw score over the training rows, by the counts in the trees: what contributions are measured from."""
    return math.fsum(leaf.value * math.prod(c.share for c in leaf.conditions.values()) for leaf in leaves)


def tables(leaves: Iterable[Leaf]) -> list[Table]:
    """At least one table; contributions added up per feature are the forest's, and raw parts added up its raw score."""
    return [_table(thresholds, group) for thresholds, group in _groups(leaves)]


def _groups(leaves: Iterable[Leaf]) -> list[tuple[Thresholds, list[Leaf]]]:
    """Greedily: the leaves of each set of features join the table that they enlarge least, or open one."""
    alike: dict[tuple[int, ...], list[Leaf]] = defaultdict(list)
    for leaf in leaves:
        alike[tuple(sorted(leaf.conditions)) or (0,)].append(leaf)  # a constant tree may go with any feature
    groups: list[tuple[Thresholds, list[Leaf]]] = []
    for features in sorted(alike, key=lambda features: (-len(features), features)):
        for thresholds, some in _small(features, alike[features]):
            joined = [
                (_cells(union) - _cells(group[0]), at, union)
                for at, group in enumerate(groups)
                if len(group[0].keys() | thresholds.keys()) <= WIDTH
                and _cells(union := _union(group[0], thresholds)) <= CELLS
            ]
            if not joined:
                groups.append((thresholds, some))
                continue
            _, at, union = min(joined, key=lambda choice: choice[:2])
            groups[at] = (union, groups[at][1] + some)
    return groups


def _small(features: Sequence[int], leaves: list[Leaf]) -> Iterator[tuple[Thresholds, list[Leaf]]]:
    """Leaves that ask about the same features, halved until each part fits a table."""
    asked = {f: [leaf.conditions.get(f, Condition()) for leaf in leaves] for f in features}
    thresholds = {f: frozenset(t for c in asked[f] for t in (c.low, c.high) if math.isfinite(t)) for f in features}
    if _cells(thresholds) <= CELLS or len(leaves) == 1:
        yield thresholds, leaves
        return
    longest = max(features, key=lambda f: len(thresholds[f]))
    ordered = sorted(leaves, key=lambda leaf: (leaf.conditions[longest].low, leaf.conditions[longest].high))
    yield from _small(features, ordered[: len(ordered) // 2])
    yield from _small(features, ordered[len(ordered) // 2 :])


def _union(one: Thresholds, other: Thresholds) -> Thresholds:
    return {f: one.get(f, frozenset()) | other.get(f, frozenset()) for f in one.keys() | other.keys()}


def _cells(thresholds: Thresholds) -> int:
    return math.prod(len(asked) + 1 for asked in thresholds.values())


def _table(thresholds: Thresholds, leaves: list[Leaf]) -> Table:
    """Bins that all leaves answer alike share a cell, so a missing value mostly costs none of its own."""
    features = sorted(thresholds)
    asked = {f: np.array(sorted(thresholds[f]), np.float64) for f in features}
    answers: dict[int, NDArray[np.bool_]] = {}  # feature -> (leaves, distinct bins) whether the leaf's conditions pass
    bins = {}  # feature -> (k + 2,) which distinct bin
    for f in features:
        passes = _passes([leaf.conditions.get(f, Condition()) for leaf in leaves], asked[f])
        answers[f], which = np.unique(passes, axis=1, return_inverse=True)
        bins[f] = which.reshape(-1)
    shape = [answers[f].shape[1] for f in features]
    contributions, raw = np.zeros((len(features), *shape)), np.zeros(shape)
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for at, leaf in enumerate(leaves):
        alike[tuple(sorted(leaf.conditions))].append(at)
    for players, rows in alike.items():
        some = [leaves[at] for at in rows]
        known = [answers[f][rows].astype(np.float64) for f in players]
        shares = [np.array([leaf.conditions[f].share for leaf in some]) for f in players]
        worth = _coalitions(np.array([leaf.value for leaf in some]), known, shares)
        spread = tuple(slice(None) if f in players else None for f in features)
        raw += worth[frozenset(range(len(players)))][spread]
        for player, f in enumerate(players):
            contributions[features.index(f)] += _shapley(player, len(players), worth)[spread]
    strides = [math.prod(shape[at + 1 :]) for at in range(len(shape))]
    axes = tuple(Axis(f, asked[f], bins[f] * stride) for f, stride in zip(features, strides, strict=True))
    return Table(axes, contributions.reshape(len(features), -1).T, raw.reshape(-1))


def _passes(conditions: Sequence[Condition], thresholds: Floats) -> NDArray[np.bool_]:
    """(leaves, k + 2) whether each bin of the feature passes each leaf's condition on it."""
    low = np.array([c.low for c in conditions])[:, None]
    high = np.array([c.high for c in conditions])[:, None]
    missing = np.array([c.missing for c in conditions])[:, None]
    above, below = np.append(-np.inf, thresholds), np.append(thresholds, np.inf)  # edges of the bins
    return np.hstack([(above >= low) & (below <= high), missing])


def _coalitions(values: Floats, known: list[Floats], shares: list[Floats]) -> dict[frozenset[int], Floats]:
    """For each set of known features, the sum over the leaves of v * prod I_f * prod p_f, in each cell."""
    axes = "abc"[: len(known)]
    worth = {}
    for chosen in itertools.product((False, True), repeat=len(known)):
        factors = [
            i if k else np.broadcast_to(p[:, None], i.shape) for k, i, p in zip(chosen, known, shares, strict=True)
        ]
        spec = ",".join(["z", *("z" + axis for axis in axes)]) + "->" + axes
        worth[frozenset(np.flatnonzero(chosen).tolist())] = np.einsum(spec, values, *factors)
    return worth


def _shapley(player: int, players: int, worth: dict[frozenset[int], Floats]) -> Floats:
    """Mean gain of a player's joining, over all orders in which the players may come (Shapley 1953)."""
    total = np.zeros_like(worth[frozenset()])
    for others, value in worth.items():
        if player not in others:
            orders = math.factorial(len(others)) * math.factorial(players - len(others) - 1) / math.factorial(players)
            total += orders * (worth[others | {player}] - value)
    return total
