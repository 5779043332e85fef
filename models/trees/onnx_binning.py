"""Binary searches as one TreeEnsembleRegressor: which bin each feature falls into, and what that adds to whom."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import NodeProto


@dataclass(frozen=True)
class Steps:
    """What each bin of one feature adds to one target; bins as in tree_shap.py, the last for a missing value."""

    feature: int
    thresholds: NDArray[np.float64]  # (k,) ascending, exact in float32
    steps: NDArray[np.int64]  # (k + 2,)
    target: int


def search_trees(steps: Iterable[Steps], targets: int) -> "NodeProto":
    """`x` (n, features) -> `where` (n, targets), float32: the sum of each target's steps, 0 where it has none.

    A start goes into the steps of one feature: ONNX Runtime adds no base_values to a target that no leaf mentions.
    """
    from onnx import helper

    by_feature: dict[int, list[Steps]] = {}
    for step in steps:
        by_feature.setdefault(step.feature, []).append(step)
    trees = _Trees()
    for tree, feature in enumerate(sorted(by_feature)):
        trees.add(tree, by_feature[feature])
    columns: dict[str, Any] = {f"nodes_{name}": column for name, column in trees.nodes.items()}
    columns |= {f"target_{name}": column for name, column in trees.targets.items()}
    return helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["where"], domain="ai.onnx.ml", n_targets=targets, **columns
    )


class _Trees:
    """The columns in which ONNX writes a tree ensemble: a line for each node, and for each target of each leaf."""

    def __init__(self) -> None:
        nodes = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
        self.nodes: dict[str, list[Any]] = {name: [] for name in nodes}
        self.targets: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}

    def add(self, tree: int, asked: list[Steps]) -> None:
        """One tree for one feature: is there a value, and between which two of all thresholds asked does it lie."""
        feature, first = asked[0].feature, len(self.nodes["nodeids"])
        thresholds = np.unique(np.concatenate([step.thresholds for step in asked]))
        edges = np.append(thresholds, np.inf)  # upper edge of each bin of a value
        bins = [np.append(np.searchsorted(step.thresholds, edges), -1) for step in asked]
        added = np.stack([step.steps[of] for step, of in zip(asked, bins, strict=True)])  # (targets, bins)
        targets = np.array([step.target for step in asked])

        def node(mode: str, value: float) -> int:
            number = len(self.nodes["nodeids"]) - first
            for column, entry in zip(self.nodes.values(), (tree, number, feature, mode, value, 0, 0), strict=True):
                column.append(entry)
            return number

        def link(number: int, true: int, false: int) -> int:
            self.nodes["truenodeids"][first + number] = true
            self.nodes["falsenodeids"][first + number] = false
            return number

        def leaf(of: int) -> int:
            number, some = node("LEAF", 0.0), np.flatnonzero(added[:, of])
            if not len(some):
                some = np.array([0])  # a leaf needs a target, if only to add 0 to it
            self.targets["treeids"] += [tree] * len(some)
            self.targets["nodeids"] += [number] * len(some)
            self.targets["ids"] += targets[some].tolist()
            self.targets["weights"] += added[some, of].astype(float).tolist()
            return number

        def search(low: int, high: int) -> int:
            if low == high:
                return leaf(low)
            middle = (low + high) // 2
            return link(node("BRANCH_LEQ", float(thresholds[middle])), search(low, middle), search(middle + 1, high))

        there = node("BRANCH_LEQ", np.inf)  # true of each number, false of a missing one
        link(there, search(0, len(thresholds)), leaf(-1))
