"""All that a report says, as one dict of plain JSON types; `figures.json` is this very dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from datasets.schema import Column
from models.scitech_risk.stress import Shock
from training.portfolio import aggregates
from training.portfolio.aggregates import LIMIT, LOSS, UNRATED, rated, ratio
from training.portfolio.migration import migration

NAMED = 12  # companies listed where each needs somebody to look


@dataclass(frozen=True)
class Books:
    """What the figures are made from. under: each shock and the register's answers after it, in the rows' order.

    trades, grades (best first), below (those that a machine may not approve) and acts (codes of the warnings that ask
    for an act) are the contract's and the policy's; severity = lgd x ccf.
    """

    frame: pl.DataFrame  # the register, its good rows, in the order of `answers` without the faulty
    answers: pl.DataFrame
    previous: pl.DataFrame | None
    under: Sequence[tuple[Shock, pl.DataFrame]]
    columns: Sequence[Column]
    trades: Sequence[str]
    grades: Sequence[str]
    below: Sequence[str]
    acts: frozenset[str]
    severity: float


def figures(books: Books) -> dict[str, Any]:
    answers, previous = books.answers, books.previous
    order = [*books.grades, UNRATED]
    now, then = rated(answers), rated(previous) if previous is not None else None
    good = answers.filter(pl.col("error").is_null())
    return {
        "headline": aggregates.headline(answers, books.below) | {"act": _acting(good, books.acts).height},
        "previous": None if previous is None else aggregates.headline(previous, books.below)
        | {"act": _acting(previous, books.acts).height, "month": previous["month"][0]},
        "grades": aggregates.by(now, "grade", order, then),
        "trades": sorted(
            aggregates.by(answers, "trade", books.trades, previous), key=lambda row: (-row["limit"], row["trade"])
        ),
        "matrix_of_trades": _trade_by_grade(now, books.trades, order),
        "concentration": aggregates.concentration(answers),
        "migration": None if previous is None else migration(previous, answers, books.grades),
        "gate": _gate(books.frame, good),
        "warnings": _warnings(good, books.acts),
        "stress": [_stressed(None, good, good, books)]
        + [_stressed(shock, good, after, books) for shock, after in books.under],
        "referral": aggregates.codes(good.filter(pl.col("decision") == "refer"), "referral"),
        "binding": _counted(good.filter(LIMIT > 0), "binding"),
        "quality": _quality(books, good),
    }  # fmt: skip


def _trade_by_grade(frame: pl.DataFrame, trades: Sequence[str], grades: Sequence[str]) -> dict[str, list[float]]:
    """trade -> expected loss of each grade, RMB a year."""
    found = {(t, g): loss for t, g, loss in frame.group_by("trade", "grade").agg(LOSS.sum()).iter_rows()}
    return {trade: [found.get((trade, grade), 0.0) for grade in grades] for trade in trades}


def _gate(frame: pl.DataFrame, good: pl.DataFrame) -> dict[str, Any]:
    """frame and good: the same rows in the same order."""
    verdicts = {name: 0 for name in ("pass", "review", "block")} | dict(
        good.group_by("gate").agg(pl.len()).drop_nulls().iter_rows()
    )
    extra = {"blocked": (pl.col("gate") == "block").sum(), "in_review": (pl.col("gate") == "review").sum()}
    kept = [name for name in ("loop_path", "invoice_loop_share") if name in frame.columns]
    stopped = good.filter(pl.col("gate").is_in(["block", "review"]))
    return {
        "verdicts": verdicts,
        "evidence": aggregates.codes(stopped, "evidence", extra),
        "loops": aggregates.loops(good.hstack(frame.select(kept))) if len(kept) == 2 else [],
        "blocked": stopped.filter(pl.col("gate") == "block")
        .sort(["gate_points", "company_id"], descending=[True, False])
        .head(NAMED)
        .select("company_id", "trade", "grade", "gate_points", "evidence")
        .to_dicts(),
    }


def _warnings(good: pl.DataFrame, acts: frozenset[str]) -> dict[str, Any]:
    found = aggregates.codes(good, "warnings")
    acting = _acting(good, acts)
    return {
        "companies": good.filter(pl.col("warnings").fill_null("") != "").height,
        "codes": [row | {"severity": "act" if row["code"] in acts else "watch"} for row in found],
        "act": acting.height,
        "acting": acting.sort(["held", "company_id"], descending=[True, False])
        .head(NAMED)
        .select("company_id", "trade", "grade", "pd", "held", "decision", "warnings")
        .to_dicts(),
    }


def _acting(frame: pl.DataFrame, acts: frozenset[str]) -> pl.DataFrame:
    """Companies with a warning that asks for an act; `held` is the limit that it could have."""
    told = pl.col("warnings").fill_null("").str.split(";")
    return frame.with_columns(held=pl.col("indicative_limit").fill_null(0)).filter(
        told.list.eval(pl.element().is_in(sorted(acts))).list.any()
    )


def _stressed(shock: Shock | None, good: pl.DataFrame, after: pl.DataFrame, books: Books) -> dict[str, Any]:
    """`loss_on_held`: what the limits of today would cost at the PDs after the shock, as limits granted stay granted.

    `limit` and `expected_loss`: what would be granted anew after it."""
    held = good["limit"].fill_null(0).cast(pl.Float64)
    counts = dict(rated(after).group_by("grade").agg(pl.len()).iter_rows())
    found = after.select(
        limit=LIMIT.sum(),
        expected_loss=LOSS.sum(),
        indicative=pl.col("indicative_limit").fill_null(0).sum(),
        mean_pd=pl.col("pd").mean(),
        approved=(pl.col("decision") == "approve").sum(),
        referred=(pl.col("decision") == "refer").sum(),
        below_floor=pl.col("grade").is_in(list(books.below)).sum(),
    ).row(0, named=True)
    names = ("code", "en", "zh", "why_en", "why_zh", "trade", "rate", "log_odds")
    told = {name: getattr(shock, name) for name in names} if shock else {"code": "base", "trade": ""}
    return {
        **told,
        "effects": [effect.told() for effect in shock.effects] if shock else [],
        "untouched": _untouched(books.frame, shock) if shock else 0,
        "grades": {grade: counts.get(grade, 0) for grade in (*books.grades, UNRATED)},
        "shares": {grade: ratio(counts.get(grade, 0), after.height) for grade in (*books.grades, UNRATED)},
        "loss_on_held": round(float((after["pd"] * held).sum()) * books.severity, 2),
        "newly_below_floor": int(
            (after["grade"].is_in(list(books.below)).fill_null(False)
             & ~good["grade"].is_in(list(books.below)).fill_null(False)).sum()
        ),
        **found,
    }  # fmt: skip


def _untouched(frame: pl.DataFrame, shock: Shock) -> int:
    """Companies that state none of what the shock moves."""
    names = [effect.column for effect in shock.effects if effect.column in frame.columns]
    hit = frame.filter(pl.col("trade") == shock.trade) if shock.trade else frame
    return hit.filter(pl.all_horizontal(pl.col(names).is_null())).height if names else 0


def _counted(frame: pl.DataFrame, column: str) -> list[dict[str, Any]]:
    found = frame.group_by(code=pl.col(column)).agg(companies=pl.len(), limit=LIMIT.sum()).drop_nulls("code")
    return found.sort(["companies", "code"], descending=[True, False]).to_dicts()


def _quality(books: Books, good: pl.DataFrame) -> dict[str, Any]:
    columns = [column for column in books.columns if column.role == "indicator" and column.kind != "text"]
    faulty = books.answers.filter(pl.col("error").is_not_null())
    return {
        "rows": books.answers.height,
        "faulty": faulty.height,
        "faults": faulty.head(NAMED).select("row", "company_id", "error", "error_zh").to_dicts(),
        "missing": aggregates.quality(books.frame, columns),
        "known_share": good["known_share"].mean() if "known_share" in good.columns else None,
        "unrated": good.filter(pl.col("grade").is_null()).height,
    }


def flat(found: Mapping[str, Any]) -> dict[str, float]:
    """The figures that a tracking server keeps, by name."""
    head = found["headline"]
    told = {name: head[name] for name in (
        "companies", "faulty", "approved", "referred", "blocked", "below_floor", "unrated", "act",
        "limit", "indicative", "expected_loss", "loss_rate", "mean_pd", "innovation")}  # fmt: skip
    told |= {f"grade/{row['grade']}": row["companies"] for row in found["grades"]}
    held = found["concentration"]
    told |= {name: held[name] for name in ("largest_share", "top_share", "hhi_trades", "hhi_companies")}
    for row in found["stress"][1:]:
        for name in ("limit", "expected_loss", "loss_on_held", "below_floor", "mean_pd"):
            told[f"stress/{row['code']}/{name}"] = row[name]
    moved = found["migration"]
    if moved:
        told |= {f"migration/{name}": moved[name] for name in (
            "share_up", "share_down", "new", "gone", "newly_blocked", "released")}  # fmt: skip
    return {name: float(value) for name, value in told.items() if value is not None}
