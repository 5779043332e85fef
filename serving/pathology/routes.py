"""Routes of slides: submission by reference, worklist, one slide, cancellation; and the table of all slide routes.

    PathologyRoutes(settings, store, quota).routes()     # pattern -> method -> handler, merged into the gateway's

Uploads, viewer and reports have route classes in their folders; openapi.py describes requests and responses.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field

from datasets.errors import FieldError
from serving.core.billing.quotas import Quota
from serving.core.db.store import Store
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSONResponse, Request, Response
from serving.core.http.router import Routes
from serving.core.http.validation import (
    FLAG,
    RequestModel,
    matching,
    one_of,
    parse_query,
    read_model,
    validate,
    whole_number,
)
from serving.core.identifiers import new_id
from serving.pathology import turnaround
from serving.pathology.context import ID_PATTERN, Row, SlideContext, state_problem
from serving.pathology.dicomweb.stow import StowRoutes
from serving.pathology.report.render import ReportRenderer, heatmap_file
from serving.pathology.report.routes import ReportRoutes
from serving.pathology.report.signing import SigningRoutes
from serving.pathology.slides import scale, storage, upload_store
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.states import SIGNED, STATES, TO_REVIEW, SlideNotFoundError
from serving.pathology.upload import request_form
from serving.pathology.upload.intake import UploadIntake, add_mpp_event
from serving.pathology.upload.tus import TusRoutes
from serving.pathology.viewer.events import EventStream, accepts_event_stream, parse_last_event_id
from serving.pathology.viewer.tile_routes import SlideImage, TileRoutes
from serving.settings import Settings

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 500  # slides of one page of the worklist


class WorklistQuery(RequestModel):
    limit: Annotated[int, whole_number(1, MAX_PAGE_SIZE), Field(description="Most.")] = DEFAULT_PAGE_SIZE
    after: Annotated[
        str, matching(ID_PATTERN, "the id of a slide", "切片编号"), Field(description="`next` of the page before.")
    ] = ""
    state: Annotated[str, one_of(*STATES), Field(description="Only slides in this state.")] = ""
    specimen: Annotated[str, one_of(*request_form.SPECIMENS), Field(description="Only slides of this specimen.")] = ""
    accession: Annotated[str, request_form.ACCESSION, Field(description="Only those of this number.")] = ""
    signed: Annotated[str, FLAG, Field(description="Only those that are signed, or are not yet.")] = ""
    review: Annotated[str, FLAG, Field(description="Only those that wait for a pathologist.")] = ""


class PathologyRoutes:
    """All routes under /v1/slides and /v1/uploads, and the background tasks that they need."""

    def __init__(self, settings: Settings, store: Store, quota: Quota):
        self.settings = settings
        self.context = SlideContext(settings, store, quota)
        self.intake = UploadIntake(self.context)
        self.tus_routes = TusRoutes(self.context, self.intake)
        self.event_stream = EventStream(self.context)
        self.tile_routes = TileRoutes(self._load_slide_image)
        self.signing_routes = SigningRoutes(
            self.context, ReportRenderer(settings.paths.slides, self.tile_routes.deepzoom).render
        )
        self.report_routes = ReportRoutes(self.context, self.signing_routes.render)

    def start(self) -> None:
        self.intake.start()

    def stop(self) -> None:
        self.intake.stop()
        self.tile_routes.close()

    def routes(self) -> Routes:
        return {
            **self.tus_routes.routes(),
            **self.tile_routes.routes(),
            **StowRoutes(self.context).routes(),
            "/v1/slides": {"GET": self.worklist, "POST": self.submit},
            "/v1/slides/turnaround": {"GET": self.turnaround},
            "/v1/slides/{id}": {"GET": self.get_slide},
            "/v1/slides/{id}/report": {"GET": self.report_routes.get_report},
            "/v1/slides/{id}/cancel": {"POST": self.cancel},
            "/v1/slides/{id}/scale": {"POST": self.confirm_scale},
            "/v1/slides/{id}/review": {"POST": self.signing_routes.review},
            "/v1/slides/{id}/sign": {"POST": self.signing_routes.sign},
            "/v1/slides/{id}/amend": {"POST": self.signing_routes.amend},
        }

    async def _load_slide_image(self, request: Request) -> SlideImage:
        """The files of the slide named by the path. Raises ProblemError before it has been de-identified."""
        slide = await self.context.load_slide(request)
        slide_dir = self.settings.paths.slides / slide["id"]
        path = await asyncio.to_thread(storage.deidentified_path, slide_dir)
        if path is None:
            raise state_problem(slide["state"], "quality_passed")
        heatmap = await asyncio.to_thread(heatmap_file, slide_dir)
        return SlideImage(
            slide["tenant"], path, str(slide["sha256"]), slide["mpp"], slide["state"], slide["reading"], heatmap
        )

    # --- submission by reference

    async def submit(self, request: Request) -> Response:
        """Submit an inbox file, or the missing form and SHA-256 of an upload."""
        payload, digest = await self.context.parse_body(request)
        submission, errors = validate(request_form.Submission, payload)
        errors = errors if submission is None else submission.errors()
        given = payload.get("reference")
        reference = given if isinstance(given, str) and request_form.REFERENCE.check(given) else ""
        upload = await self._find_upload(reference, request.principal.tenant)
        if reference and upload is None:
            errors += await asyncio.to_thread(self._check_reference, request.principal.tenant, reference)
        if submission is None or errors:
            raise ProblemError("invalid_request", errors=errors)
        form, sha256 = submission.to_form(), submission.sha256
        if upload is not None and "reference" not in upload["metadata"]:
            return await self._attach_form(request, upload, form, sha256, digest)
        if sha256 is None:
            raise ProblemError("invalid_request", errors=[request_form.missing_sha256()])
        return await self._submit_reference(request, reference, form, sha256, digest)

    async def _find_upload(self, reference: str, tenant: str) -> Row | None:
        """The upload with this id, or one of those that bring the slide with this id; None if there is neither."""
        if not ID_PATTERN.fullmatch(reference):
            return None
        upload = await self.context.read(upload_store.get_upload, reference, tenant)
        if upload is None and await self.context.read(slide_store.get, reference, tenant) is not None:
            upload = next(iter(await self.context.read(upload_store.uploads_of_slide, reference)), None)
        return upload

    def _check_reference(self, tenant: str, reference: str) -> list[FieldError]:
        expected_zh = "收件箱内的普通文件（不含链接与 ..）"
        try:
            with storage.open_inbox_file(self.context.inbox(tenant), reference) as file:
                size, max_bytes = (
                    Path(f"/proc/self/fd/{file.fileno()}").stat().st_size,
                    self.settings.slides.max_upload_bytes,
                )
        except storage.OutsideInboxError as error:
            return [FieldError("reference", repr(reference[:200]), str(error), expected_zh)]
        if not 0 < size <= max_bytes:
            return [FieldError("reference", f"{size:,} bytes", f"1 to {max_bytes:,} bytes", f"1 至 {max_bytes:,} 字节")]
        return []

    async def _attach_form(
        self, request: Request, upload: Row, form: request_form.RequestForm, sha256: str | None, digest: str
    ) -> Response:
        if (earlier := await self.context.earlier_response(request, "/v1/slides", digest)) is not None:
            return await self._submission_response(earlier["slide"], replayed=True)
        slide = await self.context.read(slide_store.get, upload["slide"])
        assert slide is not None, "the store holds an upload's slide"
        if sha256 is None and upload["path"] is None and slide["sha256"] is None:
            raise ProblemError("invalid_request", errors=[request_form.missing_sha256()])
        sha256 = sha256 or slide["sha256"]
        if slide["state"] != "uploading" and (slide["sha256"], slide["request"]) == (sha256, form.request):
            return await self._submission_response(await self._canonical_slide_id(slide), replayed=True)
        canonical_id = await self.intake.attach_form(upload, form, sha256)
        await self.context.run_once(request, "/v1/slides", digest, lambda _: {"slide": canonical_id})
        return await self._submission_response(canonical_id, replayed=canonical_id != upload["slide"])

    async def _submit_reference(
        self, request: Request, reference: str, form: request_form.RequestForm, sha256: str, digest: str
    ) -> Response:
        await self.context.quota.check(request.principal.tenant)
        slide_id, upload_id = new_id(), new_id()
        name, tenant = storage.sanitize_name(reference), request.principal.tenant
        audit = await asyncio.to_thread(self.context.blinded_rereads.includes, slide_id)

        def create_if_new(connection: sa.Connection) -> Row:
            for existing in slide_store.same_content(connection, sha256, tenant):
                if existing["accession"] == form.request["accession"] and _is_arriving(connection, existing):
                    return {"slide": existing["id"], "upload": None}
            columns = form.columns() | {"tenant": tenant, "name": name, "sha256": sha256}
            slide_store.create(connection, slide_id, detail={"source": "inbox"}, audit=audit, **columns)
            upload_store.create_upload(connection, upload_id, slide_id, 0, sha256, {"reference": reference})
            add_mpp_event(connection, slide_id, form)
            return {"slide": slide_id, "upload": upload_id}

        result, replayed = await self.context.run_once(request, "/v1/slides", digest, create_if_new)
        if not replayed and result["upload"] is not None:
            self.intake.start_copy(upload_id)
            self.context.quota.add(tenant, 1)
        return await self._submission_response(result["slide"], replayed=replayed or result["upload"] is None)

    async def _canonical_slide_id(self, slide: Row) -> str:
        """The id of the earlier slide if this one turned out to be its duplicate, else its own id."""
        for event in reversed(await self.context.read(slide_store.events_after, slide["id"])):
            if "same_as" in event["detail"]:
                return str(event["detail"]["same_as"])
        return str(slide["id"])

    async def _submission_response(self, slide_id: str, replayed: bool) -> Response:
        row = await self.context.read(slide_store.get, slide_id)
        assert row is not None, "it was created or found a moment ago"
        headers = {"Location": f"/v1/slides/{slide_id}"} | ({"Idempotent-Replayed": "true"} if replayed else {})
        return JSONResponse(
            slide_to_json(row, include_details=True), status_code=200 if replayed else 202, headers=headers
        )

    # --- queries

    async def worklist(self, request: Request) -> Response:
        query = parse_query(request, WorklistQuery)
        filters = {
            "tenant": request.principal.tenant,
            **{name: getattr(query, name) or None for name in ("after", "state", "specimen", "accession")},
            "review": query.review == "true",
            "signed": {"true": True, "false": False}.get(query.signed),
        }
        try:
            rows = await self.context.read(slide_store.worklist, query.limit, **filters)
        except SlideNotFoundError as error:
            raise ProblemError("unknown_slide", actual=repr(error.slide_id)) from error
        next_id = rows[-1]["id"] if len(rows) == query.limit else None
        return JSONResponse({"slides": [slide_to_json(row) for row in rows], "next": next_id})

    async def turnaround(self, request: Request) -> Response:
        return await turnaround.turnaround_response(self.context, request)

    async def get_slide(self, request: Request) -> Response:
        last_event_id = parse_last_event_id(request)
        slide = await self.context.load_slide(request)
        if accepts_event_stream(request):
            return await self.event_stream.open_stream(request, slide, last_event_id)
        reports = await self.context.read(slide_store.list_reports, slide["id"])
        proof = await self.context.read(slide_store.find_proof, slide["id"])
        details = {"proof": proof, "reports": [_report_summary(report) for report in reports]}
        return JSONResponse(slide_to_json(slide, include_details=True) | details)

    async def cancel(self, request: Request) -> Response:
        slide = await self.context.load_slide(request)
        upload = next(iter(await self.context.read(upload_store.uploads_of_slide, slide["id"])), None)
        is_copied = upload is not None and "reference" in upload["metadata"] and self.intake.locks.is_held(upload["id"])
        if slide["state"] == "uploading" and upload is not None and not is_copied:
            await self.intake.abort_upload(upload, "cancelled", {"by": "request"})
        else:
            await self.context.write(lambda c: slide_store.transition(c, slide["id"], "cancelled", {"by": "request"}))
        return JSONResponse(slide_to_json(await self.context.load_slide(request), include_details=True))

    async def confirm_scale(self, request: Request) -> Response:
        """Give a slide that waits for it the scale that a person has confirmed; in the log under their name."""
        slide = await self.context.load_slide(request)
        confirmation, _ = await read_model(request, request_form.ScaleConfirmation, self.settings.limits)
        subject = request.principal.subject
        await self.context.write(lambda connection: scale.confirm(connection, slide["id"], confirmation.mpp, subject))
        return JSONResponse(slide_to_json(await self.context.load_slide(request), include_details=True))


def _is_arriving(connection: sa.Connection, slide: Row) -> bool:
    """Whether the slide has arrived or is being copied from the inbox; an upload may never be continued."""
    if slide["state"] != "uploading":
        return True
    return any("reference" in upload["metadata"] for upload in upload_store.uploads_of_slide(connection, slide["id"]))


def slide_to_json(row: Row, include_details: bool = False) -> Row:
    """A slide as returned by the API; with details, its request form and its reading are included."""
    state = STATES[row["state"]]
    negative = row["triage"] == "negative"
    payload: Row = {
        "slide_id": row["id"],
        "state": row["state"],
        "state_en": state.en,
        "state_zh": state.zh,
        **{name: row[name] for name in ("code", "reasons", "notes", "name", "sha256", "bytes")},
        **{name: row[name] for name in ("accession", "specimen", "stain", "preparation", "mpp")},
        "progress": {"done": row["done"], "total": row["total"]},
        "priority": row["priority"],
        "triage": row["triage"],
        # Hidden until the slide is signed, so that it does not influence the pathologist.
        "audit": negative and row["audit"] and row["state"] in SIGNED,
        "to_review": row["state"] in TO_REVIEW and (not negative or row["audit"]),
        "model": None if row["model"] is None else {"name": row["model"], **_pick(row, "version", "bundle")},
        **_pick(row, "created", "updated"),
    }
    return payload | ({"request": row["request"], "reading": row["reading"]} if include_details else {})


def _pick(row: Row, *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _report_summary(report: Row) -> Row:
    body = report["body"]
    return {
        **_pick(report, "version", "kind", "at", "sha256"),
        "signed_by": body["signed_by"],
        "reason": body.get("reason"),
    }
