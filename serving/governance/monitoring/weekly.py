"""How a model did week by week: what was asked and said, how far its scores moved, how outcomes met what was stated."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa

from models.card import Drift
from models.drift import apart
from serving.decisions.input_counts import unpacked
from serving.governance.monitoring import statistics

Row = dict[str, Any]
MOST = 53  # weeks, the newest
WORST = 3  # inputs that moved most


def of_decisions(
    reference: tuple[Drift, str] | None, counted: list[sa.Row[Any]], outcomes: list[sa.Row[Any]]
) -> list[Row]:
    """reference: the spread of training, and the digest of the bundle whose bins were counted by."""
    asked, ended = _by_week(counted, lambda row: row.day), _by_week(outcomes, lambda row: row.made)
    told = []
    for week in sorted({*asked, *ended})[-MOST:]:
        said: Tally[str] = Tally()
        for row in asked.get(week, []):
            said.update(row.said)
        known = [row for row in ended.get(week, []) if row.outcome in ("repaid", "defaulted") and row.score is not None]
        pd = np.array([row.score for row in known], float)
        bad = np.array([row.outcome == "defaulted" for row in known], bool)
        calibration = statistics.calibration(pd, bad)
        told.append(
            {
                "week": week,
                "decisions": said.total(),
                "positive_rate": _told(statistics.share(said["approve"], said.total())),
                "outcomes": {"total": len(known), "defaulted": int(bad.sum()), "stated": float(pd.sum())},
                "auc": _told(statistics.auc(pd, bad)),
                "ratio": None if calibration is None else _told(calibration.ratio),
                **_moved(reference, asked.get(week, [])),
            }
        )
    return told


def of_slides(read: list[sa.Row[Any]]) -> list[Row]:
    told = []
    by_week = _by_week(read, lambda row: row.created)
    for week in sorted(by_week)[-MOST:]:
        said = Tally(row.triage for row in by_week[week])
        flagged = said["positive"] + said["review"]
        told.append(
            {
                "week": week,
                "slides": said.total(),
                "positive_rate": _told(statistics.share(flagged, said.total())),
                "abstained_rate": _told(statistics.share(said["abstained"], said.total())),
            }
        )
    return told


def _moved(reference: tuple[Drift, str] | None, counted: Iterable[sa.Row[Any]]) -> Row:
    """The population stability index of the score and of the inputs that moved most; nothing where none was counted."""
    counts = [unpacked(row.counts) for row in counted if reference and row.bundle == reference[1] and row.counts]
    if not counts or reference is None:
        return {"rows": 0, "psi": None, "moved": []}
    drift = reference[0]
    bins = (*drift.inputs, drift.score)
    now = apart(drift, np.sum(counts, axis=0))
    index = [
        float(statistics.psi(np.array(one.counts)[None], recent[None])[0])
        for one, recent in zip(bins, now, strict=True)
    ]
    most = np.argsort(index[:-1])[::-1][:WORST]
    moved = [{"name": bins[i].name, "psi": index[i]} for i in most]
    return {"rows": int(now[-1].sum()), "psi": index[-1], "moved": moved}


def _by_week(rows: Iterable[sa.Row[Any]], day: Callable[[sa.Row[Any]], str]) -> dict[str, list[sa.Row[Any]]]:
    """By the Monday of each week, UTC."""
    found: dict[str, list[sa.Row[Any]]] = {}
    for row in rows:
        at = date.fromisoformat(day(row)[:10])
        found.setdefault((at - timedelta(days=at.weekday())).isoformat(), []).append(row)
    return found


def _told(found: statistics.Interval | None) -> Row | None:
    return None if found is None else dict(zip(("value", "low", "high"), found, strict=True))
