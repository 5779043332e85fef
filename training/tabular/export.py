"""Export a fitted forest as an ONNX graph, and verify that the graph computes what the forest does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.card import ContributionReference, ScoreHead
from models.scorecard.scaling import ScoreScale
from models.trees.onnx_session import TabularSession
from training.progress import ProgressCallback, ignore_progress
from training.tabular.fit import FittedModel

if TYPE_CHECKING:
    from lightgbm import Booster

# Largest difference allowed by output; raw scores, which are absent here, must be equal.
TOLERANCES = {"pd": 1e-6, "contributions": 1e-5, "sum of contributions": 1e-5}
MAX_THRESHOLDS = 4_000  # thresholds tested, each with the float on either side
CONTRIBUTION_ROWS = 500  # LightGBM's pred_contrib takes a millisecond per row
REFERENCE_KNOTS = 24
EXTREME_VALUES = (np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38)


class ParityError(Exception):
    """The graph and the native model differ, so nothing is exported."""


@dataclass(frozen=True)
class ExportedModel:
    """The serialised graph, and the head that its card describes."""

    graph: bytes
    head: ScoreHead


def export(fit: FittedModel, scale: ScoreScale | None = None) -> ExportedModel:
    """Compile the forest and its head into one ONNX graph."""
    from models.trees.onnx_graph import compile_graph, expected_raw_score

    scale = scale or ScoreScale()
    graph = compile_graph(
        fit.forest, slope=fit.slope, intercept=fit.intercept, scale=scale, n_features=len(fit.columns)
    )
    head = ScoreHead(
        slope=fit.slope,
        intercept=fit.intercept,
        bias=expected_raw_score(fit.forest),
        points=scale.points_at_odds,
        odds=scale.odds,
        double=scale.double,
    )
    return ExportedModel(graph.SerializeToString(), head)


def verify_parity(
    fit: FittedModel,
    graph: TabularSession,
    rows: np.ndarray,
    seed: int = 0,
    progress: ProgressCallback = ignore_progress,
) -> dict[str, float]:
    """Return the largest differences between the native model and the graph; raises ParityError beyond TOLERANCES.

    Compared on `rows` (n, d), on rows moved to thresholds and to the floats next to them, and on rows with missing,
    infinite and extreme values. The raw scores must be equal, in a batch and row by row.
    """
    inputs = np.concatenate([rows, _threshold_rows(fit.forest, rows, seed), _extreme_rows(rows, seed)])
    progress(1, 4)
    native = np.asarray(fit.forest.predict(inputs, raw_score=True, num_threads=1))
    outputs = graph.run(inputs)
    progress(2, 4)
    log_odds = fit.slope * native + fit.intercept
    pd = np.exp(-np.logaddexp(0.0, -log_odds))
    sample = np.random.default_rng(seed).permutation(len(inputs))[:CONTRIBUTION_ROWS]
    reasons = graph.run(inputs[sample], reasons=True)
    assert reasons.contributions is not None
    shap = np.asarray(fit.forest.predict(inputs[sample], pred_contrib=True, num_threads=1))
    progress(3, 4)
    single_row_scores = np.array([graph.run(inputs[i : i + 1]).raw[0] for i in sample[:100]])
    differences = {
        "raw": float(np.abs(outputs.raw.astype(np.float64) - native).max()),
        "raw with reasons": float(np.abs(reasons.raw.astype(np.float64) - native[sample]).max()),
        "raw row by row": float(np.abs(single_row_scores.astype(np.float64) - native[sample[:100]]).max()),
        "pd": float(np.abs(outputs.pd - pd).max()),
        "contributions": float(np.abs(reasons.contributions - shap[:, :-1]).max()),
        "sum of contributions": float(np.abs(reasons.contributions.sum(axis=1) + shap[:, -1] - native[sample]).max()),
    }
    violations = [
        f"{name} differs by {value:.2e}, at most {TOLERANCES.get(name, 0.0):g} is allowed"
        for name, value in differences.items()
        if not value <= TOLERANCES.get(name, 0.0)
    ]
    if violations:
        raise ParityError(
            f"The graph does not compute what the model does, and is not exported: {'; '.join(violations)}."
        )
    return differences


def fit_reference(points: np.ndarray, contributions: np.ndarray) -> ContributionReference:
    """Mean contributions (inputs,) of the rows around each of REFERENCE_KNOTS scores, from the lowest score up.

    points (rows,); contributions (rows, inputs) in raw-score units.
    """
    order = np.argsort(points, kind="stable")
    knots: dict[float, tuple[float, ...]] = {}
    for rows in np.array_split(order, min(REFERENCE_KNOTS, len(order))):
        knots[float(points[rows].mean())] = tuple(contributions[rows].mean(axis=0, dtype=np.float64).tolist())
    return ContributionReference(points=tuple(knots), contributions=tuple(knots.values()))


def _threshold_rows(forest: Booster, rows: np.ndarray, seed: int) -> np.ndarray:
    """Rows with one value moved to a threshold of that column, or to the float next to it."""
    from models.trees.forest import extract_leaves

    candidates = {
        (feature, threshold)
        for tree in extract_leaves(forest)
        for leaf in tree
        for feature, condition in leaf.conditions.items()
        for threshold in (condition.low, condition.high)
        if np.isfinite(threshold)
    }
    rng = np.random.default_rng(seed)
    thresholds = sorted(candidates)
    sample = [thresholds[i] for i in rng.permutation(len(thresholds))[:MAX_THRESHOLDS]]
    feature = np.repeat([f for f, _ in sample], 3).astype(int)
    threshold_values = np.array([t for _, t in sample], np.float32)
    with np.errstate(over="ignore"):  # the float after the largest is infinity, which is tested too
        values = np.column_stack(
            [np.nextafter(threshold_values, np.float32(direction)) for direction in (-np.inf, threshold_values, np.inf)]
        ).ravel()
    perturbed = rows[rng.integers(0, len(rows), len(values))].copy()
    perturbed[np.arange(len(values)), feature] = values
    return perturbed


def _extreme_rows(rows: np.ndarray, seed: int) -> np.ndarray:
    """Rows in which every third value is missing, infinite or extreme."""
    rng = np.random.default_rng(seed + 1)
    perturbed = rows[rng.integers(0, len(rows), 500)].copy()
    mask = rng.random(perturbed.shape) < 1 / 3
    perturbed[mask] = rng.choice(np.array(EXTREME_VALUES, np.float32), int(mask.sum()))
    return perturbed
