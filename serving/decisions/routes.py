"""The routes of decisions: one applicant, a batch, what was decided before, and each product's other questions."""

from __future__ import annotations

import asyncio
from functools import partial

from serving.core.http.problems import ProblemError
from serving.core.http.request import JSONResponse, Request, Response, idempotency_key
from serving.core.http.router import Routes
from serving.core.http.validation import read_json
from serving.core.identifiers import DECISION_ID_PATTERN, ID_PATTERN
from serving.decisions.batch import records
from serving.decisions.batch.routes import BatchRoutes
from serving.decisions.batch.rows import BatchRowRoutes
from serving.decisions.companies.routes import CompanyRoutes
from serving.decisions.products.base import Product, products
from serving.decisions.records import answer_of
from serving.decisions.search import DecisionSearch
from serving.decisions.service import DecisionService
from serving.decisions.what_if import WhatIf


class DecisionRoutes:
    def __init__(self, service: DecisionService):
        self.service = service
        self.batches = BatchRoutes(service)

    def routes(self) -> Routes:
        service = self.service
        return {
            **{product.route: {"POST": partial(self.post_decision, product)} for product in products().values()},
            **{
                f"{product.route}/batch": {"POST": partial(self.post_batch, product)} for product in products().values()
            },
            "/v1/decisions/{id}": {"GET": self.get_decision},
            "/v1/decisions/{id}/receipt": {"GET": self.get_receipt},
            "/v1/batches/{id}": {"GET": self.get_batch},
            **DecisionSearch(service).routes(),
            **BatchRowRoutes(service, service.settings.limits.max_concurrent_batch_reads).routes(),
            **WhatIf(service).routes(),
            **CompanyRoutes(service).routes(),
        }

    def close(self) -> None:
        """Start no more batches."""
        self.batches.close()

    async def post_decision(self, product: Product, request: Request) -> Response:
        key = idempotency_key(request)
        body = await read_json(request, self.service.settings.limits)
        result = await self.service.decide(product, body, key, request.principal)
        return JSONResponse(result.body, headers={"Idempotent-Replayed": "true"} if result.replayed else {})

    async def get_decision(self, request: Request) -> Response:
        decision_id = request.path_params["id"]
        answer: bytes | None = None
        if DECISION_ID_PATTERN.fullmatch(decision_id):
            reader, tenant = self.service.store.reader, request.principal.tenant
            batch, _, row = decision_id.partition("-")
            if row:
                answer = await asyncio.to_thread(records.get_row, reader, tenant, batch, int(row))
            else:
                answer = await self.service.store.run_blocking(lambda: answer_of(reader, tenant, decision_id))
        if answer is None:
            raise ProblemError("unknown_decision", actual=repr(decision_id[:80]))
        return JSONResponse(answer)

    async def get_receipt(self, request: Request) -> Response:
        decision_id, receipt = request.path_params["id"], None
        if DECISION_ID_PATTERN.fullmatch(decision_id):
            receipt = await asyncio.to_thread(self.service.receipt, decision_id, request.principal.tenant)
        if receipt is None:
            raise ProblemError("unknown_receipt", actual=repr(decision_id[:80]))
        return JSONResponse(receipt)

    async def post_batch(self, product: Product, request: Request) -> Response:
        return await self.batches.submit(product, request, idempotency_key(request))

    async def get_batch(self, request: Request) -> Response:
        batch_id, reader, batch = request.path_params["id"], self.service.store.reader, None
        if ID_PATTERN.fullmatch(batch_id):
            tenant = request.principal.tenant
            batch = await self.service.store.run_blocking(lambda: records.get(reader, tenant, batch_id))
        if batch is None:
            raise ProblemError("unknown_batch", actual=repr(batch_id[:80]))
        return JSONResponse(records.summary(batch))
