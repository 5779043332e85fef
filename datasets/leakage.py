"""Find columns that reveal the outcome, before a model learns from them.

    for leak in find_leaks(frame, TABLE): print(leak.column, leak.reason)

A leak is suspected if one column alone
- explains the target better than an honest indicator does (cross-fitted AUC of its values; ExternalRiskEstimate reaches
  .75 on HELOC, revolving utilisation .78 on Give Me Some Credit, one ratio .79 on the Polish bankruptcies);
- reveals it by the form of its values, at equal size: present or missing, a multiple of 12 or not (the term of a loan
  that ended on the day it failed);
- has a subset of values with only one outcome, such as a date that only bad rows have;
- is itself a forecast: its values are the rates of default;
or if ids or the order of the rows follow the outcome. This is a warning; a person decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.schema import ColumnSchema, TableSchema

MULTIPLES = (5, 7, 10, 12, 30, 100, 365, 1000)
ROW_ORDER = "(row order)"
BINS, FOLDS = 40, 5


@dataclass(frozen=True)
class Leak:
    """auc: of the suspected property alone. reason: a sentence."""

    column: str
    auc: float
    reason: str


@dataclass(frozen=True)
class LeakageThresholds:
    """value_auc: of an indicator's values. form_auc: of their form alone. id_auc: of ids and the order of the rows.

    forecast_auc, forecast_error: a forecast separates at least so well, and misses the rates of ten bins by at most
    this share of their spread. one_sided_rate: rate of an outcome in a subset with only one outcome. min_expected_rows:
    number of rows of the other outcome that such a subset would contain by chance, so that a few rows raise no alarm.
    """

    value_auc: float = 0.85
    form_auc: float = 0.70
    id_auc: float = 0.75
    forecast_auc: float = 0.70
    forecast_error: float = 0.25
    one_sided_rate: float = 0.99
    min_expected_rows: float = 20.0


def find_leaks(
    frame: pl.DataFrame, table: TableSchema, thresholds: LeakageThresholds | None = None, max_rows: int = 50_000
) -> list[Leak]:
    """Suspected leaks among indicators, ids and the order of the rows, the strongest first, at most one per column.

    At most `max_rows` rows are examined, drawn with a fixed seed. Columns declared as leaks are not examined.
    """
    thresholds = thresholds or LeakageThresholds()
    frame = frame.with_row_index(ROW_ORDER).filter(pl.col(table.target.name).is_not_null())
    if frame.height > max_rows:
        frame = frame.sample(max_rows, seed=0)
    y = frame[table.target.name].cast(pl.Float64).to_numpy() > 0
    if not 0 < y.sum() < len(y):
        return []
    leaks: list[Leak] = []
    for column in table.indicators:
        series = frame[column.name]
        column_leaks = list(_indicator_leaks(column, series, y, thresholds)) if series.n_unique() > 1 else []
        if column_leaks:
            leaks.append(
                Leak(
                    column.name,
                    max(leak.auc for leak in column_leaks),
                    " Also: ".join(leak.reason for leak in column_leaks),
                )
            )
    for name in [*(column.name for column in table.columns_with_role("id")), ROW_ORDER]:
        auc = _order_auc(frame[name], y)
        if auc >= thresholds.id_auc:
            leaks.append(
                Leak(name, auc, f"it follows the outcome (AUC {auc:.3f}): rows were numbered or sorted by the outcome.")
            )
    return sorted(leaks, key=lambda leak: -leak.auc)


def column_auc(series: pl.Series, column: ColumnSchema, y: np.ndarray) -> float | None:
    """AUC of a column's values alone, by the rates of default of their bins on other rows; None if most values differ.

    y: (rows,) bool. A column that tells nothing has about 0.5.
    """
    codes = _bin_codes(series, column)
    return None if codes is None or not 0 < y.sum() < len(y) else _cross_fitted_auc(codes, y)


def _indicator_leaks(
    column: ColumnSchema, series: pl.Series, y: np.ndarray, thresholds: LeakageThresholds
) -> Iterator[Leak]:
    name = column.name
    missing = series.is_null().to_numpy()
    auc = _pattern_auc(missing, y)
    if auc >= thresholds.form_auc:
        detail = f"{y[~missing].mean():.1%} bad where present, {y[missing].mean():.1%} where missing"
        yield Leak(name, auc, f"whether it is present reveals the outcome: {detail}. Is it recorded only afterwards?")
    for description, mask in _value_subsets(series, missing):
        rate, overall_rate = float(y[mask].mean()), float(y.mean())
        mostly_bad = (
            rate >= thresholds.one_sided_rate and mask.sum() * (1 - overall_rate) >= thresholds.min_expected_rows
        )
        mostly_good = (
            rate <= (1 - thresholds.one_sided_rate) * overall_rate
            and mask.sum() * overall_rate >= thresholds.min_expected_rows
        )
        if mostly_bad or mostly_good:
            auc = _pattern_auc(mask, y)
            detail = f"{description} in {int(mask.sum()):,} rows, {rate:.1%} of them bad (all rows: {overall_rate:.1%})"
            yield Leak(name, auc, f"{detail}. Is it known only afterwards?")
    codes = _bin_codes(series, column)
    if codes is not None:
        auc = _cross_fitted_auc(codes, y)
        if auc >= thresholds.value_auc:
            yield Leak(name, auc, f"alone it reaches AUC {auc:.3f}. Is it a copy of the outcome, or computed from it?")
    if column.kind == "number":
        values = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
        yield from _form_leaks(name, values, y, thresholds)
        yield from _forecast_leaks(name, values, y, thresholds)


def _value_subsets(series: pl.Series, missing: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Subsets of a column's rows that may have only one outcome: (description, mask)."""
    if missing.any():
        yield "missing", missing
        yield "present", ~missing
    counts = series.drop_nulls().value_counts(sort=True)
    if counts.height >= 2 and counts[0, 1] >= 0.05 * series.len():
        mode = counts[0, 0]
        yield f"other than {mode!r}", (series != mode).fill_null(False).to_numpy()
        yield f"equal to {mode!r}", (series == mode).fill_null(False).to_numpy()


def _form_leaks(name: str, values: np.ndarray, y: np.ndarray, thresholds: LeakageThresholds) -> Iterator[Leak]:
    """Compare multiples of a round number with all other values of equal size, without zeros; yield the strongest
    leak.
    """
    usable = np.isfinite(values) & (values != 0)
    x, outcome = values[usable], y[usable]
    if not len(x):
        return
    distinct = np.unique(x)
    is_integer = bool((distinct == np.round(distinct)).all())
    strata = np.searchsorted(np.quantile(x, (0.2, 0.4, 0.6, 0.8)), x)
    leaks: list[Leak] = []
    for step in MULTIPLES if is_integer else (1,):
        multiple_count = int((np.mod(distinct, step) == 0).sum())
        if min(multiple_count, len(distinct) - multiple_count) < 5:
            continue
        is_multiple = np.mod(x, step) == 0
        if min(is_multiple.sum(), (~is_multiple).sum()) < 0.01 * len(y):
            continue
        auc = _pattern_auc(is_multiple, outcome, strata)
        if auc >= thresholds.form_auc:
            detail = (
                f"{outcome[is_multiple].mean():.1%} bad where it is, {outcome[~is_multiple].mean():.1%} where it is not"
            )
            unit = f"a multiple of {step}" if is_integer else "a whole number"
            leaks.append(
                Leak(name, auc, f"being {unit} reveals the outcome at equal size: {detail}. Was it set by the outcome?")
            )
    if leaks:  # what is not a multiple of 12 is not one of 84 either
        yield max(leaks, key=lambda leak: leak.auc)


def _forecast_leaks(name: str, values: np.ndarray, y: np.ndarray, thresholds: LeakageThresholds) -> Iterator[Leak]:
    usable = np.isfinite(values)
    x, outcome = values[usable], y[usable]
    if len(x) < 200 or x.min() < 0 or x.max() > 1 or len(np.unique(x)) < 20:
        return
    deciles = np.array_split(np.argsort(x, kind="stable"), 10)
    rates = np.array([outcome[decile].mean() for decile in deciles])
    means = np.array([x[decile].mean() for decile in deciles])
    spread = np.abs(rates - outcome.mean()).mean()
    auc = _auc(x, outcome)
    if auc >= thresholds.forecast_auc and np.abs(rates - means).mean() <= thresholds.forecast_error * spread:
        yield Leak(name, auc, f"its values are the rates of default (AUC {auc:.3f}). Is it another model's forecast?")


def _bin_codes(series: pl.Series, column: ColumnSchema) -> np.ndarray | None:
    """Bin numbers, (rows,), with a bin for missing: quantiles of a number, else values; None if most values differ."""
    if column.kind != "number":
        return series.rank("dense").fill_null(0).to_numpy() if series.n_unique() <= 0.05 * series.len() + 50 else None
    return _quantile_bins(series.cast(pl.Float64).fill_null(np.nan).to_numpy())


def _quantile_bins(x: np.ndarray) -> np.ndarray:
    finite = np.isfinite(x)
    edges = np.unique(np.quantile(x[finite], np.arange(1, BINS) / BINS)) if finite.any() else np.empty(0)
    # below, on and above each edge: a value that many rows share has a bin of its own
    position = np.searchsorted(edges, x, side="left") + np.searchsorted(edges, x, side="right")
    return np.where(finite, position, -1)


def _cross_fitted_auc(codes: np.ndarray, y: np.ndarray) -> float:
    """AUC of the bins' default rates, estimated on the other folds and shrunk by ten average rows."""
    _, bin_index = np.unique(codes, return_inverse=True)
    bin_count = int(bin_index.max()) + 1
    fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
    score = np.empty(len(y))
    for k in range(FOLDS):
        holdout = fold == k
        row_counts, bad_counts = (
            np.bincount(bin_index[~holdout], minlength=bin_count),
            np.bincount(bin_index[~holdout], y[~holdout], minlength=bin_count),
        )
        score[holdout] = ((bad_counts + 10 * y[~holdout].mean()) / (row_counts + 10))[bin_index[holdout]]
    return _auc(score, y)


def _order_auc(series: pl.Series, y: np.ndarray) -> float:
    if series.dtype == pl.String:
        series = series.str.replace_all(r"\D", "").str.tail(15).cast(pl.Float64, strict=False)
    x = series.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    return _cross_fitted_auc(_quantile_bins(x), y) if np.isfinite(x).mean() > 0.5 else 0.5


def _pattern_auc(pattern: np.ndarray, y: np.ndarray, strata: np.ndarray | None = None) -> float:
    """AUC of a yes/no pattern in either direction; pairs are compared within strata only."""
    strata = np.zeros(len(y), np.int64) if strata is None else strata
    bad_counts, good_counts = np.bincount(strata, y), np.bincount(strata, ~y)
    bad_with_pattern, good_with_pattern = np.bincount(strata, y & pattern), np.bincount(strata, ~y & pattern)
    pairs = float((bad_counts * good_counts).sum())
    # sum over strata of (tpr - fpr) * pairs
    weighted_difference = float((bad_with_pattern * good_counts - good_with_pattern * bad_counts).sum())
    return 0.5 + 0.5 * abs(weighted_difference) / pairs if pairs else 0.5


def _auc(score: np.ndarray, y: np.ndarray) -> float:
    """Probability that a bad row scores above a good one; ties count half (Mann-Whitney)."""
    _, code = np.unique(score, return_inverse=True)
    bad_counts, good_counts = np.bincount(code, y), np.bincount(code, ~y)
    below = np.cumsum(good_counts) - good_counts
    return float((bad_counts * (below + good_counts / 2)).sum() / (bad_counts.sum() * good_counts.sum()))
