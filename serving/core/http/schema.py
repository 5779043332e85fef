"""What the OpenAPI document is made of: an operation with the problems it may give, its parameters, its schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.core.http.problems import KINDS, MEDIA_TYPE

Schema = dict[str, Any]

GUARDED = (  # where not anybody may call
    "no_token", "bad_token", "not_allowed", "cross_site", "another_person", "rate_exceeded",
)  # fmt: skip
ANYWHERE = ("headers_too_large", "internal")  # problems that each route may give
KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": "Seen before with the same request, nothing is done again and the first answer is given.",
}
STORE = ("store_locked", "store_full", "store_failed", "not_ready")


def operation(
    problems: Sequence[str], name: str, summary: str, fine: Schema | Mapping[str, Schema], **more: Any
) -> Schema:
    """`fine`: what comes with 200, or by status. What is refused follows from `problems`."""
    by_its_status = fine if all(status.isdigit() for status in fine) else {"200": fine}
    refused = _refused((*problems, *ANYWHERE))
    return {"operationId": name, "summary": summary, **more, "responses": {**by_its_status, **refused}}


def guarded(operation: Schema, required: bool) -> None:
    """Adds what a route refuses to who may not call it."""
    responses = operation["responses"]
    for status, refused in _refused(GUARDED).items():
        if status in responses:
            there = responses[status]["content"][MEDIA_TYPE]["schema"]["properties"]["type"]["enum"]
            kinds = [name.rpartition("/")[2] for name in there]
            refused = _refused([*kinds, *(kind for kind in GUARDED if KINDS[kind].status == int(status))])[status]
        responses[status] = refused
    if required:
        operation["security"] = [{"token": []}, {"session": []}]


def _refused(kinds: Sequence[str]) -> Schema:
    """Responses by status."""
    by_status: dict[int, list[str]] = {}
    for kind in kinds:
        by_status.setdefault(KINDS[kind].status, []).append(kind)
    return {
        str(status): {
            "description": "; ".join(f"/problems/{kind}: {KINDS[kind].title}" for kind in kinds),
            "content": {
                MEDIA_TYPE: {
                    "schema": {
                        "allOf": [{"$ref": "#/components/schemas/Problem"}],
                        "properties": {"type": {"enum": [f"/problems/{kind}" for kind in kinds]}},
                    }
                }
            },
        }
        for status, kinds in sorted(by_status.items())
    }


def told_as_json(schema: Schema) -> Schema:
    return {"description": "As asked", "content": {"application/json": {"schema": schema}}}


def in_query(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def in_path(name: str, description: str, **more: Any) -> Schema:
    schema = {"type": "string"} | more
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


def link(operation: str, place: str) -> Schema:
    return {operation: {"operationId": operation, "parameters": {"id": place}}}


def closed(properties: Schema, required: Sequence[str]) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}
