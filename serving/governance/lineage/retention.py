"""Retention periods, which run by themselves: what they delete, and the certificates of it.

Once `answers_days` have passed since a decision, its answer keeps what was decided, and nothing that it rests on.
Once `indicators_days` have passed since the load of a stored subject's indicators, they are deleted, as is a key
without rows.
"""

from __future__ import annotations

import asyncio
import logging

import sqlalchemy as sa

from serving.core.audit.events import new_event, record_events
from serving.core.db.engine import chunked
from serving.core.db.schema import COMPANIES, DECISIONS, INDICATORS, SUBJECT_KEYS
from serving.core.db.store import Store
from serving.core.identifiers import id_before, utc_before
from serving.governance.lineage import erasure
from serving.governance.lineage.deletion import (
    ErasureNotProvenError,
    enable_secure_delete,
    prove_deletion,
    reduce_some_decisions,
)
from serving.settings import Settings

log = logging.getLogger("yuheng.retention")

DAY_SECONDS = 86_400
KIND = "retention"
MAX_SEARCHED = 100  # salts that are searched for in the store's files after a sweep
ROWS_PER_TRANSACTION = 1_000


class Retention:
    """Deletes what is older than its retention period. `watch` runs until cancelled."""

    def __init__(self, store: Store, settings: Settings):
        self.store, self.settings = store, settings
        self._newest_swept = ""  # id of the newest decision that was reduced

    async def watch(self) -> None:
        while True:
            await self.sweep()
            await asyncio.sleep(self.settings.retention.sweep_seconds)

    async def sweep(self) -> None:
        """Raises StoreUnavailableError."""
        periods, salts = self.settings.retention, list[bytes]()
        if periods.answers_days:
            while reduced := await self.store.write(self._reduce_answers):
                salts = [*salts, *reduced.values()][-MAX_SEARCHED:]
                self._newest_swept = max(reduced)
        deleted = 0
        if periods.indicators_days:
            while count := await self.store.write(self._delete_indicators):
                deleted += count
        if not (salts or deleted):
            return
        try:
            await self.store.read(prove_deletion, salts)
        except ErasureNotProvenError as error:
            log.warning("what the retention periods deleted may still be in the store's files: %s", error)

    def _reduce_answers(self, connection: sa.Connection) -> dict[str, bytes]:
        """Decision -> deleted salt, of some that are due, with their certificate."""
        enable_secure_delete(connection)
        cutoff = id_before(self.settings.retention.answers_days * DAY_SECONDS)
        is_due = sa.and_(DECISIONS.c.id > self._newest_swept, DECISIONS.c.id < cutoff)
        reduced = reduce_some_decisions(connection, is_due)
        if reduced:
            erasure.certify_retention(connection, self.settings, list(reduced))
        return reduced

    def _delete_indicators(self, connection: sa.Connection) -> int:
        """The number of rows that were deleted: some of those that are due."""
        enable_secure_delete(connection)
        row_key = INDICATORS.c.pseudonym, INDICATORS.c.group, INDICATORS.c.true_at, INDICATORS.c.loaded
        is_due = INDICATORS.c.loaded < utc_before(self.settings.retention.indicators_days * DAY_SECONDS)
        rows = connection.execute(sa.select(*row_key).where(is_due).limit(ROWS_PER_TRANSACTION)).all()
        if not rows:
            return 0
        is_row = sa.and_(*(column == sa.bindparam(f"due_{column.name}") for column in row_key))
        values = [{f"due_{column.name}": row[i] for i, column in enumerate(row_key)} for row in rows]
        connection.execute(sa.delete(INDICATORS).where(is_row), values)
        for chunk in chunked(sorted({row.pseudonym for row in rows})):
            has_rows = (
                sa.exists().where(table.c.pseudonym == SUBJECT_KEYS.c.pseudonym) for table in (INDICATORS, COMPANIES)
            )
            is_unused = sa.and_(SUBJECT_KEYS.c.pseudonym.in_(chunk), *(~condition for condition in has_rows))
            connection.execute(sa.delete(SUBJECT_KEYS).where(is_unused))
        record_events(connection, [new_event(KIND, "", "service", what=f"{len(rows):,} rows of indicators deleted")])
        return len(rows)
