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

from datasets.errors import Fault
from datasets.schema import unknown_names
from serving.core.http import validation
from serving.core.http.principal import Caller
from serving.core.http.problems import Problem
from serving.core.http.request import Call, Reply
from serving.core.identifiers import now
from serving.pathology.context import Desk, Row, state_problem
from serving.pathology.slides import storage
from serving.pathology.slides import store as slides
from serving.pathology.slides.states import STATES

Render = Callable[[Row], bytes]  # a report's body -> its PDF
DIAGNOSIS, REASON = 500, 2_000  # characters
FIELDS = {"signed": ("findings", "diagnosis"), "amended": ("findings", "diagnosis", "reason")}


def render(body: Row) -> bytes:
    """The PDF of a report, without pictures. Raises Problem where what makes it is not installed."""
    try:
        made: bytes = import_module("serving.pathology.report.pdf").render(body, None, None)
    except ImportError as error:
        raise Problem("report_unavailable", found="No PDF can be made here", found_zh="此处无法生成 PDF") from error
    return made


class Signing:
    """`render` may be replaced: the seam by which tests do without the pictures."""

    def __init__(self, desk: Desk, render: Render = render):
        self.desk, self.render = desk, render
        self._locks: dict[str, asyncio.Lock] = {}  # by slide, of signatures under way

    async def review(self, call: Call) -> Reply:
        person = self.desk.pathologist(call)
        slide = await self.desk.slide(call)
        by = {"by": _person(person)}
        await self.desk.write(lambda connection: slides.move(connection, slide["id"], "in_review", by))
        found = await self.desk.slide(call)
        return Reply(orjson.dumps({"slide_id": found["id"], "state": found["state"]}))

    async def sign(self, call: Call) -> Reply:
        return await self._sign(call, "signed")

    async def amend(self, call: Call) -> Reply:
        return await self._sign(call, "amended")

    async def _sign(self, call: Call, kind: str) -> Reply:
        person = self.desk.pathologist(call)
        slide = await self.desk.slide(call)
        found, digest = await self.desk.body(call)
        if faults := self._faults(found, FIELDS[kind]):
            raise Problem("invalid_request", errors=faults)
        scope = f"{kind} {slide['id']} {person.licence}"
        lock = self._locks.setdefault(slide["id"], asyncio.Lock())
        try:
            async with lock:
                said = await self.desk.before(call, scope, digest)
                if said is not None:
                    return Reply(orjson.dumps(said), headers={"Idempotent-Replayed": "true"})
                said = await self._version(call, slide["id"], kind, found, person, (scope, digest))
        finally:
            if not lock.locked():
                self._locks.pop(slide["id"], None)
        return Reply(orjson.dumps(said))

    async def _version(
        self, call: Call, slide: str, kind: str, told: Row, person: Caller, once: tuple[str, str]
    ) -> Row:
        """Rendered, put beside the slide, and recorded: in this order, so that no record stands without its files."""
        row = await self.desk.read(slides.get, slide)
        assert row is not None, "it was there a moment ago"
        if kind not in STATES[row["state"]].next:
            raise state_problem(row["state"], kind)
        earlier = await self.desk.read(slides.reports, slide)
        version = len(earlier) + 1
        at = now()
        body: Row = {
            **row["reading"],
            **{name: told[name] for name in FIELDS[kind]},
            "signed_by": _person(person),
            "signed_at": at,
            "version": version,
            "amends": version - 1 or None,
        }
        pdf = await asyncio.to_thread(self.render, body)
        sha256 = hashlib.sha256(pdf).hexdigest()
        folder = self.desk.slides / slide / "reports"
        names = folder / f"{version}.pdf", folder / f"{version}.json"
        written = [
            await asyncio.to_thread(_written, name, content)
            for name, content in zip(names, (pdf, orjson.dumps(body)), strict=True)
        ]

        def work(connection: sa.Connection) -> Row:
            slides.add_report(connection, slide, version, kind, body, sha256, person.licence, at)
            for scratch, name in zip(written, names, strict=True):
                scratch.rename(name)
            storage.sync_folder(folder)
            return body | {"pdf_sha256": sha256}

        try:
            return (await self.desk.once(call, once[0], once[1], work))[0]
        except slides.VersionTaken as error:
            raise Problem(
                "slide_state",
                found="signed anew meanwhile",
                found_zh="已被他人重新签发",
                needed="a look at the newest version",
                needed_zh="先查看最新版本",
            ) from error
        finally:
            for scratch in written:
                scratch.unlink(missing_ok=True)

    def _faults(self, found: Row, fields: tuple[str, ...]) -> list[Fault]:
        known = ", ".join(fields)
        faults = unknown_names(found, fields, f"one of {known}", f"{known} 之一")
        most = {"findings": self.desk.settings.slides.findings, "diagnosis": DIAGNOSIS, "reason": REASON}
        for name in fields:
            value: Any = found.get(name)
            if isinstance(value, str) and value.strip() and len(value) <= most[name] and _readable(value):
                continue
            needed = f"text of 1 to {most[name]:,} characters", f"1 至 {most[name]:,} 个字符的文本"
            faults.append(Fault(name, validation.kind(value) if name in found else "absent", *needed))
        return faults


def _readable(value: str) -> bool:
    """Lines of printable text."""
    return all(line.isprintable() for line in value.replace("\t", " ").splitlines())


def _written(name: Path, content: bytes) -> Path:
    try:
        return storage.write_whole(name, content)
    except OSError as error:
        raise Problem(
            "report_unavailable",
            found=f"The report cannot be kept ({error.strerror})",
            found_zh=f"报告无法保存（{error.strerror}）",
        ) from error


def _person(person: Caller) -> dict[str, str]:
    return {"name": person.name, "licence": person.licence}
