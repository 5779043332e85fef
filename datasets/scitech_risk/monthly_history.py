"""A monthly history made into the early-warning columns of the register (月度预警), at one month or at every month.

History is one row a company and month (register.HISTORY), whole from its first month to the register's. A window looks
back from its month, that month included. A mean stands where two thirds of its window are known; a change also needs a
base above 0; worst and count take what is known. What cannot be told is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl

from datasets.derived_columns import Floats
from datasets.errors import Fault

LOOKS_BACK = 24  # months: the longest window
CHANGES = {
    "revenue_change_6m": "revenue",
    "staff_change_6m": "insured_staff",
    "cash_change_6m": "cash",
    "electricity_change_6m": "electricity",
}
MOST_CHANGE = 1_000.0  # the contract's: from nearly nothing, a share says no more


def number(month: pl.Expr | str) -> pl.Expr:
    """'YYYY-MM' as months since year 0, so that neighbours differ by 1; null where it is no month."""
    text = pl.col(month) if isinstance(month, str) else month
    sound = text.str.contains(r"^\d{4}-(0[1-9]|1[0-2])$")
    parts = pl.when(sound).then(text)
    return parts.str.head(4).cast(pl.Int32) * 12 + parts.str.tail(2).cast(pl.Int32) - 1


def shifted(month: str, by: int) -> str:
    """'2026-06', -6 -> '2025-12'."""
    total = int(month[:4]) * 12 + int(month[5:]) - 1 + by
    return f"{total // 12:04d}-{total % 12 + 1:02d}"


def check(history: pl.DataFrame, companies: pl.Series, month: str, file: str = "history") -> list[Fault]:
    """Every fault of a history (in `file`) against a register of `companies` at `month`: what is no month, a month to
    come, a company that the register lacks, a month told twice, a gap, also one between the last month and `month`."""
    rows = history.select("company_id", "month").with_row_index("row", 1).drop_nulls()
    rows = rows.with_columns(number("month").alias("at"))
    now = pl.select(number(pl.lit(month))).item()
    faults = [
        Fault("month", repr(found), "a month, YYYY-MM", "月份，格式 YYYY-MM", row, file)
        for row, found in rows.filter(pl.col("at").is_null()).select("row", "month").iter_rows()
    ]
    faults += [
        Fault(
            "month", f"{found} of {company!r}", f"no later than the register's, {month}", f"不晚于 {month}", row, file
        )
        for row, company, found, _ in rows.filter(pl.col("at") > now).iter_rows()
    ]
    known = rows.filter(pl.col("at") <= now)
    stranger = known.filter(~pl.col("company_id").is_in(companies.implode())).unique("company_id", keep="first")
    faults += [
        Fault("company_id", repr(company), "a company of the register", "名录中的企业", row, file)
        for row, company in stranger.sort("row").select("row", "company_id").iter_rows()
    ]
    known = known.sort("company_id", "at", "row").with_columns(
        pl.col("at").diff().over("company_id").alias("step"),
        (pl.col("company_id") != pl.col("company_id").shift(-1)).fill_null(True).alias("last"),
    )
    wrong = known.filter((pl.col("step") != 1) | (pl.col("last") & (pl.col("at") != now)))
    for row, company, found, at, step, last in wrong.iter_rows():
        if step == 0:
            faults.append(Fault("month", f"{found} of {company!r} a second time", "told once", "每月一行", row, file))
        elif step is not None and step > 1:
            gap = f"{found} of {company!r} after a gap of {step - 1}"
            faults.append(Fault("month", gap, "the month after the one before", "前一月的次月", row, file))
        if last and at != now:
            faults.append(
                Fault(
                    "month",
                    f"{found}, the last of {company!r}",
                    f"followed up to {month}",
                    f"连续至 {month}",
                    row,
                    file,
                )
            )
    return faults


def columns(history: pl.DataFrame, month: str) -> pl.DataFrame:
    """company_id and the early-warning columns at `month`, one row a company that has a history."""
    first = pl.select(number(pl.lit(month))).item() - LOOKS_BACK + 1
    recent = history.filter(number("month") >= first)
    return rolling(recent).filter(pl.col("month") == month).drop("month")


def rolling(history: pl.DataFrame) -> pl.DataFrame:
    """company_id, month and the early-warning columns at every month of every company, sorted by both."""
    rows = in_order(history)
    since = _since_first(rows["company_id"])
    value = {name: _floats(rows[name]) for name in rows.columns if name not in ("company_id", "month")}
    made = {name: _change(value[source], since) for name, source in CHANGES.items()}
    made["overdue_days_6m"] = _worst(_back(value["overdue_days"], since, 6))
    made["late_filings_6m"] = _count(value["late_filing"], since, 6)
    made["revenue_drop_12m"] = _drop(_mean(value["revenue"], since, 3), since)
    made["zero_filing_months"] = _count(value["zero_filing"], since, LOOKS_BACK)
    return rows.select("company_id", "month").with_columns(
        pl.Series(name, values, nan_to_null=True) for name, values in made.items()
    )


def yearly(history: pl.DataFrame, name: str, month: str) -> pl.DataFrame:
    """company_id and the last twelve months' total of a column; a month unknown counts as the mean of the known."""
    first = pl.select(number(pl.lit(month))).item() - 11
    recent = in_order(history.filter(number("month") >= first))  # so that sums do not depend on the order of rows
    value, starts = _floats(recent[name]), np.flatnonzero(_since_first(recent["company_id"]) == 0)
    if not len(starts):
        return recent.select("company_id", pl.col(name).cast(pl.Float64))
    length = np.diff(np.append(starts, len(value)))
    total, known = (np.add.reduceat(part, starts) for part in (np.nan_to_num(value), (~np.isnan(value)).astype(float)))
    with np.errstate(invalid="ignore", divide="ignore"):
        year = np.where(3 * known >= 2 * length, total * length / known, np.nan)
    return pl.DataFrame({"company_id": recent["company_id"].gather(starts), name: pl.Series(year, nan_to_null=True)})


def in_order(history: pl.DataFrame) -> pl.DataFrame:
    """Sorted by company and month; looking whether it is so already costs little."""
    company, month = history["company_id"], history["month"]
    before, earlier = company.shift(1), month.shift(1)
    sorted_already = ((company > before) | ((company == before) & (month > earlier))).slice(1).all()
    return history if sorted_already else history.sort("company_id", "month")


def _floats(series: pl.Series) -> Floats:
    return series.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _since_first(company: pl.Series) -> np.ndarray:
    """(rows,) months since the company's first; rows are sorted by company and month, without gaps."""
    at = np.arange(company.len())
    if not company.len():
        return at
    new = (company != company.shift(1)).fill_null(True).to_numpy()
    since: np.ndarray = at - np.maximum.accumulate(np.where(new, at, 0))
    return since


def _back(x: Floats, since: np.ndarray, months: int) -> Iterator[Floats]:
    """x of this month, of the month before, ...; NaN before the company's first month."""
    for back in range(min(months, max(len(x), 1))):
        past = np.full(len(x), np.nan)
        past[back:] = x[: len(x) - back]
        past[since < back] = np.nan
        yield past


def _mean(x: Floats, since: np.ndarray, months: int, skip: int = 0) -> Floats:
    total, known = np.zeros(len(x)), np.zeros(len(x))
    for back, past in enumerate(_back(x, since, months + skip)):
        if back >= skip:
            there = ~np.isnan(past)
            total += np.where(there, past, 0.0)
            known += there
    whole = (since >= months + skip - 1) & (3 * known >= 2 * months)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole, total / known, np.nan)


def _change(x: Floats, since: np.ndarray) -> Floats:
    now, before = _mean(x, since, 6), _mean(x, since, 6, skip=6)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.minimum(np.where(before > 0, now / before - 1, np.nan), MOST_CHANGE)


def _worst(parts: Iterable[Floats]) -> Floats:
    worst, *rest = parts
    for part in rest:
        worst = np.fmax(worst, part)
    return worst


def _count(flag: Floats, since: np.ndarray, months: int) -> Floats:
    """How often a 0/1 column was 1 in the window; running totals of whole numbers are exact."""
    at = np.arange(len(flag))
    start = at - np.minimum(since, months - 1)
    totals = (np.concatenate([[0.0], np.cumsum(part)]) for part in (np.nan_to_num(flag), ~np.isnan(flag)))
    ones, known = (total[at + 1] - total[start] for total in totals)
    return np.where(known > 0, ones, np.nan)


def _drop(quarter: Floats, since: np.ndarray) -> Floats:
    """Worst fall from a peak among the quarterly means that lie within twelve months; it takes two of them."""
    means: Sequence[Floats] = list(_back(quarter, since, 10))
    peak, worst = np.full(len(quarter), np.nan), np.full(len(quarter), np.nan)
    for mean in reversed(means):
        with np.errstate(invalid="ignore", divide="ignore"):
            fall = np.where(peak > 0, 1 - mean / peak, np.where(np.isnan(peak), np.nan, 0.0 * mean))
        worst = np.fmax(worst, np.maximum(fall, 0.0))
        peak = np.fmax(peak, mean)
    return worst
