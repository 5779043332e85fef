"""The records of decisions, and the transaction that writes a group of them.

One transaction holds all that belongs to a decision: its row under its idempotency key, the check that the grants
behind it are still active, its line of METER, and its entry in the audit log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from serving.core.audit import log
from serving.core.audit.authenticator import authenticator_of
from serving.core.audit.log import Entry, insert_rows
from serving.core.audit.provenance import Provenance, store_provenance
from serving.core.db.reader import StoreReader
from serving.core.db.schema import DECISIONS, METER
from serving.core.db.tables.billing import UnloggedMeterRow
from serving.core.db.writer import Applied
from serving.privacy.consent.rules import ConsentRevokedError, expired_grants
from serving.privacy.subjects.errors import SubjectErasedError
from serving.privacy.subjects.indicators import subjects_with_keys


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What is stored under an idempotency key: the digest of the first request, and its response."""

    request_sha256: str
    answer: bytes


@dataclass(frozen=True, slots=True)
class DecisionWrite:
    """All that is written of one decision, or of one chunk of a batch."""

    row: Mapping[str, Any]  # of DECISIONS or BATCH_CHUNKS, without the index of its log entry
    entry: Entry
    meter_row: UnloggedMeterRow
    provenance: Provenance  # of the bundle
    grants: Sequence[str] = ()  # ids of grants that must still be active
    subject: str | None = None  # pseudonym of the subject, which must not have been erased


class DecisionTransaction:
    """Writes a group of decisions into an open transaction.

    The outcome of each is None where it was recorded; the StoredAnswer that its idempotency key already stands for; or
    ConsentRevokedError or SubjectErasedError where a grant was revoked or its subject erased in the meantime.
    """

    def __init__(self) -> None:
        self._stored_provenance: set[str] = set()  # digests that are known to be in the store

    def __call__(self, connection: sa.Connection, records: Sequence[DecisionWrite]) -> Applied[StoredAnswer | None]:
        log.acquire_append_lock(connection)  # nobody else writes now: what is read below still holds at the commit
        expired = expired_grants(connection, {grant for record in records for grant in record.grants})
        subjects = {subject for record in records if (subject := record.subject)}
        erased = subjects - subjects_with_keys(connection, subjects) if subjects else subjects
        fresh: list[DecisionWrite] = []
        in_group: dict[tuple[str, str, str], StoredAnswer] = {}
        outcomes: list[StoredAnswer | Exception | None] = []
        for record in records:
            row = record.row
            key = (row["tenant"], row["scope"], row["idempotency_key"]) if row["idempotency_key"] else None
            if key and (earlier := in_group.get(key) or by_idempotency_key(connection, *key)):
                outcomes.append(earlier)
            elif expired and (revoked := [grant for grant in record.grants if grant in expired]):
                outcomes.append(ConsentRevokedError(revoked))
            elif record.subject in erased:
                outcomes.append(SubjectErasedError())
            else:
                outcomes.append(None)
                fresh.append(record)
                if key:
                    in_group[key] = StoredAnswer(row["request_sha256"], row["answer"])
        if not fresh:
            return Applied(outcomes, lambda: None)
        new = {record.provenance for record in fresh if record.provenance.sha256 not in self._stored_provenance}
        store_provenance(connection, new)
        first = log.append(connection, [record.entry for record in fresh])
        insert_rows(connection, DECISIONS, [{**record.row, "leaf": first + i} for i, record in enumerate(fresh)])
        insert_rows(connection, METER, [{**record.meter_row, "leaf": first + i} for i, record in enumerate(fresh)])
        authenticator, size = authenticator_of(connection), first + len(fresh)

        def on_commit() -> None:
            self._stored_provenance.update(provenance.sha256 for provenance in new)
            authenticator.written_size = max(authenticator.written_size, size)

        return Applied(outcomes, on_commit)


_BY_KEY = sa.select(DECISIONS.c.request_sha256, DECISIONS.c.answer).where(
    DECISIONS.c.tenant == sa.bindparam("tenant"),
    DECISIONS.c.scope == sa.bindparam("scope"),
    DECISIONS.c.idempotency_key == sa.bindparam("key"),
)
_ANSWER_QUERY = sa.select(DECISIONS.c.answer).where(
    DECISIONS.c.id == sa.bindparam("id"), DECISIONS.c.tenant == sa.bindparam("tenant")
)


def by_idempotency_key(connection: sa.Connection, tenant: str, scope: str, key: str) -> StoredAnswer | None:
    """The decision of a tenant under an idempotency key; None where the key is new."""
    row = connection.execute(_BY_KEY, {"tenant": tenant, "scope": scope, "key": key}).first()
    return StoredAnswer(row[0], row[1]) if row else None


def answer_of(reader: StoreReader, tenant: str, decision: str) -> bytes | None:
    """The response's body as it was sent; None where the tenant has no such decision."""
    params = {"id": decision, "tenant": tenant}
    answer: bytes | None = reader.run(lambda connection: connection.execute(_ANSWER_QUERY, params).scalar())
    return answer
