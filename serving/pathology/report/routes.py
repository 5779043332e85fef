"""GET /v1/slides/{id}/report as JSON, PDF or FHIR: the requested version, else the newest signed one, else the draft.

A signed PDF is the very file that was signed; it is served only if its SHA-256 is the one in the store.
"""

from __future__ import annotations

import asyncio
import hashlib
from importlib import import_module
from typing import Annotated

from pydantic import Field

from serving.core.http.problems import ProblemError
from serving.core.http.request import JSON_MEDIA_TYPE, JSONResponse, Request, Response
from serving.core.http.validation import RequestModel, one_of, parse_query, whole_number
from serving.pathology.context import Row, SlideContext, state_problem
from serving.pathology.report.signing import RenderPdf
from serving.pathology.slides import store as slide_store

FORMATS = {"json": JSON_MEDIA_TYPE, "pdf": "application/pdf", "fhir": "application/fhir+json"}


class ReportQuery(RequestModel):
    format: Annotated[str, one_of(*FORMATS), Field(description="Else by Accept.")] = ""
    version: Annotated[int, whole_number(1, 999_999), Field(description="An earlier one.")] = 0


class ReportRoutes:
    """render: makes the PDF of a draft."""

    def __init__(self, context: SlideContext, render: RenderPdf):
        self.context, self.render = context, render

    async def get_report(self, request: Request) -> Response:
        query = parse_query(request, ReportQuery)
        output_format = query.format or _negotiate_format(request)
        slide = await self.context.load_slide(request)
        if slide["reading"] is None:
            raise state_problem(slide["state"], "in_review")
        reports = await self.context.read(slide_store.list_reports, slide["id"])
        if query.version > len(reports):
            raise ProblemError(
                "unknown_report",
                actual=str(query.version),
                expected=f"{len(reports)} signed",
                expected_zh=f"{len(reports)} 版",
            )
        report = reports[(query.version or len(reports)) - 1] if reports else None
        body = slide["reading"] if report is None else report["body"]
        headers = {"Report-Version": "draft" if report is None else str(report["version"])}
        if output_format == "json":
            return JSONResponse(body, headers=headers)
        pdf = await asyncio.to_thread(self._load_pdf, slide["id"], body, report)
        if output_format == "pdf":
            return Response(pdf, headers=headers, media_type=FORMATS["pdf"])
        url = f"/v1/slides/{slide['id']}/report?format=pdf" + (f"&version={report['version']}" if report else "")
        resource = await asyncio.to_thread(_build_fhir, body, pdf, url)
        return JSONResponse(resource, headers=headers, media_type=FORMATS["fhir"])

    def _load_pdf(self, slide_id: str, body: Row, report: Row | None) -> bytes:
        if report is None:
            return self.render(body)
        try:
            pdf = (self.context.slides_dir / slide_id / "reports" / f"{report['version']}.pdf").read_bytes()
        except OSError as error:
            raise _unavailable(f"The signed PDF cannot be read ({error.strerror})", "已签发的 PDF 无法读取") from error
        if hashlib.sha256(pdf).hexdigest() != report["sha256"]:
            raise _unavailable("The PDF on the disk is not the one that was signed", "磁盘上的 PDF 与签发时不一致")
        return pdf


def _build_fhir(body: Row, pdf: bytes, url: str) -> Row:
    try:
        resource: Row = import_module("serving.pathology.report.fhir").build_diagnostic_report(body, pdf, url)
    except ImportError as error:
        raise _unavailable("FHIR reports are not installed here", "此处未安装 FHIR 报告组件") from error
    return resource


def _negotiate_format(request: Request) -> str:
    """The first supported format that Accept names; JSON if it accepts anything."""
    accept = request.headers.get("accept")
    accepted = [item.partition(";")[0].strip().lower() for item in (accept or "*/*").split(",")]
    for media_type in accepted:
        for name, supported in FORMATS.items():
            if media_type in (supported, "*/*", f"{supported.split('/')[0]}/*"):
                return name
    raise ProblemError("not_acceptable", actual=repr((accept or "")[:80]), expected=", ".join(FORMATS.values()))


def _unavailable(actual: str, actual_zh: str) -> ProblemError:
    return ProblemError("report_unavailable", actual=actual, actual_zh=actual_zh)
