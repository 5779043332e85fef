"""Records a batch chunk by chunk: the rows, their entry in the audit log and their charge, in one transaction each."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, TypeVar

import orjson
import polars as pl
import sqlalchemy as sa

from datasets.tables.chunk import Chunk
from serving.core.audit import entries
from serving.core.audit.log import merkle_levels
from serving.core.audit.verify import salted_digest
from serving.core.db.codec import pack, row_json
from serving.core.db.tables.decisions import UnloggedBatchChunkRow
from serving.core.http.problems import field_error_to_json
from serving.core.identifiers import utc_now
from serving.decisions.batch import records
from serving.decisions.batch.request import BatchRequest
from serving.decisions.batch.scoring import ScoredChunk
from serving.decisions.products.base import DeployedModel
from serving.decisions.records import DecisionWrite
from serving.decisions.service import DecisionService

log = logging.getLogger("yuheng.batch")
T = TypeVar("T")
Row = dict[str, Any]


class BatchRecorder:
    """Used from the batch's own thread; each method waits until the disk has what it wrote.

    rows, faulty_rows, faults: of the chunks recorded so far; `faults` are the first ones, as JSON.
    """

    def __init__(self, service: DecisionService, request: BatchRequest, model: DeployedModel):
        self.service, self.request, self.model = service, request, model
        self.rows = self.faulty_rows = 0
        self.faults: list[Row] = []
        self._simulated = False
        self._batch_row: Row | None = None  # of BATCHES, without its counts; None until the first chunk is recorded
        self._earlier_attempts: list[
            str
        ] = []  # broken batches of this very request: what they charged is not due again

    def record(self, chunk: Chunk, scored: ScoredChunk) -> None:
        """Record one chunk.

        Raises ConsentRevokedError or SubjectErasedError where a grant or a subject went since the chunk was scored;
        then nothing is recorded, and it may be scored and recorded again.
        """
        request, service, height = self.request, self.service, scored.frame.height
        is_first = self._batch_row is None
        if is_first and (key := request.key) is not None:
            self._earlier_attempts = self._write(
                lambda connection: records.earlier_attempts(
                    connection, request.tenant, request.scope, key, request.digest
                )
            )
        rows, faulty_rows = self.rows + height, self.faulty_rows + scored.faulty_count
        remaining = max(0, service.settings.batch.max_reported_faults - len(self.faults))
        faults = self.faults + [field_error_to_json(fault) for fault in scored.faults[:remaining]]
        simulated = self._simulated or any(inputs.simulated for inputs in scored.subject_inputs.values())
        counts: Row = {
            "rows": rows,
            "answered": rows - faulty_rows,
            "faulty": faulty_rows,
            "faults": orjson.dumps(faults),
            "simulated": self.model.card.simulated or simulated,
        }
        batch_row = self._build_batch_row() if self._batch_row is None else self._batch_row
        write = self._build_write(chunk.first_row, scored, batch_row | counts)

        def transaction(connection: sa.Connection) -> None:
            if is_first:
                records.open_batch(connection, batch_row | counts)
            records.add_chunk(connection, write, counts, scored.pseudonyms)

        self._write(transaction)
        self._batch_row, self._simulated = batch_row, simulated
        self.rows, self.faulty_rows, self.faults = rows, faulty_rows, faults
        self._count(scored)

    def close(self, state: str) -> None:
        """Mark the batch as `done` or `broken`, where any chunk of it was recorded.

        Failing to mark it done is an error; a broken batch that cannot be marked is found at the next start.
        """
        if self._batch_row is None:
            return
        batch_id, finished = self.request.id, utc_now()
        try:
            self._write(lambda connection: records.close_batch(connection, batch_id, state, finished))
        except (Exception, CancelledError):
            log.exception("batch %s: it could not be marked as %s", batch_id, state)
            if state == "done":
                raise

    def _write(self, transaction: Callable[[sa.Connection], T]) -> T:
        return self.service.store.writer.run(transaction).result()

    def _count(self, scored: ScoredChunk) -> None:
        """Add the recorded chunk to the metrics and the input counts."""
        service, tenant = self.service, self.request.tenant
        answered = scored.frame.height - scored.faulty_count
        service.metrics.batch_rows.labels(self.model.card.model, "answered").inc(answered)
        service.metrics.batch_rows.labels(self.model.card.model, "faulty").inc(scored.faulty_count)
        answers = scored.frame.filter(pl.col("decision").is_not_null())
        service.input_counter.add_batch(self.model, tenant, scored.valid_rows, answers)

    def _build_write(self, first_row: int, scored: ScoredChunk, batch_row: Row) -> DecisionWrite:
        """The chunk's row, its one log entry over all of its rows, and its one line of METER.

        batch_row: the batch's own row of BATCHES as it stands once this chunk is recorded.
        """
        request, model, timestamp, salt = self.request, self.model, utc_now(), os.urandom(entries.SALT_BYTES)
        product, rows = model.card.product, scored.frame.height
        content = pack(scored.frame)
        row: UnloggedBatchChunkRow = {
            "batch": request.id, "first_row": first_row, "rows": rows, "content": content, "salt": salt
        }  # fmt: skip
        *_, (root,) = merkle_levels(entries.row_hashes(salt, row_json(scored.frame, request.id)))
        price, answered = self.service.prices.price_for(product, request.tenant, timestamp), rows - scored.faulty_count
        units = answered - self._count_already_charged(first_row, scored.frame)
        details: Row = {
            "product": product,
            "upload": salted_digest(salt, request.digest.encode()),
            "answered": answered,
        }
        if scored.subject_inputs:
            details["subjects"] = salted_digest(salt, entries.encode_subjects(scored.pseudonyms))
        grants = sorted({grant for inputs in scored.subject_inputs.values() for grant in inputs.grants})
        details |= {"bundle": model.digest, "policy": model.policy, "lineage": model.lineage.sha256}
        details |= {"authorisations": grants, **entries.batch_digests(batch_row, salt)}
        entry = entries.chunk_entry(row, request.tenant, root, timestamp, **details, price=price.describe(units))
        charge = price.charge(entry.ref, request.tenant, product, timestamp, units)
        return DecisionWrite(row, entry, charge, model.lineage, grants)

    def _build_batch_row(self) -> Row:
        request, card = self.request, self.model.card
        return {
            "id": request.id,
            "tenant": request.tenant,
            "scope": request.scope,
            "idempotency_key": request.key,
            "request_sha256": request.digest,
            "state": "running",
            "owner": os.getpid(),
            "format": request.output_format,
            "model": card.model,
            "version": card.version,
            "bundle": self.model.digest,
            "policy": self.model.policy,
            "simulated": card.simulated,
            "created": utc_now(),
            "finished": None,
            "retry_of": self._earlier_attempts[0] if self._earlier_attempts else None,
        }

    def _count_already_charged(self, first_row: int, frame: pl.DataFrame) -> int:
        if not (attempts := self._earlier_attempts):
            return 0
        earlier_chunks = self._write(
            lambda connection: records.stored_chunks(connection, attempts, first_row, frame.height)
        )
        return records.already_charged(frame, earlier_chunks)
