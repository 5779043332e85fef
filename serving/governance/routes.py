"""The routes of traces, outcomes, performance and alarms; described in serving/governance/openapi.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import orjson
import sqlalchemy as sa
from pydantic import Field

from serving.core.audit.log import MerkleTree
from serving.core.db import lookup
from serving.core.db.engine import read_connection
from serving.core.http.idempotency import run_once
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSONResponse, Request, Response
from serving.core.http.router import Routes
from serving.core.http.validation import (
    DAY,
    RequestModel,
    Rule,
    json_object,
    matching,
    one_of,
    parse,
    parse_query,
    whole_number,
)
from serving.decisions.service import DecisionService
from serving.governance.human_decisions import overrides, referrals
from serving.governance.human_decisions.authority import load_authority
from serving.governance.lineage import trace
from serving.governance.monitoring import outcomes, performance
from serving.governance.monitoring.alarms import current_alarms
from serving.pathology.context import Row
from serving.settings import PRODUCTS, SLIDE_PRODUCT

TRACEABLE_PRODUCTS = (*PRODUCTS, SLIDE_PRODUCT)


class TraceQuery(RequestModel):
    product: Annotated[str, one_of(*TRACEABLE_PRODUCTS), Field(description=f"Else {TRACEABLE_PRODUCTS[0]}.")] = ""


class EffectsQuery(RequestModel):
    model: Annotated[
        str, matching(r"[^\u0000]*", "text without NUL", "不含 NUL 的文本"), Field(description="Else every one.")
    ] = ""
    since: Annotated[str, DAY, Field(description="Only decisions and slides of this day or later.")] = ""
    by: Annotated[
        str,
        Rule("week", "week（按周）", {"enum": ["week"]}, lambda value: value == "week"),
        Field(description="A series over the last weeks beside each."),
    ] = ""


class ConsistencyQuery(RequestModel):
    size: Annotated[int, whole_number(1, 2**62), Field(description="Of the earlier checkpoint; else 1.")] = 1


class GovernanceRoutes:
    def __init__(self, service: DecisionService):
        self.service, self.settings, self.store = service, service.settings, service.store
        self.authority = load_authority()

    def routes(self) -> Routes:
        return {
            "/v1/decisions/{id}/trace": {"GET": self.trace_decision},
            "/v1/decisions/{id}/override": {"POST": self.post_override},
            "/v1/decisions/{id}/refer": {"POST": self.post_referral},
            "/v1/authority": {"GET": self.get_authority},
            "/v1/subjects/{id}/trace": {"GET": self.trace_subject},
            "/v1/outcomes": {"POST": self.post_outcomes},
            "/v1/effects": {"GET": self.get_effects},
            "/v1/alarms": {"GET": self.list_alarms},
            "/v1/log/checkpoint": {"GET": self.get_checkpoint},
            "/v1/log/consistency": {"GET": self.get_consistency},
        }

    # --- the audit log

    async def get_checkpoint(self, request: Request) -> Response:
        """The newest checkpoint, over every entry, as a signed note."""
        checkpoint = await self.store.read(lambda engine: self.store.checkpoint_signer.checkpoint())
        return Response(checkpoint.note, media_type="text/plain; charset=utf-8")

    async def get_consistency(self, request: Request) -> Response:
        """The newest checkpoint, with the proof that it continues the log over the first `size` entries."""
        size = parse_query(request, ConsistencyQuery).size

        def prove(engine: sa.Engine) -> dict[str, Any]:
            checkpoint = self.store.checkpoint_signer.checkpoint()
            if size > checkpoint.size:
                raise ProblemError("unknown_checkpoint", actual=str(size), expected=str(checkpoint.size))
            with read_connection(engine) as connection:
                path = MerkleTree(connection).consistency_path(size, checkpoint.size)
            return {"size": size, "proof": [item.hex() for item in path], "checkpoint": checkpoint.note}

        return JSONResponse(await self.store.read(prove))

    # --- trace

    async def trace_decision(self, request: Request) -> Response:
        def load_trace(engine: sa.Engine) -> trace.TraceNode | None:
            with read_connection(engine) as connection:
                record = lookup.find(connection, request.path_params["id"], request.principal.tenant)
                return None if record is None else trace.trace_decision(connection, self.settings, record)

        node = await self.store.read(load_trace)
        if node is None:
            raise _unknown_decision(request)
        return JSONResponse(_trace_json(node))

    async def trace_subject(self, request: Request) -> Response:
        product = parse_query(request, TraceQuery).product or TRACEABLE_PRODUCTS[0]
        service = self.service
        serving = {name: model.card.version for name, model in service.model_loader.deployed.items()}
        serving |= {name: model.card.version for name, model in service.slide_model_loader.deployed.items()}

        def load_trace(engine: sa.Engine) -> trace.TraceNode:
            with read_connection(engine) as connection:
                return trace.trace_subject(connection, self.settings, product, request.path_params["id"], serving)

        return JSONResponse(_trace_json(await self.store.read(load_trace)))

    # --- outcomes, overrides and referrals

    async def post_outcomes(self, request: Request) -> Response:
        payload, digest = await json_object(request, self.settings.limits)
        items, faults = outcomes.parse_outcomes(payload)
        records = (
            await self._find_records([item[outcomes.ID_FIELD[item["outcome"]]] for item in items], request)
            if not faults
            else {}
        )
        if faults := faults or outcomes.unknown_id_faults(items, records):
            raise ProblemError("invalid_request", errors=faults)
        return await self._run_once(
            request,
            f"outcomes {request.principal.tenant}",
            digest,
            lambda c: outcomes.record_outcomes(c, items, records, request.principal),
        )

    async def post_override(self, request: Request) -> Response:
        payload, digest = await json_object(request, self.settings.limits)
        decision = await self._find_decision(request)
        override = parse(overrides.override_model(payload), payload)
        if faults := overrides.find_faults(override, decision, self.authority):
            raise ProblemError("invalid_request", errors=faults)
        scope, principal = f"override {request.principal.tenant} {decision.id}", request.principal
        return await self._run_once(
            request,
            scope,
            digest,
            lambda c: overrides.record_override(c, override, decision, principal, self.authority),
        )

    async def get_authority(self, request: Request) -> Response:
        """What the principal may decide instead of a model, and the reasons to choose from."""
        authority, roles = self.authority, request.principal.roles
        return JSONResponse(
            {
                "limits": {product: authority.limit(product, roles) for product in PRODUCTS},
                "min_text": authority.min_text,
                "confirm_hours": authority.confirm_hours,
                "reasons": [reason.model_dump() for reason in authority.reasons],
            }
        )

    async def post_referral(self, request: Request) -> Response:
        payload, digest = await json_object(request, self.settings.limits)
        decision = await self._find_decision(request)
        referral = parse(referrals.Referral, payload)
        scope = f"refer {request.principal.tenant} {decision.id}"
        return await self._run_once(
            request, scope, digest, lambda c: referrals.record_referral(c, referral, decision, request.principal)
        )

    async def _find_decision(self, request: Request) -> lookup.DecisionRecord:
        """The decision of the path. Raises ProblemError."""
        decision_id = request.path_params["id"]
        decision = (await self._find_records([decision_id], request)).get(decision_id)
        if decision is None or decision.kind != "decision":
            raise _unknown_decision(request)
        return decision

    async def _run_once(
        self, request: Request, scope: str, digest: str, transaction: Callable[[sa.Connection], Row]
    ) -> Response:
        result, replayed = await run_once(self.store, request, scope, digest, transaction)
        return JSONResponse(result, headers={"Idempotent-Replayed": "true"} if replayed else {})

    async def _find_records(self, ids: list[str], request: Request) -> dict[str, lookup.DecisionRecord]:
        def load_records(engine: sa.Engine) -> dict[str, lookup.DecisionRecord]:
            with read_connection(engine) as connection:
                return lookup.find_many(connection, ids, request.principal.tenant)

        return await self.store.read(load_records)

    # --- performance and alarms

    async def get_effects(self, request: Request) -> Response:
        query = parse_query(request, EffectsQuery)
        await self.service.input_counter.flush()
        tenant = None if "operator" in request.principal.roles else request.principal.tenant

        def load_reports(engine: sa.Engine) -> list[Row]:
            with read_connection(engine) as connection:
                filters: dict[str, Any] = {"tenant": tenant, "model": query.model or None, "since": query.since}
                return performance.model_performance(connection, self.settings, **filters, weekly=bool(query.by))

        return JSONResponse({"effects": await self.store.read(load_reports)})

    async def list_alarms(self, request: Request) -> Response:
        """What an operator must look at now, the oldest first."""
        return JSONResponse({"alarms": await current_alarms(self.service)})


def _trace_json(node: trace.TraceNode) -> bytes:
    missing = [
        {
            "kind": missing_node.kind,
            "name": missing_node.name,
            "en": missing_node.missing,
            "zh": missing_node.missing_zh,
        }
        for missing_node in node.missing_nodes()
    ]
    return orjson.dumps({**node.to_json(), "missing_links": missing}, default=str)


def _unknown_decision(request: Request) -> ProblemError:
    return ProblemError("unknown_decision", actual=repr(request.path_params["id"][:80]))
