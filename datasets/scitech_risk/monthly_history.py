"""Compute the early-warning columns of the register (月度预警) from a monthly history, at one month or at every month.

A history has one row per company and month (register.schema.HISTORY), without gaps from its first month to the
register's. A window looks back from its month, including it. A mean needs two thirds of its window to be known, and a
change also a base above 0; maxima and counts use the known values. Otherwise a value is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl

from datasets.derived_columns import FloatArray
from datasets.errors import FieldError

LOOKBACK_MONTHS = 24  # months: the longest window
CHANGE_COLUMNS = {
    "revenue_change_6m": "revenue",
    "staff_change_6m": "insured_staff",
    "cash_change_6m": "cash",
    "electricity_change_6m": "electricity",
}
MAX_CHANGE = 1_000.0  # the contract's bound; from a base near 0 a share means little


def month_index(month: pl.Expr | str) -> pl.Expr:
    """'YYYY-MM' as months since year 0; null if it is not a month."""
    text = pl.col(month) if isinstance(month, str) else month
    is_valid = text.str.contains(r"^\d{4}-(0[1-9]|1[0-2])$")
    valid_text = pl.when(is_valid).then(text)
    return valid_text.str.head(4).cast(pl.Int32) * 12 + valid_text.str.tail(2).cast(pl.Int32) - 1


def add_months(month: str, months: int) -> str:
    """Add months: '2026-06', -6 -> '2025-12'."""
    total = int(month[:4]) * 12 + int(month[5:]) - 1 + months
    return f"{total // 12:04d}-{total % 12 + 1:02d}"


def find_history_errors(
    history: pl.DataFrame, companies: pl.Series, month: str, file: str = "history"
) -> list[FieldError]:
    """All errors of a history against a register of `companies` at `month`.

    Errors are invalid months, months after `month`, unknown companies, duplicate months, and gaps, including one
    between the last month and `month`. file: what messages call the history.
    """
    rows = history.select("company_id", "month").with_row_index("row", 1).drop_nulls()
    rows = rows.with_columns(month_index("month").alias("at"))
    current = pl.select(month_index(pl.lit(month))).item()
    errors = [
        FieldError("month", repr(value), "a month, YYYY-MM", "月份，格式 YYYY-MM", row, file)
        for row, value in rows.filter(pl.col("at").is_null()).select("row", "month").iter_rows()
    ]
    errors += [
        FieldError(
            "month",
            f"{value} of {company!r}",
            f"no later than the register's month, {month}",
            f"不晚于 {month}",
            row,
            file,
        )
        for row, company, value, _ in rows.filter(pl.col("at") > current).iter_rows()
    ]
    past_rows = rows.filter(pl.col("at") <= current)
    unknown_companies = past_rows.filter(~pl.col("company_id").is_in(companies.implode())).unique(
        "company_id", keep="first"
    )
    errors += [
        FieldError("company_id", repr(company), "a company of the register", "名录中的企业", row, file)
        for row, company in unknown_companies.sort("row").select("row", "company_id").iter_rows()
    ]
    past_rows = past_rows.sort("company_id", "at", "row").with_columns(
        pl.col("at").diff().over("company_id").alias("step"),
        (pl.col("company_id") != pl.col("company_id").shift(-1)).fill_null(True).alias("last"),
    )
    irregular = past_rows.filter((pl.col("step") != 1) | (pl.col("last") & (pl.col("at") != current)))
    for row, company, value, index, step, is_last in irregular.iter_rows():
        if step == 0:
            errors.append(
                FieldError(
                    "month", f"{value} of {company!r}, which another row has too", "unique", "每月一行", row, file
                )
            )
        elif step is not None and step > 1:
            gap = f"{value} of {company!r} after a gap of {step - 1}"
            errors.append(FieldError("month", gap, "the month after the previous row", "前一月的次月", row, file))
        if is_last and index != current:
            errors.append(
                FieldError(
                    "month",
                    f"{value}, the last month of {company!r}",
                    f"followed by every month up to {month}",
                    f"连续至 {month}",
                    row,
                    file,
                )
            )
    return errors


def early_warning_columns(history: pl.DataFrame, month: str) -> pl.DataFrame:
    """company_id and the early-warning columns at `month`, one row per company with a history."""
    first = pl.select(month_index(pl.lit(month))).item() - LOOKBACK_MONTHS + 1
    recent = history.filter(month_index("month") >= first)
    return rolling_early_warnings(recent).filter(pl.col("month") == month).drop("month")


def rolling_early_warnings(history: pl.DataFrame) -> pl.DataFrame:
    """company_id, month and the early-warning columns for every month of every company, sorted by both."""
    rows = sort_history(history)
    months_since_first = _months_since_first(rows["company_id"])
    values_by_column = {name: _to_floats(rows[name]) for name in rows.columns if name not in ("company_id", "month")}
    features = {
        name: _relative_change(values_by_column[source], months_since_first) for name, source in CHANGE_COLUMNS.items()
    }
    features["overdue_days_6m"] = _elementwise_max(_lagged(values_by_column["overdue_days"], months_since_first, 6))
    features["late_filings_6m"] = _window_count(values_by_column["late_filing"], months_since_first, 6)
    features["revenue_drop_12m"] = _worst_drop(
        _window_mean(values_by_column["revenue"], months_since_first, 3), months_since_first
    )
    features["zero_filing_months"] = _window_count(values_by_column["zero_filing"], months_since_first, LOOKBACK_MONTHS)
    return rows.select("company_id", "month").with_columns(
        pl.Series(name, values, nan_to_null=True) for name, values in features.items()
    )


def last_year_total(history: pl.DataFrame, name: str, month: str) -> pl.DataFrame:
    """company_id and the total of a column over twelve months; unknown months count as the mean of the known ones."""
    first_month = pl.select(month_index(pl.lit(month))).item() - 11
    # sorted, so that sums do not depend on the order of rows
    recent = sort_history(history.filter(month_index("month") >= first_month))
    monthly_values, starts = _to_floats(recent[name]), np.flatnonzero(_months_since_first(recent["company_id"]) == 0)
    if not len(starts):
        return recent.select("company_id", pl.col(name).cast(pl.Float64))
    length = np.diff(np.append(starts, len(monthly_values)))
    total, known_months = (
        np.add.reduceat(values, starts)
        for values in (np.nan_to_num(monthly_values), (~np.isnan(monthly_values)).astype(float))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        year = np.where(3 * known_months >= 2 * length, total * length / known_months, np.nan)
    return pl.DataFrame({"company_id": recent["company_id"].gather(starts), name: pl.Series(year, nan_to_null=True)})


def sort_history(history: pl.DataFrame) -> pl.DataFrame:
    """Sort by company and month; checking whether it is sorted already is cheap."""
    company, month = history["company_id"], history["month"]
    previous_company, previous_month = company.shift(1), month.shift(1)
    sorted_already = (
        ((company > previous_company) | ((company == previous_company) & (month > previous_month))).slice(1).all()
    )
    return history if sorted_already else history.sort("company_id", "month")


def _to_floats(series: pl.Series) -> FloatArray:
    return series.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _months_since_first(company: pl.Series) -> np.ndarray:
    """Months since the company's first month, (rows,); rows are sorted by company and month, without gaps."""
    index = np.arange(company.len())
    if not company.len():
        return index
    is_first = (company != company.shift(1)).fill_null(True).to_numpy()
    months_since_first: np.ndarray = index - np.maximum.accumulate(np.where(is_first, index, 0))
    return months_since_first


def _lagged(x: FloatArray, months_since_first: np.ndarray, months: int) -> Iterator[FloatArray]:
    """x in this month, in the month before, and so on; NaN before the company's first month."""
    for lag in range(min(months, max(len(x), 1))):
        lagged = np.full(len(x), np.nan)
        lagged[lag:] = x[: len(x) - lag]
        lagged[months_since_first < lag] = np.nan
        yield lagged


def _window_mean(x: FloatArray, months_since_first: np.ndarray, months: int, skip: int = 0) -> FloatArray:
    total, known_counts = np.zeros(len(x)), np.zeros(len(x))
    for lag, lagged in enumerate(_lagged(x, months_since_first, months + skip)):
        if lag >= skip:
            is_known = ~np.isnan(lagged)
            total += np.where(is_known, lagged, 0.0)
            known_counts += is_known
    is_complete = (months_since_first >= months + skip - 1) & (3 * known_counts >= 2 * months)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(is_complete, total / known_counts, np.nan)


def _relative_change(x: FloatArray, months_since_first: np.ndarray) -> FloatArray:
    current, previous = _window_mean(x, months_since_first, 6), _window_mean(x, months_since_first, 6, skip=6)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.minimum(np.where(previous > 0, current / previous - 1, np.nan), MAX_CHANGE)


def _elementwise_max(arrays: Iterable[FloatArray]) -> FloatArray:
    maximum, *rest = arrays
    for array in rest:
        maximum = np.fmax(maximum, array)
    return maximum


def _window_count(flag: FloatArray, months_since_first: np.ndarray, months: int) -> FloatArray:
    """How often a 0/1 column was 1 in the window; cumulative sums of whole numbers are exact."""
    index = np.arange(len(flag))
    start = index - np.minimum(months_since_first, months - 1)
    totals = (np.concatenate([[0.0], np.cumsum(indicator)]) for indicator in (np.nan_to_num(flag), ~np.isnan(flag)))
    ones, known_counts = (total[index + 1] - total[start] for total in totals)
    return np.where(known_counts > 0, ones, np.nan)


def _worst_drop(quarterly_mean: FloatArray, months_since_first: np.ndarray) -> FloatArray:
    """The largest fall from a peak among the quarterly means within twelve months; needs two of them."""
    means: Sequence[FloatArray] = list(_lagged(quarterly_mean, months_since_first, 10))
    peak, worst = np.full(len(quarterly_mean), np.nan), np.full(len(quarterly_mean), np.nan)
    for mean in reversed(means):
        with np.errstate(invalid="ignore", divide="ignore"):
            drop = np.where(peak > 0, 1 - mean / peak, np.where(np.isnan(peak), np.nan, 0.0 * mean))
        worst = np.fmax(worst, np.maximum(drop, 0.0))
        peak = np.fmax(peak, mean)
    return worst
