"""Weekly series of a model: its decisions, the drift of its inputs and score, and outcomes against predictions."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa

from models.card import DriftProfile
from models.drift import psi, unflatten
from models.metrics import Interval
from serving.decisions.input_counts import decode_counts
from serving.governance.monitoring import statistics

Row = dict[str, Any]
MAX_WEEKS = 53  # the newest ones
TOP_DRIFTED = 3  # inputs with the largest drift


def decision_series(
    reference: tuple[DriftProfile, str] | None, input_counts: list[sa.Row[Any]], outcomes: list[sa.Row[Any]]
) -> list[Row]:
    """One item for each week with decisions or outcomes, oldest first.

    reference: (distribution in training, digest of its bundle), for the drift; None where there is none.
    """
    counts_by_week, outcomes_by_week = (
        _by_week(input_counts, lambda row: row.day),
        _by_week(outcomes, lambda row: row.made),
    )
    series = []
    for week in sorted({*counts_by_week, *outcomes_by_week})[-MAX_WEEKS:]:
        decisions: Tally[str] = Tally()
        for row in counts_by_week.get(week, []):
            decisions.update(row.said)
        resolved = [
            row
            for row in outcomes_by_week.get(week, [])
            if row.outcome in ("repaid", "defaulted") and row.score is not None
        ]
        pd = np.array([row.score for row in resolved], float)
        is_default = np.array([row.outcome == "defaulted" for row in resolved], bool)
        calibration = statistics.calibration(pd, is_default)
        series.append(
            {
                "week": week,
                "decisions": decisions.total(),
                "positive_rate": _interval_json(statistics.proportion(decisions["approve"], decisions.total())),
                "outcomes": {"total": len(resolved), "defaulted": int(is_default.sum()), "stated": float(pd.sum())},
                "auc": _interval_json(statistics.auc(pd, is_default)),
                "ratio": None if calibration is None else _interval_json(calibration.ratio),
                **_drift(reference, counts_by_week.get(week, [])),
            }
        )
    return series


def slide_series(slides: list[sa.Row[Any]]) -> list[Row]:
    """One item for each week with slides, oldest first."""
    series = []
    by_week = _by_week(slides, lambda row: row.created)
    for week in sorted(by_week)[-MAX_WEEKS:]:
        triages = Tally(row.triage for row in by_week[week])
        flagged = triages["positive"] + triages["review"]
        series.append(
            {
                "week": week,
                "slides": triages.total(),
                "positive_rate": _interval_json(statistics.proportion(flagged, triages.total())),
                "abstained_rate": _interval_json(statistics.proportion(triages["abstained"], triages.total())),
            }
        )
    return series


def _drift(reference: tuple[DriftProfile, str] | None, input_counts: Iterable[sa.Row[Any]]) -> Row:
    """The population stability index of the score and of the TOP_DRIFTED inputs; None where nothing was counted."""
    counts = [
        decode_counts(row.counts) for row in input_counts if reference and row.bundle == reference[1] and row.counts
    ]
    if not counts or reference is None:
        return {"rows": 0, "psi": None, "moved": []}
    drift = reference[0]
    bins = (*drift.inputs, drift.score)
    current = unflatten(drift, np.sum(counts, axis=0))
    psi_values = [
        float(psi(np.array(reference_bin.counts)[None], current_counts[None])[0])
        for reference_bin, current_counts in zip(bins, current, strict=True)
    ]
    top_indices = np.argsort(psi_values[:-1])[::-1][:TOP_DRIFTED]
    top_drifted = [{"name": bins[i].name, "psi": psi_values[i]} for i in top_indices]
    return {"rows": int(current[-1].sum()), "psi": psi_values[-1], "moved": top_drifted}


def _by_week(rows: Iterable[sa.Row[Any]], get_day: Callable[[sa.Row[Any]], str]) -> dict[str, list[sa.Row[Any]]]:
    """Monday of the week (UTC, ISO 8601) -> its rows."""
    weeks: dict[str, list[sa.Row[Any]]] = {}
    for row in rows:
        row_date = date.fromisoformat(get_day(row)[:10])
        weeks.setdefault((row_date - timedelta(days=row_date.weekday())).isoformat(), []).append(row)
    return weeks


def _interval_json(interval: Interval | None) -> Row | None:
    return None if interval is None else dict(zip(("value", "low", "high"), interval, strict=True))
