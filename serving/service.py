"""The BentoML service: python -m serving serve, which sets what must be set, or bentoml serve serving.service:Gateway.

Its one application is mounted whole: BentoML's own /livez, /readyz and /healthz stay for its tools, /metrics is ours.
"""

from __future__ import annotations

import os
from typing import Any

import bentoml

from serving import app as gateway
from serving import settings
from serving.core.http import protocol
from serving.core.process import end_with_the_supervisor

OURS = ("/v1/", "/console", "/assets/", "/slides")


class Mounted(bentoml.Service[Any]):  # type: ignore[misc]  # untyped
    """BentoML's service without three of its habits."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """Without a timer for each request, which would cut off a batch that uploads for over a minute; with bounds on
        headers and idle callers; without counters in mapped files, as a full disk kills who counts there."""
        from _bentoml_impl.server.app import ServiceAppFactory  # type: ignore[import-untyped]

        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # before prometheus_client is imported
        limits = settings.read().limits
        protocol.install(limits.headers, limits.head_seconds, limits.answer_idle_seconds)
        self.inject_config()
        factory = ServiceAppFactory(self, is_main=is_main)
        factory.timeout = None
        whole = factory()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            """What is asked of us goes straight to our application: tracing and context cost 65 us and add nothing."""
            ours = scope["type"] == "http" and scope["path"].startswith(OURS)
            await (APP if ours else whole)(scope, receive, send)

        return app


class _App:
    """What is mounted before the gateway is there: its inside comes with BentoML's instance of the service."""

    gateway: gateway.Gateway | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.gateway is not None, "BentoML makes the service before it takes a request"
        await self.gateway(scope, receive, send)


APP = _App()


@bentoml.asgi_app(APP, path="/")
@bentoml.service(
    service_class=Mounted,
    workers=1,  # one process writes the store; a second would wait for its lock
    http={"host": "127.0.0.1"},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},
    metrics={"enabled": False},  # BentoML's label each address asked for: without end, as ids are in them
    envs=[
        {"name": "ORT_DISABLE_TELEMETRY", "value": "1"},
        {"name": "BENTOML_DO_NOT_TRACK", "value": "true"},
        {"name": "MLFLOW_DISABLE_TELEMETRY", "value": "true"},
        {"name": "POLARS_MAX_THREADS", "value": "1"},
    ],
)
class Gateway:
    """Decisions and their reasons, each product at its own address: /openapi.json tells what they take and give."""

    def __init__(self) -> None:
        end_with_the_supervisor()
        APP.gateway = gateway.Gateway(settings.read())
        APP.gateway.start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        assert APP.gateway is not None
        APP.gateway.stop()

    async def __is_alive__(self) -> bool:
        return True

    async def __is_ready__(self) -> bool:
        assert APP.gateway is not None
        return bool(APP.gateway.service.champions.serving)
