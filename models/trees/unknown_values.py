"""Find where a forest would reward an unknown value: exactly, tree by tree."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.trees.forest import Leaf, SplitCondition, extract_leaves

if TYPE_CHECKING:
    from lightgbm import Booster

Bounds = tuple[float, float]


def find_rewarded_unknowns(booster: Booster, bounds: Mapping[int, Bounds]) -> dict[int, int]:
    """Feature -> number of trees in which leaving it out may lower the raw score below that of a possible value.

    Empty is a proof: no tree, and so no sum of trees, rewards leaving out one of the features, whatever the others are.
    bounds: the possible values of the features to examine.
    """
    counts: dict[int, int] = {}
    for leaves in extract_leaves(booster):
        for feature in sorted({f for leaf in leaves for f in leaf.conditions} & bounds.keys()):
            if _rewards_unknown(leaves, feature, bounds[feature]):
                counts[feature] = counts.get(feature, 0) + 1
    return counts


def _rewards_unknown(leaves: Sequence[Leaf], feature: int, bounds: Bounds) -> bool:
    """Whether in some cell of the other features the tree gives less for missing than for a value within the bounds."""
    others = sorted({f for leaf in leaves for f in leaf.conditions} - {feature})
    passes = _passing_bins(leaves, feature, bounds)  # (leaves, bins), the last for missing
    other_passes = [_passing_bins(leaves, other, (-np.inf, np.inf)) for other in others]
    values = np.array([leaf.value for leaf in leaves])
    for cell in itertools.product(*(range(p.shape[1]) for p in other_passes)):
        in_cell = np.logical_and.reduce([p[:, i] for p, i in zip(other_passes, cell, strict=True)], axis=0)
        score_by_bin = (values * in_cell) @ passes  # one leaf per bin, so the sums are exact
        if score_by_bin[-1] < score_by_bin[:-1].max():
            return True
    return False


def _passing_bins(leaves: Sequence[Leaf], feature: int, bounds: Bounds) -> NDArray[np.bool_]:
    """Whether each bin of the feature passes each leaf's condition on it: the bins within the bounds, then missing."""
    conditions = [leaf.conditions.get(feature, SplitCondition()) for leaf in leaves]
    edges = sorted({t for c in conditions for t in (c.low, c.high) if np.isfinite(t)})
    bins = [
        (low, high)
        for low, high in zip([-np.inf, *edges], [*edges, np.inf], strict=True)
        if low < bounds[1] and high >= bounds[0]
    ]
    columns = [[c.low <= low and high <= c.high for c in conditions] for low, high in bins]
    return np.array([*columns, [c.missing for c in conditions]], bool).T
