"""The BentoML services behind `python -m serving serve-slides`, which reads slides beside the gateway or elsewhere.

SlideJobs takes new slides from the store and runs their workflows; SlideRunner owns the network and the device. The
former calls the latter over HTTP, with JSON as request and arrays (npz) as response; no pickle is exchanged.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
import threading
from typing import Any
from urllib.parse import unquote

import bentoml
import httpx

from datasets.confinement.process import set_required
from datasets.slides.errors import SlideError, SlideIssue
from models.bundle import BundleError
from serving import settings
from serving.core.process import exit_with_parent
from serving.pathology.workflow.runner import TileOutputs, TileRequest, TileRunner
from serving.pathology.workflow.workflow import SlideWorkflow

logger = logging.getLogger("yuheng.slides")

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
MAX_REQUEST_BYTES = 4_000_000  # a request for 4,096 tiles has some 100,000 bytes
BENTO_OPTIONS: dict[str, Any] = {
    "logging": {"access": {"enabled": False}},
    "tracing": {"excluded_urls": [".*"]},
    "metrics": {"enabled": False},
    "envs": [{"name": "ORT_DISABLE_TELEMETRY", "value": "1"}, {"name": "BENTOML_DO_NOT_TRACK", "value": "true"}],
}


class _RunnerHolder:
    """Gives the mounted ASGI application access to the runner, which exists once BentoML has made the service."""

    runner: TileRunner | None = None


async def runner_app(scope: Any, receive: Any, send: Any) -> None:
    """ASGI application: POST /read takes a TileRequest as JSON and answers with TileOutputs as npz.

    A slide that cannot be decoded is answered with 422 and its issues as JSON.
    """
    if scope["type"] != "http":
        return
    status, media_type, body = 404, b"application/json", b"{}"
    if (scope["method"], scope["path"]) == ("POST", "/read"):
        request_body, more_body = b"", True
        while more_body and len(request_body) <= MAX_REQUEST_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            request_body += message.get("body", b"")
            more_body = message.get("more_body", False)
        status, media_type, body = await asyncio.to_thread(_handle_request, request_body)
    headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _handle_request(request_body: bytes) -> tuple[int, bytes, bytes]:
    assert _RunnerHolder.runner is not None, "BentoML makes the service before it accepts requests"
    media_type = b"application/json"
    if len(request_body) > MAX_REQUEST_BYTES:
        return 413, media_type, b'{"error": "the request is too large"}'
    try:
        return (
            200,
            b"application/octet-stream",
            _RunnerHolder.runner.infer(TileRequest.from_json(json.loads(request_body))).encode(),
        )
    except SlideError as error:
        issues = [{"code": issue.code, "en": issue.en, "zh": issue.zh} for issue in error.issues]
        return 422, media_type, json.dumps({"name": error.name, "faults": issues}).encode()
    except BundleError as error:
        return 409, media_type, json.dumps({"error": str(error)}).encode()
    except (ValueError, KeyError, TypeError) as error:
        return 400, media_type, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()
    except OSError as error:  # a decoder needs a temporary folder
        logger.exception("tiles could not be read")
        return (
            507 if error.errno in DISK_FULL_ERRNOS else 500,
            media_type,
            json.dumps({"error": f"OSError: {error}"}).encode(),
        )
    except Exception as error:
        logger.exception("tiles could not be read")
        return 500, media_type, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()


@bentoml.asgi_app(runner_app, path="/")
@bentoml.service(workers=1, resources={"cpu": "1"}, traffic={"timeout": 3_600}, **BENTO_OPTIONS)
class SlideRunner:
    """Runs the tile network, on a GPU if there is one and the settings do not say otherwise."""

    def __init__(self) -> None:
        exit_with_parent()
        config = settings.load_settings()
        set_required(config.confinement.required)
        _RunnerHolder.runner = TileRunner(config)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        assert _RunnerHolder.runner is not None
        _RunnerHolder.runner.close()


class RunnerClient:
    """Calls the runner over HTTP as if it were a function.

    Raises SlideError as the runner does, httpx.TransportError if it cannot be reached.
    """

    def __init__(self, address: str):
        """`address`: in BentoML's notation, file:///a/socket or tcp://host:port."""
        scheme, _, location = address.partition("://")
        uds = unquote(location) if scheme in ("file", "unix") else None
        base = "http://runner" if uds else f"http://{location}"
        transport = httpx.HTTPTransport(uds=uds, retries=0)
        self.client = httpx.Client(base_url=base, transport=transport, timeout=httpx.Timeout(3_600, connect=5))

    def __call__(self, request: TileRequest) -> TileOutputs:
        response = self.client.post("/read", content=json.dumps(request.to_json()))
        if response.status_code == 200:
            return TileOutputs.decode(response.content)
        if response.status_code in (502, 503, 504):
            raise httpx.ConnectError(f"the runner answered {response.status_code}")
        payload = response.json()
        if response.status_code == 422:
            raise SlideError(payload["name"], [SlideIssue(**issue) for issue in payload["faults"]])
        if response.status_code == 507:
            raise OSError(errno.ENOSPC, f"the runner's disk is full: {payload.get('error')}")
        raise RuntimeError(f"the runner answered {response.status_code}: {payload.get('error')}")

    def close(self) -> None:
        self.client.close()


@bentoml.service(workers=1, resources={"cpu": "1"}, **BENTO_OPTIONS)
class SlideJobs:
    """Takes new slides through the steps of their workflow, and resumes them after a crash."""

    runner = bentoml.depends(SlideRunner)

    def __init__(self) -> None:
        exit_with_parent()
        config = settings.load_settings()
        set_required(config.confinement.required)
        self.runner_client = RunnerClient(runner_address())
        self.workflow = SlideWorkflow(config, self.runner_client)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run_loop, args=(config.reader.poll_seconds,), daemon=True)
        self.thread.start()

    def run_loop(self, poll_seconds: float) -> None:
        """Run on a thread of its own, because DBOS must not be started in an event loop."""
        try:
            self.workflow.start()
        except Exception:
            logger.exception("the workflow could not be started; the process ends and its supervisor starts another")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        while not self.stopping.wait(poll_seconds):
            try:
                self.workflow.enqueue_new()
            except Exception:  # the store may be unavailable for a while; new slides wait in it
                logger.exception("could not look for new slides; trying again")

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(10)
        self.workflow.stop()
        self.runner_client.close()

    @bentoml.api(route="/state")  # type: ignore[untyped-decorator]
    def state(self) -> dict[str, str]:
        """Liveness for monitoring."""
        return {"state": "reading" if self.thread.is_alive() else "stopped", "process": str(os.getpid())}


def runner_address() -> str:
    """The address at which BentoML started SlideRunner: a Unix socket or a loopback port."""
    from bentoml._internal.container import BentoMLContainer  # type: ignore[attr-defined]

    address: str = BentoMLContainer.remote_runner_mapping.get()["SlideRunner"]
    return address
