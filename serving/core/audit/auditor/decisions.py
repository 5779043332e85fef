"""The rows that the log's leaves stand for, each compared with what its leaf tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import sqlalchemy as sa

from serving.core.audit import entries
from serving.core.audit.auditor.batches import BatchChecks
from serving.core.audit.auditor.findings import MAX_FINDINGS, AuditReport, Body, Comparison, digest_or_none, to_bytes
from serving.core.audit.auditor.slides import STATES_WITH_READING, SlideChecks
from serving.core.audit.verify import salted_digest
from serving.core.db.schema import (
    BATCH_CHUNKS,
    BATCH_SUBJECTS,
    DECISIONS,
    ERASURES,
    GRANT_USES,
    GRANTS,
    LOG_LEAVES,
    METER,
    OUTCOMES,
    OVERRIDES,
    PROMOTIONS,
    PROVENANCE,
    REFERRALS,
    SLIDE_REPORTS,
)

# What a leaf of each kind tells, as far as it is compared here.
ROW_TABLES = {
    "grant": GRANTS,
    "outcome": OUTCOMES,
    "override": OVERRIDES,
    "promotion": PROMOTIONS,
    "referral": REFERRALS,
}  # kind of leaf -> the table of its row
ENTRY_SHAPES: dict[str, dict[str, type]] = {
    "start": {"before": dict},
    "decision": {"bundle": str, "policy": str, "answer": str, "record": str},
    "chunk": {"batch": str, "first": int, "rows": int, "content": str, "bundle": str, "policy": str},
    "batch_end": {"state": str},
    "slide_state": {"state": str, "reading": str},
    "slide_note": {"state": str, "event": int, "since": int, "way": str, "record": str},
    "report": {"slide": str, "version": int, "pdf": str, "record": str},
    "erasure": {"decisions": list},
    **{kind: {"row": str} for kind in ROW_TABLES},
    "revocation": {"revoked_at": str},
}
PRICE_SHAPE = {"units": int, "rules": str, "rule": str, "fen": int}


class DecisionChecks(Comparison):
    """`compare` the leaves in their order, then `finish`."""

    def __init__(self, connection: sa.Connection, report: AuditReport):
        super().__init__(connection, report)
        self.batches, self.slides = BatchChecks(connection, report), SlideChecks(connection, report)
        self.preexisting_counts: Mapping[str, int] = {}  # rows that were there when the log began, by table
        self.log_started_at = ""
        self.checked_provenance: set[str] = set()
        self.unsalted_decisions: set[str] = set()  # decisions whose salt is gone
        self.logged_erasures: set[str] = set()  # and those of which a leaf says so

    def finish(self) -> None:
        """What no leaf tells of."""
        for decision in sorted(self.unsalted_decisions - self.logged_erasures):
            self.report.add("edited", f"decisions {decision}", "its salt is gone, and no leaf tells of an erasure")
        self.batches.finish()
        self.slides.finish()
        self._report_added_rows()
        self._report_unlogged_rows()
        self._report_unlogged_uses()

    def compare(self, leaves: list[tuple[int, Body]]) -> None:
        decisions = {body["ref"]: (index, body) for index, body in leaves if body["kind"] == "decision"}
        if decisions:
            self._check_decisions(decisions)
        priced_leaves = {body["ref"]: (index, body) for index, body in leaves if "price" in body}
        if priced_leaves:
            self._check_meter(priced_leaves)
        if leaves:
            self._check_grant_uses({index: body.get("authorisations") for index, body in leaves})
        for index, body in leaves:
            kind = body["kind"]
            if kind == "start" and index == 0:
                self.preexisting_counts, self.log_started_at = body["before"], body["at"]
            elif kind == "chunk":
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
                self.logged_erasures.update(map(str, body["decisions"]))
                self._check_erasure(index, body)
            elif kind in ROW_TABLES:
                self._check_row(index, body, ROW_TABLES[kind])
            elif kind == "revocation":
                self._check_revocation(index, body)
            if (provenance := body.get("lineage")) is not None and provenance not in self.checked_provenance:
                self._check_provenance(provenance)

    def _check_decisions(self, leaves: dict[str, tuple[int, Body]]) -> None:
        names = ("id", "leaf", "tenant", "bundle", "policy", "salt", "answer", *entries.DECISION_FIELDS)
        stmt = sa.select(*(DECISIONS.c[name] for name in names)).where(DECISIONS.c.id.in_(leaves))
        existing = set()
        for name, leaf, tenant, bundle, policy, salt, answer, *record in self.connection.execute(stmt):
            existing.add(name)
            index, body = leaves[name]
            self.check_leaf_index("decisions", name, leaf, index)
            if salt is None:  # what was salted proves nothing any more
                self.unsalted_decisions.add(name)
                digests = body["answer"], body["record"]
            else:
                encoded_record = orjson.dumps(record, default=repr)
                digests = salted_digest(to_bytes(salt), to_bytes(answer)), salted_digest(to_bytes(salt), encoded_record)
            actual = tenant, bundle, policy, *digests
            if actual != (body["tenant"], body["bundle"], body["policy"], body["answer"], body["record"]):
                columns = ("tenant", "bundle", "policy", "answer", ", ".join(entries.DECISION_FIELDS))
                expected = (body[field] for field in (*columns[:4], "record"))
                mismatches = [
                    field
                    for field, actual_value, expected_value in zip(columns, actual, expected, strict=True)
                    if actual_value != expected_value
                ]
                self.report_edited(f"decisions {name}", index, "; ".join(mismatches))
        self.report.rows["decisions"] += len(existing)
        self.report_missing("decisions", leaves, existing)

    def _check_meter(self, leaves: dict[str, tuple[int, Body]]) -> None:
        names = ("tenant", "product", "at", "units", "rules", "rule", "fen")
        stmt = sa.select(METER.c.decision, METER.c.leaf, *(METER.c[name] for name in names))
        existing = set()
        for name, leaf, *actual in self.connection.execute(stmt.where(METER.c.decision.in_(leaves))):
            existing.add(name)
            index, body = leaves[name]
            self.check_leaf_index("meter", name, leaf, index)
            price = body["price"]
            expected = [body["tenant"], body["product"], body["at"]]
            expected += [price["units"], price["rules"], price["rule"], price["fen"]]
            if actual != expected:
                mismatches = [
                    field
                    for field, actual_value, expected_value in zip(names, actual, expected, strict=True)
                    if actual_value != expected_value
                ]
                self.report_edited(f"meter {name}", index, ", ".join(mismatches))
        self.report.rows["meter"] += len(existing)
        self.report_missing("meter", leaves, existing)

    def _check_grant_uses(self, grants_by_leaf: dict[int, Any]) -> None:
        """Of a part of the log: which of its leaves name an authorisation."""
        expected = {
            (str(grant), index)
            for index, grants in grants_by_leaf.items()
            if isinstance(grants, list)
            for grant in grants
        }
        stmt = sa.select(GRANT_USES.c.authorisation, GRANT_USES.c.leaf)
        in_range = GRANT_USES.c.leaf.between(min(grants_by_leaf), max(grants_by_leaf))
        actual = {(grant, index) for grant, index in self.connection.execute(stmt.where(in_range)).all()}
        self.report.rows["grant_uses"] += len(expected & actual)
        for one, index in sorted(expected - actual):
            self.report.add("deleted", f"grant_uses {one}, {index}", f"leaf {index} tells of it")
        for one, index in sorted(actual - expected):
            self.report.add("added", f"grant_uses {one}, {index}", "no leaf tells of it")

    def _check_erasure(self, index: int, body: Body) -> None:
        """Which subjects no training may see again stands in its columns."""
        if "certificate_sha256" not in body:
            return
        row = self.connection.execute(sa.select(ERASURES).where(ERASURES.c.id == body["ref"])).mappings().first()
        if row is None:
            self.report_deleted("erasures", body["ref"], index)
            return
        self.report.rows["erasures"] += 1
        self.check_leaf_index("erasures", body["ref"], row["leaf"], index)
        content = to_bytes(row["certificate"])
        if entries.sha256_hex(content) != body["certificate_sha256"]:
            self.report_edited(f"erasures {body['ref']}", index, "certificate")
            return
        certified = orjson.loads(content)
        if mismatches := [name for name in ("product", "pseudonym", "at") if row[name] != certified[name]]:
            self.report_edited(f"erasures {body['ref']}", index, ", ".join(mismatches))

    def _check_row(self, index: int, body: Body, table: sa.Table) -> None:
        row = self.fetch_row(sa.select(table).where(table.c.id == body["ref"]), table.name, body["ref"], index)
        if row is None:
            return
        self.report.rows[table.name] += 1
        if digest_or_none(entries.row_digest, table, row) != body["row"]:
            self.report_edited(f"{table.name} {body['ref']}", index, "the row")

    def _check_revocation(self, index: int, body: Body) -> None:
        row = self.fetch_row(sa.select(GRANTS).where(GRANTS.c.id == body["ref"]), "grants", body["ref"], index)
        if row is None:
            return
        self.report.rows["revocations"] += 1
        if row["revoked_at"] != body["revoked_at"]:
            self.report_edited(f"grants {body['ref']}", index, "revoked_at")

    def _report_unlogged_rows(self) -> None:
        """Rows that nobody entered, and revocations that nobody made."""
        leaf_columns, is_revoked = LOG_LEAVES.c, GRANTS.c.revoked_at.is_not(None)
        tables = [(table.name, kind, table, sa.true()) for kind, table in ROW_TABLES.items()]
        for label, kind, table, condition in [*tables, ("revocations", "revocation", GRANTS, is_revoked)]:
            count = self.connection.execute(sa.select(sa.func.count()).select_from(table).where(condition)).scalar_one()
            if count == self.report.rows[label]:
                continue
            has_leaf = sa.exists().where(leaf_columns.kind == kind, leaf_columns.ref == table.c.id)
            for row_id in self.connection.execute(
                sa.select(table.c.id).where(condition, ~has_leaf).limit(MAX_FINDINGS)
            ).scalars():
                self.report.add("added", f"{label} {row_id}", "no leaf tells of it")

    def _report_unlogged_uses(self) -> None:
        """Uses in leaves that are not there; the others were compared with theirs."""
        has_leaf = sa.exists().where(LOG_LEAVES.c.index == GRANT_USES.c.leaf)
        stmt = sa.select(GRANT_USES.c.authorisation, GRANT_USES.c.leaf).where(~has_leaf).limit(MAX_FINDINGS)
        for grant, index in self.connection.execute(stmt).all():
            self.report.add("added", f"grant_uses {grant}, {index}", "there is no such leaf")

    def _check_provenance(self, digest: str) -> None:
        self.checked_provenance.add(digest)
        stmt = sa.select(PROVENANCE.c.body, PROVENANCE.c.bundle).where(PROVENANCE.c.sha256 == digest)
        row = self.connection.execute(stmt).first()
        if row is None:
            self.report.add("deleted", f"lineages {digest}", "leaves name it")
        elif entries.sha256_hex(to_bytes(row.body)) != digest or orjson.loads(row.body)["bundle"] != row.bundle:
            self.report.add("edited", f"lineages {digest}", "its body does not have its digest, or its bundle")

    def _report_added_rows(self) -> None:
        """Rows that no leaf tells of."""
        subject_count = self.connection.execute(sa.select(sa.func.count()).select_from(BATCH_SUBJECTS)).scalar_one()
        if subject_count != (proved_count := self.report.rows["batch_subjects"]):
            self.report.add(
                "added",
                "batch_subjects",
                f"{subject_count:,} are there; {proved_count:,} lie within chunks with a leaf",
            )
        for table, name, created_column in (
            (DECISIONS, DECISIONS.c.id, DECISIONS.c.created),
            (METER, METER.c.decision, METER.c.at),
            (BATCH_CHUNKS, BATCH_CHUNKS.c.batch + "-" + sa.cast(BATCH_CHUNKS.c.first_row, sa.String), None),
            (
                SLIDE_REPORTS,
                SLIDE_REPORTS.c.slide + "-" + sa.cast(SLIDE_REPORTS.c.version, sa.String),
                SLIDE_REPORTS.c.at,
            ),
            (ERASURES, ERASURES.c.id, ERASURES.c.at),
        ):
            count = self.connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            preexisting = self.preexisting_counts.get(table.name, 0)
            balanced = count == self.report.rows[table.name] + preexisting
            if balanced and not (preexisting and created_column is not None):
                continue
            leaf_columns = LOG_LEAVES.c
            has_leaf = sa.exists().where(leaf_columns.index == table.c.leaf, leaf_columns.ref == name)
            stmt = sa.select(name).where(~has_leaf)
            if preexisting:
                is_newer = sa.false() if created_column is None else created_column >= self.log_started_at
                stmt = stmt.where(sa.or_(table.c.leaf.is_not(None), is_newer))
            added = self.connection.execute(stmt.limit(MAX_FINDINGS)).scalars().all()
            for row_name in added:
                self.report.add("added", f"{table.name} {row_name}", "no leaf tells of it")
            if not added and not balanced:
                detail = f"{count:,} are there; {self.report.rows[table.name]:,} have leaves, {preexisting:,} were before the log"
                self.report.add("added" if count > preexisting else "deleted", table.name, detail)


def is_well_formed(body: Any) -> bool:
    """Whether a leaf tells what is compared of its kind."""
    shape = dict(ENTRY_SHAPES.get(body["kind"], {}))
    if body["kind"] == "slide_state" and "event" in body:
        shape |= ENTRY_SHAPES["slide_note"]
    if "price" in body:
        shape |= {"product": str, "price": dict}
    valid = all(type(body.get(name)) is kind for name, kind in shape.items())
    if valid and "price" in body:
        valid = all(type(body["price"].get(name)) is kind for name, kind in PRICE_SHAPE.items())
    if valid and body["kind"] == "start":
        valid = all(type(count) is int for count in body["before"].values())
    return valid and type(body.get("lineage", "")) is str
