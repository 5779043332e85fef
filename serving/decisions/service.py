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
from serving.core.billing.quotas import Quota
from serving.core.db.engine import StoreUnavailable
from serving.core.db.store import Store
from serving.core.db.writer import QueueFullError
from serving.core.http.metrics import Metrics
from serving.core.http.principal import OPEN, Caller
from serving.core.http.problems import Problem
from serving.core.identifiers import new_id, now
from serving.core.security.keys import KeyUnusable
from serving.decisions.input_counts import Counts
from serving.decisions.inputs import Stated, not_authorised, silence, unvalued
from serving.decisions.products.base import Held, Product, hold, hold_slides, of_slides, of_tables, products
from serving.decisions.records import DecisionTransaction, Record, StoredAnswer, by_idempotency_key
from serving.decisions.request import Question, parse_question
from serving.privacy.consent.redaction import veiled
from serving.privacy.consent.rules import GrantsGone, Opened, live, opened, rules
from serving.privacy.subjects import vault
from serving.privacy.subjects.indicators import SubjectGone, groups_of, newest
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


class DecisionService:
    """Answers, and leaves a record of each answer. `start` in the event loop that serves.

    The store, made by `make_store`, opens the vault and the checkpoint signer as it opens.
    """

    def __init__(self, settings: Settings, metrics: Metrics):
        self.settings, self.metrics = settings, metrics
        self.store = Store(settings, DecisionTransaction(), self._on_open)
        champion = settings.champion
        where = settings.paths.bundles, settings.paths.public_key, champion.poll_seconds, champion.retry_seconds
        self.champions: Champions[Held] = Champions(*where, hold, of_tables)
        self.readers: Champions[Bundle[SlideCard]] = Champions(*where, hold_slides, of_slides)  # listed only
        self.champions.on_swap = self._swapped
        self.rules = rules() if settings.consent.required else None
        self.prices = Prices.load(settings.paths.prices)
        self.quota = Quota(settings.rate, self.store)
        self.counts = Counts(self.store)
        self.on_open: list[Callable[[sa.Connection], None]] = []  # of others that the store has, as it opens
        self.log_alarm: str | None = None
        self._vault: Vault | None = None
        self._notary: Notary | None = None
        # (tenant, scope, key) -> (digest of the request, its answer)
        self._running: dict[tuple[str, str, str], tuple[str, asyncio.Future[bytes]]] = {}
        self._watching: asyncio.Future[Any] | None = None

    def start(self) -> None:
        """Open the store, load each champion, watch for the next. What is missing shows in readiness."""
        self.loop = asyncio.get_running_loop()
        self.store.start()
        if (ROOT.parent / "bento.yaml").exists() and self.settings.paths.store.is_relative_to(ROOT):
            log.warning("records go into the Bento itself (%s): set YUHENG_HOME", self.settings.paths.store)
        self.champions.load_all()
        self.readers.load_all()
        watches = self.champions.watch(), self.readers.watch(), self.counts.watch(), self._sign()
        self._watching = asyncio.gather(*watches)

    def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if not self.store.is_open:
            return
        engine = self.store.engine
        self.quota.close(engine)
        self.store.close()
        self.counts.finish(engine)
        self.store.dispose()

    def _on_open(self, engine: sa.Engine) -> None:
        """Raises StoreUnavailable where vault or log do not belong to the store."""
        try:
            opened_vault = vault.of(self.settings)
            with engine.begin() as connection:
                claim(connection, opened_vault)
                for hook in self.on_open:
                    hook(connection)
            paths = self.settings.paths
            notary = Notary(engine, paths.log_key, paths.checkpoints, self.settings.log.origin)
            self.log_alarm = notary.take_up()
        except (VaultLocked, KeyUnusable) as error:
            raise StoreUnavailable("failed", str(error)) from error
        self._vault, self._notary = opened_vault, notary
        if self.log_alarm is not None:
            log.error("the audit log does not go on where it stood: %s. python -m serving audit verify", self.log_alarm)

    @property
    def vault(self) -> Vault:
        """Raises StoreUnavailable."""
        _ = self.store.engine
        assert self._vault is not None
        return self._vault

    @property
    def notary(self) -> Notary:
        """Raises StoreUnavailable."""
        _ = self.store.engine
        assert self._notary is not None
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
        _ = self.store.reader  # opens the store where it was not to be had at the start, and the vault with it
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
        kept = (
            None
            if key in self._running
            else await self.store.run_blocking(
                lambda: self.store.reader.ask(lambda connection: by_idempotency_key(connection, *key))
            )
        )
        running = None if kept is not None else self._running.get(key)
        if running is None and kept is None:
            return None
        if (running[0] if running else kept.request_sha256 if kept else "") != digest:
            raise Problem("key_reused", found=repr(key[2]))
        return await asyncio.shield(running[1]) if running else kept.answer if kept else None

    async def _record(self, record: Record, key: str | None) -> StoredAnswer | None:
        """None once the record is on the disk, or what its key already stands for."""
        try:
            recorded = self.store.writer.submit(record)
        except QueueFullError as error:
            raise Problem("overloaded", found=str(error)) from error
        try:
            return await (recorded if key is None else self._shared(record.row, key, recorded))
        except (GrantsGone, SubjectGone) as gone:
            raise ended(gone) from gone

    def _shared(
        self, row: Mapping[str, Any], key: str, recorded: asyncio.Future[StoredAnswer | None]
    ) -> asyncio.Future[StoredAnswer | None]:
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
        recorded: asyncio.Future[StoredAnswer | None],
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
        return await self.store.run_blocking(lambda: self._stored(product, question.subject or "", held, caller))

    def _stored(self, product: Product, subject: str, held: Held, caller: Caller) -> Stated:
        """What the store holds of a subject, of the groups that the model reads and the caller may. Raises Problem."""
        reader, pseudonym = self.store.reader, self.vault.pseudonym(product.name, subject)
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
        grants = self.store.reader.ask(
            lambda connection: live(connection, caller.tenant, product.name, pseudonym, stamp)
        )
        may = opened(self.rules, product.name, groups, grants)
        if may.lacking:
            raise not_authorised(may.lacking)
        return may

    def receipt(self, decision: str, tenant: str) -> dict[str, Any] | None:
        """In a thread. None where the tenant has no such decision."""
        notary = self.notary
        batch, _, row = decision.partition("-")
        if row:
            return receipts.of_row(self.store.engine, notary.note, batch, int(row), tenant)
        found = receipts.of_decision(self.store.engine, notary.note, decision, tenant)
        return found or receipts.of_reading(self.store.engine, notary.note, decision, tenant)

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
