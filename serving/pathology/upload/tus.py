"""Resumable uploads of slides: tus 1.0.0 with creation, termination, checksum and expiration.

The length of the file on the disk is the offset, whatever the store last recorded, so a crash loses nothing that was
acknowledged. The complete file is verified against the SHA-256 that was announced with the upload or afterwards.
https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import sqlalchemy as sa

from serving.core.http import validation
from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, Response
from serving.core.http.router import Handler, Routes
from serving.core.identifiers import new_id, utc_now
from serving.pathology.context import ID_PATTERN, Row, SlideContext
from serving.pathology.slides import storage
from serving.pathology.slides import store as slide_store
from serving.pathology.upload.intake import UploadIntake, add_mpp_event
from serving.pathology.upload.part_writer import PartWriter, disk_full_problem
from serving.pathology.upload.tus_headers import (
    ALGORITHMS,
    NUMBER_PATTERN,
    VERSION,
    bad_header_problem,
    parse_checksum,
    parse_length,
    parse_metadata,
    parse_upload_form,
    too_large_problem,
    tus_response,
)

EXTENSIONS = "creation,termination,checksum,expiration"
PART_MEDIA_TYPE = "application/offset+octet-stream"


class TusRoutes:
    """Each upload has one writer at a time; requests meanwhile are answered with 423."""

    def __init__(self, context: SlideContext, intake: UploadIntake):
        self.context, self.intake = context, intake
        self.settings = context.settings.slides
        self.busy_uploads = intake.busy_uploads  # uploads that are being written, verified or removed
        self.part_writer = PartWriter(context)

    def routes(self) -> Routes:
        handlers = {"HEAD": self.get_offset, "PATCH": self.append_part, "DELETE": self.terminate_upload}
        return {
            "/v1/uploads": {"POST": _require_tus(self.create_upload), "OPTIONS": self.get_options},
            "/v1/uploads/{id}": {method: _require_tus(handler) for method, handler in handlers.items()}
            | {"OPTIONS": self.get_options},
        }

    async def get_options(self, request: Request) -> Response:
        return tus_response(
            {
                "Tus-Version": VERSION,
                "Tus-Extension": EXTENSIONS,
                "Tus-Max-Size": str(self.settings.max_upload_bytes),
                "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
            }
        )

    # --- creation

    async def create_upload(self, request: Request) -> Response:
        length = parse_length(request, self.settings.max_upload_bytes)
        await self.context.quota.check(request.principal.tenant)
        metadata = parse_metadata(request)
        form, sha256, name = parse_upload_form(metadata)
        digest = hashlib.sha256(f"{length} {request.headers.get('upload-metadata')}".encode()).hexdigest()
        upload_id, slide_id = new_id(), new_id()
        audit = await asyncio.to_thread(self.context.blinded_rereads.includes, slide_id)
        tenant = request.principal.tenant
        columns: Row = {"tenant": tenant, "name": name, "sha256": sha256}
        free_bytes = await asyncio.to_thread(self._free_bytes)
        if free_bytes < length:
            raise ProblemError(
                "no_space",
                actual=f"{free_bytes:,} bytes are free and {length:,} were announced",
                actual_zh=f"可用空间 {free_bytes:,} 字节，上传需要 {length:,} 字节",
            )

        def create_rows(connection: sa.Connection) -> Row:
            if (
                open_count := len(slide_store.list_uploads(connection, "open", tenant))
            ) >= self.settings.max_open_uploads:
                raise ProblemError(
                    "overloaded",
                    actual=f"{open_count} uploads are open, the maximum",
                    actual_zh=f"已有 {open_count} 个上传未完成，达到上限",
                )
            slide_store.create(
                connection, slide_id, audit=audit, **columns, **(form.columns() if form is not None else {})
            )
            slide_store.create_upload(connection, upload_id, slide_id, length, sha256, metadata)
            if form is not None:
                add_mpp_event(connection, slide_id, form)
            return {"upload": upload_id, "slide": slide_id}

        path, replayed = storage.quarantine_path(self.context.slides_dir, slide_id, name), True
        try:
            await asyncio.to_thread(storage.create_empty, path)
            result, replayed = await self.context.run_once(request, "/v1/uploads", digest, create_rows)
        except OSError as error:
            raise disk_full_problem(error, 0) from error
        finally:
            if replayed:  # refused, or created by an earlier request
                await asyncio.to_thread(storage.remove_file, path)
        if not replayed:
            self.context.quota.add(tenant, 1)
        headers = {
            "Location": f"/v1/uploads/{result['upload']}",
            "Slide-Id": result["slide"],
            **self._expires_header(utc_now()),
        }
        return tus_response(headers | ({"Idempotent-Replayed": "true"} if replayed else {}), 201)

    def _free_bytes(self) -> int:
        self.context.slides_dir.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.context.slides_dir).free

    # --- offset

    async def get_offset(self, request: Request) -> Response:
        row, path = await self._find_upload(request)
        if row["id"] in self.busy_uploads:
            raise _locked_problem(row["id"])
        offset = await self._current_offset(row, path)
        return tus_response(
            {"Upload-Offset": str(offset), "Upload-Length": str(row["length"])} | self._describe_upload(row), 200
        )

    def _describe_upload(self, row: Row) -> dict[str, str]:
        metadata = {name: base64.b64encode(value.encode()).decode() for name, value in row["metadata"].items()}
        headers = (
            {"Upload-Metadata": ",".join(f"{name} {value}" for name, value in metadata.items())} if metadata else {}
        )
        return (
            headers
            | {"Slide-Id": row["slide"]}
            | ({} if row["state"] == "done" else self._expires_header(row["updated"]))
        )

    async def _load_upload(self, request: Request) -> Row:
        """The upload named by the path. Raises ProblemError."""
        upload_id = request.path_params["id"]
        row = (
            await self.context.read(slide_store.get_upload, upload_id, request.principal.tenant)
            if ID_PATTERN.fullmatch(upload_id)
            else None
        )
        if row is None or "reference" in row["metadata"]:
            raise ProblemError("unknown_upload", actual=repr(upload_id[:80]))
        return row

    async def _find_upload(self, request: Request) -> tuple[Row, Path]:
        """The upload named by the path, open or done, and its file. Raises ProblemError."""
        row = await self._load_upload(request)
        if row["state"] == "failed":
            raise ProblemError(
                "upload_gone", actual="Its SHA-256 is not the announced one", actual_zh="其 SHA-256 与声明不符"
            )
        if row["state"] == "expired":
            raise ProblemError("upload_gone", actual="It was ended, or expired", actual_zh="已终止或过期")
        slide = await self.context.read(slide_store.get, row["slide"])
        assert slide is not None, "the store holds an upload's slide"
        if row["state"] == "open" and slide["state"] != "uploading":
            raise ProblemError("upload_gone", actual=f"Its slide is {slide['state']}", actual_zh="其切片已不在上传中")
        return row, storage.quarantine_path(self.context.slides_dir, row["slide"], slide["name"])

    async def _current_offset(self, row: Row, path: Path) -> int:
        """Bytes on the disk; all bytes of an upload that is done, whose file may be elsewhere by now."""
        size = None if row["state"] == "done" else await asyncio.to_thread(storage.size_or_none, path)
        if size is None and row["state"] == "open":
            raise ProblemError(
                "upload_gone", actual="What was received is no longer there", actual_zh="已接收的内容已不存在"
            )
        return int(row["length"] if size is None else min(size, row["length"]))

    def _expires_header(self, updated: str) -> dict[str, str]:
        expires_at = datetime.fromisoformat(updated) + timedelta(seconds=self.settings.upload_expires_seconds)
        return {"Upload-Expires": format_datetime(expires_at.astimezone(UTC), usegmt=True)}

    # --- parts

    async def append_part(self, request: Request) -> Response:
        validation.require_media_type(request, PART_MEDIA_TYPE)
        header = request.headers.get("upload-offset")
        if header is None or not NUMBER_PATTERN.fullmatch(header):
            raise bad_header_problem("Upload-Offset", header, "a number of bytes", "字节数")
        checksum = parse_checksum(request)
        row, path = await self._find_upload(request)
        upload_id, slide_id, length = row["id"], row["slide"], row["length"]
        if upload_id in self.busy_uploads:
            raise _locked_problem(upload_id)
        self.busy_uploads.add(upload_id)  # nothing was awaited since it was checked
        try:
            offset = await self._current_offset(row, path)
            if int(header) != offset:
                raise _offset_problem(header, offset)
            if offset < length:
                content_length = request.headers.get("content-length")
                if content_length is not None and offset + int(content_length) > length:
                    raise too_large_problem(offset + int(content_length), length)
                offset = await self.part_writer.append(request, row, path, offset, checksum)
            if offset == length and row["state"] == "open":
                slide_id = await self.intake.complete_upload(row, path, self.part_writer.pop_digest(upload_id))
        finally:
            self.busy_uploads.discard(upload_id)
        headers = {"Upload-Offset": str(offset), "Slide-Id": slide_id}
        if slide_id != row["slide"]:
            headers["Idempotent-Replayed"] = "true"  # the same slide was sent before
        return tus_response(headers | (self._expires_header(utc_now()) if offset < length else {}))

    # --- termination

    async def terminate_upload(self, request: Request) -> Response:
        row = await self._load_upload(request)
        if row["state"] == "expired":
            raise ProblemError("upload_gone", actual="It was ended, or expired", actual_zh="已终止或过期")
        if row["id"] in self.busy_uploads:
            raise _locked_problem(row["id"])
        self.part_writer.pop_digest(row["id"])
        await self.intake.abort_upload(row, "cancelled", {"by": "termination of its upload"})
        return tus_response({})


def _require_tus(handler: Handler) -> Handler:
    """Check the protocol version of a request, and send ours with every response, problems included."""

    async def checked_handler(request: Request) -> Response:
        version = request.headers.get("tus-resumable")
        try:
            if version != VERSION:
                actual = repr(version[:40]) if version is not None else "missing"
                raise ProblemError("tus_version", actual=actual, expected=VERSION, headers={"Tus-Version": VERSION})
            return await handler(request)
        except ProblemError as problem:
            problem.headers["Tus-Resumable"] = VERSION
            raise

    return checked_handler


def _offset_problem(claimed: str, offset: int) -> ProblemError:
    return ProblemError("upload_offset", actual=claimed, expected=f"{offset:,}", headers={"Upload-Offset": str(offset)})


def _locked_problem(upload_id: str) -> ProblemError:
    return ProblemError("upload_locked", actual=upload_id)
