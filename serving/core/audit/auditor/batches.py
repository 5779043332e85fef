"""Batches as their leaves tell of them: each chunk with its rows, and the batch's own line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from serving.core.audit import entries
from serving.core.audit.auditor.findings import MAX_FINDINGS, Body, Comparison, Finding, digest_or_none, to_bytes
from serving.core.audit.verify import salted_digest
from serving.core.db.schema import BATCH_CHUNKS, BATCH_SUBJECTS, BATCHES

# Digests in a chunk's leaf, and the columns that each stands for.
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
        if (
            salted_digest(to_bytes(row["salt"]), to_bytes(row["content"])) != body["content"]
            or row["rows"] != body["rows"]
        ):
            self.report_edited(f"batch_chunks {name}", index, "rows, content or salt")
        self._check_subjects(name, row, index, body)
        if row["of_id"] is None:
            self.report_deleted("batches", body["batch"], index)
            return
        batch = {column.name: row[f"of_{column.name}"] for column in BATCHES.c}
        if mismatches := [field for field in ("tenant", "bundle", "policy") if batch[field] != body[field]]:
            self.report_edited(f"batches {body['batch']}", index, ", ".join(mismatches))
        if "record" in body:
            self._check_batch_row(batch, to_bytes(row["salt"]), index, body)

    def _check_batch_row(self, batch: Mapping[str, Any], salt: bytes, index: int, body: Body) -> None:
        """The batch's own, which stands as its last chunk tells; and once it ended a leaf says so."""
        name = str(body["batch"])
        location = f"batches {name}"
        digests = digest_or_none(
            entries.batch_digests, {**batch, "faults": to_bytes(batch["faults"])}, salt
        ) or dict.fromkeys(DIGEST_COLUMNS)
        if batch["idempotency_key"] is None and batch["state"] == "broken":  # a later try has its key
            digests["key"] = body.get("key")
        mismatches = [columns for field, columns in DIGEST_COLUMNS.items() if digests[field] != body.get(field)]
        detail = f"{'; '.join(mismatches)}: not as leaf {index} tells"
        self.pending.update(name, Finding("edited", location, detail) if mismatches else None)
        if body["first"] == 1 and (batch["state"], batch["finished"]) != ("running", None):
            detail = f"state: it is {batch['state']}, and no leaf tells of its end"
            self.pending.update(f"{name} end", Finding("edited", location, detail))

    def check_batch_end(self, index: int, body: Body) -> None:
        name = body["ref"]
        location, expected = (
            f"batches {name}",
            {"tenant": body["tenant"], "state": body["state"], "finished": body["at"]},
        )
        stmt = sa.select(*(BATCHES.c[field] for field in expected)).where(BATCHES.c.id == name)
        row = self.connection.execute(stmt).mappings().first()
        if row is None:
            self.report_deleted("batches", name, index)
            return
        mismatches = [field for field, expected_value in expected.items() if row[field] != expected_value]
        detail = f"{', '.join(mismatches)}: not as leaf {index} tells"
        self.pending.update(f"{name} end", Finding("edited", location, detail) if mismatches else None)

    def finish(self) -> None:
        """What waits for a leaf that did not come; and lines that nobody opened, as each came with its first chunk."""
        self.pending.flush()
        chunk = sa.exists().where(BATCH_CHUNKS.c.batch == BATCHES.c.id)
        for batch in self.connection.execute(sa.select(BATCHES.c.id).where(~chunk).limit(MAX_FINDINGS)).scalars().all():
            self.report.add("added", f"batches {batch}", "no chunk of it is there")

    def _check_subjects(self, name: str, chunk: sa.RowMapping, index: int, body: Body) -> None:
        """By which a subject's trace finds its rows of batches."""
        in_batch, first_row = BATCH_SUBJECTS.c.batch == body["batch"], body["first"]
        stmt = sa.select(BATCH_SUBJECTS.c.row, BATCH_SUBJECTS.c.pseudonym).where(in_batch)
        stmt = stmt.where(BATCH_SUBJECTS.c.row.between(first_row, first_row + body["rows"] - 1))
        subjects = {row.row: row.pseudonym for row in self.connection.execute(stmt)}
        self.report.rows["batch_subjects"] += len(subjects)
        if (
            salted_digest(to_bytes(chunk["salt"]), entries.encode_subjects(subjects)) if subjects else None
        ) != body.get("subjects"):
            self.report_edited(f"batch_subjects {name}", index, "which rows are about whom")
