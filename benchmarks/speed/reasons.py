"""Measure what exact reasons cost, compared with the score alone and with LightGBM's pred_contrib.

    python -m benchmarks.speed.reasons

All variants run in turn on one thread; each figure is the best of the rounds in processor time, because other load only
adds to it. `score` is the same forest as a plain TreeEnsembleRegressor, without the head; single-row calls use a
different row each time. The forests are grown on Taiwan's real table, and on generated tables (normal columns, nearly
all informative) whose splits combine many more sets of columns than those of real tables.
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
SINGLE_ROW_CALLS = 60  # in each round
BATCH_ROWS = 1_000
# Goals: reasons cost at most 3 times the score, and are 12 times as fast as pred_contrib.
MAX_COST_RATIO, MIN_SPEEDUP = 3.0, 12.0

Floats = NDArray[np.float32]


class Forest(NamedTuple):
    """A bag of boosters to be grown on a table."""

    table: str  # taiwan or generated
    boosters: int
    trees: int  # of each booster
    depth: int


BAG_SIZES = [(1, 300, 3), (5, 120, 3), (5, 120, 2)]
FORESTS = [Forest(table, *bag) for table in ("taiwan", "generated") for bag in BAG_SIZES]


def main() -> int:
    """Print the table; the exit status is 1 where a goal is missed."""
    os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    single_heading, batch_heading = "one row: us, and times the score", f"{BATCH_ROWS:,} rows: ms, times the score"
    print(f"{'':37}|  {single_heading:33} |  {batch_heading:33} | pred_contrib")
    headings = f" {'score':>6} {'with reasons':>13} {'without':>13}"
    print(f"{'forest (columns)':37}|{headings} |{headings} | {'ms':>6} {'slower':>8}")
    goals_met = True
    for forest in FORESTS:
        booster, x = grow(forest)
        figures = measure(booster, x)
        slower = figures["many"]["contrib"] / figures["many"]["reasons"]
        goals_met &= slower >= MIN_SPEEDUP and all(
            times["reasons"] <= MAX_COST_RATIO * times["score"] for times in figures.values()
        )
        name = f"{forest.boosters * forest.trees} trees, depth {forest.depth}, {forest.table} ({x.shape[1]})"
        contrib = f"{figures['many']['contrib'] * 1e3:6.0f} {slower:6.1f} x"
        print(f"{name:37}|{_cells(figures['one'], 1e6)} |{_cells(figures['many'], 1e3)} | {contrib}", flush=True)
    print(
        f"goals: with reasons at most {MAX_COST_RATIO:.0f} x the score alone; pred_contrib at least {MIN_SPEEDUP:.0f} "
        "x slower: ",
        end="",
    )
    print("met" if goals_met else "MISSED")
    return 0 if goals_met else 1


def _cells(times: dict[str, float], scale: float) -> str:
    texts = [f"{times[name] * scale:6.1f} {times[name] / times['score']:4.2f} x" for name in ("reasons", "alone")]
    return f" {times['score'] * scale:6.1f} {texts[0]} {texts[1]}"


def grow(forest: Forest) -> tuple[Booster, Floats]:
    """Grow the merged bag; also returns BATCH_ROWS rows, 5 % of their values missing."""
    import lightgbm

    from models.trees.forest import merge_boosters

    rng = np.random.default_rng(0)
    x, y = load_taiwan() if forest.table == "taiwan" else generate_table()
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
    sample_rows = [rng.integers(0, len(x), len(x)) for _ in range(forest.boosters)]
    bag = [lightgbm.train(params, lightgbm.Dataset(x[rows], y[rows]), forest.trees) for rows in sample_rows]
    return merge_boosters(bag), x[:BATCH_ROWS]


def load_taiwan() -> tuple[Floats, NDArray[np.int8]]:
    from datasets.credit_limit import taiwan
    from models.feature_encoder import encode, order_levels

    frame, target = taiwan.read(), taiwan.TABLE.target.name
    columns = order_levels(frame, taiwan.TABLE.indicators, target)
    return encode(frame, columns), frame[target].to_numpy().astype(np.int8)


def generate_table(columns: int = 60, rows: int = 20_000) -> tuple[Floats, NDArray[np.int8]]:
    """Normal columns of decreasing importance, with a product and a wave; (x, y)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    coefficients = rng.normal(size=columns) * np.exp(-np.arange(columns) / 20)
    logits = x @ coefficients + x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) * x[:, 3] + 2 * rng.logistic(size=rows)
    return x, (logits > 1).astype(np.int8)


def measure(forest: Booster, x: Floats) -> dict[str, dict[str, float]]:
    """Processor seconds for one row and for all rows of `x`: score, with reasons, without reasons, pred_contrib."""
    from models.scorecard.scaling import ScoreScale
    from models.trees.onnx_graph import compile_graph

    graph = compile_graph(forest, slope=1.0, intercept=0.0, scale=ScoreScale(), n_features=x.shape[1])
    score, graph_session = (
        _session(plain_tree_ensemble(forest).SerializeToString()),
        _session(graph.SerializeToString()),
    )
    with_reasons, without_reasons = {"with_reasons": np.array(True)}, {"with_reasons": np.array(False)}
    runs: dict[str, Callable[[Floats], Any]] = {
        "score": lambda rows: score.run(None, {"x": rows}),
        "reasons": lambda rows: graph_session.run(None, {"x": rows} | with_reasons),
        "alone": lambda rows: graph_session.run(None, {"x": rows} | without_reasons),
    }
    singles = [x[index : index + 1] for index in range(SINGLE_ROW_CALLS)]
    single_times: dict[str, list[float]] = {name: [] for name in runs}
    batch_times: dict[str, list[float]] = {name: [] for name in (*runs, "contrib")}
    for round_index in range(ROUNDS):
        for name, run in runs.items():
            single_times[name].append(_seconds(lambda run=run: [run(row) for row in singles]) / SINGLE_ROW_CALLS)  # type: ignore[misc]
            batch_times[name].append(_seconds(lambda run=run: run(x)))  # type: ignore[misc]
        if round_index % 5 == 0:  # it takes seconds
            batch_times["contrib"].append(_seconds(lambda: forest.predict(x, pred_contrib=True, num_threads=1)))
    return {
        size: {name: min(times) for name, times in times_by_run.items()}
        for size, times_by_run in (("one", single_times), ("many", batch_times))
    }


def _seconds(fn: Callable[[], Any]) -> float:
    start = time.process_time()
    fn()
    return time.process_time() - start


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def plain_tree_ensemble(forest: Booster) -> Any:
    """The forest as converters write it, tree by tree, with one output, the raw score (n, 1)."""
    from onnx import TensorProto, helper

    nodes = ("treeids", "nodeids", "featureids", "modes", "values", "missing_value_tracks_true")
    columns: dict[str, list[Any]] = {f"nodes_{name}": [] for name in (*nodes, "truenodeids", "falsenodeids")}
    columns |= {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}

    def write(tree: int, node: dict[str, Any], first_node: int) -> int:
        index = len(columns["nodes_nodeids"])
        leaf = "split_feature" not in node
        feature, threshold = (0, 0.0) if leaf else (node["split_feature"], node["threshold"])
        left = not leaf and (node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0)
        values = (tree, index - first_node, feature, "LEAF" if leaf else "BRANCH_LEQ", threshold, int(left), 0, 0)
        for column, entry in zip([c for n, c in columns.items() if n.startswith("nodes_")], values, strict=True):
            column.append(entry)
        if leaf:
            columns["target_treeids"].append(tree)
            columns["target_nodeids"].append(index - first_node)
            columns["target_ids"].append(0)
            columns["target_weights"].append(node["leaf_value"])
            return index - first_node
        columns["nodes_truenodeids"][index] = write(tree, node["left_child"], first_node)
        columns["nodes_falsenodeids"][index] = write(tree, node["right_child"], first_node)
        return index - first_node

    for tree, info in enumerate(forest.dump_model()["tree_info"]):
        write(tree, info["tree_structure"], len(columns["nodes_nodeids"]))
    attributes: dict[str, Any] = dict(columns)
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["raw"], domain="ai.onnx.ml", n_targets=1, **attributes)
    value = helper.make_tensor_value_info
    endpoints = (
        [value("x", TensorProto.FLOAT, [None, forest.num_feature()])],
        [value("raw", TensorProto.FLOAT, [None, 1])],
    )
    graph = helper.make_graph([node], "score", *endpoints)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8
    )


if __name__ == "__main__":
    sys.exit(main())
