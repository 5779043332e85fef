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
        loader_settings = settings.champion
        loader_args = settings.paths.bundles, settings.paths.public_key, loader_settings.poll_seconds, loader_settings.retry_seconds
        self.model_loader: ModelLoader[DeployedModel] = ModelLoader(*loader_args, deploy, is_tabular_product)
        self.slide_model_loader: ModelLoader[Bundle[SlideCard]] = ModelLoader(
            *loader_args, deploy_slide_model, is_slide_product
        )  # listed only
        self.model_loader.on_swap = self._on_model_swap
        self.consent_rules = load_rules() if settings.consent.required else None
        self.prices = Prices.load(settings.paths.prices)
        self.quota = Quota(settings.rate, self.store)
        self.input_counter = InputCounter(self.store)
        self.on_open: list[Callable[[sa.Connection], None]] = []  # of others that the store has, as it opens
        self.log_alarm: str | None = None
        self._vault: Vault | None = None
        self._checkpoint_signer: CheckpointSigner | None = None
        # (tenant, scope, key) -> (digest of the request, its answer)
        self._inflight: dict[tuple[str, str, str], tuple[str, asyncio.Future[bytes]]] = {}
        self._background_tasks: asyncio.Future[Any] | None = None

    def start(self) -> None:
        """Open the store, load each champion, watch for the next. What is missing shows in readiness."""
        self.loop = asyncio.get_running_loop()
        self.store.start()
        if (ROOT.parent / "bento.yaml").exists() and self.settings.paths.store.is_relative_to(ROOT):
            log.warning("records go into the Bento itself (%s): set YUHENG_HOME", self.settings.paths.store)
        self.model_loader.load_all()
        self.slide_model_loader.load_all()
        coroutines = self.model_loader.watch(), self.slide_model_loader.watch(), self.input_counter.watch(), self._checkpoint_loop()
        self._background_tasks = asyncio.gather(*coroutines)

    def stop(self) -> None:
        if self._background_tasks is not None:
            self._background_tasks.cancel()
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
        self._vault, self._checkpoint_signer = opened_vault, notary
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
        assert self._checkpoint_signer is not None
        return self._checkpoint_signer

    async def _checkpoint_loop(self) -> None:
        """A checkpoint now and then while there is something new, until cancelled."""
        is_failing = False
        while True:
            await asyncio.sleep(self.settings.log.checkpoint_interval_seconds)
            if self._checkpoint_signer is None:
                continue
            try:
                await asyncio.to_thread(self._checkpoint_signer.checkpoint)
                is_failing = False
            except StoreUnavailableError as error:
                if not is_failing:
                    log.error("no checkpoint can be signed: %s", error)
                is_failing = True

    def deployed_model(self, product: Product, model_name: str | None) -> DeployedModel:
        """What serves the product under a name, or under its default's. Raises Problem."""
        name = self.settings.default_models[product.name] if model_name is None else model_name
        deployed = self.model_loader.deployed.get(name)
        if deployed is not None and deployed.card.product == product.name:
            return deployed
        available = [name for name, held in self.model_loader.deployed.items() if held.card.product == product.name]
        if deployed is not None and model_name is not None:
            route = products()[deployed.card.product].route
            raise ProblemError(
                "unknown_model",
                actual=f"{name!r} answers at {route}; at this address it",
                actual_zh=f"{name!r}（请改用 {route}）",
                expected=", ".join(available) or "no model",
                expected_zh=", ".join(available) or "无",
            )
        if not available or model_name is None:
            raise ProblemError(
                "not_ready", actual=f"No bundle of the model {name!r} is loaded", actual_zh=f"未载入模型 {name!r}"
            )
        raise ProblemError("unknown_model", actual=repr(name[:80]), expected=", ".join(available))

    async def decide(
        self, product: Product, body: bytes, idempotency_key: str | None, principal: Principal = LOCAL_PRINCIPAL
    ) -> DecisionResponse:
        """One applicant's answer. Raises Problem or StoreUnavailable; then nothing was recorded."""
        _ = self.store.reader  # opens the store where it was not to be had at the start, and the vault with it
        digest = self.vault.digest(body)
        if idempotency_key is not None:
            earlier_response = await self._find_idempotent_response((principal.tenant, product.scope, idempotency_key), digest)
            if earlier_response is not None:
                return DecisionResponse(earlier_response, True)
        await self.quota.check(principal.tenant)
        request = parse_request(body, product.request_schema)
        model = self.deployed_model(product, request.model)
        inputs = await self.resolve_inputs(product, request, model, principal)
        row, faults = model.validate(inputs.values)
        if faults:
            raise ProblemError("invalid_request", errors=faults if inputs.pseudonym is None else redact_faults(faults))
        options = request.options
        if inputs.withheld_groups and CONSENT_OPTION in options:  # conduct counts where all of it may be read
            options = {**options, CONSENT_OPTION: False}
        answer = model.decide(inputs.values, row, options)
        if inputs.pseudonym is not None:
            answer = redact_answer(answer, model.table)
        record = build_record(answer, model, inputs)
        record |= {
            "scope": product.scope,
            "idempotency_key": idempotency_key,
            "request_sha256": digest,
            "subject": inputs.pseudonym,
            "tenant": principal.tenant,
            "salt": entries.new_salt(),
        }
        price = self.prices.price_for(product.name, principal.tenant, record["created"])
        entry = entries.decision_entry(record, product.name, inputs.values, model.lineage.sha256, price, inputs.grants)
        charge = price.charge(record["id"], principal.tenant, product.name, record["created"])
        stored = await self._submit(
            DecisionWrite(record, entry, charge, model.lineage, inputs.grants, inputs.pseudonym), idempotency_key
        )
        if stored is None:
            self.metrics.record_decision(model.card.model, answer["decision"])
            self.quota.add(principal.tenant, 1)
            self.input_counter.add_row(model, principal.tenant, row, answer)
            return DecisionResponse(record["answer"], False)
        if stored.request_sha256 != digest:  # another process took the key meanwhile
            raise ProblemError("key_reused", actual=repr(idempotency_key))
        return DecisionResponse(stored.answer, True)

    async def _find_idempotent_response(self, key: tuple[str, str, str], digest: str) -> bytes | None:
        """The first answer to this key of a tenant and a scope, once recorded. Raises Problem where the key belongs to
        another request."""
        stored = (
            None
            if key in self._inflight
            else await self.store.run_blocking(
                lambda: self.store.reader.run(lambda connection: by_idempotency_key(connection, *key))
            )
        )
        inflight = None if stored is not None else self._inflight.get(key)
        if inflight is None and stored is None:
            return None
        if (inflight[0] if inflight else stored.request_sha256 if stored else "") != digest:
            raise ProblemError("key_reused", actual=repr(key[2]))
        return await asyncio.shield(inflight[1]) if inflight else stored.answer if stored else None

    async def _submit(self, record: DecisionWrite, idempotency_key: str | None) -> StoredAnswer | None:
        """None once the record is on the disk, or what its key already stands for."""
        try:
            commit = self.store.writer.submit(record)
        except QueueFullError as error:
            raise ProblemError("overloaded", actual=str(error)) from error
        try:
            return await (commit if idempotency_key is None else self._shared(record.row, idempotency_key, commit))
        except (ConsentRevokedError, SubjectErasedError) as error:
            raise to_problem(error) from error

    def _shared(
        self, row: Mapping[str, Any], key: str, recorded: asyncio.Future[StoredAnswer | None]
    ) -> asyncio.Future[StoredAnswer | None]:
        """`recorded`, whose outcome goes to those too who send the same key meanwhile."""
        answer: asyncio.Future[bytes] = self.loop.create_future()
        answer.add_done_callback(lambda done: done.exception())  # it may be that nobody else waits for it
        mine = self._inflight[row["tenant"], row["scope"], key] = (row["request_sha256"], answer)
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
        if self._inflight.get(place) is mine:  # else one that read the store before this was in it came after
            del self._inflight[place]
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
        self, product: Product, request: DecisionRequest, model: DeployedModel, principal: Principal
    ) -> ResolvedInputs:
        """What an answer rests on. Raises Problem where the store may not be read for it."""
        if request.subject is None:
            return ResolvedInputs(request.indicators or {})
        return await self.store.run_blocking(lambda: self._load_stored_inputs(product, request.subject or "", model, principal))

    def _load_stored_inputs(self, product: Product, subject: str, model: DeployedModel, principal: Principal) -> ResolvedInputs:
        """What the store holds of a subject, of the groups that the model reads and the caller may. Raises Problem."""
        reader, pseudonym = self.store.reader, self.vault.pseudonym(product.name, subject)
        timestamp, groups = utc_now(), sorted(columns_by_group(model.table))
        consent = self.check_consent(product, pseudonym, groups, principal, timestamp)
        try:
            stored = reader.run(
                lambda connection: latest_as_of(connection, self.vault, pseudonym, consent.allowed_groups, timestamp[:10])
            )
        except TamperedError as error:
            log.error("a subject's indicators are refused: %s", error)
            raise ProblemError("indicators_refused", actual=str(error)) from error
        if stored is None:
            raise ProblemError("unknown_subject", actual=repr(subject))
        field_names = {column.name for column in model.fields}
        values = {name: value for name, value in stored.values.items() if name in field_names}
        return ResolvedInputs(values, stored.simulated, pseudonym, consent.grants, consent.withheld)

    def check_consent(
        self, product: Product, pseudonym: str, groups: Sequence[str], principal: Principal, timestamp: str
    ) -> ConsentDecision:
        """What of these groups the caller may read. Raises Problem where one that is no conduct stays shut."""
        if self.consent_rules is None:
            return ConsentDecision(tuple(groups), (), (), {})
        grants = self.store.reader.run(
            lambda connection: active_grants(connection, principal.tenant, product.name, pseudonym, timestamp)
        )
        consent = evaluate_consent(self.consent_rules, product.name, groups, grants)
        if consent.missing:
            raise not_authorised_problem(consent.missing)
        return consent

    def receipt(self, decision_id: str, tenant: str) -> dict[str, Any] | None:
        """In a thread. None where the tenant has no such decision."""
        signer = self.checkpoint_signer
        batch, _, row = decision_id.partition("-")
        if row:
            return receipts.for_batch_row(self.store.engine, signer.checkpoint, batch, int(row), tenant)
        receipt = receipts.for_decision(self.store.engine, signer.checkpoint, decision_id, tenant)
        return receipt or receipts.for_slide(self.store.engine, signer.checkpoint, decision_id, tenant)

    def _on_model_swap(self, previous: DeployedModel | None, current: DeployedModel) -> None:
        if previous is not None:
            self.metrics.model_info.labels(previous.card.model, previous.card.version, previous.digest).set(0)
        self.metrics.model_info.labels(current.card.model, current.card.version, current.digest).set(1)


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
