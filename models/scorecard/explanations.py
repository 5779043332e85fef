"""Explain a score: each indicator's points relative to an applicant at the approval line.

An indicator's points are its Shapley value in the score, less the mean of that value among applicants at the line
(Card.reference). The points sum to score - line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datasets.schema import UNITS_ZH, ColumnSchema, format_number
from models.card import Card
from models.scorecard.scaling import ScoreScale

OTHERS = "other_indicators"  # the code of the remaining indicators, reported as one sum


FloatArray = NDArray[np.float64]


class ScoreReason(TypedDict):
    """code: the indicator's name with `_for` or `_against` the applicant. points: unrounded; they sum exactly."""

    code: str
    indicator: str
    value: float | str | None
    points: float
    en: str
    zh: str


class Explainer:
    """The explanations of one model. cutoff: points of the approval line."""

    def __init__(self, card: Card, cutoff: float):
        head = card.head
        scale = ScoreScale(head.points, head.odds, head.double)
        self.inputs, self.cutoff = card.inputs, cutoff
        self.points_per_logit = -scale.factor * head.slope  # points per unit of raw score
        base_points = float(scale.points(head.slope * head.bias + head.intercept))  # without contributions
        self.reference_points = self._reference_points(card, cutoff - base_points)  # (inputs,) points
        self._reference_list: list[float] = self.reference_points.tolist()
        self._reference_total = math.fsum(self._reference_list)
        self._names = [column.name for column in card.inputs]
        self._codes = [f"{column.name}_{side}" for column in card.inputs for side in ("against", "for")]
        self._formatters = [_reason_formatter(column, card.assumed.get(column.name)) for column in card.inputs]

    def _reference_points(self, card: Card, total: float) -> FloatArray:
        """Mean points of each indicator at the line, (inputs,); they sum to `total`."""
        means = np.array(card.reference.contributions, np.float64).reshape(-1, len(card.inputs))
        means_at_cutoff = np.zeros(len(card.inputs))
        if len(means):
            means_at_cutoff = np.array([np.interp(self.cutoff, card.reference.points, column) for column in means.T])
        mean: FloatArray = _scale_to_totals(self.points_per_logit * means_at_cutoff[None], np.array([total]))[0]
        return mean

    def effects(self, contributions: NDArray[Any], points: FloatArray) -> FloatArray:
        """Points relative to the line, (rows, inputs); each row sums to its points - line.

        contributions: (rows, inputs) in raw-score units, of any float type.
        """
        points_by_input = self.points_per_logit * contributions.astype(np.float64)
        return (
            _scale_to_totals(points_by_input, points - self.cutoff + self.reference_points.sum())
            - self.reference_points
        )

    def explain(
        self, values: Mapping[str, Any], contributions: NDArray[Any], points: float, max_reasons: int | None = None
    ) -> list[ScoreReason]:
        """The reasons of one applicant, the largest first; those beyond `max_reasons` are reported as one sum.

        contributions: (inputs,) in raw-score units.
        """
        own_points = [self.points_per_logit * value for value in contributions.tolist()]
        sizes = [abs(value) for value in own_points]
        total_size = math.fsum(sizes)
        if not total_size:
            sizes, total_size = [1.0] * len(own_points), float(len(own_points))
        # distributed as in `effects`
        excess = (points - self.cutoff + self._reference_total - math.fsum(own_points)) / total_size
        effects = [a + excess * b - c for a, b, c in zip(own_points, sizes, self._reference_list, strict=True)]
        order = [
            index
            for index in sorted(range(len(effects)), key=lambda index: -abs(effects[index]))
            if effects[index] != 0.0
        ]
        max_reasons = len(order) if max_reasons is None else max_reasons
        reasons = [
            self._formatters[index](values.get(self._names[index]), effects[index]) for index in order[:max_reasons]
        ]
        if len(order) > max_reasons:
            reasons.append(
                _remaining_reason(len(order) - max_reasons, math.fsum(effects[index] for index in order[max_reasons:]))
            )
        return reasons

    def reason_codes(self, effects: FloatArray, max_reasons: int) -> pl.Series:
        """The codes of the largest effects, largest first and joined by ';', (rows,)."""
        sizes = np.abs(effects)
        order = np.argsort(-sizes.astype(np.float32), axis=1)[:, :max_reasons]
        is_positive = np.take_along_axis(effects, order, axis=1) > 0
        is_nonzero = np.take_along_axis(sizes, order, axis=1) > 0
        code_indices = np.where(is_nonzero, order * 2 + is_positive, len(self._codes))
        codes = pl.Series([*self._codes, None], dtype=pl.String)
        ranked = pl.DataFrame({str(rank): codes.gather(code_indices[:, rank]) for rank in range(code_indices.shape[1])})
        return ranked.select(pl.concat_str(pl.all(), separator=";", ignore_nulls=True)).to_series()


def _scale_to_totals(values: FloatArray, totals: FloatArray) -> FloatArray:
    """Adjust the rows of `values` so that they sum to `totals`; the difference is distributed in proportion to size.

    The difference is small: float32 rounding, or the distance between two knots of the reference.
    """
    sizes = np.abs(values)
    total_sizes = sizes.sum(axis=1)
    if not total_sizes.all():
        sizes = np.where(total_sizes[:, None] == 0, 1.0, sizes)
        total_sizes = sizes.sum(axis=1)
    excess = (totals - values.sum(axis=1)) / total_sizes
    scaled: FloatArray = values + excess[:, None] * sizes
    return scaled


def _remaining_reason(count: int, points: float) -> ScoreReason:
    comparative, comparative_zh = ("more", "多") if points > 0 else ("fewer", "少")
    return {
        "code": OTHERS,
        "indicator": "",
        "value": None,
        "points": points,
        "en": f"{count} other indicators together: {abs(points):.1f} points {comparative} than at the approval line.",
        "zh": f"其余 {count} 项指标合计：比审批线{comparative_zh} {abs(points):.1f} 分。",
    }


def _reason_formatter(column: ColumnSchema, assumed: float | str | None) -> Callable[[Any, float], ScoreReason]:
    """A function (value, points) -> reason for one indicator; everything that is equal for all applicants is
    precomputed. assumed: what the indicator counts as where it is unknown.
    """
    name, format_value = column.name, value_formatter(column)
    label, label_zh = column.label[:1].upper() + column.label[1:], column.label_zh
    missing_codes = {code for code in column.missing_codes}
    codes = (f"{name}_against", f"{name}_for")
    comparatives, comparatives_zh = ("fewer", "more"), ("少", "多")
    unknown, unknown_zh = "not known", "未知"
    if assumed is not None:
        assumed_text, assumed_text_zh = format_value(assumed)
        unknown, unknown_zh = f"not known, counted as {assumed_text}", f"未知，按 {assumed_text_zh} 计"

    def format_reason(value: Any, points: float) -> ScoreReason:
        is_positive = points > 0
        magnitude = f"{abs(points):.1f}"
        if value is None or value != value or value in missing_codes:
            value, text, text_zh = None, unknown, unknown_zh
        else:
            text, text_zh = format_value(value)
        return {
            "code": codes[is_positive],
            "indicator": name,
            "value": value,
            "points": points,
            "en": f"{label}: {text}; {magnitude} points {comparatives[is_positive]} than at the approval line.",
            "zh": f"{label_zh}：{text_zh}，比审批线{comparatives_zh[is_positive]} {magnitude} 分。",
        }

    return format_reason


def value_formatter(column: ColumnSchema) -> Callable[[Any], tuple[str, str]]:
    """A function from a value to its text with unit, in English and in Chinese."""
    if column.kind != "number":
        return lambda value: (str(value), str(value))
    if column.unit == "0/1":
        return lambda value: ("yes", "是") if value else ("no", "否")
    is_unitless = column.unit in ("", "share", "probability")
    unit = "" if is_unitless or column.unit in ("count", "companies") else f" {column.unit.removeprefix('10k ')}"
    unit_zh = "" if is_unitless else f" {UNITS_ZH.get(column.unit, column.unit)}"
    multiplier = 10_000 if column.unit.startswith("10k ") else 1  # "30,000 RMB", not "3 10k RMB"

    def format_with_unit(value: Any) -> tuple[str, str]:
        return format_number(multiplier * value) + unit, format_number(value) + unit_zh

    return format_with_unit


def cutoff_points(card: Card, pd: float) -> float:
    """The points of an applicant whose PD is `pd`, the approval line."""
    scale = ScoreScale(card.head.points, card.head.odds, card.head.double)
    return float(scale.points(math.log(pd / (1 - pd))))


def round_reason_points(reasons: list[ScoreReason]) -> list[ScoreReason]:
    """The same reasons with points rounded to one decimal; changed in place."""
    for reason in reasons:
        reason["points"] = round(reason["points"], 1)
    return reasons
