"""Answers of an invented register with the columns that a run writes, for the tests of the portfolio."""

from __future__ import annotations

import numpy as np
import polars as pl

from datasets.scitech_risk.register.schema import TABLE
from training.portfolio.summary import PortfolioData

GRADES = ["AAA", "AA", "A", "BBB", "BB", "B", "CCC", "CC", "C"]
EDGES = [0.003, 0.007, 0.015, 0.03, 0.06, 0.10, 0.20, 0.35, 1.0]
BELOW = GRADES[6:]
SEVERITY = 0.45


def answers(rows: int = 300, seed: int = 1, month: str = "2026-09", first: int = 0, shift: float = 0.0) -> pl.DataFrame:
    """Companies `first` to `first + rows`; a company has about the same PD under every seed."""
    rng = np.random.default_rng(seed)
    company_effect = np.random.default_rng(7).normal(size=10_000)[first : first + rows]
    pd = np.round(1 / (1 + np.exp(3.3 - shift - 1.2 * company_effect - 0.3 * rng.normal(size=rows))), 6)
    gate = rng.choice(["pass", "review", "block"], rows, p=[0.9, 0.05, 0.05])
    limit = np.floor(np.exp(rng.normal(14, 1, rows)) / 10_000).astype(np.int64) * 10_000
    limit[gate == "block"] = 0
    refer = (pd > 0.10) | (gate != "pass")
    known_share = rng.uniform(0.4, 1, rows)
    frame = pl.DataFrame(
        {
            "row": np.arange(1, rows + 1),
            "company_id": [f"C{first + index:05d}" for index in range(rows)],
            "trade": np.random.default_rng(3).choice(TABLE["trade"].levels, 10_000)[first : first + rows],
            "decision_id": [f"run-{row}" for row in range(1, rows + 1)],
            "decision": np.where(refer, "refer", "approve"),
            "limit": pl.Series(limit).set(pl.Series(refer & (gate != "block")), None),
            "indicative_limit": limit,
            "pd": pd,
            "grade": pl.Series(np.array(GRADES)[np.searchsorted(EDGES, pd)]).set(pl.Series(known_share < 0.5), None),
            "innovation": rng.uniform(10, 90, rows),
            "gate": gate,
            "gate_points": np.where(gate == "block", 70, 0),
            "evidence": np.where(gate == "pass", "", "invoice_loop;no_insured_staff"),
            "warnings": rng.choice(["", "late_filings", "overdue_30_days;late_filings"], rows, p=[0.8, 0.1, 0.1]),
            "referral": np.where(refer, "below_floor_grade", ""),
            "binding": rng.choice(["backing", "loss_budget"], rows),
            "known_share": known_share,
            "error": pl.Series([None] * rows, dtype=pl.String),
            "error_zh": pl.Series([None] * rows, dtype=pl.String),
            "month": month,
            "model": "scitech_risk",
            "version": "1",
            "simulated": True,
        }
    )
    return frame.with_columns(expected_loss=(pl.col("pd") * SEVERITY * pl.col("limit")).round(2))


def portfolio_data(current: pl.DataFrame, previous: pl.DataFrame | None = None, stressed=()) -> PortfolioData:
    """The inputs of the figures; the register has one invoice loop of three companies."""
    ids = current["company_id"].to_list()
    loop = ids[:3]
    paths = [" > ".join([*loop[index:], *loop[: index + 1]]) if index < 3 else None for index in range(current.height)]
    frame = current.select(
        "company_id",
        "trade",
        revenue=pl.when(pl.col("row") % 3 == 0).then(None).otherwise(1_000.0),
        loop_path=pl.Series(paths, dtype=pl.String),
        invoice_loop_share=pl.Series([0.6 if path else 0.0 for path in paths]),
    )
    return PortfolioData(
        frame=frame,
        answers=current,
        previous=previous,
        stressed=stressed,
        columns=TABLE.columns,
        trades=TABLE["trade"].levels,
        grades=GRADES,
        below_floor=BELOW,
        act_codes=frozenset({"overdue_30_days"}),
        severity=SEVERITY,
    )
