"""Looks for columns that know the outcome, before a model learns from them.

    for leak in find(frame, TABLE): print(leak.column, leak.why)

A leak is suspected where one column alone
- explains the target better than an honest indicator does (cross-fitted AUC of its values; ExternalRiskEstimate reaches
  .75 on HELOC, revolving utilisation .78 on Give Me Some Credit, one ratio .79 on the Polish bankruptcies);
- tells it by its form and not by its size: present or missing, a multiple of 12 or not (a loan's term that was cut
  short on the day it failed), at equal size;
- has a side on which there is but one outcome: a date that only bad rows have;
- is itself a forecast: its values are the rates of default;
or where ids or the order of the rows follow the outcome. It warns; a person decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.schema import Column, Table

MULTIPLES = (5, 7, 10, 12, 30, 100, 365, 1000)
ROW_ORDER = "(row order)"
BINS, FOLDS = 40, 5


@dataclass(frozen=True)
class Leak:
    """auc: what the suspected part of the column reaches alone; why: a sentence."""

    column: str
    auc: float
    why: str


@dataclass(frozen=True)
class Limits:
    """value_auc: an indicator's values; form_auc: its form alone; id_auc: ids and the order of the rows.

    forecast_auc, forecast_error: a forecast separates at least so well, and misses the rates of ten bins by at most
    this share of their spread. one_sided: the outcome's rate on a side that has but one; expected: how many of the
    other outcome that side would hold by chance, so that a few rows do not accuse anyone.
    """

    value_auc: float = 0.85
    form_auc: float = 0.70
    id_auc: float = 0.75
    forecast_auc: float = 0.70
    forecast_error: float = 0.25
    one_sided: float = 0.99
    expected: float = 20.0


def find(frame: pl.DataFrame, table: Table, limits: Limits | None = None, most_rows: int = 50_000) -> list[Leak]:
    """Suspected leaks among indicators, ids and the order of the rows, the strongest first, one to a column.

    `most_rows` are looked at, drawn with a fixed seed. A column already declared a leak is not looked at.
    """
    limits = limits or Limits()
    frame = frame.with_row_index(ROW_ORDER).filter(pl.col(table.target.name).is_not_null())
    if frame.height > most_rows:
        frame = frame.sample(most_rows, seed=0)
    y = frame[table.target.name].cast(pl.Float64).to_numpy() > 0
    if not 0 < y.sum() < len(y):
        return []
    leaks: list[Leak] = []
    for column in table.indicators:
        series = frame[column.name]
        found = list(_of_indicator(column, series, y, limits)) if series.n_unique() > 1 else []
        if found:
            leaks.append(Leak(column.name, max(leak.auc for leak in found), " Also: ".join(leak.why for leak in found)))
    for name in [*(column.name for column in table.role("id")), ROW_ORDER]:
        auc = _auc_of_order(frame[name], y)
        if auc >= limits.id_auc:
            leaks.append(
                Leak(name, auc, f"it follows the outcome (AUC {auc:.3f}): the rows were numbered or sorted by it.")
            )
    return sorted(leaks, key=lambda leak: -leak.auc)


def _of_indicator(column: Column, series: pl.Series, y: np.ndarray, limits: Limits) -> Iterator[Leak]:
    name = column.name
    missing = series.is_null().to_numpy()
    auc = _pattern_auc(missing, y)
    if auc >= limits.form_auc:
        told = f"{y[~missing].mean():.1%} bad where present, {y[missing].mean():.1%} where missing"
        yield Leak(name, auc, f"being filled in tells the outcome: {told}. Is it written only afterwards?")
    for what, side in _sides(series, missing):
        rate, base = float(y[side].mean()), float(y.mean())
        bad = rate >= limits.one_sided and side.sum() * (1 - base) >= limits.expected
        good = rate <= (1 - limits.one_sided) * base and side.sum() * base >= limits.expected
        if bad or good:
            auc = _pattern_auc(side, y)
            told = f"{what} in {int(side.sum()):,} rows, {rate:.1%} of them bad (all rows: {base:.1%})"
            yield Leak(name, auc, f"{told}. Is it known only afterwards?")
    bins = _bins(series, column)
    if bins is not None:
        auc = _cross_fitted_auc(bins, y)
        if auc >= limits.value_auc:
            yield Leak(name, auc, f"alone it reaches AUC {auc:.3f}: a copy of the outcome, or made from it?")
    if column.kind == "number":
        values = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
        yield from _of_form(name, values, y, limits)
        yield from _forecast(name, values, y, limits)


def _sides(series: pl.Series, missing: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The parts of a column that may hold but one outcome."""
    if missing.any():
        yield "missing", missing
        yield "present", ~missing
    counts = series.drop_nulls().value_counts(sort=True)
    if counts.height >= 2 and counts[0, 1] >= 0.05 * series.len():
        usual = counts[0, 0]
        yield f"other than {usual!r}", (series != usual).fill_null(False).to_numpy()
        yield f"equal to {usual!r}", (series == usual).fill_null(False).to_numpy()


def _of_form(name: str, values: np.ndarray, y: np.ndarray, limits: Limits) -> Iterator[Leak]:
    """Multiples of a round number against all others, at equal size; zero is left out. The one that tells most."""
    kept = np.isfinite(values) & (values != 0)
    x, outcome = values[kept], y[kept]
    if not len(x):
        return
    different = np.unique(x)
    whole = bool((different == np.round(different)).all())
    strata = np.searchsorted(np.quantile(x, (0.2, 0.4, 0.6, 0.8)), x)
    leaks: list[Leak] = []
    for step in MULTIPLES if whole else (1,):
        multiples = int((np.mod(different, step) == 0).sum())
        if min(multiples, len(different) - multiples) < 5:
            continue
        multiple = np.mod(x, step) == 0
        if min(multiple.sum(), (~multiple).sum()) < 0.01 * len(y):
            continue
        auc = _pattern_auc(multiple, outcome, strata)
        if auc >= limits.form_auc:
            told = f"{outcome[multiple].mean():.1%} bad where it is, {outcome[~multiple].mean():.1%} where it is not"
            unit = f"a multiple of {step}" if whole else "a whole number"
            leaks.append(
                Leak(name, auc, f"being {unit} tells the outcome at equal size: {told}. Did the outcome set it?")
            )
    if leaks:  # a term that is no multiple of 12 is none of 84 either
        yield max(leaks, key=lambda leak: leak.auc)


def _forecast(name: str, values: np.ndarray, y: np.ndarray, limits: Limits) -> Iterator[Leak]:
    kept = np.isfinite(values)
    x, outcome = values[kept], y[kept]
    if len(x) < 200 or x.min() < 0 or x.max() > 1 or len(np.unique(x)) < 20:
        return
    parts = np.array_split(np.argsort(x, kind="stable"), 10)
    rates = np.array([outcome[part].mean() for part in parts])
    means = np.array([x[part].mean() for part in parts])
    spread = np.abs(rates - outcome.mean()).mean()
    auc = _auc(x, outcome)
    if auc >= limits.forecast_auc and np.abs(rates - means).mean() <= limits.forecast_error * spread:
        yield Leak(name, auc, f"its values are the rates of default (AUC {auc:.3f}): is it another model's forecast?")


def _bins(series: pl.Series, column: Column) -> np.ndarray | None:
    """(rows,) bin numbers, missing apart: quantiles of a number, else values; None where most rows differ."""
    if column.kind != "number":
        return series.rank("dense").fill_null(0).to_numpy() if series.n_unique() <= 0.05 * series.len() + 50 else None
    return _quantiles(series.cast(pl.Float64).fill_null(np.nan).to_numpy())


def _quantiles(x: np.ndarray) -> np.ndarray:
    known = np.isfinite(x)
    edges = np.unique(np.quantile(x[known], np.arange(1, BINS) / BINS)) if known.any() else np.empty(0)
    # below, on and above each edge: a value that many rows share stands alone
    place = np.searchsorted(edges, x, side="left") + np.searchsorted(edges, x, side="right")
    return np.where(known, place, -1)


def _cross_fitted_auc(bins: np.ndarray, y: np.ndarray) -> float:
    """AUC of each bin's default rate, learned on the other folds and shrunk by ten average rows."""
    _, code = np.unique(bins, return_inverse=True)
    number = int(code.max()) + 1
    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    score = np.empty(len(y))
    for k in range(FOLDS):
        out = fold == k
        rows, bad = np.bincount(code[~out], minlength=number), np.bincount(code[~out], y[~out], minlength=number)
        score[out] = ((bad + 10 * y[~out].mean()) / (rows + 10))[code[out]]
    return _auc(score, y)


def _auc_of_order(series: pl.Series, y: np.ndarray) -> float:
    if series.dtype == pl.String:
        series = series.str.replace_all(r"\D", "").str.tail(15).cast(pl.Float64, strict=False)
    x = series.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    return _cross_fitted_auc(_quantiles(x), y) if np.isfinite(x).mean() > 0.5 else 0.5


def _pattern_auc(pattern: np.ndarray, y: np.ndarray, strata: np.ndarray | None = None) -> float:
    """AUC of a yes/no pattern, whichever way it points; pairs are compared within strata only."""
    strata = np.zeros(len(y), np.int64) if strata is None else strata
    bad, good = np.bincount(strata, y), np.bincount(strata, ~y)
    bad_yes, good_yes = np.bincount(strata, y & pattern), np.bincount(strata, ~y & pattern)
    pairs = float((bad * good).sum())
    lead = float((bad_yes * good - good_yes * bad).sum())  # sum over strata of (tpr - fpr) * pairs
    return 0.5 + 0.5 * abs(lead) / pairs if pairs else 0.5


def _auc(score: np.ndarray, y: np.ndarray) -> float:
    """Probability that a bad row scores above a good one; ties count half (Mann-Whitney)."""
    _, code = np.unique(score, return_inverse=True)
    bad, good = np.bincount(code, y), np.bincount(code, ~y)
    below = np.cumsum(good) - good
    return float((bad * (below + good / 2)).sum() / (bad.sum() * good.sum()))
