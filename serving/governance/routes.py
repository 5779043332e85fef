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
from serving.core.http.problems import Problem
from serving.core.http.request import Call, Reply, query
from serving.decisions.products.base import PRODUCTS, SLIDES
from serving.governance.lineage import trace
from serving.governance.monitoring import outcomes, performance
from serving.pathology.context import Desk, Row
from serving.pathology.upload import request_form
from serving.registry.loader import Champions

Handler = Callable[[Call], Awaitable[Reply]]
DAY = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", re.ASCII)
WHY_ZH = {
    "bundle": "模型包未通过核验，不会启用（已在用的版本继续服务）；请重新发布。",
    "store": "存储无法写入记录，期间不作答复；请检查磁盘或数据库。",
    "log": "审计日志与已签署的检查点不衔接：存储可能被回退或替换；请运行 python -m serving audit verify。",
    "counts": "计数暂未写入存储，已保留待重试。",
}
TRACED = (*PRODUCTS, SLIDES)


class Trust:
    def __init__(self, desk: Desk):
        self.desk, self.settings = desk, desk.settings

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

        found = await self.desk.read(work)
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
        runtime = self.desk.runtime()
        serving = {name: held.card.version for name, held in runtime.champions.serving.items()}
        serving |= {name: held.card.version for name, held in runtime.readers.serving.items()}

        def work(engine: sa.Engine) -> trace.Link:
            with reading(engine) as connection:
                return trace.forward(connection, self.settings, product, call.path[0], serving)

        return Reply(_told(await self.desk.read(work)))

    # --- what became of it

    async def outcomes(self, call: Call) -> Reply:
        found, digest = await self.desk.body(call)
        many, faults = outcomes.read(found)
        known = await self._recorded([one[outcomes.OF[one["outcome"]]] for one in many], call) if not faults else {}
        if faults := faults or outcomes.unknown(many, known):
            raise Problem("invalid_request", errors=faults)
        return await self._once(
            call, f"outcomes {call.caller.tenant}", digest, lambda c: outcomes.record(c, many, known, call.caller)
        )

    async def override(self, call: Call) -> Reply:
        found, digest = await self.desk.body(call)
        of = (await self._recorded([call.path[0]], call)).get(call.path[0])
        if of is None or of.kind != "decision":
            raise _no_decision(call)
        if faults := outcomes.override_faults(found):
            raise Problem("invalid_request", errors=faults)
        scope = f"override {call.caller.tenant} {of.id}"
        return await self._once(call, scope, digest, lambda c: outcomes.override(c, found, of, call.caller))

    async def refer(self, call: Call) -> Reply:
        found, digest = await self.desk.body(call)
        of = (await self._recorded([call.path[0]], call)).get(call.path[0])
        if of is None or of.kind != "decision":
            raise _no_decision(call)
        if faults := outcomes.referral_faults(found):
            raise Problem("invalid_request", errors=faults)
        scope = f"refer {call.caller.tenant} {of.id}"
        return await self._once(call, scope, digest, lambda c: outcomes.refer(c, found, of, call.caller))

    async def _once(self, call: Call, scope: str, digest: str, do: Callable[[sa.Connection], Row]) -> Reply:
        said, again = await self.desk.once(call, scope, digest, do)
        return Reply(orjson.dumps(said), headers={"Idempotent-Replayed": "true"} if again else {})

    async def _recorded(self, ids: list[str], call: Call) -> dict[str, lookup.Recorded]:
        def work(engine: sa.Engine) -> dict[str, lookup.Recorded]:
            with reading(engine) as connection:
                return lookup.find_many(connection, ids, call.caller.tenant)

        return await self.desk.read(work)

    # --- how the models do

    async def effects(self, call: Call) -> Reply:
        options, faults = query(call, ("model", "since", "by"))
        since = options.get("since", "")
        if "since" in options and not DAY.fullmatch(since):
            faults.append(
                Fault("since", request_form.shown(repr(since)), "a day, as 2026-11-01", "日期，如 2026-11-01")
            )
        if options.get("by", "week") != "week":
            faults.append(Fault("by", request_form.shown(repr(options["by"])), "week", "week（按周）"))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        weekly = "by" in options
        await self.desk.runtime().counts.flush()
        tenant = None if "operator" in call.caller.roles else call.caller.tenant

        def work(engine: sa.Engine) -> list[Row]:
            with reading(engine) as connection:
                asked: dict[str, Any] = {"tenant": tenant, "model": options.get("model"), "since": since}
                return performance.gather(connection, self.settings, **asked, weekly=weekly)

        return Reply(orjson.dumps({"effects": await self.desk.read(work)}))

    async def alarms(self, call: Call) -> Reply:
        """What somebody must look at now; the older the first."""
        runtime = self.desk.runtime()
        told: list[Row] = [
            {"what": "bundle", "name": name, **asdict(alarm), "why_zh": why_zh("bundle", alarm.why)}
            for kind in (runtime.champions, runtime.readers)
            for name, alarm in _alarms(kind).items()
        ]
        store = await runtime.probe()
        for what, why in (("store", store), ("log", runtime.log_alarm), ("counts", runtime.counts.failing)):
            if why is not None:
                zh = why_zh(what, why)
                told.append({"what": what, "name": what, "version": "", "why": why, "why_zh": zh, "since": ""})
        return Reply(orjson.dumps({"alarms": sorted(told, key=lambda one: (one["since"], one["name"]))}))


def why_zh(what: str, why: str) -> str:
    return f"{WHY_ZH[what]}原文：{why}"


def _alarms(kind: Champions[Any]) -> dict[str, Any]:
    return dict(kind.alarms)


def _told(found: trace.Link) -> bytes:
    gaps = [{"kind": gap.kind, "name": gap.name, "en": gap.missing, "zh": gap.missing_zh} for gap in found.gaps()]
    return orjson.dumps({**found.json(), "missing_links": gaps}, default=str)


def _no_decision(call: Call) -> Problem:
    return Problem("unknown_decision", found=repr(call.path[0][:80]))
