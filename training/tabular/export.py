"""From a fitted forest to a graph that is proved to say the same, or no export at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.card import Head, Reference
from models.scorecard.scaling import Scale
from models.trees.onnx_session import Graph
from training.interfaces import Fit
from training.progress import Tick, ignore

if TYPE_CHECKING:
    from lightgbm import Booster

PD, CONTRIBUTION = 1e-6, 1e-5  # largest difference that is let pass; the raw score's is 0
EDGES = 4_000  # thresholds tried, each with the float on either side
CONTRIBUTIONS = 500  # rows; LightGBM's pred_contrib takes a millisecond each
KNOTS = 24  # of the reference
HOSTILE = (np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38)


class ParityBroken(Exception):
    """The graph and the native model differ: nothing is exported."""


@dataclass(frozen=True)
class Exported:
    graph: bytes
    head: Head


def export(fit: Fit, scale: Scale | None = None) -> Exported:
    """Compile the forest and its head into one ONNX graph."""
    from models.trees.onnx_graph import bias, compile_graph

    scale = scale or Scale()
    model = compile_graph(
        fit.forest, slope=fit.slope, intercept=fit.intercept, scale=scale, n_features=len(fit.columns)
    )
    head = Head(
        slope=fit.slope,
        intercept=fit.intercept,
        bias=bias(fit.forest),
        points=scale.points_at_odds,
        odds=scale.odds,
        double=scale.double,
    )
    return Exported(model.SerializeToString(), head)


def parity(fit: Fit, graph: Graph, rows: np.ndarray, seed: int = 0, tick: Tick = ignore) -> dict[str, float]:
    """Largest differences between the native model and the graph; raises ParityBroken beyond what is let pass.

    Tried on `rows` (n, d), on rows moved to thresholds and one float either side of them, and on rows with missing,
    infinite and extreme values; the raw score must be the same number, one row at a time too.
    """
    tried = np.concatenate([rows, _edges(fit.forest, rows, seed), _hostile(rows, seed)])
    tick(1, 4)
    native = np.asarray(fit.forest.predict(tried, raw_score=True, num_threads=1))
    found = graph.run(tried)
    tick(2, 4)
    log_odds = fit.slope * native + fit.intercept
    pd = np.exp(-np.logaddexp(0.0, -log_odds))
    some = np.random.default_rng(seed).permutation(len(tried))[:CONTRIBUTIONS]
    reasons = graph.run(tried[some], reasons=True)
    assert reasons.contributions is not None
    shap = np.asarray(fit.forest.predict(tried[some], pred_contrib=True, num_threads=1))
    tick(3, 4)
    alone = np.array([graph.run(tried[i : i + 1]).raw[0] for i in some[:100]])
    differences = {
        "raw": float(np.abs(found.raw.astype(np.float64) - native).max()),
        "raw with reasons": float(np.abs(reasons.raw.astype(np.float64) - native[some]).max()),
        "raw row by row": float(np.abs(alone.astype(np.float64) - native[some[:100]]).max()),
        "pd": float(np.abs(found.pd - pd).max()),
        "contributions": float(np.abs(reasons.contributions - shap[:, :-1]).max()),
        "sum of contributions": float(np.abs(reasons.contributions.sum(axis=1) + shap[:, -1] - native[some]).max()),
    }
    allowed = {"pd": PD, "contributions": CONTRIBUTION, "sum of contributions": CONTRIBUTION}
    broken = [
        f"{name} differs by {value:.2e}, at most {allowed.get(name, 0.0):g} is let pass"
        for name, value in differences.items()
        if not value <= allowed.get(name, 0.0)
    ]
    if broken:
        raise ParityBroken(f"The graph is not the model, and is not exported: {'; '.join(broken)}.")
    return differences


def reference(points: np.ndarray, contributions: np.ndarray) -> Reference:
    """Mean contributions (inputs,) of the applicants around each of KNOTS scores, from the worst score to the best."""
    order = np.argsort(points, kind="stable")
    knots: dict[float, tuple[float, ...]] = {}
    for rows in np.array_split(order, min(KNOTS, len(order))):
        knots[float(points[rows].mean())] = tuple(contributions[rows].mean(axis=0, dtype=np.float64).tolist())
    return Reference(points=tuple(knots), contributions=tuple(knots.values()))


def _edges(forest: Booster, rows: np.ndarray, seed: int) -> np.ndarray:
    """Rows with one value moved to a threshold of that column, or to the float beside it."""
    from models.trees.forest import leaves

    every = {
        (feature, threshold)
        for tree in leaves(forest)
        for leaf in tree
        for feature, condition in leaf.conditions.items()
        for threshold in (condition.low, condition.high)
        if np.isfinite(threshold)
    }
    rng = np.random.default_rng(seed)
    asked = sorted(every)
    chosen = [asked[i] for i in rng.permutation(len(asked))[:EDGES]]
    feature = np.repeat([f for f, _ in chosen], 3).astype(int)
    at = np.array([t for _, t in chosen], np.float32)
    with np.errstate(over="ignore"):  # above the largest float stands infinity, which is tried too
        values = np.column_stack([np.nextafter(at, np.float32(end)) for end in (-np.inf, at, np.inf)]).ravel()
    moved = rows[rng.integers(0, len(rows), len(values))].copy()
    moved[np.arange(len(values)), feature] = values
    return moved


def _hostile(rows: np.ndarray, seed: int) -> np.ndarray:
    """Rows in which every third value is missing, infinite or extreme."""
    rng = np.random.default_rng(seed + 1)
    moved = rows[rng.integers(0, len(rows), 500)].copy()
    strange = rng.random(moved.shape) < 1 / 3
    moved[strange] = rng.choice(np.array(HOSTILE, np.float32), int(strange.sum()))
    return moved
