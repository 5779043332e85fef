"""Apply shocks to companies' indicators: given columns change, derived ones are computed again, others stay.

    shocks = load_section(StressConfig, "configs/stress.toml").shocks
    moved = apply_shock(frame, shocks[0], TABLE)      # the same rows, typed as before

A missing value stays missing, and columns that would depend on it stay as given.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from datasets.errors import DataError
from datasets.schema import TableSchema, format_number
from models.card import ScoreHead
from models.policy.config import NonEmptyText, Section
from models.scorecard.scaling import ScoreScale
from models.trees.onnx_session import Scores

LARGEST_TRADE = "largest"  # the trade with the largest sum of limits, found in the answers
FiniteNumber = Annotated[float, Field(allow_inf_nan=False)]


class ShockEffect(Section):
    """new = times x old + plus + share x (`of`, or the change so far in `of_change_in`), within the column's bounds."""

    column: NonEmptyText
    times: FiniteNumber = 1.0
    plus: FiniteNumber = 0.0
    share: FiniteNumber = 0.0
    of: str = ""
    of_change_in: str = ""

    @model_validator(mode="after")
    def _check_share(self) -> ShockEffect:
        if (self.share != 0) != (bool(self.of) != bool(self.of_change_in)) or (self.of and self.of_change_in):
            raise ValueError(f"{self.column}: share needs exactly one of `of` and `of_change_in`, and these need share")
        return self

    def describe(self) -> str:
        """The formula in readable form, the same in both languages."""
        terms = [f"{format_number(self.times)} × {self.column}" if self.times != 1 else self.column]
        if self.plus:
            terms.append(_format_signed(self.plus))
        if self.share:
            terms.append(f"{_format_signed(self.share)} × {self.of or f'Δ{self.of_change_in}'}")
        return f"{self.column} := {' '.join(terms)}"


def _format_signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'} {format_number(abs(value))}"


class Shock(Section):
    """rate: added to the policy's annual rate. log_odds: added to the log-odds of default. trade: only its companies
    are affected; all if empty.
    """

    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
    en: NonEmptyText
    zh: NonEmptyText
    why_en: str = ""
    why_zh: str = ""
    trade: str = ""
    rate: Annotated[float, Field(ge=-1, le=1)] = 0.0
    log_odds: Annotated[float, Field(ge=-20, le=20)] = 0.0
    effects: tuple[ShockEffect, ...] = ()


class SliderSettings(Section):
    """Sizes of a shock that may be applied to one company: multiples of `step`, up to `most`."""

    step: Annotated[float, Field(gt=0, le=1)] = 0.25
    most: Annotated[float, Field(gt=0, le=10)] = 2.5

    @property
    def sizes(self) -> list[float]:
        """Few sizes, since each answer reveals a little of a stored company's values (answers are rounded too)."""
        return [round(self.step * (index + 1), 6) for index in range(int(self.most / self.step + 1e-9))]


class StressConfig(Section):
    shocks: tuple[Shock, ...] = ()
    desk: SliderSettings = SliderSettings()

    @model_validator(mode="after")
    def _check_codes(self) -> StressConfig:
        codes = [shock.code for shock in self.shocks]
        duplicates = sorted({code for code in codes if codes.count(code) > 1} | ({"base"} & set(codes)))
        if duplicates:
            raise ValueError(
                f"shocks: {', '.join(duplicates)} occur twice or are reserved; each code must be unique and not 'base'"
            )
        return self


def scale_shock(shock: Shock, size: float) -> Shock:
    """The shock multiplied by `size`."""
    effects = tuple(
        effect.model_copy(
            update={
                "times": max(0.0, 1 + size * (effect.times - 1)),
                "plus": size * effect.plus,
                "share": effect.share if effect.of_change_in else size * effect.share,  # the change grows already
            }
        )
        for effect in shock.effects
    )
    update = {"effects": effects, "rate": size * shock.rate, "log_odds": size * shock.log_odds}
    return shock.model_copy(update=update)


def fit_to_table(shock: Shock, table: TableSchema) -> Shock:
    """The shock without its effects on columns that the table does not have."""
    known = {column.name for column in table.columns}
    effects = tuple(
        effect
        if (effect.of or effect.of_change_in or effect.column) in known
        else effect.model_copy(update={"share": 0.0})
        for effect in shock.effects
        if effect.column in known
    )
    return shock.model_copy(update={"effects": effects})


def apply_shock(frame: pl.DataFrame, shock: Shock, table: TableSchema) -> pl.DataFrame:
    """The rows after the shock; rows of other trades than the shock's stay unchanged."""
    if not shock.effects:
        return frame
    is_hit = _is_hit(frame, shock)
    new: dict[str, np.ndarray] = {}
    for effect in shock.effects:
        column = table[effect.column]
        stated = new.get(effect.column, _column_values(frame, effect.column))
        shocked_values = effect.times * stated + effect.plus
        if effect.share:
            source_values = _column_values(frame, effect.of or effect.of_change_in)
            if effect.of_change_in:
                source_values = new.get(effect.of_change_in, source_values) - source_values
            shocked_values = shocked_values + effect.share * np.nan_to_num(source_values)
        low, high = column.bounds
        shocked_values = np.clip(shocked_values, low, high)
        if column.integer:
            shocked_values = np.rint(shocked_values)
        new[effect.column] = np.where(is_hit, shocked_values, stated)
    result = frame.with_columns(pl.Series(name, values, nan_to_null=True) for name, values in new.items())
    return recompute_derived(result, table, set(new))


def recompute_derived(frame: pl.DataFrame, table: TableSchema, changed: set[str]) -> pl.DataFrame:
    """Compute again the columns derived from `changed`, directly or indirectly, by the contract's formulas."""
    changed = set(changed)
    for column in table.columns:
        if column.derived is None or not changed & set(column.derived.operand_names):
            continue
        operands, divisors = (
            [_column_values(frame, name) for name in names] for names in (column.derived.of, column.derived.by)
        )
        frame = frame.with_columns(
            pl.Series(column.name, column.derived.compute_batch(operands, divisors), nan_to_null=True)
        )
        changed.add(column.name)
    return frame


def shift_log_odds(scores: Scores, frame: pl.DataFrame, shock: Shock, head: ScoreHead) -> Scores:
    """The scores with the shock's log-odds added to the rows that it affects."""
    if not shock.log_odds:
        return scores
    log_odds_shift = np.where(_is_hit(frame, shock), shock.log_odds, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        odds = np.log(scores.pd) - np.log1p(-scores.pd) + log_odds_shift  # pd of 0 and 1 are unchanged
        pd = 1 / (1 + np.exp(-odds))
    points = scores.points - ScoreScale(head.points, head.odds, head.double).factor * log_odds_shift
    return Scores(pd, points, scores.raw, scores.contributions)


def worse_of(scores: Scores, baseline: Scores) -> Scores:
    """The worse of the two scores of each row."""
    pd, points = np.maximum(scores.pd, baseline.pd), np.minimum(scores.points, baseline.points)
    return Scores(pd, points, scores.raw, None)


def resolve_trade(shock: Shock, largest_trade: str) -> Shock:
    """The shock with the name of the largest trade in place of 'largest'."""
    return shock.model_copy(update={"trade": largest_trade}) if shock.trade == LARGEST_TRADE else shock


def add_rate(policy: Any, rate: float) -> Any:
    """The policy with its annual rate raised by `rate`. Raises DataError if it has no rate."""
    if not rate:
        return policy
    if "annual_rate" in type(policy).model_fields:
        return policy.model_copy(update={"annual_rate": policy.annual_rate + rate})
    for name in type(policy).model_fields:
        section = getattr(policy, name)
        if "annual_rate" in getattr(type(section), "model_fields", {}):
            new_section = section.model_copy(update={"annual_rate": section.annual_rate + rate})
            return policy.model_copy(update={name: new_section})
    raise DataError(
        "The policy has no annual_rate, which the shock's `rate` needs. Remove `rate`, or add the rate to the policy."
    )


def _is_hit(frame: pl.DataFrame, shock: Shock) -> np.ndarray:
    if not shock.trade:
        return np.ones(frame.height, bool)
    return (frame["trade"] == shock.trade).fill_null(False).to_numpy()


def _column_values(frame: pl.DataFrame, name: str) -> np.ndarray:
    return frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
