"""The decision service: it decides one request and returns the response only once its record is on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import orjson
import sqlalchemy as sa

from serving.core.audit import entries, receipts
from serving.core.billing.prices import Prices
from serving.core.billing.quotas import Quota
from serving.core.db.errors import QueueFullError
from serving.core.db.tables.decisions import UnloggedDecisionRow
from serving.core.http.metrics import Metrics
from serving.core.http.principal import LOCAL_PRINCIPAL, Principal
from serving.core.http.problems import ProblemError
from serving.core.identifiers import new_id, utc_now
from serving.core.process import Loop, keep_running
from serving.decisions.inflight import InflightDecisions
from serving.decisions.input_counts import InputCounter
from serving.decisions.inputs import ResolvedInputs, load_stored_inputs, redact_faults, to_problem, withheld_notice
from serving.decisions.products.base import (
    DeployedModel,
    Product,
    decision_model_loader,
    products,
    slide_model_loader,
)
from serving.decisions.records import DecisionWrite, StoredAnswer
from serving.decisions.request import DecisionRequest, parse_request
from serving.decisions.store import DecisionStore
from serving.privacy.consent.redaction import redact_answer
from serving.privacy.consent.rules import ConsentRevokedError, load_rules
from serving.privacy.subjects.errors import SubjectErasedError
from serving.registry.deployment import DeploymentGuard
from serving.settings import ROOT, Settings

log = logging.getLogger("yuheng.decisions")

CONSENT_OPTION = "moral_data_consent"  # the option without which conduct does not raise a limit
JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


@dataclass(frozen=True, slots=True)
class DecisionResponse:
    """The response's body, and whether it is that of an earlier request with the same idempotency key."""

    body: bytes
    replayed: bool


class DecisionService:
    """Decides requests with the deployed models. Call `start` in the event loop that serves, and `stop` in the same."""

    def __init__(self, settings: Settings, metrics: Metrics):
        self.settings, self.metrics = settings, metrics
        self.store = DecisionStore(settings)
        self.model_loader = decision_model_loader(settings)
        self.slide_model_loader = slide_model_loader(settings)  # to list and promote them; slides are read elsewhere
        self.model_loader.on_swap = self._on_model_swap
        guard = DeploymentGuard(lambda: self.store.engine, settings.champion)
        self.model_loader.authorise = self.slide_model_loader.authorise = guard.authorise
        self.consent_rules = load_rules() if settings.consent.required else None
        self.prices = Prices.load(settings.paths.prices)
        self.quota = Quota(settings.rate, self.store)
        self.input_counter = InputCounter(self.store)
        self._inflight = InflightDecisions(self.store)
        self.loops: dict[str, Loop] = {  # name -> what runs from start to stop
            "models": self.model_loader.watch,
            "slide_models": self.slide_model_loader.watch,
            "input_counts": self.input_counter.watch,
            "checkpoints": self.store.sign_checkpoints,
        }
        self.on_stop: list[Callable[[sa.Engine], None]] = [self.input_counter.finish]  # once nothing else writes
        self.loop_failures: dict[str, str] = {}  # loop -> why it ended and was started again, for a minute
        self._background_tasks: asyncio.Future[Any] | None = None

    def start(self) -> None:
        """Open the store, load every champion, then watch for new ones. Readiness shows what could not be opened."""
        self.store.start()
        if (ROOT.parent / "bento.yaml").exists() and self.settings.paths.store.is_relative_to(ROOT):
            log.warning(
                "the store is inside the Bento itself (%s) and goes away with it: set YUHENG_HOME",
                self.settings.paths.store,
            )
        self.model_loader.load_all()
        self.slide_model_loader.load_all()
        self._background_tasks = asyncio.gather(
            *(keep_running(name, loop, self.loop_failures) for name, loop in self.loops.items())
        )

    def stop(self) -> None:
        """Stop watching, write what is pending, close the store."""
        if self._background_tasks is not None:
            self._background_tasks.cancel()
        if not self.store.is_open:
            return
        engine = self.store.engine
        self.quota.close(engine)
        self.store.close()
        for finish in self.on_stop:
            finish(engine)
        self.store.dispose()

    def deployed_model(self, product: Product, model_name: str | None) -> DeployedModel:
        """Return the deployed model of this name, or the product's default for None. Raises ProblemError."""
        name = self.settings.default_models[product.name] if model_name is None else model_name
        deployed = self.model_loader.deployed.get(name)
        if deployed is not None and deployed.card.product == product.name:
            return deployed
        available = [name for name, model in self.model_loader.deployed.items() if model.card.product == product.name]
        if deployed is not None and model_name is not None:
            route = products()[deployed.card.product].route
            raise ProblemError(
                "unknown_model",
                actual=f"{name!r} is served at {route}; at this address it",
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
        """Decide one request and record it; the response is returned once its record is on disk.

        Raises ProblemError or StoreUnavailableError; then nothing was recorded.
        """
        digest = self.store.vault.digest(body)  # opens the store, where that failed at the start
        if idempotency_key is not None:
            key = principal.tenant, product.scope, idempotency_key
            earlier_response = await self._inflight.find_response(key, digest)
            if earlier_response is not None:
                return DecisionResponse(earlier_response, True)
        await self.quota.check(principal.tenant)
        request = parse_request(body, product.request_schema)
        model = self.deployed_model(product, request.model)
        inputs = await self.resolve_inputs(request, model, principal)
        row, faults = model.validate(inputs.values)
        if faults:
            raise ProblemError("invalid_request", errors=faults if inputs.pseudonym is None else redact_faults(faults))
        options = request.options
        if inputs.withheld_groups and CONSENT_OPTION in options:  # conduct counts only where all of it may be read
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
            "by": principal.subject,
            "reference": self._keyed_reference(request, product, principal),
            "salt": entries.new_salt(),
        }
        price = self.prices.price_for(product.name, principal.tenant, record["created"])
        decision_row = cast(UnloggedDecisionRow, record)
        entry = entries.decision_entry(
            decision_row, product.name, inputs.values, model.lineage.sha256, price, inputs.grants, request.fields
        )
        charge = price.charge(record["id"], principal.tenant, product.name, record["created"])
        self.quota.take(principal.tenant, 1)
        stored: StoredAnswer | None = None
        is_answered = False
        try:
            stored = await self._submit(
                DecisionWrite(record, entry, charge, model.lineage, inputs.grants, inputs.pseudonym)
            )
            is_answered = stored is None
        finally:
            if not is_answered:
                self.quota.add(principal.tenant, -1)
        if stored is None:
            self.metrics.record_decision(model.card.model, answer["decision"])
            self.input_counter.add_row(model, principal.tenant, row, answer)
            return DecisionResponse(record["answer"], False)
        if stored.request_sha256 != digest:  # another process took the key meanwhile
            raise ProblemError("key_reused", actual=repr(idempotency_key))
        return DecisionResponse(stored.answer, True)

    async def _submit(self, write: DecisionWrite) -> StoredAnswer | None:
        """None once the record is on disk; where its idempotency key was taken, what is stored under it."""
        try:
            commit = self.store.writer.submit(write)
        except QueueFullError as error:
            raise ProblemError("overloaded", actual=str(error)) from error
        try:
            return await (commit if write.row["idempotency_key"] is None else self._inflight.share(write.row, commit))
        except (ConsentRevokedError, SubjectErasedError) as error:
            raise to_problem(error) from error

    def _keyed_reference(self, request: DecisionRequest, product: Product, principal: Principal) -> str | None:
        if request.reference is None:
            return None
        return self.store.vault.reference(principal.tenant, product.name, request.reference)

    async def resolve_inputs(
        self, request: DecisionRequest, model: DeployedModel, principal: Principal
    ) -> ResolvedInputs:
        """Return the request's indicators, or those stored for its subject that the caller may read.

        Raises ProblemError where the store may not be read for it.
        """
        subject = request.subject
        if subject is None:
            return ResolvedInputs(request.indicators or {})
        reader, vault, rules = self.store.reader, self.store.vault, self.consent_rules
        return await self.store.run_blocking(
            lambda: load_stored_inputs(reader, vault, rules, model, subject, principal.tenant)
        )

    def receipt(self, decision_id: str, tenant: str) -> dict[str, Any] | None:
        """The receipt of a decision, a batch's row or a slide; None where the tenant has no such decision.

        It may wait for a checkpoint to be signed: call it in a thread.
        """
        engine, signer = self.store.engine, self.store.checkpoint_signer
        batch, _, row = decision_id.partition("-")
        if row:
            return receipts.for_batch_row(engine, signer.checkpoint, batch, int(row), tenant)
        receipt = receipts.for_decision(engine, signer.checkpoint, decision_id, tenant)
        return receipt or receipts.for_slide(engine, signer.checkpoint, decision_id, tenant)

    def _on_model_swap(self, previous: DeployedModel | None, current: DeployedModel) -> None:
        if previous is not None:
            self.metrics.model_info.labels(previous.card.model, previous.card.version, previous.digest).set(0)
        self.metrics.model_info.labels(current.card.model, current.card.version, current.digest).set(1)


def build_record(answer: dict[str, Any], model: DeployedModel, inputs: ResolvedInputs) -> dict[str, Any]:
    """The columns of DECISIONS that follow from an answer: its id, its body as it is sent, its model and time."""
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
