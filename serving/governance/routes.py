"""The routes of trace, outcomes and effects: what each takes and gives is in serving/openapi.py."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import orjson
import sqlalchemy as sa

from datasets.errors import Fault
from datasets.schema import nearest
from serving.core.db import lookup
from serving.core.db.engine import reading
from serving.core.http import validation
from serving.core.http.idempotency import run_once
from serving.core.http.problems import Problem, why_zh
from serving.core.http.request import Call, Reply, query
from serving.core.http.validation import json_object
from serving.decisions.service import DecisionService
from serving.governance.lineage import trace
from serving.governance.monitoring import outcomes, performance
from serving.pathology.context import Row
from serving.registry.loader import Champions
from serving.settings import PRODUCTS, SLIDES

Handler = Callable[[Call], Awaitable[Reply]]
DAY = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", re.ASCII)
TRACED = (*PRODUCTS, SLIDES)


class Trust:
    def __init__(self, service: DecisionService):
        self.service, self.settings, self.store = service, service.settings, service.store

    def routes(self) -> dict[str, dict[str, Handler]]:
        return {
            "/v1/decisions/{id}/trace": {"GET": self.back},
            "/v1/decisions/{id}/override": {"POST": self.override},
            "/v1/decisions/{id}/refer": {"POST": self.refer},
            "/v1/subjects/{id}/trace": {"GET": self.forward},
            "/v1/outcomes": {"POST": self.outcomes},
            "/v1/effects": {"GET": self.effects},
            "/v1/alarms": {"GET": self.alarms},
        }

    # --- trace

    async def back(self, call: Call) -> Reply:
        def work(engine: sa.Engine) -> trace.Link | None:
            with reading(engine) as connection:
                found = lookup.find(connection, call.path[0], call.caller.tenant)
                return None if found is None else trace.back(connection, self.settings, found)

        found = await self.store.read(work)
        if found is None:
            raise _no_decision(call)
        return Reply(_told(found))

    async def forward(self, call: Call) -> Reply:
        options, faults = query(call, ("product",))
        product = options.get("product", TRACED[0])
        if product not in TRACED:
            needed = ", ".join(TRACED)
            more = nearest(product, [*TRACED])
            faults.append(Fault("product", repr(product[:60]), f"one of {needed}{more}", f"{needed} 之一"))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        service = self.service
        serving = {name: held.card.version for name, held in service.champions.serving.items()}
        serving |= {name: held.card.version for name, held in service.readers.serving.items()}

        def work(engine: sa.Engine) -> trace.Link:
            with reading(engine) as connection:
                return trace.forward(connection, self.settings, product, call.path[0], serving)

        return Reply(_told(await self.store.read(work)))

    # --- what became of it

    async def outcomes(self, call: Call) -> Reply:
        found, digest = await json_object(call, self.settings.limits)
        many, faults = outcomes.read(found)
        known = await self._recorded([one[outcomes.OF[one["outcome"]]] for one in many], call) if not faults else {}
        if faults := faults or outcomes.unknown(many, known):
            raise Problem("invalid_request", errors=faults)
        return await self._once(
            call, f"outcomes {call.caller.tenant}", digest, lambda c: outcomes.record(c, many, known, call.caller)
        )

    async def override(self, call: Call) -> Reply:
        found, digest = await json_object(call, self.settings.limits)
        of = (await self._recorded([call.path[0]], call)).get(call.path[0])
        if of is None or of.kind != "decision":
            raise _no_decision(call)
        if faults := outcomes.override_faults(found):
            raise Problem("invalid_request", errors=faults)
        scope = f"override {call.caller.tenant} {of.id}"
        return await self._once(call, scope, digest, lambda c: outcomes.override(c, found, of, call.caller))

    async def refer(self, call: Call) -> Reply:
        found, digest = await json_object(call, self.settings.limits)
        of = (await self._recorded([call.path[0]], call)).get(call.path[0])
        if of is None or of.kind != "decision":
            raise _no_decision(call)
        if faults := outcomes.referral_faults(found):
            raise Problem("invalid_request", errors=faults)
        scope = f"refer {call.caller.tenant} {of.id}"
        return await self._once(call, scope, digest, lambda c: outcomes.refer(c, found, of, call.caller))

    async def _once(self, call: Call, scope: str, digest: str, do: Callable[[sa.Connection], Row]) -> Reply:
        said, again = await run_once(self.store, call, scope, digest, do)
        return Reply(orjson.dumps(said), headers={"Idempotent-Replayed": "true"} if again else {})

    async def _recorded(self, ids: list[str], call: Call) -> dict[str, lookup.Recorded]:
        def work(engine: sa.Engine) -> dict[str, lookup.Recorded]:
            with reading(engine) as connection:
                return lookup.find_many(connection, ids, call.caller.tenant)

        return await self.store.read(work)

    # --- how the models do

    async def effects(self, call: Call) -> Reply:
        options, faults = query(call, ("model", "since", "by"))
        since = options.get("since", "")
        if "since" in options and not DAY.fullmatch(since):
            faults.append(Fault("since", validation.shown(repr(since)), "a day, as 2026-11-01", "日期，如 2026-11-01"))
        if options.get("by", "week") != "week":
            faults.append(Fault("by", validation.shown(repr(options["by"])), "week", "week（按周）"))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        weekly = "by" in options
        await self.service.counts.flush()
        tenant = None if "operator" in call.caller.roles else call.caller.tenant

        def work(engine: sa.Engine) -> list[Row]:
            with reading(engine) as connection:
                asked: dict[str, Any] = {"tenant": tenant, "model": options.get("model"), "since": since}
                return performance.gather(connection, self.settings, **asked, weekly=weekly)

        return Reply(orjson.dumps({"effects": await self.store.read(work)}))

    async def alarms(self, call: Call) -> Reply:
        """What somebody must look at now; the older the first."""
        service = self.service
        told: list[Row] = [
            {"what": "bundle", "name": name, **asdict(alarm), "why_zh": why_zh("bundle", alarm.why)}
            for kind in (service.champions, service.readers)
            for name, alarm in _alarms(kind).items()
        ]
        store = await service.store.probe()
        for what, why in (("store", store), ("log", service.log_alarm), ("counts", service.counts.failing)):
            if why is not None:
                zh = why_zh(what, why)
                told.append({"what": what, "name": what, "version": "", "why": why, "why_zh": zh, "since": ""})
        return Reply(orjson.dumps({"alarms": sorted(told, key=lambda one: (one["since"], one["name"]))}))


def _alarms(kind: Champions[Any]) -> dict[str, Any]:
    return dict(kind.alarms)


def _told(found: trace.Link) -> bytes:
    gaps = [{"kind": gap.kind, "name": gap.name, "en": gap.missing, "zh": gap.missing_zh} for gap in found.gaps()]
    return orjson.dumps({**found.json(), "missing_links": gaps}, default=str)


def _no_decision(call: Call) -> Problem:
    return Problem("unknown_decision", found=repr(call.path[0][:80]))
