"""Events that are records of their own: sign-ins, reads of personal data, tokens, keys, exports."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from serving.core.audit import log
from serving.core.audit.verify import canonical_json
from serving.core.db.schema import EVENTS
from serving.core.db.tables.audit import UnloggedEventRow
from serving.core.identifiers import new_id, utc_now

EVENT_FIELDS = ("id", "kind", "at", "tenant", "by", "about", "what", "reason")  # that the log entry digests


def new_event(
    kind: str, tenant: str, by: str, about: str | None = None, what: str = "", reason: str = ""
) -> UnloggedEventRow:
    """about: a pseudonym or the id of a record, never what a person is called."""
    return {
        "id": new_id(),
        "kind": kind,
        "at": utc_now(),
        "tenant": tenant,
        "by": by,
        "about": about,
        "what": what[:255],
        "reason": reason[:255],
    }


def record_events(connection: sa.Connection, events: Sequence[UnloggedEventRow]) -> None:
    """Store events with one log entry."""
    if not events:
        return
    ref, fields = new_id(), {"count": len(events), "rows": events_digest(events)}
    leaf = log.append(connection, [log.make_entry("events", utc_now(), "", ref, **fields)])
    connection.execute(sa.insert(EVENTS), [{**event, "entry": ref, "leaf": leaf} for event in events])


def events_digest(events: Sequence[UnloggedEventRow | Mapping[str, Any] | sa.RowMapping]) -> str:
    """The digest of events in the order of their ids. The ids are random, so it reveals nothing."""
    rows = sorted([event[name] for name in EVENT_FIELDS] for event in events)  # type: ignore[literal-required]
    return hashlib.sha256(canonical_json(rows)).hexdigest()
