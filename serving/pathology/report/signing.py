"""What a pathologist does with a reading: open it, sign a report over it, sign it again with a correction.

The reading stands in each report as the machine told it. Every version stays: its body in the store, its PDF and the
same body in the slide's folder, the PDF's SHA-256 in the store.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from datasets.errors import FieldError
from datasets.schema import find_unknown_names
from serving.core.http import validation
from serving.core.http.principal import Principal
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSONResponse, Request, Response
from serving.core.identifiers import utc_now
from serving.pathology.context import Row, SlideContext, state_problem
from serving.pathology.slides import storage
from serving.pathology.slides import store as slide_store
from serving.pathology.slides.states import STATES

RenderPdf = Callable[[Row], bytes]  # a report's body -> its PDF
MAX_DIAGNOSIS_CHARS, MAX_REASON_CHARS = 500, 2_000  # characters
FIELDS_BY_KIND = {"signed": ("findings", "diagnosis"), "amended": ("findings", "diagnosis", "reason")}


def render_without_images(body: Row) -> bytes:
    """The PDF of a report, without pictures. Raises Problem where what makes it is not installed."""
    try:
        pdf: bytes = import_module("serving.pathology.report.pdf").render(body, None, None)
    except ImportError as error:
        raise ProblemError(
            "report_unavailable", actual="No PDF can be made here", actual_zh="此处无法生成 PDF"
        ) from error
    return pdf


class SigningRoutes:
    """`render` may be replaced: the seam by which tests do without the pictures."""

    def __init__(self, context: SlideContext, render: RenderPdf = render_without_images):
        self.context, self.render = context, render
        self._locks: dict[str, asyncio.Lock] = {}  # by slide, of signatures under way

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
        payload, digest = await self.context.parse_body(request)
        if errors := self._validate(payload, FIELDS_BY_KIND[kind]):
            raise ProblemError("invalid_request", errors=errors)
        scope = f"{kind} {slide['id']} {signer.licence}"
        lock = self._locks.setdefault(slide["id"], asyncio.Lock())
        try:
            async with lock:
                report = await self.context.earlier_response(request, scope, digest)
                if report is not None:
                    return JSONResponse(report, headers={"Idempotent-Replayed": "true"})
                report = await self._create_version(request, slide["id"], kind, payload, signer, (scope, digest))
        finally:
            if not lock.locked():
                self._locks.pop(slide["id"], None)
        return JSONResponse(report)

    async def _create_version(
        self, request: Request, slide_id: str, kind: str, payload: Row, signer: Principal, idempotency: tuple[str, str]
    ) -> Row:
        """Rendered, put beside the slide, and recorded: in this order, so that no record stands without its files."""
        row = await self.context.read(slide_store.get, slide_id)
        assert row is not None, "it was there a moment ago"
        if kind not in STATES[row["state"]].next:
            raise state_problem(row["state"], kind)
        earlier_reports = await self.context.read(slide_store.list_reports, slide_id)
        version = len(earlier_reports) + 1
        signed_at = utc_now()
        body: Row = {
            **row["reading"],
            **{name: payload[name] for name in FIELDS_BY_KIND[kind]},
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
                actual="signed anew meanwhile",
                actual_zh="已被他人重新签发",
                expected="a look at the newest version",
                expected_zh="先查看最新版本",
            ) from error
        finally:
            for temp_path in temp_paths:
                temp_path.unlink(missing_ok=True)

    def _validate(self, payload: Row, fields: tuple[str, ...]) -> list[FieldError]:
        allowed = ", ".join(fields)
        errors = find_unknown_names(payload, fields, f"one of {allowed}", f"{allowed} 之一")
        max_lengths = {
            "findings": self.context.settings.slides.max_findings_chars,
            "diagnosis": MAX_DIAGNOSIS_CHARS,
            "reason": MAX_REASON_CHARS,
        }
        for name in fields:
            value: Any = payload.get(name)
            if isinstance(value, str) and value.strip() and len(value) <= max_lengths[name] and _is_printable(value):
                continue
            expected = f"text of 1 to {max_lengths[name]:,} characters", f"1 至 {max_lengths[name]:,} 个字符的文本"
            errors.append(
                FieldError(name, validation.describe_value(value) if name in payload else "absent", *expected)
            )
        return errors


def _is_printable(value: str) -> bool:
    """Lines of printable text."""
    return all(text_line.isprintable() for text_line in value.replace("\t", " ").splitlines())


def _write_temp(path: Path, content: bytes) -> Path:
    try:
        return storage.write_temp(path, content)
    except OSError as error:
        raise ProblemError(
            "report_unavailable",
            actual=f"The report cannot be kept ({error.strerror})",
            actual_zh=f"报告无法保存（{error.strerror}）",
        ) from error


def _signer_json(signer: Principal) -> dict[str, str]:
    return {"name": signer.name, "licence": signer.licence}
