"""Slides, their events, reports and uploads, and the workers that read them."""

from __future__ import annotations

import builtins
from typing import Any, TypedDict

import sqlalchemy as sa

from serving.core.db.tables.base import METADATA


class SlideRow(TypedDict):
    id: str
    tenant: str
    state: str
    code: str | None
    reasons: list[dict[str, str]]
    notes: list[dict[str, str]]
    name: str
    sha256: str | None
    bytes: int
    accession: str | None
    specimen: str | None
    stain: str | None
    preparation: str | None
    request: dict[str, Any] | None
    mpp: float | None
    done: int
    total: int
    audit: bool
    triage: str | None
    priority: int
    model: str | None
    version: str | None
    bundle: str | None
    reading: dict[str, Any] | None
    salt: builtins.bytes
    created: str
    updated: str


SLIDES = sa.Table(
    "slides",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),  # ascends with time
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # one of serving/pathology/slides/states.py
    sa.Column("code", sa.String(64)),  # why it failed, was abstained from or is unfit: the code of the first reason
    sa.Column("reasons", sa.JSON(none_as_null=True), nullable=False),  # [{code, en, zh}]
    sa.Column("notes", sa.JSON(none_as_null=True), nullable=False),  # [{code, en, zh}]; remarks that are no faults
    sa.Column("name", sa.String(128), nullable=False),  # sanitised file name
    sa.Column("sha256", sa.String(64)),  # as announced, then as verified; null until announced
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("accession", sa.String(64)),  # this and the next three: null until the request form arrives
    sa.Column("specimen", sa.String(32)),
    sa.Column("stain", sa.String(32)),
    sa.Column("preparation", sa.String(32)),
    sa.Column("request", sa.JSON(none_as_null=True)),  # the complete request form
    sa.Column("mpp", sa.Float),  # microns per pixel where the operator gave it
    sa.Column("done", sa.Integer, nullable=False),  # tiles
    sa.Column("total", sa.Integer, nullable=False),  # tiles; 0 until the grid is known
    sa.Column("audit", sa.Boolean, nullable=False),  # a pathologist reviews it even if it is negative
    sa.Column("triage", sa.String(16)),  # this and the next four come from the reading
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("model", sa.String(128)),
    sa.Column("version", sa.String(128)),
    sa.Column("bundle", sa.String(64)),
    sa.Column("reading", sa.JSON(none_as_null=True)),  # the model's result, never altered
    sa.Column("salt", sa.LargeBinary, nullable=False),  # of the digests in its log entries
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("updated", sa.String(32), nullable=False),
    info={"row": SlideRow},
)
sa.Index("slides_by_state", SLIDES.c.state, SLIDES.c.id)
sa.Index("slides_by_content", SLIDES.c.sha256)
sa.Index("slides_to_work_on", SLIDES.c.priority.desc(), SLIDES.c.id)
sa.Index("slides_of_a_tenant", SLIDES.c.tenant, SLIDES.c.priority.desc(), SLIDES.c.id)


class SlideEventRow(TypedDict):
    id: int
    slide: str
    at: str
    kind: str
    state: str
    detail: dict[str, Any]


# The events of each slide, in order. An id is never reused, so a listener resumes after the last one that it received.
SLIDE_EVENTS = sa.Table(
    "slide_events",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),  # state, progress, note
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("detail", sa.JSON(none_as_null=True), nullable=False),
    sqlite_autoincrement=True,
    info={"row": SlideEventRow},
)
sa.Index("events_of_a_slide", SLIDE_EVENTS.c.slide, SLIDE_EVENTS.c.id)


class UnloggedSlideReportRow(TypedDict):
    """A row of SLIDE_REPORTS before its log entry has an index."""

    slide: str
    version: int
    kind: str
    body: dict[str, Any]
    sha256: str
    signer: str
    at: str


class SlideReportRow(UnloggedSlideReportRow):
    leaf: int


SLIDE_REPORTS = sa.Table(
    "slide_reports",
    METADATA,
    sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),  # counts from 1
    sa.Column("kind", sa.String(16), nullable=False),  # signed, amended
    sa.Column("body", sa.JSON(none_as_null=True), nullable=False),  # the complete report
    sa.Column("sha256", sa.String(64), nullable=False),  # of its PDF
    sa.Column("signer", sa.String(128), nullable=False),  # licence number
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("leaf", sa.BigInteger, nullable=False),  # index of its log entry
    info={"row": SlideReportRow},
)


class UploadRow(TypedDict):
    id: str
    slide: str
    length: int
    offset: int
    sha256: str | None
    received_sha256: str | None
    path: str | None
    metadata: dict[str, Any]
    state: str
    created: str
    updated: str


UPLOADS = sa.Table(
    "uploads",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),  # bytes; -1 while the client does not know it
    sa.Column("offset", sa.BigInteger, nullable=False),  # bytes at the last update; the file's size is authoritative
    sa.Column("sha256", sa.String(64)),  # as announced
    sa.Column("received_sha256", sa.String(64)),  # of all its bytes, once they are here
    sa.Column("path", sa.String(400)),  # in the folder of a slide that has several files; null of the only file
    sa.Column("metadata", sa.JSON(none_as_null=True), nullable=False),  # as sent
    sa.Column("state", sa.String(16), nullable=False),  # open, done, failed, expired
    sa.Column("created", sa.String(32), nullable=False),
    sa.Column("updated", sa.String(32), nullable=False),
    info={"row": UploadRow},
)
sa.Index("uploads_by_state", UPLOADS.c.state, UPLOADS.c.updated)
sa.Index("uploads_of_a_slide", UPLOADS.c.slide)


class UploadGroupRow(TypedDict):
    tenant: str
    name: str
    slide: str
    files: int | None
    created: str


# The slides that have several files, under the names by which a tenant's uploads refer to them: a keyed digest of each.
UPLOAD_GROUPS = sa.Table(
    "upload_groups",
    METADATA,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("slide", sa.String(32), sa.ForeignKey("slides.id"), nullable=False),
    sa.Column("files", sa.Integer),  # as announced; null: complete once nothing arrives any more
    sa.Column("created", sa.String(32), nullable=False),
    info={"row": UploadGroupRow},
)
sa.Index("group_of_a_slide", UPLOAD_GROUPS.c.slide, unique=True)


class SlideKeyRow(TypedDict):
    tenant: str
    scope: str
    key: str
    request_sha256: str
    answer: bytes
    at: str


# The response to each request with an Idempotency-Key, so that it is carried out once.
SLIDE_KEYS = sa.Table(
    "slide_keys",
    METADATA,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("scope", sa.String(128), primary_key=True),  # the route and its slide
    sa.Column("key", sa.String(255), primary_key=True),  # of requests for slides a keyed digest
    sa.Column("request_sha256", sa.String(64), nullable=False),
    sa.Column("answer", sa.LargeBinary, nullable=False),  # JSON
    sa.Column("at", sa.String(32), nullable=False),
    info={"row": SlideKeyRow},
)


class SlideWorkerRow(TypedDict):
    id: str
    place: str
    pid: int
    born: int
    beat: int
    started: str


# The processes that read slides. A worker whose row was deleted is considered dead and may move no slide.
SLIDE_WORKERS = sa.Table(
    "slide_workers",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),  # new for each process
    sa.Column("place", sa.String(128), nullable=False),  # the machine and its PID namespace, in which `pid` is valid
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("born", sa.BigInteger, nullable=False),  # start of the process, on that machine's clock
    sa.Column("beat", sa.BigInteger, nullable=False),  # heartbeat counter
    sa.Column("started", sa.String(32), nullable=False),
    info={"row": SlideWorkerRow},
)
