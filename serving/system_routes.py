"""The routes about the service: health, metrics, the deployed models, the kinds of problem, the OpenAPI document."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import orjson

from datasets.confinement.process import kernel_support
from models.bundle import Bundle
from models.pathology.card import SlideCard
from models.pathology.policy import ReadingPolicy
from serving.core.http.metrics import CONTENT_TYPE, Metrics
from serving.core.http.problems import PROBLEM_TYPES, ProblemError
from serving.core.http.request import JSONResponse, Request, Response
from serving.core.http.router import Routes
from serving.decisions.products.base import DeployedModel, products
from serving.decisions.service import DecisionService
from serving.openapi import build_document
from serving.registry.loader import LoadFailure, ModelLoader

# Of a card, as GET /v1/models shows it.
CARD_FIELDS = {"version", "simulated", "created", "purpose", "not_for", "run_id", "git_commit"}


class SystemRoutes:
    def __init__(self, service: DecisionService, metrics: Metrics):
        self.service, self.metrics, self.settings = service, metrics, service.settings
        self._documents: dict[tuple[tuple[str, str], ...], bytes] = {}  # (model, bundle) of all -> OpenAPI document

    def routes(self) -> Routes:
        return {
            "/v1/models": {"GET": self.list_models},
            "/healthz/live": {"GET": self.live},
            "/healthz/ready": {"GET": self.ready},
            "/metrics": {"GET": self.get_metrics},
            "/openapi.json": {"GET": self.get_openapi},
            "/problems/{kind}": {"GET": self.get_problem_type},
        }

    async def list_models(self, request: Request) -> Response:
        service, defaults = self.service, self.settings.default_models
        descriptions = [
            describe_model(name, model, name == defaults[model.card.product])
            for name, model in sorted(service.model_loader.deployed.items())
        ]
        descriptions += [
            describe_slide_model(model) for _, model in sorted(service.slide_model_loader.deployed.items())
        ]
        return JSONResponse({"models": descriptions})

    async def live(self, request: Request) -> Response:
        return JSONResponse(b'{"status":"live"}')

    async def ready(self, request: Request) -> Response:
        """200 while a model is deployed and the store takes records. Alarms do not change the status."""
        service = self.service
        store_error = await service.store.probe()
        self._update_gauges(store_failing=store_error is not None)
        loaders: tuple[ModelLoader[Any], ...] = (service.model_loader, service.slide_model_loader)
        versions = {name: model.card.version for loader in loaders for name, model in loader.deployed.items()}
        is_ready = bool(versions) and store_error is None
        payload: dict[str, Any] = {"status": "ready" if is_ready else "not_ready"}
        if request.principal.roles:  # a caller without a token does not learn what is deployed
            payload |= {
                "models": dict(sorted(versions.items())),
                "store": store_error or "ok",
                "log": service.store.log_alarm or "ok",
                "confinement": str(kernel_support()),
                "alarms": {name: asdict(failure) for name, failure in sorted(self._load_failures().items())},
            }
        return JSONResponse(payload, status_code=200 if is_ready else 503)

    async def get_metrics(self, request: Request) -> Response:
        waiting, is_failing = self.service.store.writer_load()
        self.metrics.pending_commits.set(waiting)
        self._update_gauges(store_failing=is_failing)
        return Response(self.metrics.render(), media_type=CONTENT_TYPE)

    def _update_gauges(self, *, store_failing: bool) -> None:
        service, failures = self.service, self._load_failures()
        self.metrics.store_failing.set(store_failing)
        self.metrics.log_broken.set(service.store.log_alarm is not None)
        self.metrics.unconfined.set(not kernel_support().is_complete)
        for model in {*service.model_loader.deployed, *service.slide_model_loader.deployed, *failures}:
            self.metrics.bundle_refused.labels(model).set(model in failures)

    def _load_failures(self) -> dict[str, LoadFailure]:
        """Model -> why the bundle that its pointer names does not serve."""
        return self.service.slide_model_loader.failures | self.service.model_loader.failures

    async def get_openapi(self, request: Request) -> Response:
        """Made once for the models that are deployed: it takes longer than a decision, and anybody may ask for it."""
        deployed = self.service.model_loader.deployed
        key = tuple(sorted((name, model.digest) for name, model in deployed.items()))
        if key not in self._documents:
            self._documents = {key: orjson.dumps(build_document(deployed, self.settings))}
        return JSONResponse(self._documents[key])

    async def get_problem_type(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in PROBLEM_TYPES:
            raise ProblemError("not_found", actual=repr(request.scope["path"][:200]))
        return JSONResponse({"type": f"/problems/{kind}", **asdict(PROBLEM_TYPES[kind])})


def describe_model(name: str, model: DeployedModel, default: bool) -> dict[str, Any]:
    """A decision model as GET /v1/models shows it."""
    product = products()[model.card.product]
    return {
        **{"name": name, "product": product.name, "route": product.route},
        **{"bundle": model.digest, "policy_version": model.policy},
        **model.card.model_dump(include=CARD_FIELDS),
        "default": default,
    }


def describe_slide_model(bundle: Bundle[SlideCard]) -> dict[str, Any]:
    """A slide model as GET /v1/models shows it. Its policy is part of the bundle."""
    card = bundle.card
    return {
        **{"name": card.model, "product": card.product, "route": "/v1/slides"},
        **{"bundle": bundle.digest, "policy_version": ReadingPolicy.load(bundle.policy).version},
        **card.model_dump(include=CARD_FIELDS),
        "default": card.model == card.product,
    }
