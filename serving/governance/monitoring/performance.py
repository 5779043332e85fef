"""How good the answers were and whether what is asked still looks as it did in training: by model version and tenant.

Discrimination and calibration are of the newest outcome about each decision; drift and the shares of decisions of what
serving/decisions/input_counts.py has counted.
"""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections.abc import Iterable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from models.card import Drift
from models.drift import apart
from serving.core.db.lookup import whose
from serving.core.db.schema import INPUT_COUNTS, OUTCOMES, OVERRIDES, SLIDE_REPORTS, SLIDES
from serving.decisions.input_counts import unpacked
from serving.governance.lineage import trace
from serving.governance.monitoring import statistics
from serving.governance.monitoring import weekly as weeks
from serving.governance.monitoring.outcomes import CODES, NEGATIVE, NO_DIAGNOSIS
from serving.pathology.slides import turnaround
from serving.settings import Settings

Row = dict[str, Any]
Key = tuple[str, str, str]  # model, version, tenant

ONE_SECOND = np.timedelta64(1, "s")
ALARM = 0.05  # share of false alarms among the inputs that are told as drifted
MOST_SLIDES = 20_000  # the newest
FLAGGED = ("positive", "review")
SIGNED_CODE = re.compile(rf"({'|'.join(sorted(CODES, key=len, reverse=True))})(?![\w-])", re.IGNORECASE)
REMARKS = {
    "selected": (
        "Outcomes come of approved credit alone: the figures hold for those who were granted it, not for who asked.",
        "仅获批者有还款结果：数值适用于获批人群，而非全部申请人。",
    ),
    "too_few": (
        f"Fewer than {statistics.LEAST} of either outcome: nothing can be said of discrimination or calibration yet.",
        f"某一类结果少于 {statistics.LEAST} 例：尚不能评价区分度与校准。",
    ),
    "no_reference": (
        "The model's card has no reference spread, or the bundle is gone: drift cannot be told. Train it anew.",
        "模型卡片没有参照分布，或模型包已不在：无法判断漂移。请重新训练。",
    ),
    "verified": (
        "Negatives are signed only where drawn for audit; sensitivity and specificity are corrected for that.",
        "阴性片仅抽检者有签发诊断；敏感度与特异度已就此校正。",
    ),
}


def gather(
    connection: sa.Connection,
    settings: Settings,
    *,
    tenant: str | None = None,
    model: str | None = None,
    since: str = "",
    weekly: bool = False,
) -> list[Row]:
    """One for each model version and tenant that was asked anything since the day `since`; `tenant` None: all. weekly:
    with a `series` of its weeks."""
    counted = _counted(connection, tenant, model, since)
    outcomes = _newest(connection, OUTCOMES, tenant, model, since)
    overrides = _newest(connection, OVERRIDES, tenant, model, since)
    slides = _slides(connection, tenant, model, since)
    told = [
        _of_decisions(settings, key, counted.get(key, []), outcomes.get(key, []), overrides.get(key, []))
        for key in sorted({*counted, *overrides, *(k for k, rows in outcomes.items() if rows[0].kind == "decision")})
    ]
    told += [_of_slides(connection, key, slides[key], outcomes.get(key, [])) for key in sorted(slides)]
    for one in told if weekly else []:
        key = one["model"], one["version"], one["tenant"]
        if one["kind"] == "slides":
            one["series"] = weeks.of_slides(slides[key])
        else:
            drift = _reference(settings, key, counted.get(key, []))
            one["series"] = weeks.of_decisions(drift, counted.get(key, []), outcomes.get(key, []))
    return told


def _chosen(table: sa.Table, tenant: str | None, model: str | None) -> sa.Select[Any]:
    chosen = sa.select(table).where(whose(table, tenant))
    return chosen if model is None else chosen.where(table.c.model == model)


def _counted(
    connection: sa.Connection, tenant: str | None, model: str | None, since: str
) -> dict[Key, list[sa.Row[Any]]]:
    chosen = _chosen(INPUT_COUNTS, tenant, model).where(INPUT_COUNTS.c.day >= since).order_by(INPUT_COUNTS.c.day)
    return _by_key(connection.execute(chosen))


def _newest(
    connection: sa.Connection, table: sa.Table, tenant: str | None, model: str | None, since: str
) -> dict[Key, list[sa.Row[Any]]]:
    """The newest about each decision that was made since."""
    chosen = _chosen(table, tenant, model).where(table.c.made >= since).order_by(table.c.id)
    newest = {(row.tenant, row.about): row for row in connection.execute(chosen)}
    return _by_key(newest.values())


def _by_key(rows: Iterable[sa.Row[Any]]) -> dict[Key, list[sa.Row[Any]]]:
    found: dict[Key, list[sa.Row[Any]]] = {}
    for row in rows:
        found.setdefault((row.model, row.version, row.tenant), []).append(row)
    return found


def _head(key: Key, kind: str) -> Row:
    return {"kind": kind, "model": key[0], "version": key[1], "tenant": key[2]}


# --- decisions


def _of_decisions(
    settings: Settings, key: Key, counted: list[sa.Row[Any]], outcomes: list[sa.Row[Any]], overrides: list[sa.Row[Any]]
) -> Row:
    said: Tally[str] = Tally()
    for row in counted:
        said.update(row.said)
    many = said.total()
    ended = [row for row in outcomes if row.outcome in ("repaid", "defaulted") and row.score is not None]
    pd = np.array([row.score for row in ended], float)
    bad = np.array([row.outcome == "defaulted" for row in ended], bool)
    found = {
        "decisions": many,
        "said": dict(sorted(said.items())),
        "positive_rate": _interval(statistics.share(said["approve"], many)),
        "overrides": len(overrides),
        "override_rate": _interval(statistics.share(min(len(overrides), many), many)),
        "outcomes": {"total": len(ended), "defaulted": int(bad.sum())},
        "auc": _interval(statistics.auc(pd, bad)),
        "calibration": _calibration(statistics.calibration(pd, bad)),
        "drift": _drift(settings, key, counted),
    }
    remarks = ["selected"] if ended else []
    remarks += ["too_few"] if ended and found["auc"] is None else []
    remarks += ["no_reference"] if counted and found["drift"] is None else []
    return _head(key, "decisions") | found | {"remarks": _remarks(remarks)}


def _drift(settings: Settings, key: Key, counted: list[sa.Row[Any]]) -> Row | None:
    """Of the bundle that was asked last, should a version have been published twice."""
    counts = [unpacked(row.counts) for row in counted if row.bundle == counted[-1].bundle and row.counts]
    kept = _card(settings, key[0], key[1], counted[-1].bundle) if counts else None
    drift = None if kept is None or kept.card is None else kept.card.drift
    if kept is None or kept.card is None or drift is None:
        return None
    bins = (*drift.inputs, drift.score)
    now = apart(drift, np.sum(counts, axis=0))
    found = statistics.shifts([one.name for one in bins], [np.array(one.counts) for one in bins], now)
    labels = {column.name: (column.label, column.label_zh) for column in kept.card.inputs}
    told = []
    for shift, one, recent in zip(found, bins, now, strict=True):
        en, zh = labels.get(shift.name, ("probability of default", "违约概率"))
        rows = asdict(shift) | {"drifted": shift.q <= ALARM, "en": en, "zh": zh}
        told.append(rows | {"before": list(one.counts), "after": recent.tolist()})
    return {"rows": int(now[-1].sum()), "reference_rows": drift.rows, "inputs": told[:-1], "score": told[-1]}


def _reference(settings: Settings, key: Key, counted: list[sa.Row[Any]]) -> tuple[Drift, str] | None:
    """(the spread of training, the digest of its bundle), of what was asked last."""
    kept = _card(settings, key[0], key[1], counted[-1].bundle) if counted else None
    drift = None if kept is None or kept.card is None else kept.card.drift
    return None if drift is None else (drift, counted[-1].bundle)


def _card(settings: Settings, model: str, version: str, bundle: str) -> trace.Kept | None:
    """Whose spread the counts were counted by; None where that bundle is not on the disk any more."""
    try:
        return _kept(settings.paths.bundles, settings.paths.public_key, model, version, bundle)
    except LookupError:
        return None


@lru_cache(maxsize=32)
def _kept(bundles: Path, public_key: Path, model: str, version: str, bundle: str) -> trace.Kept:
    """Verified once. Raises LookupError."""
    kept = trace.bundle_in(bundles, public_key, model, version)
    if kept is None or kept.digest != bundle:
        raise LookupError(bundle)
    return kept


# --- slides


def _slides(
    connection: sa.Connection, tenant: str | None, model: str | None, since: str
) -> dict[Key, list[sa.Row[Any]]]:
    columns = [column for column in SLIDES.c if column.name not in ("reading", "request", "reasons", "notes")]
    chosen = sa.select(*columns).where(SLIDES.c.triage.is_not(None), whose(SLIDES, tenant), SLIDES.c.created >= since)
    if model is not None:
        chosen = chosen.where(SLIDES.c.model == model)
    return _by_key(connection.execute(chosen.order_by(SLIDES.c.id.desc()).limit(MOST_SLIDES)))


def _of_slides(connection: sa.Connection, key: Key, read: list[sa.Row[Any]], outcomes: list[sa.Row[Any]]) -> Row:
    ids = [row.id for row in read]
    truth = _signed(connection, ids) | {row.about: row.code for row in outcomes if row.outcome == "diagnosis"}
    ill = {slide: code not in NEGATIVE for slide, code in truth.items() if code not in NO_DIAGNOSIS}
    said = Tally(row.triage for row in read)
    groups = [row.id for row in read if row.triage in FLAGGED], [row.id for row in read if row.triage == "negative"]
    looked = [[slide for slide in group if slide in ill] for group in groups]
    flagged, rest = ((len(g), len(v), sum(ill[s] for s in v)) for g, v in zip(groups, looked, strict=True))
    ways = statistics.both_ways((flagged[0], rest[0]), (flagged[1], rest[1]), (flagged[2], rest[2]))
    known = [row for row in outcomes if row.score is not None and row.about in ill]
    score = np.array([row.score for row in known], float)
    found = {
        "slides": len(read),
        "said": dict(sorted(said.items())),
        "positive_rate": _interval(statistics.share(sum(said[one] for one in FLAGGED), len(read))),
        "abstained_rate": _interval(statistics.share(said["abstained"], len(read))),
        "diagnoses": {"total": sum(map(len, looked)), "positive": flagged[2] + rest[2]},
        "sensitivity": _interval(ways.get("sensitivity")),
        "specificity": _interval(ways.get("specificity")),
        "auc": _interval(statistics.auc(score, np.array([ill[row.about] for row in known], bool))),
        "turnaround_hours": _turnaround(connection, ids),
    }
    return _head(key, "slides") | found | {"remarks": _remarks(["verified"] if ways else [])}


def _signed(connection: sa.Connection, ids: list[str]) -> dict[str, str]:
    """The code with which each slide's newest report begins its diagnosis; where it begins with none, nothing is
    guessed."""
    found: dict[str, str] = {}
    written = {code.casefold(): code for code in CODES}
    for part in _parts(ids):
        chosen = sa.select(SLIDE_REPORTS.c.slide, SLIDE_REPORTS.c.body).where(SLIDE_REPORTS.c.slide.in_(part))
        for row in connection.execute(chosen.order_by(SLIDE_REPORTS.c.version)):
            match = SIGNED_CODE.match(str(row.body.get("diagnosis", "")).strip())
            found.pop(row.slide, None)
            if match:
                found[row.slide] = written[match[1].casefold()]
    return found


def _turnaround(connection: sa.Connection, ids: list[str]) -> Row:
    """From when the whole slide was here, as the worklist counts, to its reading and to its signature: median and nine
    in ten, in hours."""
    took: dict[str, list[float]] = {"read": [], "signed": []}
    for part in _parts(ids):
        for at in turnaround.reached(connection, part):
            for name, states in (("read", turnaround.READ), ("signed", (turnaround.SIGNED,))):
                done = min((at[state] for state in states if state in at), default=None)
                if done is not None and turnaround.ARRIVED in at:
                    seconds = (np.datetime64(done[:-1]) - np.datetime64(at[turnaround.ARRIVED][:-1])) / ONE_SECOND
                    took[name].append(float(seconds) / 3_600)
    return {
        name: {"slides": len(hours), "median": float(np.median(hours)), "p90": float(np.quantile(hours, 0.9))}
        for name, hours in took.items()
        if hours
    }


def _parts(ids: list[str]) -> list[list[str]]:
    return [ids[at : at + 500] for at in range(0, len(ids), 500)]


# --- as JSON


def _interval(found: statistics.Interval | None) -> Row | None:
    return None if found is None else dict(zip(("value", "low", "high"), found, strict=True))


def _calibration(found: statistics.Calibration | None) -> Row | None:
    if found is None:
        return None
    groups = [dict(zip(("pd", "bad", "low", "high", "rows"), one, strict=True)) for one in found.groups]
    parts = {name: _interval(getattr(found, name)) for name in ("slope", "intercept", "ratio")}
    return {**parts, "groups": groups}


def _remarks(names: list[str]) -> list[Row]:
    return [{"code": name, "en": REMARKS[name][0], "zh": REMARKS[name][1]} for name in names]
