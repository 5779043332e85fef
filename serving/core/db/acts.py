"""What people did about decisions: overrides and referrals, in order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from serving.core.db.schema import OVERRIDES, REFERRALS

Row = dict[str, Any]
FIELDS = {
    "override": ("decision", "limit", "reason", "reason_code", "state", "proposed_by", "by", "at"),
    "referral": ("to", "note", "by", "at"),
}


def read_acts(connection: sa.Connection, tenant: str, decision_ids: Iterable[str]) -> dict[str, list[Row]]:
    """The acts of a tenant's people about each decision, the oldest first."""
    acts: dict[str, list[Row]] = {decision_id: [] for decision_id in decision_ids}
    for kind, table in (("override", OVERRIDES), ("referral", REFERRALS)):
        statement = sa.select(table).where(table.c.tenant == tenant, table.c.about.in_(acts))
        for act in connection.execute(statement).mappings():
            acts[act["about"]].append({"kind": kind, "id": act["id"], **{name: act[name] for name in FIELDS[kind]}})
    return {decision_id: sorted(items, key=lambda act: act["id"]) for decision_id, items in acts.items()}
