"""A slide's report as JSON, PDF or FHIR: the version asked for, else the newest signed one, else the draft.

A signed PDF is the file that was signed, given only while it has the SHA-256 that the store holds.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from importlib import import_module

import orjson

from datasets.errors import Fault
from serving.core.http.problems import Problem
from serving.core.http.request import JSON, Call, Reply, query
from serving.pathology.context import Desk, Row, state_problem
from serving.pathology.report.signing import Render
from serving.pathology.slides import store as slides

FORMATS = {"json": JSON, "pdf": "application/pdf", "fhir": "application/fhir+json"}
VERSION = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)


class Reports:
    def __init__(self, desk: Desk, render: Render):
        self.desk, self.render = desk, render

    async def get(self, call: Call) -> Reply:
        options, faults = query(call, ("format", "version"))
        version = options.get("version")
        if version is not None and not VERSION.fullmatch(version):
            faults.append(Fault("version", repr(version[:60]), "a whole number, 1 or more", "不小于 1 的整数"))
        if "format" in options and options["format"] not in FORMATS:
            told = ", ".join(FORMATS)
            faults.append(Fault("format", repr(options["format"][:60]), f"one of {told}", f"{told} 之一"))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        goes = options.get("format") or _accepted(call)
        slide = await self.desk.slide(call)
        if slide["reading"] is None:
            raise state_problem(slide["state"], "in_review")
        signed = await self.desk.read(slides.reports, slide["id"])
        if version is not None and int(version) > len(signed):
            raise Problem(
                "unknown_report",
                found=version,
                needed=f"{len(signed)} signed",
                needed_zh=f"{len(signed)} 版",
            )
        chosen = signed[int(version or len(signed)) - 1] if signed else None
        body = slide["reading"] if chosen is None else chosen["body"]
        headers = {"Report-Version": "draft" if chosen is None else str(chosen["version"])}
        if goes == "json":
            return Reply(orjson.dumps(body), headers=headers)
        pdf = await asyncio.to_thread(self._pdf, slide["id"], body, chosen)
        if goes == "pdf":
            return Reply(pdf, media_type=FORMATS["pdf"], headers=headers)
        url = f"/v1/slides/{slide['id']}/report?format=pdf" + (f"&version={chosen['version']}" if chosen else "")
        resource = await asyncio.to_thread(_fhir, body, pdf, url)
        return Reply(orjson.dumps(resource), media_type=FORMATS["fhir"], headers=headers)

    def _pdf(self, slide: str, body: Row, chosen: Row | None) -> bytes:
        if chosen is None:
            return self.render(body)
        try:
            found = (self.desk.slides / slide / "reports" / f"{chosen['version']}.pdf").read_bytes()
        except OSError as error:
            raise _damaged(f"The signed PDF cannot be read ({error.strerror})", "已签发的 PDF 无法读取") from error
        if hashlib.sha256(found).hexdigest() != chosen["sha256"]:
            raise _damaged("The PDF on the disk is not the one that was signed", "磁盘上的 PDF 与签发时不一致")
        return found


def _fhir(body: Row, pdf: bytes, url: str) -> Row:
    try:
        told: Row = import_module("serving.pathology.report.fhir").report(body, pdf, url)
    except ImportError as error:
        raise _damaged("No FHIR can be made here", "此处无法生成 FHIR") from error
    return told


def _accepted(call: Call) -> str:
    """The first format that Accept names and there is; JSON where it takes anything."""
    told = call.header(b"accept")
    asked = [item.partition(";")[0].strip().lower() for item in (told or "*/*").split(",")]
    for media_type in asked:
        for name, given in FORMATS.items():
            if media_type in (given, "*/*", f"{given.split('/')[0]}/*"):
                return name
    raise Problem("not_acceptable", found=repr((told or "")[:80]), needed=", ".join(FORMATS.values()))


def _damaged(found: str, found_zh: str) -> Problem:
    return Problem("report_unavailable", found=found, found_zh=found_zh)
