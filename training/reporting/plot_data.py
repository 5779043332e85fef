"""Build the data of the plots from an evaluation, small enough for the signed card."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.card import Card, ScoreHead
from models.evaluation_summary import (
    Curve,
    FairnessRow,
    Histogram,
    Importance,
    MetricInterval,
    PlotData,
    ReliabilityBin,
)
from models.metrics import CalibrationBin, Interval
from models.scorecard.explanations import cutoff_points
from models.scorecard.scaling import ScoreScale
from training.evaluation.evaluate import EvaluationData, EvaluationReport
from training.reporting import plot_style

MAX_CURVE_POINTS, HISTOGRAM_BINS, MAX_IMPORTANCES = 101, 40, 12


def points_per_logit(head: ScoreHead) -> float:
    """Points that one unit of the raw score adds."""
    return -ScoreScale(head.points, head.odds, head.double).factor * head.slope


def build_plots(card: Card, data: EvaluationData, evaluation: EvaluationReport, contributions: np.ndarray) -> PlotData:
    """The plot data of a tabular model. contributions: (held-out rows, inputs) in raw-score units."""
    y, pd, points = data.y[data.holdout], data.pd[data.holdout], data.points[data.holdout]
    curves = [build_roc("model", y, pd, evaluation.metrics["auc"])]
    curves += [build_roc(name, y, baseline.pd, baseline.auc) for name, baseline in evaluation.baselines.items()]
    size = abs(points_per_logit(card.head)) * np.abs(contributions).mean(axis=0)
    top = np.argsort(-size)[:MAX_IMPORTANCES]
    profit = evaluation.profit
    return PlotData(
        unit="rows",
        rows=evaluation.rows,
        roc=tuple(curves),
        reliability=build_reliability(evaluation.bins),
        spread=build_histogram("score", points, y, cutoff_points(card, data.terms.cutoff)),
        line=data.terms.cutoff,
        profit=build_curve("profit", profit.cutoffs, profit.curve),
        profit_band=(
            build_curve("low", profit.cutoffs, profit.band[0]),
            build_curve("high", profit.cutoffs, profit.band[1]),
        ),
        best_line=to_metric_interval(profit.best_cutoff),
        currency=profit.currency,
        fairness=tuple(
            FairnessRow(
                attribute=group.attribute,
                value=group.value,
                rows=group.rows,
                approval=to_metric_interval(group.approval_ratio),
                limit=to_metric_interval(group.limit_ratio_at_equal_pd),
            )
            for group in evaluation.groups
        ),
        weights=tuple(
            Importance(
                name=data.columns[i].name,
                en=data.columns[i].label,
                zh=data.columns[i].label_zh or data.columns[i].label,
                points=round(float(size[i]), 3),
            )
            for i in top
        ),
    )


def build_roc(name: str, y: np.ndarray, score: np.ndarray, auc: Interval) -> Curve:
    """The ROC curve of scores (n,) against outcomes (n,) of 0 and 1, labelled with its AUC."""
    auc_value = to_metric_interval(auc).value
    return build_curve(name, *plot_style.roc_points(y, score)).model_copy(update={"auc": auc_value})


def build_curve(name: str, x: np.ndarray, y: np.ndarray) -> Curve:
    """At most MAX_CURVE_POINTS points, spaced evenly along the length of the curve, the ends included."""
    if len(x) > MAX_CURVE_POINTS:
        arc_length = np.r_[0, np.cumsum(np.hypot(np.diff(x) / _value_range(x), np.diff(y) / _value_range(y)))]
        positions = np.interp(np.linspace(0, arc_length[-1], MAX_CURVE_POINTS), arc_length, np.arange(len(x)))
        x, y = (np.interp(positions, np.arange(len(x)), values) for values in (x, y))
    return Curve(name=name, x=_round_values(x), y=_round_values(y))


def build_reliability(bins: Sequence[CalibrationBin]) -> tuple[ReliabilityBin, ...]:
    """The bins of a calibration plot as the card stores them."""
    return tuple(
        ReliabilityBin(
            rows=bin.rows, stated=bin.mean_pd, seen=bin.bad_rate.value, low=bin.bad_rate.low, high=bin.bad_rate.high
        )
        for bin in bins
    )


def build_histogram(quantity: str, values: np.ndarray, y: np.ndarray, cutoff: float) -> Histogram | None:
    """Shares of both outcomes over the range of `values` (n,); None where one of the outcomes is missing."""
    if not len(values) or not 0 < y.sum() < len(y):
        return None
    low, high = (float(np.quantile(values, quantile)) for quantile in (0.001, 0.999))
    edges = np.linspace(low, high if high > low else low + 1, HISTOGRAM_BINS + 1)
    clipped = np.clip(values, edges[0], edges[-1])
    shares = [np.histogram(clipped[y == outcome], edges)[0] / (y == outcome).sum() for outcome in (0, 1)]
    negative, positive = (_round_values(share) for share in shares)
    return Histogram(what=quantity, edges=_round_values(edges), negative=negative, positive=positive, line=cutoff)


def to_metric_interval(interval: Interval) -> MetricInterval:
    """An interval as the card stores it."""
    return MetricInterval(**interval.to_json())


def _value_range(values: np.ndarray) -> float:
    return float(np.ptp(values)) or 1.0


def _round_values(values: np.ndarray) -> tuple[float, ...]:
    """Round to six significant digits: a plot shows no more, and the card stays small."""
    return tuple(float(f"{value:.6g}") for value in values)
