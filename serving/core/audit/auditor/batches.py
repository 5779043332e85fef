"""Batches as their leaves tell of them: each chunk with its rows, and the batch's own line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from serving.core.audit import entries
from serving.core.audit.auditor.findings import MOST, Body, Comparison, Finding, made_of, raw
from serving.core.audit.verify import salted
from serving.core.db.schema import BATCH_SUBJECTS, BATCHES, CHUNKS

# Digests in a chunk's leaf, and the columns that each stands for.
TOLD = {"record": ", ".join(entries.BATCH), "counts": ", ".join(entries.COUNTS), "key": "idempotency_key"}


class Batches(Comparison):
    def chunk(self, index: int, body: Body) -> None:
        of = [column.label(f"of_{column.name}") for column in BATCHES.c]
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
            return
        batch = {column.name: row[f"of_{column.name}"] for column in BATCHES.c}
        if wrong := [part for part in ("tenant", "bundle", "policy") if batch[part] != body[part]]:
            self.differs(f"batches {body['batch']}", index, ", ".join(wrong))
        if "record" in body:
            self._line(batch, raw(row["salt"]), index, body)

    def _line(self, batch: Mapping[str, Any], salt: bytes, index: int, body: Body) -> None:
        """The batch's own, which stands as its last chunk tells; and once it ended a leaf says so."""
        name = str(body["batch"])
        where = f"batches {name}"
        found = made_of(entries.batch, {**batch, "faults": raw(batch["faults"])}, salt) or dict.fromkeys(TOLD)
        if batch["idempotency_key"] is None and batch["state"] == "broken":  # a later try has its key
            found["key"] = body.get("key")
        wrong = [columns for part, columns in TOLD.items() if found[part] != body.get(part)]
        why = f"{'; '.join(wrong)}: not as leaf {index} tells"
        self.last.tell(name, Finding("edited", where, why) if wrong else None)
        if body["first"] == 1 and (batch["state"], batch["finished"]) != ("running", None):
            why = f"state: it is {batch['state']}, and no leaf tells of its end"
            self.last.tell(f"{name} end", Finding("edited", where, why))

    def end(self, index: int, body: Body) -> None:
        name = body["ref"]
        where, wanted = f"batches {name}", {"tenant": body["tenant"], "state": body["state"], "finished": body["at"]}
        chosen = sa.select(*(BATCHES.c[part] for part in wanted)).where(BATCHES.c.id == name)
        row = self.connection.execute(chosen).mappings().first()
        if row is None:
            self.gone("batches", name, index)
            return
        wrong = [part for part, was in wanted.items() if row[part] != was]
        why = f"{', '.join(wrong)}: not as leaf {index} tells"
        self.last.tell(f"{name} end", Finding("edited", where, why) if wrong else None)

    def finish(self) -> None:
        """What waits for a leaf that did not come; and lines that nobody opened, as each came with its first chunk."""
        self.last.finish()
        chunk = sa.exists().where(CHUNKS.c.batch == BATCHES.c.id)
        for batch in self.connection.execute(sa.select(BATCHES.c.id).where(~chunk).limit(MOST)).scalars().all():
            self.report.add("added", f"batches {batch}", "no chunk of it is there")

    def _named(self, name: str, chunk: sa.RowMapping, index: int, body: Body) -> None:
        """By which a subject's trace finds its rows of batches."""
        mine, first = BATCH_SUBJECTS.c.batch == body["batch"], body["first"]
        chosen = sa.select(BATCH_SUBJECTS.c.row, BATCH_SUBJECTS.c.pseudonym).where(mine)
        chosen = chosen.where(BATCH_SUBJECTS.c.row.between(first, first + body["rows"] - 1))
        found = {row.row: row.pseudonym for row in self.connection.execute(chosen)}
        self.report.rows["batch_subjects"] += len(found)
        if (salted(raw(chunk["salt"]), entries.named(found)) if found else None) != body.get("subjects"):
            self.differs(f"batch_subjects {name}", index, "which rows are about whom")
