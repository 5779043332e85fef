"""Summarise the columns of a user's table: role, gaps, range, and the rate of default by their values.

A summary holds no value of an identifier, a text or a date of birth, and no level of fewer than MIN_LEVEL_ROWS rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from datasets.leakage import column_auc
from datasets.schema import ColumnSchema, format_number
from training.tabular.columns.leaks import describe_leak
from training.tabular.user_table import UserTable

ROLES = {  # in the order of the page
    "outcome": "结果", "feature": "特征", "sensitive": "敏感属性", "leak": "泄漏", "date": "日期", "id": "标识",
    "text": "文本", "constant": "常量", "group": "分组", "weight": "权重",
}  # fmt: skip
MAX_BINS, MAX_LEVELS, MIN_LEVEL_ROWS = 20, 12, 5
MAX_TIMES = 36  # months of a plot; with more it goes by quarters
MAX_AUC_ROWS = 50_000
MISSING, OTHERS = "missing 缺失", "other levels 其他"


@dataclass(frozen=True)
class Bin:
    """Rows with values in one range, or of one level. bad_rate: None where fewer than MIN_LEVEL_ROWS have it."""

    label: str
    rows: int
    bad_rate: float | None


@dataclass(frozen=True)
class ColumnSummary:
    """One column. auc: of its values alone. value_range: smallest, median and largest value, in words."""

    name: str
    role: str  # of ROLES
    kind: str
    unit: str
    missing: int
    missing_share: float
    distinct: int
    value_range: str
    bins: tuple[Bin, ...]
    auc: float | None
    warnings: tuple[str, ...] = ()
    remark: str = ""


@dataclass(frozen=True)
class TableSummary:
    """A table. times: rows and rates by the month or quarter of the application. warnings: (column, sentence)."""

    rows: int
    bad_rate: float
    columns: tuple[ColumnSummary, ...]
    times: tuple[Bin, ...]
    time_column: str
    warnings: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]

    def count(self, role: str) -> int:
        return sum(column.role == role for column in self.columns)


def summarise(user_table: UserTable) -> TableSummary:
    """Summarise a table that was read."""
    table, frame = user_table.table, user_table.frame
    y = frame[table.target.name].cast(pl.Float64).to_numpy()
    columns = {column.name: column for column in table.columns}
    leaks: dict[str, list[str]] = {}
    for leak in user_table.leaks:
        leaks.setdefault(leak.column, []).append(describe_leak(leak, columns.get(leak.column)))
    summaries = []
    for column in table.columns:
        summary = _summarise_column(column, frame[column.name], y, column.name in user_table.protected)
        warnings, remark = tuple(leaks.get(column.name, ())), user_table.column_remarks.get(column.name, "")
        summaries.append(replace(summary, warnings=warnings, remark=remark))
    order = [*ROLES]
    times = table.columns_with_role("time")
    return TableSummary(
        rows=frame.height,
        bad_rate=float(y.mean()),
        columns=tuple(sorted(summaries, key=lambda summary: (order.index(summary.role), -(summary.auc or 0.0)))),
        times=tuple(_time_bins(frame[times[0].name], y)) if times else (),
        time_column=times[0].name if times else "",
        warnings=tuple((name, sentence) for name, sentences in leaks.items() for sentence in sentences),
        remarks=user_table.remarks,
    )


def role_of(column: ColumnSchema, series: pl.Series) -> str:
    """What a column is used for, as the page calls it."""
    named = {"target": "outcome", "leak": "leak", "audit": "sensitive", "group": "group", "weight": "weight"}
    if column.role in named:
        return named[column.role]
    if column.date_format or column.role == "time":
        return "date"
    if column.role == "indicator" and column.kind != "text":
        return "feature"
    known, distinct = series.len() - series.null_count(), series.drop_nulls().n_unique()
    if distinct <= 1:
        return "constant"
    return "id" if distinct > known / 2 else "text"


def _summarise_column(column: ColumnSchema, series: pl.Series, y: np.ndarray, is_protected: bool) -> ColumnSummary:
    role = role_of(column, series)
    has_values = column.kind != "text" and role not in ("id", "constant")
    bins = tuple(_bins(column, series, y)) if has_values else ()
    step = max(1, series.len() // MAX_AUC_ROWS)
    auc = column_auc(series.gather_every(step), column, y[::step] > 0) if has_values and role != "outcome" else None
    return ColumnSummary(
        name=column.name,
        role=role,
        kind="date" if column.date_format else column.kind,
        unit=column.unit,
        missing=series.null_count(),
        missing_share=series.null_count() / max(1, series.len()),
        distinct=series.drop_nulls().n_unique(),
        value_range=_value_range(column, series) if has_values or (column.date_format and not is_protected) else "",
        bins=bins,
        auc=auc,
    )


def _value_range(column: ColumnSchema, series: pl.Series) -> str:
    if column.kind == "category":
        return f"{len(column.levels):,} levels 类"
    known = series.drop_nulls()
    if not known.len():
        return ""
    if column.kind == "text":
        return " – ".join(str(day) for day in (known.min(), known.max()))
    low, middle, high = (float(known.quantile(share) or 0.0) for share in (0.0, 0.5, 1.0))
    return f"{format_number(low)} – {format_number(middle)} – {format_number(high)}"


def _bins(column: ColumnSchema, series: pl.Series, y: np.ndarray) -> Iterator[Bin]:
    missing = series.is_null().to_numpy()
    if column.kind == "category" or series.drop_nulls().n_unique() <= MAX_LEVELS:
        yield from _level_bins(series, y)
    else:
        yield from _number_bins(series.cast(pl.Float64).fill_null(np.nan).to_numpy(), y)
    if missing.any():
        yield _bin(MISSING, missing, y)


def _level_bins(series: pl.Series, y: np.ndarray) -> Iterator[Bin]:
    counts = series.drop_nulls().value_counts(sort=True).rows()
    levels = [level for level, rows in counts[:MAX_LEVELS] if rows >= MIN_LEVEL_ROWS]
    for level in sorted(levels) if series.dtype.is_numeric() else levels:
        label = format_number(level) if isinstance(level, float) else str(level)
        yield _bin(label, (series == level).fill_null(False).to_numpy(), y)
    others = (series.is_not_null() & ~series.is_in(levels)).fill_null(False).to_numpy()
    if others.any():
        yield _bin(OTHERS, others, y)


def _number_bins(values: np.ndarray, y: np.ndarray) -> Iterator[Bin]:
    """Bins of equal width; the first and the last also hold what lies beyond the 1st and 99th percentile."""
    low, high = np.nanquantile(values, [0.01, 0.99])
    if not high > low:
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
    edges = np.linspace(low, high, MAX_BINS + 1)
    index = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, MAX_BINS - 1)
    index[np.isnan(values)] = -1
    for i in range(MAX_BINS):
        yield _bin(f"{format_number(edges[i])} – {format_number(edges[i + 1])}", index == i, y)


def _time_bins(series: pl.Series, y: np.ndarray) -> Iterator[Bin]:
    """By month of a date as YYYY-MM-DD, by quarter where there are many months; by value of a number."""
    labels = series.cast(pl.String) if series.dtype != pl.String else series.str.slice(0, 7)
    if series.dtype == pl.String and labels.n_unique() > MAX_TIMES:
        quarter = (series.str.slice(5, 2).cast(pl.Int8, strict=False) + 2) // 3
        labels = series.str.slice(0, 4) + " Q" + quarter.cast(pl.String)
    for label in labels.drop_nulls().unique().sort().to_list():
        yield _bin(label, (labels == label).fill_null(False).to_numpy(), y)


def _bin(label: str, member: np.ndarray, y: np.ndarray) -> Bin:
    rows = int(member.sum())
    return Bin(label, rows, float(y[member].mean()) if rows >= MIN_LEVEL_ROWS else None)
