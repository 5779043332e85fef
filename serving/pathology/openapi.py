"""The slides' routes for GET /openapi.json: what each takes, gives and refuses."""

from __future__ import annotations

from typing import Any

from serving.core.http.schema import (
    BODY_PROBLEMS,
    IDEMPOTENCY_KEY_PARAM,
    STORE_PROBLEMS,
    Schema,
    closed_object,
    json_body,
    json_response,
    model_schema,
    operation,
    path_param,
    query_params,
)
from serving.pathology import turnaround
from serving.pathology.dicomweb.openapi import STOW_PROBLEMS, stow_paths
from serving.pathology.report.routes import FORMATS, ReportQuery
from serving.pathology.report.signing import report_models
from serving.pathology.routes import WorklistQuery
from serving.pathology.slides.states import STATES
from serving.pathology.upload import request_form
from serving.pathology.upload.tus import EXTENSIONS, PART_MEDIA_TYPE
from serving.pathology.upload.tus_headers import ALGORITHMS, VERSION
from serving.pathology.viewer.openapi import VIEWER_PROBLEMS, viewer_paths
from serving.settings import Settings

SIGN_PROBLEMS = (*BODY_PROBLEMS, "not_a_pathologist", "unknown_slide", "slide_state", "bad_header", "invalid_request",
        "key_reused", "report_unavailable", *STORE_PROBLEMS)  # fmt: skip
UPLOAD_PROBLEMS = ("tus_version", "unknown_upload", "upload_gone", "upload_locked", *STORE_PROBLEMS)
PART_PROBLEMS = (*UPLOAD_PROBLEMS, "unsupported_media_type", "bad_header", "upload_offset", "upload_too_large",
        "slow_request", "upload_checksum", "upload_sha256", "no_space")  # fmt: skip
PROBLEMS: dict[str, tuple[str, ...]] = {
    "POST /v1/uploads": (
        "tus_version", "bad_header", "invalid_request", "upload_too_large", "no_space", "overloaded", "key_reused",
        "quota_used", "group_complete", "unsupported_media_type", "slow_request", "upload_checksum", "upload_sha256",
        "upload_locked", "upload_gone", *STORE_PROBLEMS,
    ),
    "POST /v1/uploads/{id}": (*PART_PROBLEMS, "method_not_allowed", "slide_state"),
    "HEAD /v1/uploads/{id}": UPLOAD_PROBLEMS,
    "PATCH /v1/uploads/{id}": PART_PROBLEMS,
    "DELETE /v1/uploads/{id}": (*UPLOAD_PROBLEMS, "slide_state"),
    **STOW_PROBLEMS,
    "GET /v1/slides": ("bad_parameter", "unknown_slide", *STORE_PROBLEMS),
    "GET /v1/slides/turnaround": ("bad_parameter", *STORE_PROBLEMS),
    "POST /v1/slides": (
        *BODY_PROBLEMS, "bad_header", "invalid_request", "key_reused", "slide_state", "upload_sha256", "upload_locked",
        "quota_used", *STORE_PROBLEMS,
    ),
    "GET /v1/slides/{id}": ("unknown_slide", "bad_header", "overloaded", *STORE_PROBLEMS),
    "GET /v1/slides/{id}/report": (
        "bad_parameter", "not_acceptable", "unknown_slide", "slide_state", "unknown_report", "report_unavailable",
        *STORE_PROBLEMS,
    ),
    "POST /v1/slides/{id}/cancel": ("unknown_slide", "slide_state", "upload_locked", *STORE_PROBLEMS),
    "POST /v1/slides/{id}/scale": (*BODY_PROBLEMS, "invalid_request", "unknown_slide", "slide_state", *STORE_PROBLEMS),
    "POST /v1/slides/{id}/review": ("not_a_pathologist", "unknown_slide", "slide_state", *STORE_PROBLEMS),
    "POST /v1/slides/{id}/sign": SIGN_PROBLEMS,
    "POST /v1/slides/{id}/amend": SIGN_PROBLEMS,
    **VIEWER_PROBLEMS,
}  # fmt: skip

METADATA_PAIR = "[!-+.-~]+( [A-Za-z0-9+/]*={0,2})?"  # of Upload-Metadata
STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NULL: Schema = {"type": "null"}
SLIDE_ID_PARAM = path_param("id", "slide_id", pattern="^[0-9a-f]{32}$")
SLIDE_REF = {"$ref": "#/components/schemas/Slide"}
REPORT_REF = {"$ref": "#/components/schemas/Report"}
REPLAYED_HEADER = {
    "Idempotent-Replayed": {"schema": {"const": "true"}, "description": "Only where it was there before."}
}


def paths(settings: Settings) -> Schema:
    return _upload_paths(settings) | stow_paths() | _slide_paths() | _report_paths(settings) | viewer_paths()


def _upload_paths(settings: Settings) -> Schema:
    upload_param = path_param("id", "last part of the Location that creation gave", pattern="^[0-9a-f]{32}$")
    version_param = _header_param("Tus-Resumable", {"const": VERSION}, "Version of tus.", required=True)
    length_schema = {"type": "integer", "minimum": 1, "maximum": settings.slides.max_upload_bytes}
    options_responses = _no_content("What is spoken: Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm")
    checksum_param = _header_param(
        "Upload-Checksum", STRING, f"One of {', '.join(ALGORITHMS)}, a blank, the part's digest in Base64 or hex."
    )
    part_body: Schema = {
        "required": True,
        "content": {PART_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
    part_params = [
        upload_param,
        version_param,
        _header_param("Upload-Offset", COUNT, "As HEAD tells it.", required=True),
        _header_param("Upload-Length", length_schema, "Bytes of the upload, if its length was deferred."),
        checksum_param,
    ]
    create_operation = _operation(
        "POST /v1/uploads",
        "createUpload",
        "Begin to send a slide in parts (tus 1.0.0)",
        {"201": _no_content("Begun: Location, Slide-Id, Upload-Expires; Upload-Offset if a part was sent")["204"]},
        parameters=[
            version_param,
            _header_param("Upload-Length", length_schema, "Bytes; required without Upload-Defer-Length."),
            _header_param("Upload-Defer-Length", {"const": "1"}, "The length follows with a later part."),
            _header_param(
                "Upload-Metadata",
                {"type": "string", "pattern": f"^({METADATA_PAIR}(,{METADATA_PAIR})*)?$"},
                "filename, sha256, the fields of the request form or request (the form as JSON), each in Base64; other "
                "names are ignored. For each file of a slide of several files also group, files (their number) and "
                "relativePath. Form and SHA-256 may also be told afterwards by POST /v1/slides.",
            ),
            checksum_param,
            IDEMPOTENCY_KEY_PARAM,
        ],
        requestBody=part_body | {"required": False},
    )
    head_operation = _operation(
        "HEAD /v1/uploads/{id}",
        "uploadOffset",
        "Where to send on from: Upload-Offset",
        {"200": {"description": "Upload-Offset, Upload-Length, Upload-Metadata, Slide-Id, Upload-Expires"}},
        parameters=[upload_param, version_param],
    )
    patch_operation = _operation(
        "PATCH /v1/uploads/{id}",
        "sendPart",
        "Send a part; it is on the disk when the answer comes",
        _no_content("Kept: Upload-Offset; with the last part the slide goes on"),
        parameters=part_params,
        requestBody=part_body,
    )
    override_operation = _operation(
        "POST /v1/uploads/{id}",
        "overrideUpload",
        "PATCH, HEAD or DELETE, as X-HTTP-Method-Override says, for clients that cannot send them",
        {"200": {"description": "As HEAD is answered"}, **_no_content("As PATCH or DELETE is answered")},
        parameters=[
            _header_param("X-HTTP-Method-Override", {"enum": ["PATCH", "HEAD", "DELETE"]}, "Method.", required=True),
            *part_params[:2],
            *(param | {"required": False} for param in part_params[2:]),
        ],
        requestBody=part_body | {"required": False},
    )
    delete_operation = _operation(
        "DELETE /v1/uploads/{id}",
        "endUpload",
        "Give an upload up; what came is removed and its slide cancelled",
        _no_content("Ended"),
        parameters=[upload_param, version_param],
    )
    extra = {"description": f"Extensions: {EXTENSIONS}."}
    return {
        "/v1/uploads": {
            "post": create_operation,
            "options": operation((), "tusOfUploads", "What of tus is spoken", options_responses, **extra),
        },
        "/v1/uploads/{id}": {
            "post": override_operation,
            "head": head_operation,
            "patch": patch_operation,
            "delete": delete_operation,
            "options": operation(
                (),
                "tusOfUpload",
                "What of tus is spoken",
                options_responses,
                parameters=[path_param("id", "of an upload")],
                **extra,
            ),
        },
    }


def _slide_paths() -> Schema:
    request_body = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Submission"}}},
    }
    page_schema = closed_object(
        {"slides": {"type": "array", "items": SLIDE_REF}, "next": {"anyOf": [STRING, NULL]}},
        ["slides", "next"],
    )
    event_content = {
        "text/event-stream": {
            "schema": STRING | {"description": "Events state, progress and note; id is resumed after by Last-Event-ID."}
        }
    }
    slide_response = json_response(SLIDE_REF)
    slide_response["content"] |= event_content
    return {
        "/v1/slides": {
            "get": _operation(
                "GET /v1/slides",
                "worklist",
                "Slides by priority, then the oldest first",
                json_response(page_schema),
                parameters=query_params(WorklistQuery),
            ),
            "post": _operation(
                "POST /v1/slides",
                "submitSlide",
                "A slide of the inbox, or the form and SHA-256 of an upload",
                {
                    "200": json_response(SLIDE_REF)
                    | {"headers": REPLAYED_HEADER, "description": "The same was there before"},
                    "202": json_response(SLIDE_REF) | {"description": "Taken"},
                },
                parameters=[IDEMPOTENCY_KEY_PARAM],
                requestBody=request_body,
            ),
        },
        "/v1/slides/turnaround": {
            "get": _operation(
                "GET /v1/slides/turnaround",
                "turnaround",
                f"Slides by state, and how long those of the last {turnaround.WINDOW_DAYS} days took from arrival on",
                json_response(_turnaround_schema()),
            )
        },
        "/v1/slides/{id}": {
            "get": _operation(
                "GET /v1/slides/{id}",
                "slide",
                "A slide, its reading and its reports; or its life as it happens, where Accept is text/event-stream",
                {"200": slide_response, "204": {"description": "Nothing is left to tell after Last-Event-ID"}},
                parameters=[
                    SLIDE_ID_PARAM,
                    _header_param(
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
                json_response(SLIDE_REF),
                parameters=[SLIDE_ID_PARAM],
            )
        },
        "/v1/slides/{id}/scale": {
            "post": _operation(
                "POST /v1/slides/{id}/scale",
                "confirmScale",
                "Confirm the scale of a slide whose file contradicts itself or its sender",
                json_response(SLIDE_REF),
                parameters=[SLIDE_ID_PARAM],
                requestBody=json_body(request_form.ScaleConfirmation),
            )
        },
    }


def _report_paths(settings: Settings) -> Schema:
    content = {media_type: {"schema": REPORT_REF if name == "json" else {}} for name, media_type in FORMATS.items()}
    version_header = {"Report-Version": {"schema": STRING, "description": "The version, or draft."}}
    report_bodies = report_models(settings.slides.max_findings_chars)
    state_schema = closed_object({"slide_id": STRING, "state": {"enum": list(STATES)}}, ["slide_id", "state"])

    def sign_operation(name: str, summary: str, state: str) -> Schema:
        return _operation(
            f"POST /v1/slides/{{id}}/{name}",
            f"{name}Report",
            summary,
            json_response(REPORT_REF) | {"headers": REPLAYED_HEADER},
            parameters=[SLIDE_ID_PARAM, IDEMPOTENCY_KEY_PARAM],
            requestBody=json_body(report_bodies[state]),
        )

    return {
        "/v1/slides/{id}/report": {
            "get": _operation(
                "GET /v1/slides/{id}/report",
                "report",
                "The newest signed report, or the draft; by Accept or format",
                {"description": "As asked", "content": content, "headers": version_header},
                parameters=[
                    SLIDE_ID_PARAM,
                    *query_params(ReportQuery),
                ],
            )
        },
        "/v1/slides/{id}/review": {
            "post": _operation(
                "POST /v1/slides/{id}/review",
                "reviewSlide",
                "A pathologist opens the slide",
                json_response(state_schema),
                parameters=[SLIDE_ID_PARAM],
            )
        },
        "/v1/slides/{id}/sign": {"post": sign_operation("sign", "Sign the report", "signed")},
        "/v1/slides/{id}/amend": {
            "post": sign_operation("amend", "Sign a correction; the earlier version stays", "amended")
        },
    }


def schemas() -> Schema:
    message_schema = closed_object({"code": STRING, "en": STRING, "zh": STRING}, ["code", "en", "zh"])
    scale_schema = closed_object({"source": STRING, "x": NUMBER, "y": NUMBER}, ["source", "x", "y"])
    scales = {"type": "array", "items": scale_schema, "description": "With scale_conflict: the values that differ."}
    reason_schema = closed_object({"code": STRING, "en": STRING, "zh": STRING, "scales": scales}, ["code", "en", "zh"])
    form_fields = model_schema(request_form.FormFields)["properties"]
    nullable_fields = {name: {"anyOf": [form_fields[name], NULL]} for name in request_form.REQUIRED_FIELDS}
    nullable_string: Schema = {"anyOf": [STRING, NULL]}
    summary_fields = {
        "slide_id": STRING,
        "state": {"enum": list(STATES)},
        **dict.fromkeys(("state_en", "state_zh", "name", "created", "updated"), STRING),
        "code": nullable_string,
        "sha256": nullable_string,
        "reasons": {"type": "array", "items": reason_schema},
        "notes": {"type": "array", "items": message_schema},
        "bytes": COUNT,
        **nullable_fields,
        "mpp": {"type": ["number", "null"]},
        "progress": closed_object({"done": COUNT, "total": COUNT}, ["done", "total"]),
        "priority": {"type": "integer", "minimum": 0, "maximum": 100},
        "triage": {"enum": ["negative", "review", "positive", "abstained", None]},
        **dict.fromkeys(("audit", "to_review"), {"type": "boolean"}),
        "model": {"type": ["object", "null"]},
    }
    detail_fields: Schema = dict.fromkeys(("request", "reading"), {"type": ["object", "null"]})
    detail_fields["proof"] = {"anyOf": [_proof_schema(), NULL]}
    detail_fields["reports"] = {
        "type": "array",
        "items": {"type": "object", "required": ["version", "kind", "at", "sha256"]},
    }
    return {
        "Submission": model_schema(request_form.Submission),
        "Slide": closed_object(summary_fields | detail_fields, list(summary_fields)),
        "Report": {"type": "object", "description": "A reading, and what its signer added."},
    }


def _proof_schema() -> Schema:
    fields: Schema = {
        "at": STRING,
        "readers": {"type": "array", "items": closed_object({"name": STRING, "version": STRING}, ["name", "version"])},
        **dict.fromkeys(("words", "files", "bytes", "tiles", "regions"), COUNT),
        **dict.fromkeys(("original_sha256", "copy_sha256"), STRING),
        "seconds": {"type": "number", "minimum": 0},
    }
    description = (
        "The proof that the de-identified copy holds no label, no word of the original's other texts, and all tissue: "
        "readers that found nothing, words searched for in all bytes, stored tiles and decoded regions alike."
    )
    return closed_object(fields, list(fields)) | {"description": description}


def _turnaround_schema() -> Schema:
    seconds_schema: Schema = {
        "type": ["number", "null"],
        "description": "From when the whole slide was here; none of none.",
    }
    longest_wait_schema: Schema = {
        "type": ["number", "null"],
        "description": "Of those, from when the whole slide was here.",
    }
    stats_fields: Schema = {
        **{"slides": COUNT, "median_seconds": seconds_schema, "p90_seconds": seconds_schema},
        "waiting": COUNT | {"description": "That arrived at any time and are not done: in no other figure here."},
        "longest_wait_seconds": longest_wait_schema,
    }
    fields: Schema = {
        "days": {"const": turnaround.WINDOW_DAYS},
        "slides": COUNT | {"description": f"That came in these days; of more than {turnaround.MAX_SLIDES} the newest."},
        "states": closed_object(dict.fromkeys(STATES, COUNT), list(STATES)),
        "awaiting": COUNT | {"description": "Read, and to be opened by a pathologist: no negative that was not drawn."},
        **dict.fromkeys(("to_reading", "to_signature"), closed_object(stats_fields, list(stats_fields))),
    }
    return closed_object(fields, list(fields))


def _text_schema(max_length: int) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": max_length}


def _header_param(name: str, schema: Schema, description: str, required: bool = False) -> Schema:
    return {"name": name, "in": "header", "required": required, "schema": schema, "description": description}


def _no_content(description: str) -> Schema:
    return {"204": {"description": description}}


def _operation(route: str, name: str, summary: str, responses: Schema, **extra: Any) -> Schema:
    return operation(PROBLEMS[route], name, summary, responses, **extra)
