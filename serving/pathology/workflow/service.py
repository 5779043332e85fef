"""The process that reads slides: python -m serving serve-slides, beside the gateway, on this machine or another.

SlideJobs takes what arrived in the store and follows its workflow; SlideRunner owns the network and the device. They
are BentoML services of their own: jobs asks the runner over HTTP, JSON there and arrays (npz) back, no pickle between.
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

from datasets.slides.errors import SlideError, SlideIssue
from models.bundle import BundleError
from serving import settings
from serving.core.process import exit_with_parent
from serving.pathology.workflow.runner import TileOutputs, TileRequest, TileRunner, parse_request
from serving.pathology.workflow.workflow import SlideWorkflow

logger = logging.getLogger("yuheng.slides")

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
MAX_REQUEST_BYTES = 4_000_000  # bytes of a question: 4,096 places are some 100,000
BENTO_OPTIONS: dict[str, Any] = {
    "logging": {"access": {"enabled": False}},
    "tracing": {"excluded_urls": [".*"]},
    "metrics": {"enabled": False},
    "envs": [{"name": "ORT_DISABLE_TELEMETRY", "value": "1"}, {"name": "BENTOML_DO_NOT_TRACK", "value": "true"}],
}


class _RunnerHolder:
    """What the runner's mounted application answers with; made with BentoML's instance of the service."""

    runner: TileRunner | None = None


async def runner_app(scope: Any, receive: Any, send: Any) -> None:
    """POST /read: tiles asked for as JSON, arrays back. A refusal is JSON with status 422."""
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
    assert _RunnerHolder.runner is not None, "BentoML makes the service before it takes a request"
    media_type = b"application/json"
    if len(request_body) > MAX_REQUEST_BYTES:
        return 413, media_type, b'{"error": "the question is too large"}'
    try:
        return (
            200,
            b"application/octet-stream",
            _RunnerHolder.runner.infer(parse_request(json.loads(request_body))).encode(),
        )
    except SlideError as refusal:
        issues = [{"code": issue.code, "en": issue.en, "zh": issue.zh} for issue in refusal.issues]
        return 422, media_type, json.dumps({"name": refusal.name, "faults": issues}).encode()
    except BundleError as refusal:
        return 409, media_type, json.dumps({"error": str(refusal)}).encode()
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
    """Reads tiles and asks the network: on a GPU where there is one and the config does not say otherwise."""

    def __init__(self) -> None:
        exit_with_parent()
        _RunnerHolder.runner = TileRunner(settings.load_settings())

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        assert _RunnerHolder.runner is not None
        _RunnerHolder.runner.close()


class RunnerClient:
    """The runner as its caller sees it. Raises SlideRefused as it does, httpx.TransportError where it is away."""

    def __init__(self, address: str):
        """`address`: as BentoML says it, file:///a/socket or tcp://host:port."""
        scheme, _, location = address.partition("://")
        uds = unquote(location) if scheme in ("file", "unix") else None
        base = "http://runner" if uds else f"http://{location}"
        transport = httpx.HTTPTransport(uds=uds, retries=0)
        self.client = httpx.Client(base_url=base, transport=transport, timeout=httpx.Timeout(3_600, connect=5))

    def __call__(self, request: TileRequest) -> TileOutputs:
        payload = {
            "path": request.path,
            "mpp": request.mpp,
            "places": request.positions.tolist(),
            "extent": request.extent,
            "model": request.model,
            "version": request.version,
            "bundle": request.bundle,
        }
        response = self.client.post("/read", content=json.dumps(payload))
        if response.status_code == 200:
            return TileOutputs.decode(response.content)
        if response.status_code in (502, 503, 504):
            raise httpx.ConnectError(f"the runner answered {response.status_code}")
        answer = response.json()
        if response.status_code == 422:
            raise SlideError(answer["name"], [SlideIssue(**issue) for issue in answer["faults"]])
        if response.status_code == 507:
            raise OSError(errno.ENOSPC, f"the runner's disk is full: {answer.get('error')}")
        raise RuntimeError(f"the runner answered {response.status_code}: {answer.get('error')}")

    def close(self) -> None:
        self.client.close()


@bentoml.service(workers=1, resources={"cpu": "1"}, **BENTO_OPTIONS)
class SlideJobs:
    """Slides that arrived, each through its steps, and on after a crash."""

    runner = bentoml.depends(SlideRunner)

    def __init__(self) -> None:
        exit_with_parent()
        config = settings.load_settings()
        self.runner_client = RunnerClient(runner_address())
        self.workflow = SlideWorkflow(config, self.runner_client)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run_loop, args=(config.reader.poll_seconds,), daemon=True)
        self.thread.start()

    def run_loop(self, poll_seconds: float) -> None:
        """On a thread of its own, as DBOS must not be started in an event loop."""
        try:
            self.workflow.start()
        except Exception:
            logger.exception("the jobs could not be started; the process ends, and its supervisor starts another")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        while not self.stopping.wait(poll_seconds):
            try:
                self.workflow.enqueue_new()
            except Exception:  # the store may be away for a while; what arrived waits in it
                logger.exception("looking for slides that arrived failed; it is tried again")

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(10)
        self.workflow.stop()
        self.runner_client.close()

    @bentoml.api(route="/state")  # type: ignore[untyped-decorator]
    def state(self) -> dict[str, str]:
        """For whoever watches the process."""
        return {"state": "reading" if self.thread.is_alive() else "stopped", "process": str(os.getpid())}


def runner_address() -> str:
    """Where BentoML has started the runner that SlideJobs depends on: a Unix socket, or a port of the loopback."""
    from bentoml._internal.container import BentoMLContainer  # type: ignore[attr-defined]

    address: str = BentoMLContainer.remote_runner_mapping.get()["SlideRunner"]
    return address
