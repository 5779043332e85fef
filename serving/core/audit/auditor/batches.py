"""Compare batches, their chunks and the rows about stored subjects with the log entries that record them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from serving.core.audit import entries
from serving.core.audit.auditor.findings import (
    MAX_FINDINGS,
    Body,
    Comparison,
    Finding,
    digest_or_none,
    edited_detail,
)
from serving.core.audit.entry_checks import to_bytes
from serving.core.audit.verify import salted_digest
from serving.core.db.schema import BATCH_CHUNKS, BATCH_SUBJECTS, BATCHES

# Digests in a chunk's entry, and the columns of BATCHES that each covers.
DIGEST_COLUMNS = {
    "record": ", ".join(entries.BATCH_FIELDS),
    "counts": ", ".join(entries.BATCH_COUNT_FIELDS),
    "key": "idempotency_key",
}


class BatchChecks(Comparison):
    def check_chunk(self, index: int, body: Body) -> None:
        batch_columns = [column.label(f"of_{column.name}") for column in BATCHES.c]
        stmt = sa.select(BATCH_CHUNKS, *batch_columns).outerjoin(BATCHES, BATCHES.c.id == BATCH_CHUNKS.c.batch)
        stmt = stmt.where(BATCH_CHUNKS.c.batch == body["batch"], BATCH_CHUNKS.c.first_row == body["first"])
        row, name = self.connection.execute(stmt).mappings().first(), f"{body['batch']}, row {body['first']}"
        if row is None:
            self.report_deleted("batch_chunks", name, index)
            return
        self.report.rows["batch_chunks"] += 1
        self.check_leaf_index("batch_chunks", name, row["leaf"], index)
        salt = to_bytes(row["salt"])
        if salted_digest(salt, to_bytes(row["content"])) != body["content"] or row["rows"] != body["rows"]:
            self.report_edited(f"batch_chunks {name}", index, "rows, content or salt")
        self._check_subjects(name, salt, index, body)
        if row["of_id"] is None:
            self.report_deleted("batches", body["batch"], index)
            return
        batch = {column.name: row[f"of_{column.name}"] for column in BATCHES.c}
        if mismatches := [field for field in ("tenant", "bundle", "policy") if batch[field] != body[field]]:
            self.report_edited(f"batches {body['batch']}", index, ", ".join(mismatches))
        self._check_batch(batch, salt, index, body)

    def _check_batch(self, batch: Mapping[str, Any], salt: bytes, index: int, body: Body) -> None:
        """The row of BATCHES must agree with the entry of its last chunk; that it ended has an entry of its own."""
        name = str(body["batch"])
        location = f"batches {name}"
        row = {**batch, "faults": to_bytes(batch["faults"])}
        digests = digest_or_none(entries.batch_digests, row, salt) or dict.fromkeys(DIGEST_COLUMNS)
        if batch["idempotency_key"] is None and batch["state"] == "broken":  # a later attempt took over its key
            digests["key"] = body.get("key")
        mismatches = [columns for field, columns in DIGEST_COLUMNS.items() if digests[field] != body.get(field)]
        detail = edited_detail(index, "; ".join(mismatches))
        self.pending.update(name, Finding("edited", location, detail) if mismatches else None)
        if body["first"] == 1 and (batch["state"], batch["finished"]) != ("running", None):
            detail = f"state: it is {batch['state']}, but no log entry records its end"
            self.pending.update(f"{name} end", Finding("edited", location, detail))

    def check_batch_end(self, index: int, body: Body) -> None:
        name = body["ref"]
        expected = {"tenant": body["tenant"], "state": body["state"], "finished": body["at"]}
        stmt = sa.select(*(BATCHES.c[field] for field in expected)).where(BATCHES.c.id == name)
        row = self.connection.execute(stmt).mappings().first()
        if row is None:
            self.report_deleted("batches", name, index)
            return
        mismatches = [field for field, expected_value in expected.items() if row[field] != expected_value]
        finding = Finding("edited", f"batches {name}", edited_detail(index, ", ".join(mismatches)))
        self.pending.update(f"{name} end", finding if mismatches else None)

    def finish(self) -> None:
        """Report differences that no later entry explained, and batches without a chunk: a batch is stored with its
        first chunk."""
        self.pending.flush()
        chunk = sa.exists().where(BATCH_CHUNKS.c.batch == BATCHES.c.id)
        for batch in self.connection.execute(sa.select(BATCHES.c.id).where(~chunk).limit(MAX_FINDINGS)).scalars().all():
            self.report.add("added", f"batches {batch}", "it has no chunk")

    def _check_subjects(self, name: str, salt: bytes, index: int, body: Body) -> None:
        """The rows of BATCH_SUBJECTS in a chunk, by which a subject's decisions in batches are found."""
        in_batch, first_row = BATCH_SUBJECTS.c.batch == body["batch"], body["first"]
        stmt = sa.select(BATCH_SUBJECTS.c.row, BATCH_SUBJECTS.c.pseudonym).where(in_batch)
        stmt = stmt.where(BATCH_SUBJECTS.c.row.between(first_row, first_row + body["rows"] - 1))
        subjects = {row.row: row.pseudonym for row in self.connection.execute(stmt)}
        self.report.rows["batch_subjects"] += len(subjects)
        digest = salted_digest(salt, entries.encode_subjects(subjects)) if subjects else None
        if digest != body.get("subjects"):
            self.report_edited(f"batch_subjects {name}", index, "the subjects of its rows")
