"""The BentoML service. Start it by `python -m serving serve`, which sets its environment.

It mounts one application. /livez, /readyz and /healthz stay BentoML's, for its tools; /metrics is ours.
"""

from __future__ import annotations

import os
from typing import Any

import bentoml

from serving import settings
from serving.app import App
from serving.core.http import protocol
from serving.core.process import exit_with_parent

APP_PREFIXES = ("/v1/", "/console", "/assets/")


class MountedService(bentoml.Service[Any]):  # type: ignore[misc]  # untyped
    """BentoML's service with three differences, see `to_asgi`."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """The ASGI application: without a timer for each request, which would cut off a batch that uploads for over a
        minute; with bounds on headers and idle clients; without counters in mapped files, as a full disk kills the
        process that counts there."""
        from _bentoml_impl.server.app import ServiceAppFactory  # type: ignore[import-untyped]

        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # before prometheus_client is imported
        limits = settings.load_settings().limits
        protocol.install_protocol(
            limits.max_header_bytes, limits.header_timeout_seconds, limits.response_idle_timeout_seconds
        )
        self.inject_config()
        factory = ServiceAppFactory(self, is_main=is_main)
        factory.timeout = None
        bentoml_app = factory()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            """Send our own paths straight to our application, as BentoML's tracing and context cost 65 us a request."""
            is_app_path = scope["type"] == "http" and scope["path"].startswith(APP_PREFIXES)
            await (MOUNTED_APP if is_app_path else bentoml_app)(scope, receive, send)

        return app


class _MountedApp:
    """The application, mounted when the class is defined and set when BentoML makes an instance of the service."""

    app: App | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.app is not None, "BentoML makes the service before it accepts requests"
        await self.app(scope, receive, send)


MOUNTED_APP = _MountedApp()


@bentoml.asgi_app(MOUNTED_APP, path="/")
@bentoml.service(
    service_class=MountedService,
    workers=1,  # one process writes the store; a second would wait for its lock
    http={"host": "127.0.0.1"},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},
    metrics={"enabled": False},  # BentoML labels every path: without bound, as they hold ids
    envs=[
        {"name": "ORT_DISABLE_TELEMETRY", "value": "1"},
        {"name": "BENTOML_DO_NOT_TRACK", "value": "true"},
        {"name": "MLFLOW_DISABLE_TELEMETRY", "value": "true"},
        {"name": "POLARS_MAX_THREADS", "value": "1"},
    ],
)
class Gateway:
    """Decisions and their reasons, a path for each product; /openapi.json describes them."""

    def __init__(self) -> None:
        exit_with_parent()
        MOUNTED_APP.app = App(settings.load_settings())
        MOUNTED_APP.app.start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        assert MOUNTED_APP.app is not None
        MOUNTED_APP.app.stop()

    async def __is_alive__(self) -> bool:
        return True

    async def __is_ready__(self) -> bool:
        assert MOUNTED_APP.app is not None
        return bool(MOUNTED_APP.app.service.model_loader.deployed)
