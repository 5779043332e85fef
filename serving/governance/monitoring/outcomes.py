"""How decisions and slides turned out, and what people decided instead. All is kept; the newest about one counts.

{"decision_id": "...", "outcome": "repaid", "at": "2027-01-31", "source": "core banking"}
{"slide_id": "...", "outcome": "diagnosis", "code": "HSIL", "at": "2027-01-31", "source": "histology"}
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from datasets.errors import FieldError
from datasets.schema import find_unknown_names
from serving.core.audit import entries, log
from serving.core.db.lookup import DecisionRecord
from serving.core.db.schema import OUTCOMES, OVERRIDES, REFERRALS
from serving.core.http import validation
from serving.core.http.principal import Principal
from serving.core.identifiers import new_id, utc_now
from serving.pathology.upload import request_form

Row = dict[str, Any]

MAX_OUTCOMES = 1_000  # outcomes in one request
OUTCOME_FIELDS = ("decision_id", "slide_id", "outcome", "at", "code", "source")
ID_FIELD = {"repaid": "decision_id", "defaulted": "decision_id", "diagnosis": "slide_id"}
NEGATIVE_CODES = ("NILM", "benign")
NON_DIAGNOSTIC_CODES = ("UNSATISFACTORY", "unknown")
CODES = tuple(code for code in request_form.PREVIOUS_RESULTS if code != "unknown")
TIME_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?Z)?", re.ASCII)
MAX_SOURCE_CHARS, MAX_REASON_CHARS, MAX_LIMIT = 255, 2_000, 1e12  # characters, characters, in whole units of money
OVERRIDE_FIELDS = ("decision", "limit", "reason")
REFERRAL_FIELDS, MAX_NAME_CHARS = ("to", "note"), 128


def parse_outcomes(body: Row) -> tuple[list[Row], list[FieldError]]:
    """(each outcome as FIELDS has it, what is wrong with any). One, or many under `outcomes`."""
    if "outcomes" not in body:
        return [body], _outcome_faults(body, "")
    items = body["outcomes"]
    faults = find_unknown_names(body, ("outcomes",), "outcomes alone", "仅 outcomes")
    if not isinstance(items, list) or not 0 < len(items) <= MAX_OUTCOMES:
        actual = f"{len(items):,} outcomes" if isinstance(items, list) else validation.describe_value(items)
        return [], [
            *faults,
            FieldError("outcomes", actual, f"a list of 1 to {MAX_OUTCOMES:,}", f"1 至 {MAX_OUTCOMES:,} 项的列表"),
        ]
    for i, item in enumerate(items):
        if isinstance(item, dict):
            faults += _outcome_faults(item, f"outcomes[{i}].")
        else:
            faults.append(FieldError(f"outcomes[{i}]", validation.describe_value(item), "an object", "对象"))
    return items, faults


def _outcome_faults(item: Row, prefix: str) -> list[FieldError]:
    faults = find_unknown_names(item, OUTCOME_FIELDS, f"one of {', '.join(OUTCOME_FIELDS)}", "字段之一", prefix)
    outcome, known_outcomes = item.get("outcome"), ", ".join(ID_FIELD)
    if not isinstance(outcome, str) or outcome not in ID_FIELD:
        faults.append(
            FieldError(
                f"{prefix}outcome",
                validation.describe_value(outcome),
                f"one of {known_outcomes}",
                f"{known_outcomes} 之一",
            )
        )
        return faults
    for name in ("decision_id", "slide_id"):
        if name == ID_FIELD[outcome] and not isinstance(item.get(name), str):
            actual = validation.describe_value(item[name]) if name in item else "absent"
            faults.append(FieldError(prefix + name, actual, f"the id that {outcome} is about", "该结果所指的编号"))
        elif name != ID_FIELD[outcome] and name in item:
            faults.append(
                FieldError(
                    prefix + name, "given", f"{ID_FIELD[outcome]} with {outcome}", f"{outcome} 须配 {ID_FIELD[outcome]}"
                )
            )
    code, codes = item.get("code"), ", ".join(CODES)
    if outcome == "diagnosis" and (not isinstance(code, str) or code not in CODES):
        faults.append(FieldError(f"{prefix}code", validation.describe_value(code), f"one of {codes}", f"{codes} 之一"))
    elif outcome != "diagnosis" and code is not None:
        faults.append(FieldError(f"{prefix}code", "given", "a code with a diagnosis alone", "仅诊断可有代码"))
    if not validation.is_clean_text(item.get("source"), MAX_SOURCE_CHARS):
        expected = (
            f"text of 1 to {MAX_SOURCE_CHARS} characters: who knows it",
            f"1 至 {MAX_SOURCE_CHARS} 个字符：由谁得知",
        )
        faults.append(FieldError(f"{prefix}source", validation.describe_value(item.get("source")), *expected))
    if not _is_past(item.get("at")):
        expected = "a day or UTC time that is past, as 2026-11-25", "已过去的日期或 UTC 时间，如 2026-11-25"
        faults.append(FieldError(f"{prefix}at", validation.shorten(str(item.get("at"))), *expected))
    return faults


def _is_past(text: Any) -> bool:
    if not isinstance(text, str) or not TIME_PATTERN.fullmatch(text):
        return False
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return False
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return time <= datetime.now(UTC) + timedelta(days=1)  # today, wherever that is


def unknown_id_faults(items: list[Row], records: dict[str, DecisionRecord]) -> list[FieldError]:
    """A fault for each that is about nothing that was decided or read."""
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
    """What POST /v1/outcomes answers. One that says what the newest about the same says already changes nothing."""
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


# --- overrides


def override_faults(body: Row) -> list[FieldError]:
    faults = find_unknown_names(body, OVERRIDE_FIELDS, f"one of {', '.join(OVERRIDE_FIELDS)}", "字段之一")
    decision, limit = body.get("decision"), body.get("limit")
    if decision not in ("approve", "decline"):
        faults.append(
            FieldError("decision", validation.describe_value(decision), "approve or decline", "approve 或 decline")
        )
    is_amount = isinstance(limit, int | float) and not isinstance(limit, bool) and 0 < limit <= MAX_LIMIT
    if decision == "approve" and not is_amount:
        expected = f"a number above 0, at most {MAX_LIMIT:,.0f}", f"大于 0、至多 {MAX_LIMIT:,.0f} 的数"
        faults.append(
            FieldError(
                "limit", validation.describe_value(limit) if limit is None or not is_amount else str(limit), *expected
            )
        )
    if decision == "decline" and limit is not None:
        faults.append(FieldError("limit", "given", "none where it is declined", "拒绝时不填额度"))
    if not validation.is_clean_text(body.get("reason"), MAX_REASON_CHARS):
        expected = f"text of 1 to {MAX_REASON_CHARS:,} characters", f"1 至 {MAX_REASON_CHARS:,} 个字符的文本"
        faults.append(FieldError("reason", validation.describe_value(body.get("reason")), *expected))
    return faults


def record_override(connection: sa.Connection, body: Row, decision: DecisionRecord, principal: Principal) -> Row:
    """What POST /v1/decisions/{id}/override answers. The decision itself stays as it was told."""
    row: Row = {
        "id": new_id(),
        "tenant": principal.tenant,
        "about": decision.id,
        "by": principal.subject,
        "at": utc_now(),
    }
    row |= {"decision": body["decision"], "limit": body.get("limit"), "reason": body["reason"]}
    row |= {"said": decision.outcome, "model": decision.model, "version": decision.version, "made": decision.created}
    row["limit"] = None if row["limit"] is None else float(row["limit"])
    connection.execute(sa.insert(OVERRIDES).values(row))
    log.append(connection, [entries.row_entry("override", row["at"], OVERRIDES, row)])
    details = {name: row[name] for name in ("decision", "limit", "reason", "by", "at")}
    return {"override_id": row["id"], "decision_id": decision.id, **details, "said": decision.outcome}


# --- referrals


def referral_faults(body: Row) -> list[FieldError]:
    faults = find_unknown_names(body, REFERRAL_FIELDS, f"one of {', '.join(REFERRAL_FIELDS)}", "字段之一")
    for name, max_chars in (("to", MAX_NAME_CHARS), ("note", MAX_REASON_CHARS)):
        if not validation.is_clean_text(body.get(name), max_chars):
            expected = f"text of 1 to {max_chars:,} characters", f"1 至 {max_chars:,} 个字符的文本"
            faults.append(FieldError(name, validation.describe_value(body.get(name)), *expected))
    return faults


def record_referral(connection: sa.Connection, body: Row, decision: DecisionRecord, principal: Principal) -> Row:
    """What POST /v1/decisions/{id}/refer answers. It waits for that colleague until a person decides."""
    row: Row = {
        "id": new_id(),
        "tenant": principal.tenant,
        "about": decision.id,
        "to": body["to"],
        "note": body["note"],
    }
    row |= {"by": principal.subject, "at": utc_now()}
    connection.execute(sa.insert(REFERRALS).values(row))
    log.append(connection, [entries.row_entry("referral", row["at"], REFERRALS, row)])
    return {
        "referral_id": row["id"],
        "decision_id": decision.id,
        **{name: row[name] for name in ("to", "note", "by", "at")},
    }
