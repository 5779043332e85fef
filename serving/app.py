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

from datasets.errors import Fault
from models.bundle import Bundle
from models.pathology.card import SlideCard
from models.pathology.policy import ReadingPolicy
from serving.console import pages as console
from serving.core.billing import statements
from serving.core.db.engine import StoreUnavailable
from serving.core.http.metrics import CONTENT_TYPE, Metrics
from serving.core.http.problems import KINDS, MEDIA_TYPE, Problem
from serving.core.http.request import JSON, Call, ClientGone, Reply, Send, idempotency_key, query, read_body, threaded
from serving.core.identifiers import new_id
from serving.core.security import permissions
from serving.core.security.authentication import Door
from serving.decisions.batch import records
from serving.decisions.batch.records import row_answer, summary
from serving.decisions.batch.routes import Intake
from serving.decisions.batch.rows import Rows
from serving.decisions.companies.routes import CompanyDesk
from serving.decisions.products.base import Product, products
from serving.decisions.records import answer_of
from serving.decisions.search import Listed
from serving.decisions.service import DecisionService
from serving.decisions.what_if import WhatIf
from serving.governance.routes import Trust
from serving.openapi import document
from serving.pathology.routes import Pathology
from serving.privacy.consent.routes import Authorisations
from serving.privacy.consent.rules import rules
from serving.registry.loader import Champions
from serving.registry.routes import Versions
from serving.settings import Settings

log = logging.getLogger("yuheng.gateway")

Handler = Callable[[Call], Awaitable[Reply]]
REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
DECISION = re.compile(r"[0-9a-f]{32}(-[1-9][0-9]{0,9})?")
BRACES = re.compile(r"\{\w+\}")
BATCH = re.compile(r"[0-9a-f]{32}")


class Gateway:
    """`start` in the loop that serves, then call it as ASGI."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.metrics = Metrics()
        self.service = service = DecisionService(settings, self.metrics)
        self.intake = Intake(service)
        self.pathology = Pathology(settings, service.store, service.quota)
        self.door = Door(settings)
        self._started = False
        consent_rules = service.rules or rules()
        # Pattern -> method -> handler. {name} takes one segment of the address.
        self.routes: dict[str, dict[str, Handler]] = {
            **{product.route: {"POST": partial(self.one, product)} for product in products().values()},
            **{f"{product.route}/batch": {"POST": partial(self.many, product)} for product in products().values()},
            "/v1/decisions/{id}": {"GET": self.decision},
            "/v1/decisions/{id}/receipt": {"GET": self.receipt},
            "/v1/batches/{id}": {"GET": self.batch_summary},
            "/v1/statements/{month}": {"GET": self.statement},
            "/v1/models": {"GET": self.models},
            "/healthz/live": {"GET": self.live},
            "/healthz/ready": {"GET": self.ready},
            "/metrics": {"GET": self.scrape},
            "/openapi.json": {"GET": self.openapi},
            "/problems/{kind}": {"GET": self.problem},
            "/v1/session": {"GET": self.door.session, "POST": self.door.begin, "DELETE": self.door.end},
            **Authorisations(settings, service.store, lambda: service.vault, consent_rules).routes(),
            **console.routes(),
            **Listed(service).routes(),
            **Rows(service, settings.limits.batch_reads).routes(),
            **WhatIf(service).routes(),
            **CompanyDesk(service).routes(),
            **self.pathology.routes(),
            **Trust(service).routes(),
            **Versions(settings, service.store, service.champions, service.readers).routes(),
        }
        self._may = permissions.of(self.routes)
        self._exact = {path for path in self.routes if "{" not in path}
        # Number of segments -> (segments, None where one is taken; pattern).
        self._patterns: dict[int, list[tuple[list[str | None], str]]] = {}
        for path in self.routes:
            if path in self._exact:
                continue
            segments = [None if BRACES.fullmatch(segment) else segment for segment in path.split("/")]
            self._patterns.setdefault(len(segments), []).append((segments, path))

    def start(self) -> None:
        self.door.start()
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
        began = time.perf_counter()
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        call = Call(scope, receive, "", dict(headers))
        call.request_id = self._request_id(call)
        route, status, sent = "none", 500, False
        try:
            try:
                if not self._started:
                    raise Problem("not_ready", found="The service is starting", found_zh="服务正在启动")
                route, method, handler = self._find(call)
                self._check_size(headers)
                call.caller = await self.door.caller(call, self._may[route, method])
                reply = await handler(call)
            except StoreUnavailable as error:
                raise Problem(f"store_{error.why}", found=str(error)) from error
        except Problem as problem:
            reply = Reply(problem.body(call.request_id), problem.status, MEDIA_TYPE, problem.headers)
        except ClientGone:
            return
        except Exception:
            log.exception(
                "request %s: %s %s failed", call.request_id, scope["method"], route
            )  # an address names people
            reply = Reply(Problem("internal").body(call.request_id), 500, MEDIA_TYPE)
        status = reply.status
        try:
            await self._send(reply, call, send)
            sent = True
        finally:
            self.metrics.answered(route, status if sent else 499, time.perf_counter() - began)

    def _request_id(self, call: Call) -> str:
        given = call.header(b"x-request-id")
        return given if given is not None and REQUEST_ID.fullmatch(given) else new_id()

    def _find(self, call: Call) -> tuple[str, str, Handler]:
        """(pattern, method in the routes, handler). Raises Problem."""
        path: str = call.scope["path"]
        method: str = call.scope["method"]
        if path in self._exact:
            route = path
        else:
            route, call.path = self._matched(path)
        methods = self.routes[route]
        if method == "HEAD" and method not in methods:
            method = "GET"
        handler = methods.get(method)
        if handler is None:
            allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
            raise Problem("method_not_allowed", found=call.scope["method"], needed=allowed, headers={"Allow": allowed})
        return route, method, handler

    def _matched(self, path: str) -> tuple[str, tuple[str, ...]]:
        """(pattern, what its names took of the address). Raises Problem."""
        given = path.split("/")
        for segments, route in self._patterns.get(len(given), ()):
            if all(found if wanted is None else found == wanted for wanted, found in zip(segments, given, strict=True)):
                return route, tuple(found for wanted, found in zip(segments, given, strict=True) if wanted is None)
        raise Problem("not_found", found=repr(path[:200]))

    def _check_size(self, headers: list[tuple[bytes, bytes]]) -> None:
        size = sum(len(name) + len(value) for name, value in headers)
        most = self.settings.limits.headers
        if size > most:
            raise Problem("headers_too_large", found=f"{size:,} bytes", needed=f"{most:,} bytes")

    async def _send(self, reply: Reply, call: Call, send: Send) -> None:
        empty = reply.status in (204, 304)
        told = {
            **({} if empty else {b"content-type": reply.media_type.encode()}),
            b"x-request-id": call.request_id.encode(),
            b"cache-control": b"no-store",
            b"x-content-type-options": b"nosniff",
            **{name.lower().encode(): value.encode() for name, value in reply.headers.items()},
        }
        headers = list(told.items())
        body = reply.body
        if isinstance(body, bytes):
            if not empty:
                headers.append((b"content-length", str(len(body)).encode()))
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        async with aclosing(body) as parts:
            part = await anext(parts)  # begun, so that closing it also ends what it holds
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": part, "more_body": True})
            async for part in parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    # --- one applicant

    async def one(self, product: Product, call: Call) -> Reply:
        key = idempotency_key(call)
        media_type = call.media_type()
        if media_type != JSON:
            raise Problem("unsupported_media_type", found=repr(media_type) if media_type else "not given", needed=JSON)
        body = await read_body(call, self.settings.limits.body, self.settings.limits.body_seconds)
        answered = await self.service.answer(product, body, key, call.caller)
        return Reply(answered.body, headers={"Idempotent-Replayed": "true"} if answered.replayed else {})

    async def decision(self, call: Call) -> Reply:
        wanted = call.path[0]
        found: bytes | None = None
        if DECISION.fullmatch(wanted):
            reader, tenant = self.service.store.reader, call.caller.tenant
            batch, _, row = wanted.partition("-")
            if row:
                found = await asyncio.to_thread(row_answer, reader, tenant, batch, int(row))
            else:
                found = await self.service.store.run_blocking(lambda: answer_of(reader, tenant, wanted))
        if found is None:
            raise Problem("unknown_decision", found=repr(wanted[:80]))
        return Reply(found)

    async def receipt(self, call: Call) -> Reply:
        wanted, service = call.path[0], self.service
        found = None
        if DECISION.fullmatch(wanted):
            found = await asyncio.to_thread(service.receipt, wanted, call.caller.tenant)
        if found is None:
            raise Problem("unknown_receipt", found=repr(wanted[:80]))
        return Reply(orjson.dumps(found))

    # --- many

    async def many(self, product: Product, call: Call) -> Reply:
        key = idempotency_key(call)
        return await self.intake.take(product, call, key)

    async def batch_summary(self, call: Call) -> Reply:
        wanted, reader, found = call.path[0], self.service.store.reader, None
        if BATCH.fullmatch(wanted):
            found = await self.service.store.run_blocking(lambda: records.get(reader, call.caller.tenant, wanted))
        if found is None:
            raise Problem("unknown_batch", found=repr(wanted[:80]))
        return Reply(orjson.dumps(summary(found)))

    # --- what was used

    async def statement(self, call: Call) -> Reply:
        options, faults = query(call, ("format",))
        month, format = call.path[0], options.get("format", "json")
        if format not in statements.FORMATS:
            known = ", ".join(statements.FORMATS)
            faults.append(Fault("format", repr(format[:60]), f"one of {known}", f"{known} 之一"))
        if not re.fullmatch(statements.MONTH, month):
            faults.append(Fault("month", repr(month[:60]), "a month as 2026-11", "月份，如 2026-11"))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        engine = self.service.store.engine
        parts = statements.statement(engine, call.caller.tenant, month, format)
        first = await asyncio.to_thread(next, parts)  # before the status is sent
        return Reply(threaded(chain([first], parts)), media_type=statements.FORMATS[format])

    # --- about the service

    async def models(self, call: Call) -> Reply:
        champions = self.service.champions
        told = [
            {
                "name": name,
                "product": held.card.product,
                "route": products()[held.card.product].route,
                "version": held.card.version,
                "bundle": held.digest,
                "policy_version": held.policy,
                "simulated": held.card.simulated,
                "created": held.card.created,
                "purpose": held.card.purpose,
                "not_for": held.card.not_for,
                "run_id": held.card.run_id,
                "git_commit": held.card.git_commit,
                "default": name == self.settings.default_models[held.card.product],
            }
            for name, held in sorted(champions.serving.items())
        ]
        told += [slides_model(held) for _, held in sorted(self.service.readers.serving.items())]
        return Reply(orjson.dumps({"models": told}))

    async def live(self, call: Call) -> Reply:
        return Reply(b'{"status":"live"}')

    async def ready(self, call: Call) -> Reply:
        """200 while a model is held and the store takes records; an alarm beside a serving model is only told."""
        champions = self.service.champions
        store = await self.service.store.probe()
        self.metrics.store_failing.set(store is not None)
        readers = self.service.readers
        alarms = readers.alarms | champions.alarms
        for model in {*champions.serving, *readers.serving, *alarms}:
            self.metrics.refused.labels(model).set(model in alarms)
        self.metrics.log_broken.set(self.service.log_alarm is not None)
        fine = bool(champions.serving or readers.serving) and store is None
        told: dict[str, Any] = {"status": "ready" if fine else "not_ready"}
        if not call.caller.roles:  # a stranger: what serves is none of their business
            return Reply(orjson.dumps(told), status=200 if fine else 503)
        told |= {
            "models": dict(sorted({**_versions(champions), **_versions(readers)}.items())),
            "store": store or "ok",
            "log": self.service.log_alarm or "ok",
            "alarms": {name: asdict(alarm) for name, alarm in sorted(alarms.items())},
        }
        return Reply(orjson.dumps(told), status=200 if fine else 503)

    async def scrape(self, call: Call) -> Reply:
        champions, writer = self.service.champions, self.service.store.writer
        self.metrics.waiting.set(writer.waiting)
        self.metrics.store_failing.set(writer.failing is not None)
        readers = self.service.readers
        alarms = readers.alarms | champions.alarms
        for model in {*champions.serving, *readers.serving, *alarms}:
            self.metrics.refused.labels(model).set(model in alarms)
        self.metrics.log_broken.set(self.service.log_alarm is not None)
        return Reply(self.metrics.text(), media_type=CONTENT_TYPE)

    async def openapi(self, call: Call) -> Reply:
        return Reply(orjson.dumps(document(self.service.champions.serving, self.settings)))

    async def problem(self, call: Call) -> Reply:
        kind = KINDS.get(call.path[0])
        if kind is None:
            raise Problem("not_found", found=repr(call.scope["path"][:200]))
        return Reply(orjson.dumps({"type": f"/problems/{call.path[0]}", **asdict(kind)}))


def _versions(champions: Champions[Any]) -> dict[str, str]:
    return {name: held.card.version for name, held in champions.serving.items()}


def slides_model(held: Bundle[SlideCard]) -> dict[str, Any]:
    """As GET /v1/models tells it; its policy stands in the bundle."""
    card = held.card
    told = card.model_dump(include={"version", "simulated", "created", "purpose", "not_for", "run_id", "git_commit"})
    policy = ReadingPolicy.load(held.policy).version
    place = {"name": card.model, "product": card.product, "route": "/v1/slides"}
    return {**place, "bundle": held.digest, "policy_version": policy, **told, "default": card.model == card.product}
