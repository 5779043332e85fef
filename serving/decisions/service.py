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
from serving.core.audit.checkpoints import CheckpointSigner
from serving.core.billing.prices import Prices
from serving.core.billing.quotas import Quota
from serving.core.db.engine import StoreUnavailableError
from serving.core.db.store import Store
from serving.core.db.writer import QueueFullError
from serving.core.http.metrics import Metrics
from serving.core.http.principal import LOCAL_PRINCIPAL, Principal
from serving.core.http.problems import ProblemError
from serving.core.identifiers import new_id, utc_now
from serving.core.security.keys import KeyFileError
from serving.decisions.input_counts import InputCounter
from serving.decisions.inputs import ResolvedInputs, not_authorised_problem, redact_faults, withheld_notice
from serving.decisions.products.base import (
    DeployedModel,
    Product,
    deploy,
    deploy_slide_model,
    is_slide_product,
    is_tabular_product,
    products,
)
from serving.decisions.records import DecisionTransaction, DecisionWrite, StoredAnswer, by_idempotency_key
from serving.decisions.request import DecisionRequest, parse_request
from serving.privacy.consent.redaction import redact_answer
from serving.privacy.consent.rules import (
    ConsentDecision,
    ConsentRevokedError,
    active_grants,
    evaluate_consent,
    load_rules,
)
from serving.privacy.subjects import vault
from serving.privacy.subjects.indicators import SubjectErasedError, columns_by_group, latest_as_of
from serving.privacy.subjects.vault import TamperedError, Vault, VaultKeyError, bind_store
from serving.registry.loader import ModelLoader
from serving.settings import ROOT, Settings

log = logging.getLogger("yuheng.runtime")

T = TypeVar("T")
CONSENT_OPTION = "moral_data_consent"  # the wish without which conduct raises no limit

JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


@dataclass(frozen=True, slots=True)
class DecisionResponse:
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
        self.model_loader: ModelLoader[DeployedModel] = ModelLoader(*where, deploy, is_tabular_product)
        self.slide_model_loader: ModelLoader[Bundle[SlideCard]] = ModelLoader(
            *where, deploy_slide_model, is_slide_product
        )  # listed only
        self.model_loader.on_swap = self._swapped
        self.consent_rules = load_rules() if settings.consent.required else None
        self.prices = Prices.load(settings.paths.prices)
        self.quota = Quota(settings.rate, self.store)
        self.input_counter = InputCounter(self.store)
        self.on_open: list[Callable[[sa.Connection], None]] = []  # of others that the store has, as it opens
        self.log_alarm: str | None = None
        self._vault: Vault | None = None
        self._notary: CheckpointSigner | None = None
        # (tenant, scope, key) -> (digest of the request, its answer)
        self._running: dict[tuple[str, str, str], tuple[str, asyncio.Future[bytes]]] = {}
        self._watching: asyncio.Future[Any] | None = None

    def start(self) -> None:
        """Open the store, load each champion, watch for the next. What is missing shows in readiness."""
        self.loop = asyncio.get_running_loop()
        self.store.start()
        if (ROOT.parent / "bento.yaml").exists() and self.settings.paths.store.is_relative_to(ROOT):
            log.warning("records go into the Bento itself (%s): set YUHENG_HOME", self.settings.paths.store)
        self.model_loader.load_all()
        self.slide_model_loader.load_all()
        watches = self.model_loader.watch(), self.slide_model_loader.watch(), self.input_counter.watch(), self._sign()
        self._watching = asyncio.gather(*watches)

    def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if not self.store.is_open:
            return
        engine = self.store.engine
        self.quota.close(engine)
        self.store.close()
        self.input_counter.finish(engine)
        self.store.dispose()

    def _on_open(self, engine: sa.Engine) -> None:
        """Raises StoreUnavailable where vault or log do not belong to the store."""
        try:
            opened_vault = vault.open_vault(self.settings)
            with engine.begin() as connection:
                bind_store(connection, opened_vault)
                for hook in self.on_open:
                    hook(connection)
            paths = self.settings.paths
            notary = CheckpointSigner(engine, paths.log_key, paths.checkpoints, self.settings.log.origin)
            self.log_alarm = notary.recover()
        except (VaultKeyError, KeyFileError) as error:
            raise StoreUnavailableError("failed", str(error)) from error
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
    def checkpoint_signer(self) -> CheckpointSigner:
        """Raises StoreUnavailable."""
        _ = self.store.engine
        assert self._notary is not None
        return self._notary

    async def _sign(self) -> None:
        """A checkpoint now and then while there is something new, until cancelled."""
        failing = False
        while True:
            await asyncio.sleep(self.settings.log.checkpoint_interval_seconds)
            if self._notary is None:
                continue
            try:
                await asyncio.to_thread(self._notary.checkpoint)
                failing = False
            except StoreUnavailableError as error:
                if not failing:
                    log.error("no checkpoint can be signed: %s", error)
                failing = True

    def deployed_model(self, product: Product, model: str | None) -> DeployedModel:
        """What serves the product under a name, or under its default's. Raises Problem."""
        name = self.settings.default_models[product.name] if model is None else model
        held = self.model_loader.deployed.get(name)
        if held is not None and held.card.product == product.name:
            return held
        ours = [name for name, held in self.model_loader.deployed.items() if held.card.product == product.name]
        if held is not None and model is not None:
            route = products()[held.card.product].route
            raise ProblemError(
                "unknown_model",
                actual=f"{name!r} answers at {route}; at this address it",
                actual_zh=f"{name!r}（请改用 {route}）",
                expected=", ".join(ours) or "no model",
                expected_zh=", ".join(ours) or "无",
            )
        if not ours or model is None:
            raise ProblemError(
                "not_ready", actual=f"No bundle of the model {name!r} is loaded", actual_zh=f"未载入模型 {name!r}"
            )
        raise ProblemError("unknown_model", actual=repr(name[:80]), expected=", ".join(ours))

    async def decide(
        self, product: Product, body: bytes, key: str | None, caller: Principal = LOCAL_PRINCIPAL
    ) -> DecisionResponse:
        """One applicant's answer. Raises Problem or StoreUnavailable; then nothing was recorded."""
        _ = self.store.reader  # opens the store where it was not to be had at the start, and the vault with it
        digest = self.vault.digest(body)
        if key is not None:
            earlier = await self._earlier((caller.tenant, product.scope, key), digest)
            if earlier is not None:
                return DecisionResponse(earlier, True)
        await self.quota.check(caller.tenant)
        question = parse_request(body, product.request_schema)
        held = self.deployed_model(product, question.model)
        stated = await self.resolve_inputs(product, question, held, caller)
        row, faults = held.validate(stated.values)
        if faults:
            raise ProblemError("invalid_request", errors=faults if stated.pseudonym is None else redact_faults(faults))
        wishes = question.options
        if stated.withheld_groups and CONSENT_OPTION in wishes:  # conduct counts where all of it may be read
            wishes = {**wishes, CONSENT_OPTION: False}
        said = held.decide(stated.values, row, wishes)
        if stated.pseudonym is not None:
            said = redact_answer(said, held.table)
        made = build_record(said, held, stated)
        made |= {
            "scope": product.scope,
            "idempotency_key": key,
            "request_sha256": digest,
            "subject": stated.pseudonym,
            "tenant": caller.tenant,
            "salt": entries.new_salt(),
        }
        price = self.prices.price_for(product.name, caller.tenant, made["created"])
        entry = entries.decision_entry(made, product.name, stated.values, held.lineage.sha256, price, stated.grants)
        charge = price.charge(made["id"], caller.tenant, product.name, made["created"])
        kept = await self._record(
            DecisionWrite(made, entry, charge, held.lineage, stated.grants, stated.pseudonym), key
        )
        if kept is None:
            self.metrics.record_decision(held.card.model, said["decision"])
            self.quota.add(caller.tenant, 1)
            self.input_counter.add_row(held, caller.tenant, row, said)
            return DecisionResponse(made["answer"], False)
        if kept.request_sha256 != digest:  # another process took the key meanwhile
            raise ProblemError("key_reused", actual=repr(key))
        return DecisionResponse(kept.answer, True)

    async def _earlier(self, key: tuple[str, str, str], digest: str) -> bytes | None:
        """The first answer to this key of a tenant and a scope, once recorded. Raises Problem where the key belongs to
        another request."""
        kept = (
            None
            if key in self._running
            else await self.store.run_blocking(
                lambda: self.store.reader.run(lambda connection: by_idempotency_key(connection, *key))
            )
        )
        running = None if kept is not None else self._running.get(key)
        if running is None and kept is None:
            return None
        if (running[0] if running else kept.request_sha256 if kept else "") != digest:
            raise ProblemError("key_reused", actual=repr(key[2]))
        return await asyncio.shield(running[1]) if running else kept.answer if kept else None

    async def _record(self, record: DecisionWrite, key: str | None) -> StoredAnswer | None:
        """None once the record is on the disk, or what its key already stands for."""
        try:
            recorded = self.store.writer.submit(record)
        except QueueFullError as error:
            raise ProblemError("overloaded", actual=str(error)) from error
        try:
            return await (recorded if key is None else self._shared(record.row, key, recorded))
        except (ConsentRevokedError, SubjectErasedError) as gone:
            raise to_problem(gone) from gone

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
            answer.set_exception(
                to_problem(error) if isinstance(error, ConsentRevokedError | SubjectErasedError) else error
            )
        else:
            kept = recorded.result()
            if kept is not None and kept.request_sha256 != mine[0]:
                answer.set_exception(ProblemError("key_reused", actual=repr(key)))
            else:
                answer.set_result(row["answer"] if kept is None else kept.answer)

    async def resolve_inputs(
        self, product: Product, question: DecisionRequest, held: DeployedModel, caller: Principal
    ) -> ResolvedInputs:
        """What an answer rests on. Raises Problem where the store may not be read for it."""
        if question.subject is None:
            return ResolvedInputs(question.indicators or {})
        return await self.store.run_blocking(lambda: self._stored(product, question.subject or "", held, caller))

    def _stored(self, product: Product, subject: str, held: DeployedModel, caller: Principal) -> ResolvedInputs:
        """What the store holds of a subject, of the groups that the model reads and the caller may. Raises Problem."""
        reader, pseudonym = self.store.reader, self.vault.pseudonym(product.name, subject)
        stamp, groups = utc_now(), sorted(columns_by_group(held.table))
        may = self.check_consent(product, pseudonym, groups, caller, stamp)
        try:
            found = reader.run(
                lambda connection: latest_as_of(connection, self.vault, pseudonym, may.allowed_groups, stamp[:10])
            )
        except TamperedError as error:
            log.error("a subject's indicators are refused: %s", error)
            raise ProblemError("indicators_refused", actual=str(error)) from error
        if found is None:
            raise ProblemError("unknown_subject", actual=repr(subject))
        known = {column.name for column in held.fields}
        values = {name: value for name, value in found.values.items() if name in known}
        return ResolvedInputs(values, found.simulated, pseudonym, may.grants, may.withheld)

    def check_consent(
        self, product: Product, pseudonym: str, groups: Sequence[str], caller: Principal, stamp: str
    ) -> ConsentDecision:
        """What of these groups the caller may read. Raises Problem where one that is no conduct stays shut."""
        if self.consent_rules is None:
            return ConsentDecision(tuple(groups), (), (), {})
        grants = self.store.reader.run(
            lambda connection: active_grants(connection, caller.tenant, product.name, pseudonym, stamp)
        )
        may = evaluate_consent(self.consent_rules, product.name, groups, grants)
        if may.missing:
            raise not_authorised_problem(may.missing)
        return may

    def receipt(self, decision: str, tenant: str) -> dict[str, Any] | None:
        """In a thread. None where the tenant has no such decision."""
        notary = self.checkpoint_signer
        batch, _, row = decision.partition("-")
        if row:
            return receipts.for_batch_row(self.store.engine, notary.checkpoint, batch, int(row), tenant)
        found = receipts.for_decision(self.store.engine, notary.checkpoint, decision, tenant)
        return found or receipts.for_slide(self.store.engine, notary.checkpoint, decision, tenant)

    def _swapped(self, old: DeployedModel | None, new: DeployedModel) -> None:
        if old is not None:
            self.metrics.model_info.labels(old.card.model, old.card.version, old.digest).set(0)
        self.metrics.model_info.labels(new.card.model, new.card.version, new.digest).set(1)


def to_problem(error: ConsentRevokedError | SubjectErasedError) -> ProblemError:
    if isinstance(error, SubjectErasedError):
        return ProblemError("unknown_subject", actual="a subject that was erased meanwhile")
    return ProblemError("authorisation_ended", actual=str(error))


def build_record(answer: dict[str, Any], model: DeployedModel, inputs: ResolvedInputs) -> dict[str, Any]:
    """A product's answer with its id and its maker, as the columns of the store that follow from them."""
    card, decision_id, created = model.card, new_id(), utc_now()
    response = {
        "decision_id": decision_id,
        **answer,
        "model": {"name": card.model, "version": card.version, "bundle": model.digest},
        "simulated": card.simulated or inputs.simulated,
        "indicators_from": "caller" if inputs.pseudonym is None else "store",
        "authorisations": list(inputs.grants),
        "remarks": [withheld_notice(inputs.withheld_groups)] if inputs.withheld_groups else [],
        "created": created,
    }
    return {
        "id": decision_id,
        "answer": orjson.dumps(response, option=JSON_OPTIONS),
        "model": card.model,
        "version": card.version,
        "bundle": model.digest,
        "policy": model.policy,
        "created": created,
    }
