"""Complete uploads: verify their SHA-256, hand their slides to the workers, and remove expired uploads.

A slide proceeds once three things are there, in any order: all its bytes, its request form, and its SHA-256, which is
implied where that of each of its files was announced.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from serving.core.db.errors import StoreUnavailableError
from serving.core.http.problems import PROBLEM_TYPES, ProblemError
from serving.pathology.context import Row, SlideContext, state_problem
from serving.pathology.slides import storage, upload_store
from serving.pathology.slides import store as slide_store
from serving.pathology.upload import groups
from serving.pathology.upload.locks import UploadLocks
from serving.pathology.upload.metadata import known_fields
from serving.pathology.upload.request_form import RequestForm

logger = logging.getLogger("yuheng.arrivals")

UPLOAD_EXPIRED = {
    "code": "upload_expired",
    "en": "The upload made no progress for too long, and the part that was received was removed. Send the slide again.",
    "zh": "上传长时间无进展，已接收的内容已清除。请重新上传。",
}
REFERENCE_UNREADABLE = {
    "code": "reference",
    "en": "The inbox file named by the request can no longer be read. Put it there again and repeat the request.",
    "zh": "请求所指的收件箱文件已无法读取。请重新放入后再次提交。",
}
NO_SPACE = {
    "code": "no_space",
    "en": "The disk is full; the slide is retried automatically. Free disk space.",
    "zh": "磁盘空间不足；将自动重试。请清理磁盘。",
}


class UploadIntake:
    """locks: of the uploads that are being written, verified or removed."""

    def __init__(self, context: SlideContext):
        self.context = context
        self.settings = context.settings.slides
        self.locks = UploadLocks()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweep_task: asyncio.Task[None] | None = None
        self._copy_lock = asyncio.Semaphore(1)  # one at a time, because the disk is the bottleneck

    def start(self) -> None:
        """Sweep every `sweep_seconds` from now on."""
        self._sweep_task = asyncio.get_running_loop().create_task(self._sweep_loop())

    def stop(self) -> None:
        for task in (*self._tasks, *((self._sweep_task,) if self._sweep_task else ())):
            task.cancel()

    # --- bytes, form and SHA-256

    async def complete_upload(self, row: Row, path: Path, digest: hashlib._Hash | None = None) -> str:
        """Record that all bytes of an upload are on the disk.

        Returns the id of their slide, which is an earlier one if the same slide was sent before. Raises ProblemError if
        the SHA-256 is not the announced one.
        """
        if digest is None:
            digest = await asyncio.to_thread(storage.sha256_of, path)
        sha256 = digest.hexdigest()
        size = await asyncio.to_thread(storage.size_or_none, path)
        quiet_since = self._quiet_since()

        def finish_upload(connection: sa.Connection) -> ProblemError | str:
            upload = upload_store.get_upload(connection, row["id"])
            if upload is None or upload["state"] != "open":  # its slide was cancelled meanwhile
                return ProblemError("upload_gone", actual="It was ended, or expired", actual_zh="已终止或过期")
            received = {"offset": size, "received_sha256": sha256, "metadata": known_fields(row["metadata"])}
            upload_store.set_upload(connection, row["id"], state="done", **received)
            if row["path"] is not None and row["sha256"] not in (None, sha256):
                return _fail_sha256(connection, row["slide"], sha256, row["sha256"])
            content = groups.find_content(connection, row["slide"], quiet_since)
            if content is None:
                slide_store.add_event(connection, row["slide"], {"code": "file", "sha256": sha256, "bytes": size})
                return str(row["slide"])
            return _record_arrival(connection, row["slide"], content)

        return await self._resolve_outcome(row["slide"], await self.context.write(finish_upload))

    def _quiet_since(self) -> str:
        """A series whose newest file is older than this time is complete."""
        return utc_before(self.settings.series_quiet_seconds)

    async def attach_form(self, row: Row, form: RequestForm, sha256: str | None) -> str:
        """Record the form and SHA-256 of a slide that is being uploaded; returns and raises as `complete_upload`.

        sha256: None where it is implied.
        """
        quiet_since = self._quiet_since()

        def store_form(connection: sa.Connection) -> ProblemError | str:
            slide = slide_store.get(connection, row["slide"])
            assert slide is not None, "the store holds an upload's slide"
            if slide["state"] != "uploading":
                return state_problem(slide["state"], "verifying")
            notes = [*slide["notes"], *_accession_notes(slide["accession"], form.request["accession"])]
            add_form(connection, slide["id"], form, sha256 or slide["sha256"], notes=notes)
            if row["path"] is None:
                upload_store.set_upload(connection, row["id"], sha256=sha256)
            content = groups.find_content(connection, slide["id"], quiet_since)
            return str(slide["id"]) if content is None else _record_arrival(connection, slide["id"], content)

        return await self._resolve_outcome(row["slide"], await self.context.write(store_form))

    async def _resolve_outcome(self, slide_id: str, outcome: ProblemError | str) -> str:
        if isinstance(outcome, ProblemError):
            raise outcome
        if outcome != slide_id:
            await self._remove_quarantined(slide_id)
        return outcome

    async def _remove_quarantined(self, slide_id: str) -> None:
        await asyncio.to_thread(storage.remove_quarantine, self.context.slides_dir, slide_id)

    # --- copies of inbox files

    def start_copy(self, upload_id: str) -> None:
        """Copy an inbox file into quarantine in the background."""
        task = asyncio.get_running_loop().create_task(self._copy_reference(upload_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _copy_reference(self, upload_id: str) -> None:
        if self.locks.is_held(upload_id):
            return
        try:
            async with self.locks.hold(upload_id), self._copy_lock:
                row = await self.context.read(upload_store.get_upload, upload_id)
                slide = None if row is None else await self.context.read(slide_store.get, row["slide"])
                if row is None or slide is None or row["state"] != "open" or slide["state"] != "uploading":
                    return
                path = storage.quarantine_path(self.context.slides_dir, slide["id"], slide["name"])
                inbox = self.context.inbox(slide["tenant"])
                try:
                    digest = await asyncio.to_thread(_copy_inbox_file, inbox, row["metadata"]["reference"], path)
                except storage.OutsideInboxError:
                    await self._abort(row, "failed", reasons=[REFERENCE_UNREADABLE])
                    return
                except OSError as error:
                    logger.warning("slide %s: copying failed and is retried: %s", slide["id"], error)
                    await self._add_event_once(slide["id"], NO_SPACE)
                    return
                with suppress(ProblemError):  # a wrong SHA-256 is recorded in the slide's state
                    await self.complete_upload(row, path, digest)
        except StoreUnavailableError as error:
            logger.warning("upload %s is retried later: %s", upload_id, error)

    async def _add_event_once(self, slide_id: str, detail: dict[str, str]) -> None:
        events = await self.context.read(slide_store.events_after, slide_id)
        if not events or events[-1]["detail"].get("code") != detail["code"]:
            await self.context.write(lambda connection: slide_store.add_event(connection, slide_id, dict(detail)))

    # --- abandoned uploads

    async def abort_upload(self, row: Row, target: str, detail: Row | None = None, **columns: Any) -> None:
        """End an upload and its slide with all its uploads, and remove their bytes. Raises ProblemError if the slide
        has proceeded already."""
        async with self.locks.hold(row["id"]):
            await self._abort(row, target, detail, **columns)

    async def _abort(self, row: Row, target: str, detail: Row | None = None, **columns: Any) -> None:
        def mark_aborted(connection: sa.Connection) -> None:
            slide = slide_store.get(connection, row["slide"])
            assert slide is not None, "the store holds an upload's slide"
            name = storage.neutral_name(slide["name"])
            if slide["state"] not in slide_store.REUSABLE_STATES:
                if slide["state"] != "uploading":
                    raise state_problem(slide["state"], "verifying")
                slide_store.transition(connection, slide["id"], target, detail, name=name, **columns)
            elif slide["name"] != name:
                slide_store.add_event(connection, slide["id"], {"code": "file_removed"}, name=name)
            upload_store.end_uploads(connection, row["slide"], "expired")
            upload_store.forget_names(connection, row["slide"])

        await self.context.write(mark_aborted)
        await self._remove_quarantined(row["slide"])

    async def _sweep_loop(self) -> None:
        while True:
            try:
                await self.sweep()
            except (StoreUnavailableError, ProblemError, OSError) as error:
                logger.warning("the sweep of uploads failed and is repeated: %s", error)
            except Exception:
                logger.exception("the sweep of uploads failed and is repeated")
            await asyncio.sleep(self.settings.sweep_seconds)

    async def sweep(self) -> None:
        """Resume uploads that a crash has interrupted, and remove those that have expired."""
        for row in await self.context.read(upload_store.list_uploads, "open"):
            if "reference" in row["metadata"]:
                self.start_copy(row["id"])
            elif not self.locks.is_held(row["id"]):
                await self._resume_upload(row)
        for slide_id in await self.context.read(upload_store.settling_slides):
            await self._complete_series(slide_id)
        before = utc_before(self.settings.upload_expires_seconds)
        for row in await self.context.read(upload_store.idle_uploads, before):
            if not self.locks.is_held(row["id"]):
                await self.abort_upload(row, "failed", reasons=[UPLOAD_EXPIRED])

    async def _complete_series(self, slide_id: str) -> None:
        """Let a slide proceed of which no more files arrive."""
        quiet_since = self._quiet_since()

        def advance(connection: sa.Connection) -> ProblemError | str:
            content = groups.find_content(connection, slide_id, quiet_since)
            return slide_id if content is None else _record_arrival(connection, slide_id, content)

        with suppress(ProblemError):  # recorded in the slide's state
            await self._resolve_outcome(slide_id, await self.context.write(advance))

    async def _resume_upload(self, row: Row) -> None:
        """Complete an upload whose last byte was received before the process died."""
        slide = await self.context.read(slide_store.get, row["slide"])
        assert slide is not None, "the store holds an upload's slide"
        path = storage.upload_path(self.context.slides_dir, slide, row)
        if slide["state"] != "uploading" or await asyncio.to_thread(storage.size_or_none, path) != row["length"]:
            return
        async with self.locks.hold(row["id"]):
            with suppress(ProblemError):  # a wrong SHA-256 is recorded in the slide's state
                await self.complete_upload(row, path)


def _copy_inbox_file(inbox: Path, reference: str, path: Path) -> hashlib._Hash:
    """Copy an inbox file; returns its SHA-256. Raises OutsideInboxError or OSError."""
    storage.create_empty(path)
    with storage.open_inbox_file(inbox, reference) as source:
        target = storage.AppendFile(path, 0, hashlib.sha256())
        try:
            while chunk := source.read(storage.CHUNK_BYTES):
                target.write(chunk)
            target.sync()
        finally:
            target.close()
    assert target.digest is not None, "it was computed from the first byte on"
    return target.digest


def utc_before(seconds: float) -> str:
    """The time so many seconds ago, as the store has it."""
    moment = datetime.now(UTC) - timedelta(seconds=seconds)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def add_form(connection: sa.Connection, slide_id: str, form: RequestForm, sha256: str | None, **columns: Any) -> None:
    """Record the request form of a slide that exists, and other columns with it."""
    columns |= form.columns() | {"sha256": sha256}
    slide_store.add_event(connection, slide_id, {"code": "request_form"}, **columns)
    add_mpp_event(connection, slide_id, form)


def add_mpp_event(connection: sa.Connection, slide_id: str, form: RequestForm) -> None:
    """Record that an operator, not the file, gave the microns per pixel."""
    if form.mpp is not None:
        slide_store.add_event(connection, slide_id, {"code": "mpp_by_operator", "mpp": form.mpp})


def _record_arrival(connection: sa.Connection, slide_id: str, content: groups.Content) -> ProblemError | str:
    """Record that all of a slide is here, and move it on if its form and SHA-256 are here too.

    Returns its id, that of an earlier slide if it is a duplicate, or the problem to be reported to its sender.
    """
    slide = slide_store.get(connection, slide_id)
    assert slide is not None, "the store holds an upload's slide"
    if slide["state"] != "uploading":
        return slide_id
    implied = {"sha256": content.sha256} if slide["sha256"] is None and content.announced else {}
    if not slide["bytes"]:  # not recorded yet, as it is where the form follows the bytes
        arrival = {"code": "arrived", "sha256": content.sha256}
        slide_store.add_event(connection, slide_id, arrival, bytes=content.size, **implied)
    return _advance(connection, slide | implied, content.sha256)


def _fail_sha256(connection: sa.Connection, slide_id: str, actual: str, expected: str) -> ProblemError:
    """End a slide whose bytes are not those announced; returns the problem for its sender."""
    upload_store.end_uploads(connection, slide_id, "failed")
    digests = {"found": actual, "needed": expected}
    problem_type = PROBLEM_TYPES["upload_sha256"]
    reason = {
        "code": "sha256",
        "en": problem_type.detail.format(**digests),
        "zh": problem_type.detail_zh.format(**digests),
    }
    slide_store.transition(connection, slide_id, "failed", digests, reasons=[reason])
    return ProblemError("upload_sha256", actual=actual, expected=expected)


def _advance(connection: sa.Connection, slide: Row, sha256: str) -> ProblemError | str:
    """Move a slide on whose bytes are there; returns as `_record_arrival`."""
    slide_id = str(slide["id"])
    if slide["request"] is None or slide["sha256"] is None:
        return slide_id
    if slide["sha256"] != sha256:
        return _fail_sha256(connection, slide_id, sha256, slide["sha256"])
    duplicates = [
        duplicate
        for duplicate in slide_store.same_content(connection, sha256, slide["tenant"])
        if duplicate["state"] != "uploading"
    ]
    same_accession = [duplicate["id"] for duplicate in duplicates if duplicate["accession"] == slide["accession"]]
    if same_accession:
        reason = {
            "code": "duplicate",
            "en": f"The same slide was sent before under this accession number: it is slide {same_accession[0]}.",
            "zh": f"同一病理号下已有相同切片：{same_accession[0]}。",
        }
        columns: Row = {"reasons": [reason], "name": storage.neutral_name(slide["name"])}
        slide_store.transition(connection, slide_id, "cancelled", {"same_as": same_accession[0]}, **columns)
        upload_store.forget_names(connection, slide_id)
        return str(same_accession[0])
    slide_store.transition(connection, slide_id, "verifying", notes=[*slide["notes"], *duplicate_notes(duplicates)])
    return slide_id


def _accession_notes(in_file: str | None, in_form: str) -> list[dict[str, str]]:
    """A note that the slide's DICOM files name another accession number than its form, as one may be a mistake."""
    if in_file in (None, in_form):
        return []
    return [
        {
            "code": "accession_differs",
            "en": f"The DICOM files name the accession number {in_file}, the form {in_form}. Check whose slide it is.",
            "zh": f"DICOM 文件中的病理号为 {in_file}，申请单为 {in_form}。请核对切片归属。",
        }
    ]


def duplicate_notes(duplicates: list[Row]) -> list[dict[str, str]]:
    """A note that the same content exists under another accession number, because one of the two may be a mistake."""
    if not duplicates:
        return []
    slide_ids = ", ".join(duplicate["id"] for duplicate in duplicates[:5])
    return [
        {
            "code": "same_content",
            "en": f"The same file was sent under another accession number: {slide_ids}. Check which one it belongs to.",
            "zh": f"同一文件曾以其他病理号提交：{slide_ids}。请核对其归属。",
        }
    ]
