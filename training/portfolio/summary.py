"""Compute all figures of a report as one dict of JSON types, which is written to `figures.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from datasets.schema import ColumnSchema
from models.scitech_risk.stress import Shock
from training.portfolio import aggregates
from training.portfolio.aggregates import LIMIT_EXPR, LOSS_EXPR, UNRATED, fill_unrated, safe_ratio
from training.portfolio.migration import migration_figures

MAX_LISTED = 12  # companies in a list of those that need attention


@dataclass(frozen=True)
class PortfolioData:
    """What the figures are computed from. stressed: each shock with the answers after it, in the order of the rows.

    trades are those of the schema; grades (best first), below_floor (never approved automatically) and act_codes
    (warnings that require action) those of the policy; severity = lgd x ccf.
    """

    frame: pl.DataFrame  # the valid rows of the register, in the order of `answers` without the faulty ones
    answers: pl.DataFrame
    previous: pl.DataFrame | None
    stressed: Sequence[tuple[Shock, pl.DataFrame]]
    columns: Sequence[ColumnSchema]
    trades: Sequence[str]
    grades: Sequence[str]
    below_floor: Sequence[str]
    act_codes: frozenset[str]
    severity: float


def compute_figures(data: PortfolioData) -> dict[str, Any]:
    """Every figure of the report, by section."""
    answers, previous = data.answers, data.previous
    order = [*data.grades, UNRATED]
    current, previous_rated = fill_unrated(answers), fill_unrated(previous) if previous is not None else None
    valid = answers.filter(pl.col("error").is_null())
    return {
        "headline": aggregates.headline_figures(answers, data.below_floor)
        | {"act": _companies_to_act_on(valid, data.act_codes).height},
        "previous": None if previous is None else aggregates.headline_figures(previous, data.below_floor)
        | {"act": _companies_to_act_on(previous, data.act_codes).height, "month": previous["month"][0]},
        "grades": aggregates.group_totals(current, "grade", order, previous_rated),
        "trades": sorted(
            aggregates.group_totals(answers, "trade", data.trades, previous),
            key=lambda row: (-row["limit"], row["trade"]),
        ),
        "matrix_of_trades": _trade_by_grade(current, data.trades, order),
        "concentration": aggregates.concentration_figures(answers),
        "migration": None if previous is None else migration_figures(previous, answers, data.grades),
        "gate": _gate_figures(data.frame, valid),
        "warnings": _warning_figures(valid, data.act_codes),
        "stress": [_stress_figures(None, valid, valid, data)]
        + [_stress_figures(shock, valid, stressed_answers, data) for shock, stressed_answers in data.stressed],
        "referral": aggregates.count_codes(valid.filter(pl.col("decision") == "refer"), "referral"),
        "binding": _count_values(valid.filter(LIMIT_EXPR > 0), "binding"),
        "quality": _quality_figures(data, valid),
    }  # fmt: skip


def _trade_by_grade(frame: pl.DataFrame, trades: Sequence[str], grades: Sequence[str]) -> dict[str, list[float]]:
    """Expected loss by trade, for each grade, RMB a year."""
    losses = {(t, g): loss for t, g, loss in frame.group_by("trade", "grade").agg(LOSS_EXPR.sum()).iter_rows()}
    return {trade: [losses.get((trade, grade), 0.0) for grade in grades] for trade in trades}


def _gate_figures(frame: pl.DataFrame, valid: pl.DataFrame) -> dict[str, Any]:
    """Figures of the shell gate; `frame` and `valid` have the same rows in the same order."""
    verdicts = {name: 0 for name in ("pass", "review", "block")} | dict(
        valid.group_by("gate").agg(pl.len()).drop_nulls().iter_rows()
    )
    extra = {"blocked": (pl.col("gate") == "block").sum(), "in_review": (pl.col("gate") == "review").sum()}
    loop_columns = [name for name in ("loop_path", "invoice_loop_share") if name in frame.columns]
    flagged = valid.filter(pl.col("gate").is_in(["block", "review"]))
    return {
        "verdicts": verdicts,
        "evidence": aggregates.count_codes(flagged, "evidence", extra),
        "loops": aggregates.largest_loops(valid.hstack(frame.select(loop_columns))) if len(loop_columns) == 2 else [],
        "blocked": flagged.filter(pl.col("gate") == "block")
        .sort(["gate_points", "company_id"], descending=[True, False])
        .head(MAX_LISTED)
        .select("company_id", "trade", "grade", "gate_points", "evidence")
        .to_dicts(),
    }


def _warning_figures(valid: pl.DataFrame, act_codes: frozenset[str]) -> dict[str, Any]:
    code_counts = aggregates.count_codes(valid, "warnings")
    to_act_on = _companies_to_act_on(valid, act_codes)
    return {
        "companies": valid.filter(pl.col("warnings").fill_null("") != "").height,
        "codes": [row | {"severity": "act" if row["code"] in act_codes else "watch"} for row in code_counts],
        "act": to_act_on.height,
        "acting": to_act_on.sort(["held", "company_id"], descending=[True, False])
        .head(MAX_LISTED)
        .select("company_id", "trade", "grade", "pd", "held", "decision", "warnings")
        .to_dicts(),
    }


def _companies_to_act_on(frame: pl.DataFrame, act_codes: frozenset[str]) -> pl.DataFrame:
    """Companies with a warning that requires action; `held` is the limit that each could have."""
    codes = pl.col("warnings").fill_null("").str.split(";")
    return frame.with_columns(held=pl.col("indicative_limit").fill_null(0)).filter(
        codes.list.eval(pl.element().is_in(sorted(act_codes))).list.any()
    )


def _stress_figures(
    shock: Shock | None, valid: pl.DataFrame, stressed: pl.DataFrame, data: PortfolioData
) -> dict[str, Any]:
    """Figures of one shock, or of the current state for None.

    loss_on_held: expected loss of today's limits at the PDs after the shock. limit, expected_loss: after a
    reassessment.
    """
    current_limits = valid["limit"].fill_null(0).cast(pl.Float64)
    counts = dict(fill_unrated(stressed).group_by("grade").agg(pl.len()).iter_rows())
    totals = stressed.select(
        limit=LIMIT_EXPR.sum(),
        expected_loss=LOSS_EXPR.sum(),
        indicative=pl.col("indicative_limit").fill_null(0).sum(),
        mean_pd=pl.col("pd").mean(),
        approved=(pl.col("decision") == "approve").sum(),
        referred=(pl.col("decision") == "refer").sum(),
        below_floor=pl.col("grade").is_in(list(data.below_floor)).sum(),
    ).row(0, named=True)
    names = ("code", "en", "zh", "why_en", "why_zh", "trade", "rate", "log_odds")
    description = {name: getattr(shock, name) for name in names} if shock else {"code": "base", "trade": ""}
    return {
        **description,
        "effects": [effect.describe() for effect in shock.effects] if shock else [],
        "untouched": _count_unaffected(data.frame, shock) if shock else 0,
        "grades": {grade: counts.get(grade, 0) for grade in (*data.grades, UNRATED)},
        "shares": {grade: safe_ratio(counts.get(grade, 0), stressed.height) for grade in (*data.grades, UNRATED)},
        "loss_on_held": round(float((stressed["pd"] * current_limits).sum()) * data.severity, 2),
        "newly_below_floor": int(
            (stressed["grade"].is_in(list(data.below_floor)).fill_null(False)
             & ~valid["grade"].is_in(list(data.below_floor)).fill_null(False)).sum()
        ),
        **totals,
    }  # fmt: skip


def _count_unaffected(frame: pl.DataFrame, shock: Shock) -> int:
    """Number of companies without a value in any column that the shock changes."""
    names = [effect.column for effect in shock.effects if effect.column in frame.columns]
    affected = frame.filter(pl.col("trade") == shock.trade) if shock.trade else frame
    return affected.filter(pl.all_horizontal(pl.col(names).is_null())).height if names else 0


def _count_values(frame: pl.DataFrame, column: str) -> list[dict[str, Any]]:
    counts = frame.group_by(code=pl.col(column)).agg(companies=pl.len(), limit=LIMIT_EXPR.sum()).drop_nulls("code")
    return counts.sort(["companies", "code"], descending=[True, False]).to_dicts()


def _quality_figures(data: PortfolioData, valid: pl.DataFrame) -> dict[str, Any]:
    columns = [column for column in data.columns if column.role == "indicator" and column.kind != "text"]
    faulty = data.answers.filter(pl.col("error").is_not_null())
    return {
        "rows": data.answers.height,
        "faulty": faulty.height,
        "faults": faulty.head(MAX_LISTED).select("row", "company_id", "error", "error_zh").to_dicts(),
        "missing": aggregates.missing_shares(data.frame, columns),
        "known_share": valid["known_share"].mean() if "known_share" in valid.columns else None,
        "unrated": valid.filter(pl.col("grade").is_null()).height,
    }


def flatten_metrics(figures: Mapping[str, Any]) -> dict[str, float]:
    """The figures that MLflow records, by name."""
    headline = figures["headline"]
    metrics = {name: headline[name] for name in (
        "companies", "faulty", "approved", "referred", "blocked", "below_floor", "unrated", "act",
        "limit", "indicative", "expected_loss", "loss_rate", "mean_pd", "innovation")}  # fmt: skip
    metrics |= {f"grade/{row['grade']}": row["companies"] for row in figures["grades"]}
    concentration = figures["concentration"]
    metrics |= {name: concentration[name] for name in ("largest_share", "top_share", "hhi_trades", "hhi_companies")}
    for row in figures["stress"][1:]:
        for name in ("limit", "expected_loss", "loss_on_held", "below_floor", "mean_pd"):
            metrics[f"stress/{row['code']}/{name}"] = row[name]
    migration_metrics = figures["migration"]
    if migration_metrics:
        metrics |= {f"migration/{name}": migration_metrics[name] for name in (
            "share_up", "share_down", "new", "gone", "newly_blocked", "released")}  # fmt: skip
    return {name: float(value) for name, value in metrics.items() if value is not None}
