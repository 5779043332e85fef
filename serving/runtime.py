"""Holds the bundles, answers, leaves a record. An answer's bytes come back from here only once they are on the disk."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from models.bundle import Bundle
from models.pathology.card import SlideCard
from serving.batch.record import break_off_orphans
from serving.call import new_id, now
from serving.champion import Champions
from serving.metrics import Metrics
from serving.problems import Problem
from serving.products import Held, Product, hold, hold_slides, of_slides, of_tables, products
from serving.question import Question, parse_question
from serving.settings import ROOT, Settings
from serving.store.engine import StoreUnavailable, open_store
from serving.store.reader import Reader
from serving.store.tables import PROBE
from serving.store.writer import Kept, QueueFull, Writer
from serving.trust.caller import OPEN, Caller
from serving.trust.counts import Counts

log = logging.getLogger("yuheng.runtime")

JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer's bytes, and whether they are those of an earlier request with the same key."""

    body: bytes
    replayed: bool


class Runtime:
    """Made in the event loop that serves."""

    def __init__(self, settings: Settings, metrics: Metrics):
        self.settings, self.metrics = settings, metrics
        self.loop = asyncio.get_running_loop()
        told = settings.champion
        where = settings.paths.bundles, settings.paths.public_key, told.poll_seconds, told.retry_seconds
        self.champions: Champions[Held] = Champions(*where, hold, of_tables)
        self.readers: Champions[Bundle[SlideCard]] = Champions(*where, hold_slides, of_slides)  # told of only
        self.champions.on_swap = self._swapped
        self.engine: sa.Engine | None = None
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self.store_alarm: str | None = None
        # (scope, key) -> (digest of the request, its answer)
        self._running: dict[tuple[str, str], tuple[str, asyncio.Future[bytes]]] = {}
        self._watching: asyncio.Future[Any] | None = None
        self.counts = Counts(lambda: self.writer, self.loop)

    def start(self) -> None:
        """Open the store, load each champion, watch for the next. What is missing shows in readiness."""
        self._open()
        if (ROOT.parent / "bento.yaml").exists() and self.settings.paths.store.is_relative_to(ROOT):
            log.warning("records go into the Bento itself (%s): set YUHENG_HOME", self.settings.paths.store)
        self.champions.load_all()
        self.readers.load_all()
        self._watching = asyncio.gather(self.champions.watch(), self.readers.watch(), self.counts.watch())

    def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if self._writer is not None:
            self._writer.close()
        if self.engine is not None:
            self.counts.finish(self.engine)
            self.engine.dispose()

    def _open(self) -> None:
        try:
            self.engine = open_store(self.settings.store_place, self.settings.store.patience_seconds)
            with self.engine.begin() as connection:
                break_off_orphans(connection, now())
        except (StoreUnavailable, sa.exc.SQLAlchemyError, OSError) as error:
            self.store_alarm = str(error)
            return
        self.store_alarm = None
        self._reader = Reader(self.engine)
        self._writer = Writer(self.engine, self.settings.store.group, self.settings.limits.queue, self.loop)

    @property
    def reader(self) -> Reader:
        if self._reader is None:
            self._open()
        if self._reader is None:
            raise StoreUnavailable("failed", self.store_alarm or "the store is not open")
        return self._reader

    @property
    def writer(self) -> Writer:
        if self._writer is None:
            self._open()
        if self._writer is None:
            raise StoreUnavailable("failed", self.store_alarm or "the store is not open")
        return self._writer

    def held(self, product: Product, model: str | None) -> Held:
        """What serves the product under a name, or under its default's. Raises Problem."""
        name = self.settings.default_models[product.name] if model is None else model
        held = self.champions.serving.get(name)
        if held is not None and held.card.product == product.name:
            return held
        ours = [name for name, held in self.champions.serving.items() if held.card.product == product.name]
        if held is not None and model is not None:
            route = products()[held.card.product].route
            raise Problem(
                "unknown_model",
                found=f"{name!r} answers at {route}; at this address it",
                found_zh=f"{name!r}（请改用 {route}）",
                needed=", ".join(ours) or "no model",
                needed_zh=", ".join(ours) or "无",
            )
        if not ours or model is None:
            raise Problem(
                "not_ready", found=f"No bundle of the model {name!r} is loaded", found_zh=f"未载入模型 {name!r}"
            )
        raise Problem("unknown_model", found=repr(name[:80]), needed=", ".join(ours))

    async def answer(self, product: Product, body: bytes, key: str | None, caller: Caller = OPEN) -> Answered:
        """One applicant's answer. Raises Problem or StoreUnavailable; then nothing was recorded."""
        digest = hashlib.sha256(body).hexdigest()
        if key is not None and (earlier := await self._earlier(product.scope, key, digest)) is not None:
            return Answered(earlier, True)
        question = parse_question(body, product.form)
        held = self.held(product, question.model)
        indicators, simulated = self._indicators(product, question, held)
        row, faults = held.check(indicators)
        if faults:
            raise Problem("invalid_request", errors=faults)
        said = held.answer(indicators, row, question.wishes)
        record = stamped(said, held, simulated)
        record |= {
            "scope": product.scope,
            "idempotency_key": key,
            "request_sha256": digest,
            "subject": question.subject,
            "tenant": caller.tenant,
        }
        kept = await self._record(record, key)
        if kept is None:
            self.metrics.decided(held.card.model, said["decision"])
            self.counts.one(held, caller.tenant, row, said)
            return Answered(record["answer"], False)
        if kept.request_sha256 != digest:  # another process took the key meanwhile
            raise Problem("key_reused", found=repr(key))
        return Answered(kept.answer, True)

    async def _earlier(self, scope: str, key: str, digest: str) -> bytes | None:
        """The first answer to this key, once recorded. Raises Problem where the key belongs to another request."""
        running = self._running.get((scope, key))
        kept = None if running is not None else self.reader.kept(scope, key)
        if running is None and kept is None:
            return None
        if (running[0] if running else kept.request_sha256 if kept else "") != digest:
            raise Problem("key_reused", found=repr(key))
        return await asyncio.shield(running[1]) if running else kept.answer if kept else None

    async def _record(self, row: dict[str, Any], key: str | None) -> Kept | None:
        """None once the row is on the disk, or what its key already stands for."""
        try:
            recorded = self.writer.record(row)
        except QueueFull as error:
            raise Problem("overloaded", found=str(error)) from error
        if key is None:
            return await recorded
        answer: asyncio.Future[bytes] = self.loop.create_future()
        answer.add_done_callback(lambda done: done.exception())  # it may be that nobody else waits for it
        self._running[row["scope"], key] = (row["request_sha256"], answer)
        recorded.add_done_callback(lambda done: self._settle(key, row, done))
        return await asyncio.shield(recorded)

    def _settle(self, key: str, row: Mapping[str, Any], recorded: asyncio.Future[Kept | None]) -> None:
        """Hand the outcome to those who sent the same key meanwhile, whether or not the first caller still waits."""
        _, answer = self._running.pop((row["scope"], key))
        if (error := recorded.exception()) is not None:
            answer.set_exception(error)
        else:
            kept = recorded.result()
            answer.set_result(row["answer"] if kept is None else kept.answer)

    def _indicators(self, product: Product, question: Question, held: Held) -> tuple[Mapping[str, Any], bool]:
        """(indicators, whether the store says that they are simulated)."""
        if question.subject is None:
            return question.indicators or {}, False
        found = self.reader.subject(product.name, question.subject)
        if found is None:
            raise Problem("unknown_subject", found=repr(question.subject))
        known = {column.name for column in held.fields}
        stored: dict[str, Any] = orjson.loads(found[0])
        return {name: value for name, value in stored.items() if name in known}, found[1]

    async def probe(self) -> str | None:
        """Why the store takes no records, or None: asked of the disk where the last commit failed."""
        try:
            writer = self.writer
        except StoreUnavailable as error:
            return str(error)
        if writer.failing is not None:
            stamp = now()

            def write(connection: sa.Connection) -> None:
                connection.execute(sa.delete(PROBE))
                connection.execute(sa.insert(PROBE).values(id=1, at=stamp))

            try:
                await asyncio.wrap_future(writer.work(write))
            except StoreUnavailable as error:
                return str(error)
        return None

    def _swapped(self, old: Held | None, new: Held) -> None:
        if old is not None:
            self.metrics.model.labels(old.card.model, old.card.version, old.digest).set(0)
        self.metrics.model.labels(new.card.model, new.card.version, new.digest).set(1)


def stamped(said: dict[str, Any], held: Held, simulated: bool) -> dict[str, Any]:
    """A product's answer with its id and its maker, as the columns of the store that follow from them."""
    card, decision, created = held.card, new_id(), now()
    full = {
        "decision_id": decision,
        **said,
        "model": {"name": card.model, "version": card.version, "bundle": held.digest},
        "simulated": card.simulated or simulated,
        "created": created,
    }
    return {
        "id": decision,
        "answer": orjson.dumps(full, option=JSON_OPTIONS),
        "model": card.model,
        "version": card.version,
        "bundle": held.digest,
        "policy": held.policy,
        "created": created,
    }
