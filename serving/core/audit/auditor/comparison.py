"""Compare the rows of the store with the entries of the log, whichever kind they are."""

from __future__ import annotations

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from serving.core.audit.auditor.batches import BatchChecks
from serving.core.audit.auditor.decisions import DecisionChecks
from serving.core.audit.auditor.entry_shapes import ROW_TABLES
from serving.core.audit.auditor.erasures import ErasureChecks
from serving.core.audit.auditor.findings import MAX_FINDINGS, AuditReport, Body, Comparison
from serving.core.audit.auditor.records import RecordChecks
from serving.core.audit.auditor.slides import STATES_WITH_READING, SlideChecks
from serving.core.db.schema import (
    BATCH_CHUNKS,
    BATCH_SUBJECTS,
    DECISIONS,
    ERASURES,
    EVENTS,
    LOG_LEAVES,
    METER,
    SLIDE_REPORTS,
)

# Tables with a column `leaf`, and the expression that an entry uses to name a row.
_LOGGED_TABLES: tuple[tuple[sa.Table, sa.ColumnElement[str]], ...] = (
    (DECISIONS, DECISIONS.c.id),
    (METER, METER.c.decision),
    (BATCH_CHUNKS, BATCH_CHUNKS.c.batch + "-" + sa.cast(BATCH_CHUNKS.c.first_row, sa.String)),
    (SLIDE_REPORTS, SLIDE_REPORTS.c.slide + "-" + sa.cast(SLIDE_REPORTS.c.version, sa.String)),
    (ERASURES, ERASURES.c.id),
    (EVENTS, EVENTS.c.entry),
)


class RowChecks(Comparison):
    """`compare` takes the well-formed entries in their order; `finish` reports the rows that no entry records."""

    def __init__(self, connection: sa.Connection, report: AuditReport, key: Ed25519PublicKey):
        super().__init__(connection, report)
        self.decisions, self.batches = DecisionChecks(connection, report), BatchChecks(connection, report)
        self.slides, self.records = SlideChecks(connection, report), RecordChecks(connection, report)
        self.erasures = ErasureChecks(connection, report, key)

    def compare(self, entries: list[tuple[int, Body]]) -> None:
        if not entries:
            return
        if decisions := {body["ref"]: (index, body) for index, body in entries if body["kind"] == "decision"}:
            self.decisions.check_decisions(decisions)
        if priced := {body["ref"]: (index, body) for index, body in entries if "price" in body}:
            self.decisions.check_meter(priced)
        self.records.check_grant_uses({index: body.get("authorisations") for index, body in entries})
        for index, body in entries:
            self._compare(index, body)
            if (provenance := body.get("lineage")) is not None:
                self.records.check_provenance(provenance)

    def _compare(self, index: int, body: Body) -> None:
        kind = body["kind"]
        if kind == "chunk":
            self.batches.check_chunk(index, body)
        elif kind == "batch_end":
            self.batches.check_batch_end(index, body)
        elif kind == "report":
            self.slides.check_report(index, body)
        elif kind in ("slide_state", "slide_note"):
            self.slides.check_slide(index, body)
            if kind == "slide_state" and body["state"] in STATES_WITH_READING:
                self.slides.check_reading(index, body)
        elif kind == "erasure":
            self.erasures.check_erasure(index, body)
        elif kind == "events":
            self.records.check_events(index, body)
        elif kind == "export":
            self.records.check_export(index, body)
        elif kind == "epoch":
            self.report.epochs.append((index, body))
        elif kind in ROW_TABLES:
            self.records.check_row(index, body)
        elif kind == "revocation":
            self.records.check_revocation(index, body)

    def finish(self) -> None:
        for checks in (self.batches, self.slides, self.records):
            checks.finish()
        self.erasures.finish(self.decisions.unsalted_decisions)
        subject_count = self._count(BATCH_SUBJECTS)
        if subject_count != (recorded_count := self.report.rows["batch_subjects"]):
            detail = f"there are {subject_count:,}, but log entries record {recorded_count:,}"
            self.report.add("added", "batch_subjects", detail)
        for table, name in _LOGGED_TABLES:
            count = self._count(table)
            if count == self.report.rows[table.name]:
                continue
            has_entry = sa.exists().where(LOG_LEAVES.c.index == table.c.leaf, LOG_LEAVES.c.ref == name)
            added = self.connection.execute(sa.select(name).where(~has_entry).limit(MAX_FINDINGS)).scalars().all()
            for row_name in added:
                self.report_added(f"{table.name} {row_name}")
            if not added:
                detail = f"there are {count:,} rows, but log entries record {self.report.rows[table.name]:,}"
                self.report.add("added", table.name, detail)

    def _count(self, table: sa.Table) -> int:
        return self.connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
