"""The slides' routes: what each takes and gives is in serving/openapi.py. Uploads are in uploads.py.

    Pathology(settings, store, quota).routes()     # pattern -> method -> handler, merged into the gateway's

Further addresses (deep zoom) are a class over Desk with `routes` of its own, and one line in ours.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from datasets.errors import Fault
from serving.core.billing.quotas import Quota
from serving.core.db.store import Store
from serving.core.http import validation
from serving.core.http.problems import Problem
from serving.core.http.request import Call, Reply, query
from serving.core.identifiers import new_id
from serving.pathology import pages, turnaround
from serving.pathology.context import ID, Desk, Row, state_problem
from serving.pathology.report.render import Drawing, copy_of, heat_of
from serving.pathology.report.routes import Reports
from serving.pathology.report.signing import Signing
from serving.pathology.slides import storage
from serving.pathology.slides import store as slides
from serving.pathology.slides.states import SIGNED, STATES, TO_REVIEW, UnknownSlide
from serving.pathology.upload import request_form
from serving.pathology.upload.intake import Arrivals, note_scale
from serving.pathology.upload.tus import Uploads
from serving.pathology.viewer.events import Events, last_seen, wants_events
from serving.pathology.viewer.tile_routes import Images, Shown
from serving.settings import Settings

Handler = Callable[[Call], Awaitable[Reply]]
USUAL, MOST = 100, 500  # slides of one page of the worklist


class Pathology:
    def __init__(self, settings: Settings, store: Store, quota: Quota):
        self.settings = settings
        self.desk = Desk(settings, store, quota)
        self.arrivals = Arrivals(self.desk)
        self.uploads = Uploads(self.desk, self.arrivals)
        self.events = Events(self.desk)
        self.images = Images(self._shown)
        self.signing = Signing(self.desk, Drawing(settings.paths.slides, self.images.deepzoom).render)
        self.reports = Reports(self.desk, self.signing.render)

    def start(self) -> None:
        self.arrivals.start()

    def stop(self) -> None:
        self.arrivals.stop()
        self.images.close()

    def routes(self) -> dict[str, dict[str, Handler]]:
        return {
            **pages.routes(),
            **self.uploads.routes(),
            **self.images.routes(),
            "/v1/slides": {"GET": self.worklist, "POST": self.submit},
            "/v1/slides/turnaround": {"GET": self.turnaround},
            "/v1/slides/{id}": {"GET": self.one},
            "/v1/slides/{id}/report": {"GET": self.reports.get},
            "/v1/slides/{id}/cancel": {"POST": self.cancel},
            "/v1/slides/{id}/review": {"POST": self.signing.review},
            "/v1/slides/{id}/sign": {"POST": self.signing.sign},
            "/v1/slides/{id}/amend": {"POST": self.signing.amend},
        }

    async def _shown(self, call: Call) -> Shown:
        """What there is to look at of the address's slide. Raises Problem before there is a copy without names."""
        slide = await self.desk.slide(call)
        folder = self.settings.paths.slides / slide["id"]
        path = await asyncio.to_thread(copy_of, folder, slide["name"])
        if path is None:
            raise state_problem(slide["state"], "quality_passed")
        heat = await asyncio.to_thread(heat_of, folder)
        return Shown(path, str(slide["sha256"]), slide["mpp"], slide["state"], slide["reading"], heat)

    # --- a slide named, not sent

    async def submit(self, call: Call) -> Reply:
        """A file of the inbox, or an upload whose form or SHA-256 was still to be told."""
        found, digest = await self.desk.body(call)
        reference, sha256 = found.pop("reference", None), found.pop("sha256", None)
        faults = validation.sha256(sha256)
        told, wrong = request_form.read(found)
        faults += wrong
        if not isinstance(reference, str) or not 0 < len(reference) <= 1_000:
            needed = "a path below the inbox, or the id of an upload", "收件箱内的路径，或上传编号"
            faults.append(Fault("reference", validation.kind(reference), *needed))
            reference = ""
        upload = await self.desk.read(slides.upload, reference, call.caller.tenant) if ID.fullmatch(reference) else None
        if reference and upload is None:
            faults += await asyncio.to_thread(self._reference, call.caller.tenant, reference)
        if faults or told is None or not isinstance(sha256, str):
            raise Problem("invalid_request", errors=faults)
        if upload is not None and "reference" not in upload["metadata"]:
            return await self._told(call, upload, told, sha256, digest)
        return await self._refer(call, reference, told, sha256, digest)

    def _reference(self, tenant: str, reference: str) -> list[Fault]:
        zh = "收件箱内的普通文件（不含链接与 ..）"
        try:
            with storage.open_inside(self.desk.inbox(tenant), reference) as file:
                size, most = Path(f"/proc/self/fd/{file.fileno()}").stat().st_size, self.settings.slides.upload
        except storage.OutsideInbox as error:
            return [Fault("reference", repr(reference[:200]), str(error), zh)]
        if not 0 < size <= most:
            return [Fault("reference", f"{size:,} bytes", f"1 to {most:,} bytes", f"1 至 {most:,} 字节")]
        return []

    async def _told(self, call: Call, upload: Row, told: request_form.Form, sha256: str, digest: str) -> Reply:
        if (earlier := await self.desk.before(call, "/v1/slides", digest)) is not None:
            return await self._accepted(earlier["slide"], again=True)
        slide = await self.desk.read(slides.get, upload["slide"])
        assert slide is not None, "the store holds an upload's slide"
        if slide["state"] != "uploading" and (slide["sha256"], slide["request"]) == (sha256, told.request):
            return await self._accepted(await self._stands_for(slide), again=True)
        stands = await self.arrivals.tell(upload, told, sha256)
        await self.desk.once(call, "/v1/slides", digest, lambda _: {"slide": stands})
        return await self._accepted(stands, again=stands != upload["slide"])

    async def _refer(self, call: Call, reference: str, told: request_form.Form, sha256: str, digest: str) -> Reply:
        await self.desk.quota.check(call.caller.tenant)
        slide, upload = new_id(), new_id()
        name, tenant = storage.clean_name(reference), call.caller.tenant
        audit = await asyncio.to_thread(self.desk.audited, slide)

        def work(connection: sa.Connection) -> Row:
            for one in slides.alike(connection, sha256, tenant):
                if one["accession"] == told.request["accession"] and _comes(connection, one):
                    return {"slide": one["id"], "upload": None}
            columns = told.columns() | {"tenant": tenant, "name": name, "sha256": sha256}
            slides.create(connection, slide, detail={"reference": reference}, audit=audit, **columns)
            slides.create_upload(connection, upload, slide, 0, sha256, {"reference": reference})
            note_scale(connection, slide, told)
            return {"slide": slide, "upload": upload}

        said, again = await self.desk.once(call, "/v1/slides", digest, work)
        if not again and said["upload"] is not None:
            self.arrivals.fetch(upload)
            self.desk.quota.add(tenant, 1)
        return await self._accepted(said["slide"], again=again or said["upload"] is None)

    async def _stands_for(self, slide: Row) -> str:
        """The earlier slide where this one turned out to be the same, else its own id."""
        for event in reversed(await self.desk.read(slides.events_after, slide["id"])):
            if "same_as" in event["detail"]:
                return str(event["detail"]["same_as"])
        return str(slide["id"])

    async def _accepted(self, slide: str, again: bool) -> Reply:
        found = await self.desk.read(slides.get, slide)
        assert found is not None, "it was made or found just now"
        headers = {"Location": f"/v1/slides/{slide}"} | ({"Idempotent-Replayed": "true"} if again else {})
        return Reply(orjson.dumps(shown(found, whole=True)), 200 if again else 202, headers=headers)

    # --- slides told of

    async def worklist(self, call: Call) -> Reply:
        options, faults = query(call, ("limit", "after", "state", "specimen", "accession", "review", "signed"))
        limit = options.get("limit", str(USUAL))
        if not re.fullmatch(r"[0-9]{1,4}", limit, re.ASCII) or not 1 <= int(limit) <= MOST:
            whole = f"a whole number from 1 to {MOST}", f"1 至 {MOST} 的整数"
            faults.append(Fault("limit", repr(limit[:60]), *whole))
        for name, levels in (
            ("state", tuple(STATES)),
            ("specimen", request_form.SPECIMENS),
            ("review", ("true", "false")),
            ("signed", ("true", "false")),
        ):
            if name in options and options[name] not in levels:
                told = ", ".join(levels)
                faults.append(Fault(name, repr(options[name][:60]), f"one of {told}", f"{told} 之一"))
        fits, printable, printable_zh = request_form.RULES["accession"]
        if "accession" in options and not fits(options["accession"]):
            faults.append(Fault("accession", repr(options["accession"][:60]), printable, printable_zh))
        after = options.get("after")
        if after is not None and not ID.fullmatch(after):
            faults.append(Fault("after", repr(after[:60]), "the id of a slide", "切片编号"))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        wanted = {
            "tenant": call.caller.tenant,
            "after": after,
            "state": options.get("state"),
            "specimen": options.get("specimen"),
            "accession": options.get("accession"),
            "review": options.get("review") == "true",
            "signed": {"true": True, "false": False}.get(options.get("signed", "")),
        }
        try:
            rows = await self.desk.read(slides.worklist, int(limit), **wanted)
        except UnknownSlide as error:
            raise Problem("unknown_slide", found=repr(error.slide)) from error
        more = rows[-1]["id"] if len(rows) == int(limit) else None
        return Reply(orjson.dumps({"slides": [shown(row) for row in rows], "next": more}))

    async def turnaround(self, call: Call) -> Reply:
        return await turnaround.reply(self.desk, call)

    async def one(self, call: Call) -> Reply:
        seen = last_seen(call)
        slide = await self.desk.slide(call)
        if wants_events(call):
            return await self.events.reply(call, slide, seen)
        signed = await self.desk.read(slides.reports, slide["id"])
        return Reply(orjson.dumps(shown(slide, whole=True) | {"reports": [_signed(report) for report in signed]}))

    async def cancel(self, call: Call) -> Reply:
        slide = await self.desk.slide(call)
        upload = await self.desk.read(slides.upload_of, slide["id"])
        if slide["state"] == "uploading" and upload is not None and upload["id"] not in self.arrivals.busy:
            await self.arrivals.end(upload, "cancelled", {"by": "request"})
        else:
            await self.desk.write(lambda c: slides.move(c, slide["id"], "cancelled", {"by": "request"}))
        return Reply(orjson.dumps(shown(await self.desk.slide(call), whole=True)))


def _comes(connection: sa.Connection, slide: Row) -> bool:
    """Whether it is there, or will be without anybody's doing: an upload may never be sent on."""
    if slide["state"] != "uploading":
        return True
    upload = slides.upload_of(connection, slide["id"])
    return upload is not None and "reference" in upload["metadata"]


def shown(row: Row, whole: bool = False) -> Row:
    """A slide as the API tells it; `whole` with its request form and its reading."""
    state = STATES[row["state"]]
    negative = row["triage"] == "negative"
    told: Row = {
        "slide_id": row["id"],
        "state": row["state"],
        "state_en": state.en,
        "state_zh": state.zh,
        **{name: row[name] for name in ("code", "reasons", "notes", "name", "sha256", "bytes")},
        **{name: row[name] for name in ("accession", "specimen", "stain", "preparation", "mpp")},
        "progress": {"done": row["done"], "total": row["total"]},
        "priority": row["priority"],
        "triage": row["triage"],
        "audit": negative and row["audit"] and row["state"] in SIGNED,  # who reads it does not know before
        "to_review": row["state"] in TO_REVIEW and (not negative or row["audit"]),
        "model": None if row["model"] is None else {"name": row["model"], **_both(row, "version", "bundle")},
        **_both(row, "created", "updated"),
    }
    return told | ({"request": row["request"], "reading": row["reading"]} if whole else {})


def _both(row: Row, *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _signed(report: Row) -> Row:
    body = report["body"]
    return {
        **_both(report, "version", "kind", "at", "sha256"),
        "signed_by": body["signed_by"],
        "reason": body.get("reason"),
    }
