"""Compute the tables from which the exact Shapley values of a forest are looked up.

onnx_graph.py compiles them into an ONNX graph.

The path-dependent value of a tree (Lundberg et al., Nature Machine Intelligence 2020; LightGBM's pred_contrib), given
some known features, is the sum over its leaves of v * prod I_f over the known features of the path * prod p_f over the
others: I_f is whether x passes the leaf's conditions on feature f, p_f the share of training rows that did. This is
linear in the leaves, and a leaf at depth <= 3 has conditions on at most three features. So the leaves of all trees
with conditions on the same few features form ONE table: a cell for each combination of bins, with the contributions of
these features and their part of the raw score.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.trees.forest import Leaf, SplitCondition

MAX_TABLE_FEATURES = (
    5  # features of one table; measured: 3 makes twice the tables and so more look-ups, 6 a larger graph, no faster
)
MAX_TABLE_CELLS = 512  # of one table: 4,096 makes the graph two to three times as large, and no faster

Thresholds = dict[int, frozenset[float]]  # what is asked of each feature
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """One feature of a table: its bins, and what each adds to the number of the cell.

    Bin i of 0..k holds thresholds[i - 1] < x <= thresholds[i], open at both ends; bin k + 1 is for missing.
    """

    feature: int
    thresholds: FloatArray  # (k,) ascending
    offsets: NDArray[np.int64]  # (k + 2,)


@dataclass(frozen=True)
class ShapTable:
    """Contributions of up to MAX_TABLE_FEATURES features for each combination of their bins."""

    axes: tuple[Axis, ...]
    contributions: FloatArray  # (cells, axes) raw-score units
    raw: FloatArray  # (cells,) part of the raw score: sums of leaf values, exact


def expected_raw(leaves: Iterable[Leaf]) -> float:
    """Mean raw score over the training rows, by the counts in the trees: the origin of the contributions."""
    return math.fsum(leaf.value * math.prod(c.share for c in leaf.conditions.values()) for leaf in leaves)


def build_tables(leaves: Iterable[Leaf]) -> list[ShapTable]:
    """The tables of a forest, at least one; their contributions sum by feature, their raw parts to the raw score."""
    return [_build_table(thresholds, group) for thresholds, group in _group_leaves(leaves)]


def _group_leaves(leaves: Iterable[Leaf]) -> list[tuple[Thresholds, list[Leaf]]]:
    """Group leaves greedily: those of each feature set join the table that grows least, or start a new one."""
    leaves_by_features: dict[tuple[int, ...], list[Leaf]] = defaultdict(list)
    for leaf in leaves:
        leaves_by_features[tuple(sorted(leaf.conditions)) or (0,)].append(
            leaf
        )  # a constant tree may go with any feature
    groups: list[tuple[Thresholds, list[Leaf]]] = []
    for features in sorted(leaves_by_features, key=lambda features: (-len(features), features)):
        for thresholds, leaf_chunk in _split_to_fit(features, leaves_by_features[features]):
            candidates = [
                (_cell_count(union) - _cell_count(group[0]), index, union)
                for index, group in enumerate(groups)
                if len(group[0].keys() | thresholds.keys()) <= MAX_TABLE_FEATURES
                and _cell_count(union := _union(group[0], thresholds)) <= MAX_TABLE_CELLS
            ]
            if not candidates:
                groups.append((thresholds, leaf_chunk))
                continue
            _, index, union = min(candidates, key=lambda choice: choice[:2])
            groups[index] = (union, groups[index][1] + leaf_chunk)
    return groups


def _split_to_fit(features: Sequence[int], leaves: list[Leaf]) -> Iterator[tuple[Thresholds, list[Leaf]]]:
    """Leaves with conditions on the same features, halved until each part fits into a table."""
    conditions = {f: [leaf.conditions.get(f, SplitCondition()) for leaf in leaves] for f in features}
    thresholds = {f: frozenset(t for c in conditions[f] for t in (c.low, c.high) if math.isfinite(t)) for f in features}
    if _cell_count(thresholds) <= MAX_TABLE_CELLS or len(leaves) == 1:
        yield thresholds, leaves
        return
    split_feature = max(features, key=lambda f: len(thresholds[f]))
    ordered = sorted(leaves, key=lambda leaf: (leaf.conditions[split_feature].low, leaf.conditions[split_feature].high))
    yield from _split_to_fit(features, ordered[: len(ordered) // 2])
    yield from _split_to_fit(features, ordered[len(ordered) // 2 :])


def _union(left: Thresholds, right: Thresholds) -> Thresholds:
    return {f: left.get(f, frozenset()) | right.get(f, frozenset()) for f in left.keys() | right.keys()}


def _cell_count(thresholds: Thresholds) -> int:
    return math.prod(len(values) + 1 for values in thresholds.values())


def _build_table(thresholds: Thresholds, leaves: list[Leaf]) -> ShapTable:
    """Build a table. Bins that all leaves treat alike share a cell, so missing values rarely need one of their own."""
    features = sorted(thresholds)
    sorted_thresholds = {f: np.array(sorted(thresholds[f]), np.float64) for f in features}
    answers: dict[int, NDArray[np.bool_]] = {}  # feature -> (leaves, distinct bins) whether the leaf's conditions pass
    bins = {}  # feature -> (k + 2,) which distinct bin
    for f in features:
        passes = _passes([leaf.conditions.get(f, SplitCondition()) for leaf in leaves], sorted_thresholds[f])
        answers[f], bin_index = np.unique(passes, axis=1, return_inverse=True)
        bins[f] = bin_index.reshape(-1)
    shape = [answers[f].shape[1] for f in features]
    contributions, raw = np.zeros((len(features), *shape)), np.zeros(shape)
    rows_by_features: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, leaf in enumerate(leaves):
        rows_by_features[tuple(sorted(leaf.conditions))].append(index)
    for players, rows in rows_by_features.items():
        leaf_chunk = [leaves[index] for index in rows]
        known = [answers[f][rows].astype(np.float64) for f in players]
        shares = [np.array([leaf.conditions[f].share for leaf in leaf_chunk]) for f in players]
        coalition_values = _coalition_values(np.array([leaf.value for leaf in leaf_chunk]), known, shares)
        broadcast_index = tuple(slice(None) if f in players else None for f in features)
        raw += coalition_values[frozenset(range(len(players)))][broadcast_index]
        for player, f in enumerate(players):
            contributions[features.index(f)] += _shapley_value(player, len(players), coalition_values)[broadcast_index]
    strides = [math.prod(shape[index + 1 :]) for index in range(len(shape))]
    axes = tuple(Axis(f, sorted_thresholds[f], bins[f] * stride) for f, stride in zip(features, strides, strict=True))
    return ShapTable(axes, contributions.reshape(len(features), -1).T, raw.reshape(-1))


def _passes(conditions: Sequence[SplitCondition], thresholds: FloatArray) -> NDArray[np.bool_]:
    """Whether each bin of the feature passes each leaf's condition on it, (leaves, k + 2)."""
    low = np.array([c.low for c in conditions])[:, None]
    high = np.array([c.high for c in conditions])[:, None]
    missing = np.array([c.missing for c in conditions])[:, None]
    above, below = np.append(-np.inf, thresholds), np.append(thresholds, np.inf)  # edges of the bins
    return np.hstack([(above >= low) & (below <= high), missing])


def _coalition_values(
    values: FloatArray, known: list[FloatArray], shares: list[FloatArray]
) -> dict[frozenset[int], FloatArray]:
    """For each set of known features, the sum over the leaves of v * prod I_f * prod p_f, in each cell."""
    axes = "abc"[: len(known)]
    values_by_coalition = {}
    for is_known in itertools.product((False, True), repeat=len(known)):
        factors = [
            i if k else np.broadcast_to(p[:, None], i.shape) for k, i, p in zip(is_known, known, shares, strict=True)
        ]
        equation = ",".join(["z", *("z" + axis for axis in axes)]) + "->" + axes
        values_by_coalition[frozenset(np.flatnonzero(is_known).tolist())] = np.einsum(equation, values, *factors)
    return values_by_coalition


def _shapley_value(player: int, players: int, coalition_values: dict[frozenset[int], FloatArray]) -> FloatArray:
    """Mean gain when a player joins, over all orders of the players (Shapley 1953)."""
    total = np.zeros_like(coalition_values[frozenset()])
    for coalition, value in coalition_values.items():
        if player not in coalition:
            weight = (
                math.factorial(len(coalition)) * math.factorial(players - len(coalition) - 1) / math.factorial(players)
            )
            total += weight * (coalition_values[coalition | {player}] - value)
    return total
