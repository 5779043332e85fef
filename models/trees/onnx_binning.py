"""Build binary searches as one TreeEnsembleRegressor: the bin of each feature, and what it adds to each target."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import NodeProto


@dataclass(frozen=True)
class BinOffsets:
    """What each bin of one feature adds to one target; bins as in tree_shap.py, the last for a missing value."""

    feature: int
    thresholds: NDArray[np.float64]  # (k,) ascending, exact in float32
    offsets: NDArray[np.int64]  # (k + 2,)
    target: int


def make_binning_node(bin_offsets: Iterable[BinOffsets], targets: int) -> "NodeProto":
    """`x` (n, features) -> `where` (n, targets), float32: the sum of each target's steps, 0 where it has none.

    A start is part of the steps of one feature: ONNX Runtime adds no base_values to targets without a leaf.
    """
    from onnx import helper

    by_feature: dict[int, list[BinOffsets]] = {}
    for entry in bin_offsets:
        by_feature.setdefault(entry.feature, []).append(entry)
    trees = _TreeColumns()
    for tree, feature in enumerate(sorted(by_feature)):
        trees.add(tree, by_feature[feature])
    columns: dict[str, Any] = {f"nodes_{name}": column for name, column in trees.nodes.items()}
    columns |= {f"target_{name}": column for name, column in trees.targets.items()}
    return helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["where"], domain="ai.onnx.ml", n_targets=targets, **columns
    )


class _TreeColumns:
    """The attribute lists of an ONNX tree ensemble: one item per node, and per target of a leaf."""

    def __init__(self) -> None:
        nodes = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
        self.nodes: dict[str, list[Any]] = {name: [] for name in nodes}
        self.targets: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}

    def add(self, tree: int, feature_offsets: list[BinOffsets]) -> None:
        """Add a tree for one feature: whether it has a value, and between which two thresholds the value lies."""
        feature, first_node = feature_offsets[0].feature, len(self.nodes["nodeids"])
        thresholds = np.unique(np.concatenate([step.thresholds for step in feature_offsets]))
        edges = np.append(thresholds, np.inf)  # upper edge of each bin of a value
        bins = [np.append(np.searchsorted(step.thresholds, edges), -1) for step in feature_offsets]
        bin_values = np.stack(
            [step.offsets[bin_index] for step, bin_index in zip(feature_offsets, bins, strict=True)]
        )  # (targets, bins)
        targets = np.array([step.target for step in feature_offsets])

        def add_node(mode: str, value: float) -> int:
            node_id = len(self.nodes["nodeids"]) - first_node
            for column, entry in zip(self.nodes.values(), (tree, node_id, feature, mode, value, 0, 0), strict=True):
                column.append(entry)
            return node_id

        def link_children(node_id: int, true: int, false: int) -> int:
            self.nodes["truenodeids"][first_node + node_id] = true
            self.nodes["falsenodeids"][first_node + node_id] = false
            return node_id

        def add_leaf(bin_index: int) -> int:
            node_id, target_rows = add_node("LEAF", 0.0), np.flatnonzero(bin_values[:, bin_index])
            if not len(target_rows):
                target_rows = np.array([0])  # a leaf needs a target, if only to add 0 to it
            self.targets["treeids"] += [tree] * len(target_rows)
            self.targets["nodeids"] += [node_id] * len(target_rows)
            self.targets["ids"] += targets[target_rows].tolist()
            self.targets["weights"] += bin_values[target_rows, bin_index].astype(float).tolist()
            return node_id

        def add_search(low: int, high: int) -> int:
            if low == high:
                return add_leaf(low)
            middle = (low + high) // 2
            return link_children(
                add_node("BRANCH_LEQ", float(thresholds[middle])), add_search(low, middle), add_search(middle + 1, high)
            )

        root = add_node("BRANCH_LEQ", np.inf)  # true of each number, false of a missing one
        link_children(root, add_search(0, len(thresholds)), add_leaf(-1))
