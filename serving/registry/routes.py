"""The routes of models and versions: what each takes and gives is in serving/registry/openapi.py."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field

from datasets.errors import FieldError
from models import bundle
from models.bundle import BundleError, read_alias, verify_bundle
from serving.core.db.engine import read_connection
from serving.core.db.store import Store
from serving.core.http.idempotency import earlier_response, run_once
from serving.core.http.problems import ProblemError, describe_alarm_zh
from serving.core.http.request import JSONResponse, Request, Response
from serving.core.http.validation import RequestModel, matching, parse_query, read_model, whole_number
from serving.registry import promotion
from serving.registry import versions as version_store
from serving.registry.loader import ModelLoader
from serving.registry.versions import StoredVersion
from serving.settings import Settings

log = logging.getLogger("yuheng.versions")
Handler = Callable[[Request], Awaitable[Response]]


class VersionQuery(RequestModel):
    before: Annotated[
        str,
        matching(version_store.NAME_PATTERN, "the name of a version", "版本名"),
        Field(description="`next` of the page before."),
    ] = ""
    limit: Annotated[int, whole_number(1, version_store.MAX_PAGE_SIZE), Field(description="Of a page.")] = 50


class VersionRoutes:
    """`champions` serve tables, `readers` slides."""

    def __init__(self, settings: Settings, store: Store, champions: ModelLoader[Any], readers: ModelLoader[Any]):
        self.settings, self.store, self.champions, self.readers = settings, store, champions, readers
        self.promotion_lock = asyncio.Lock()  # a record and its pointer go together, one promotion after another
        self.bundles, self.public_key = self.settings.paths.bundles, self.settings.paths.public_key

    def routes(self) -> dict[str, dict[str, Handler]]:
        return {
            "/v1/versions": {"GET": self.list_models},
            "/v1/models/{name}/versions": {"GET": self.list_versions},
            "/v1/models/{name}/versions/{version}": {"GET": self.get_version},
            "/v1/models/{name}/champion": {"POST": self.promote},
        }

    async def list_models(self, request: Request) -> Response:
        """Every model on the disk, one that serves nobody too."""
        names = await asyncio.to_thread(version_store.list_models, self.bundles)
        return JSONResponse({"models": await asyncio.to_thread(lambda: [self._describe_model(name) for name in names])})

    def _describe_model(self, name: str) -> dict[str, Any]:
        folder, deployed = self.bundles / name, self._deployed_version(name)
        version_names = version_store.list_versions(folder)
        displayed = read_alias(folder) or read_alias(folder, "challenger") or version_names[0]
        version = version_store.load_version(self.bundles, self.public_key, name, displayed)
        failure = {**self.champions.failures, **self.readers.failures}.get(name)
        return {
            "name": name,
            "versions": len(version_names),
            "champion": read_alias(folder),
            "challenger": read_alias(folder, "challenger"),
            "serving": deployed[0] if deployed else None,
            "alarm": failure.why if failure else None,
            "alarm_zh": describe_alarm_zh("bundle", failure.why) if failure else None,
            "shown": None if version is None else version.to_json(),
        }

    async def list_versions(self, request: Request) -> Response:
        name = await self._model_name(request)
        query = parse_query(request, VersionQuery)
        versions, has_more = await asyncio.to_thread(
            version_store.list_page, self.bundles, self.public_key, name, query.before, query.limit
        )
        previously_served, history = await self._promotion_records(name, versions, request.principal.tenant)
        deployed, champion = self._deployed_version(name), read_alias(self.bundles / name)
        for index, entry in enumerate(history):
            entry["stands"] = entry["version"] == champion if index == 0 else None
        payload = {
            "model": name,
            "serving": deployed[0] if deployed else None,
            "champion": champion,
            "versions": [
                version.to_json() | {"served": version.digest in previously_served, "run": self._run_url(version)}
                for version in versions
            ],
            "next": versions[-1].version if has_more and versions else None,
            "promotions": history,
        }
        return JSONResponse(payload)

    async def get_version(self, request: Request) -> Response:
        name = await self._model_name(request)
        version = await self._load_version(name, request.path_params["version"])
        previously_served, _ = await self._promotion_records(name, [version], request.principal.tenant)
        deployed = self._deployed_version(name)
        payload = version.to_json() | {"model": name, "serving": bool(deployed and deployed[0] == version.version)}
        payload |= {"served": version.digest in previously_served, "run": self._run_url(version)}
        if version.card is not None:
            names = {"data", "seed", "versions", "horizon", "target", "metrics", "verdict"}
            payload |= {"inputs": len(version.card.inputs), "plots": version.card.plots}
            payload |= version.card.model_dump(mode="json", include=names - {"versions"})
            payload |= {"libraries": version.card.versions}
            payload["plots"] = None if version.card.plots is None else version.card.plots.model_dump(mode="json")
        return JSONResponse(payload)

    async def promote(self, request: Request) -> Response:
        name = await self._model_name(request)
        body, digest = await read_model(request, promotion.Promotion, self.settings.limits)
        async with self.promotion_lock:
            return await self._promote_once(request, name, body, digest)

    async def _promote_once(self, request: Request, name: str, body: promotion.Promotion, digest: str) -> Response:
        scope = f"champion {hashlib.sha256(name.encode()).hexdigest()}"  # a name may be longer than a scope
        if (earlier_payload := await earlier_response(self.store, request, scope, digest)) is not None:
            await self._finish_pending_promotion(name, earlier_payload, request.principal.tenant)
            return JSONResponse(earlier_payload, headers={"Idempotent-Replayed": "true"})
        version = await self._load_version(name, body.version)
        deployed = self._deployed_version(name)
        if read_alias(self.bundles / name) == version.version and deployed == (version.version, version.digest):
            expected = "another version: this one serves", "其他版本：该版本已在线"
            raise ProblemError("invalid_request", errors=[FieldError("version", repr(version.version), *expected)])
        await asyncio.to_thread(self._check_deployable, version)
        previously_served = (await self._promotion_records(name, [version], request.principal.tenant))[0]
        if not version.gate_passed and version.digest not in previously_served:
            raise _not_promotable(version)
        kind = "roll_back" if version.digest in previously_served else "promote"

        payload, replayed = await run_once(
            self.store,
            request,
            scope,
            digest,
            lambda connection: promotion.record_promotion(
                connection, version, deployed, body.reason, request.principal, kind
            ),
        )
        if not replayed:
            await asyncio.to_thread(self._set_champion, version)
        return JSONResponse(payload, headers={"Idempotent-Replayed": "true"} if replayed else {})

    async def _finish_pending_promotion(self, name: str, payload: dict[str, Any], tenant: str) -> None:
        """Move the pointer of a promotion that was recorded and no more, where nothing was moved since."""
        _, history = await self._promotion_records(name, [], tenant)
        is_pending = read_alias(self.bundles / name) == payload["before"]
        if is_pending and history and history[0]["id"] == payload["promotion_id"]:
            await asyncio.to_thread(self._set_champion, await self._load_version(name, payload["version"]))

    def _check_deployable(self, version: StoredVersion) -> None:
        """Whether the service could answer with it: loaded whole, as it would serve. Raises Problem."""
        try:
            if version.card is None:
                raise BundleError(version.error)
            verified = verify_bundle(self.bundles / version.model / version.version, self.public_key)
            loader = self.readers if self.readers.accepts(verified.product) else self.champions
            if loader.deploy(verified) is None:
                raise BundleError(f"{version.version} reads single cells; no service answers with it.")
        except (BundleError, OSError, ValueError) as error:
            raise _not_promotable(version, str(error)) from error

    def _set_champion(self, version: StoredVersion) -> None:
        folder = self.bundles / version.model
        try:
            bundle.set_alias(folder, "champion", version.version)
            if read_alias(folder, "challenger") == version.version:
                (folder / "challenger").unlink(missing_ok=True)
        except (OSError, BundleError) as error:
            log.error(
                "model %s: %s was made the champion, its pointer was not: %s", version.model, version.version, error
            )
            raise ProblemError(
                "store_failed",
                actual=f"the decision is recorded, but the champion's pointer could not be written ({error})",
                actual_zh=f"决定已记录，但上线指针无法写入（{error}）",
            ) from error

    # --- what is there

    async def _model_name(self, request: Request) -> str:
        """The model of the address. Raises Problem."""
        name: str = request.path_params["name"]
        known_models = await asyncio.to_thread(version_store.list_models, self.bundles)
        if name not in known_models:
            raise ProblemError(
                "unknown_model", actual=repr(name[:80]), expected=", ".join(known_models) or "none", expected_zh=None
            )
        return name

    async def _load_version(self, model: str, name: str) -> StoredVersion:
        version = await asyncio.to_thread(version_store.load_version, self.bundles, self.public_key, model, name)
        if version is None:
            raise ProblemError("unknown_version", actual=repr(f"{model}/{name}"[:160]))
        return version

    def _deployed_version(self, name: str) -> tuple[str, str] | None:
        """(version, digest) of what answers under this name."""
        deployed = self.champions.deployed.get(name) or self.readers.deployed.get(name)
        return None if deployed is None else (deployed.card.version, deployed.digest)

    async def _promotion_records(
        self, name: str, versions: list[StoredVersion], tenant: str
    ) -> tuple[set[str], list[dict[str, Any]]]:
        """(digests of those that have served, the model's promotions)."""
        digests = [version.digest for version in versions if version.digest]

        def query(engine: sa.Engine) -> tuple[set[str], list[dict[str, Any]]]:
            with read_connection(engine) as connection:
                return promotion.previously_served(connection, digests), promotion.promotion_history(
                    connection, name, tenant
                )

        served_digests, history = await self.store.read(query)
        deployed = self._deployed_version(name)
        return served_digests | ({deployed[1]} if deployed else set()), history

    def _run_url(self, version: StoredVersion) -> str | None:
        """The address of the run's page, where one is set."""
        run_id = "" if version.card is None else version.card.run_id
        return f"{self.settings.console.mlflow}/#/runs/{run_id}" if run_id and self.settings.console.mlflow else None


def _not_promotable(version: StoredVersion, load_error: str = "") -> ProblemError:
    """Why it may not serve, with each failing check."""
    field_errors = [
        FieldError(f"gate: {check['name']}", check["found"], check["needed"] or "passed", check["needed_zh"] or "通过")
        for check in version.failed_checks
    ]
    if load_error:
        actual, actual_zh = load_error, f"该模型包无法载入：{load_error}"
    elif version.gate_passed is None:
        actual = f"The card of {version.version} tells no verdict of a gate, as it was written before cards did"
        actual_zh = f"版本 {version.version} 的卡片没有门槛检查结论（早于该功能）"
    else:
        actual = f"{version.version} did not pass its gate: {len(field_errors)} of the checks failed"
        actual_zh = f"版本 {version.version} 未通过门槛检查：{len(field_errors)} 项未通过"
    return ProblemError("not_promotable", actual=actual.rstrip("."), actual_zh=actual_zh, errors=field_errors)
