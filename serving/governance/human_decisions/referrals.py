"""Referrals of a decision to a colleague, whom it waits for until a person decides."""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa

from serving.core.audit import entries, log
from serving.core.db.lookup import DecisionRecord
from serving.core.db.schema import REFERRALS
from serving.core.http.principal import Principal
from serving.core.http.validation import RequestModel, line
from serving.core.identifiers import new_id, utc_now

Row = dict[str, Any]
MAX_NAME_CHARS, MAX_NOTE_CHARS = 128, 2_000


class Referral(RequestModel):
    """To whom a decision is referred, and why."""

    to: Annotated[str, line(MAX_NAME_CHARS)]
    note: Annotated[str, line(MAX_NOTE_CHARS)]


def record_referral(connection: sa.Connection, body: Referral, decision: DecisionRecord, principal: Principal) -> Row:
    """Record a referral and return the response."""
    row: Row = {
        "id": new_id(),
        "tenant": principal.tenant,
        "about": decision.id,
        "to": body.to,
        "note": body.note,
    }
    row |= {"by": principal.subject, "at": utc_now()}
    connection.execute(sa.insert(REFERRALS).values(row))
    log.append(connection, [entries.row_entry("referral", row["at"], REFERRALS, row)])
    return {
        "referral_id": row["id"],
        "decision_id": decision.id,
        **{name: row[name] for name in ("to", "note", "by", "at")},
    }
