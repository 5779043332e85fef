"""Aggregate a run's answers: totals, grades, trades, concentration. Money is RMB; a limit not granted counts as 0.

Every function takes the answers as they are written, so each figure can be recomputed from the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

UNRATED = "unrated"  # too little is known for a grade, or the row has an error
TOP_COMPANIES = 20
LIMIT_EXPR, LOSS_EXPR = pl.col("limit").fill_null(0), pl.col("expected_loss").fill_null(0.0)
TOTAL_EXPRS = {
    "companies": pl.len(),
    "limit": LIMIT_EXPR.sum(),
    "expected_loss": LOSS_EXPR.sum().round(2),
    "mean_pd": pl.col("pd").mean(),
}


def fill_unrated(frame: pl.DataFrame) -> pl.DataFrame:
    """Replace a missing grade by UNRATED."""
    return frame.with_columns(pl.col("grade").fill_null(UNRATED))


def headline_figures(frame: pl.DataFrame, below_floor: Sequence[str]) -> dict[str, Any]:
    """The figures of the first page. below_floor: the grades that are never approved automatically."""
    totals = frame.select(
        **TOTAL_EXPRS,
        faulty=pl.col("error").is_not_null().sum(),
        approved=(pl.col("decision") == "approve").sum(),
        referred=(pl.col("decision") == "refer").sum(),
        with_limit=(LIMIT_EXPR > 0).sum(),
        indicative=pl.when(pl.col("limit").is_null()).then(pl.col("indicative_limit")).fill_null(0).sum(),
        blocked=(pl.col("gate") == "block").sum(),
        in_review=(pl.col("gate") == "review").sum(),
        below_floor=pl.col("grade").is_in(list(below_floor)).sum(),
        unrated=pl.col("grade").is_null().sum(),
        innovation=pl.col("innovation").mean(),
    ).row(0, named=True)
    return totals | {"loss_rate": safe_ratio(totals["expected_loss"], totals["limit"])}


def safe_ratio(numerator: float, denominator: float) -> float:
    """numerator / denominator, or 0 where the denominator is 0."""
    return numerator / denominator if denominator else 0.0


def group_totals(
    frame: pl.DataFrame, column: str, order: Sequence[str], previous: pl.DataFrame | None = None
) -> list[dict[str, Any]]:
    """Totals for each value of `order`, including those without a company; `before_*` are those of the previous run."""
    current_totals = _totals_by_value(frame, column)
    previous_totals = _totals_by_value(previous, column) if previous is not None else {}
    empty_totals = {"companies": 0, "limit": 0, "expected_loss": 0.0, "mean_pd": None}
    rows = []
    for name in [*order, *sorted(current_totals.keys() - set(order))]:
        row = {column: name, **current_totals.get(name, empty_totals)}
        row["share"] = safe_ratio(row["companies"], frame.height)
        row["loss_rate"] = safe_ratio(row["expected_loss"], row["limit"])
        if previous is not None:
            row |= {f"before_{key}": value for key, value in previous_totals.get(name, empty_totals).items()}
            row["before_share"] = safe_ratio(row["before_companies"], previous.height)
        rows.append(row)
    return rows


def _totals_by_value(frame: pl.DataFrame, column: str) -> dict[str, dict[str, Any]]:
    rows = frame.group_by(pl.col(column).fill_null(UNRATED)).agg(**TOTAL_EXPRS).to_dicts()
    return {row.pop(column): row for row in rows}


def concentration_figures(frame: pl.DataFrame) -> dict[str, Any]:
    """Shares of the sum of limits. A Herfindahl index is a sum of squared shares: 1 / n for n equal shares."""
    total_limit = frame.select(LIMIT_EXPR.sum()).item()
    trades = frame.group_by("trade").agg(limit=LIMIT_EXPR.sum())["limit"]
    limits = frame.select(limit=LIMIT_EXPR)["limit"].sort(descending=True)
    top = (
        frame.with_columns(limit=LIMIT_EXPR, expected_loss=LOSS_EXPR)
        .filter(pl.col("limit") > 0)
        .sort(["limit", "expected_loss", "company_id"], descending=[True, True, False], maintain_order=True)
        .head(TOP_COMPANIES)
    )
    columns = ("company_id", "trade", "grade", "pd", "limit", "expected_loss", "gate", "binding")
    return {
        "largest_share": safe_ratio(limits[0] if len(limits) else 0, total_limit),
        "top_share": safe_ratio(float(limits.head(TOP_COMPANIES).sum()), total_limit),
        "hhi_trades": _herfindahl(trades, total_limit),
        "hhi_companies": _herfindahl(limits, total_limit),
        "top": [row | {"share": safe_ratio(row["limit"], total_limit)} for row in top.select(columns).to_dicts()],
    }


def _herfindahl(amounts: pl.Series, total: float) -> float:
    shares = amounts.cast(pl.Float64) / total if total else amounts.cast(pl.Float64) * 0
    return float((shares * shares).sum())


def count_codes(frame: pl.DataFrame, column: str, extra: dict[str, pl.Expr] | None = None) -> list[dict[str, Any]]:
    """How many companies have each code of a column with codes separated by ';', most frequent first.

    extra: further aggregates by name.
    """
    extra_exprs = extra or {}
    return (
        frame.filter(pl.col(column).is_not_null() & (pl.col(column) != ""))
        .with_columns(code=pl.col(column).str.split(";"))
        .explode("code")
        .filter(pl.col("code").is_not_null())
        .group_by("code")
        .agg(companies=pl.len(), limit=LIMIT_EXPR.sum(), **extra_exprs)
        .sort(["companies", "code"], descending=[True, False])
        .to_dicts()
    )


def largest_loops(frame: pl.DataFrame, limit: int = 10) -> list[dict[str, Any]]:
    """The largest invoice loops, each once although every member reports it. `frame` has the column `loop_path`."""
    if "loop_path" not in frame.columns:
        return []
    grouped = (
        frame.filter(pl.col("loop_path").is_not_null() & (pl.col("loop_path") != ""))
        .with_columns(members=pl.col("loop_path").str.split(" > ").list.unique().list.sort())
        .group_by("members")
        .agg(
            path=pl.col("loop_path").first(),
            told_by=pl.len(),
            limit=pl.col("indicative_limit").fill_null(0).sum(),
            blocked=(pl.col("gate") == "block").sum(),
            share=pl.col("invoice_loop_share").max(),
        )
        .with_columns(size=pl.col("members").list.len())
        .sort(["size", "blocked", "path"], descending=[True, True, False])
        .head(limit)
    )
    return grouped.drop("members").to_dicts()


def missing_shares(frame: pl.DataFrame, columns: Sequence[Any]) -> list[dict[str, Any]]:
    """The share of companies without a value, for each indicator that is ever missing, largest first."""
    names = [column.name for column in columns if column.name in frame.columns]
    missing = frame.select(pl.col(names).null_count()).row(0, named=True) if names and frame.height else {}
    rows = [{"indicator": name, "missing": safe_ratio(count, frame.height)} for name, count in missing.items() if count]
    return sorted(rows, key=lambda row: (-row["missing"], row["indicator"]))
