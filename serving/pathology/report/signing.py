"""Review, sign and amend the report on a slide.

Every report holds the AI's reading unchanged. Every version is kept: its body and its PDF's SHA-256 in the store, the
PDF and the body in the slide's folder.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import orjson
import sqlalchemy as sa
from pydantic import Field, create_model

from serving.core.http.principal import Principal
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSONResponse, Request, Response
from serving.core.http.validation import RequestModel, Rule, read_model, text
from serving.core.identifiers import utc_now
from serving.pathology.context import Row, SlideContext, state_problem
from serving.pathology.slides import storage
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.states import STATES

RenderPdf = Callable[[Row], bytes]  # a report's body -> its PDF
MAX_DIAGNOSIS_CHARS, MAX_REASON_CHARS = 500, 2_000  # characters


def report_models(max_findings_chars: int) -> dict[str, type[RequestModel]]:
    """The models of what a pathologist sends, by the state that follows from it."""
    findings, diagnosis, reason = (_lines(size) for size in (max_findings_chars, MAX_DIAGNOSIS_CHARS, MAX_REASON_CHARS))
    category = Field(description="A category of Bethesda, such as HSIL, or words.")
    signed = create_model(
        "SignedReport",
        __base__=RequestModel,
        findings=(Annotated[str, findings], ...),
        diagnosis=(Annotated[str, diagnosis, category], ...),
    )
    why = Field(description="Why the report is amended.")
    amended = create_model("AmendedReport", __base__=signed, reason=(Annotated[str, reason, why], ...))
    return {"signed": signed, "amended": amended}


def _lines(max_chars: int) -> Rule:
    """Lines of printable text."""

    def is_printable(value: str) -> bool:
        lines = value.replace("\t", " ").splitlines()
        return bool(value.strip()) and all(line.isprintable() for line in lines)

    return text(max_chars, is_printable)


def render_without_images(body: Row) -> bytes:
    """The PDF of a report without images. Raises ProblemError if the PDF package is not installed."""
    try:
        pdf: bytes = import_module("serving.pathology.report.pdf").render(body, None, None)
    except ImportError as error:
        raise ProblemError(
            "report_unavailable", actual="PDF reports are not installed here", actual_zh="此处未安装 PDF 报告组件"
        ) from error
    return pdf


class SigningRoutes:
    """render: makes the PDF of a report's body; tests replace it with one that needs no images."""

    def __init__(self, context: SlideContext, render: RenderPdf = render_without_images):
        self.context, self.render = context, render
        self.models = report_models(context.settings.slides.max_findings_chars)
        self._locks: dict[str, asyncio.Lock] = {}  # slide -> the lock of the signature in progress

    async def review(self, request: Request) -> Response:
        signer = self.context.require_pathologist(request)
        slide = await self.context.load_slide(request)
        detail = {"by": _signer_json(signer)}
        await self.context.write(
            lambda connection: slide_store.transition(connection, slide["id"], "in_review", detail)
        )
        row = await self.context.load_slide(request)
        return JSONResponse({"slide_id": row["id"], "state": row["state"]})

    async def sign(self, request: Request) -> Response:
        return await self._sign_report(request, "signed")

    async def amend(self, request: Request) -> Response:
        return await self._sign_report(request, "amended")

    async def _sign_report(self, request: Request, kind: str) -> Response:
        signer = self.context.require_pathologist(request)
        slide = await self.context.load_slide(request)
        report_fields, digest = await read_model(request, self.models[kind], self.context.settings.limits)
        scope = f"{kind} {slide['id']} {signer.licence}"
        lock = self._locks.setdefault(slide["id"], asyncio.Lock())
        try:
            async with lock:
                report = await self.context.earlier_response(request, scope, digest)
                if report is not None:
                    return JSONResponse(report, headers={"Idempotent-Replayed": "true"})
                report = await self._create_version(
                    request, slide["id"], kind, report_fields.model_dump(), signer, (scope, digest)
                )
        finally:
            if not lock.locked():
                self._locks.pop(slide["id"], None)
        return JSONResponse(report)

    async def _create_version(
        self, request: Request, slide_id: str, kind: str, fields: Row, signer: Principal, idempotency: tuple[str, str]
    ) -> Row:
        """Render the report, write its files, and record it, in this order, so that no record lacks its files."""
        row = await self.context.read(slide_store.get, slide_id)
        assert row is not None, "it was loaded a moment ago"
        if kind not in STATES[row["state"]].next:
            raise state_problem(row["state"], kind)
        earlier_reports = await self.context.read(slide_store.list_reports, slide_id)
        version = len(earlier_reports) + 1
        signed_at = utc_now()
        body: Row = {
            **row["reading"],
            **fields,
            "signed_by": _signer_json(signer),
            "signed_at": signed_at,
            "version": version,
            "amends": version - 1 or None,
        }
        pdf = await asyncio.to_thread(self.render, body)
        sha256 = hashlib.sha256(pdf).hexdigest()
        reports_dir = self.context.slides_dir / slide_id / "reports"
        paths = reports_dir / f"{version}.pdf", reports_dir / f"{version}.json"
        temp_paths = [
            await asyncio.to_thread(_write_temp, name, content)
            for name, content in zip(paths, (pdf, orjson.dumps(body)), strict=True)
        ]

        def record_report(connection: sa.Connection) -> Row:
            slide_store.add_report(connection, slide_id, version, kind, body, sha256, signer.licence, signed_at)
            for temp_path, path in zip(temp_paths, paths, strict=True):
                temp_path.rename(path)
            storage.sync_dir(reports_dir)
            return body | {"pdf_sha256": sha256}

        try:
            return (await self.context.run_once(request, idempotency[0], idempotency[1], record_report))[0]
        except slide_store.ReportVersionConflictError as error:
            raise ProblemError(
                "slide_state",
                actual="signed by someone else meanwhile",
                actual_zh="已被他人重新签发",
                expected="a review of the newest version",
                expected_zh="先查看最新版本",
            ) from error
        finally:
            for temp_path in temp_paths:
                temp_path.unlink(missing_ok=True)


def _write_temp(path: Path, content: bytes) -> Path:
    try:
        return storage.write_temp(path, content)
    except OSError as error:
        raise ProblemError(
            "report_unavailable",
            actual=f"The report cannot be written ({error.strerror})",
            actual_zh=f"报告无法写入（{error.strerror}）",
        ) from error


def _signer_json(signer: Principal) -> dict[str, str]:
    return {"name": signer.name, "licence": signer.licence}
