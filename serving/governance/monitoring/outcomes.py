"""Outcomes of decisions and slides. All are stored; the newest about a decision counts.

{"decision_id": "...", "outcome": "repaid", "at": "2027-01-31", "source": "core banking"}
{"slide_id": "...", "outcome": "diagnosis", "code": "HSIL", "at": "2027-01-31", "source": "histology"}
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import sqlalchemy as sa

from datasets.errors import FieldError
from datasets.schema import find_unknown_names
from serving.core.audit import entries, log
from serving.core.db.lookup import DecisionRecord
from serving.core.db.schema import OUTCOMES
from serving.core.http import validation
from serving.core.http.principal import Principal
from serving.core.http.validation import RequestModel, Rule, line, one_of
from serving.core.identifiers import new_id, utc_now
from serving.pathology.upload import request_form

Row = dict[str, Any]

MAX_OUTCOMES = 1_000  # in one request
ID_FIELD = {"repaid": "decision_id", "defaulted": "decision_id", "diagnosis": "slide_id"}
NEGATIVE_CODES = ("NILM", "benign")
NON_DIAGNOSTIC_CODES = ("UNSATISFACTORY", "unknown")
CODES = tuple(code for code in request_form.PREVIOUS_RESULTS if code != "unknown")
TIME_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?Z)?", re.ASCII)
MAX_SOURCE_CHARS = 255


def _is_past(value: Any) -> bool:
    if not isinstance(value, str) or not TIME_PATTERN.fullmatch(value):
        return False
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return False
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return time <= datetime.now(UTC) + timedelta(days=1)  # in any time zone


OUTCOME = one_of(*ID_FIELD)  # decides which model a payload belongs to, and names the values of both models
TARGET = Rule(
    "the id that the outcome is about", "该结果所指的编号", {"type": "string"}, lambda value: isinstance(value, str)
)
PAST = Rule(
    "a date or UTC time in the past, as 2026-11-25",
    "已过去的日期或 UTC 时间，如 2026-11-25",
    {"type": "string", "pattern": f"^{TIME_PATTERN.pattern}$"},
    _is_past,
)
SOURCE = line(MAX_SOURCE_CHARS, ": where it is known from", "：信息来源")


class CreditOutcome(RequestModel):
    """How a credit turned out."""

    decision_id: Annotated[str, TARGET]
    outcome: Annotated[str, replace(OUTCOME, schema={"enum": ["repaid", "defaulted"]})]
    at: Annotated[str, PAST]
    source: Annotated[str, SOURCE]


class SlideOutcome(RequestModel):
    """The diagnosis of a slide from another source."""

    slide_id: Annotated[str, TARGET]
    outcome: Annotated[str, replace(OUTCOME, schema={"const": "diagnosis"})]
    code: Annotated[str, one_of(*CODES)]
    at: Annotated[str, PAST]
    source: Annotated[str, SOURCE]


def parse_outcomes(body: Row) -> tuple[list[Row], list[FieldError]]:
    """(the outcomes, every fault of them). body: one outcome, or a list under `outcomes`."""
    if "outcomes" not in body:
        return [body], _outcome_faults(body, "")
    items = body["outcomes"]
    faults = find_unknown_names(body, ("outcomes",), "outcomes only", "仅 outcomes")
    if not isinstance(items, list) or not 0 < len(items) <= MAX_OUTCOMES:
        actual = f"{len(items):,} outcomes" if isinstance(items, list) else validation.describe_value(items)
        return [], [
            *faults,
            FieldError("outcomes", actual, f"a list of 1 to {MAX_OUTCOMES:,}", f"1 至 {MAX_OUTCOMES:,} 项的列表"),
        ]
    for i, item in enumerate(items):
        faults += _outcome_faults(item, f"outcomes[{i}].")
    return items, faults


def _outcome_faults(item: Any, prefix: str) -> list[FieldError]:
    outcome = item.get("outcome") if isinstance(item, dict) else None
    faults = validation.validate(SlideOutcome if outcome == "diagnosis" else CreditOutcome, item, prefix)[1]
    if isinstance(item, dict) and not OUTCOME.check(outcome):  # which other fields it needs is not known
        fields = {f"{prefix}{name}" for model in (CreditOutcome, SlideOutcome) for name in model.model_fields}
        faults = [fault for fault in faults if fault.field not in fields or fault.field == f"{prefix}outcome"]
    return faults


def unknown_id_faults(items: list[Row], records: dict[str, DecisionRecord]) -> list[FieldError]:
    """The faults of outcomes whose id is not that of a decision, or of a slide that was read."""
    faults = []
    for i, item in enumerate(items):
        name = ID_FIELD[item["outcome"]]
        target = records.get(item[name])
        if target is None or f"{target.kind}_id" != name or not target.model:
            field = f"outcomes[{i}].{name}" if len(items) > 1 else name
            expected = "the id of a decision, or of a slide that was read", "决定编号，或已阅片的切片编号"
            faults.append(FieldError(field, validation.shorten(item[name]), *expected))
    return faults


def record_outcomes(
    connection: sa.Connection, items: list[Row], records: dict[str, DecisionRecord], principal: Principal
) -> Row:
    """Record outcomes and return the response. One that repeats the newest about its decision changes nothing."""
    results = []
    for item in items:
        target = records[item[ID_FIELD[item["outcome"]]]]
        reported: Row = {
            "outcome": item["outcome"],
            "code": item.get("code"),
            "at": item["at"],
            "source": item["source"],
        }
        same_target = OUTCOMES.c.tenant == principal.tenant, OUTCOMES.c.about == target.id
        latest = connection.execute(
            sa.select(OUTCOMES).where(*same_target).order_by(OUTCOMES.c.id.desc()).limit(1)
        ).first()
        if latest is not None and {name: getattr(latest, name) for name in reported} == reported:
            results.append({"outcome_id": latest.id, "new": False, "corrects": None})
            continue
        row: Row = reported | {
            "id": new_id(),
            "tenant": principal.tenant,
            "about": target.id,
            "kind": target.kind,
            "recorded": utc_now(),
        }
        row |= {
            "by": principal.subject,
            "model": target.model,
            "version": target.version,
            "score": target.score,
            "said": target.outcome,
        }
        row["made"] = target.created
        connection.execute(sa.insert(OUTCOMES).values(row))
        log.append(connection, [entries.row_entry("outcome", row["recorded"], OUTCOMES, row)])
        results.append({"outcome_id": row["id"], "new": True, "corrects": None if latest is None else latest.id})
    return {"outcomes": results}
