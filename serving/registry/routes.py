"""The routes of models and versions: what each takes and gives is in serving/registry/openapi.py."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import sqlalchemy as sa

from datasets.errors import Fault
from models import bundle
from models.bundle import BundleRefused, pointed, verify
from serving.core.db.engine import reading
from serving.core.db.store import Store
from serving.core.http.idempotency import earlier_response, run_once
from serving.core.http.problems import Problem, why_zh
from serving.core.http.request import Call, Reply, query
from serving.core.http.validation import json_object
from serving.registry import promotion as promote
from serving.registry import versions as disk
from serving.registry.loader import Champions
from serving.registry.versions import Version
from serving.settings import Settings

log = logging.getLogger("yuheng.versions")
Handler = Callable[[Call], Awaitable[Reply]]
LIMIT = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)


class Versions:
    """`champions` serve tables, `readers` slides."""

    def __init__(self, settings: Settings, store: Store, champions: Champions[Any], readers: Champions[Any]):
        self.settings, self.store, self.champions, self.readers = settings, store, champions, readers
        self.moving = asyncio.Lock()  # a record and its pointer go together, one promotion after another
        self.bundles, self.public_key = self.settings.paths.bundles, self.settings.paths.public_key

    def routes(self) -> dict[str, dict[str, Handler]]:
        return {
            "/v1/versions": {"GET": self.models},
            "/v1/models/{name}/versions": {"GET": self.listed},
            "/v1/models/{name}/versions/{version}": {"GET": self.one},
            "/v1/models/{name}/champion": {"POST": self.promote},
        }

    async def models(self, call: Call) -> Reply:
        """Every model on the disk, one that serves nobody too."""
        names = await asyncio.to_thread(disk.models, self.bundles)
        return Reply(orjson.dumps({"models": await asyncio.to_thread(lambda: [self._model(name) for name in names])}))

    def _model(self, name: str) -> dict[str, Any]:
        folder, serving = self.bundles / name, self._serving(name)
        there = disk.names(folder)
        shown = pointed(folder) or pointed(folder, "challenger") or there[0]
        found = disk.version(self.bundles, self.public_key, name, shown)
        alarm = {**self.champions.alarms, **self.readers.alarms}.get(name)
        return {
            "name": name,
            "versions": len(there),
            "champion": pointed(folder),
            "challenger": pointed(folder, "challenger"),
            "serving": serving[0] if serving else None,
            "alarm": alarm.why if alarm else None,
            "alarm_zh": why_zh("bundle", alarm.why) if alarm else None,
            "shown": None if found is None else found.told(),
        }

    async def listed(self, call: Call) -> Reply:
        name = await self._known(call)
        options, faults = query(call, ("before", "limit"))
        before, limit = options.get("before", ""), options.get("limit", "50")
        if not LIMIT.fullmatch(limit) or int(limit) > disk.MOST:
            faults.append(Fault("limit", repr(limit[:20]), f"1 to {disk.MOST}", f"1 至 {disk.MOST}"))
        if "before" in options and not disk.NAME.fullmatch(before):
            faults.append(Fault("before", repr(before[:60]), "the name of a version", "版本名"))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        found, more = await asyncio.to_thread(disk.page, self.bundles, self.public_key, name, before, int(limit))
        served, history = await self._records(name, found, call.caller.tenant)
        serving, champion = self._serving(name), pointed(self.bundles / name)
        for at, one in enumerate(history):
            one["stands"] = one["version"] == champion if at == 0 else None
        told = {
            "model": name,
            "serving": serving[0] if serving else None,
            "champion": champion,
            "versions": [one.told() | {"served": one.digest in served, "run": self._run(one)} for one in found],
            "next": found[-1].version if more and found else None,
            "promotions": history,
        }
        return Reply(orjson.dumps(told))

    async def one(self, call: Call) -> Reply:
        name = await self._known(call)
        found = await self._version(name, call.path[1])
        served, _ = await self._records(name, [found], call.caller.tenant)
        serving = self._serving(name)
        told = found.told() | {"model": name, "serving": bool(serving and serving[0] == found.version)}
        told |= {"served": found.digest in served, "run": self._run(found)}
        if found.card is not None:
            names = {"data", "seed", "versions", "horizon", "target", "metrics", "verdict"}
            told |= {"inputs": len(found.card.inputs), "plots": found.card.plots}
            told |= found.card.model_dump(mode="json", include=names - {"versions"})
            told |= {"libraries": found.card.versions}
            told["plots"] = None if found.card.plots is None else found.card.plots.model_dump(mode="json")
        return Reply(orjson.dumps(told))

    async def promote(self, call: Call) -> Reply:
        name = await self._known(call)
        body, digest = await json_object(call, self.settings.limits)
        if faults := promote.faults(body):
            raise Problem("invalid_request", errors=faults)
        async with self.moving:
            return await self._promoted(call, name, body, digest)

    async def _promoted(self, call: Call, name: str, body: dict[str, Any], digest: str) -> Reply:
        scope = f"champion {hashlib.sha256(name.encode()).hexdigest()}"  # a name may be longer than a scope
        if (earlier := await earlier_response(self.store, call, scope, digest)) is not None:
            await self._settle(name, earlier, call.caller.tenant)
            return Reply(orjson.dumps(earlier), headers={"Idempotent-Replayed": "true"})
        chosen = await self._version(name, body["version"])
        serving = self._serving(name)
        if pointed(self.bundles / name) == chosen.version and serving == (chosen.version, chosen.digest):
            needed = "another version: this one serves", "其他版本：该版本已在线"
            raise Problem("invalid_request", errors=[Fault("version", repr(chosen.version), *needed)])
        await asyncio.to_thread(self._holds, chosen)
        before = (await self._records(name, [chosen], call.caller.tenant))[0]
        if not chosen.passed and chosen.digest not in before:
            raise _refused(chosen)
        kind = "roll_back" if chosen.digest in before else "promote"

        said, again = await run_once(
            self.store,
            call,
            scope,
            digest,
            lambda connection: promote.record(connection, chosen, serving, body["reason"], call.caller, kind),
        )
        if not again:
            await asyncio.to_thread(self._point, chosen)
        return Reply(orjson.dumps(said), headers={"Idempotent-Replayed": "true"} if again else {})

    async def _settle(self, name: str, said: dict[str, Any], tenant: str) -> None:
        """Move the pointer of a promotion that was recorded and no more, where nothing was moved since."""
        _, history = await self._records(name, [], tenant)
        waits = pointed(self.bundles / name) == said["before"]
        if waits and history and history[0]["id"] == said["promotion_id"]:
            await asyncio.to_thread(self._point, await self._version(name, said["version"]))

    def _holds(self, chosen: Version) -> None:
        """Whether the service could answer with it: loaded whole, as it would serve. Raises Problem."""
        try:
            if chosen.card is None:
                raise BundleRefused(chosen.refused)
            verified = verify(self.bundles / chosen.model / chosen.version, self.public_key)
            kind = self.readers if self.readers.ours(verified.product) else self.champions
            if kind.hold(verified) is None:
                raise BundleRefused(f"{chosen.version} reads single cells; no service answers with it.")
        except (BundleRefused, OSError, ValueError) as error:
            raise _refused(chosen, str(error)) from error

    def _point(self, chosen: Version) -> None:
        folder = self.bundles / chosen.model
        try:
            bundle.point(folder, "champion", chosen.version)
            if pointed(folder, "challenger") == chosen.version:
                (folder / "challenger").unlink(missing_ok=True)
        except (OSError, BundleRefused) as error:
            log.error(
                "model %s: %s was made the champion, its pointer was not: %s", chosen.model, chosen.version, error
            )
            raise Problem(
                "store_failed",
                found=f"the decision is recorded, but the champion's pointer could not be written ({error})",
                found_zh=f"决定已记录，但上线指针无法写入（{error}）",
            ) from error

    # --- what is there

    async def _known(self, call: Call) -> str:
        """The model of the address. Raises Problem."""
        name, there = call.path[0], await asyncio.to_thread(disk.models, self.bundles)
        if name not in there:
            raise Problem("unknown_model", found=repr(name[:80]), needed=", ".join(there) or "none", needed_zh=None)
        return name

    async def _version(self, model: str, name: str) -> Version:
        found = await asyncio.to_thread(disk.version, self.bundles, self.public_key, model, name)
        if found is None:
            raise Problem("unknown_version", found=repr(f"{model}/{name}"[:160]))
        return found

    def _serving(self, name: str) -> tuple[str, str] | None:
        """(version, digest) of what answers under this name."""
        held = self.champions.serving.get(name) or self.readers.serving.get(name)
        return None if held is None else (held.card.version, held.digest)

    async def _records(self, name: str, found: list[Version], tenant: str) -> tuple[set[str], list[dict[str, Any]]]:
        """(digests of those that have served, the model's promotions)."""
        digests = [one.digest for one in found if one.digest]

        def work(engine: sa.Engine) -> tuple[set[str], list[dict[str, Any]]]:
            with reading(engine) as connection:
                return promote.served(connection, digests), promote.history(connection, name, tenant)

        served, history = await self.store.read(work)
        serving = self._serving(name)
        return served | ({serving[1]} if serving else set()), history

    def _run(self, found: Version) -> str | None:
        """The address of the run's page, where one is set."""
        run = "" if found.card is None else found.card.run_id
        return f"{self.settings.console.mlflow}/#/runs/{run}" if run and self.settings.console.mlflow else None


def _refused(chosen: Version, why: str = "") -> Problem:
    """Why it may not serve, with each failing check."""
    failing = [
        Fault(f"gate: {one['name']}", one["found"], one["needed"] or "passed", one["needed_zh"] or "通过")
        for one in chosen.failing
    ]
    if why:
        told, told_zh = why, f"该模型包无法载入：{why}"
    elif chosen.passed is None:
        told = f"The card of {chosen.version} tells no verdict of a gate, as it was written before cards did"
        told_zh = f"版本 {chosen.version} 的卡片没有门槛检查结论（早于该功能）"
    else:
        told = f"{chosen.version} did not pass its gate: {len(failing)} of the checks failed"
        told_zh = f"版本 {chosen.version} 未通过门槛检查：{len(failing)} 项未通过"
    return Problem("not_promotable", found=told.rstrip("."), found_zh=told_zh, errors=failing)
