"""One batch from its spooled upload to the last byte of its answer. Runs in a thread of its own."""

from __future__ import annotations

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from datasets.errors import FieldError, UnreadableFileError
from datasets.schema import MAX_UNKNOWN_NAMES, find_unknown_names
from serving.core.audit import entries
from serving.core.audit.log import merkle_levels
from serving.core.audit.verify import salted_digest
from serving.core.billing.prices import Prices
from serving.core.db.codec import decode_frame, pack, row_json
from serving.core.db.reader import StoreReader
from serving.core.db.writer import GroupCommitWriter
from serving.core.http.metrics import Metrics
from serving.core.http.problems import ProblemError, field_error_to_json
from serving.core.identifiers import utc_now
from serving.decisions.batch import records
from serving.decisions.batch.formats import (
    EXPECTED_COLUMN,
    SUBJECT_COLUMN,
    Chunk,
    encode_rows,
    first_record,
    read_chunks,
    read_column_names,
    read_row_count,
)
from serving.decisions.batch.records import (
    add_chunk,
    already_charged,
    close_batch,
    earlier_attempts,
    open_batch,
    stored_chunks,
)
from serving.decisions.batch.scoring import ScoredChunk, score, score_stored
from serving.decisions.batch.subjects import EXTRA_COLUMNS, SubjectReader
from serving.decisions.products.base import DeployedModel
from serving.decisions.records import DecisionWrite
from serving.privacy.consent.rules import ConsentRevokedError
from serving.privacy.subjects.indicators import SubjectErasedError
from serving.settings import Settings

log = logging.getLogger("yuheng.batch")
READ_BYTES = 256 * 1024  # bytes of a file sent at once
MAX_RETRIES = 20  # of one piece, each of which an authorisation or a subject that went meanwhile cost


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What was asked: by which bundle, from which file, in which formats."""

    id: str
    tenant: str
    scope: str
    key: str | None
    digest: str  # of the upload and the options
    path: Path
    input_format: str
    output_format: str
    keep: tuple[str, ...]
    reasons: bool

    @property
    def key_scope(self) -> tuple[str, str, str | None]:
        """Within which a key means one batch."""
        return self.tenant, self.scope, self.key


@dataclass
class BatchJob:
    """Iterate `parts` for the answer's bytes. Each piece is on the disk before its bytes are given out."""

    request: BatchRequest
    model: DeployedModel
    settings: Settings
    writer: GroupCommitWriter[Any, Any]
    metrics: Metrics
    prices: Prices
    on_charged: Callable[[str, int], None] = lambda tenant, rows: None  # told of answered rows
    on_scored: Callable[[pl.DataFrame, pl.DataFrame], None] = lambda rows, answers: None  # what was recorded
    subject_reader: SubjectReader | None = None  # the store, for a file that names its subjects
    rows: int = 0
    faulty: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)
    _is_open: bool = False
    _batch_row: dict[str, Any] = field(default_factory=dict)  # the batch's own in the store, but for what grows
    _names_subjects: bool = False  # the file names stored subjects
    _simulated: bool = False  # any of them so far
    _earlier_attempts: list[str] = field(
        default_factory=list
    )  # earlier ones under the same key, whose answers are charged

    def stream(self) -> Iterator[bytes]:
        """Raises Problem before the first part where the file as a whole cannot be answered."""
        state = "broken"
        try:
            self._validate_header()
            frames = (scored.frame for scored in self._scored_chunks())
            yield from serialise(frames, self.request.output_format, self.settings.paths.spool)
            if not self.rows:
                raise batch_problem("rows", "0", "1 row or more", "至少 1 行")
            state = "done"
        except UnreadableFileError as read_error:
            raise batch_problem(
                "(file)", str(read_error), f"{self.request.input_format}, whole and in UTF-8", "完整的 UTF-8 文件"
            ) from read_error
        finally:
            if self._is_open:
                self._close(state)

    def _close(self, state: str) -> None:
        batch_id, finished = self.request.id, utc_now()
        try:
            self.writer.run(lambda connection: close_batch(connection, batch_id, state, finished)).result()
        except (Exception, CancelledError):
            log.exception("batch %s: could not be marked as %s", batch_id, state)
            if state == "done":
                raise

    def _validate_header(self) -> None:
        """The head of the file, before any row."""
        limit = self.settings.limits.max_batch_rows
        rows = read_row_count(self.request.path, self.request.input_format)
        if rows is not None and rows > limit:
            raise batch_problem("rows", f"{rows:,}", f"at most {limit:,}", f"最多 {limit:,} 行")
        names = read_column_names(self.request.path, self.request.input_format)
        field_names = [column.name for column in self.model.fields]
        header = list(first_record(self.request.path) or ()) if names is None else names
        if SUBJECT_COLUMN.name in header and SUBJECT_COLUMN.name not in (*field_names, *self.request.keep):
            self._validate_subject_header(header, field_names)
            return
        if names is None:
            return
        faults = find_unknown_names(names, {*field_names, *self.request.keep}, *EXPECTED_COLUMN)
        duplicates = sorted((name, count) for name, count in Counter(names).items() if count > 1)
        faults += [
            FieldError(name[:60], f"{count} columns", "one column", "一列")
            for name, count in duplicates[:MAX_UNKNOWN_NAMES]
        ]
        for column in self.model.fields:
            if column.required and column.name not in names:
                faults.append(FieldError(column.name, "absent", "a column of the file", "文件中的一列"))
        if not faults and not set(field_names) & set(names):
            faults.append(
                FieldError(
                    "(header)", "no column of the model", f"some of {', '.join(field_names[:8])}, ...", "模型的列"
                )
            )
        if faults:
            raise ProblemError("invalid_batch", errors=faults)

    def _validate_subject_header(self, names: list[str], field_names: list[str]) -> None:
        """A file of stored subjects names nothing else but what is kept."""
        self._names_subjects, keep = True, self.request.keep
        faults = [
            FieldError("keep", name, "a column that is not answered", "不输出的列")
            for name in keep
            if name in EXTRA_COLUMNS
        ]
        if model_columns := [name for name in names if name in field_names]:
            examples = ", ".join(model_columns[:4]) + (", ..." if len(model_columns) > 4 else "")
            faults.append(
                FieldError(
                    SUBJECT_COLUMN.name, f"beside {len(model_columns)} of the model's columns ({examples})",
                    "alone: a file names stored subjects, whose indicators are in the store, or tells indicators; "
                    "leave out one of the two, or name it in ?keep=subject_id to copy it unread",
                    "单独出现：文件要么只写已入库主体编号，要么只写指标，请删去其一；仅需原样带回时用 ?keep=subject_id",
                )
            )  # fmt: skip
        expected = "left out, or one named in ?keep=, beside subject_id", "删去，或列入 ?keep="
        faults += find_unknown_names(names, {SUBJECT_COLUMN.name, *field_names, *keep}, *expected)
        if names.count(SUBJECT_COLUMN.name) > 1:
            faults.append(
                FieldError(SUBJECT_COLUMN.name, f"{names.count(SUBJECT_COLUMN.name)} columns", "one column", "一列")
            )
        if faults:
            raise ProblemError("invalid_batch", errors=faults)

    def _read_chunks(self) -> Iterator[Chunk]:
        request, batch_settings = self.request, self.settings.batch
        if not self._names_subjects:
            yield from read_chunks(
                request.path, request.input_format, self.model.fields, request.keep, batch_settings.chunk_rows
            )
            return
        for chunk in read_chunks(
            request.path, request.input_format, (SUBJECT_COLUMN,), request.keep, batch_settings.chunk_subjects
        ):
            yield from chunk.split(batch_settings.chunk_subjects)

    def _score_and_record(self, chunk: Chunk) -> ScoredChunk:
        """Answered and recorded. What went between reading and record is read anew: its rows are told so."""
        request, max_text_chars = self.request, self.settings.limits.max_text_chars
        score_args = self.model, request.id, request.keep, request.reasons, max_text_chars
        if not self._names_subjects or self.subject_reader is None:
            scored = score(chunk, *score_args)
            self._record(chunk, scored)
            return scored
        for attempts_left in reversed(range(MAX_RETRIES)):
            scored = score_stored(chunk, *score_args, self.subject_reader)
            try:
                self._record(chunk, scored)
                break
            except (ConsentRevokedError, SubjectErasedError) as revocation:
                if not attempts_left:
                    raise ProblemError("authorisation_ended", actual=str(revocation) or "of a subject") from revocation
        return scored

    def _scored_chunks(self) -> Iterator[ScoredChunk]:
        """Each piece answered and recorded."""
        settings = self.settings
        for chunk in self._read_chunks():
            if chunk.first_row + chunk.frame.height - 1 > settings.limits.max_batch_rows:
                limit = settings.limits.max_batch_rows
                raise batch_problem("rows", f"more than {limit:,}", f"at most {limit:,}", f"最多 {limit:,} 行")
            if chunk.frame.height:
                yield self._score_and_record(chunk)

    def _record(self, chunk: Chunk, scored: ScoredChunk) -> None:
        request, height = self.request, scored.frame.height
        rows, faulty = self.rows + height, self.faulty + scored.faulty_count
        remaining = self.settings.batch.max_reported_faults - len(self.faults)
        faults = self.faults + [field_error_to_json(fault) for fault in scored.faults[: max(0, remaining)]]
        simulated = self._simulated or any(inputs.simulated for inputs in scored.subject_inputs.values())
        if not self._is_open and (key := request.key) is not None:
            key_args = request.tenant, request.scope, key, request.digest
            self._earlier_attempts = self.writer.run(
                lambda connection: earlier_attempts(connection, *key_args)
            ).result()
        counts: dict[str, Any] = {
            "rows": rows,
            "answered": rows - faulty,
            "faulty": faulty,
            "faults": orjson.dumps(faults),
            "simulated": self.model.card.simulated or simulated,
        }
        is_first = not self._is_open
        if is_first:
            self._batch_row = self._build_batch_row()
        batch_row = self._batch_row | counts
        record = self._build_record(chunk.first_row, scored, batch_row)

        def write(connection: Any) -> None:
            if is_first:
                open_batch(connection, batch_row)
            add_chunk(connection, record, counts, scored.pseudonyms)

        self.writer.run(write).result()
        self._is_open, self._simulated = True, simulated
        self.rows, self.faulty, self.faults = rows, faulty, faults
        model = self.model.card.model
        self.metrics.batch_rows.labels(model, "answered").inc(height - scored.faulty_count)
        self.metrics.batch_rows.labels(model, "faulty").inc(scored.faulty_count)
        self.on_charged(request.tenant, height - scored.faulty_count)
        self.on_scored(scored.valid_rows, scored.frame.filter(pl.col("decision").is_not_null()))

    def _build_record(self, first_row: int, scored: ScoredChunk, batch_row: dict[str, Any]) -> DecisionWrite:
        """What is kept of a piece, its one leaf over all of its rows, and its one meter line. `line`: the batch's own,
        as it will stand with this piece."""
        request, model, timestamp, salt = self.request, self.model, utc_now(), os.urandom(entries.SALT_BYTES)
        product, rows = model.card.product, scored.frame.height
        row = {"batch": request.id, "first_row": first_row, "rows": rows, "content": pack(scored.frame), "salt": salt}
        *_, (root,) = merkle_levels(entries.row_hashes(salt, row_json(scored.frame, request.id)))
        price, answered_rows = self.prices.price_for(product, request.tenant, timestamp), rows - scored.faulty_count
        units = answered_rows - self._count_already_charged(first_row, scored.frame)
        details: dict[str, Any] = {
            "product": product,
            "upload": salted_digest(salt, request.digest.encode()),
            "answered": answered_rows,
        }
        if scored.subject_inputs:
            details["subjects"] = salted_digest(salt, entries.encode_subjects(scored.pseudonyms))
        provenance: dict[str, Any] = {"bundle": model.digest, "policy": model.policy, "lineage": model.lineage.sha256}
        provenance["authorisations"] = sorted(
            {grant for inputs in scored.subject_inputs.values() for grant in inputs.grants}
        )
        details |= entries.batch_digests(batch_row, salt)
        entry = entries.chunk_entry(
            row, request.tenant, root, timestamp, **details, **provenance, price=price.describe(units)
        )
        charge = price.charge(entry.ref, request.tenant, product, timestamp, units)
        return DecisionWrite(row, entry, charge, model.lineage, provenance["authorisations"])

    def _build_batch_row(self) -> dict[str, Any]:
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
        earlier_chunks = self.writer.run(
            lambda connection: stored_chunks(connection, attempts, first_row, frame.height)
        ).result()
        return already_charged(frame, earlier_chunks)


def serialise(frames: Iterator[pl.DataFrame], format: str, spool: Path) -> Generator[bytes, None, None]:
    """Frames with the same columns as the bytes of one file. Parquet has its table of contents at the end, so it is put
    together on disk first."""
    if format != "parquet":
        for index, frame in enumerate(frames):
            yield encode_rows(frame, format, include_header=index == 0)
        return
    spool.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"answer-{os.getpid()}-", dir=spool) as folder:
        paths = []
        for index, frame in enumerate(frames):
            paths.append(Path(folder) / f"{index:06d}.ipc")
            frame.write_ipc(paths[-1])
        if not paths:
            return
        output = Path(folder) / "answer.parquet"
        with output.open("wb+") as file:  # by its name, a thread of Polars may open it when the folder is gone
            pl.scan_ipc(paths).sink_parquet(file, compression="zstd", maintain_order=True)
            file.seek(0)
            while chunk := file.read(READ_BYTES):
                yield chunk


def replay(reader: StoreReader, batch_id: str, format: str, spool: Path) -> Iterator[bytes]:
    """The answer of a batch that is done, from its chunks: the bytes of the first time."""
    return serialise((decode_frame(content) for content in records.chunks(reader, batch_id)), format, spool)


def batch_problem(name: str, actual: str, expected: str, expected_zh: str) -> ProblemError:
    return ProblemError("invalid_batch", errors=[FieldError(name, actual, expected, expected_zh)])
