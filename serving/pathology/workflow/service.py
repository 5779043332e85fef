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

from datasets.slides.errors import SlideFault, SlideRefused
from models.bundle import BundleRefused
from serving import settings
from serving.core.process import end_with_the_supervisor
from serving.pathology.workflow.runner import Asked, Runner, Said, asked_of
from serving.pathology.workflow.workflow import Jobs

log = logging.getLogger("yuheng.slides")

FULL = (errno.ENOSPC, errno.EDQUOT)
LARGEST = 4_000_000  # bytes of a question: 4,096 places are some 100,000
QUIET: dict[str, Any] = {
    "logging": {"access": {"enabled": False}},
    "tracing": {"excluded_urls": [".*"]},
    "metrics": {"enabled": False},
    "envs": [{"name": "ORT_DISABLE_TELEMETRY", "value": "1"}, {"name": "BENTOML_DO_NOT_TRACK", "value": "true"}],
}


class _Inside:
    """What the runner's mounted application answers with; made with BentoML's instance of the service."""

    runner: Runner | None = None


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """POST /read: tiles asked for as JSON, arrays back. A refusal is JSON with status 422."""
    if scope["type"] != "http":
        return
    status, kind, body = 404, b"application/json", b"{}"
    if (scope["method"], scope["path"]) == ("POST", "/read"):
        question, more = b"", True
        while more and len(question) <= LARGEST:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            question += message.get("body", b"")
            more = message.get("more_body", False)
        status, kind, body = await asyncio.to_thread(_answered, question)
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _answered(question: bytes) -> tuple[int, bytes, bytes]:
    assert _Inside.runner is not None, "BentoML makes the service before it takes a request"
    plain = b"application/json"
    if len(question) > LARGEST:
        return 413, plain, b'{"error": "the question is too large"}'
    try:
        return 200, b"application/octet-stream", _Inside.runner.read(asked_of(json.loads(question))).packed()
    except SlideRefused as refused:
        told = [{"code": one.code, "en": one.en, "zh": one.zh} for one in refused.faults]
        return 422, plain, json.dumps({"name": refused.name, "faults": told}).encode()
    except BundleRefused as refused:
        return 409, plain, json.dumps({"error": str(refused)}).encode()
    except (ValueError, KeyError, TypeError) as error:
        return 400, plain, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()
    except OSError as error:  # a decoder needs a temporary folder
        log.exception("tiles could not be read")
        return 507 if error.errno in FULL else 500, plain, json.dumps({"error": f"OSError: {error}"}).encode()
    except Exception as error:
        log.exception("tiles could not be read")
        return 500, plain, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()


@bentoml.asgi_app(answer, path="/")
@bentoml.service(workers=1, resources={"cpu": "1"}, traffic={"timeout": 3_600}, **QUIET)
class SlideRunner:
    """Reads tiles and asks the network: on a GPU where there is one and the config does not say otherwise."""

    def __init__(self) -> None:
        end_with_the_supervisor()
        _Inside.runner = Runner(settings.read())

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        assert _Inside.runner is not None
        _Inside.runner.close()


class Remote:
    """The runner as its caller sees it. Raises SlideRefused as it does, httpx.TransportError where it is away."""

    def __init__(self, address: str):
        """`address`: as BentoML says it, file:///a/socket or tcp://host:port."""
        scheme, _, place = address.partition("://")
        uds = unquote(place) if scheme in ("file", "unix") else None
        base = "http://runner" if uds else f"http://{place}"
        transport = httpx.HTTPTransport(uds=uds, retries=0)
        self.client = httpx.Client(base_url=base, transport=transport, timeout=httpx.Timeout(3_600, connect=5))

    def __call__(self, asked: Asked) -> Said:
        told = {
            "path": asked.path,
            "mpp": asked.mpp,
            "places": asked.places.tolist(),
            "extent": asked.extent,
            "model": asked.model,
            "version": asked.version,
            "bundle": asked.bundle,
        }
        response = self.client.post("/read", content=json.dumps(told))
        if response.status_code == 200:
            return Said.unpacked(response.content)
        if response.status_code in (502, 503, 504):
            raise httpx.ConnectError(f"the runner answered {response.status_code}")
        found = response.json()
        if response.status_code == 422:
            raise SlideRefused(found["name"], [SlideFault(**one) for one in found["faults"]])
        if response.status_code == 507:
            raise OSError(errno.ENOSPC, f"the runner's disk is full: {found.get('error')}")
        raise RuntimeError(f"the runner answered {response.status_code}: {found.get('error')}")

    def close(self) -> None:
        self.client.close()


@bentoml.service(workers=1, resources={"cpu": "1"}, **QUIET)
class SlideJobs:
    """Slides that arrived, each through its steps, and on after a crash."""

    runner = bentoml.depends(SlideRunner)

    def __init__(self) -> None:
        end_with_the_supervisor()
        told = settings.read()
        self.remote = Remote(runner_address())
        self.jobs = Jobs(told, self.remote)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.follow, args=(told.reader.poll_seconds,), daemon=True)
        self.thread.start()

    def follow(self, pause: float) -> None:
        """On a thread of its own, as DBOS must not be started in an event loop."""
        try:
            self.jobs.start()
        except Exception:
            log.exception("the jobs could not be started; the process ends, and its supervisor starts another")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        while not self.stopping.wait(pause):
            try:
                self.jobs.look()
            except Exception:  # the store may be away for a while; what arrived waits in it
                log.exception("looking for slides that arrived failed; it is tried again")

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(10)
        self.jobs.stop()
        self.remote.close()

    @bentoml.api(route="/state")  # type: ignore[untyped-decorator]
    def state(self) -> dict[str, str]:
        """For whoever watches the process."""
        return {"state": "reading" if self.thread.is_alive() else "stopped", "process": str(os.getpid())}


def runner_address() -> str:
    """Where BentoML has started the runner that SlideJobs depends on: a Unix socket, or a port of the loopback."""
    from bentoml._internal.container import BentoMLContainer  # type: ignore[attr-defined]

    address: str = BentoMLContainer.remote_runner_mapping.get()["SlideRunner"]
    return address
