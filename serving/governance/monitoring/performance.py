"""Reports the performance and the drift of each model version, by tenant.

Discrimination and calibration use the newest outcome of each decision; drift and the shares of decisions use the counts
of serving/decisions/input_counts.py.
"""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import sqlalchemy as sa

from models.card import AnyCard, DriftProfile
from models.drift import unflatten
from models.metrics import Interval
from serving.core.db.lookup import tenant_filter
from serving.core.db.schema import INPUT_COUNTS, OUTCOMES, OVERRIDES, SLIDE_REPORTS, SLIDES
from serving.core.db.tables.governance import PROPOSED
from serving.decisions.input_counts import decode_counts
from serving.governance.monitoring import statistics
from serving.governance.monitoring import weekly as weekly_series
from serving.governance.monitoring.outcomes import CODES, NEGATIVE_CODES, NON_DIAGNOSTIC_CODES
from serving.pathology.slides import turnaround
from serving.registry import versions
from serving.settings import Settings

Row = dict[str, Any]
Key = tuple[str, str, str]  # model, version, tenant

ONE_SECOND = np.timedelta64(1, "s")
FALSE_DISCOVERY_RATE = 0.05  # share of false alarms among the inputs that are reported as drifted
MAX_SLIDES = 20_000  # the newest ones
FLAGGED_TRIAGES = ("positive", "review")
SIGNED_CODE = re.compile(rf"({'|'.join(sorted(CODES, key=len, reverse=True))})(?![\w-])", re.IGNORECASE)
REMARKS = {
    "selected": (
        "Only approved credit has outcomes: the figures hold for approved applicants, not for all applicants.",
        "仅获批者有还款结果：数值适用于获批人群，而非全部申请人。",
    ),
    "too_few": (
        f"Fewer than {statistics.MIN_OUTCOMES} of either outcome: too few to estimate discrimination and calibration.",
        f"某一类结果少于 {statistics.MIN_OUTCOMES} 例：尚不能评价区分度与校准。",
    ),
    "no_reference": (
        "The card has no reference distribution, or the bundle is gone: drift cannot be measured. Train it again.",
        "模型卡片没有参照分布，或模型包已不存在：无法判断漂移。请重新训练。",
    ),
    "verified": (
        "Of negatives, only those drawn for audit have a diagnosis; sensitivity and specificity are corrected for it.",
        "阴性片仅抽检者有签发诊断；敏感度与特异度已就此校正。",
    ),
}


def model_performance(
    connection: sa.Connection,
    settings: Settings,
    *,
    tenant: str | None = None,
    model: str | None = None,
    since: str = "",
    weekly: bool = False,
) -> list[Row]:
    """A report for each model version and tenant with decisions or slides since a day.

    tenant, model: None for all. since: YYYY-MM-DD, "" for all time. weekly: with the `series` of weekly figures.
    """
    input_counts = _input_counts(connection, tenant, model, since)
    outcomes = _latest_by_decision(connection, OUTCOMES, tenant, model, since)
    overrides = _latest_by_decision(connection, OVERRIDES, tenant, model, since)
    slides = _read_slides(connection, tenant, model, since)
    reports = [
        _decision_report(settings, key, input_counts.get(key, []), outcomes.get(key, []), overrides.get(key, []))
        for key in sorted(
            {*input_counts, *overrides, *(key for key, rows in outcomes.items() if rows[0].kind == "decision")}
        )
    ]
    reports += [_slide_report(connection, key, slides[key], outcomes.get(key, [])) for key in sorted(slides)]
    for report in reports if weekly else []:
        key = report["model"], report["version"], report["tenant"]
        if report["kind"] == "slides":
            report["series"] = weekly_series.slide_series(slides[key])
        else:
            counts = input_counts.get(key, [])
            reference = _reference_card(settings, key, counts)
            distribution = None if reference is None else (reference[1], counts[-1].bundle)
            report["series"] = weekly_series.decision_series(distribution, counts, outcomes.get(key, []))
    return reports


def _select(table: sa.Table, tenant: str | None, model: str | None) -> sa.Select[Any]:
    statement = sa.select(table).where(tenant_filter(table, tenant))
    return statement if model is None else statement.where(table.c.model == model)


def _input_counts(
    connection: sa.Connection, tenant: str | None, model: str | None, since: str
) -> dict[Key, list[sa.Row[Any]]]:
    statement = _select(INPUT_COUNTS, tenant, model).where(INPUT_COUNTS.c.day >= since).order_by(INPUT_COUNTS.c.day)
    return _group_by_key(connection.execute(statement))


def _latest_by_decision(
    connection: sa.Connection, table: sa.Table, tenant: str | None, model: str | None, since: str
) -> dict[Key, list[sa.Row[Any]]]:
    """The newest outcome, or override in force, of each decision made since a day."""
    statement = _select(table, tenant, model).where(table.c.made >= since).order_by(table.c.id)
    if table is OVERRIDES:
        statement = statement.where(OVERRIDES.c.state != PROPOSED)
    latest = {(row.tenant, row.about): row for row in connection.execute(statement)}
    return _group_by_key(latest.values())


def _group_by_key(rows: Iterable[sa.Row[Any]]) -> dict[Key, list[sa.Row[Any]]]:
    groups: dict[Key, list[sa.Row[Any]]] = {}
    for row in rows:
        groups.setdefault((row.model, row.version, row.tenant), []).append(row)
    return groups


def _report_header(key: Key, kind: str) -> Row:
    return {"kind": kind, "model": key[0], "version": key[1], "tenant": key[2]}


# --- decisions


def _decision_report(
    settings: Settings,
    key: Key,
    input_counts: list[sa.Row[Any]],
    outcomes: list[sa.Row[Any]],
    overrides: list[sa.Row[Any]],
) -> Row:
    decisions: Tally[str] = Tally()
    for row in input_counts:
        decisions.update(row.said)
    decision_count = decisions.total()
    resolved = [row for row in outcomes if row.outcome in ("repaid", "defaulted") and row.score is not None]
    pd = np.array([row.score for row in resolved], float)
    is_default = np.array([row.outcome == "defaulted" for row in resolved], bool)
    metrics = {
        "decisions": decision_count,
        "said": dict(sorted(decisions.items())),
        "positive_rate": _interval_json(statistics.proportion(decisions["approve"], decision_count)),
        "overrides": len(overrides),
        "override_rate": _interval_json(statistics.proportion(min(len(overrides), decision_count), decision_count)),
        "outcomes": {"total": len(resolved), "defaulted": int(is_default.sum())},
        "auc": _interval_json(statistics.auc(pd, is_default)),
        "calibration": _calibration_json(statistics.calibration(pd, is_default)),
        "drift": _drift_report(settings, key, input_counts),
    }
    remarks = ["selected"] if resolved else []
    remarks += ["too_few"] if resolved and metrics["auc"] is None else []
    remarks += ["no_reference"] if input_counts and metrics["drift"] is None else []
    return _report_header(key, "decisions") | metrics | {"remarks": _remarks_json(remarks)}


def _drift_report(settings: Settings, key: Key, input_counts: list[sa.Row[Any]]) -> Row | None:
    """The drift test of each input and of the score; None where there are no counts or no reference to compare with."""
    reference = _reference_card(settings, key, input_counts)
    bundle = input_counts[-1].bundle if input_counts else ""
    counts = [decode_counts(row.counts) for row in input_counts if row.bundle == bundle and row.counts]
    if reference is None or not counts:
        return None
    card, drift = reference
    bins = (*drift.inputs, drift.score)
    current = unflatten(drift, np.sum(counts, axis=0))
    tests = statistics.drift_tests(
        [reference_bin.name for reference_bin in bins],
        [np.array(reference_bin.counts) for reference_bin in bins],
        current,
    )
    labels = {column.name: (column.label, column.label_zh) for column in card.inputs}
    rows = []
    for test, reference_bin, current_counts in zip(tests, bins, current, strict=True):
        en, zh = labels.get(test.name, ("probability of default", "违约概率"))
        row = asdict(test) | {"drifted": test.q <= FALSE_DISCOVERY_RATE, "en": en, "zh": zh}
        rows.append(row | {"before": list(reference_bin.counts), "after": current_counts.tolist()})
    return {"rows": int(current[-1].sum()), "reference_rows": drift.rows, "inputs": rows[:-1], "score": rows[-1]}


def _reference_card(
    settings: Settings, key: Key, input_counts: list[sa.Row[Any]]
) -> tuple[AnyCard, DriftProfile] | None:
    """(card, training distribution) of the bundle with the newest counts, should a version have been published twice.

    None where that bundle is not on disk any more, or where its card has no distribution.
    """
    if not input_counts:
        return None
    paths = settings.paths
    stored = versions.load_version(paths.bundles, paths.public_key, key[0], key[1])
    if stored is None or stored.card is None or stored.digest != input_counts[-1].bundle:
        return None
    return None if stored.card.drift is None else (stored.card, stored.card.drift)


# --- slides


def _read_slides(
    connection: sa.Connection, tenant: str | None, model: str | None, since: str
) -> dict[Key, list[sa.Row[Any]]]:
    columns = [column for column in SLIDES.c if column.name not in ("reading", "request", "reasons", "notes")]
    statement = sa.select(*columns).where(
        SLIDES.c.triage.is_not(None), tenant_filter(SLIDES, tenant), SLIDES.c.created >= since
    )
    if model is not None:
        statement = statement.where(SLIDES.c.model == model)
    return _group_by_key(connection.execute(statement.order_by(SLIDES.c.id.desc()).limit(MAX_SLIDES)))


def _slide_report(connection: sa.Connection, key: Key, slides: list[sa.Row[Any]], outcomes: list[sa.Row[Any]]) -> Row:
    ids = [row.id for row in slides]
    diagnoses = _signed_codes(connection, ids) | {row.about: row.code for row in outcomes if row.outcome == "diagnosis"}
    is_positive = {
        slide: code not in NEGATIVE_CODES for slide, code in diagnoses.items() if code not in NON_DIAGNOSTIC_CODES
    }
    triages = Tally(row.triage for row in slides)
    groups = (
        [row.id for row in slides if row.triage in FLAGGED_TRIAGES],
        [row.id for row in slides if row.triage == "negative"],
    )
    diagnosed = [[slide for slide in group if slide in is_positive] for group in groups]
    flagged_counts, negative_counts = (
        (len(g), len(v), sum(is_positive[s] for s in v)) for g, v in zip(groups, diagnosed, strict=True)
    )
    accuracy = statistics.corrected_accuracy(
        (flagged_counts[0], negative_counts[0]),
        (flagged_counts[1], negative_counts[1]),
        (flagged_counts[2], negative_counts[2]),
    )
    scored = [row for row in outcomes if row.score is not None and row.about in is_positive]
    score = np.array([row.score for row in scored], float)
    metrics = {
        "slides": len(slides),
        "said": dict(sorted(triages.items())),
        "positive_rate": _interval_json(
            statistics.proportion(sum(triages[triage] for triage in FLAGGED_TRIAGES), len(slides))
        ),
        "abstained_rate": _interval_json(statistics.proportion(triages["abstained"], len(slides))),
        "diagnoses": {"total": sum(map(len, diagnosed)), "positive": flagged_counts[2] + negative_counts[2]},
        "sensitivity": _interval_json(accuracy.get("sensitivity")),
        "specificity": _interval_json(accuracy.get("specificity")),
        "auc": _interval_json(statistics.auc(score, np.array([is_positive[row.about] for row in scored], bool))),
        "turnaround_hours": _turnaround_hours(connection, ids),
    }
    return _report_header(key, "slides") | metrics | {"remarks": _remarks_json(["verified"] if accuracy else [])}


def _signed_codes(connection: sa.Connection, ids: list[str]) -> dict[str, str]:
    """Slide -> the code that the diagnosis of its newest report begins with. Slides without one are left out."""
    codes: dict[str, str] = {}
    canonical_codes = {code.casefold(): code for code in CODES}
    for chunk in _chunked(ids):
        statement = sa.select(SLIDE_REPORTS.c.slide, SLIDE_REPORTS.c.body).where(SLIDE_REPORTS.c.slide.in_(chunk))
        for row in connection.execute(statement.order_by(SLIDE_REPORTS.c.version)):
            match = SIGNED_CODE.match(str(row.body.get("diagnosis", "")).strip())
            codes.pop(row.slide, None)
            if match:
                codes[row.slide] = canonical_codes[match[1].casefold()]
    return codes


def _turnaround_hours(connection: sa.Connection, ids: list[str]) -> Row:
    """Hours from the arrival of the complete slide to its reading and to its signature: median and 90th percentile."""
    hours_by_stage: dict[str, list[float]] = {"read": [], "signed": []}
    for chunk in _chunked(ids):
        for times in turnaround.first_reached(connection, chunk):
            for name, states in (("read", turnaround.RESULT_STATES), ("signed", (turnaround.SIGNED_STATE,))):
                finished = min((times[state] for state in states if state in times), default=None)
                if finished is not None and turnaround.ARRIVAL_STATE in times:
                    seconds = (
                        np.datetime64(finished[:-1]) - np.datetime64(times[turnaround.ARRIVAL_STATE][:-1])
                    ) / ONE_SECOND
                    hours_by_stage[name].append(float(seconds) / 3_600)
    return {
        name: {"slides": len(hours), "median": float(np.median(hours)), "p90": float(np.quantile(hours, 0.9))}
        for name, hours in hours_by_stage.items()
        if hours
    }


def _chunked(ids: list[str]) -> list[list[str]]:
    return [ids[offset : offset + 500] for offset in range(0, len(ids), 500)]


# --- as JSON


def _interval_json(interval: Interval | None) -> Row | None:
    return None if interval is None else dict(zip(("value", "low", "high"), interval, strict=True))


def _calibration_json(calibration: statistics.Calibration | None) -> Row | None:
    if calibration is None:
        return None
    groups = [dict(zip(("pd", "bad", "low", "high", "rows"), group, strict=True)) for group in calibration.groups]
    intervals = {name: _interval_json(getattr(calibration, name)) for name in ("slope", "intercept", "ratio")}
    return {**intervals, "groups": groups}


def _remarks_json(names: list[str]) -> list[Row]:
    return [{"code": name, "en": REMARKS[name][0], "zh": REMARKS[name][1]} for name in names]
