"""Merge LightGBM boosters into one forest whose raw score has the same bits in every order of addition.

`merge_boosters` divides each leaf by the number of boosters, rounds it to a multiple of a quantum q, and lowers each
threshold to float32. Let r be the sum over the trees of the largest |leaf|. A partial sum of any trees in any order is
k * q for an integer k with |k| * q <= r. If r <= 2**24 * q, |k| is at most 2**24, so float32 represents the sum: no
addition rounds, and float32 and float64 give the same number for one row or a batch. `merge_boosters` therefore takes
the smallest q from 2**-20 up with r <= 2**24 * q; for r <= 16 that is 2**-20. Rounding changes a raw score by at most
q / 2 per tree, and far less on average.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lightgbm import Booster

MIN_QUANTUM = 2.0**-20  # finest step of a leaf's value: raw scores up to 16 stay exact
MAX_QUANTUM = 2.0**-14  # raw scores up to 1,024; whatever reaches further is no log-odds
MAX_DEPTH = 3  # questions on the way to a leaf: what the reasons are compiled for
LIGHTGBM_ZERO = 1.0000000180025095e-35  # LightGBM reads |x| <= LIGHTGBM_ZERO as 0 (kZeroThreshold in its meta.h)
DEFAULT_LEFT, NAN_IS_MISSING = 2, 8  # bits of a split's decision_type in LightGBM's text
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class SplitCondition:
    """The condition of a path on one feature: low < x <= high, or x is missing if `missing` is set."""

    low: float = -math.inf  # -inf: no bound
    high: float = math.inf  # inf: no bound
    missing: bool = True  # whether a missing value passes
    share: float = 1.0  # of the training rows that came to these questions, the share that passed


@dataclass(frozen=True)
class Leaf:
    """One leaf of one tree: its value, and the conditions of its path by feature."""

    value: float
    conditions: dict[int, SplitCondition]


@dataclass
class _ModelText:
    """A LightGBM model text, parsed into parts that can be written again."""

    header: dict[str, str]
    trees: list[dict[str, str]]
    footer: str  # from "end of trees" on

    @classmethod
    def from_booster(cls, booster: "Booster") -> "_ModelText":
        header, *blocks = booster.model_to_string().split("\nTree=")
        blocks[-1:], footer = [blocks[-1].partition("end of trees")[0]], blocks[-1].partition("end of trees")[2]
        trees = [_parse_fields(block.partition("\n")[2]) for block in blocks]
        return cls(_parse_fields(header), trees, "end of trees" + footer)

    def __str__(self) -> str:
        blocks = [f"Tree={i}\n{_format_fields(tree)}\n\n\n" for i, tree in enumerate(self.trees)]
        header = {**self.header, "tree_sizes": " ".join(str(len(block)) for block in blocks)}
        return f"{_format_fields(header)}\n\n{''.join(blocks)}{self.footer}"


def merge_boosters(boosters: Sequence["Booster"]) -> "Booster":
    """The mean of the bag's raw scores as one booster; each booster ends at its best iteration, if it has one.

    Raises ValueError for what the exact export does not support: categorical or linear trees, zero_as_missing, more
    than three splits on a path, several classes, a random forest, or boosters that differ.
    """
    from lightgbm import Booster

    if not boosters:
        raise ValueError("merge_boosters() was given no boosters; it needs at least one. Train the bag first.")
    texts = [_ModelText.from_booster(booster) for booster in boosters]
    for index, text in enumerate(texts):
        _check_compatible(text, texts[0], index)
        for tree in text.trees:
            _check_supported(tree, index)
    trees = [tree for text in texts for tree in text.trees]
    values = _quantise([_parse_floats(tree["leaf_value"]) / len(texts) for tree in trees])
    merged_trees = [
        tree
        | {
            "leaf_value": _format_floats(value),
            "threshold": _format_floats(np.array([floor32(t) for t in _parse_floats(tree["threshold"])])),
        }
        | {"internal_value": _format_floats(_parse_floats(tree["internal_value"]) / len(texts))}
        for tree, value in zip(trees, values, strict=True)
    ]
    header = texts[0].header | {
        "feature_infos": _feature_ranges([text.header["feature_infos"].split() for text in texts])
    }
    footer = (
        "end of trees\n\n" + texts[0].footer[texts[0].footer.index("parameters:") :]
    )  # importances are counted anew
    return Booster(model_str=str(_ModelText(header, merged_trees, footer)))


def assume_values(booster: "Booster", values: Mapping[int, float]) -> "Booster":
    """The merged booster, in which a missing value of a feature goes where the feature's value in `values` goes."""
    from lightgbm import Booster

    text = _ModelText.from_booster(booster)
    trees = []
    for tree in text.trees:
        features, kinds = _parse_ints(tree["split_feature"]), _parse_ints(tree["decision_type"])
        thresholds = _parse_floats(tree["threshold"])
        kinds = [
            NAN_IS_MISSING | (DEFAULT_LEFT if np.float32(values[feature]) <= floor32(threshold) else 0)
            if feature in values
            else kind
            for feature, kind, threshold in zip(features, kinds, thresholds, strict=True)
        ]
        trees.append(tree | {"decision_type": " ".join(map(str, kinds))})
    return Booster(model_str=str(_ModelText(text.header, trees, text.footer)))


def extract_leaves(booster: "Booster") -> list[list[Leaf]]:
    """The leaves of each tree of a merged booster."""
    trees = _ModelText.from_booster(booster).trees
    for tree in trees:
        _check_supported(tree, 0)
    return [_tree_leaves(tree) for tree in trees]


def floor32(threshold: float) -> float:
    """The largest float32 t for which `x <= t` equals LightGBM's comparison with `threshold`, for each float32 x.

    LightGBM reads |x| <= LIGHTGBM_ZERO as 0, so a threshold within that band moves to an edge of the band.
    """
    if abs(threshold) <= LIGHTGBM_ZERO:
        threshold = (
            LIGHTGBM_ZERO if threshold >= 0 else float(np.nextafter(np.float32(-LIGHTGBM_ZERO), np.float32(-np.inf)))
        )
    if threshold >= FLOAT32_MAX:  # LightGBM writes 1e300 where a split parts the missing values from all others
        return FLOAT32_MAX
    if threshold < -FLOAT32_MAX:
        raise ValueError(
            f"A split has the threshold {threshold}, below all finite float32 values; it must be finite in float32. "
            f"Replace infinite training values by missing ones, and train again."
        )
    nearest = np.float32(threshold)
    return float(nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-np.inf)))


def _quantise(values: list[np.ndarray]) -> list[np.ndarray]:
    """Leaf values as multiples of the smallest quantum for which every partial sum of the trees fits into 24 bits."""
    quantum = MIN_QUANTUM
    while quantum <= MAX_QUANTUM:
        rounded = [np.rint(value / quantum) * quantum + 0.0 for value in values]
        if math.fsum(float(np.abs(value).max()) for value in rounded) <= 2.0**24 * quantum:
            return rounded
        quantum *= 2
    total = math.fsum(float(np.abs(value).max()) for value in values)
    raise ValueError(
        f"The largest leaves of the forest sum to {total:.0f} in log-odds; at most {2.0**24 * MAX_QUANTUM:.0f} can be "
        f"summed exactly. Lower learning_rate, set max_delta_step, or train fewer trees."
    )


def _check_compatible(text: _ModelText, reference: _ModelText, index: int) -> None:
    """Raise ValueError unless all boosters are of one kind that sums one number over its trees."""
    if "average_output" in text.header:
        raise ValueError(
            f"Booster {index} is a random forest (average_output); it must be a boosted sum. Train with boosting=gbdt."
        )
    for key in ("num_class", "num_tree_per_iteration"):
        if text.header[key] != "1":
            raise ValueError(f"Booster {index} has {key} {text.header[key]}; it must be 1. Train a binary objective.")
    for key in text.header.keys() - {"feature_infos", "tree_sizes"}:
        if text.header[key] != reference.header.get(key):
            raise ValueError(
                f"Booster {index} has {key}={text.header[key]!r} where the first has {reference.header.get(key)!r}; "
                f"a bag needs one kind of booster. Train all of them on the same columns with the same settings."
            )


def _check_supported(tree: dict[str, str], index: int) -> None:
    """Raise ValueError for a tree that the exact export does not support."""
    kinds = [int(kind) for kind in tree["decision_type"].split()]
    if tree["num_cat"] != "0" or any(kind & 1 for kind in kinds):
        raise ValueError(
            f"Booster {index} splits on categories; only thresholds are exported exactly. "
            f"Give categories as ordinal codes, and do not name them in categorical_feature."
        )
    if tree.get("is_linear", "0") != "0":
        raise ValueError(f"Booster {index} has linear leaves; they must be constant. Train with linear_tree=false.")
    if any((kind >> 2) & 3 == 1 for kind in kinds):
        raise ValueError(
            f"Booster {index} reads zeros as missing, which ONNX cannot express; missing values must be NaN. "
            f"Train with zero_as_missing=false."
        )
    depth = max(len(way) for way, _ in _leaf_paths(tree))
    if depth > MAX_DEPTH:
        raise ValueError(
            f"Booster {index} has {depth} splits on a path; reasons are compiled for at most {MAX_DEPTH}. "
            f"Train with max_depth={MAX_DEPTH}."
        )
    if min(int(count) for count in tree["leaf_count"].split()) < 1:
        raise ValueError(
            f"Booster {index} has a leaf without training rows, by which reasons are weighted. Set min_data_in_leaf."
        )


def _leaf_paths(tree: dict[str, str]) -> list[tuple[list[tuple[int, bool]], int]]:
    """(path of (split, went left) pairs from the root, leaf) for each leaf of a tree."""
    left, right = _parse_ints(tree["left_child"]), _parse_ints(tree["right_child"])
    paths = []
    stack: list[tuple[int, list[tuple[int, bool]]]] = [(0 if left else -1, [])]
    while stack:
        node, path = stack.pop()
        if node < 0:  # LightGBM writes leaf i as ~i
            paths.append((path, ~node))
            continue
        stack += [(left[node], [*path, (node, True)]), (right[node], [*path, (node, False)])]
    return paths


def _tree_leaves(tree: dict[str, str]) -> list[Leaf]:
    features, kinds = _parse_ints(tree["split_feature"]), _parse_ints(tree["decision_type"])
    thresholds = [floor32(t) for t in _parse_floats(tree["threshold"])]
    children = {True: _parse_ints(tree["left_child"]), False: _parse_ints(tree["right_child"])}
    values, counts, internal_counts = (
        _parse_floats(tree["leaf_value"]),
        _parse_ints(tree["leaf_count"]),
        _parse_ints(tree["internal_count"]),
    )
    leaves = []
    for path, leaf in _leaf_paths(tree):
        conditions: dict[int, SplitCondition] = {}
        for node, left in path:
            condition, threshold = conditions.get(features[node], SplitCondition()), thresholds[node]
            default_left, handles_nan = bool(kinds[node] & DEFAULT_LEFT), (kinds[node] >> 2) & 3 == NAN_IS_MISSING >> 2
            missing_left = default_left if handles_nan else threshold >= 0  # else LightGBM reads NaN as 0
            child = children[left][node]
            conditions[features[node]] = SplitCondition(
                condition.low if left else max(condition.low, threshold),
                min(condition.high, threshold) if left else condition.high,
                condition.missing and missing_left == left,
                condition.share * (internal_counts[child] if child >= 0 else counts[~child]) / internal_counts[node],
            )
        leaves.append(Leaf(float(values[leaf]), conditions))
    return leaves


def _feature_ranges(infos: list[list[str]]) -> str:
    """The range of each feature over all boosters, as LightGBM writes it: [min:max], or none."""
    ranges = []
    for feature_infos in zip(*infos, strict=True):
        pairs = [tuple(map(float, info.strip("[]").split(":"))) for info in feature_infos if info != "none"]
        bounds = (min(low for low, _ in pairs), max(high for _, high in pairs)) if pairs else None
        ranges.append(f"[{bounds[0]!r}:{bounds[1]!r}]" if bounds else "none")
    return " ".join(ranges)


def _parse_fields(block: str) -> dict[str, str]:
    """Lines `name=value` (or a bare `name`) of a block, in their order."""
    pairs = (line.partition("=") for line in block.strip().splitlines())
    return {name: (value if equals else "\0") for name, equals, value in pairs}


def _format_fields(fields: dict[str, str]) -> str:
    return "\n".join(name if value == "\0" else f"{name}={value}" for name, value in fields.items())


def _parse_floats(values: str) -> np.ndarray:
    return np.array([float(value) for value in values.split()], np.float64)


def _parse_ints(values: str) -> list[int]:
    return [int(value) for value in values.split()]


def _format_floats(values: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in values)
