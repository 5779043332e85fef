"""The routes of models, their versions and promotions; described in serving/registry/openapi.py."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field

from datasets.errors import FieldError
from models.bundle import read_alias
from serving.core.db.engine import read_connection
from serving.core.db.store import Store
from serving.core.http.idempotency import earlier_response, run_once
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSONResponse, Request, Response
from serving.core.http.router import Routes
from serving.core.http.validation import RequestModel, matching, parse_query, read_model, whole_number
from serving.registry import promotion
from serving.registry import versions as version_store
from serving.registry.deployment import FORCE, FORCE_REQUEST
from serving.registry.loader import ModelLoader
from serving.registry.versions import StoredVersion
from serving.settings import Settings

log = logging.getLogger("yuheng.versions")


class VersionQuery(RequestModel):
    before: Annotated[
        str,
        matching(version_store.NAME_PATTERN, "the name of a version", "版本名"),
        Field(description="`next` of the page before."),
    ] = ""
    limit: Annotated[int, whole_number(1, version_store.MAX_PAGE_SIZE), Field(description="Of a page.")] = 50


class VersionRoutes:
    """model_loader, slide_model_loader: the deployed models that decide, and those that read slides."""

    def __init__(
        self, settings: Settings, store: Store, model_loader: ModelLoader[Any], slide_model_loader: ModelLoader[Any]
    ):
        self.settings, self.store = settings, store
        self.model_loader, self.slide_model_loader = model_loader, slide_model_loader
        self.promotion_lock = asyncio.Lock()  # one promotion at a time: its record and its pointer belong together
        self.bundles, self.public_key = self.settings.paths.bundles, self.settings.paths.public_key

    def routes(self) -> Routes:
        return {
            "/v1/versions": {"GET": self.list_models},
            "/v1/models/{name}/versions": {"GET": self.list_versions},
            "/v1/models/{name}/versions/{version}": {"GET": self.get_version},
            "/v1/models/{name}/champion": {"POST": self.promote},
        }

    async def list_models(self, request: Request) -> Response:
        """Every model on disk, whether or not it is deployed."""
        names = await asyncio.to_thread(version_store.list_models, self.bundles)
        forced = await self._forced_promotions(request.principal.tenant)
        models = await asyncio.to_thread(lambda: [self._describe_model(name, forced) for name in names])
        return JSONResponse({"models": models})

    def _describe_model(self, name: str, forced: list[dict[str, Any]]) -> dict[str, Any]:
        folder, deployed = self.bundles / name, self._deployed_version(name)
        version_names = version_store.list_versions(folder)
        displayed = read_alias(folder) or read_alias(folder, "challenger") or version_names[0]
        version = version_store.load_version(self.bundles, self.public_key, name, displayed)
        failure = {**self.model_loader.failures, **self.slide_model_loader.failures}.get(name)
        return {
            "name": name,
            "versions": len(version_names),
            "champion": read_alias(folder),
            "challenger": read_alias(folder, "challenger"),
            "serving": deployed[0] if deployed else None,
            "alarm": failure.why if failure else None,
            "alarm_zh": failure.why_zh if failure else None,
            "shown": None if version is None else version.to_json(),
            "forced": [entry for entry in forced if entry["model"] == name],
        }

    async def list_versions(self, request: Request) -> Response:
        name = await self._model_name(request)
        query = parse_query(request, VersionQuery)
        versions, has_more = await asyncio.to_thread(
            version_store.list_page, self.bundles, self.public_key, name, query.before, query.limit
        )
        previously_served, history = await self._promotion_records(name, versions, request.principal.tenant)
        forced = await self._forced_promotions(request.principal.tenant)
        deployed, champion = self._deployed_version(name), read_alias(self.bundles / name)
        for index, entry in enumerate(history):
            entry["stands"] = entry["version"] == champion if index == 0 else None
        payload = {
            "model": name,
            "serving": deployed[0] if deployed else None,
            "champion": champion,
            "versions": [
                version.to_json()
                | {"served": version.digest in previously_served, "run": self._run_url(version)}
                | {"forced": _newest_of(version, forced)}
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
        payload |= {"forced": _newest_of(version, await self._forced_promotions(request.principal.tenant))}
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
        scope = f"champion {hashlib.sha256(name.encode()).hexdigest()}"  # a model's name may be longer than a scope
        if (earlier_payload := await earlier_response(self.store, request, scope, digest)) is not None:
            await self._finish_pending_promotion(name, earlier_payload, request.principal.tenant)
            return JSONResponse(earlier_payload, headers={"Idempotent-Replayed": "true"})
        version = await self._load_version(name, body.version)
        deployed = self._deployed_version(name)
        if read_alias(self.bundles / name) == version.version and deployed == (version.version, version.digest):
            expected = "another version: this one is already deployed", "其他版本：该版本已在线"
            raise ProblemError("invalid_request", errors=[FieldError("version", repr(version.version), *expected)])
        loaders = self.slide_model_loader, self.model_loader
        await asyncio.to_thread(promotion.check_deployable, version, self.bundles, self.public_key, loaders)
        previously_served = (await self._promotion_records(name, [version], request.principal.tenant))[0]
        is_rollback = version.digest in previously_served and version.gate_passed is not False
        kind, first_request = "roll_back" if is_rollback else "promote", None
        if not version.gate_passed and not is_rollback:
            if not body.force:
                raise promotion.not_promotable(version)
            first_request = await self._pending_force(version)
            second_person = first_request is not None and first_request["by"] != request.principal.subject
            kind = FORCE if second_person else FORCE_REQUEST
        requested_by = first_request["by"] if first_request and kind == FORCE else None

        payload, replayed = await run_once(
            self.store,
            request,
            scope,
            digest,
            lambda connection: promotion.record_promotion(
                connection, version, deployed, body.reason, request.principal, kind, requested_by
            ),
        )
        if payload["kind"] == FORCE_REQUEST:
            return JSONResponse(payload, status_code=202)
        if not replayed:
            await asyncio.to_thread(promotion.set_champion, self.bundles, version)
        return JSONResponse(payload, headers={"Idempotent-Replayed": "true"} if replayed else {})

    async def _pending_force(self, version: StoredVersion) -> dict[str, Any] | None:
        def query(engine: sa.Engine) -> dict[str, Any] | None:
            with read_connection(engine) as connection:
                return promotion.pending_force(connection, version)

        return await self.store.read(query)

    async def _forced_promotions(self, tenant: str) -> list[dict[str, Any]]:
        def query(engine: sa.Engine) -> list[dict[str, Any]]:
            with read_connection(engine) as connection:
                return promotion.forced_promotions(connection, tenant)

        return await self.store.read(query)

    async def _finish_pending_promotion(self, name: str, payload: dict[str, Any], tenant: str) -> None:
        """Move the pointer of a promotion that was recorded but not carried out, unless it was moved since."""
        _, history = await self._promotion_records(name, [], tenant)
        if payload["kind"] == FORCE_REQUEST:
            return
        is_pending = read_alias(self.bundles / name) == payload["before"]
        if is_pending and history and history[0]["id"] == payload["promotion_id"]:
            await asyncio.to_thread(
                promotion.set_champion, self.bundles, await self._load_version(name, payload["version"])
            )

    # --- models and versions on disk

    async def _model_name(self, request: Request) -> str:
        """The model that the path names. Raises ProblemError."""
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
        """(version, digest) of what is deployed under this name."""
        deployed = self.model_loader.deployed.get(name) or self.slide_model_loader.deployed.get(name)
        return None if deployed is None else (deployed.card.version, deployed.digest)

    async def _promotion_records(
        self, name: str, versions: list[StoredVersion], tenant: str
    ) -> tuple[set[str], list[dict[str, Any]]]:
        """(the digests of those that were ever deployed, the promotions of the model)."""
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
        """The URL of the training run in MLflow, where its address is configured."""
        run_id = "" if version.card is None else version.card.run_id
        return f"{self.settings.console.mlflow}/#/runs/{run_id}" if run_id and self.settings.console.mlflow else None


def _newest_of(version: StoredVersion, forced: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The newest forced promotion of this bundle."""
    return next((entry for entry in forced if version.digest and entry["bundle"] == version.digest), None)
