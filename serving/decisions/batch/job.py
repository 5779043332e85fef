"""Answers one batch, from its spooled upload to the last byte of its answer. A batch runs in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from datasets.errors import UnreadableFileError
from datasets.tables.chunk import Chunk
from serving.core.db.codec import decode_frame
from serving.core.db.reader import StoreReader
from serving.core.http.problems import ProblemError
from serving.decisions.batch import records
from serving.decisions.batch.files.confined import ConfinedBatchFile, ContentLimits, FileReaders
from serving.decisions.batch.files.formats import SUBJECT_COLUMN
from serving.decisions.batch.output import serialise
from serving.decisions.batch.recorder import BatchRecorder
from serving.decisions.batch.request import BatchRequest, batch_problem, validate_header
from serving.decisions.batch.scoring import ScoredChunk, score, score_stored
from serving.decisions.batch.subjects import SubjectReader
from serving.decisions.products.base import DeployedModel
from serving.decisions.service import DecisionService
from serving.privacy.consent.rules import ConsentRevokedError
from serving.privacy.subjects.errors import SubjectErasedError

MAX_RETRIES = 20  # of one chunk, each after a grant or a subject went while it was scored


class BatchJob:
    """Iterate `stream` for the answer's bytes: each chunk is on disk before its bytes come out."""

    def __init__(self, service: DecisionService, request: BatchRequest, model: DeployedModel, readers: FileReaders):
        self.service, self.request, self.model, self.readers = service, request, model, readers
        self.recorder = BatchRecorder(service, request, model)

    def stream(self) -> Iterator[bytes]:
        """Raises ProblemError before the first bytes where the file as a whole cannot be answered."""
        settings, request, state = self.service.settings, self.request, "broken"
        try:
            known_names = [*(column.name for column in self.model.fields), *request.keep, SUBJECT_COLUMN.name]
            content_limits = ContentLimits(
                settings.batch.max_cell_chars, settings.batch.max_piece_bytes, settings.limits.max_upload_bytes
            )
            file_args = self.readers, request.path, request.input_format, known_names, content_limits
            with ConfinedBatchFile(*file_args) as file:
                max_rows = settings.limits.max_batch_rows
                names_subjects = validate_header(file.header(), request.keep, self.model.fields, max_rows)
                scored_chunks = self._scored_chunks(file, self._subject_reader() if names_subjects else None)
                frames = (scored.frame for scored in scored_chunks)
                yield from serialise(frames, request.output_format, settings.paths.spool)
            if not self.recorder.rows:
                raise batch_problem("rows", "0", "1 row or more", "至少 1 行")
            state = "done"
        except UnreadableFileError as error:
            message_zh = error.zh.replace(f"{request.path}：", "").removesuffix("。")
            note_zh = f"（{message_zh}）" if message_zh else ""
            expected = f"a complete {request.input_format} file, text in UTF-8", f"完整的文件，文本为 UTF-8{note_zh}"
            message = str(error).replace(f"{request.path}:", "the file").removesuffix(".")
            raise batch_problem("(file)", message, *expected) from error
        finally:
            self.recorder.close(state)

    def _subject_reader(self) -> SubjectReader:
        store = self.service.store
        return SubjectReader(store.reader, store.vault, self.service.consent_rules, self.model, self.request.tenant)

    def _scored_chunks(self, file: ConfinedBatchFile, subject_reader: SubjectReader | None) -> Iterator[ScoredChunk]:
        """Each chunk, scored and recorded."""
        limit = self.service.settings.limits.max_batch_rows
        for chunk in self._read_chunks(file, names_subjects=subject_reader is not None):
            if chunk.first_row + chunk.frame.height - 1 > limit:
                raise batch_problem("rows", f"more than {limit:,}", f"at most {limit:,}", f"最多 {limit:,} 行")
            if chunk.frame.height:
                yield self._score_within_quota(chunk, subject_reader)

    def _score_within_quota(self, chunk: Chunk, subject_reader: SubjectReader | None) -> ScoredChunk:
        """Reserve the chunk's answers before they are given; those of faulty rows are given back."""
        quota, tenant, loop = self.service.quota, self.request.tenant, self.service.store.loop
        rows, answered = chunk.frame.height, 0
        asyncio.run_coroutine_threadsafe(quota.reserve(tenant, rows), loop).result()
        try:
            scored = self._score_and_record(chunk, subject_reader)
            answered = rows - scored.faulty_count
        finally:
            loop.call_soon_threadsafe(quota.add, tenant, answered - rows)
        return scored

    def _read_chunks(self, file: ConfinedBatchFile, names_subjects: bool) -> Iterator[Chunk]:
        keep, settings, model = self.request.keep, self.service.settings.batch, self.model
        if not names_subjects:
            yield from file.chunks(model.fields, keep, settings.chunk_rows, model.card.missing)
            return
        for chunk in file.chunks((SUBJECT_COLUMN,), keep, settings.chunk_subjects):
            yield from chunk.split(settings.chunk_subjects)

    def _score_and_record(self, chunk: Chunk, subject_reader: SubjectReader | None) -> ScoredChunk:
        """Score a chunk and record it.

        Where a grant or a subject goes between the two, the chunk is read again, so that its rows say so.
        """
        request, max_text_chars = self.request, self.service.settings.limits.max_text_chars
        score_args = self.model, request.id, request.keep, request.reasons, max_text_chars
        if subject_reader is None:
            scored = score(chunk, *score_args)
            self.recorder.record(chunk, scored)
            return scored
        for attempts_left in reversed(range(MAX_RETRIES)):
            scored = score_stored(chunk, *score_args, subject_reader)
            try:
                self.recorder.record(chunk, scored)
                break
            except (ConsentRevokedError, SubjectErasedError) as error:
                if not attempts_left:
                    raise ProblemError("authorisation_ended", actual=str(error) or "of an erased subject") from error
        return scored


def replay(reader: StoreReader, batch_id: str, format: str, spool: Path) -> Iterator[bytes]:
    """The answer of a finished batch, made again from its chunks: the same bytes as the first time."""
    return serialise((decode_frame(content) for content in records.chunks(reader, batch_id)), format, spool)
