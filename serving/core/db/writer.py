"""The one thread that writes: what waits is committed together, so that sixteen callers share one sync of the disk.

One transaction holds all of an answer: its row under its idempotency key, the check that what authorised it still does,
its meter line, and its leaf in the audit log.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

import sqlalchemy as sa

from serving.core.audit import log
from serving.core.audit.log import Entry, insert
from serving.core.audit.provenance import Lineage
from serving.core.db.engine import StoreUnavailable, connect, parted, unavailable
from serving.core.db.schema import DECISIONS, LINEAGES, METER, SUBJECT_KEYS
from serving.privacy.consent.rules import ended

T = TypeVar("T")
Row = dict[str, Any]


class QueueFull(Exception):
    """More answers wait for their commit than the settings allow: ask again later."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store holds under an idempotency key: the digest of the first request, and its answer."""

    request_sha256: str
    answer: bytes


class GrantsGone(Exception):
    """These authorisations ended while the answer was made; nothing was recorded of it."""

    def __init__(self, ids: Sequence[str]):
        super().__init__(", ".join(ids))


class SubjectGone(Exception):
    """The subject was erased while the answer was made; nothing was recorded of it."""


@dataclass(frozen=True, slots=True)
class Record:
    """All that one answer leaves: its row of DECISIONS, its leaf, its line of METER (both rows without their leaf's
    index), what its bundle was made from, the authorisations that must still be live, and the subject whose key must
    still be there."""

    row: Row
    entry: Entry
    charge: Row
    lineage: Lineage
    grants: Sequence[str] = ()
    subject: str | None = None


@dataclass(slots=True)
class _Decision:
    record: Record
    future: asyncio.Future[Kept | None]


@dataclass(slots=True)
class _Work:
    do: Callable[[sa.Connection], Any]
    future: Future[Any]


Told = Kept | GrantsGone | SubjectGone | None
Outcome = list[Told] | StoreUnavailable


class Writer:
    """`record` in the event loop, `work` from any thread. Either is done only when it is on the disk.

    Rows are put into an open transaction by the event loop, which takes microseconds; only its commit, which waits for
    the disk without Python's lock, is left to a thread. Done wholly by a thread, each row cost as much again in the
    handing to and fro of that lock (measured: 1,000 us of CPU a request against 450).
    """

    def __init__(self, engine: sa.Engine, group: int, queue: int, loop: asyncio.AbstractEventLoop):
        self.engine, self.group, self.most, self.loop = engine, group, queue, loop
        self.failing: StoreUnavailable | None = None  # the last try's failure, None once a commit succeeds
        self.commits = self.committed = 0  # transactions of decisions, decisions in them
        self.waiting = 0  # decisions between `record` and their commit
        self._pending: deque[_Decision] = deque()
        self._works: deque[_Work] = deque()
        self._busy = False  # a transaction is with the thread
        self._soon = False  # a flush is due
        self._worked = False  # the last turn was a work's
        self._closed = False
        embedded = engine.dialect.name == "sqlite"
        self._at_once = connect(engine.url, patience=0.0) if embedded else None  # never waits for a lock
        self._ours = self._at_once.connect() if self._at_once else None
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lineages: set[str] = set()  # that are in the store
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def record(self, record: Record) -> asyncio.Future[Kept | None]:
        """Done with None when all of `record` is on the disk; with what is kept where its idempotency key was there
        before; with GrantsGone or SubjectGone where an authorisation or its subject did meanwhile."""
        if self.waiting >= self.most:
            raise QueueFull(f"{self.waiting:,} answers wait for their record; at most {self.most:,} may")
        self.waiting += 1
        future: asyncio.Future[Kept | None] = self.loop.create_future()
        self._pending.append(_Decision(record, future))
        if not self._soon and not self._busy:
            self._soon = True
            self.loop.call_soon(self._flush)  # after the requests that came together with this one
        return future

    def work(self, do: Callable[[sa.Connection], T]) -> Future[T]:
        """Runs `do` in the thread, in a transaction of its own."""
        future: Future[T] = Future()
        self.loop.call_soon_threadsafe(self._take, _Work(do, future))
        return future

    def close(self) -> None:
        """Write the answers that wait, then end; other work is refused. In the event loop, which is about to end."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        self._busy = False
        while self._works:
            future = self._works.popleft().future
            if future.set_running_or_notify_cancel():
                future.set_exception(StoreUnavailable("failed", "the service is stopping"))
        while self._pending:
            decisions = [self._pending.popleft() for _ in range(min(self.group, len(self._pending)))]
            self._tell(decisions, self._whole(decisions))
        if self._ours is not None and self._at_once is not None:
            self._ours.close()
            self._at_once.dispose()

    # --- in the event loop

    def _take(self, work: _Work) -> None:
        if self._closed:
            work.future.set_exception(StoreUnavailable("failed", "the service is stopping"))
        else:
            self._works.append(work)
            self._flush()

    def _flush(self) -> None:
        self._soon = False
        if self._busy or self._closed:
            return
        if self._works and not (self._pending and self._worked):  # by turns, so that neither waits for all of the other
            self._worked = True
            work = self._works.popleft()
            self._hand(lambda: self._perform(work))
        elif self._pending:
            self._worked = False
            decisions = [self._pending.popleft() for _ in range(min(self.group, len(self._pending)))]
            self._open(decisions)

    def _open(self, decisions: list[_Decision]) -> None:
        """Put the rows into a transaction, for the thread to commit; where the store is locked, leave it all to it.

        A PostgreSQL answers over a wire, for which the event loop does not wait: there the thread does it all.
        """
        if self._ours is None:
            self._hand(lambda: self._finish(decisions, self._whole(decisions)))
            return
        try:
            outcome, lineages = self._write(self._ours, decisions)
        except sa.exc.SQLAlchemyError as error:
            # Anew: SQLAlchemy takes one whose BEGIN failed for begun, and each statement would commit by itself.
            self._ours.close()
            assert self._at_once is not None
            self._ours = self._at_once.connect()
            if unavailable(error).why == "locked":
                self._hand(lambda: self._finish(decisions, self._whole(decisions)))
            else:
                self.failing = unavailable(error)
                self._tell(decisions, self.failing)
        else:
            self._hand(lambda: self._finish(decisions, self._commit(outcome, lineages)))

    def _hand(self, job: Callable[[], None]) -> None:
        self._busy = True
        self._jobs.put(job)

    def _done(self) -> None:
        self._busy = False
        self._flush()

    def _tell(self, decisions: list[_Decision], outcome: Outcome) -> None:
        self.waiting -= len(decisions)
        for i, decision in enumerate(decisions):
            if decision.future.done():  # its caller is gone; the record stays
                continue
            if isinstance(outcome, StoreUnavailable):
                decision.future.set_exception(outcome)
            elif isinstance(told := outcome[i], GrantsGone | SubjectGone):
                decision.future.set_exception(told)
            else:
                decision.future.set_result(told)

    # --- in the thread

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _finish(self, decisions: list[_Decision], outcome: Outcome) -> None:
        """One call into the event loop for the whole group."""

        def finish() -> None:
            self._busy = False
            self._tell(decisions, outcome)
            self._flush()

        self.loop.call_soon_threadsafe(finish)

    def _commit(self, outcome: list[Told], lineages: set[str]) -> Outcome:
        assert self._ours is not None
        try:
            self._ours.commit()
        except sa.exc.SQLAlchemyError as error:
            self._ours.rollback()
            self.failing = unavailable(error)
            return self.failing
        self.failing = None
        self.commits += 1
        self.committed += len(outcome)
        self._lineages |= lineages
        return outcome

    def _whole(self, decisions: list[_Decision]) -> Outcome:
        """A transaction from its beginning to its end, with patience for a lock."""
        try:
            with self.engine.begin() as connection:
                outcome, lineages = self._write(connection, decisions)
        except sa.exc.SQLAlchemyError as error:
            self.failing = unavailable(error)
            return self.failing
        self.failing = None
        self.commits += 1
        self.committed += len(outcome)
        self._lineages |= lineages
        return outcome

    def _write(self, connection: sa.Connection, decisions: list[_Decision]) -> tuple[list[Told], set[str]]:
        """(what becomes of each, the lineages that are in the store once this is committed)."""
        log.lock(connection)  # from here on nobody else records, so what is read still holds when it is written
        over = ended(connection, {grant for decision in decisions for grant in decision.record.grants})
        named = {subject for decision in decisions if (subject := decision.record.subject)}
        erased = named - with_keys(connection, named) if named else named
        fresh: list[Record] = []
        mine: dict[tuple[str, str, str], Kept] = {}
        outcome: list[Told] = []
        for decision in decisions:
            record, row = decision.record, decision.record.row
            key = (row["tenant"], row["scope"], row["idempotency_key"]) if row["idempotency_key"] else None
            if key and (kept := mine.get(key) or kept_under(connection, *key)):
                outcome.append(kept)
            elif over and (gone := [grant for grant in record.grants if grant in over]):
                outcome.append(GrantsGone(gone))
            elif record.subject in erased:
                outcome.append(SubjectGone())
            else:
                outcome.append(None)
                fresh.append(record)
                if key:
                    mine[key] = Kept(row["request_sha256"], row["answer"])
        if not fresh:
            return outcome, set()
        lineages = {record.lineage for record in fresh if record.lineage.sha256 not in self._lineages}
        keep_lineages(connection, lineages)
        first = log.append(connection, [record.entry for record in fresh])
        insert(connection, DECISIONS, [record.row | {"leaf": first + i} for i, record in enumerate(fresh)])
        insert(connection, METER, [record.charge | {"leaf": first + i} for i, record in enumerate(fresh)])
        return outcome, {lineage.sha256 for lineage in lineages}

    def _perform(self, work: _Work) -> None:
        if not work.future.set_running_or_notify_cancel():  # nobody waits for it any more
            self.loop.call_soon_threadsafe(self._done)
            return
        try:
            with self.engine.begin() as connection:
                result = work.do(connection)
            self.failing = None
        except sa.exc.SQLAlchemyError as error:
            self.failing = unavailable(error)
            work.future.set_exception(self.failing)
        except BaseException as error:  # the caller's, whom it concerns
            work.future.set_exception(error)
        else:
            work.future.set_result(result)
        self.loop.call_soon_threadsafe(self._done)


def with_keys(connection: sa.Connection, subjects: set[str]) -> set[str]:
    """Those that are not erased."""
    found: set[str] = set()
    for part in parted(sorted(subjects)):
        chosen = sa.select(SUBJECT_KEYS.c.pseudonym).where(SUBJECT_KEYS.c.pseudonym.in_(part))
        found |= set(connection.execute(chosen).scalars())
    return found


def keep_lineages(connection: sa.Connection, lineages: Iterable[Lineage]) -> None:
    """Those that the store does not hold yet."""
    for lineage in lineages:
        there = sa.select(LINEAGES.c.sha256).where(LINEAGES.c.sha256 == lineage.sha256)
        if connection.execute(there).first() is None:
            connection.execute(sa.insert(LINEAGES).values(lineage._asdict()))


_KEPT = sa.select(DECISIONS.c.request_sha256, DECISIONS.c.answer).where(
    DECISIONS.c.tenant == sa.bindparam("tenant"),
    DECISIONS.c.scope == sa.bindparam("scope"),
    DECISIONS.c.idempotency_key == sa.bindparam("key"),
)


def kept_under(connection: sa.Connection, tenant: str, scope: str, key: str) -> Kept | None:
    found = connection.execute(_KEPT, {"tenant": tenant, "scope": scope, "key": key}).first()
    return Kept(found[0], found[1]) if found else None
