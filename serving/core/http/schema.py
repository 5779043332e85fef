"""What the OpenAPI document is made of: an operation with the problems it may give, its parameters, its schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.core.http.problems import PROBLEM_MEDIA_TYPE, PROBLEM_TYPES

Schema = dict[str, Any]

AUTH_PROBLEMS = (  # where not anybody may call
    "no_token", "bad_token", "not_allowed", "cross_site", "another_person", "rate_exceeded",
)  # fmt: skip
COMMON_PROBLEMS = ("headers_too_large", "internal")  # problems that each route may give
IDEMPOTENCY_KEY_PARAM = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": "Seen before with the same request, nothing is done again and the first answer is given.",
}
STORE_PROBLEMS = ("store_locked", "store_full", "store_failed", "not_ready")


def operation(
    problems: Sequence[str], name: str, summary: str, success: Schema | Mapping[str, Schema], **extra: Any
) -> Schema:
    """`fine`: what comes with 200, or by status. What is refused follows from `problems`."""
    success_by_status = success if all(status.isdigit() for status in success) else {"200": success}
    problem_responses = _problem_responses((*problems, *COMMON_PROBLEMS))
    return {"operationId": name, "summary": summary, **extra, "responses": {**success_by_status, **problem_responses}}


def add_auth_responses(operation: Schema, required: bool) -> None:
    """Adds what a route refuses to who may not call it."""
    responses = operation["responses"]
    for status, response in _problem_responses(AUTH_PROBLEMS).items():
        if status in responses:
            existing_types = responses[status]["content"][PROBLEM_MEDIA_TYPE]["schema"]["properties"]["type"]["enum"]
            kinds = [name.rpartition("/")[2] for name in existing_types]
            response = _problem_responses(
                [*kinds, *(kind for kind in AUTH_PROBLEMS if PROBLEM_TYPES[kind].status == int(status))]
            )[status]
        responses[status] = response
    if required:
        operation["security"] = [{"token": []}, {"session": []}]


def _problem_responses(kinds: Sequence[str]) -> Schema:
    """Responses by status."""
    by_status: dict[int, list[str]] = {}
    for kind in kinds:
        by_status.setdefault(PROBLEM_TYPES[kind].status, []).append(kind)
    return {
        str(status): {
            "description": "; ".join(f"/problems/{kind}: {PROBLEM_TYPES[kind].title}" for kind in kinds),
            "content": {
                PROBLEM_MEDIA_TYPE: {
                    "schema": {
                        "allOf": [{"$ref": "#/components/schemas/Problem"}],
                        "properties": {"type": {"enum": [f"/problems/{kind}" for kind in kinds]}},
                    }
                }
            },
        }
        for status, kinds in sorted(by_status.items())
    }


def json_response(schema: Schema) -> Schema:
    return {"description": "As asked", "content": {"application/json": {"schema": schema}}}


def query_param(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def path_param(name: str, description: str, **extra: Any) -> Schema:
    schema = {"type": "string"} | extra
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


def link(operation: str, expression: str) -> Schema:
    return {operation: {"operationId": operation, "parameters": {"id": expression}}}


def closed_object(properties: Schema, required: Sequence[str]) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}
