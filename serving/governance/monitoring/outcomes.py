"""How decisions and slides turned out, and what people decided instead. All is kept; the newest about one counts.

{"decision_id": "...", "outcome": "repaid", "at": "2027-01-31", "source": "core banking"}
{"slide_id": "...", "outcome": "diagnosis", "code": "HSIL", "at": "2027-01-31", "source": "histology"}
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from datasets.errors import Fault
from datasets.schema import unknown_names
from serving.core.audit import entries, log
from serving.core.db.lookup import Recorded
from serving.core.db.schema import OUTCOMES, OVERRIDES, REFERRALS
from serving.core.http import validation
from serving.core.http.principal import Caller
from serving.core.identifiers import new_id, now
from serving.pathology.upload import request_form

Row = dict[str, Any]

MOST = 1_000  # outcomes in one request
FIELDS = ("decision_id", "slide_id", "outcome", "at", "code", "source")
OF = {"repaid": "decision_id", "defaulted": "decision_id", "diagnosis": "slide_id"}
NEGATIVE = ("NILM", "benign")
NO_DIAGNOSIS = ("UNSATISFACTORY", "unknown")
CODES = tuple(code for code in request_form.PREVIOUS if code != "unknown")
AT = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?Z)?", re.ASCII)
SOURCE, REASON, LARGEST = 255, 2_000, 1e12  # characters, characters, in whole units of money
OVERRIDE = ("decision", "limit", "reason")
REFERRAL, NAME = ("to", "note"), 128


def read(body: Row) -> tuple[list[Row], list[Fault]]:
    """(each outcome as FIELDS has it, what is wrong with any). One, or many under `outcomes`."""
    if "outcomes" not in body:
        return [body], _faults(body, "")
    many = body["outcomes"]
    faults = unknown_names(body, ("outcomes",), "outcomes alone", "仅 outcomes")
    if not isinstance(many, list) or not 0 < len(many) <= MOST:
        found = f"{len(many):,} outcomes" if isinstance(many, list) else validation.kind(many)
        return [], [*faults, Fault("outcomes", found, f"a list of 1 to {MOST:,}", f"1 至 {MOST:,} 项的列表")]
    for i, one in enumerate(many):
        if isinstance(one, dict):
            faults += _faults(one, f"outcomes[{i}].")
        else:
            faults.append(Fault(f"outcomes[{i}]", validation.kind(one), "an object", "对象"))
    return many, faults


def _faults(one: Row, before: str) -> list[Fault]:
    faults = unknown_names(one, FIELDS, f"one of {', '.join(FIELDS)}", "字段之一", before)
    outcome, told = one.get("outcome"), ", ".join(OF)
    if not isinstance(outcome, str) or outcome not in OF:
        faults.append(Fault(f"{before}outcome", validation.kind(outcome), f"one of {told}", f"{told} 之一"))
        return faults
    for name in ("decision_id", "slide_id"):
        if name == OF[outcome] and not isinstance(one.get(name), str):
            found = validation.kind(one[name]) if name in one else "absent"
            faults.append(Fault(before + name, found, f"the id that {outcome} is about", "该结果所指的编号"))
        elif name != OF[outcome] and name in one:
            faults.append(
                Fault(before + name, "given", f"{OF[outcome]} with {outcome}", f"{outcome} 须配 {OF[outcome]}")
            )
    code, codes = one.get("code"), ", ".join(CODES)
    if outcome == "diagnosis" and (not isinstance(code, str) or code not in CODES):
        faults.append(Fault(f"{before}code", validation.kind(code), f"one of {codes}", f"{codes} 之一"))
    elif outcome != "diagnosis" and code is not None:
        faults.append(Fault(f"{before}code", "given", "a code with a diagnosis alone", "仅诊断可有代码"))
    if not validation.text(one.get("source"), SOURCE):
        needed = f"text of 1 to {SOURCE} characters: who knows it", f"1 至 {SOURCE} 个字符：由谁得知"
        faults.append(Fault(f"{before}source", validation.kind(one.get("source")), *needed))
    if not _past(one.get("at")):
        needed = "a day or UTC time that is past, as 2026-11-25", "已过去的日期或 UTC 时间，如 2026-11-25"
        faults.append(Fault(f"{before}at", validation.shown(str(one.get("at"))), *needed))
    return faults


def _past(at: Any) -> bool:
    if not isinstance(at, str) or not AT.fullmatch(at):
        return False
    try:
        found = datetime.fromisoformat(at)
    except ValueError:
        return False
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return found <= datetime.now(UTC) + timedelta(days=1)  # today, wherever that is


def unknown(many: list[Row], known: dict[str, Recorded]) -> list[Fault]:
    """A fault for each that is about nothing that was decided or read."""
    faults = []
    for i, one in enumerate(many):
        name = OF[one["outcome"]]
        of = known.get(one[name])
        if of is None or f"{of.kind}_id" != name or not of.model:
            place = f"outcomes[{i}].{name}" if len(many) > 1 else name
            needed = "the id of a decision, or of a slide that was read", "决定编号，或已阅片的切片编号"
            faults.append(Fault(place, validation.shown(one[name]), *needed))
    return faults


def record(connection: sa.Connection, many: list[Row], known: dict[str, Recorded], caller: Caller) -> Row:
    """What POST /v1/outcomes answers. One that says what the newest about the same says already changes nothing."""
    told = []
    for one in many:
        of = known[one[OF[one["outcome"]]]]
        said: Row = {"outcome": one["outcome"], "code": one.get("code"), "at": one["at"], "source": one["source"]}
        mine = OUTCOMES.c.tenant == caller.tenant, OUTCOMES.c.about == of.id
        newest = connection.execute(sa.select(OUTCOMES).where(*mine).order_by(OUTCOMES.c.id.desc()).limit(1)).first()
        if newest is not None and {name: getattr(newest, name) for name in said} == said:
            told.append({"outcome_id": newest.id, "new": False, "corrects": None})
            continue
        row: Row = said | {"id": new_id(), "tenant": caller.tenant, "about": of.id, "kind": of.kind, "recorded": now()}
        row |= {"by": caller.who, "model": of.model, "version": of.version, "score": of.score, "said": of.said}
        row["made"] = of.created
        connection.execute(sa.insert(OUTCOMES).values(row))
        log.append(connection, [entries.kept("outcome", row["recorded"], OUTCOMES, row)])
        told.append({"outcome_id": row["id"], "new": True, "corrects": None if newest is None else newest.id})
    return {"outcomes": told}


# --- overrides


def override_faults(body: Row) -> list[Fault]:
    faults = unknown_names(body, OVERRIDE, f"one of {', '.join(OVERRIDE)}", "字段之一")
    decision, limit = body.get("decision"), body.get("limit")
    if decision not in ("approve", "decline"):
        faults.append(Fault("decision", validation.kind(decision), "approve or decline", "approve 或 decline"))
    number = isinstance(limit, int | float) and not isinstance(limit, bool) and 0 < limit <= LARGEST
    if decision == "approve" and not number:
        needed = f"a number above 0, at most {LARGEST:,.0f}", f"大于 0、至多 {LARGEST:,.0f} 的数"
        faults.append(Fault("limit", validation.kind(limit) if limit is None or not number else str(limit), *needed))
    if decision == "decline" and limit is not None:
        faults.append(Fault("limit", "given", "none where it is declined", "拒绝时不填额度"))
    if not validation.text(body.get("reason"), REASON):
        needed = f"text of 1 to {REASON:,} characters", f"1 至 {REASON:,} 个字符的文本"
        faults.append(Fault("reason", validation.kind(body.get("reason")), *needed))
    return faults


def override(connection: sa.Connection, body: Row, of: Recorded, caller: Caller) -> Row:
    """What POST /v1/decisions/{id}/override answers. The decision itself stays as it was told."""
    row: Row = {"id": new_id(), "tenant": caller.tenant, "about": of.id, "by": caller.who, "at": now()}
    row |= {"decision": body["decision"], "limit": body.get("limit"), "reason": body["reason"]}
    row |= {"said": of.said, "model": of.model, "version": of.version, "made": of.created}
    row["limit"] = None if row["limit"] is None else float(row["limit"])
    connection.execute(sa.insert(OVERRIDES).values(row))
    log.append(connection, [entries.kept("override", row["at"], OVERRIDES, row)])
    shown = {name: row[name] for name in ("decision", "limit", "reason", "by", "at")}
    return {"override_id": row["id"], "decision_id": of.id, **shown, "said": of.said}


# --- referrals


def referral_faults(body: Row) -> list[Fault]:
    faults = unknown_names(body, REFERRAL, f"one of {', '.join(REFERRAL)}", "字段之一")
    for name, most in (("to", NAME), ("note", REASON)):
        if not validation.text(body.get(name), most):
            needed = f"text of 1 to {most:,} characters", f"1 至 {most:,} 个字符的文本"
            faults.append(Fault(name, validation.kind(body.get(name)), *needed))
    return faults


def refer(connection: sa.Connection, body: Row, of: Recorded, caller: Caller) -> Row:
    """What POST /v1/decisions/{id}/refer answers. It waits for that colleague until a person decides."""
    row: Row = {"id": new_id(), "tenant": caller.tenant, "about": of.id, "to": body["to"], "note": body["note"]}
    row |= {"by": caller.who, "at": now()}
    connection.execute(sa.insert(REFERRALS).values(row))
    log.append(connection, [entries.kept("referral", row["at"], REFERRALS, row)])
    return {"referral_id": row["id"], "decision_id": of.id, **{name: row[name] for name in ("to", "note", "by", "at")}}
