"""The part of the OpenAPI document about models, versions and promotions."""

from __future__ import annotations

from serving.core.http.schema import (
    BODY_PROBLEMS,
    IDEMPOTENCY_KEY_PARAM,
    STORE_PROBLEMS,
    Schema,
    json_body,
    json_response,
    operation,
    path_param,
    query_params,
)
from serving.registry.promotion import Promotion
from serving.registry.routes import VersionQuery

PROBLEMS = {
    "/v1/versions": STORE_PROBLEMS,
    "/v1/models/{name}/versions": ("unknown_model", "bad_parameter", *STORE_PROBLEMS),
    "/v1/models/{name}/versions/{version}": ("unknown_model", "unknown_version", *STORE_PROBLEMS),
    "/v1/models/{name}/champion": (
        "unknown_model", "unknown_version", "not_promotable", *BODY_PROBLEMS, "bad_header", "invalid_request",
        "key_reused", *STORE_PROBLEMS,
    ),
}  # fmt: skip
MODEL = path_param("name", "of a model, as GET /v1/versions lists it")
FAILURE = {"type": ["string", "null"], "description": "Why the champion is not deployed"}
MODELS = {
    "type": "array",
    "items": {"type": "object", "properties": {"alarm": FAILURE, "alarm_zh": FAILURE}},
}
ITEMS = {"type": "array", "items": {"type": "object"}}


def paths() -> Schema:
    stands_description = (
        "For the newest promotion: whether the champion's pointer still names it; it may have been moved by hand"
    )
    promotions = {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["id", "version", "stands"],
            "properties": {"stands": {"type": ["boolean", "null"], "description": stands_description}},
        },
    }
    versions_schema = {
        "type": "object",
        "required": ["model", "versions", "promotions"],
        "properties": {"versions": ITEMS, "promotions": promotions},
    }
    return {
        "/v1/versions": {
            "get": _operation(
                "/v1/versions",
                "allModels",
                "Every model on disk: what is deployed, its champion and challenger, and its card",
                {"type": "object", "required": ["models"], "properties": {"models": MODELS}},
            )
        },
        "/v1/models/{name}/versions": {
            "get": _operation(
                "/v1/models/{name}/versions",
                "versions",
                "A model's versions, newest first, with metrics and intervals, and its promotions",
                versions_schema,
                parameters=[MODEL, *query_params(VersionQuery)],
            )
        },
        "/v1/models/{name}/versions/{version}": {
            "get": _operation(
                "/v1/models/{name}/versions/{version}",
                "version",
                "A version's signed card: metrics, the verdict of the gate, the data of its plots, its data sets",
                {"type": "object", "required": ["model", "version"]},
                parameters=[MODEL, path_param("version", "of the model")],
            )
        },
        "/v1/models/{name}/champion": {
            "post": _operation(
                "/v1/models/{name}/champion",
                "promote",
                "Promote a version that passed the gate to champion, or roll back to one that was deployed before",
                {"type": "object", "required": ["promotion_id", "model", "version", "kind"]},
                parameters=[MODEL, IDEMPOTENCY_KEY_PARAM],
                requestBody=json_body(Promotion),
            )
        },
    }


def _operation(path: str, name: str, summary: str, schema: Schema, **extra: object) -> Schema:
    return operation(PROBLEMS[path], name, summary, json_response(schema), **extra)
