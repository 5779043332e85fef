"""Compare rows that an entry records as a whole: grants, outcomes, overrides, promotions, referrals, bundles'
provenance; and the index of which entries used a grant."""

from __future__ import annotations

from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.audit import entries
from serving.core.audit.auditor.entry_shapes import ROW_TABLES
from serving.core.audit.auditor.findings import (
    MAX_FINDINGS,
    AuditReport,
    Body,
    Comparison,
    digest_or_none,
)
from serving.core.audit.entry_checks import to_bytes
from serving.core.audit.events import events_digest
from serving.core.db.schema import DATASET_ROWS, EVENTS, GRANT_USES, GRANTS, LOG_LEAVES, PROVENANCE


class RecordChecks(Comparison):
    def __init__(self, connection: sa.Connection, report: AuditReport):
        super().__init__(connection, report)
        self._checked_provenance: set[str] = set()
        self._exported: dict[str, tuple[int, Body]] = {}  # data set -> its newest entry

    def check_row(self, index: int, body: Body) -> None:
        table = ROW_TABLES[body["kind"]]
        row = self.fetch_row(sa.select(table).where(table.c.id == body["ref"]), table.name, body["ref"], index)
        if row is None:
            return
        self.report.rows[table.name] += 1
        if digest_or_none(entries.row_digest, table, row) != body["row"]:
            self.report_edited(f"{table.name} {body['ref']}", index, "the row")

    def check_revocation(self, index: int, body: Body) -> None:
        row = self.fetch_row(sa.select(GRANTS).where(GRANTS.c.id == body["ref"]), "grants", body["ref"], index)
        if row is None:
            return
        self.report.rows["revocations"] += 1
        if row["revoked_at"] != body["revoked_at"]:
            self.report_edited(f"grants {body['ref']}", index, "revoked_at")

    def check_events(self, index: int, body: Body) -> None:
        """All events of an entry, which digests them together."""
        stmt = sa.select(EVENTS).where(EVENTS.c.entry == body["ref"])
        rows = self.connection.execute(stmt).mappings().all()
        self.report.rows["events"] += len(rows)
        location = f"events of {body['ref']}"
        if len(rows) < body["count"]:
            self.report_deleted("events", f"of {body['ref']}: {body['count'] - len(rows)}", index)
        elif len(rows) > body["count"]:
            self.report_added(location)
        elif digest_or_none(events_digest, rows) != body["rows"]:
            self.report_edited(location, index, "the rows")
        for row in rows:
            self.check_leaf_index("events", row["id"], row["leaf"], index)

    def check_export(self, index: int, body: Body) -> None:
        """The members of an exported data set, by which an erasure finds the models that were trained on a subject."""
        self._exported[body["ref"]] = index, body

    def check_provenance(self, digest: str) -> None:
        if digest in self._checked_provenance:
            return
        self._checked_provenance.add(digest)
        stmt = sa.select(PROVENANCE.c.body, PROVENANCE.c.bundle).where(PROVENANCE.c.sha256 == digest)
        row = self.connection.execute(stmt).first()
        if row is None:
            self.report.add("deleted", f"lineages {digest}", "log entries name it")
        elif entries.sha256_hex(to_bytes(row.body)) != digest or orjson.loads(row.body)["bundle"] != row.bundle:
            self.report.add("edited", f"lineages {digest}", "its body does not match its digest, or its bundle")

    def check_grant_uses(self, grants_by_leaf: dict[int, Any]) -> None:
        """Compare GRANT_USES with the authorisations that a range of entries names."""
        expected = {
            (str(grant), index)
            for index, grants in grants_by_leaf.items()
            if isinstance(grants, list)
            for grant in grants
        }
        in_range = GRANT_USES.c.leaf.between(min(grants_by_leaf), max(grants_by_leaf))
        stmt = sa.select(GRANT_USES.c.authorisation, GRANT_USES.c.leaf).where(in_range)
        actual = {(grant, index) for grant, index in self.connection.execute(stmt).all()}
        self.report.rows["grant_uses"] += len(expected & actual)
        for grant, index in sorted(expected - actual):
            self.report_deleted("grant_uses", f"{grant}, {index}", index)
        for grant, index in sorted(actual - expected):
            self.report_added(f"grant_uses {grant}, {index}")

    def _finish_exports(self) -> None:
        for dataset, (index, body) in self._exported.items():
            actual = entries.dataset_digest(self.connection, dataset)
            self.report.rows["dataset_rows"] += actual["count"]
            if actual["count"] < body["count"]:
                self.report_deleted("dataset_rows", f"of {dataset}: {body['count'] - actual['count']}", index)
            elif actual != {"rows": body["rows"], "count": body["count"]}:
                self.report_edited(f"dataset_rows of {dataset}", index, "the rows")
        unlogged = sa.select(DATASET_ROWS.c.dataset_sha256).distinct()
        for dataset in self.connection.execute(unlogged).scalars():
            if dataset not in self._exported:
                self.report_added(f"dataset_rows of {dataset}")

    def finish(self) -> None:
        """Report rows, revocations and uses of grants that no entry records."""
        self._finish_exports()
        for digest in self.connection.execute(sa.select(PROVENANCE.c.sha256)).scalars():
            if digest not in self._checked_provenance:
                self.report_added(f"lineages {digest}")
        leaves, is_revoked = LOG_LEAVES.c, GRANTS.c.revoked_at.is_not(None)
        tables = [(table.name, kind, table, sa.true()) for kind, table in ROW_TABLES.items()]
        for label, kind, table, condition in [*tables, ("revocations", "revocation", GRANTS, is_revoked)]:
            count = self.connection.execute(sa.select(sa.func.count()).select_from(table).where(condition)).scalar_one()
            if count == self.report.rows[label]:
                continue
            has_leaf = sa.exists().where(leaves.kind == kind, leaves.ref == table.c.id)
            unlogged = sa.select(table.c.id).where(condition, ~has_leaf).limit(MAX_FINDINGS)
            for row_id in self.connection.execute(unlogged).scalars():
                self.report_added(f"{label} {row_id}")
        has_leaf = sa.exists().where(leaves.index == GRANT_USES.c.leaf)
        stmt = sa.select(GRANT_USES.c.authorisation, GRANT_USES.c.leaf).where(~has_leaf).limit(MAX_FINDINGS)
        for grant, index in self.connection.execute(stmt).all():
            self.report.add("added", f"grant_uses {grant}, {index}", "there is no such log entry")
