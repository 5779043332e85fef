"""A run's answers as figures: totals, grades, trades, concentration. Money is RMB; a limit not granted counts as 0.

Every function takes the answers as they are written, so a figure can be had again from the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

UNRATED = "unrated"  # too little is known for a grade, or the row is faulty
TOP = 20
LIMIT, LOSS = pl.col("limit").fill_null(0), pl.col("expected_loss").fill_null(0.0)
TOTALS = {
    "companies": pl.len(),
    "limit": LIMIT.sum(),
    "expected_loss": LOSS.sum().round(2),
    "mean_pd": pl.col("pd").mean(),
}


def rated(frame: pl.DataFrame) -> pl.DataFrame:
    """With `grade` never null."""
    return frame.with_columns(pl.col("grade").fill_null(UNRATED))


def headline(frame: pl.DataFrame, floor: Sequence[str]) -> dict[str, Any]:
    """What the first page says. floor: the grades that a machine may not approve."""
    found = frame.select(
        **TOTALS,
        faulty=pl.col("error").is_not_null().sum(),
        approved=(pl.col("decision") == "approve").sum(),
        referred=(pl.col("decision") == "refer").sum(),
        with_limit=(LIMIT > 0).sum(),
        indicative=pl.when(pl.col("limit").is_null()).then(pl.col("indicative_limit")).fill_null(0).sum(),
        blocked=(pl.col("gate") == "block").sum(),
        in_review=(pl.col("gate") == "review").sum(),
        below_floor=pl.col("grade").is_in(list(floor)).sum(),
        unrated=pl.col("grade").is_null().sum(),
        innovation=pl.col("innovation").mean(),
    ).row(0, named=True)
    return found | {"loss_rate": ratio(found["expected_loss"], found["limit"])}


def ratio(part: float, whole: float) -> float:
    """0 where there is no whole."""
    return part / whole if whole else 0.0


def by(
    frame: pl.DataFrame, column: str, order: Sequence[str], before: pl.DataFrame | None = None
) -> list[dict[str, Any]]:
    """Totals for each of `order`, those without a company too; `before_*` are the previous run's."""
    now = _totals(frame, column)
    then = _totals(before, column) if before is not None else {}
    none = {"companies": 0, "limit": 0, "expected_loss": 0.0, "mean_pd": None}
    told = []
    for name in [*order, *sorted(now.keys() - set(order))]:
        row = {column: name, **now.get(name, none)}
        row["share"] = ratio(row["companies"], frame.height)
        row["loss_rate"] = ratio(row["expected_loss"], row["limit"])
        if before is not None:
            row |= {f"before_{key}": value for key, value in then.get(name, none).items()}
            row["before_share"] = ratio(row["before_companies"], before.height)
        told.append(row)
    return told


def _totals(frame: pl.DataFrame, column: str) -> dict[str, dict[str, Any]]:
    found = frame.group_by(pl.col(column).fill_null(UNRATED)).agg(**TOTALS).to_dicts()
    return {row.pop(column): row for row in found}


def concentration(frame: pl.DataFrame) -> dict[str, Any]:
    """Shares of the sum of limits. A Herfindahl index is a sum of squared shares: 1 / n where n are equal."""
    whole = frame.select(LIMIT.sum()).item()
    trades = frame.group_by("trade").agg(limit=LIMIT.sum())["limit"]
    limits = frame.select(limit=LIMIT)["limit"].sort(descending=True)
    top = (
        frame.with_columns(limit=LIMIT, expected_loss=LOSS)
        .filter(pl.col("limit") > 0)
        .sort(["limit", "expected_loss", "company_id"], descending=[True, True, False], maintain_order=True)
        .head(TOP)
    )
    named = ("company_id", "trade", "grade", "pd", "limit", "expected_loss", "gate", "binding")
    return {
        "largest_share": ratio(limits[0] if len(limits) else 0, whole),
        "top_share": ratio(float(limits.head(TOP).sum()), whole),
        "hhi_trades": _herfindahl(trades, whole),
        "hhi_companies": _herfindahl(limits, whole),
        "top": [row | {"share": ratio(row["limit"], whole)} for row in top.select(named).to_dicts()],
    }


def _herfindahl(parts: pl.Series, whole: float) -> float:
    shares = parts.cast(pl.Float64) / whole if whole else parts.cast(pl.Float64) * 0
    return float((shares * shares).sum())


def codes(frame: pl.DataFrame, column: str, extra: dict[str, pl.Expr] | None = None) -> list[dict[str, Any]]:
    """How many companies each code of a ';' column has, most first."""
    more = extra or {}
    return (
        frame.filter(pl.col(column).is_not_null() & (pl.col(column) != ""))
        .with_columns(code=pl.col(column).str.split(";"))
        .explode("code")
        .filter(pl.col("code").is_not_null())
        .group_by("code")
        .agg(companies=pl.len(), limit=LIMIT.sum(), **more)
        .sort(["companies", "code"], descending=[True, False])
        .to_dicts()
    )


def loops(frame: pl.DataFrame, most: int = 10) -> list[dict[str, Any]]:
    """The largest invoice loops, each once: its members tell it from where they stand. `frame` has `loop_path`."""
    if "loop_path" not in frame.columns:
        return []
    found = (
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
        .head(most)
    )
    return found.drop("members").to_dicts()


def quality(frame: pl.DataFrame, columns: Sequence[Any]) -> list[dict[str, Any]]:
    """The share of companies that state no value, for each indicator that lacks one, most first."""
    names = [column.name for column in columns if column.name in frame.columns]
    missing = frame.select(pl.col(names).null_count()).row(0, named=True) if names and frame.height else {}
    told = [{"indicator": name, "missing": ratio(count, frame.height)} for name, count in missing.items() if count]
    return sorted(told, key=lambda row: (-row["missing"], row["indicator"]))
