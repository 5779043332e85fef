"""The slides' routes for GET /openapi.json: what each takes, gives and refuses."""

from __future__ import annotations

from typing import Any

from datasets.slides.limits import LIMITS
from serving.core.http import validation
from serving.core.http.schema import KEY, STORE, Schema, closed, in_path, in_query, operation, told_as_json
from serving.pathology import shown, turnaround
from serving.pathology.report.routes import FORMATS
from serving.pathology.report.signing import DIAGNOSIS, REASON
from serving.pathology.routes import MOST, USUAL
from serving.pathology.slides.states import STATES
from serving.pathology.upload import request_form
from serving.pathology.upload.tus import ALGORITHMS, EXTENSIONS, PART, VERSION
from serving.settings import Settings

BODY = ("empty_body", "not_utf8", "malformed_json", "slow_request", "body_too_large", "unsupported_media_type")
SIGN = (*BODY, "not_a_pathologist", "unknown_slide", "slide_state", "bad_header", "invalid_request",
        "key_reused", "report_unavailable", *STORE)  # fmt: skip
UPLOAD = ("tus_version", "unknown_upload", "upload_gone", "upload_locked", *STORE)
PROBLEMS: dict[str, tuple[str, ...]] = {
    "POST /v1/uploads": (
        "tus_version", "bad_header", "invalid_request", "upload_too_large", "no_space", "overloaded", "key_reused",
        "quota_used", *STORE,
    ),
    "HEAD /v1/uploads/{id}": UPLOAD,
    "PATCH /v1/uploads/{id}": (
        *UPLOAD, "unsupported_media_type", "bad_header", "upload_offset", "upload_too_large", "slow_request",
        "upload_checksum", "upload_sha256", "no_space",
    ),
    "DELETE /v1/uploads/{id}": (*UPLOAD, "slide_state"),
    "GET /v1/slides": ("bad_parameter", "unknown_slide", *STORE),
    "GET /v1/slides/turnaround": ("bad_parameter", *STORE),
    "POST /v1/slides": (
        *BODY, "bad_header", "invalid_request", "key_reused", "slide_state", "upload_sha256", "upload_locked",
        "quota_used", *STORE,
    ),
    "GET /v1/slides/{id}": ("unknown_slide", "bad_header", "overloaded", *STORE),
    "GET /v1/slides/{id}/report": (
        "bad_parameter", "not_acceptable", "unknown_slide", "slide_state", "unknown_report", "report_unavailable",
        *STORE,
    ),
    "POST /v1/slides/{id}/cancel": ("unknown_slide", "slide_state", *STORE),
    "POST /v1/slides/{id}/review": ("not_a_pathologist", "unknown_slide", "slide_state", *STORE),
    "POST /v1/slides/{id}/sign": SIGN,
    "POST /v1/slides/{id}/amend": SIGN,
    **shown.PROBLEMS,
}  # fmt: skip

PAIR = "[A-Za-z0-9_]+ [A-Za-z0-9+/]*={0,2}"  # of Upload-Metadata
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NULL: Schema = {"type": "null"}
SLIDE = in_path("id", "slide_id", pattern="^[0-9a-f]{32}$")
ANSWER = {"$ref": "#/components/schemas/Slide"}
REPORT = {"$ref": "#/components/schemas/Report"}
REPLAYED = {"Idempotent-Replayed": {"schema": {"const": "true"}, "description": "Only where it was there before."}}


def paths(settings: Settings) -> Schema:
    return _uploads(settings) | _slides() | _signing(settings) | shown.paths()


def _uploads(settings: Settings) -> Schema:
    upload = in_path("id", "last part of the Location that creation gave", pattern="^[0-9a-f]{32}$")
    version = _header("Tus-Resumable", {"const": VERSION}, "Version of tus.", required=True)
    length = {"type": "integer", "minimum": 1, "maximum": settings.slides.upload}
    options = _none("What is spoken: Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm")
    create = _operation(
        "POST /v1/uploads",
        "createUpload",
        "Begin to send a slide in parts (tus 1.0.0)",
        {"201": _none("Begun: Location, Slide-Id, Upload-Expires")["204"]},
        parameters=[
            version,
            _header("Upload-Length", length, "Bytes.", required=True),
            _header(
                "Upload-Metadata",
                {"type": "string", "pattern": f"^({PAIR}(,{PAIR})*)?$"},
                "filename, sha256, accession, specimen, stain, preparation, mpp, request (the request form as JSON), "
                "each in Base64. Form and SHA-256 may also be told afterwards by POST /v1/slides.",
            ),
            KEY,
        ],
    )
    head = _operation(
        "HEAD /v1/uploads/{id}",
        "uploadOffset",
        "Where to send on from: Upload-Offset",
        {"200": {"description": "Upload-Offset, Upload-Length, Upload-Metadata, Slide-Id, Upload-Expires"}},
        parameters=[upload, version],
    )
    patch = _operation(
        "PATCH /v1/uploads/{id}",
        "sendPart",
        "Send a part; it is on the disk when the answer comes",
        _none("Kept: Upload-Offset; with the last part the slide goes on"),
        parameters=[
            upload,
            version,
            _header("Upload-Offset", COUNT, "As HEAD tells it.", required=True),
            _header("Upload-Checksum", TEXT, f"One of {', '.join(ALGORITHMS)}, a blank, the part's digest in Base64."),
        ],
        requestBody={"required": True, "content": {PART: {"schema": {"type": "string", "format": "binary"}}}},
    )
    delete = _operation(
        "DELETE /v1/uploads/{id}",
        "endUpload",
        "Give an upload up; what came is removed and its slide cancelled",
        _none("Ended"),
        parameters=[upload, version],
    )
    told = {"description": f"Extensions: {EXTENSIONS}."}
    return {
        "/v1/uploads": {
            "post": create,
            "options": operation((), "tusOfUploads", "What of tus is spoken", options, **told),
        },
        "/v1/uploads/{id}": {
            "head": head,
            "patch": patch,
            "delete": delete,
            "options": operation(
                (), "tusOfUpload", "What of tus is spoken", options, parameters=[in_path("id", "of an upload")], **told
            ),
        },
    }


def _slides() -> Schema:
    body = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Submission"}}},
    }
    listed = closed(
        {"slides": {"type": "array", "items": ANSWER}, "next": {"anyOf": [TEXT, NULL]}},
        ["slides", "next"],
    )
    events = {
        "text/event-stream": {
            "schema": TEXT | {"description": "Events state, progress and note; id is resumed after by Last-Event-ID."}
        }
    }
    one = told_as_json(ANSWER)
    one["content"] |= events
    return {
        "/v1/slides": {
            "get": _operation(
                "GET /v1/slides",
                "worklist",
                "Slides by priority, then the oldest first",
                told_as_json(listed),
                parameters=[
                    in_query("limit", {"type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL}, "Most."),
                    in_query("after", TEXT | {"pattern": "^[0-9a-f]{32}$"}, "`next` of the page before."),
                    in_query("state", {"enum": list(STATES)}, "Only slides in this state."),
                    in_query("specimen", {"enum": list(request_form.SPECIMENS)}, "Only slides of this specimen."),
                    in_query("accession", TEXT | {"minLength": 1, "maxLength": 64}, "Only those of this number."),
                    in_query("signed", {"enum": ["true", "false"]}, "Only those that are signed, or are not yet."),
                    in_query("review", {"enum": ["true", "false"]}, "Only those that wait for a pathologist."),
                ],
            ),
            "post": _operation(
                "POST /v1/slides",
                "submitSlide",
                "A slide of the inbox, or the form and SHA-256 of an upload",
                {
                    "200": told_as_json(ANSWER) | {"headers": REPLAYED, "description": "The same was there before"},
                    "202": told_as_json(ANSWER) | {"description": "Taken"},
                },
                parameters=[KEY],
                requestBody=body,
            ),
        },
        "/v1/slides/turnaround": {
            "get": _operation(
                "GET /v1/slides/turnaround",
                "turnaround",
                f"Slides by state, and how long those of the last {turnaround.DAYS} days took from arrival on",
                told_as_json(_turnaround()),
            )
        },
        "/v1/slides/{id}": {
            "get": _operation(
                "GET /v1/slides/{id}",
                "slide",
                "A slide, its reading and its reports; or its life as it happens, where Accept is text/event-stream",
                {"200": one, "204": {"description": "Nothing is left to tell after Last-Event-ID"}},
                parameters=[
                    SLIDE,
                    _header(
                        "Last-Event-ID",
                        {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
                        "Only what came after.",
                    ),
                ],
            )
        },
        "/v1/slides/{id}/cancel": {
            "post": _operation(
                "POST /v1/slides/{id}/cancel",
                "cancelSlide",
                "Stop a slide that is not read yet",
                told_as_json(ANSWER),
                parameters=[SLIDE],
            )
        },
    }


def _signing(settings: Settings) -> Schema:
    content = {media: {"schema": REPORT if name == "json" else {}} for name, media in FORMATS.items()}
    version = {"Report-Version": {"schema": TEXT, "description": "The version, or draft."}}
    said = {
        "findings": _words(settings.slides.findings),
        "diagnosis": _words(DIAGNOSIS) | {"description": "A category of Bethesda, such as HSIL, or words."},
        "reason": _words(REASON) | {"description": "Why the report is amended."},
    }
    state = closed({"slide_id": TEXT, "state": {"enum": list(STATES)}}, ["slide_id", "state"])

    def sign(name: str, summary: str, fields: tuple[str, ...]) -> Schema:
        schema = closed({field: said[field] for field in fields}, list(fields))
        return _operation(
            f"POST /v1/slides/{{id}}/{name}",
            f"{name}Report",
            summary,
            told_as_json(REPORT) | {"headers": REPLAYED},
            parameters=[SLIDE, KEY],
            requestBody={"required": True, "content": {"application/json": {"schema": schema}}},
        )

    return {
        "/v1/slides/{id}/report": {
            "get": _operation(
                "GET /v1/slides/{id}/report",
                "report",
                "The newest signed report, or the draft; by Accept or format",
                {"description": "As asked", "content": content, "headers": version},
                parameters=[
                    SLIDE,
                    in_query("format", {"enum": list(FORMATS)}, "Else by Accept."),
                    in_query("version", {"type": "integer", "minimum": 1, "maximum": 999_999}, "An earlier one."),
                ],
            )
        },
        "/v1/slides/{id}/review": {
            "post": _operation(
                "POST /v1/slides/{id}/review",
                "reviewSlide",
                "A pathologist opens the slide",
                told_as_json(state),
                parameters=[SLIDE],
            )
        },
        "/v1/slides/{id}/sign": {"post": sign("sign", "Sign the report", ("findings", "diagnosis"))},
        "/v1/slides/{id}/amend": {
            "post": sign("amend", "Sign a correction; the earlier version stays", ("findings", "diagnosis", "reason"))
        },
    }


def schemas() -> Schema:
    words = closed({"code": TEXT, "en": TEXT, "zh": TEXT}, ["code", "en", "zh"])
    fields = {
        "accession": _words(64),
        "specimen": {"enum": list(request_form.SPECIMENS)},
        "stain": {"enum": list(request_form.STAINS)},
        "preparation": {"enum": list(request_form.PREPARATIONS)},
    }
    either = {name: {"anyOf": [schema, NULL]} for name, schema in fields.items()}
    context = closed(
        {
            "name": {"type": "string", "pattern": f"^{request_form.FIELD.pattern}$"},
            "value": {"anyOf": [{"type": "boolean"}, {"type": "number", "minimum": -1e12, "maximum": 1e12}, _words(200),
                                NULL]},
            "source": _words(200),
            "authorisation": _words(200),
        },
        ["name", "value", "source", "authorisation"],
    )  # fmt: skip
    types = {"type": "string", "pattern": f"^{request_form.GENOTYPE.pattern}$"}
    asked = {
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "hpv_result": {"enum": list(request_form.HPV)},
        "hpv_genotype": {"type": "array", "items": types, "maxItems": request_form.MOST_GENOTYPES,
                         "description": "Only with hpv_result positive."},
        "previous_result": {"enum": list(request_form.PREVIOUS)},
        "authorisation": {
            "type": "string",
            "pattern": "^[0-9a-f]{32}$",
            "description": "The patient's; its revocation stops the reading",
        },
        "menopause": {"enum": list(request_form.MENOPAUSE)},
        "context": {"type": "array", "items": context, "maxItems": request_form.MOST_CONTEXT},
        "mpp": {"type": "number", "minimum": LIMITS.finest_mpp, "maximum": LIMITS.coarsest_mpp,
                "description": "Microns per pixel, where the file has none; who sends it answers for it."},
    }  # fmt: skip
    submission = closed(
        {
            "reference": {"type": "string", "minLength": 1, "maxLength": 1_000,
                          "description": "A path below the inbox, or the id of an upload."},
            "sha256": {"type": "string", "pattern": f"^{validation.SHA256.pattern}$"},
            **fields,
            **{name: {"anyOf": [schema, NULL]} for name, schema in asked.items()},
        },
        ["reference", "sha256", *fields],
    )  # fmt: skip
    maybe: Schema = {"anyOf": [TEXT, NULL]}
    slide = {
        "slide_id": TEXT,
        "state": {"enum": list(STATES)},
        **dict.fromkeys(("state_en", "state_zh", "name", "created", "updated"), TEXT),
        "code": maybe,
        "sha256": maybe,
        "reasons": {"type": "array", "items": words},
        "notes": {"type": "array", "items": words},
        "bytes": COUNT,
        **either,
        "mpp": {"type": ["number", "null"]},
        "progress": closed({"done": COUNT, "total": COUNT}, ["done", "total"]),
        "priority": {"type": "integer", "minimum": 0, "maximum": 100},
        "triage": {"enum": ["negative", "review", "positive", "abstained", None]},
        **dict.fromkeys(("audit", "to_review"), {"type": "boolean"}),
        "model": {"type": ["object", "null"]},
    }
    more: Schema = dict.fromkeys(("request", "reading"), {"type": ["object", "null"]})
    more["reports"] = {"type": "array", "items": {"type": "object", "required": ["version", "kind", "at", "sha256"]}}
    return {
        "Submission": submission,
        "Slide": closed(slide | more, list(slide)),
        "Report": {"type": "object", "description": "A reading, and what its signer added."},
    }


def _turnaround() -> Schema:
    seconds: Schema = {"type": ["number", "null"], "description": "From when the whole slide was here; none of none."}
    longest: Schema = {"type": ["number", "null"], "description": "Of those, from when the whole slide was here."}
    spread: Schema = {
        **{"slides": COUNT, "median_seconds": seconds, "p90_seconds": seconds},
        "waiting": COUNT | {"description": "That arrived at any time and are not done: in no other figure here."},
        "longest_wait_seconds": longest,
    }
    told: Schema = {
        "days": {"const": turnaround.DAYS},
        "slides": COUNT | {"description": f"That came in these days; of more than {turnaround.MOST} the newest."},
        "states": closed(dict.fromkeys(STATES, COUNT), list(STATES)),
        "awaiting": COUNT | {"description": "Read, and to be opened by a pathologist: no negative that was not drawn."},
        **dict.fromkeys(("to_reading", "to_signature"), closed(spread, list(spread))),
    }
    return closed(told, list(told))


def _words(most: int) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": most}


def _header(name: str, schema: Schema, description: str, required: bool = False) -> Schema:
    return {"name": name, "in": "header", "required": required, "schema": schema, "description": description}


def _none(description: str) -> Schema:
    return {"204": {"description": description}}


def _operation(route: str, name: str, summary: str, fine: Schema, **more: Any) -> Schema:
    return operation(PROBLEMS[route], name, summary, fine, **more)
