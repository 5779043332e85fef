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

from datasets.errors import Fault, Unreadable
from datasets.schema import MOST_UNKNOWN, unknown_names
from serving.core.audit import entries
from serving.core.audit.log import levels_of
from serving.core.audit.verify import salted
from serving.core.billing.prices import Prices
from serving.core.db.codec import lines, pack, unpack
from serving.core.db.reader import Reader
from serving.core.db.writer import GroupCommitWriter
from serving.core.http.metrics import Metrics
from serving.core.http.problems import Problem, error
from serving.core.identifiers import now
from serving.decisions.batch import records
from serving.decisions.batch.formats import COLUMN, SUBJECT, Piece, columns_of, first_record, pieces, render, rows_of
from serving.decisions.batch.records import add_chunk, close_batch, given_before, kept_of, open_batch, tries_before
from serving.decisions.batch.scoring import Answers, answer, answer_stored
from serving.decisions.batch.subjects import OURS, Subjects
from serving.decisions.products.base import Held
from serving.decisions.records import Record
from serving.privacy.consent.rules import GrantsGone
from serving.privacy.subjects.indicators import SubjectGone
from serving.settings import Settings

log = logging.getLogger("yuheng.batch")
PART = 256 * 1024  # bytes of a file sent at once
TRIES = 20  # of one piece, each of which an authorisation or a subject that went meanwhile cost


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked: by which bundle, from which file, in which formats."""

    id: str
    tenant: str
    scope: str
    key: str | None
    digest: str  # of the upload and the options
    path: Path
    came: str
    goes: str
    keep: tuple[str, ...]
    reasons: bool

    @property
    def named(self) -> tuple[str, str, str | None]:
        """Within which a key means one batch."""
        return self.tenant, self.scope, self.key


@dataclass
class Run:
    """Iterate `parts` for the answer's bytes. Each piece is on the disk before its bytes are given out."""

    order: Order
    held: Held
    settings: Settings
    writer: GroupCommitWriter[Any, Any]
    metrics: Metrics
    prices: Prices
    counted: Callable[[str, int], None] = lambda tenant, rows: None  # told of answered rows
    seen: Callable[[pl.DataFrame, pl.DataFrame], None] = lambda rows, answers: None  # what was recorded
    subjects: Subjects | None = None  # the store, for a file that names its subjects
    rows: int = 0
    faulty: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)
    _opened: bool = False
    _line: dict[str, Any] = field(default_factory=dict)  # the batch's own in the store, but for what grows
    _stored: bool = False  # the file names stored subjects
    _simulated: bool = False  # any of them so far
    _tries: list[str] = field(default_factory=list)  # earlier ones under the same key, whose answers are charged

    def parts(self) -> Iterator[bytes]:
        """Raises Problem before the first part where the file as a whole cannot be answered."""
        state = "broken"
        try:
            self._check()
            frames = (answers.frame for answers in self._answered())
            yield from written(frames, self.order.goes, self.settings.paths.spool)
            if not self.rows:
                raise refused("rows", "0", "1 row or more", "至少 1 行")
            state = "done"
        except Unreadable as unreadable:
            raise refused(
                "(file)", str(unreadable), f"{self.order.came}, whole and in UTF-8", "完整的 UTF-8 文件"
            ) from unreadable
        finally:
            if self._opened:
                self._close(state)

    def _close(self, state: str) -> None:
        batch, finished = self.order.id, now()
        try:
            self.writer.run(lambda connection: close_batch(connection, batch, state, finished)).result()
        except (Exception, CancelledError):
            log.exception("batch %s: could not be marked as %s", batch, state)
            if state == "done":
                raise

    def _check(self) -> None:
        """The head of the file, before any row."""
        most = self.settings.limits.batch_rows
        rows = rows_of(self.order.path, self.order.came)
        if rows is not None and rows > most:
            raise refused("rows", f"{rows:,}", f"at most {most:,}", f"最多 {most:,} 行")
        names = columns_of(self.order.path, self.order.came)
        known = [column.name for column in self.held.fields]
        told = list(first_record(self.order.path) or ()) if names is None else names
        if SUBJECT.name in told and SUBJECT.name not in (*known, *self.order.keep):
            self._check_stored(told, known)
            return
        if names is None:
            return
        faults = unknown_names(names, {*known, *self.order.keep}, *COLUMN)
        twice = sorted((name, many) for name, many in Counter(names).items() if many > 1)
        faults += [Fault(name[:60], f"{many} columns", "one column", "一列") for name, many in twice[:MOST_UNKNOWN]]
        for column in self.held.fields:
            if column.required and column.name not in names:
                faults.append(Fault(column.name, "absent", "a column of the file", "文件中的一列"))
        if not faults and not set(known) & set(names):
            faults.append(
                Fault("(header)", "no column of the model", f"some of {', '.join(known[:8])}, ...", "模型的列")
            )
        if faults:
            raise Problem("invalid_batch", errors=faults)

    def _check_stored(self, names: list[str], known: list[str]) -> None:
        """A file of stored subjects names nothing else but what is kept."""
        self._stored, keep = True, self.order.keep
        faults = [Fault("keep", name, "a column that is not answered", "不输出的列") for name in keep if name in OURS]
        if beside := [name for name in names if name in known]:
            shown = ", ".join(beside[:4]) + (", ..." if len(beside) > 4 else "")
            faults.append(
                Fault(
                    SUBJECT.name, f"beside {len(beside)} of the model's columns ({shown})",
                    "alone: a file names stored subjects, whose indicators are in the store, or tells indicators; "
                    "leave out one of the two, or name it in ?keep=subject_id to copy it unread",
                    "单独出现：文件要么只写已入库主体编号，要么只写指标，请删去其一；仅需原样带回时用 ?keep=subject_id",
                )
            )  # fmt: skip
        needed = "left out, or one named in ?keep=, beside subject_id", "删去，或列入 ?keep="
        faults += unknown_names(names, {SUBJECT.name, *known, *keep}, *needed)
        if names.count(SUBJECT.name) > 1:
            faults.append(Fault(SUBJECT.name, f"{names.count(SUBJECT.name)} columns", "one column", "一列"))
        if faults:
            raise Problem("invalid_batch", errors=faults)

    def _pieces(self) -> Iterator[Piece]:
        order, told = self.order, self.settings.batch
        if not self._stored:
            yield from pieces(order.path, order.came, self.held.fields, order.keep, told.chunk_rows)
            return
        for piece in pieces(order.path, order.came, (SUBJECT,), order.keep, told.chunk_subjects):
            yield from piece.parts(told.chunk_subjects)

    def _answer(self, piece: Piece) -> Answers:
        """Answered and recorded. What went between reading and record is read anew: its rows are told so."""
        order, most = self.order, self.settings.limits.text
        made = self.held, order.id, order.keep, order.reasons, most
        if not self._stored or self.subjects is None:
            answers = answer(piece, *made)
            self._record(piece, answers)
            return answers
        for left in reversed(range(TRIES)):
            answers = answer_stored(piece, *made, self.subjects)
            try:
                self._record(piece, answers)
                break
            except (GrantsGone, SubjectGone) as gone:
                if not left:
                    raise Problem("authorisation_ended", found=str(gone) or "of a subject") from gone
        return answers

    def _answered(self) -> Iterator[Answers]:
        """Each piece answered and recorded."""
        settings = self.settings
        for piece in self._pieces():
            if piece.first + piece.frame.height - 1 > settings.limits.batch_rows:
                most = settings.limits.batch_rows
                raise refused("rows", f"more than {most:,}", f"at most {most:,}", f"最多 {most:,} 行")
            if piece.frame.height:
                yield self._answer(piece)

    def _record(self, piece: Piece, answers: Answers) -> None:
        order, height = self.order, answers.frame.height
        rows, faulty = self.rows + height, self.faulty + answers.faulty
        room = self.settings.batch.faults_kept - len(self.faults)
        faults = self.faults + [error(fault) for fault in answers.faults[: max(0, room)]]
        simulated = self._simulated or any(one.simulated for one in answers.read.values())
        if not self._opened and (key := order.key) is not None:
            named = order.tenant, order.scope, key, order.digest
            self._tries = self.writer.run(lambda connection: tries_before(connection, *named)).result()
        counts: dict[str, Any] = {
            "rows": rows,
            "answered": rows - faulty,
            "faulty": faulty,
            "faults": orjson.dumps(faults),
            "simulated": self.held.card.simulated or simulated,
        }
        opening = not self._opened
        if opening:
            self._line = self._row()
        line = self._line | counts
        chunk = self._chunk(piece.first, answers, line)

        def write(connection: Any) -> None:
            if opening:
                open_batch(connection, line)
            add_chunk(connection, chunk, counts, answers.subjects)

        self.writer.run(write).result()
        self._opened, self._simulated = True, simulated
        self.rows, self.faulty, self.faults = rows, faulty, faults
        model = self.held.card.model
        self.metrics.rows.labels(model, "answered").inc(height - answers.faulty)
        self.metrics.rows.labels(model, "faulty").inc(answers.faulty)
        self.counted(order.tenant, height - answers.faulty)
        self.seen(answers.good, answers.frame.filter(pl.col("decision").is_not_null()))

    def _chunk(self, first: int, answers: Answers, line: dict[str, Any]) -> Record:
        """What is kept of a piece, its one leaf over all of its rows, and its one meter line. `line`: the batch's own,
        as it will stand with this piece."""
        order, held, at, salt = self.order, self.held, now(), os.urandom(entries.SALT)
        product, rows = held.card.product, answers.frame.height
        row = {"batch": order.id, "first_row": first, "rows": rows, "content": pack(answers.frame), "salt": salt}
        *_, (root,) = levels_of(entries.row_hashes(salt, lines(answers.frame, order.id)))
        price, answered = self.prices.of(product, order.tenant, at), rows - answers.faulty
        units = answered - self._given_before(first, answers.frame)
        told: dict[str, Any] = {"product": product, "upload": salted(salt, order.digest.encode()), "answered": answered}
        if answers.read:
            told["subjects"] = salted(salt, entries.named(answers.subjects))
        made: dict[str, Any] = {"bundle": held.digest, "policy": held.policy, "lineage": held.lineage.sha256}
        made["authorisations"] = sorted({grant for one in answers.read.values() for grant in one.grants})
        told |= entries.batch(line, salt)
        entry = entries.chunk(row, order.tenant, root, at, **told, **made, price=price.told(units))
        charge = price.charge(entry.ref, order.tenant, product, at, units)
        return Record(row, entry, charge, held.lineage, made["authorisations"])

    def _row(self) -> dict[str, Any]:
        order, card = self.order, self.held.card
        return {
            "id": order.id,
            "tenant": order.tenant,
            "scope": order.scope,
            "idempotency_key": order.key,
            "request_sha256": order.digest,
            "state": "running",
            "owner": os.getpid(),
            "format": order.goes,
            "model": card.model,
            "version": card.version,
            "bundle": self.held.digest,
            "policy": self.held.policy,
            "simulated": card.simulated,
            "created": now(),
            "finished": None,
            "retry_of": self._tries[0] if self._tries else None,
        }

    def _given_before(self, first: int, frame: pl.DataFrame) -> int:
        if not (tries := self._tries):
            return 0
        kept = self.writer.run(lambda connection: kept_of(connection, tries, first, frame.height)).result()
        return given_before(frame, kept)


def written(frames: Iterator[pl.DataFrame], format: str, spool: Path) -> Generator[bytes, None, None]:
    """Frames with the same columns as the bytes of one file. Parquet has its table of contents at the end, so it is put
    together on disk first."""
    if format != "parquet":
        for at, frame in enumerate(frames):
            yield render(frame, format, head=at == 0)
        return
    spool.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"answer-{os.getpid()}-", dir=spool) as folder:
        parts = []
        for at, frame in enumerate(frames):
            parts.append(Path(folder) / f"{at:06d}.ipc")
            frame.write_ipc(parts[-1])
        if not parts:
            return
        whole = Path(folder) / "answer.parquet"
        with whole.open("wb+") as file:  # by its name, a thread of Polars may open it when the folder is gone
            pl.scan_ipc(parts).sink_parquet(file, compression="zstd", maintain_order=True)
            file.seek(0)
            while part := file.read(PART):
                yield part


def replay(reader: Reader, batch: str, format: str, spool: Path) -> Iterator[bytes]:
    """The answer of a batch that is done, from its chunks: the bytes of the first time."""
    return written((unpack(content) for content in records.chunks(reader, batch)), format, spool)


def refused(name: str, found: str, needed: str, needed_zh: str) -> Problem:
    return Problem("invalid_batch", errors=[Fault(name, found, needed, needed_zh)])
