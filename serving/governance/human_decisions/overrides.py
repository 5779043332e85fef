"""Overrides: what a person decided instead of a model. All are stored; the newest in force counts.

An amount beyond the authority of one person is only proposed: it comes into force when another person approves the same
amount.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field

from datasets.errors import FieldError
from datasets.schema import format_number
from serving.core.audit import entries, log
from serving.core.db.lookup import DecisionRecord
from serving.core.db.schema import OVERRIDES
from serving.core.db.tables.governance import CONFIRMED, DECIDED, PROPOSED
from serving.core.http.principal import Principal
from serving.core.http.validation import RequestModel, Rule, is_number, line
from serving.core.identifiers import new_id, utc_before, utc_now
from serving.governance.human_decisions.authority import NO_REASON, Authority, product_cap
from serving.settings import SCOPES

Row = dict[str, Any]
MAX_TEXT_CHARS = 2_000
MAX_LIMIT = 1e12  # in whole units of the currency

# The field that decides which model a payload belongs to: its rule names the values of both models.
DECISION = Rule("approve or decline", "approve 或 decline", {}, ("approve", "decline").__contains__)
AMOUNT = Rule(
    f"a number above 0, at most {MAX_LIMIT:,.0f}",
    f"大于 0、至多 {MAX_LIMIT:,.0f} 的数",
    {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_LIMIT},
    lambda value: is_number(value, 0, MAX_LIMIT) and value > 0,
)


class Override(RequestModel):
    """What a person decided instead; `limit` in whole units of the currency."""

    decision: Annotated[str, DECISION]
    limit: Any = None
    reason: Annotated[str, line(MAX_TEXT_CHARS), Field(description="In the person's own words; no letter prints it.")]
    reason_code: Annotated[
        str, line(64), Field(description="A reason of configs/authority.toml, whose sentence the letter prints.")
    ] = NO_REASON


class Approval(Override):
    decision: Annotated[str, replace(DECISION, schema={"const": "approve"})]
    limit: Annotated[float, AMOUNT]


class Decline(Override):
    decision: Annotated[str, replace(DECISION, schema={"const": "decline"})]
    limit: Annotated[
        None,
        Rule("left out for a decline", "拒绝时不填额度", {"type": "null"}, lambda value: value is None),
    ] = None


def override_model(payload: Row) -> type[Override]:
    """The model of an override's body, by its decision."""
    decision = payload.get("decision")
    return Approval if decision == "approve" else Decline if decision == "decline" else Override


def find_faults(body: Override, decision: DecisionRecord, authority: Authority) -> list[FieldError]:
    """What makes an override impossible for anyone: no reason, or more than the product lends."""
    faults = []
    if len(body.reason.strip()) < authority.min_text:
        chars = authority.min_text
        expected, expected_zh = f"a text of {chars} characters or more", f"不少于 {chars} 个字符的说明"
        faults.append(FieldError("reason", repr(body.reason), expected, expected_zh))
    codes = authority.codes(body.decision)
    if body.reason_code not in (*codes, NO_REASON):
        names = ", ".join(codes)
        faults.append(FieldError("reason_code", repr(body.reason_code), f"one of {names}", f"以下之一：{names}"))
    cap = product_cap(decision.answer)
    if body.limit is not None and (cap is None or body.limit > cap):
        amount = format_number(cap or 0)
        expected, expected_zh = f"at most {amount}, the product's cap", f"至多 {amount}，即产品上限"
        faults.append(FieldError("limit", format_number(body.limit), expected, expected_zh))
    return faults


def record_override(
    connection: sa.Connection,
    body: Override,
    decision: DecisionRecord,
    principal: Principal,
    authority: Authority,
) -> Row:
    """Record an override without faults and return the response. The decision itself stays as it was."""
    product = next(product for product, scope in SCOPES.items() if scope == decision.scope)
    own_limit = authority.limit(product, principal.roles)
    row: Row = {
        "id": new_id(),
        "tenant": principal.tenant,
        "about": decision.id,
        "by": principal.subject,
        "at": utc_now(),
    }
    row |= body.model_dump(include={"decision", "limit", "reason", "reason_code"})
    row |= {"said": decision.outcome, "model": decision.model, "version": decision.version, "made": decision.created}
    row["limit"] = None if row["limit"] is None else float(row["limit"])
    row |= {"state": DECIDED, "proposed_by": None}
    if row["limit"] is not None and row["limit"] > own_limit:
        proposal = _pending_proposal(connection, decision, authority)
        if proposal is not None and proposal["by"] != row["by"] and proposal["limit"] == row["limit"]:
            row |= {"state": CONFIRMED, "proposed_by": proposal["by"]}
        else:
            row["state"] = PROPOSED
    connection.execute(sa.insert(OVERRIDES).values(row))
    log.append(connection, [entries.row_entry("override", row["at"], OVERRIDES, row)])
    names = ("decision", "limit", "reason", "reason_code", "state", "proposed_by", "by", "at")
    return {
        "override_id": row["id"],
        "decision_id": decision.id,
        **{name: row[name] for name in names},
        "authority": own_limit,
        "said": decision.outcome,
    }


def _pending_proposal(connection: sa.Connection, decision: DecisionRecord, authority: Authority) -> Row | None:
    """The newest override of the decision, if it is a proposal that another person may still confirm."""
    is_about = (OVERRIDES.c.tenant == decision.tenant) & (OVERRIDES.c.about == decision.id)
    statement = sa.select(OVERRIDES).where(is_about).order_by(OVERRIDES.c.id.desc()).limit(1)
    newest = connection.execute(statement).mappings().first()
    if newest is None or newest["state"] != PROPOSED:
        return None
    return dict(newest) if newest["at"] > utc_before(authority.confirm_hours * 3_600) else None
