"""The OpenAPI document's part of models and versions."""

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
MODEL = path_param("name", "of a model, as GET /v1/versions tells it")
FAILURE = {"type": ["string", "null"], "description": "Why what the pointer names does not serve"}
MODELS = {
    "type": "array",
    "items": {"type": "object", "properties": {"alarm": FAILURE, "alarm_zh": FAILURE}},
}
ITEMS = {"type": "array", "items": {"type": "object"}}


def paths() -> Schema:
    stands_description = (
        "Of the newest: whether the champion's pointer on the disk names it; it may have been moved from elsewhere"
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
                "Every model on the disk: what serves, its champion and challenger, what its newest card says",
                {"type": "object", "required": ["models"], "properties": {"models": MODELS}},
            )
        },
        "/v1/models/{name}/versions": {
            "get": _operation(
                "/v1/models/{name}/versions",
                "versions",
                "A model's versions, newest first, with figures and intervals, and who made which the champion",
                versions_schema,
                parameters=[MODEL, *query_params(VersionQuery)],
            )
        },
        "/v1/models/{name}/versions/{version}": {
            "get": _operation(
                "/v1/models/{name}/versions/{version}",
                "version",
                "What a version's signed card says: figures, the gate's verdict, what plots are drawn from, its data",
                {"type": "object", "required": ["model", "version"]},
                parameters=[MODEL, path_param("version", "of the model")],
            )
        },
        "/v1/models/{name}/champion": {
            "post": _operation(
                "/v1/models/{name}/champion",
                "promote",
                "Make a version the champion that passed its gate, or roll back to one that served before",
                {"type": "object", "required": ["promotion_id", "model", "version", "kind"]},
                parameters=[MODEL, IDEMPOTENCY_KEY_PARAM],
                requestBody=json_body(Promotion),
            )
        },
    }


def _operation(path: str, name: str, summary: str, schema: Schema, **extra: object) -> Schema:
    return operation(PROBLEMS[path], name, summary, json_response(schema), **extra)
