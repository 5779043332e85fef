"""What has come whole is verified against its SHA-256 and given to the worker, or failed; what is left lying, removed.

A slide goes on when three things are there, in whatever order they come: all its bytes, its request form, its SHA-256.
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

from serving.core.db.engine import StoreUnavailable
from serving.core.http.problems import KINDS, Problem
from serving.pathology.context import Desk, Row, state_problem
from serving.pathology.slides import storage
from serving.pathology.slides import store as slides
from serving.pathology.upload.request_form import Form

log = logging.getLogger("yuheng.arrivals")

EXPIRED = {
    "code": "upload_expired",
    "en": "Nothing came of the upload for too long, and what had come was removed. Send the slide anew.",
    "zh": "上传长时间无进展，已收内容已清除。请重新上传。",
}
UNREADABLE = {
    "code": "reference",
    "en": "The file that the request named in the inbox cannot be read any more. Put it there again and ask anew.",
    "zh": "请求所指的收件箱文件已无法读取。请重新放入后再提交。",
}
NO_SPACE = {
    "code": "no_space",
    "en": "The disk takes no more; the slide is tried again by itself. Free the disk.",
    "zh": "磁盘空间不足；将自动重试。请清理磁盘。",
}


class Arrivals:
    """`busy`: uploads that are being written, verified or removed."""

    def __init__(self, desk: Desk):
        self.desk = desk
        self.settings = desk.settings.slides
        self.busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self._copying = asyncio.Semaphore(1)  # one at a time: the disk is what they wait for

    def start(self) -> None:
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep_on())

    def stop(self) -> None:
        for task in (*self._tasks, *((self._sweeping,) if self._sweeping else ())):
            task.cancel()

    # --- bytes, form and SHA-256

    async def complete(self, row: Row, path: Path, digest: hashlib._Hash | None = None) -> str:
        """All bytes of an upload are on the disk. The slide they belong to: an earlier one where the same was sent
        before. Raises Problem where they are not those announced."""
        if digest is None:
            digest = await asyncio.to_thread(storage.digest_of, path)
        found = digest.hexdigest()
        size = await asyncio.to_thread(storage.size, path)

        def work(connection: sa.Connection) -> Problem | str:
            slides.set_upload(connection, row["id"], state="done", offset=size)
            slides.note(connection, row["slide"], {"code": "arrived", "sha256": found}, bytes=size)
            return _go_on(connection, row["id"], row["slide"], found)

        return await self._settled(row["slide"], await self.desk.write(work))

    async def tell(self, row: Row, told: Form, sha256: str) -> str:
        """Form and SHA-256 of a slide that is being sent, or was; returns and raises as `complete`."""

        def work(connection: sa.Connection) -> Problem | str:
            slide = slides.get(connection, row["slide"])
            assert slide is not None, "the store holds an upload's slide"
            if slide["state"] != "uploading":
                return state_problem(slide["state"], "verifying")
            slides.note(connection, slide["id"], {"code": "request_form"}, **told.columns(), sha256=sha256)
            note_scale(connection, slide["id"], told)
            slides.set_upload(connection, row["id"], sha256=sha256)
            arrived = _arrived(connection, slide["id"])
            return str(slide["id"]) if arrived is None else _go_on(connection, row["id"], slide["id"], arrived)

        return await self._settled(row["slide"], await self.desk.write(work))

    async def _settled(self, slide: str, outcome: Problem | str) -> str:
        if isinstance(outcome, Problem):
            raise outcome
        if outcome != slide:
            await self._remove(slide)
        return outcome

    async def _remove(self, slide: str) -> None:
        found = await self.desk.read(slides.get, slide)
        if found is not None:
            await asyncio.to_thread(storage.remove, storage.quarantine(self.desk.slides, slide, found["name"]))

    # --- by reference

    def fetch(self, upload: str) -> None:
        """Copy a file of the inbox into quarantine, beside what else goes on."""
        task = asyncio.get_running_loop().create_task(self._fetch(upload))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, upload: str) -> None:
        if upload in self.busy:
            return
        self.busy.add(upload)
        try:
            async with self._copying:
                row = await self.desk.read(slides.upload, upload)
                slide = None if row is None else await self.desk.read(slides.get, row["slide"])
                if row is None or slide is None or row["state"] != "open" or slide["state"] != "uploading":
                    return
                path = storage.quarantine(self.desk.slides, slide["id"], slide["name"])
                try:
                    digest = await asyncio.to_thread(self._copy, slide["tenant"], row["metadata"]["reference"], path)
                except storage.OutsideInbox:
                    await self._give_up(row, "failed", reasons=[UNREADABLE])
                    return
                except OSError as error:
                    log.warning("slide %s is not copied yet, and is tried again: %s", slide["id"], error)
                    await self._note_once(slide["id"], NO_SPACE)
                    return
                with suppress(Problem):  # a wrong SHA-256: the slide's state tells it
                    await self.complete(row, path, digest)
        except StoreUnavailable as error:
            log.warning("upload %s is looked at again later: %s", upload, error)
        finally:
            self.busy.discard(upload)

    def _copy(self, tenant: str, reference: str, path: Path) -> hashlib._Hash:
        storage.begin(path)
        with storage.open_inside(self.desk.inbox(tenant), reference) as source:
            target = storage.Growing(path, 0, hashlib.sha256())
            try:
                while part := source.read(storage.BLOCK):
                    target.write(part)
                target.sync()
            finally:
                target.close()
        assert target.digest is not None, "it ran along from the first byte"
        return target.digest

    async def _note_once(self, slide: str, detail: dict[str, str]) -> None:
        events = await self.desk.read(slides.events_after, slide)
        if not events or events[-1]["detail"].get("code") != detail["code"]:
            await self.desk.write(lambda connection: slides.note(connection, slide, dict(detail)))

    # --- what nobody sends on

    async def end(self, row: Row, to: str, detail: Row | None = None, **columns: Any) -> None:
        """An upload and its slide given up, its bytes removed. Raises Problem where the slide went on already."""
        self.busy.add(row["id"])
        try:
            await self._give_up(row, to, detail, **columns)
        finally:
            self.busy.discard(row["id"])

    async def _give_up(self, row: Row, to: str, detail: Row | None = None, **columns: Any) -> None:
        def work(connection: sa.Connection) -> None:
            slide = slides.get(connection, row["slide"])
            assert slide is not None, "the store holds an upload's slide"
            if slide["state"] not in slides.GONE:
                if slide["state"] != "uploading":
                    raise state_problem(slide["state"], "verifying")
                slides.move(connection, slide["id"], to, detail, **columns)
            slides.set_upload(connection, row["id"], state="expired")

        await self.desk.write(work)
        await self._remove(row["slide"])

    async def _sweep_on(self) -> None:
        while True:
            try:
                await self.sweep()
            except (StoreUnavailable, Problem, OSError) as error:
                log.warning("uploads are looked through again later: %s", error)
            except Exception:
                log.exception("looking through the uploads failed; they are looked through again")
            await asyncio.sleep(self.settings.sweep_seconds)

    async def sweep(self) -> None:
        """Go on with what a crash left, and remove what expired."""
        for row in await self.desk.read(slides.uploads, "open"):
            if "reference" in row["metadata"]:
                self.fetch(row["id"])
            elif row["id"] not in self.busy:
                await self._resume(row)
        idle = datetime.now(UTC) - timedelta(seconds=self.settings.upload_expires_seconds)
        before = f"{idle.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
        for row in await self.desk.read(slides.idle_uploads, before):
            if row["id"] not in self.busy:
                await self.end(row, "failed", reasons=[EXPIRED])

    async def _resume(self, row: Row) -> None:
        """One of which the last byte came, and then the process died."""
        slide = await self.desk.read(slides.get, row["slide"])
        assert slide is not None, "the store holds an upload's slide"
        path = storage.quarantine(self.desk.slides, slide["id"], slide["name"])
        if slide["state"] != "uploading" or await asyncio.to_thread(storage.size, path) != row["length"]:
            return
        self.busy.add(row["id"])
        try:
            with suppress(Problem):  # a wrong SHA-256: the slide's state tells it
                await self.complete(row, path)
        finally:
            self.busy.discard(row["id"])


def note_scale(connection: sa.Connection, slide: str, told: Form) -> None:
    """Microns per pixel that an operator gave are on record as such."""
    if told.mpp is not None:
        slides.note(connection, slide, {"code": "mpp_by_operator", "mpp": told.mpp})


def _arrived(connection: sa.Connection, slide: str) -> str | None:
    """SHA-256 of what came, once all of it has."""
    for event in slides.events_after(connection, slide):
        if event["kind"] == "note" and event["detail"].get("code") == "arrived":
            return str(event["detail"]["sha256"])
    return None


def _go_on(connection: sa.Connection, upload: str, name: str, found: str) -> Problem | str:
    """The next step of a slide whose bytes are there; the Problem that its sender is told, or the slide it is."""
    slide = slides.get(connection, name)
    assert slide is not None, "the store holds an upload's slide"
    if slide["state"] != "uploading" or slide["accession"] is None or slide["sha256"] is None:
        return name
    if slide["sha256"] != found:
        slides.set_upload(connection, upload, state="failed")
        told = {"found": found, "needed": slide["sha256"]}
        kind = KINDS["upload_sha256"]
        reason = {"code": "sha256", "en": kind.detail.format(**told), "zh": kind.detail_zh.format(**told)}
        slides.move(connection, name, "failed", told, reasons=[reason])
        return Problem("upload_sha256", **told)
    others = [other for other in slides.alike(connection, found, slide["tenant"]) if other["state"] != "uploading"]
    same = [other["id"] for other in others if other["accession"] == slide["accession"]]
    if same:
        reason = {
            "code": "duplicate",
            "en": f"This very slide was sent before under this accession: it is slide {same[0]}.",
            "zh": f"同一病理号下已有相同切片：{same[0]}。",
        }
        slides.move(connection, name, "cancelled", {"same_as": same[0]}, reasons=[reason])
        return str(same[0])
    slides.move(connection, name, "verifying", notes=[*slide["notes"], *seen_before(others)])
    return name


def seen_before(others: list[Row]) -> list[dict[str, str]]:
    """A note where the same content stands under another accession: one of the two may be a mistake."""
    if not others:
        return []
    told = ", ".join(other["id"] for other in others[:5])
    return [
        {
            "code": "same_content",
            "en": f"The same file was sent under another accession: {told}. See which of them it belongs to.",
            "zh": f"同一文件曾以其他病理号提交：{told}。请核对归属。",
        }
    ]
