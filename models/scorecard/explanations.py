"""Why a score is what it is: each indicator's points against an applicant at the approval line.

An indicator's points are its Shapley value in the score, less the mean of it among applicants who score at the line
(Card.reference). They sum to score - line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datasets.schema import UNITS_ZH, Column, number_text
from models.card import Card
from models.scorecard.scaling import Scale

OTHERS = "other_indicators"  # the code of what is told as one sum


Floats = NDArray[np.float64]


class Reason(TypedDict):
    """code: the indicator's name and `_for` or `_against` the applicant. points: unrounded, they sum exactly."""

    code: str
    indicator: str
    value: float | str | None
    points: float
    en: str
    zh: str


class Explainer:
    """For one model and one line, in points."""

    def __init__(self, card: Card, line: float):
        head = card.head
        scale = Scale(head.points, head.odds, head.double)
        self.inputs, self.line = card.inputs, line
        self.per_raw = -scale.factor * head.slope  # points per unit of raw score
        start = float(scale.points(head.slope * head.bias + head.intercept))  # of an applicant without contributions
        self.reference = self._reference(card, line - start)  # (inputs,) points
        self._listed: list[float] = self.reference.tolist()
        self._total = math.fsum(self._listed)
        self._names = [column.name for column in card.inputs]
        self._codes = [f"{column.name}_{side}" for column in card.inputs for side in ("against", "for")]
        self._told = [_teller(column) for column in card.inputs]

    def _reference(self, card: Card, total: float) -> Floats:
        """Mean points of each indicator at the line; they sum to `total`."""
        means = np.array(card.reference.contributions, np.float64).reshape(-1, len(card.inputs))
        at_line = np.zeros(len(card.inputs))
        if len(means):
            at_line = np.array([np.interp(self.line, card.reference.points, column) for column in means.T])
        mean: Floats = _summing(self.per_raw * at_line[None], np.array([total]))[0]
        return mean

    def effects(self, contributions: NDArray[Any], points: Floats) -> Floats:
        """(rows, inputs) points; each row sums to its points - line. contributions: raw-score units, any float type."""
        own = self.per_raw * contributions.astype(np.float64)
        return _summing(own, points - self.line + self.reference.sum()) - self.reference

    def one(
        self, values: Mapping[str, Any], contributions: NDArray[Any], points: float, shown: int | None = None
    ) -> list[Reason]:
        """The greatest effects first; beyond `shown` they are told as one sum. contributions: (inputs,)."""
        own = [self.per_raw * part for part in contributions.tolist()]
        size = [abs(part) for part in own]
        whole = math.fsum(size)
        if not whole:
            size, whole = [1.0] * len(own), float(len(own))
        over = (points - self.line + self._total - math.fsum(own)) / whole  # shared out as in `effects`
        effect = [a + over * b - c for a, b, c in zip(own, size, self._listed, strict=True)]
        order = [at for at in sorted(range(len(effect)), key=lambda at: -abs(effect[at])) if effect[at] != 0.0]
        shown = len(order) if shown is None else shown
        reasons = [self._told[at](values.get(self._names[at]), effect[at]) for at in order[:shown]]
        if len(order) > shown:
            reasons.append(_others(len(order) - shown, math.fsum(effect[at] for at in order[shown:])))
        return reasons

    def codes(self, effects: Floats, shown: int) -> pl.Series:
        """(rows,) the codes of the greatest effects, greatest first, ';' between."""
        size = np.abs(effects)
        order = np.argsort(-size.astype(np.float32), axis=1)[:, :shown]
        helps = np.take_along_axis(effects, order, axis=1) > 0
        told = np.take_along_axis(size, order, axis=1) > 0
        place = np.where(told, order * 2 + helps, len(self._codes))
        codes = pl.Series([*self._codes, None], dtype=pl.String)
        ranked = pl.DataFrame({str(rank): codes.gather(place[:, rank]) for rank in range(place.shape[1])})
        return ranked.select(pl.concat_str(pl.all(), separator=";", ignore_nulls=True)).to_series()


def _summing(parts: Floats, totals: Floats) -> Floats:
    """Rows of `parts` made to sum to `totals`, what is over being shared out by size.

    What is over is small: the rounding of float32, or the distance between two knots of the reference.
    """
    size = np.abs(parts)
    whole = size.sum(axis=1)
    if not whole.all():
        size = np.where(whole[:, None] == 0, 1.0, size)
        whole = size.sum(axis=1)
    over = (totals - parts.sum(axis=1)) / whole
    summed: Floats = parts + over[:, None] * size
    return summed


def _others(count: int, points: float) -> Reason:
    more, more_zh = ("more", "多") if points > 0 else ("fewer", "少")
    return {
        "code": OTHERS,
        "indicator": "",
        "value": None,
        "points": points,
        "en": f"{count} other indicators together: {abs(points):.1f} points {more} than at the approval line.",
        "zh": f"其余 {count} 项指标合计：比审批线{more_zh} {abs(points):.1f} 分。",
    }


def _teller(column: Column) -> Callable[[Any, float], Reason]:
    """What tells of one indicator, with all that is the same for every applicant made ready."""
    name, shown = column.name, _shower(column)
    label, label_zh = column.label[:1].upper() + column.label[1:], column.label_zh
    unknown = {code for code in column.missing_codes}
    codes = (f"{name}_against", f"{name}_for")
    words, words_zh = ("fewer", "more"), ("少", "多")

    def tell(value: Any, points: float) -> Reason:
        helps = points > 0
        size = f"{abs(points):.1f}"
        if value is None or value != value or value in unknown:
            value, text, text_zh = None, "not known", "未知"
        else:
            text, text_zh = shown(value)
        return {
            "code": codes[helps],
            "indicator": name,
            "value": value,
            "points": points,
            "en": f"{label}: {text}; {size} points {words[helps]} than at the approval line.",
            "zh": f"{label_zh}：{text_zh}，比审批线{words_zh[helps]} {size} 分。",
        }

    return tell


def _shower(column: Column) -> Callable[[Any], tuple[str, str]]:
    """A value with its unit, in English and in Chinese."""
    if column.kind != "number":
        return lambda value: (str(value), str(value))
    if column.unit == "0/1":
        return lambda value: ("yes", "是") if value else ("no", "否")
    plain = column.unit in ("", "share", "probability")
    unit = "" if plain or column.unit in ("count", "companies") else f" {column.unit.removeprefix('10k ')}"
    unit_zh = "" if plain else f" {UNITS_ZH.get(column.unit, column.unit)}"
    times = 10_000 if column.unit.startswith("10k ") else 1  # nobody says "3 10k RMB"

    def show(value: Any) -> tuple[str, str]:
        return number_text(times * value) + unit, number_text(value) + unit_zh

    return show


def line_points(card: Card, pd: float) -> float:
    """The points of an applicant whose PD is on the line."""
    scale = Scale(card.head.points, card.head.odds, card.head.double)
    return float(scale.points(math.log(pd / (1 - pd))))


def rounded(reasons: list[Reason]) -> list[Reason]:
    """The same reasons, their points to one decimal as people read them."""
    for reason in reasons:
        reason["points"] = round(reason["points"], 1)
    return reasons
