"""A bag of LightGBM boosters as one forest whose raw score is the same number wherever it is added up.

`merge_boosters` divides each leaf by the size of the bag, rounds it to a multiple of a quantum q, and moves each threshold
down to float32. Let r be the sum over the trees of the largest |leaf|. A partial sum, of any of the trees in any
order, is k * q for an integer k with |k| * q <= r. Where r <= 2**24 * q, |k| is at most 2**24, so float32 holds the
sum: no addition rounds, and float32 and float64 give the same number for one row or a million. So `merge_boosters` takes the
finest q from 2**-20 up with r <= 2**24 * q; for r <= 16 that is 2**-20. Rounding moves a raw score by at most q / 2
for each tree, far less in the mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lightgbm import Booster

MIN_QUANTUM = 2.0**-20  # finest step of a leaf's value: raw scores up to 16 stay exact
MAX_QUANTUM = 2.0**-14  # raw scores up to 1,024; whatever reaches further is no log-odds
MAX_DEPTH = 3  # questions on the way to a leaf: what the reasons are compiled for
LIGHTGBM_ZERO = 1.0000000180025095e-35  # LightGBM reads |x| <= LIGHTGBM_ZERO as 0 (kZeroThreshold in its meta.h)
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class SplitCondition:
    """What the way to a leaf asks of one feature: low < x <= high, or x missing where `missing` says so."""

    low: float = -math.inf  # -inf: no bound
    high: float = math.inf  # inf: no bound
    missing: bool = True  # whether a missing value passes
    share: float = 1.0  # of the training rows that came to these questions, the share that passed


@dataclass(frozen=True)
class Leaf:
    """One leaf of one tree: its value, and what it asks of each feature on the way."""

    value: float
    conditions: dict[int, SplitCondition]


@dataclass
class _ModelText:
    """A model text of LightGBM, cut into its parts so that they can be written again."""

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

    Raises ValueError, naming what was found, for what the exact export cannot hold: categorical or linear trees,
    zero_as_missing, more than three questions on a way, several classes, a random forest, or boosters that differ.
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


def extract_leaves(booster: "Booster") -> list[list[Leaf]]:
    """Each tree of a merged booster as its leaves."""
    trees = _ModelText.from_booster(booster).trees
    for tree in trees:
        _check_supported(tree, 0)
    return [_tree_leaves(tree) for tree in trees]


def floor32(threshold: float) -> float:
    """Largest float32 t for which `x <= t` answers as LightGBM does with `threshold`, for each float32 x.

    LightGBM reads |x| <= LIGHTGBM_ZERO as 0, so a threshold inside that band moves to the edge that keeps the band together.
    """
    if abs(threshold) <= LIGHTGBM_ZERO:
        threshold = (
            LIGHTGBM_ZERO if threshold >= 0 else float(np.nextafter(np.float32(-LIGHTGBM_ZERO), np.float32(-np.inf)))
        )
    if threshold >= FLOAT32_MAX:  # LightGBM writes 1e300 where a split parts the missing values from all others
        return FLOAT32_MAX
    if threshold < -FLOAT32_MAX:
        raise ValueError(
            f"A split asks x <= {threshold}, below all finite float32 values; thresholds must be finite in float32. "
            f"Replace infinite values in the training data by missing ones, and train again."
        )
    nearest = np.float32(threshold)
    return float(nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-np.inf)))


def _quantise(values: list[np.ndarray]) -> list[np.ndarray]:
    """Leaf values as multiples of the finest quantum for which each partial sum of the trees fits 24 bits."""
    quantum = MIN_QUANTUM
    while quantum <= MAX_QUANTUM:
        rounded = [np.rint(value / quantum) * quantum + 0.0 for value in values]
        if math.fsum(float(np.abs(value).max()) for value in rounded) <= 2.0**24 * quantum:
            return rounded
        quantum *= 2
    total = math.fsum(float(np.abs(value).max()) for value in values)
    raise ValueError(
        f"The largest leaves of the forest add up to {total:.0f} in log-odds; at most {2.0**24 * MAX_QUANTUM:.0f} can be "
        f"summed exactly. Lower learning_rate, set max_delta_step, or train fewer trees."
    )


def _check_compatible(text: _ModelText, reference: _ModelText, index: int) -> None:
    """All boosters must be of one kind, and of the kind that adds up one number from its trees."""
    if "average_output" in text.header:
        raise ValueError(
            f"Booster {index} is a random forest (average_output); a boosted sum is needed: boosting=gbdt."
        )
    for key in ("num_class", "num_tree_per_iteration"):
        if text.header[key] != "1":
            raise ValueError(f"Booster {index} has {key} {text.header[key]}; 1 is needed. Train a binary objective.")
    for key in text.header.keys() - {"feature_infos", "tree_sizes"}:
        if text.header[key] != reference.header.get(key):
            raise ValueError(
                f"Booster {index} has {key}={text.header[key]!r} where the first has {reference.header.get(key)!r}; "
                f"a bag needs one kind of booster. Train all of them on the same columns with the same settings."
            )


def _check_supported(tree: dict[str, str], index: int) -> None:
    """Raise for a tree that asks something which the exact export does not answer."""
    kinds = [int(kind) for kind in tree["decision_type"].split()]
    if tree["num_cat"] != "0" or any(kind & 1 for kind in kinds):
        raise ValueError(
            f"Booster {index} splits on categories; only thresholds are exported exactly. "
            f"Give categories as ordinal codes, and do not name them in categorical_feature."
        )
    if tree.get("is_linear", "0") != "0":
        raise ValueError(f"Booster {index} has linear leaves; constant ones are needed. Train with linear_tree=false.")
    if any((kind >> 2) & 3 == 1 for kind in kinds):
        raise ValueError(
            f"Booster {index} reads zeros as missing, which ONNX cannot say; a missing value is NaN here. "
            f"Train with zero_as_missing=false."
        )
    depth = max(len(way) for way, _ in _leaf_paths(tree))
    if depth > MAX_DEPTH:
        raise ValueError(
            f"Booster {index} asks {depth} questions on the way to a leaf; reasons are compiled for at most {MAX_DEPTH}. "
            f"Train with max_depth={MAX_DEPTH}."
        )
    if min(int(count) for count in tree["leaf_count"].split()) < 1:
        raise ValueError(
            f"Booster {index} has a leaf without training rows; reasons weigh by them. Set min_data_in_leaf."
        )


def _leaf_paths(tree: dict[str, str]) -> list[tuple[list[tuple[int, bool]], int]]:
    """(the (split, went left) pairs from the root down, the leaf) for each leaf of a tree."""
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
            default_left, handles_nan = bool(kinds[node] & 2), (kinds[node] >> 2) & 3 == 2
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
    """The bag's common range of each feature, as LightGBM writes it: [least:most], or none."""
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
