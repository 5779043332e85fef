"""`python -m benchmarks.reasons`: what exact reasons cost, beside the score alone and beside LightGBM's pred_contrib.

All on one thread, in one run, taking turns; each figure is the best of the rounds, in processor time, as other work on
the machine only adds to it. `score` is the same forest as a plain TreeEnsembleRegressor, without even
the head; one row is a different row in each call. The forests: Taiwan's real table, and generated tables (normal
columns, nearly all of them of some use) that spread their questions over many more sets of columns than real ones do.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lightgbm import Booster

ROUNDS = 25
SINGLE = 60  # calls with one row in each round
MANY = 1_000  # rows
COST, FASTER = 3.0, 12.0  # goals: reasons cost at most 3 times the score; are 12 times as fast as pred_contrib

Floats = NDArray[np.float32]


class Forest(NamedTuple):
    """A bag of boosters to grow on a table."""

    table: str  # taiwan or generated
    boosters: int
    trees: int  # of each booster
    depth: int


BAGS = [(1, 300, 3), (5, 120, 3), (5, 120, 2)]
FORESTS = [Forest(table, *bag) for table in ("taiwan", "generated") for bag in BAGS]


def main() -> int:
    """Prints the table; the exit status is 1 where a goal is missed."""
    os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    one, many = "one row: us, and times the score", f"{MANY:,} rows: ms, times the score"
    print(f"{'':37}|  {one:33} |  {many:33} | pred_contrib")
    heads = f" {'score':>6} {'with reasons':>13} {'without':>13}"
    print(f"{'forest (columns)':37}|{heads} |{heads} | {'ms':>6} {'slower':>8}")
    met = True
    for forest in FORESTS:
        booster, x = grow(forest)
        figures = measure(booster, x)
        slower = figures["many"]["contrib"] / figures["many"]["reasons"]
        met &= slower >= FASTER and all(part["reasons"] <= COST * part["score"] for part in figures.values())
        name = f"{forest.boosters * forest.trees} trees, depth {forest.depth}, {forest.table} ({x.shape[1]})"
        contrib = f"{figures['many']['contrib'] * 1e3:6.0f} {slower:6.1f} x"
        print(f"{name:37}|{_cells(figures['one'], 1e6)} |{_cells(figures['many'], 1e3)} | {contrib}", flush=True)
    print(
        f"goals: with reasons at most {COST:.0f} x the score alone; pred_contrib at least {FASTER:.0f} x slower: ",
        end="",
    )
    print("met" if met else "MISSED")
    return 0 if met else 1


def _cells(part: dict[str, float], scale: float) -> str:
    times = [f"{part[name] * scale:6.1f} {part[name] / part['score']:4.2f} x" for name in ("reasons", "alone")]
    return f" {part['score'] * scale:6.1f} {times[0]} {times[1]}"


def grow(forest: Forest) -> tuple[Booster, Floats]:
    """The merged bag, and MANY rows, 5 % of their values missing."""
    import lightgbm

    from models.trees.forest import merge

    rng = np.random.default_rng(0)
    x, y = taiwan() if forest.table == "taiwan" else generated()
    x[rng.random(x.shape) < 0.05] = np.nan
    params = {
        "objective": "binary",
        "max_depth": forest.depth,
        "num_leaves": 2**forest.depth,
        "learning_rate": 0.05,
        "feature_fraction": 0.6,
        "num_threads": 1,
        "verbosity": -1,
    }
    draws = [rng.integers(0, len(x), len(x)) for _ in range(forest.boosters)]
    bag = [lightgbm.train(params, lightgbm.Dataset(x[draw], y[draw]), forest.trees) for draw in draws]
    return merge(bag), x[:MANY]


def taiwan() -> tuple[Floats, NDArray[np.int8]]:
    from datasets.credit_limit import taiwan
    from models.feature_encoder import encode, learn_levels

    frame, target = taiwan.read(), taiwan.TABLE.target.name
    columns = learn_levels(frame, taiwan.TABLE.indicators, target)
    return encode(frame, columns), frame[target].to_numpy().astype(np.int8)


def generated(columns: int = 60, rows: int = 20_000) -> tuple[Floats, NDArray[np.int8]]:
    """Normal columns of fading use, two products and a wave."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    use = rng.normal(size=columns) * np.exp(-np.arange(columns) / 20)
    z = x @ use + x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) * x[:, 3] + 2 * rng.logistic(size=rows)
    return x, (z > 1).astype(np.int8)


def measure(forest: Booster, x: Floats) -> dict[str, dict[str, float]]:
    """Processor seconds for one row and for all rows of `x`: score, reasons, alone (no reasons wanted), contrib."""
    from models.scorecard.scaling import Scale
    from models.trees.onnx_graph import compile_graph

    graph = compile_graph(forest, slope=1.0, intercept=0.0, scale=Scale(), n_features=x.shape[1])
    score, whole = _session(plain(forest).SerializeToString()), _session(graph.SerializeToString())
    wanted, unwanted = {"with_reasons": np.array(True)}, {"with_reasons": np.array(False)}
    ways: dict[str, Callable[[Floats], Any]] = {
        "score": lambda rows: score.run(None, {"x": rows}),
        "reasons": lambda rows: whole.run(None, {"x": rows} | wanted),
        "alone": lambda rows: whole.run(None, {"x": rows} | unwanted),
    }
    singles = [x[at : at + 1] for at in range(SINGLE)]
    one: dict[str, list[float]] = {name: [] for name in ways}
    many: dict[str, list[float]] = {name: [] for name in (*ways, "contrib")}
    for number in range(ROUNDS):
        for name, way in ways.items():
            one[name].append(_seconds(lambda way=way: [way(row) for row in singles]) / SINGLE)  # type: ignore[misc]
            many[name].append(_seconds(lambda way=way: way(x)))  # type: ignore[misc]
        if number % 5 == 0:  # it takes seconds
            many["contrib"].append(_seconds(lambda: forest.predict(x, pred_contrib=True, num_threads=1)))
    return {part: {name: min(times) for name, times in found.items()} for part, found in (("one", one), ("many", many))}


def _seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def plain(forest: Booster) -> Any:
    """The forest tree by tree, as converters write it: one output, the raw score (n, 1)."""
    from onnx import TensorProto, helper

    nodes = ("treeids", "nodeids", "featureids", "modes", "values", "missing_value_tracks_true")
    columns: dict[str, list[Any]] = {f"nodes_{name}": [] for name in (*nodes, "truenodeids", "falsenodeids")}
    columns |= {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}

    def write(tree: int, node: dict[str, Any], first: int) -> int:
        at = len(columns["nodes_nodeids"])
        leaf = "split_feature" not in node
        feature, threshold = (0, 0.0) if leaf else (node["split_feature"], node["threshold"])
        left = not leaf and (node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0)
        line = (tree, at - first, feature, "LEAF" if leaf else "BRANCH_LEQ", threshold, int(left), 0, 0)
        for column, entry in zip([c for n, c in columns.items() if n.startswith("nodes_")], line, strict=True):
            column.append(entry)
        if leaf:
            columns["target_treeids"].append(tree)
            columns["target_nodeids"].append(at - first)
            columns["target_ids"].append(0)
            columns["target_weights"].append(node["leaf_value"])
            return at - first
        columns["nodes_truenodeids"][at] = write(tree, node["left_child"], first)
        columns["nodes_falsenodeids"][at] = write(tree, node["right_child"], first)
        return at - first

    for tree, info in enumerate(forest.dump_model()["tree_info"]):
        write(tree, info["tree_structure"], len(columns["nodes_nodeids"]))
    attributes: dict[str, Any] = dict(columns)
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["raw"], domain="ai.onnx.ml", n_targets=1, **attributes)
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, [None, forest.num_feature()])], [value("raw", TensorProto.FLOAT, [None, 1])]
    graph = helper.make_graph([node], "score", *ends)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8
    )


if __name__ == "__main__":
    sys.exit(main())
