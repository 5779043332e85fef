"""Build parts of the OpenAPI document: operations with their problems, parameters, bodies and schemas of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from serving.core.http.problems import PROBLEM_MEDIA_TYPE, PROBLEM_TYPES

Schema = dict[str, Any]

AUTH_PROBLEMS = (  # of every route that needs a role
    "no_token", "bad_token", "not_allowed", "cross_site", "another_person", "rate_exceeded",
)  # fmt: skip
COMMON_PROBLEMS = ("headers_too_large", "internal")  # of every route
IDEMPOTENCY_KEY_PARAM = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "description": "Seen before with the same request, nothing is done again and the first answer is given.",
}
BODY_PROBLEMS = (  # of a JSON body
    "empty_body", "not_utf8", "malformed_json", "slow_request", "body_too_large", "unsupported_media_type",
)  # fmt: skip
STORE_PROBLEMS = ("store_locked", "store_full", "store_failed", "not_ready")


def operation(
    problems: Sequence[str], name: str, summary: str, success: Schema | Mapping[str, Schema], **extra: Any
) -> Schema:
    """An operation. `success`: the response to 200, or responses by status; errors follow from `problems`."""
    success_by_status = success if all(status.isdigit() for status in success) else {"200": success}
    problem_responses = _problem_responses((*problems, *COMMON_PROBLEMS))
    return {"operationId": name, "summary": summary, **extra, "responses": {**success_by_status, **problem_responses}}


def add_auth_responses(operation: Schema, required: bool) -> None:
    """Add the responses to callers without a token or the role; `required`: whether tokens are required at all."""
    responses = operation["responses"]
    for status, response in _problem_responses(AUTH_PROBLEMS).items():
        content = responses[status]["content"] if status in responses else {}
        if content and PROBLEM_MEDIA_TYPE not in content:  # another answer of this status
            description = f"{responses[status]['description']}; {response['description']}"
            response = {"description": description, "content": content | response["content"]}
        elif content:
            existing_types = content[PROBLEM_MEDIA_TYPE]["schema"]["properties"]["type"]["enum"]
            kinds = [name.rpartition("/")[2] for name in existing_types]
            response = _problem_responses(
                [*kinds, *(kind for kind in AUTH_PROBLEMS if PROBLEM_TYPES[kind].status == int(status))]
            )[status]
        responses[status] = response
    if required:
        operation["security"] = [{"token": []}, {"session": []}]


def _problem_responses(kinds: Sequence[str]) -> Schema:
    """The responses of these kinds of problem, by status."""
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


def query_params(model: type[BaseModel]) -> list[Schema]:
    """The parameters of a query, as its model has them."""
    properties = model_schema(model)["properties"]
    return [
        query_param(name, {key: value for key, value in schema.items() if key != "description"}, schema["description"])
        for name, schema in properties.items()
    ]


def path_param(name: str, description: str, **extra: Any) -> Schema:
    schema = {"type": "string"} | extra
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


def link(operation: str, expression: str) -> Schema:
    return {operation: {"operationId": operation, "parameters": {"id": expression}}}


def closed_object(properties: Schema, required: Sequence[str]) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


class _SchemaGenerator(GenerateJsonSchema):
    """Without titles made of fields' names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def model_schema(model: type[BaseModel]) -> Schema:
    """The JSON schema of a model: in one piece, without the names and docstrings of classes, and without the defaults
    that stand for a field that is not given."""
    schema = model.model_json_schema(schema_generator=_SchemaGenerator)
    simple: Schema = _simplify(schema, schema.pop("$defs", {}))
    return simple


def _simplify(schema: Any, definitions: Schema) -> Any:
    if isinstance(schema, list):
        return [_simplify(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if "properties" in schema:
        schema = {name: value for name, value in schema.items() if name not in ("title", "description")}
    if not schema.get("default", True):
        schema = {name: value for name, value in schema.items() if name != "default"}
    return {name: _simplify(value, definitions) for name, value in schema.items()}


def json_body(model: type[BaseModel] | Schema) -> Schema:
    """A required JSON body, by its model or its schema."""
    schema = model if isinstance(model, dict) else model_schema(model)
    return {"required": True, "content": {"application/json": {"schema": schema}}}
