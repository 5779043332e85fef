"""Answers one batch, from its spooled upload to the last byte of its answer. A batch runs in a thread of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import polars as pl

from datasets.errors import UnreadableFileError
from serving.core.db.codec import decode_frame
from serving.core.db.reader import StoreReader
from serving.core.http.problems import ProblemError
from serving.decisions.batch import records
from serving.decisions.batch.formats import SUBJECT_COLUMN, Chunk, encode_rows, read_chunks
from serving.decisions.batch.recorder import BatchRecorder
from serving.decisions.batch.request import BatchRequest, batch_problem, validate_header
from serving.decisions.batch.scoring import ScoredChunk, score, score_stored
from serving.decisions.batch.subjects import SubjectReader
from serving.decisions.products.base import DeployedModel
from serving.decisions.service import DecisionService
from serving.privacy.consent.rules import ConsentRevokedError
from serving.privacy.subjects.errors import SubjectErasedError

READ_BYTES = 256 * 1024  # bytes of a file sent at a time
MAX_RETRIES = 20  # of one chunk, each after a grant or a subject went while it was scored


class BatchJob:
    """Iterate `stream` for the answer's bytes: each chunk is on disk before its bytes come out."""

    def __init__(self, service: DecisionService, request: BatchRequest, model: DeployedModel):
        self.service, self.request, self.model = service, request, model
        self.recorder = BatchRecorder(service, request, model)

    def stream(self) -> Iterator[bytes]:
        """Raises ProblemError before the first bytes where the file as a whole cannot be answered."""
        settings, request, state = self.service.settings, self.request, "broken"
        try:
            names_subjects = validate_header(request, self.model.fields, settings.limits.max_batch_rows)
            scored_chunks = self._scored_chunks(self._subject_reader() if names_subjects else None)
            frames = (scored.frame for scored in scored_chunks)
            yield from serialise(frames, request.output_format, settings.paths.spool)
            if not self.recorder.rows:
                raise batch_problem("rows", "0", "1 row or more", "至少 1 行")
            state = "done"
        except UnreadableFileError as error:
            expected = f"a complete {request.input_format} file in UTF-8", "完整的 UTF-8 文件"
            raise batch_problem("(file)", str(error), *expected) from error
        finally:
            self.recorder.close(state)

    def _subject_reader(self) -> SubjectReader:
        store = self.service.store
        return SubjectReader(store.reader, store.vault, self.service.consent_rules, self.model, self.request.tenant)

    def _scored_chunks(self, subject_reader: SubjectReader | None) -> Iterator[ScoredChunk]:
        """Each chunk, scored and recorded."""
        limit = self.service.settings.limits.max_batch_rows
        for chunk in self._read_chunks(names_subjects=subject_reader is not None):
            if chunk.first_row + chunk.frame.height - 1 > limit:
                raise batch_problem("rows", f"more than {limit:,}", f"at most {limit:,}", f"最多 {limit:,} 行")
            if chunk.frame.height:
                yield self._score_and_record(chunk, subject_reader)

    def _read_chunks(self, names_subjects: bool) -> Iterator[Chunk]:
        request, settings = self.request, self.service.settings.batch
        if not names_subjects:
            yield from read_chunks(
                request.path, request.input_format, self.model.fields, request.keep, settings.chunk_rows
            )
            return
        for chunk in read_chunks(
            request.path, request.input_format, (SUBJECT_COLUMN,), request.keep, settings.chunk_subjects
        ):
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


def serialise(frames: Iterator[pl.DataFrame], format: str, spool: Path) -> Generator[bytes, None, None]:
    """The bytes of one file from frames with the same columns.

    A Parquet file has its table of contents at the end, so it is put together on disk, in `spool`, before it is sent.
    """
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
        with output.open("wb+") as file:  # a file object: a thread of Polars may open a path after the folder is gone
            pl.scan_ipc(paths).sink_parquet(file, compression="zstd", maintain_order=True)
            file.seek(0)
            while data := file.read(READ_BYTES):
                yield data


def replay(reader: StoreReader, batch_id: str, format: str, spool: Path) -> Iterator[bytes]:
    """The answer of a finished batch, made again from its chunks: the same bytes as the first time."""
    return serialise((decode_frame(content) for content in records.chunks(reader, batch_id)), format, spool)
