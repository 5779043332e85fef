"""The composition root: build the services, mount their routes, and start and stop them in one ASGI application."""

from __future__ import annotations

from datasets.confinement.process import set_required
from serving.console import pages as console
from serving.core.billing.routes import StatementRoutes
from serving.core.http.metrics import Metrics
from serving.core.http.router import Router
from serving.core.security import permissions
from serving.core.security.authentication import Authenticator
from serving.decisions.routes import DecisionRoutes
from serving.decisions.service import DecisionService
from serving.governance.access_log import AccessLog
from serving.governance.lineage.retention import Retention
from serving.governance.routes import GovernanceRoutes
from serving.pathology.routes import PathologyRoutes
from serving.pathology.upload.tus import ALIASES as UPLOAD_ALIASES
from serving.privacy.consent.routes import ConsentRoutes
from serving.privacy.consent.rules import load_rules
from serving.registry.routes import VersionRoutes
from serving.settings import Settings
from serving.system_routes import SystemRoutes


class App(Router):
    """The whole service as an ASGI application. Call `start` in the event loop that serves, before the first request.

    Raises MissingPermissionError where nobody said who may call a route.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        set_required(settings.confinement.required)
        self.service = service = DecisionService(settings, metrics := Metrics())
        self.decisions = DecisionRoutes(service)
        self.pathology = PathologyRoutes(settings, service.store, service.quota)
        self.authenticator = Authenticator(settings)
        consent_rules = service.consent_rules or load_rules()
        routes = {
            **self.decisions.routes(),
            **StatementRoutes(service.store).routes(),
            **SystemRoutes(service, metrics).routes(),
            **self.authenticator.routes(),
            **ConsentRoutes(settings, service.store, lambda: service.store.vault, consent_rules).routes(),
            **console.routes(),
            **self.pathology.routes(),
            **GovernanceRoutes(service).routes(),
            **VersionRoutes(settings, service.store, service.model_loader, service.slide_model_loader).routes(),
        }
        roles = permissions.roles_by_route(routes)
        limit, origins = settings.limits.max_header_bytes, settings.access.allowed_origins
        access_log = AccessLog(service.store, lambda: service.store.vault)
        service.loops["access_log"] = access_log.watch
        service.on_stop.append(access_log.finish)
        service.loops["retention"] = Retention(service.store, settings).watch
        super().__init__(routes, roles, self.authenticator.authorize, metrics, limit, origins, UPLOAD_ALIASES)
        self.on_response = access_log.observe

    def start(self) -> None:
        self.authenticator.start()
        self.service.start()
        self.pathology.start()
        self.ready = True

    def stop(self) -> None:
        self.pathology.stop()
        self.decisions.close()
        self.service.stop()
