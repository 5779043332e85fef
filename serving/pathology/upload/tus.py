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

from datasets.errors import Fault
from serving.core.db.engine import StoreUnavailable
from serving.core.http import validation
from serving.core.http.problems import Problem
from serving.core.http.request import Call, ClientGone, Reply
from serving.core.http.validation import unclear
from serving.core.identifiers import new_id, now
from serving.pathology.context import ID, Desk, Row
from serving.pathology.slides import storage
from serving.pathology.slides import store as slides
from serving.pathology.upload import request_form
from serving.pathology.upload.intake import Arrivals, note_scale

log = logging.getLogger("yuheng.uploads")

Handler = Callable[[Call], Awaitable[Reply]]
VERSION = "1.0.0"
EXTENSIONS = "creation,termination,checksum,expiration"
ALGORITHMS = (
    "sha256",
    "sha1",
)  # tus asks for SHA-1 of whoever checks at all; it guards one part on its way, nothing more
PART = "application/offset+octet-stream"
NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
METADATA = ("filename", "sha256", "request", *request_form.NEEDED, "mpp")


class Uploads:
    """One writer at a time for each upload; parts go to the disk as they come, so memory does not grow with them."""

    def __init__(self, desk: Desk, arrivals: Arrivals):
        self.desk, self.arrivals = desk, arrivals
        self.settings = desk.settings.slides
        self.busy = arrivals.busy  # uploads that are being written, verified or removed
        self._digests: dict[
            str, tuple[int, hashlib._Hash]
        ] = {}  # of all bytes before an offset, while uploads are open

    def routes(self) -> dict[str, dict[str, Handler]]:
        one = {"HEAD": self.head, "PATCH": self.patch, "DELETE": self.delete}
        return {
            "/v1/uploads": {"POST": _tus(self.create), "OPTIONS": self.options},
            "/v1/uploads/{id}": {method: _tus(handler) for method, handler in one.items()} | {"OPTIONS": self.options},
        }

    async def options(self, call: Call) -> Reply:
        return _reply(
            {
                "Tus-Version": VERSION,
                "Tus-Extension": EXTENSIONS,
                "Tus-Max-Size": str(self.settings.upload),
                "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
            }
        )

    # --- creation

    async def create(self, call: Call) -> Reply:
        length = self._length(call)
        await self.desk.quota.check(call.caller.tenant)
        metadata = _metadata(call)
        told, sha256, name = _told(metadata)
        digest = hashlib.sha256(f"{length} {call.header(b'upload-metadata')}".encode()).hexdigest()
        upload, slide = new_id(), new_id()
        audit = await asyncio.to_thread(self.desk.audited, slide)
        tenant = call.caller.tenant
        columns: Row = {"tenant": tenant, "name": name, "sha256": sha256}
        free = await asyncio.to_thread(self._free)
        if free < length:
            raise Problem(
                "no_space",
                found=f"{free:,} bytes are free, and {length:,} are announced",
                found_zh=f"可用空间 {free:,} 字节，上传需要 {length:,} 字节",
            )

        def work(connection: sa.Connection) -> Row:
            if (found := len(slides.uploads(connection, "open", tenant))) >= self.settings.uploads:
                raise Problem(
                    "overloaded",
                    found=f"{found} uploads are open, and no more may be",
                    found_zh=f"已有 {found} 个上传未完成，不能再增加",
                )
            slides.create(connection, slide, audit=audit, **columns, **(told.columns() if told is not None else {}))
            slides.create_upload(connection, upload, slide, length, sha256, metadata)
            if told is not None:
                note_scale(connection, slide, told)
            return {"upload": upload, "slide": slide}

        path, again = storage.quarantine(self.desk.slides, slide, name), True
        try:
            await asyncio.to_thread(storage.begin, path)
            said, again = await self.desk.once(call, "/v1/uploads", digest, work)
        except OSError as error:
            raise _no_space(error, 0) from error
        finally:
            if again:  # refused, or begun by an earlier request
                await asyncio.to_thread(storage.remove, path)
        if not again:
            self.desk.quota.add(tenant, 1)
        headers = {"Location": f"/v1/uploads/{said['upload']}", "Slide-Id": said["slide"], **self._expires(now())}
        return _reply(headers | ({"Idempotent-Replayed": "true"} if again else {}), 201)

    def _free(self) -> int:
        self.desk.slides.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.desk.slides).free

    def _length(self, call: Call) -> int:
        told = call.header(b"upload-length")
        if told is None or not NUMBER.fullmatch(told) or not int(told):
            needed = "the number of bytes, known beforehand and above 0,", "大于 0 且事先已知的字节数"
            raise _bad_header("Upload-Length", told, *needed)
        if int(told) > self.settings.upload:
            raise _too_large(int(told), self.settings.upload)
        return int(told)

    # --- what is there

    async def head(self, call: Call) -> Reply:
        row, path = await self._open(call)
        if row["id"] in self.busy:
            raise _locked(row["id"])
        offset = await self._offset(row, path)
        return _reply({"Upload-Offset": str(offset), "Upload-Length": str(row["length"])} | self._told_of(row), 200)

    def _told_of(self, row: Row) -> dict[str, str]:
        metadata = {name: base64.b64encode(value.encode()).decode() for name, value in row["metadata"].items()}
        told = {"Upload-Metadata": ",".join(f"{name} {value}" for name, value in metadata.items())} if metadata else {}
        return told | {"Slide-Id": row["slide"]} | ({} if row["state"] == "done" else self._expires(row["updated"]))

    async def _open(self, call: Call) -> tuple[Row, Path]:
        """An upload that may go on or is done. Raises Problem."""
        wanted = call.path[0]
        row = await self.desk.read(slides.upload, wanted, call.caller.tenant) if ID.fullmatch(wanted) else None
        if row is None or "reference" in row["metadata"]:
            raise Problem("unknown_upload", found=repr(wanted[:80]))
        if row["state"] == "failed":
            raise Problem(
                "upload_gone", found="Its SHA-256 was not the one announced", found_zh="其 SHA-256 与声明不符"
            )
        if row["state"] == "expired":
            raise Problem("upload_gone", found="It was ended, or expired", found_zh="已终止或过期")
        slide = await self.desk.read(slides.get, row["slide"])
        assert slide is not None, "the store holds an upload's slide"
        if row["state"] == "open" and slide["state"] != "uploading":
            raise Problem("upload_gone", found=f"Its slide is {slide['state']}", found_zh="其切片已不在上传中")
        return row, storage.quarantine(self.desk.slides, row["slide"], slide["name"])

    async def _offset(self, row: Row, path: Path) -> int:
        """Bytes on the disk; of one that is done, all, wherever they are by now."""
        found = None if row["state"] == "done" else await asyncio.to_thread(storage.size, path)
        if found is None and row["state"] == "open":
            raise Problem("upload_gone", found="What came of it is not there any more", found_zh="已收内容不复存在")
        return int(row["length"] if found is None else min(found, row["length"]))

    def _expires(self, updated: str) -> dict[str, str]:
        end = datetime.fromisoformat(updated) + timedelta(seconds=self.settings.upload_expires_seconds)
        return {"Upload-Expires": format_datetime(end.astimezone(UTC), usegmt=True)}

    # --- a part

    async def patch(self, call: Call) -> Reply:
        if call.media_type() != PART:
            raise Problem("unsupported_media_type", found=repr(call.media_type() or ""), needed=PART)
        told = call.header(b"upload-offset")
        if told is None or not NUMBER.fullmatch(told):
            raise _bad_header("Upload-Offset", told, "a number of bytes", "字节数")
        check = _checksum(call)
        row, path = await self._open(call)
        upload, slide, length = row["id"], row["slide"], row["length"]
        if upload in self.busy:
            raise _locked(upload)
        self.busy.add(upload)  # nothing was awaited since it was looked for
        try:
            offset = await self._offset(row, path)
            if int(told) != offset:
                raise _offset_problem(told, offset)
            if offset < length:
                announced = call.header(b"content-length")
                if announced is not None and offset + int(announced) > length:
                    raise _too_large(offset + int(announced), length)
                offset = await self._append(call, row, path, offset, check)
            if offset == length and row["state"] == "open":
                _, digest = self._digests.pop(upload, (0, None))
                slide = await self.arrivals.complete(row, path, digest)
        finally:
            self.busy.discard(upload)
        headers = {"Upload-Offset": str(offset), "Slide-Id": slide}
        if slide != row["slide"]:
            headers["Idempotent-Replayed"] = "true"  # the same was sent before
        return _reply(headers | (self._expires(now()) if offset < length else {}))

    async def _append(
        self, call: Call, row: Row, path: Path, start: int, check: tuple[hashlib._Hash, bytes] | None
    ) -> int:
        """The new offset, synced to disk and told to the store. Raises Problem or ClientGone; what came stays, but for
        a part whose checksum is wrong or cannot be told."""
        known = self._digests.pop(row["id"], (0, hashlib.sha256()))
        try:
            file = await asyncio.to_thread(storage.Growing, path, start, known[1] if known[0] == start else None)
        except OSError as error:
            raise _no_space(error, start) from error
        ended: Problem | ClientGone | None = None
        try:
            try:
                await self._receive(call, file, row["length"], check)
            except (Problem, ClientGone) as error:
                ended = error
            except OSError as error:
                ended = _no_space(error, file.at)
            if check is not None and (ended is not None or check[0].digest() != check[1]):
                ended = ended or _wrong_part(check)
                await asyncio.to_thread(file.take_back)
                self._digests[row["id"]] = known
            try:
                await asyncio.to_thread(file.sync)
            except OSError as error:
                raise _no_space(error, start) from error
        finally:
            file.close()
        if file.digest is not None:
            self._digests[row["id"]] = (file.at, file.digest)
        while len(self._digests) > self.settings.uploads:  # what is forgotten here is read again from the file
            del self._digests[next(iter(self._digests))]
        try:
            await self.desk.write(lambda connection: slides.set_upload(connection, row["id"], offset=file.at))
        except StoreUnavailable as error:
            if ended is None:
                raise
            log.warning("upload %s stands at %d, which the store could not be told: %s", row["id"], file.at, error)
        if ended is not None:
            raise ended
        return file.at

    async def _receive(
        self, call: Call, file: storage.Growing, length: int, check: tuple[hashlib._Hash, bytes] | None
    ) -> None:
        """A block at a time. Raises Problem, ClientGone, or OSError where the disk takes no more."""
        waiting, more = bytearray(), True
        ended: Problem | ClientGone | None = None
        while more and ended is None:
            try:
                async with asyncio.timeout(self.settings.upload_idle_seconds):
                    message = await call.receive()
            except TimeoutError:
                seconds = self.settings.upload_idle_seconds
                ended = Problem("slow_request", needed=f"{seconds:g} s", needed_zh=f"{seconds:g} 秒")
                message = {}
            if message.get("type") == "http.disconnect":
                ended = ClientGone()
            waiting += message.get("body", b"")
            more = message.get("more_body", False)
            if file.at + len(waiting) > length:
                ended = _too_large(file.at + len(waiting), length)
                del waiting[length - file.at :]
            if len(waiting) >= storage.BLOCK or not more or ended is not None:
                part = bytes(waiting)
                waiting.clear()
                if check is not None:
                    check[0].update(part)
                await asyncio.to_thread(file.write, part)
        if ended is not None:
            raise ended

    # --- an end

    async def delete(self, call: Call) -> Reply:
        wanted = call.path[0]
        row = await self.desk.read(slides.upload, wanted, call.caller.tenant) if ID.fullmatch(wanted) else None
        if row is None or "reference" in row["metadata"]:
            raise Problem("unknown_upload", found=repr(wanted[:80]))
        if row["state"] == "expired":
            raise Problem("upload_gone", found="It was ended, or expired", found_zh="已终止或过期")
        if row["id"] in self.busy:
            raise _locked(row["id"])
        self._digests.pop(row["id"], None)
        await self.arrivals.end(row, "cancelled", {"by": "termination of its upload"})
        return _reply({})


def _tus(handler: Handler) -> Handler:
    """Its version is asked for and told with every answer, refusals among them."""

    async def asked(call: Call) -> Reply:
        told = call.header(b"tus-resumable")
        try:
            if told != VERSION:
                found = repr(told[:40]) if told is not None else "not given"
                raise Problem("tus_version", found=found, needed=VERSION, headers={"Tus-Version": VERSION})
            return await handler(call)
        except Problem as problem:
            problem.headers["Tus-Resumable"] = VERSION
            raise

    return asked


def _reply(headers: dict[str, str], status: int = 204) -> Reply:
    return Reply(b"", status, headers={"Tus-Resumable": VERSION, **headers})


def _metadata(call: Call) -> dict[str, str]:
    """Upload-Metadata: names and Base64 values, commas between. Raises Problem."""
    told = call.header(b"upload-metadata")
    found: dict[str, str] = {}
    needed = "names, each with a value in Base64 of UTF-8, commas between,", "以逗号分隔的名称与 Base64（UTF-8）值"
    for item in told.split(",") if told else ():
        name, _, value = item.strip().partition(" ")
        try:
            decoded = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise _bad_header("Upload-Metadata", item, *needed) from error
        if not name or name in found:
            raise _bad_header("Upload-Metadata", item, *needed)
        found[name] = decoded
    return found


def _told(metadata: dict[str, str]) -> tuple[request_form.Form | None, str | None, str]:
    """(request form where there is any, SHA-256 where announced, clean name). Raises Problem, with all faults."""
    known = ", ".join(METADATA)
    asked: dict[str, Any] = {name: metadata[name] for name in (*request_form.NEEDED, "mpp") if name in metadata}
    faults = [
        Fault(validation.shown(name), "not known", f"one of {known}", f"{known} 之一") for name in metadata
        if name not in (*METADATA, "filetype", "name", "type")  # which browsers' clients add
    ]  # fmt: skip
    if "request" in metadata:
        try:
            whole = orjson.loads(metadata["request"])
        except orjson.JSONDecodeError:
            whole = None
        if isinstance(whole, dict):
            if doubt := unclear(metadata["request"].encode(), whole):
                faults.append(Fault("request", doubt[0], "each name once", "每个名称只出现一次"))
            faults += [
                Fault(name, "given twice, and differently", "one value", "一个值")
                for name in asked
                if name in whole and str(whole[name]) != asked[name]
            ]
            asked = whole | {name: value for name, value in asked.items() if name not in whole}
        else:
            faults.append(
                Fault("request", "no JSON object", "the request form as a JSON object", "JSON 对象形式的申请单")
            )
    sha256 = metadata.get("sha256")
    if sha256 is not None:
        faults += validation.sha256(sha256)
    told = None
    if asked:
        told, wrong = request_form.read(request_form.numbers(asked))
        faults += wrong
    if faults:
        raise Problem("invalid_request", errors=faults)
    return told, sha256, storage.clean_name(metadata.get("filename") or metadata.get("name") or "slide")


def _checksum(call: Call) -> tuple[hashlib._Hash, bytes] | None:
    """(a digest to update, what it must be). Raises Problem."""
    told = call.header(b"upload-checksum")
    if told is None:
        return None
    name, _, value = told.partition(" ")
    needed = f"one of {', '.join(ALGORITHMS)} and the digest in Base64", f"{'、'.join(ALGORITHMS)} 之一及 Base64 摘要"
    if name not in ALGORITHMS:
        raise _bad_header("Upload-Checksum", told, *needed)
    digest = hashlib.new(name, usedforsecurity=False)
    with suppress(binascii.Error, ValueError):
        if len(found := base64.b64decode(value, validate=True)) == digest.digest_size:
            return digest, found
    raise _bad_header("Upload-Checksum", told, *needed)


def _wrong_part(check: tuple[hashlib._Hash, bytes]) -> Problem:
    found, name = check[0].hexdigest(), check[0].name
    return Problem(
        "upload_checksum",
        found=f"{name} of the part is {found}",
        found_zh=f"分段的 {name} 为 {found}",
        needed=check[1].hex(),
    )


def _bad_header(name: str, told: str | None, needed: str, needed_zh: str) -> Problem:
    found = "not given" if told is None else repr(told[:80])
    return Problem(
        "bad_header", found=f"{name} is {found}", found_zh=f"{name} 为 {found}", needed=needed, needed_zh=needed_zh
    )


def _too_large(found: int, most: int) -> Problem:
    return Problem(
        "upload_too_large",
        found=f"{found:,} bytes",
        found_zh=f"{found:,} 字节",
        needed=f"{most:,} bytes",
        needed_zh=f"{most:,} 字节",
    )


def _offset_problem(told: str, offset: int) -> Problem:
    return Problem("upload_offset", found=told, needed=f"{offset:,}", headers={"Upload-Offset": str(offset)})


def _locked(upload: str) -> Problem:
    return Problem("upload_locked", found=upload)


def _no_space(error: OSError, at: int) -> Problem:
    if error.errno not in NO_ROOM:
        raise StoreUnavailable("failed", f"the upload cannot be kept: {error.strerror}") from error
    return Problem(
        "no_space",
        found=f"The disk takes no more ({error.strerror})",
        found_zh=f"磁盘写入失败（{error.strerror}）",
        headers={"Upload-Offset": str(at)},
    )
