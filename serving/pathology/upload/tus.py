"""Resumable uploads of slides: tus 1.0.0 with the extensions in EXTENSIONS, as any tus client speaks it.

The length of the file on the disk is the offset, whatever the store last recorded, so a crash loses nothing that was
acknowledged. The complete file is verified against the SHA-256 that was announced with the upload or afterwards.
https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

from serving.core.http import validation
from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, Response
from serving.core.http.router import Handler, Routes
from serving.core.identifiers import utc_now
from serving.pathology.context import ID_PATTERN, Row, SlideContext
from serving.pathology.slides import storage, upload_store
from serving.pathology.slides import store as slide_store
from serving.pathology.upload.creation import UploadCreator
from serving.pathology.upload.intake import UploadIntake
from serving.pathology.upload.metadata import METADATA_FIELDS
from serving.pathology.upload.part_writer import PartWriter
from serving.pathology.upload.tus_headers import (
    ALGORITHMS,
    DEFERRED,
    VERSION,
    Checksum,
    bad_header_problem,
    format_metadata,
    parse_checksum,
    parse_length,
    parse_metadata,
    parse_offset,
    too_large_problem,
    tus_response,
)

EXTENSIONS = "creation,creation-with-upload,creation-defer-length,termination,checksum,expiration"
PART_MEDIA_TYPE = "application/offset+octet-stream"
# tus clients are given their address with a slash at its end, and outside browsers they follow no redirect.
ALIASES = {"/v1/uploads/": "/v1/uploads"}


class TusRoutes:
    """Each upload has one writer at a time, the newest request."""

    def __init__(self, context: SlideContext, intake: UploadIntake):
        self.context, self.intake, self.locks = context, intake, intake.locks
        self.settings = context.settings.slides
        self.creator = UploadCreator(context)
        self.part_writer = PartWriter(context)

    def routes(self) -> Routes:
        methods = {"HEAD": self.get_offset, "PATCH": self.append_part, "DELETE": self.terminate_upload}
        handlers = {method: _require_tus(handler) for method, handler in methods.items()}

        async def override_method(request: Request) -> Response:
            """POST in place of a method that the client or a proxy between cannot use."""
            method = request.headers.get("x-http-method-override", "").strip().upper()
            if method not in handlers:
                allowed = ", ".join((*handlers, "OPTIONS"))
                actual = f"POST with X-HTTP-Method-Override {method[:20]!r}" if method else "POST"
                raise ProblemError("method_not_allowed", actual=actual, expected=allowed, headers={"Allow": allowed})
            return await handlers[method](request)

        return {
            "/v1/uploads": {"POST": _require_tus(self.create_upload), "OPTIONS": self.get_options},
            "/v1/uploads/{id}": {**handlers, "POST": override_method, "OPTIONS": self.get_options},
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
        """Create an upload, with its first part where the request brings one."""
        if (concatenation := request.headers.get("upload-concat")) is not None:
            expected = "an upload in one piece (tus-js-client: parallelUploads 1)", "不分并行段的上传"
            raise bad_header_problem("Upload-Concat", concatenation, *expected)
        length, checksum, has_part = parse_length(request, self.settings.max_upload_bytes), None, _has_body(request)
        if has_part:
            validation.require_media_type(request, PART_MEDIA_TYPE)
            checksum = parse_checksum(request)
        created, replayed = await self.creator.create(request, length, parse_metadata(request, METADATA_FIELDS))
        headers = {"Location": f"/v1/uploads/{created['upload']}", "Slide-Id": created["slide"]}
        headers |= {"Idempotent-Replayed": "true"} if replayed else {}
        if not has_part:
            return tus_response(headers | self._expires_header(utc_now()), 201)
        async with self.locks.hold(created["upload"]) as stop:
            row, path = await self._find_upload(created["upload"], request.principal.tenant)
            if replayed:  # its first part may be here; the client continues after it
                return tus_response(headers | {"Upload-Offset": str(await self._current_offset(row, path))}, 201)
            return tus_response(headers | await self._append(request, row, path, 0, checksum, stop), 201)

    # --- offset

    async def get_offset(self, request: Request) -> Response:
        async with self.locks.hold((await self._load_upload(request))["id"]):
            row, path = await self._find_upload(request.path_params["id"], request.principal.tenant)
            headers = {"Upload-Offset": str(await self._current_offset(row, path)), "Slide-Id": row["slide"]}
        if row["length"] == DEFERRED:
            headers["Upload-Defer-Length"] = "1"
        else:
            headers["Upload-Length"] = str(row["length"])
        if row["metadata"]:
            headers["Upload-Metadata"] = format_metadata(row["metadata"])
        return tus_response(headers | ({} if row["state"] == "done" else self._expires_header(row["updated"])), 200)

    async def _load_upload(self, request: Request) -> Row:
        """The upload named by the path. Raises ProblemError."""
        return await self._load(request.path_params["id"], request.principal.tenant)

    async def _load(self, upload_id: str, tenant: str) -> Row:
        row = (
            await self.context.read(upload_store.get_upload, upload_id, tenant)
            if ID_PATTERN.fullmatch(upload_id)
            else None
        )
        if row is None or "reference" in row["metadata"]:
            raise ProblemError("unknown_upload", actual=repr(upload_id[:80]))
        return row

    async def _find_upload(self, upload_id: str, tenant: str) -> tuple[Row, Path]:
        """The upload, open or done, and its file. Raises ProblemError."""
        row = await self._load(upload_id, tenant)
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
        return row, storage.upload_path(self.context.slides_dir, slide, row)

    async def _current_offset(self, row: Row, path: Path) -> int:
        """Bytes on the disk; all bytes of an upload that is done, whose file may be elsewhere by now."""
        size = None if row["state"] == "done" else await asyncio.to_thread(storage.size_or_none, path)
        if size is None and row["state"] == "open":
            raise ProblemError(
                "upload_gone", actual="What was received is no longer there", actual_zh="已接收的内容已不存在"
            )
        if size is None:
            return int(row["length"])
        return size if row["length"] == DEFERRED else min(size, int(row["length"]))

    def _expires_header(self, updated: str) -> dict[str, str]:
        expires_at = datetime.fromisoformat(updated) + timedelta(seconds=self.settings.upload_expires_seconds)
        return {"Upload-Expires": format_datetime(expires_at.astimezone(UTC), usegmt=True)}

    # --- parts

    async def append_part(self, request: Request) -> Response:
        validation.require_media_type(request, PART_MEDIA_TYPE)
        claimed, checksum = parse_offset(request), parse_checksum(request)
        async with self.locks.hold((await self._load_upload(request))["id"]) as stop:
            row, path = await self._find_upload(request.path_params["id"], request.principal.tenant)
            return tus_response(await self._append(request, row, path, claimed, checksum, stop))

    async def _append(
        self, request: Request, row: Row, path: Path, claimed: int, checksum: Checksum | None, stop: asyncio.Event
    ) -> dict[str, str]:
        """Append the request's body to an upload that is held; returns the headers of the response."""
        offset = await self._current_offset(row, path)
        if claimed != offset:
            raise ProblemError(
                "upload_offset", actual=f"{claimed:,}", expected=f"{offset:,}", headers={"Upload-Offset": str(offset)}
            )
        row = await self._announce_length(request, row, offset)
        length, slide_id = row["length"], row["slide"]
        if offset < length or length == DEFERRED:
            max_bytes = self.settings.max_upload_bytes if length == DEFERRED else length
            content_length = request.headers.get("content-length")
            if content_length is not None and offset + int(content_length) > max_bytes:
                raise too_large_problem(offset + int(content_length), max_bytes)
            offset = await self.part_writer.append(request, row, path, offset, checksum, stop)
        if offset == length and row["state"] == "open":
            slide_id = await self.intake.complete_upload(row, path, self.part_writer.pop_digest(row["id"]))
        headers = {"Upload-Offset": str(offset), "Slide-Id": slide_id}
        if slide_id != row["slide"]:
            headers["Idempotent-Replayed"] = "true"  # the same slide was sent before
        return headers | (self._expires_header(utc_now()) if offset != length else {})

    async def _announce_length(self, request: Request, row: Row, offset: int) -> Row:
        """The upload with its length, if this part announces a length that was deferred. Raises ProblemError."""
        header = request.headers.get("upload-length")
        if header is None or "upload-defer-length" in request.headers:
            return row
        length = parse_length(request, self.settings.max_upload_bytes)
        if row["length"] == length:
            return row
        if row["length"] != DEFERRED or length < offset:
            expected = f"{row['length']:,}" if row["length"] != DEFERRED else f"{offset:,} or more"
            raise bad_header_problem("Upload-Length", header, expected, expected)
        await self.context.write(lambda connection: upload_store.set_upload(connection, row["id"], length=length))
        return row | {"length": length}

    # --- termination

    async def terminate_upload(self, request: Request) -> Response:
        row = await self._load_upload(request)
        if row["state"] == "expired":
            raise ProblemError("upload_gone", actual="It was ended, or expired", actual_zh="已终止或过期")
        await self.intake.abort_upload(row, "cancelled", {"by": "termination of its upload"})
        self.part_writer.pop_digest(row["id"])
        return tus_response({})


def _has_body(request: Request) -> bool:
    """Whether a creation brings bytes. A body of unknown length may be empty: it counts only as what a part is sent
    as."""
    content_length = request.headers.get("content-length")
    if content_length is not None:
        return int(content_length) > 0
    return "transfer-encoding" in request.headers and request.media_type() == PART_MEDIA_TYPE


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
