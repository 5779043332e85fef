"""A small service for the viewer's tests: the real pages, pictures and reports over slides that are slide in memory."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from serving.console import pages
from serving.core.http.metrics import Metrics
from serving.core.http.principal import LOCAL_PRINCIPAL, Principal
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSONResponse, Request, Response, StreamingResponse, read_body
from serving.core.http.router import Router, Routes
from serving.core.identifiers import new_id
from serving.pathology import turnaround
from serving.pathology.report import fhir, pdf
from serving.pathology.slides.states import STATES
from serving.pathology.viewer.tile_routes import SlideImage, TileRoutes
from tests.serving.pathology import fake_readings

TOKEN = "a-token-of-a-test"
PERSON = {"name": "王敏", "licence": "110330200012345"}
TIMESTAMP = "2026-11-25T09:02:41Z"


def slide_row(slide: str, state: str, **overrides: Any) -> dict[str, Any]:
    """A slide as GET /v1/slides/{id} returns it."""
    columns = {"slide_id": slide, "state": state, "code": None, "reasons": [], "name": "CMU-1-Small-Region.svs"}
    columns |= {"sha256": fake_readings.READING["slide"]["sha256"], "bytes": 1_938_955, "accession": "C2026-004217"}
    columns |= {
        "specimen": "cervical_cytology",
        "progress": {"done": 0, "total": 0},
        "priority": 0,
        "triage": None,
        "to_review": state in ("ready", "abstained", "in_review"),
        "reading": None,
    }
    return columns | {"created": "2026-11-25T08:28:00Z", "updated": "2026-11-25T08:30:12Z"} | overrides


def read_slide_row(
    slide: str, state: str = "ready", reading: dict[str, Any] | None = None, **overrides: Any
) -> dict[str, Any]:
    reading = {**(reading or fake_readings.READING), "slide_id": slide}
    return slide_row(slide, state, reading=reading, triage=reading["triage"], priority=reading["priority"], **overrides)


async def allow_anybody(request: Request, roles: frozenset[str]) -> Principal:
    return LOCAL_PRINCIPAL


class Clinic:
    """The gateway's routes; tests set `slides` and `events`."""

    def __init__(self, folder: Path):
        self.slides: dict[str, dict[str, Any]] = {}
        self.reports: dict[str, list[dict[str, Any]]] = {}
        self.events: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, int]] = []
        self.cut = 0  # number of parts to interrupt
        self.slide_file = fake_readings.CMU
        self.heat = folder / "heat.npz"
        probability, attention = fake_readings.heatmap()
        np.savez(self.heat, probability=probability, attention=attention)
        self.images = TileRoutes(self.load_image)
        base = "/v1/slides/{id}"
        self.routes: Routes = {
            **pages.routes(),
            **self.images.routes(),
            "/v1/session": {"GET": self.session, "POST": self.sign_in, "DELETE": self.sign_out},
            "/v1/slides": {"GET": self.worklist},
            "/v1/slides/turnaround": {"GET": self.turnaround},
            base: {"GET": self.slide},
            f"{base}/report": {"GET": self.report},
            f"{base}/review": {"POST": self.review},
            f"{base}/sign": {"POST": self.sign},
            f"{base}/amend": {"POST": self.sign},
            "/v1/uploads": {"POST": self.create},
            "/v1/uploads/{id}": {"HEAD": self.head, "PATCH": self.patch},
        }
        roles = {(path, method): frozenset[str]() for path, methods in self.routes.items() for method in methods}
        self.router = Router(self.routes, roles, allow_anybody, Metrics(), 65_536)
        self.router.ready = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return

        async def recording_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.requests.append((scope["method"], scope["path"], message["status"]))
            await send(message)

        await self.router(scope, receive, recording_send)

    def slide_of(self, request: Request) -> dict[str, Any]:
        if request.path_params["id"] not in self.slides:
            raise ProblemError("not_found", actual=request.path_params["id"])
        return self.slides[request.path_params["id"]]

    async def load_image(self, request: Request) -> SlideImage:
        slide = self.slide_of(request)
        file = self.slide_file
        return SlideImage("clinic", file, slide["sha256"], None, slide["state"], slide["reading"], self.heat)

    async def worklist(self, request: Request) -> Response:
        ordered = sorted(self.slides.values(), key=lambda slide: -slide["priority"])
        return JSONResponse({"slides": [{**slide, "reading": None} for slide in ordered]})

    async def turnaround(self, request: Request) -> Response:
        states = [slide["state"] for slide in self.slides.values()]
        payload = {"days": 30, "slides": len(states), "states": {state: states.count(state) for state in STATES}}
        payload["awaiting"] = states.count("ready") + states.count("abstained")
        return JSONResponse(payload | turnaround.turnaround_stats([]))

    async def slide(self, request: Request) -> Response:
        slide = self.slide_of(request)
        if "text/event-stream" not in (request.headers.get("accept") or ""):
            return JSONResponse(slide)

        async def stream_events() -> AsyncGenerator[bytes, None]:
            yield b"retry: 500\n\n"
            known = int(request.headers.get("last-event-id") or 0)
            for number, (kind, change) in list(enumerate(self.events.get(slide["slide_id"], []), 1))[known:]:
                await asyncio.sleep(0.4)
                slide.update({"progress": change} if kind == "progress" else change)
                detail = {
                    "id": number,
                    "at": TIMESTAMP,
                    "state": slide["state"],
                    "detail": change if kind == "progress" else {},
                }
                yield f"id: {number}\nevent: {kind}\ndata: {json.dumps(detail)}\n\n".encode()
            await asyncio.sleep(3)

        return StreamingResponse(stream_events(), headers={"Cache-Control": "no-store"}, media_type="text/event-stream")

    async def report(self, request: Request) -> Response:
        slide, kind = self.slide_of(request), request.scope["query_string"].decode()
        signed = self.reports.get(slide["slide_id"])
        body = signed[-1] if signed else slide["reading"]
        if kind == "format=pdf":
            return Response(pdf.render(body, None, fake_readings.heatmap()[0]), media_type="application/pdf")
        return JSONResponse(fhir.build_diagnostic_report(body) if kind == "format=fhir" else body)

    # --- the session: anybody may read, and a cookie names the signer

    def person(self, request: Request) -> dict[str, str]:
        if f"yuheng_session={TOKEN}" not in (request.headers.get("cookie") or ""):
            raise ProblemError("not_a_pathologist", actual="The caller has no licence")
        return PERSON

    async def session(self, request: Request) -> Response:
        known = TOKEN in (request.headers.get("cookie") or "")
        return JSONResponse(
            {"tenant": "local", "roles": ["clinic"], **(PERSON if known else dict.fromkeys(PERSON, ""))}
        )

    async def sign_in(self, request: Request) -> Response:
        if json.loads(await read_body(request, 100_000, 5)) != {"token": TOKEN}:
            raise ProblemError("bad_token", actual="The token is nobody's")
        cookie = f"yuheng_session={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
        return JSONResponse(
            {"tenant": "local", "roles": ["clinic", "pathologist"], **PERSON}, headers={"Set-Cookie": cookie}
        )

    async def sign_out(self, request: Request) -> Response:
        return Response(status_code=204, headers={"Set-Cookie": "yuheng_session=; Path=/; Max-Age=0"})

    async def review(self, request: Request) -> Response:
        slide = self.slide_of(request)
        self.person(request)
        slide["state"] = "in_review"
        return JSONResponse(slide)

    async def sign(self, request: Request) -> Response:
        slide, person = self.slide_of(request), self.person(request)
        fields = json.loads(await read_body(request, 100_000, 5))
        versions = self.reports.setdefault(slide["slide_id"], [])
        number = len(versions) + 1
        body = {**slide["reading"], **fields, "signed_by": person, "signed_at": TIMESTAMP, "version": number}
        versions.append(body | {"amends": number - 1 or None})
        slide["state"] = "amended" if number > 1 else "signed"
        return JSONResponse(versions[-1])

    # --- the part of tus that the console uses

    async def create(self, request: Request) -> Response:
        pairs = [pair.strip().split(" ") for pair in (request.headers.get("upload-metadata") or "").split(",")]
        metadata = {name: base64.b64decode(value).decode() for name, value in pairs}
        slide_id = new_id()
        self.slides[slide_id] = slide_row(
            slide_id, "uploading", accession=metadata["accession"], name=metadata["filename"]
        )
        length = int(request.headers.get("upload-length") or 0)
        self.uploads[slide_id] = {"data": io.BytesIO(), "length": length, "metadata": metadata}
        headers = {"Location": f"/v1/uploads/{slide_id}", "Slide-Id": slide_id, "Tus-Resumable": "1.0.0"}
        return Response(status_code=201, headers=headers)

    async def head(self, request: Request) -> Response:
        upload = self.uploads[request.path_params["id"]]
        headers = {"Upload-Offset": str(upload["data"].tell()), "Upload-Length": str(upload["length"])}
        return Response(headers={**headers, "Tus-Resumable": "1.0.0", "Cache-Control": "no-store"})

    async def patch(self, request: Request) -> Response:
        upload = self.uploads[request.path_params["id"]]
        chunk = await read_body(request, 100_000_000, 30)
        if self.cut:
            self.cut -= 1
            upload["data"].write(chunk[: len(chunk) // 3])
            return JSONResponse({}, status_code=500)
        upload["data"].write(chunk)
        if upload["data"].tell() == upload["length"]:
            actual_sha256 = hashlib.sha256(upload["data"].getvalue()).hexdigest()
            matches = actual_sha256 == upload["metadata"]["sha256"]
            self.slides[request.path_params["id"]].update(
                state="verifying" if matches else "failed", sha256=actual_sha256
            )
        return Response(
            status_code=204, headers={"Upload-Offset": str(upload["data"].tell()), "Tus-Resumable": "1.0.0"}
        )


class Server:
    """Uvicorn in a thread, on a free port."""

    def __init__(self, app: Any):
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
        self.server.config.timeout_graceful_shutdown = 1
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        while not self.server.started:
            self.thread.join(0.02)
            assert self.thread.is_alive(), "the server did not start"
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()
