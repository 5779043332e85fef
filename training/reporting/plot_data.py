"""A judgement as the numbers that its pictures are drawn from, small enough for the signed card."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.card import Card, Head
from models.evaluation_summary import Curve, Fair, Figure, Plots, Reliability, Spread, Weight
from models.scorecard.explanations import line_points
from models.scorecard.scaling import Scale
from training.evaluation.evaluate import Bin, Case, Judgement
from training.evaluation.metrics import Interval
from training.reporting import plot_style

POINTS, BINS, WEIGHTS = 101, 40, 12  # of a curve; of a spread; indicators


def per_raw(head: Head) -> float:
    """Points that one unit of raw score adds."""
    return -Scale(head.points, head.odds, head.double).factor * head.slope


def plots(card: Card, case: Case, judgement: Judgement, contributions: np.ndarray) -> Plots:
    """Of a table's model. contributions: (held-out rows, inputs) in raw-score units."""
    y, pd, points = case.y[case.held], case.pd[case.held], case.points[case.held]
    curves = [roc("model", y, pd, judgement.figures["auc"])]
    curves += [roc(name, y, other.pd, other.auc) for name, other in judgement.beside.items()]
    size = abs(per_raw(card.head)) * np.abs(contributions).mean(axis=0)
    top = np.argsort(-size)[:WEIGHTS]
    earned = judgement.profit
    return Plots(
        unit="rows",
        rows=judgement.rows,
        roc=tuple(curves),
        reliability=reliability(judgement.bins),
        spread=spread("score", points, y, line_points(card, case.terms.line)),
        line=case.terms.line,
        profit=curve("profit", earned.cut_offs, earned.curve),
        currency=earned.currency,
        fairness=tuple(
            Fair(
                attribute=group.attribute,
                value=group.value,
                rows=group.rows,
                approval=figure(group.approval_ratio),
                limit=figure(group.limit_ratio_at_equal_pd),
            )
            for group in judgement.groups
        ),
        weights=tuple(
            Weight(
                name=case.columns[i].name,
                en=case.columns[i].label,
                zh=case.columns[i].label_zh or case.columns[i].label,
                points=round(float(size[i]), 3),
            )
            for i in top
        ),
    )


def roc(name: str, y: np.ndarray, score: np.ndarray, auc: Interval) -> Curve:
    told = figure(auc).value
    return curve(name, *plot_style.roc(y, score)).model_copy(update={"auc": told})


def curve(name: str, x: np.ndarray, y: np.ndarray) -> Curve:
    """At most POINTS of it, evenly along its own length, the ends among them."""
    if len(x) > POINTS:
        length = np.r_[0, np.cumsum(np.hypot(np.diff(x) / _span(x), np.diff(y) / _span(y)))]
        at = np.interp(np.linspace(0, length[-1], POINTS), length, np.arange(len(x)))
        x, y = (np.interp(at, np.arange(len(x)), values) for values in (x, y))
    return Curve(name=name, x=_short(x), y=_short(y))


def reliability(bins: Sequence[Bin]) -> tuple[Reliability, ...]:
    return tuple(
        Reliability(rows=one.rows, stated=one.pd, seen=one.bad.value, low=one.bad.low, high=one.bad.high)
        for one in bins
    )


def spread(what: str, values: np.ndarray, y: np.ndarray, line: float) -> Spread | None:
    """None where either group has no row."""
    if not len(values) or not 0 < y.sum() < len(y):
        return None
    low, high = (float(np.quantile(values, end)) for end in (0.001, 0.999))
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    inside = np.clip(values, edges[0], edges[-1])
    shares = [np.histogram(inside[y == group], edges)[0] / (y == group).sum() for group in (0, 1)]
    negative, positive = (_short(share) for share in shares)
    return Spread(what=what, edges=_short(edges), negative=negative, positive=positive, line=line)


def figure(found: Interval) -> Figure:
    return Figure(**found.json())


def _span(values: np.ndarray) -> float:
    return float(np.ptp(values)) or 1.0


def _short(values: np.ndarray) -> tuple[float, ...]:
    """To six digits: nobody sees more of a picture, and the card stays small."""
    return tuple(float(f"{value:.6g}") for value in values)
