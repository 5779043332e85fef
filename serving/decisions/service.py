"""Holds the bundles, answers, leaves a record. An answer's bytes come back from here only once they are on the disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa

from models.bundle import Bundle
from models.pathology.card import SlideCard
from serving.core.audit import entries, receipts
from serving.core.audit.checkpoints import Notary
from serving.core.billing.prices import Prices
from serving.core.db.engine import StoreUnavailable, open_store
from serving.core.db.reader import Reader
from serving.core.db.schema import PROBE
from serving.core.db.writer import GrantsGone, Kept, QueueFull, Record, SubjectGone, Writer
from serving.core.http.metrics import Metrics
from serving.core.http.principal import OPEN, Caller
from serving.core.http.problems import Problem
from serving.core.http.request import new_id, now
from serving.core.security.keys import KeyUnusable
from serving.core.security.rate_limits import Quota
from serving.decisions.batch.records import break_off_orphans
from serving.decisions.batch.subjects import Subjects
from serving.decisions.input_counts import Counts
from serving.decisions.inputs import Stated, not_authorised, silence, unvalued
from serving.decisions.products.base import Held, Product, hold, hold_slides, of_slides, of_tables, products
from serving.decisions.request import Question, parse_question
from serving.privacy.consent.redaction import veiled
from serving.privacy.consent.rules import Opened, live, opened, rules
from serving.privacy.subjects import vault
from serving.privacy.subjects.indicators import groups_of, newest
from serving.privacy.subjects.vault import Tampered, Vault, VaultLocked, claim
from serving.registry.loader import Champions
from serving.settings import ROOT, Settings

log = logging.getLogger("yuheng.runtime")

T = TypeVar("T")
CONSENT = "moral_data_consent"  # the wish without which conduct raises no limit

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
        self.rules = rules() if settings.consent.required else None
        self.vault: Vault  # from `_open` on
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self.prices = Prices.load(settings.paths.prices)
        self._notary: Notary | None = None
        self.store_alarm: str | None = None
        self.log_alarm: str | None = None
        # (tenant, scope, key) -> (digest of the request, its answer)
        self._running: dict[tuple[str, str, str], tuple[str, asyncio.Future[bytes]]] = {}
        self._watching: asyncio.Future[Any] | None = None
        self.quota = Quota(settings.rate, self)
        self.counts = Counts(lambda: self.writer, self.loop)

    def start(self) -> None:
        """Open the store, load each champion, watch for the next. What is missing shows in readiness."""
        self._open()
        if (ROOT.parent / "bento.yaml").exists() and self.settings.paths.store.is_relative_to(ROOT):
            log.warning("records go into the Bento itself (%s): set YUHENG_HOME", self.settings.paths.store)
        self.champions.load_all()
        self.readers.load_all()
        watches = self.champions.watch(), self.readers.watch(), self.counts.watch(), self._sign()
        self._watching = asyncio.gather(*watches)

    def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if self.engine is not None:
            self.quota.close(self.engine)
        if self._writer is not None:
            self._writer.close()
        if self.engine is not None:
            self.counts.finish(self.engine)
            self.engine.dispose()

    def _open(self) -> None:
        try:
            self.engine = open_store(self.settings.store_place, self.settings.store.patience_seconds)
            self.vault = vault.of(self.settings)
            with self.engine.begin() as connection:
                claim(connection, self.vault)
                break_off_orphans(connection, now())
            paths = self.settings.paths
            self._notary = Notary(self.engine, paths.log_key, paths.checkpoints, self.settings.log.origin)
            self.log_alarm = self._notary.take_up()
        except (VaultLocked, StoreUnavailable, KeyUnusable, sa.exc.SQLAlchemyError, OSError) as error:
            self.store_alarm = str(error)
            return
        if self.log_alarm is not None:
            log.error("the audit log does not go on where it stood: %s. python -m serving audit verify", self.log_alarm)
        self.store_alarm = None
        self._reader = Reader(self.engine)
        self._writer = Writer(self.engine, self.settings.store.group, self.settings.limits.queue, self.loop)

    @property
    def notary(self) -> Notary:
        if self._notary is None:
            self._open()
        if self._notary is None:
            raise StoreUnavailable("failed", self.store_alarm or "the store is not open")
        return self._notary

    async def _sign(self) -> None:
        """A checkpoint now and then while there is something new, until cancelled."""
        failing = False
        while True:
            await asyncio.sleep(self.settings.log.seconds)
            if self._notary is None:
                continue
            try:
                await asyncio.to_thread(self._notary.note)
                failing = False
            except StoreUnavailable as error:
                if not failing:
                    log.error("no checkpoint can be signed: %s", error)
                failing = True

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
        _ = self.reader  # opens the store where it was not to be had at the start, and the vault with it
        digest = self.vault.digest(body)
        if key is not None:
            earlier = await self._earlier((caller.tenant, product.scope, key), digest)
            if earlier is not None:
                return Answered(earlier, True)
        await self.quota.check(caller.tenant)
        question = parse_question(body, product.form)
        held = self.held(product, question.model)
        stated = await self.stated(product, question, held, caller)
        row, faults = held.check(stated.values)
        if faults:
            raise Problem("invalid_request", errors=faults if stated.pseudonym is None else unvalued(faults))
        wishes = question.wishes
        if stated.silent and CONSENT in wishes:  # conduct counts where all of it may be read
            wishes = {**wishes, CONSENT: False}
        said = held.answer(stated.values, row, wishes)
        if stated.pseudonym is not None:
            said = veiled(said, held.table)
        made = stamped(said, held, stated)
        made |= {
            "scope": product.scope,
            "idempotency_key": key,
            "request_sha256": digest,
            "subject": stated.pseudonym,
            "tenant": caller.tenant,
            "salt": entries.new_salt(),
        }
        price = self.prices.of(product.name, caller.tenant, made["created"])
        entry = entries.decision(made, product.name, stated.values, held.lineage.sha256, price, stated.grants)
        charge = price.charge(made["id"], caller.tenant, product.name, made["created"])
        kept = await self._record(Record(made, entry, charge, held.lineage, stated.grants, stated.pseudonym), key)
        if kept is None:
            self.metrics.decided(held.card.model, said["decision"])
            self.quota.add(caller.tenant, 1)
            self.counts.one(held, caller.tenant, row, said)
            return Answered(made["answer"], False)
        if kept.request_sha256 != digest:  # another process took the key meanwhile
            raise Problem("key_reused", found=repr(key))
        return Answered(kept.answer, True)

    async def _earlier(self, key: tuple[str, str, str], digest: str) -> bytes | None:
        """The first answer to this key of a tenant and a scope, once recorded. Raises Problem where the key belongs to
        another request."""
        kept = None if key in self._running else await self.aside(lambda: self.reader.kept(*key))
        running = None if kept is not None else self._running.get(key)
        if running is None and kept is None:
            return None
        if (running[0] if running else kept.request_sha256 if kept else "") != digest:
            raise Problem("key_reused", found=repr(key[2]))
        return await asyncio.shield(running[1]) if running else kept.answer if kept else None

    async def _record(self, record: Record, key: str | None) -> Kept | None:
        """None once the record is on the disk, or what its key already stands for."""
        try:
            recorded = self.writer.record(record)
        except QueueFull as error:
            raise Problem("overloaded", found=str(error)) from error
        try:
            return await (recorded if key is None else self._shared(record.row, key, recorded))
        except (GrantsGone, SubjectGone) as gone:
            raise ended(gone) from gone

    def _shared(
        self, row: Mapping[str, Any], key: str, recorded: asyncio.Future[Kept | None]
    ) -> asyncio.Future[Kept | None]:
        """`recorded`, whose outcome goes to those too who send the same key meanwhile."""
        answer: asyncio.Future[bytes] = self.loop.create_future()
        answer.add_done_callback(lambda done: done.exception())  # it may be that nobody else waits for it
        mine = self._running[row["tenant"], row["scope"], key] = (row["request_sha256"], answer)
        recorded.add_done_callback(lambda done: self._settle(key, row, mine, done))
        return asyncio.shield(recorded)

    def _settle(
        self,
        key: str,
        row: Mapping[str, Any],
        mine: tuple[str, asyncio.Future[bytes]],
        recorded: asyncio.Future[Kept | None],
    ) -> None:
        """Hand the outcome to those who sent the same key meanwhile, whether or not the first caller still waits."""
        place, answer = (row["tenant"], row["scope"], key), mine[1]
        if self._running.get(place) is mine:  # else one that read the store before this was in it came after
            del self._running[place]
        if (error := recorded.exception()) is not None:
            answer.set_exception(ended(error) if isinstance(error, GrantsGone | SubjectGone) else error)
        else:
            kept = recorded.result()
            if kept is not None and kept.request_sha256 != mine[0]:
                answer.set_exception(Problem("key_reused", found=repr(key)))
            else:
                answer.set_result(row["answer"] if kept is None else kept.answer)

    async def stated(self, product: Product, question: Question, held: Held, caller: Caller) -> Stated:
        """What an answer rests on. Raises Problem where the store may not be read for it."""
        if question.subject is None:
            return Stated(question.indicators or {})
        return await self.aside(lambda: self._stored(product, question.subject or "", held, caller))

    async def aside(self, do: Callable[[], T]) -> T:
        """Here, where the store is a file that answers in microseconds; in a thread, where it is over a wire."""
        embedded = self.engine is None or self.engine.dialect.name == "sqlite"
        return do() if embedded else await asyncio.to_thread(do)

    def _stored(self, product: Product, subject: str, held: Held, caller: Caller) -> Stated:
        """What the store holds of a subject, of the groups that the model reads and the caller may. Raises Problem."""
        reader, pseudonym = self.reader, self.vault.pseudonym(product.name, subject)
        stamp, groups = now(), sorted(groups_of(held.table))
        may = self.opened(product, pseudonym, groups, caller, stamp)
        try:
            found = reader.ask(lambda connection: newest(connection, self.vault, pseudonym, may.groups, stamp[:10]))
        except Tampered as error:
            log.error("a subject's indicators are refused: %s", error)
            raise Problem("indicators_refused", found=str(error)) from error
        if found is None:
            raise Problem("unknown_subject", found=repr(subject))
        known = {column.name for column in held.fields}
        values = {name: value for name, value in found.values.items() if name in known}
        return Stated(values, found.simulated, pseudonym, may.grants, may.silent)

    def opened(self, product: Product, pseudonym: str, groups: Sequence[str], caller: Caller, stamp: str) -> Opened:
        """What of these groups the caller may read. Raises Problem where one that is no conduct stays shut."""
        if self.rules is None:
            return Opened(tuple(groups), (), (), {})
        grants = self.reader.ask(lambda connection: live(connection, caller.tenant, product.name, pseudonym, stamp))
        may = opened(self.rules, product.name, groups, grants)
        if may.lacking:
            raise not_authorised(may.lacking)
        return may

    def subjects(self, held: Held, caller: Caller) -> Subjects:
        """The stored ones that a batch of this caller may name."""
        return Subjects(self.reader, self.vault, self.rules, held, caller.tenant)

    def receipt(self, decision: str, tenant: str) -> dict[str, Any] | None:
        """In a thread. None where the tenant has no such decision."""
        notary = self.notary
        batch, _, row = decision.partition("-")
        if row:
            return receipts.of_row(notary.engine, notary.note, batch, int(row), tenant)
        found = receipts.of_decision(notary.engine, notary.note, decision, tenant)
        return found or receipts.of_reading(notary.engine, notary.note, decision, tenant)

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


def ended(gone: GrantsGone | SubjectGone) -> Problem:
    if isinstance(gone, SubjectGone):
        return Problem("unknown_subject", found="a subject that was erased meanwhile")
    return Problem("authorisation_ended", found=str(gone))


def stamped(said: dict[str, Any], held: Held, stated: Stated) -> dict[str, Any]:
    """A product's answer with its id and its maker, as the columns of the store that follow from them."""
    card, decision, created = held.card, new_id(), now()
    full = {
        "decision_id": decision,
        **said,
        "model": {"name": card.model, "version": card.version, "bundle": held.digest},
        "simulated": card.simulated or stated.simulated,
        "indicators_from": "caller" if stated.pseudonym is None else "store",
        "authorisations": list(stated.grants),
        "remarks": [silence(stated.silent)] if stated.silent else [],
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
