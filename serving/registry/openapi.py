"""The OpenAPI document's part of models and versions."""

from __future__ import annotations

from serving.core.http.schema import KEY, STORE, Schema, closed, in_path, in_query, operation, told_as_json
from serving.registry.promotion import NAMED, REASON
from serving.registry.versions import MOST, NAME

PROBLEMS = {
    "/v1/versions": STORE,
    "/v1/models/{name}/versions": ("unknown_model", "bad_parameter", *STORE),
    "/v1/models/{name}/versions/{version}": ("unknown_model", "unknown_version", *STORE),
    "/v1/models/{name}/champion": (
        "unknown_model", "unknown_version", "not_promotable", "empty_body", "not_utf8", "malformed_json", "bad_header",
        "slow_request", "body_too_large", "unsupported_media_type", "invalid_request", "key_reused", *STORE,
    ),
}  # fmt: skip
MODEL = in_path("name", "of a model, as GET /v1/versions tells it")
ALARM = {"type": ["string", "null"], "description": "Why what the pointer names does not serve"}
MODELS = {
    "type": "array",
    "items": {"type": "object", "properties": {"alarm": ALARM, "alarm_zh": ALARM}},
}
ITEMS = {"type": "array", "items": {"type": "object"}}


def paths() -> Schema:
    text: Schema = {"type": "string", "minLength": 1}
    body = {"version": text | {"maxLength": NAMED}, "reason": text | {"maxLength": REASON}}
    stands = "Of the newest: whether the champion's pointer on the disk names it; it may have been moved from elsewhere"
    promotions = {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["id", "version", "stands"],
            "properties": {"stands": {"type": ["boolean", "null"], "description": stands}},
        },
    }
    listed = {
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
                listed,
                parameters=[
                    MODEL,
                    in_query(
                        "before", {"type": "string", "pattern": f"^{NAME.pattern}$"}, "`next` of the page before."
                    ),
                    in_query("limit", {"type": "integer", "minimum": 1, "maximum": MOST, "default": 50}, "Of a page."),
                ],
            )
        },
        "/v1/models/{name}/versions/{version}": {
            "get": _operation(
                "/v1/models/{name}/versions/{version}",
                "version",
                "What a version's signed card says: figures, the gate's verdict, what plots are drawn from, its data",
                {"type": "object", "required": ["model", "version"]},
                parameters=[MODEL, in_path("version", "of the model")],
            )
        },
        "/v1/models/{name}/champion": {
            "post": _operation(
                "/v1/models/{name}/champion",
                "promote",
                "Make a version the champion that passed its gate, or roll back to one that served before",
                {"type": "object", "required": ["promotion_id", "model", "version", "kind"]},
                parameters=[MODEL, KEY],
                requestBody={
                    "required": True,
                    "content": {"application/json": {"schema": closed(body, [*body])}},
                },
            )
        },
    }


def _operation(path: str, name: str, summary: str, told: Schema, **more: object) -> Schema:
    return operation(PROBLEMS[path], name, summary, told_as_json(told), **more)
