"""Compile the score with its reasons into one ONNX graph: pd, points, raw score and each feature's contribution.

    x ── TreeEnsembleRegressor ──┬── GatherElements ── ReduceSum ── raw ── head in double ── pd, points
         a binary search for     │   the raw part
         each feature's bin; the │   of each cell
         bins add up to where    │
         each table's cell lies  └── GatherElements ── ReduceSum ── MatMul ── contributions
                                     (wanted or not)   of runs      of runs to features

The tables are those of tree_shap.py. The raw score has one path, with or without reasons, for one row or a batch; it
adds multiples of a quantum, which float32 adds exactly (forest.py), so raw has the same bits as LightGBM's.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.scorecard.scaling import ScoreScale
from models.trees.forest import extract_leaves
from models.trees.onnx_binning import BinOffsets, make_binning_node
from models.trees.tree_shap import ShapTable, build_tables, expected_raw

if TYPE_CHECKING:
    from lightgbm import Booster
    from onnx import ModelProto, NodeProto

OPSETS = {"": 17, "ai.onnx.ml": 3}
IR_VERSION = 8  # the oldest with these opsets, so that older runtimes read it
RUN_LENGTH = (
    16  # contributions to one feature that ReduceSum adds before MatMul; one MatMul of all is slow for single rows
)
MAX_EXACT_INT = 2**24  # float32 counts to here without a gap


def expected_raw_score(booster: "Booster") -> float:
    """Expected raw score: the last column of LightGBM's pred_contrib; bias + sum of contributions = raw."""
    return expected_raw(leaf for tree in extract_leaves(booster) for leaf in tree)


def compile_graph(
    booster: "Booster", *, slope: float, intercept: float, scale: ScoreScale, n_features: int
) -> "ModelProto":
    """A merged booster (models/trees/forest.py) and its head, log_odds = slope * raw + intercept, as a graph.

    Inputs: `x` (n, n_features) float32, NaN is missing; `with_reasons` () bool.
    Outputs: `pd` (n,) and `points` (n,) double; `raw` (n,) float32, bit for bit LightGBM's raw score; `contributions`
    (n, n_features) float32 in raw-score units, pred_contrib without its last column; (0, n_features) without reasons.
    Reasons take about 30 kB of memory per row while they are computed: pass a few thousand rows at a time.
    """
    if booster.num_feature() != n_features:
        raise ValueError(
            f"The booster was trained on {booster.num_feature()} features, and the graph is to take {n_features}. "
            f"Give the inputs that it was trained on."
        )
    from onnx import TensorProto, checker, helper, numpy_helper

    shap_tables = build_tables(leaf for tree in extract_leaves(booster) for leaf in tree)
    constants = _constants(shap_tables, n_features) | {
        "slope": np.float64(slope),
        "intercept": np.float64(intercept),
        "unit": np.float64(1.0),
        "one_by_e": np.float64(math.exp(-1.0)),
        "factor": np.float64(scale.factor),
        "offset": np.float64(scale.offset),
        "minus_one": np.array([-1], np.int64),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
    }
    tensor_info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [make_binning_node(_bin_offsets(shap_tables), len(shap_tables) + 1), *_score_nodes(), *_contribution_nodes()],
        "score_with_reasons",
        [tensor_info("x", TensorProto.FLOAT, ["n", n_features]), tensor_info("with_reasons", TensorProto.BOOL, [])],
        [
            tensor_info("pd", TensorProto.DOUBLE, ["n"]),
            tensor_info("points", TensorProto.DOUBLE, ["n"]),
            tensor_info("raw", TensorProto.FLOAT, ["n"]),
            tensor_info("contributions", TensorProto.FLOAT, ["rows", n_features]),
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="yuheng", ir_version=IR_VERSION)
    checker.check_model(model)
    return model


def _score_nodes() -> "list[NodeProto]":
    from onnx import TensorProto, helper

    node = helper.make_node
    return [
        node("Cast", ["where"], ["cell"], to=TensorProto.INT32),  # (n, tables + 1) place of the cell in `memory`
        node("Reshape", ["cell", "minus_one"], ["cells"]),
        node("GatherElements", ["memory", "cells"], ["raw_part"]),  # a cell begins with its raw part
        node("Reshape", ["raw_part", "by_table"], ["raw_parts"]),  # (n, tables + 1)
        node("ReduceSum", ["raw_parts", "one"], ["raw"], keepdims=0),
        node("Cast", ["raw"], ["raw_in_double"], to=TensorProto.DOUBLE),
        node("Mul", ["raw_in_double", "slope"], ["sloped"]),
        node("Add", ["sloped", "intercept"], ["log_odds"]),
        # Not Sigmoid or Exp: they are vectorised, so a row's last bit would depend on its position in the batch.
        node("Pow", ["one_by_e", "log_odds"], ["odds_against"]),
        node("Add", ["odds_against", "unit"], ["all_odds"]),
        node("Div", ["unit", "all_odds"], ["pd"]),
        node("Mul", ["log_odds", "factor"], ["scaled"]),
        node("Sub", ["offset", "scaled"], ["points"]),
    ]


def _contribution_nodes() -> "list[NodeProto]":
    """Look up each contribution's slot; for 0 rows without reasons (an If would cost a single row 10 us)."""
    from onnx import TensorProto, helper

    node = helper.make_node
    return [
        node("Shape", ["x"], ["n"], start=0, end=1),
        node("Cast", ["with_reasons"], ["all_or_none"], to=TensorProto.INT64),
        node("Mul", ["n", "all_or_none"], ["rows"]),
        node("Concat", ["rows", "n_slots"], ["rows_by_slots"], axis=0),
        node("Expand", ["slot_table", "rows_by_slots"], ["tables"]),  # (rows, slots)
        node("GatherElements", ["cell", "tables"], ["begin"], axis=1),
        node("Add", ["begin", "slot_column"], ["slot"]),
        node("Reshape", ["slot", "minus_one"], ["slots"]),
        node("GatherElements", ["memory", "slots"], ["part"]),
        node("Reshape", ["part", "by_run"], ["parts"]),  # (rows, runs, RUN_LENGTH)
        node("ReduceSum", ["parts", "two"], ["runs"], keepdims=0),
        node("MatMul", ["runs", "run_to_feature"], ["contributions"]),
    ]


def _constants(shap_tables: list[ShapTable], n_features: int) -> dict[str, Any]:
    """`memory`: a 0, then each cell of each table as its raw part and its contributions; and the positions of its
    parts.

    The column after the last table points to the 0 at the start: it pads runs to RUN_LENGTH.
    """
    stride = _stride(shap_tables)
    cells = [np.column_stack([table.raw, table.contributions]) for table in shap_tables]
    rows = [np.pad(cell, ((0, 0), (0, stride - cell.shape[1]))).reshape(-1) for cell in cells]
    memory = np.concatenate([[0.0], *rows]).astype(np.float32)  # raw parts are exact in float32
    if len(memory) > MAX_EXACT_INT:
        raise ValueError(
            f"The tables of the reasons hold {len(memory)} numbers, and the graph counts up to {MAX_EXACT_INT}. "
            f"Train fewer trees."
        )
    slots: list[tuple[int, int]] = []  # (table, column) of each contribution, in runs of one feature
    run_feature: list[int] = []
    for feature in range(n_features):
        feature_slots = [
            (table_index, column)
            for table_index, table in enumerate(shap_tables)
            for column, axis in enumerate(table.axes, start=1)
            if axis.feature == feature
        ]
        runs = -(-len(feature_slots) // RUN_LENGTH)
        slots += feature_slots + [(len(shap_tables), 0)] * (runs * RUN_LENGTH - len(feature_slots))
        run_feature += [feature] * runs
    table_of, column_of = np.array(slots, np.int32).T
    run_to_feature = np.zeros((len(run_feature), n_features), np.float32)
    run_to_feature[np.arange(len(run_feature)), run_feature] = 1.0
    return {
        "memory": memory,
        "slot_table": table_of[None],  # (1, slots)
        "slot_column": column_of[None],
        "run_to_feature": run_to_feature,
        "n_slots": np.array([len(slots)], np.int64),
        "by_table": np.array([-1, len(shap_tables) + 1], np.int64),
        "by_run": np.array([-1, len(run_feature), RUN_LENGTH], np.int64),
    }


def _stride(shap_tables: list[ShapTable]) -> int:
    """Numbers per cell in `memory`: its raw part and its contributions."""
    return 1 + max(len(table.axes) for table in shap_tables)


def _bin_offsets(shap_tables: list[ShapTable]) -> Iterator[BinOffsets]:
    """What each bin of each axis adds to the position of its table's cell in `memory`."""
    stride, start = _stride(shap_tables), 1
    for table_index, table in enumerate(shap_tables):
        for axis_index, axis in enumerate(table.axes):
            offsets: NDArray[np.int64] = axis.offsets * stride + (start if axis_index == 0 else 0)
            yield BinOffsets(axis.feature, axis.thresholds, offsets, table_index)
        start += len(table.raw) * stride
