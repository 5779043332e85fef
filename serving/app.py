"""The routes: an ASGI application that BentoML mounts. What each takes and gives is in serving/openapi.py.

Every failure leaves through one door, as a problem of serving/core/http/problems.py.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Any

import orjson

from datasets.errors import FieldError
from models.bundle import Bundle
from models.pathology.card import SlideCard
from models.pathology.policy import ReadingPolicy
from serving.console import pages as console
from serving.core.billing import statements
from serving.core.db.engine import StoreUnavailableError
from serving.core.http.metrics import CONTENT_TYPE, Metrics
from serving.core.http.problems import PROBLEM_MEDIA_TYPE, PROBLEM_TYPES, ProblemError
from serving.core.http.request import (
    JSON_MEDIA_TYPE,
    ClientDisconnectedError,
    Request,
    Response,
    Send,
    idempotency_key,
    iterate_in_thread,
    parse_query,
    read_body,
)
from serving.core.identifiers import new_id
from serving.core.security import permissions
from serving.core.security.authentication import Authenticator
from serving.decisions.batch import records
from serving.decisions.batch.records import get_row, summary
from serving.decisions.batch.routes import BatchRoutes
from serving.decisions.batch.rows import BatchRowRoutes
from serving.decisions.companies.routes import CompanyRoutes
from serving.decisions.products.base import Product, products
from serving.decisions.records import answer_of
from serving.decisions.search import DecisionSearch
from serving.decisions.service import DecisionService
from serving.decisions.what_if import WhatIf
from serving.governance.routes import GovernanceRoutes
from serving.openapi import build_document
from serving.pathology.routes import PathologyRoutes
from serving.privacy.consent.routes import ConsentRoutes
from serving.privacy.consent.rules import load_rules
from serving.registry.loader import ModelLoader
from serving.registry.routes import VersionRoutes
from serving.settings import Settings

log = logging.getLogger("yuheng.gateway")

Handler = Callable[[Request], Awaitable[Response]]
REQUEST_ID_PATTERN = re.compile(r"[\w.:-]{1,128}", re.ASCII)
DECISION_ID_PATTERN = re.compile(r"[0-9a-f]{32}(-[1-9][0-9]{0,9})?")
PATH_PARAM_PATTERN = re.compile(r"\{\w+\}")
BATCH_ID_PATTERN = re.compile(r"[0-9a-f]{32}")


class App:
    """`start` in the loop that serves, then call it as ASGI."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.metrics = Metrics()
        self.service = service = DecisionService(settings, self.metrics)
        self.intake = BatchRoutes(service)
        self.pathology = PathologyRoutes(settings, service.store, service.quota)
        self.authenticator = Authenticator(settings)
        self._started = False
        consent_rules = service.consent_rules or load_rules()
        # Pattern -> method -> handler. {name} takes one segment of the address.
        self.routes: dict[str, dict[str, Handler]] = {
            **{product.route: {"POST": partial(self.post_decision, product)} for product in products().values()},
            **{
                f"{product.route}/batch": {"POST": partial(self.post_batch, product)} for product in products().values()
            },
            "/v1/decisions/{id}": {"GET": self.get_decision},
            "/v1/decisions/{id}/receipt": {"GET": self.get_receipt},
            "/v1/batches/{id}": {"GET": self.get_batch},
            "/v1/statements/{month}": {"GET": self.get_statement},
            "/v1/models": {"GET": self.list_models},
            "/healthz/live": {"GET": self.live},
            "/healthz/ready": {"GET": self.ready},
            "/metrics": {"GET": self.get_metrics},
            "/openapi.json": {"GET": self.get_openapi},
            "/problems/{kind}": {"GET": self.get_problem_type},
            "/v1/session": {
                "GET": self.authenticator.whoami,
                "POST": self.authenticator.login,
                "DELETE": self.authenticator.logout,
            },
            **ConsentRoutes(settings, service.store, lambda: service.vault, consent_rules).routes(),
            **console.routes(),
            **DecisionSearch(service).routes(),
            **BatchRowRoutes(service, settings.limits.max_concurrent_batch_reads).routes(),
            **WhatIf(service).routes(),
            **CompanyRoutes(service).routes(),
            **self.pathology.routes(),
            **GovernanceRoutes(service).routes(),
            **VersionRoutes(settings, service.store, service.model_loader, service.slide_model_loader).routes(),
        }
        self._permissions = permissions.roles_by_route(self.routes)
        self._static_paths = {path for path in self.routes if "{" not in path}
        # Number of segments -> (segments, None where one is taken; pattern).
        self._patterns: dict[int, list[tuple[list[str | None], str]]] = {}
        for path in self.routes:
            if path in self._static_paths:
                continue
            segments = [None if PATH_PARAM_PATTERN.fullmatch(segment) else segment for segment in path.split("/")]
            self._patterns.setdefault(len(segments), []).append((segments, path))

    def start(self) -> None:
        self.authenticator.start()
        self.service.start()
        self.pathology.start()
        self._started = True

    def stop(self) -> None:
        self.pathology.stop()
        self.intake.close()
        self.service.stop()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return
        start = time.perf_counter()
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        request = Request(scope, receive, "", dict(headers))
        request.request_id = self._request_id(request)
        route, status, completed = "none", 500, False
        try:
            try:
                if not self._started:
                    raise ProblemError("not_ready", actual="The service is starting", actual_zh="服务正在启动")
                route, method, handler = self._resolve(request)
                self._check_header_size(headers)
                request.principal = await self.authenticator.authorize(request, self._permissions[route, method])
                response = await handler(request)
            except StoreUnavailableError as error:
                raise ProblemError(f"store_{error.reason}", actual=str(error)) from error
        except ProblemError as problem:
            response = Response(
                problem.render(request.request_id), problem.status_code, PROBLEM_MEDIA_TYPE, problem.headers
            )
        except ClientDisconnectedError:
            return
        except Exception:
            log.exception(
                "request %s: %s %s failed", request.request_id, scope["method"], route
            )  # an address names people
            response = Response(ProblemError("internal").render(request.request_id), 500, PROBLEM_MEDIA_TYPE)
        status = response.status_code
        try:
            await self._send(response, request, send)
            completed = True
        finally:
            self.metrics.record_response(route, status if completed else 499, time.perf_counter() - start)

    def _request_id(self, request: Request) -> str:
        header = request.header(b"x-request-id")
        return header if header is not None and REQUEST_ID_PATTERN.fullmatch(header) else new_id()

    def _resolve(self, request: Request) -> tuple[str, str, Handler]:
        """(pattern, method in the routes, handler). Raises Problem."""
        path: str = request.scope["path"]
        method: str = request.scope["method"]
        if path in self._static_paths:
            route = path
        else:
            route, request.path_params = self._match_pattern(path)
        methods = self.routes[route]
        if method == "HEAD" and method not in methods:
            method = "GET"
        handler = methods.get(method)
        if handler is None:
            allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
            raise ProblemError(
                "method_not_allowed", actual=request.scope["method"], expected=allowed, headers={"Allow": allowed}
            )
        return route, method, handler

    def _match_pattern(self, path: str) -> tuple[str, tuple[str, ...]]:
        """(pattern, what its names took of the address). Raises Problem."""
        path_segments = path.split("/")
        for segments, route in self._patterns.get(len(path_segments), ()):
            if all(
                segment if pattern is None else segment == pattern
                for pattern, segment in zip(segments, path_segments, strict=True)
            ):
                return route, tuple(
                    segment for pattern, segment in zip(segments, path_segments, strict=True) if pattern is None
                )
        raise ProblemError("not_found", actual=repr(path[:200]))

    def _check_header_size(self, headers: list[tuple[bytes, bytes]]) -> None:
        size = sum(len(name) + len(value) for name, value in headers)
        limit = self.settings.limits.max_header_bytes
        if size > limit:
            raise ProblemError("headers_too_large", actual=f"{size:,} bytes", expected=f"{limit:,} bytes")

    async def _send(self, response: Response, request: Request, send: Send) -> None:
        bodyless = response.status_code in (204, 304)
        fields = {
            **({} if bodyless else {b"content-type": response.media_type.encode()}),
            b"x-request-id": request.request_id.encode(),
            b"cache-control": b"no-store",
            b"x-content-type-options": b"nosniff",
            **{name.lower().encode(): value.encode() for name, value in response.headers.items()},
        }
        headers = list(fields.items())
        body = response.body
        if isinstance(body, bytes):
            if not bodyless:
                headers.append((b"content-length", str(len(body)).encode()))
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        async with aclosing(body) as chunks:
            chunk = await anext(chunks)  # begun, so that closing it also ends what it holds
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    # --- one applicant

    async def post_decision(self, product: Product, request: Request) -> Response:
        key = idempotency_key(request)
        media_type = request.media_type()
        if media_type != JSON_MEDIA_TYPE:
            raise ProblemError(
                "unsupported_media_type",
                actual=repr(media_type) if media_type else "not given",
                expected=JSON_MEDIA_TYPE,
            )
        body = await read_body(request, self.settings.limits.max_body_bytes, self.settings.limits.body_timeout_seconds)
        result = await self.service.decide(product, body, key, request.principal)
        return Response(result.body, headers={"Idempotent-Replayed": "true"} if result.replayed else {})

    async def get_decision(self, request: Request) -> Response:
        decision_id = request.path_params[0]
        answer: bytes | None = None
        if DECISION_ID_PATTERN.fullmatch(decision_id):
            reader, tenant = self.service.store.reader, request.principal.tenant
            batch, _, row = decision_id.partition("-")
            if row:
                answer = await asyncio.to_thread(get_row, reader, tenant, batch, int(row))
            else:
                answer = await self.service.store.run_blocking(lambda: answer_of(reader, tenant, decision_id))
        if answer is None:
            raise ProblemError("unknown_decision", actual=repr(decision_id[:80]))
        return Response(answer)

    async def get_receipt(self, request: Request) -> Response:
        decision_id, service = request.path_params[0], self.service
        receipt = None
        if DECISION_ID_PATTERN.fullmatch(decision_id):
            receipt = await asyncio.to_thread(service.receipt, decision_id, request.principal.tenant)
        if receipt is None:
            raise ProblemError("unknown_receipt", actual=repr(decision_id[:80]))
        return Response(orjson.dumps(receipt))

    # --- many

    async def post_batch(self, product: Product, request: Request) -> Response:
        key = idempotency_key(request)
        return await self.intake.submit(product, request, key)

    async def get_batch(self, request: Request) -> Response:
        batch_id, reader, batch = request.path_params[0], self.service.store.reader, None
        if BATCH_ID_PATTERN.fullmatch(batch_id):
            batch = await self.service.store.run_blocking(
                lambda: records.get(reader, request.principal.tenant, batch_id)
            )
        if batch is None:
            raise ProblemError("unknown_batch", actual=repr(batch_id[:80]))
        return Response(orjson.dumps(summary(batch)))

    # --- what was used

    async def get_statement(self, request: Request) -> Response:
        options, errors = parse_query(request, ("format",))
        month, format = request.path_params[0], options.get("format", "json")
        if format not in statements.FORMATS:
            known = ", ".join(statements.FORMATS)
            errors.append(FieldError("format", repr(format[:60]), f"one of {known}", f"{known} 之一"))
        if not re.fullmatch(statements.MONTH_PATTERN, month):
            errors.append(FieldError("month", repr(month[:60]), "a month as 2026-11", "月份，如 2026-11"))
        if errors:
            raise ProblemError("bad_parameter", errors=errors)
        engine = self.service.store.engine
        chunks = statements.render_statement(engine, request.principal.tenant, month, format)
        first_chunk = await asyncio.to_thread(next, chunks)  # before the status is sent
        return Response(iterate_in_thread(chain([first_chunk], chunks)), media_type=statements.FORMATS[format])

    # --- about the service

    async def list_models(self, request: Request) -> Response:
        loader = self.service.model_loader
        descriptions = [
            {
                "name": name,
                "product": model.card.product,
                "route": products()[model.card.product].route,
                "version": model.card.version,
                "bundle": model.digest,
                "policy_version": model.policy,
                "simulated": model.card.simulated,
                "created": model.card.created,
                "purpose": model.card.purpose,
                "not_for": model.card.not_for,
                "run_id": model.card.run_id,
                "git_commit": model.card.git_commit,
                "default": name == self.settings.default_models[model.card.product],
            }
            for name, model in sorted(loader.deployed.items())
        ]
        descriptions += [describe_slide_model(model) for _, model in sorted(self.service.slide_model_loader.deployed.items())]
        return Response(orjson.dumps({"models": descriptions}))

    async def live(self, request: Request) -> Response:
        return Response(b'{"status":"live"}')

    async def ready(self, request: Request) -> Response:
        """200 while a model is held and the store takes records; an alarm beside a serving model is only told."""
        decision_models = self.service.model_loader
        store_error = await self.service.store.probe()
        self.metrics.store_failing.set(store_error is not None)
        slide_models = self.service.slide_model_loader
        failures = slide_models.failures | decision_models.failures
        for model in {*decision_models.deployed, *slide_models.deployed, *failures}:
            self.metrics.bundle_refused.labels(model).set(model in failures)
        self.metrics.log_broken.set(self.service.log_alarm is not None)
        is_ready = bool(decision_models.deployed or slide_models.deployed) and store_error is None
        payload: dict[str, Any] = {"status": "ready" if is_ready else "not_ready"}
        if not request.principal.roles:  # a stranger: what serves is none of their business
            return Response(orjson.dumps(payload), status_code=200 if is_ready else 503)
        payload |= {
            "models": dict(sorted({**_deployed_versions(decision_models), **_deployed_versions(slide_models)}.items())),
            "store": store_error or "ok",
            "log": self.service.log_alarm or "ok",
            "alarms": {name: asdict(failure) for name, failure in sorted(failures.items())},
        }
        return Response(orjson.dumps(payload), status_code=200 if is_ready else 503)

    async def get_metrics(self, request: Request) -> Response:
        decision_models, writer = self.service.model_loader, self.service.store.writer
        self.metrics.pending_commits.set(writer.waiting)
        self.metrics.store_failing.set(writer.failing is not None)
        slide_models = self.service.slide_model_loader
        failures = slide_models.failures | decision_models.failures
        for model in {*decision_models.deployed, *slide_models.deployed, *failures}:
            self.metrics.bundle_refused.labels(model).set(model in failures)
        self.metrics.log_broken.set(self.service.log_alarm is not None)
        return Response(self.metrics.render(), media_type=CONTENT_TYPE)

    async def get_openapi(self, request: Request) -> Response:
        return Response(orjson.dumps(build_document(self.service.model_loader.deployed, self.settings)))

    async def get_problem_type(self, request: Request) -> Response:
        problem_type = PROBLEM_TYPES.get(request.path_params[0])
        if problem_type is None:
            raise ProblemError("not_found", actual=repr(request.scope["path"][:200]))
        return Response(orjson.dumps({"type": f"/problems/{request.path_params[0]}", **asdict(problem_type)}))


def _deployed_versions(loader: ModelLoader[Any]) -> dict[str, str]:
    return {name: model.card.version for name, model in loader.deployed.items()}


def describe_slide_model(bundle: Bundle[SlideCard]) -> dict[str, Any]:
    """As GET /v1/models tells it; its policy stands in the bundle."""
    card = bundle.card
    fields = card.model_dump(include={"version", "simulated", "created", "purpose", "not_for", "run_id", "git_commit"})
    policy = ReadingPolicy.load(bundle.policy).version
    identity = {"name": card.model, "product": card.product, "route": "/v1/slides"}
    return {
        **identity,
        "bundle": bundle.digest,
        "policy_version": policy,
        **fields,
        "default": card.model == card.product,
    }
