"""Batches as their leaves tell of them: each chunk with its rows, and the batch's own line."""

from __future__ import annotations

import sqlalchemy as sa

from serving.store.tables import BATCH_SUBJECTS, BATCHES, CHUNKS
from serving.trust import leaves
from serving.trust.audit_report import Body, Comparison, raw
from serving.trust.verify import salted


class Batches(Comparison):
    def chunk(self, index: int, body: Body) -> None:
        of = [BATCHES.c[name].label(f"of_{name}") for name in ("id", "tenant", "bundle", "policy")]
        chosen = sa.select(CHUNKS, *of).outerjoin(BATCHES, BATCHES.c.id == CHUNKS.c.batch)
        chosen = chosen.where(CHUNKS.c.batch == body["batch"], CHUNKS.c.first_row == body["first"])
        row, name = self.connection.execute(chosen).mappings().first(), f"{body['batch']}, row {body['first']}"
        if row is None:
            self.gone("batch_chunks", name, index)
            return
        self.report.rows["batch_chunks"] += 1
        self.linked("batch_chunks", name, row["leaf"], index)
        if salted(raw(row["salt"]), raw(row["content"])) != body["content"] or row["rows"] != body["rows"]:
            self.differs(f"batch_chunks {name}", index, "rows, content or salt")
        self._named(name, row, index, body)
        if row["of_id"] is None:
            self.gone("batches", body["batch"], index)
        elif wrong := [part for part in ("tenant", "bundle", "policy") if row[f"of_{part}"] != body[part]]:
            self.differs(f"batches {body['batch']}", index, ", ".join(wrong))

    def _named(self, name: str, chunk: sa.RowMapping, index: int, body: Body) -> None:
        """By which a subject's trace finds its rows of batches."""
        mine, first = BATCH_SUBJECTS.c.batch == body["batch"], body["first"]
        chosen = sa.select(BATCH_SUBJECTS.c.row, BATCH_SUBJECTS.c.pseudonym).where(mine)
        chosen = chosen.where(BATCH_SUBJECTS.c.row.between(first, first + body["rows"] - 1))
        found = {row.row: row.pseudonym for row in self.connection.execute(chosen)}
        self.report.rows["batch_subjects"] += len(found)
        if (salted(raw(chunk["salt"]), leaves.named(found)) if found else None) != body.get("subjects"):
            self.differs(f"batch_subjects {name}", index, "which rows are about whom")
