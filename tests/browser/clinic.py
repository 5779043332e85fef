"""A small service for the viewer's tests: the real pages, pictures and reports over slides that are held in memory."""

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
AT = "2026-11-25T09:02:41Z"


def row(slide: str, state: str, **more: Any) -> dict[str, Any]:
    """As GET /v1/slides/{id} gives it."""
    told = {"slide_id": slide, "state": state, "code": None, "reasons": [], "name": "CMU-1-Small-Region.svs"}
    told |= {"sha256": fake_readings.READING["slide"]["sha256"], "bytes": 1_938_955, "accession": "C2026-004217"}
    told |= {
        "specimen": "cervical_cytology",
        "progress": {"done": 0, "total": 0},
        "priority": 0,
        "triage": None,
        "to_review": state in ("ready", "abstained", "in_review"),
        "reading": None,
    }
    return told | {"created": "2026-11-25T08:28:00Z", "updated": "2026-11-25T08:30:12Z"} | more


def read(slide: str, state: str = "ready", reading: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    reading = {**(reading or fake_readings.READING), "slide_id": slide}
    return row(slide, state, reading=reading, triage=reading["triage"], priority=reading["priority"], **more)


async def anybody(request: Request, roles: frozenset[str]) -> Principal:
    return LOCAL_PRINCIPAL


class Clinic:
    """Routes as the gateway has them; `slides` and `events` are for tests to set."""

    def __init__(self, folder: Path):
        self.slides: dict[str, dict[str, Any]] = {}
        self.reports: dict[str, list[dict[str, Any]]] = {}
        self.events: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, int]] = []
        self.cut = 0  # parts of an upload to refuse
        self.heat = folder / "heat.npz"
        probability, attention = fake_readings.heatmap()
        np.savez(self.heat, probability=probability, attention=attention)
        self.images = TileRoutes(self.shown)
        one = "/v1/slides/{id}"
        self.routes: Routes = {
            **pages.routes(),
            **self.images.routes(),
            "/v1/session": {"GET": self.session, "POST": self.sign_in, "DELETE": self.sign_out},
            "/v1/slides": {"GET": self.worklist},
            "/v1/slides/turnaround": {"GET": self.turnaround},
            one: {"GET": self.slide},
            f"{one}/report": {"GET": self.report},
            f"{one}/review": {"POST": self.review},
            f"{one}/sign": {"POST": self.sign},
            f"{one}/amend": {"POST": self.sign},
            "/v1/uploads": {"POST": self.create},
            "/v1/uploads/{id}": {"HEAD": self.head, "PATCH": self.patch},
        }
        roles = {(path, method): frozenset[str]() for path, methods in self.routes.items() for method in methods}
        self.router = Router(self.routes, roles, anybody, Metrics(), 65_536)
        self.router.ready = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return

        async def recording_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.requests.append((scope["method"], scope["path"], message["status"]))
            await send(message)

        await self.router(scope, receive, recording_send)

    def held(self, call: Request) -> dict[str, Any]:
        if call.path_params["id"] not in self.slides:
            raise ProblemError("not_found", actual=call.path_params["id"])
        return self.slides[call.path_params["id"]]

    async def shown(self, call: Request) -> SlideImage:
        held = self.held(call)
        return SlideImage(fake_readings.CMU, held["sha256"], None, held["state"], held["reading"], self.heat)

    async def worklist(self, call: Request) -> Response:
        ordered = sorted(self.slides.values(), key=lambda each: -each["priority"])
        return JSONResponse({"slides": [{**each, "reading": None} for each in ordered]})

    async def turnaround(self, call: Request) -> Response:
        states = [each["state"] for each in self.slides.values()]
        told = {"days": 30, "slides": len(states), "states": {state: states.count(state) for state in STATES}}
        told["awaiting"] = states.count("ready") + states.count("abstained")
        return JSONResponse(told | turnaround.turnaround_stats([]))

    async def slide(self, call: Request) -> Response:
        held = self.held(call)
        if "text/event-stream" not in (call.headers.get("accept") or ""):
            return JSONResponse(held)

        async def told() -> AsyncGenerator[bytes, None]:
            yield b"retry: 500\n\n"
            known = int(call.headers.get("last-event-id") or 0)
            for number, (kind, change) in list(enumerate(self.events.get(held["slide_id"], []), 1))[known:]:
                await asyncio.sleep(0.4)
                held.update({"progress": change} if kind == "progress" else change)
                detail = {
                    "id": number,
                    "at": AT,
                    "state": held["state"],
                    "detail": change if kind == "progress" else {},
                }
                yield f"id: {number}\nevent: {kind}\ndata: {json.dumps(detail)}\n\n".encode()
            await asyncio.sleep(3)

        return StreamingResponse(told(), headers={"Cache-Control": "no-store"}, media_type="text/event-stream")

    async def report(self, call: Request) -> Response:
        held, kind = self.held(call), call.scope["query_string"].decode()
        signed = self.reports.get(held["slide_id"])
        body = signed[-1] if signed else held["reading"]
        if kind == "format=pdf":
            return Response(pdf.render(body, None, fake_readings.heatmap()[0]), media_type="application/pdf")
        return JSONResponse(fhir.build_diagnostic_report(body) if kind == "format=fhir" else body)

    # --- who asks: anybody may look, and a cookie says who signs

    def person(self, call: Request) -> dict[str, str]:
        if f"yuheng_session={TOKEN}" not in (call.headers.get("cookie") or ""):
            raise ProblemError("not_a_pathologist", actual="The caller has no licence")
        return PERSON

    async def session(self, call: Request) -> Response:
        known = TOKEN in (call.headers.get("cookie") or "")
        return JSONResponse(
            {"tenant": "local", "roles": ["clinic"], **(PERSON if known else dict.fromkeys(PERSON, ""))}
        )

    async def sign_in(self, call: Request) -> Response:
        if json.loads(await read_body(call, 100_000, 5)) != {"token": TOKEN}:
            raise ProblemError("bad_token", actual="The token is nobody's")
        cookie = f"yuheng_session={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
        return JSONResponse(
            {"tenant": "local", "roles": ["clinic", "pathologist"], **PERSON}, headers={"Set-Cookie": cookie}
        )

    async def sign_out(self, call: Request) -> Response:
        return Response(status_code=204, headers={"Set-Cookie": "yuheng_session=; Path=/; Max-Age=0"})

    async def review(self, call: Request) -> Response:
        held = self.held(call)
        self.person(call)
        held["state"] = "in_review"
        return JSONResponse(held)

    async def sign(self, call: Request) -> Response:
        held, person = self.held(call), self.person(call)
        told = json.loads(await read_body(call, 100_000, 5))
        versions = self.reports.setdefault(held["slide_id"], [])
        number = len(versions) + 1
        body = {**held["reading"], **told, "signed_by": person, "signed_at": AT, "version": number}
        versions.append(body | {"amends": number - 1 or None})
        held["state"] = "amended" if number > 1 else "signed"
        return JSONResponse(versions[-1])

    # --- as much of tus as a client needs

    async def create(self, call: Request) -> Response:
        pairs = [pair.strip().split(" ") for pair in (call.headers.get("upload-metadata") or "").split(",")]
        metadata = {name: base64.b64decode(value).decode() for name, value in pairs}
        slide = new_id()
        self.slides[slide] = row(slide, "uploading", accession=metadata["accession"], name=metadata["filename"])
        length = int(call.headers.get("upload-length") or 0)
        self.uploads[slide] = {"data": io.BytesIO(), "length": length, "metadata": metadata}
        headers = {"Location": f"/v1/uploads/{slide}", "Slide-Id": slide, "Tus-Resumable": "1.0.0"}
        return Response(status_code=201, headers=headers)

    async def head(self, call: Request) -> Response:
        upload = self.uploads[call.path_params["id"]]
        told = {"Upload-Offset": str(upload["data"].tell()), "Upload-Length": str(upload["length"])}
        return Response(headers={**told, "Tus-Resumable": "1.0.0", "Cache-Control": "no-store"})

    async def patch(self, call: Request) -> Response:
        upload = self.uploads[call.path_params["id"]]
        part = await read_body(call, 100_000_000, 30)
        if self.cut:
            self.cut -= 1
            upload["data"].write(part[: len(part) // 3])
            return JSONResponse(b"{}", status_code=500)
        upload["data"].write(part)
        if upload["data"].tell() == upload["length"]:
            found = hashlib.sha256(upload["data"].getvalue()).hexdigest()
            matches = found == upload["metadata"]["sha256"]
            self.slides[call.path_params["id"]].update(state="verifying" if matches else "failed", sha256=found)
        return Response(
            status_code=204, headers={"Upload-Offset": str(upload["data"].tell()), "Tus-Resumable": "1.0.0"}
        )


class Server:
    """Uvicorn in a thread, on a port of the system's choosing."""

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
