"""Slides sent in parts that survive a cut: tus 1.0.0 with creation, termination, checksum and expiration.

The file on the disk rules: its length is the offset, whatever the store last heard, so a crash loses nothing that was
acknowledged. What came is verified as a whole against the SHA-256 that was announced, with the upload or after it.
https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import errno
import hashlib
import logging
import re
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from starlette.requests import ClientDisconnect

from datasets.errors import FieldError
from serving.core.db.errors import StoreUnavailableError
from serving.core.http import validation
from serving.core.http.problems import ProblemError
from serving.core.http.request import Request, Response
from serving.core.http.validation import find_json_ambiguity
from serving.core.identifiers import new_id, utc_now
from serving.pathology.context import ID_PATTERN, Row, SlideContext
from serving.pathology.slides import storage
from serving.pathology.slides import store as slide_store
from serving.pathology.upload import request_form
from serving.pathology.upload.intake import UploadIntake, add_mpp_event

logger = logging.getLogger("yuheng.uploads")

Handler = Callable[[Request], Awaitable[Response]]
VERSION = "1.0.0"
EXTENSIONS = "creation,termination,checksum,expiration"
ALGORITHMS = (
    "sha256",
    "sha1",
)  # tus asks for SHA-1 of whoever checks at all; it guards one part on its way, nothing more
PART_MEDIA_TYPE = "application/offset+octet-stream"
NUMBER_PATTERN = re.compile(r"[0-9]{1,18}", re.ASCII)
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
METADATA_FIELDS = ("filename", "sha256", "request", *request_form.REQUIRED_FIELDS, "mpp")


class TusRoutes:
    """One writer at a time for each upload; parts go to the disk as they come, so memory does not grow with them."""

    def __init__(self, context: SlideContext, intake: UploadIntake):
        self.context, self.intake = context, intake
        self.settings = context.settings.slides
        self.busy_uploads = intake.busy_uploads  # uploads that are being written, verified or removed
        self._digests: dict[
            str, tuple[int, hashlib._Hash]
        ] = {}  # of all bytes before an offset, while uploads are open

    def routes(self) -> dict[str, dict[str, Handler]]:
        handlers = {"HEAD": self.get_offset, "PATCH": self.append_part, "DELETE": self.terminate_upload}
        return {
            "/v1/uploads": {"POST": _require_tus(self.create_upload), "OPTIONS": self.get_options},
            "/v1/uploads/{id}": {method: _require_tus(handler) for method, handler in handlers.items()}
            | {"OPTIONS": self.get_options},
        }

    async def get_options(self, request: Request) -> Response:
        return _tus_response(
            {
                "Tus-Version": VERSION,
                "Tus-Extension": EXTENSIONS,
                "Tus-Max-Size": str(self.settings.max_upload_bytes),
                "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
            }
        )

    # --- creation

    async def create_upload(self, request: Request) -> Response:
        length = self._parse_length(request)
        await self.context.quota.check(request.principal.tenant)
        metadata = _parse_metadata(request)
        form, sha256, name = _parse_upload_form(metadata)
        digest = hashlib.sha256(f"{length} {request.headers.get('upload-metadata')}".encode()).hexdigest()
        upload_id, slide_id = new_id(), new_id()
        audit = await asyncio.to_thread(self.context.selected_for_audit, slide_id)
        tenant = request.principal.tenant
        columns: Row = {"tenant": tenant, "name": name, "sha256": sha256}
        free_bytes = await asyncio.to_thread(self._free_bytes)
        if free_bytes < length:
            raise ProblemError(
                "no_space",
                actual=f"{free_bytes:,} bytes are free, and {length:,} are announced",
                actual_zh=f"可用空间 {free_bytes:,} 字节，上传需要 {length:,} 字节",
            )

        def create_rows(connection: sa.Connection) -> Row:
            if (
                open_count := len(slide_store.list_uploads(connection, "open", tenant))
            ) >= self.settings.max_open_uploads:
                raise ProblemError(
                    "overloaded",
                    actual=f"{open_count} uploads are open, and no more may be",
                    actual_zh=f"已有 {open_count} 个上传未完成，不能再增加",
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
            raise _disk_full_problem(error, 0) from error
        finally:
            if replayed:  # refused, or begun by an earlier request
                await asyncio.to_thread(storage.remove_file, path)
        if not replayed:
            self.context.quota.add(tenant, 1)
        headers = {
            "Location": f"/v1/uploads/{result['upload']}",
            "Slide-Id": result["slide"],
            **self._expires_header(utc_now()),
        }
        return _tus_response(headers | ({"Idempotent-Replayed": "true"} if replayed else {}), 201)

    def _free_bytes(self) -> int:
        self.context.slides_dir.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.context.slides_dir).free

    def _parse_length(self, request: Request) -> int:
        header = request.headers.get("upload-length")
        if header is None or not NUMBER_PATTERN.fullmatch(header) or not int(header):
            expected = "the number of bytes, known beforehand and above 0,", "大于 0 且事先已知的字节数"
            raise _bad_header_problem("Upload-Length", header, *expected)
        if int(header) > self.settings.max_upload_bytes:
            raise _too_large_problem(int(header), self.settings.max_upload_bytes)
        return int(header)

    # --- what is there

    async def get_offset(self, request: Request) -> Response:
        row, path = await self._find_upload(request)
        if row["id"] in self.busy_uploads:
            raise _locked_problem(row["id"])
        offset = await self._current_offset(row, path)
        return _tus_response(
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

    async def _find_upload(self, request: Request) -> tuple[Row, Path]:
        """An upload that may go on or is done. Raises Problem."""
        upload_id = request.path_params["id"]
        row = (
            await self.context.read(slide_store.get_upload, upload_id, request.principal.tenant)
            if ID_PATTERN.fullmatch(upload_id)
            else None
        )
        if row is None or "reference" in row["metadata"]:
            raise ProblemError("unknown_upload", actual=repr(upload_id[:80]))
        if row["state"] == "failed":
            raise ProblemError(
                "upload_gone", actual="Its SHA-256 was not the one announced", actual_zh="其 SHA-256 与声明不符"
            )
        if row["state"] == "expired":
            raise ProblemError("upload_gone", actual="It was ended, or expired", actual_zh="已终止或过期")
        slide = await self.context.read(slide_store.get, row["slide"])
        assert slide is not None, "the store holds an upload's slide"
        if row["state"] == "open" and slide["state"] != "uploading":
            raise ProblemError("upload_gone", actual=f"Its slide is {slide['state']}", actual_zh="其切片已不在上传中")
        return row, storage.quarantine_path(self.context.slides_dir, row["slide"], slide["name"])

    async def _current_offset(self, row: Row, path: Path) -> int:
        """Bytes on the disk; of one that is done, all, wherever they are by now."""
        size = None if row["state"] == "done" else await asyncio.to_thread(storage.size_or_none, path)
        if size is None and row["state"] == "open":
            raise ProblemError(
                "upload_gone", actual="What came of it is not there any more", actual_zh="已收内容不复存在"
            )
        return int(row["length"] if size is None else min(size, row["length"]))

    def _expires_header(self, updated: str) -> dict[str, str]:
        expires_at = datetime.fromisoformat(updated) + timedelta(seconds=self.settings.upload_expires_seconds)
        return {"Upload-Expires": format_datetime(expires_at.astimezone(UTC), usegmt=True)}

    # --- a part

    async def append_part(self, request: Request) -> Response:
        validation.require_media_type(request, PART_MEDIA_TYPE)
        header = request.headers.get("upload-offset")
        if header is None or not NUMBER_PATTERN.fullmatch(header):
            raise _bad_header_problem("Upload-Offset", header, "a number of bytes", "字节数")
        checksum = _parse_checksum(request)
        row, path = await self._find_upload(request)
        upload_id, slide_id, length = row["id"], row["slide"], row["length"]
        if upload_id in self.busy_uploads:
            raise _locked_problem(upload_id)
        self.busy_uploads.add(upload_id)  # nothing was awaited since it was looked for
        try:
            offset = await self._current_offset(row, path)
            if int(header) != offset:
                raise _offset_problem(header, offset)
            if offset < length:
                content_length = request.headers.get("content-length")
                if content_length is not None and offset + int(content_length) > length:
                    raise _too_large_problem(offset + int(content_length), length)
                offset = await self._append(request, row, path, offset, checksum)
            if offset == length and row["state"] == "open":
                _, digest = self._digests.pop(upload_id, (0, None))
                slide_id = await self.intake.complete_upload(row, path, digest)
        finally:
            self.busy_uploads.discard(upload_id)
        headers = {"Upload-Offset": str(offset), "Slide-Id": slide_id}
        if slide_id != row["slide"]:
            headers["Idempotent-Replayed"] = "true"  # the same was sent before
        return _tus_response(headers | (self._expires_header(utc_now()) if offset < length else {}))

    async def _append(
        self, request: Request, row: Row, path: Path, start: int, checksum: tuple[hashlib._Hash, bytes] | None
    ) -> int:
        """The new offset, synced to disk and told to the store. Raises Problem or ClientGone; what came stays, but for
        a part whose checksum is wrong or cannot be told."""
        digest_state = self._digests.pop(row["id"], (0, hashlib.sha256()))
        try:
            file = await asyncio.to_thread(
                storage.AppendFile, path, start, digest_state[1] if digest_state[0] == start else None
            )
        except OSError as error:
            raise _disk_full_problem(error, start) from error
        failure: ProblemError | ClientDisconnect | None = None
        try:
            try:
                await self._receive_part(request, file, row["length"], checksum)
            except (ProblemError, ClientDisconnect) as error:
                failure = error
            except OSError as error:
                failure = _disk_full_problem(error, file.position)
            if checksum is not None and (failure is not None or checksum[0].digest() != checksum[1]):
                failure = failure or _checksum_mismatch(checksum)
                await asyncio.to_thread(file.truncate)
                self._digests[row["id"]] = digest_state
            try:
                await asyncio.to_thread(file.sync)
            except OSError as error:
                raise _disk_full_problem(error, start) from error
        finally:
            file.close()
        if file.digest is not None:
            self._digests[row["id"]] = (file.position, file.digest)
        while len(self._digests) > self.settings.max_open_uploads:  # what is forgotten here is read again from the file
            del self._digests[next(iter(self._digests))]
        try:
            await self.context.write(
                lambda connection: slide_store.set_upload(connection, row["id"], offset=file.position)
            )
        except StoreUnavailableError as error:
            if failure is None:
                raise
            logger.warning(
                "upload %s stands at %d, which the store could not be told: %s", row["id"], file.position, error
            )
        if failure is not None:
            raise failure
        return file.position

    async def _receive_part(
        self, request: Request, file: storage.AppendFile, length: int, checksum: tuple[hashlib._Hash, bytes] | None
    ) -> None:
        """A block at a time. Raises Problem, ClientGone, or OSError where the disk takes no more."""
        buffer, more = bytearray(), True
        failure: ProblemError | ClientDisconnect | None = None
        while more and failure is None:
            try:
                async with asyncio.timeout(self.settings.upload_idle_timeout_seconds):
                    message = await request.receive()
            except TimeoutError:
                seconds = self.settings.upload_idle_timeout_seconds
                failure = ProblemError("slow_request", expected=f"{seconds:g} s", expected_zh=f"{seconds:g} 秒")
                message = {}
            if message.get("type") == "http.disconnect":
                failure = ClientDisconnect()
            buffer += message.get("body", b"")
            more = message.get("more_body", False)
            if file.position + len(buffer) > length:
                failure = _too_large_problem(file.position + len(buffer), length)
                del buffer[length - file.position :]
            if len(buffer) >= storage.CHUNK_BYTES or not more or failure is not None:
                chunk = bytes(buffer)
                buffer.clear()
                if checksum is not None:
                    checksum[0].update(chunk)
                await asyncio.to_thread(file.write, chunk)
        if failure is not None:
            raise failure

    # --- an end

    async def terminate_upload(self, request: Request) -> Response:
        upload_id = request.path_params["id"]
        row = (
            await self.context.read(slide_store.get_upload, upload_id, request.principal.tenant)
            if ID_PATTERN.fullmatch(upload_id)
            else None
        )
        if row is None or "reference" in row["metadata"]:
            raise ProblemError("unknown_upload", actual=repr(upload_id[:80]))
        if row["state"] == "expired":
            raise ProblemError("upload_gone", actual="It was ended, or expired", actual_zh="已终止或过期")
        if row["id"] in self.busy_uploads:
            raise _locked_problem(row["id"])
        self._digests.pop(row["id"], None)
        await self.intake.abort_upload(row, "cancelled", {"by": "termination of its upload"})
        return _tus_response({})


def _require_tus(handler: Handler) -> Handler:
    """Its version is asked for and told with every answer, refusals among them."""

    async def checked_handler(request: Request) -> Response:
        version = request.headers.get("tus-resumable")
        try:
            if version != VERSION:
                actual = repr(version[:40]) if version is not None else "not given"
                raise ProblemError("tus_version", actual=actual, expected=VERSION, headers={"Tus-Version": VERSION})
            return await handler(request)
        except ProblemError as problem:
            problem.headers["Tus-Resumable"] = VERSION
            raise

    return checked_handler


def _tus_response(headers: dict[str, str], status: int = 204) -> Response:
    return Response(status_code=status, headers={"Tus-Resumable": VERSION, **headers})


def _parse_metadata(request: Request) -> dict[str, str]:
    """Upload-Metadata: names and Base64 values, commas between. Raises Problem."""
    header = request.headers.get("upload-metadata")
    metadata: dict[str, str] = {}
    expected = "names, each with a value in Base64 of UTF-8, commas between,", "以逗号分隔的名称与 Base64（UTF-8）值"
    for item in header.split(",") if header else ():
        name, _, value = item.strip().partition(" ")
        try:
            decoded = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise _bad_header_problem("Upload-Metadata", item, *expected) from error
        if not name or name in metadata:
            raise _bad_header_problem("Upload-Metadata", item, *expected)
        metadata[name] = decoded
    return metadata


def _parse_upload_form(metadata: dict[str, str]) -> tuple[request_form.RequestForm | None, str | None, str]:
    """(request form where there is any, SHA-256 where announced, clean name). Raises Problem, with all faults."""
    allowed_text = ", ".join(METADATA_FIELDS)
    form_payload: dict[str, Any] = {
        name: metadata[name] for name in (*request_form.REQUIRED_FIELDS, "mpp") if name in metadata
    }
    errors = [
        FieldError(validation.shorten(name), "not known", f"one of {allowed_text}", f"{allowed_text} 之一") for name in metadata
        if name not in (*METADATA_FIELDS, "filetype", "name", "type")  # which browsers' clients add
    ]  # fmt: skip
    if "request" in metadata:
        try:
            request_json = orjson.loads(metadata["request"])
        except orjson.JSONDecodeError:
            request_json = None
        if isinstance(request_json, dict):
            if ambiguity := find_json_ambiguity(metadata["request"].encode(), request_json):
                errors.append(FieldError("request", ambiguity[0], "each name once", "每个名称只出现一次"))
            errors += [
                FieldError(name, "given twice, and differently", "one value", "一个值")
                for name in form_payload
                if name in request_json and str(request_json[name]) != form_payload[name]
            ]
            form_payload = request_json | {
                name: value for name, value in form_payload.items() if name not in request_json
            }
        else:
            errors.append(
                FieldError("request", "no JSON object", "the request form as a JSON object", "JSON 对象形式的申请单")
            )
    sha256 = metadata.get("sha256")
    if sha256 is not None:
        errors += validation.SHA256.errors("sha256", sha256)
    form = None
    if form_payload:
        form, form_errors = request_form.validate(request_form.parse_mpp(form_payload))
        errors += form_errors
    if errors:
        raise ProblemError("invalid_request", errors=errors)
    return form, sha256, storage.sanitize_name(metadata.get("filename") or metadata.get("name") or "slide")


def _parse_checksum(request: Request) -> tuple[hashlib._Hash, bytes] | None:
    """(a digest to update, what it must be). Raises Problem."""
    header = request.headers.get("upload-checksum")
    if header is None:
        return None
    algorithm, _, value = header.partition(" ")
    expected = f"one of {', '.join(ALGORITHMS)} and the digest in Base64", f"{'、'.join(ALGORITHMS)} 之一及 Base64 摘要"
    if algorithm not in ALGORITHMS:
        raise _bad_header_problem("Upload-Checksum", header, *expected)
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with suppress(binascii.Error, ValueError):
        if len(expected_digest := base64.b64decode(value, validate=True)) == digest.digest_size:
            return digest, expected_digest
    raise _bad_header_problem("Upload-Checksum", header, *expected)


def _checksum_mismatch(checksum: tuple[hashlib._Hash, bytes]) -> ProblemError:
    actual, algorithm = checksum[0].hexdigest(), checksum[0].name
    return ProblemError(
        "upload_checksum",
        actual=f"{algorithm} of the part is {actual}",
        actual_zh=f"分段的 {algorithm} 为 {actual}",
        expected=checksum[1].hex(),
    )


def _bad_header_problem(name: str, value: str | None, expected: str, expected_zh: str) -> ProblemError:
    actual = "not given" if value is None else repr(value[:80])
    return ProblemError(
        "bad_header",
        actual=f"{name} is {actual}",
        actual_zh=f"{name} 为 {actual}",
        expected=expected,
        expected_zh=expected_zh,
    )


def _too_large_problem(actual_bytes: int, max_bytes: int) -> ProblemError:
    return ProblemError(
        "upload_too_large",
        actual=f"{actual_bytes:,} bytes",
        actual_zh=f"{actual_bytes:,} 字节",
        expected=f"{max_bytes:,} bytes",
        expected_zh=f"{max_bytes:,} 字节",
    )


def _offset_problem(claimed: str, offset: int) -> ProblemError:
    return ProblemError("upload_offset", actual=claimed, expected=f"{offset:,}", headers={"Upload-Offset": str(offset)})


def _locked_problem(upload_id: str) -> ProblemError:
    return ProblemError("upload_locked", actual=upload_id)


def _disk_full_problem(error: OSError, offset: int) -> ProblemError:
    if error.errno not in DISK_FULL_ERRNOS:
        raise StoreUnavailableError("failed", f"the upload cannot be kept: {error.strerror}") from error
    return ProblemError(
        "no_space",
        actual=f"The disk takes no more ({error.strerror})",
        actual_zh=f"磁盘写入失败（{error.strerror}）",
        headers={"Upload-Offset": str(offset)},
    )
