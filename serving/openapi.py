"""Build GET /openapi.json: every route, status and problem, with the schemas of indicators from the deployed models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from datasets.schema import ColumnSchema
from serving.console import openapi as console_openapi
from serving.core.http.principal import ROLES
from serving.core.http.problems import PROBLEM_TYPES
from serving.core.http.schema import (
    BODY_PROBLEMS,
    STORE_PROBLEMS,
    Schema,
    add_auth_responses,
    closed_object,
    json_body,
    json_response,
    link,
    operation,
    path_param,
    query_param,
    query_params,
)
from serving.core.security.authentication import COOKIE_NAME, SignIn
from serving.core.security.permissions import PERMISSIONS
from serving.decisions import search, what_if
from serving.decisions.batch import rows
from serving.decisions.batch.files.formats import MEDIA_TYPES
from serving.decisions.batch.routes import BatchQuery
from serving.decisions.companies import routes as companies_routes
from serving.decisions.products.base import DeployedModel, Product, products
from serving.decisions.request import ID_SCHEMA, REFERENCE_FIELD
from serving.governance import openapi as governance_openapi
from serving.pathology import openapi as pathology_openapi
from serving.privacy.consent import routes as consent_routes
from serving.registry import openapi as registry_openapi
from serving.settings import Settings

DECISION_PROBLEMS = (  # of each product's route
    *BODY_PROBLEMS, "bad_header", "unknown_model", "unknown_subject", "not_authorised", "indicators_refused",
    "invalid_request", "authorisation_ended", "key_reused", "quota_used", *STORE_PROBLEMS, "overloaded",
)  # fmt: skip
BATCH_PROBLEMS = (  # of each product's batch
    "empty_body", "bad_header", "unknown_model", "not_acceptable", "slow_request", "batch_running",
    "authorisation_ended", "body_too_large", "unsupported_media_type", "bad_parameter", "invalid_batch",
    "key_reused", "quota_used", *STORE_PROBLEMS, "overloaded",
)  # fmt: skip
PROBLEMS = {
    "/v1/decisions/{id}": ("unknown_decision", *STORE_PROBLEMS),
    "/v1/batches/{id}": ("unknown_batch", *STORE_PROBLEMS),
    "/v1/models": ("not_ready",),
    "/healthz/live": (),
    "/healthz/ready": ("not_ready",),
    "/metrics": ("not_ready", "store_failed"),
    "/openapi.json": ("not_ready",),
    "/problems/{kind}": ("not_found",),
    "GET /v1/session": (),
    "POST /v1/session": (
        *BODY_PROBLEMS, "bad_token", "cross_site",
    ),
    "DELETE /v1/session": ("cross_site",),
    **consent_routes.PROBLEMS,
    **console_openapi.PROBLEMS,
    **companies_routes.PROBLEMS,
    **search.PROBLEMS,
    **rows.PROBLEMS,
    **what_if.problems(),
    **pathology_openapi.PROBLEMS,
    **governance_openapi.PROBLEMS,
    **registry_openapi.PROBLEMS,
}  # fmt: skip
UNROUTED_PROBLEMS = ("not_found", "method_not_allowed")  # of no single route: unknown paths and methods


def build_document(models: Mapping[str, DeployedModel], settings: Settings) -> Schema:
    """The OpenAPI 3.1 document for these deployed models, by name."""
    schemas: Schema = {
        "Problem": _problem_schema(),
        **{f"Answer.{product.name}": _answer_schema(product) for product in products().values()},
        **{
            f"Indicators.{name}": _indicators_schema(model, settings.limits.max_text_chars)
            for name, model in sorted(models.items())
        },
    }
    paths = (
        dict(_product_paths(models, settings))
        | pathology_openapi.paths(settings)
        | consent_routes.paths()
        | console_openapi.paths()
    )
    paths |= (
        companies_routes.paths() | search.paths() | rows.paths() | governance_openapi.paths() | registry_openapi.paths()
    )
    paths |= what_if.paths() | _common_paths()
    for path, operations in paths.items():
        for method, operation_schema in operations.items():
            if roles := PERMISSIONS[f"{method.upper()} {path}"]:
                add_auth_responses(operation_schema, settings.access.required)
                operation_schema["x-roles"] = sorted(roles)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Yuheng",
            "version": "1",
            "description": " ".join(f"{product.question} POST {product.route}." for product in products().values())
            + " Each answer is on disk before it is sent. Problems are RFC 9457, in English and Chinese. Of no route "
            "but of the whole service: " + ", ".join(f"/problems/{kind}" for kind in UNROUTED_PROBLEMS) + ".",
        },
        "paths": paths,
        "components": {"schemas": schemas | pathology_openapi.schemas(), "securitySchemes": _security_schemes()},
    }


def _security_schemes() -> Schema:
    roles = "; ".join(f"{name} {en}" for name, (en, _) in ROLES.items())
    description = f"python -m serving token makes one. Its roles say what it may call (x-roles): {roles}."
    return {
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": description},
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": COOKIE_NAME,
            "description": "As POST /v1/session sets it, for the pages of this service.",
        },
    }


def _product_paths(models: Mapping[str, DeployedModel], settings: Settings) -> Iterator[tuple[str, Schema]]:
    """(path, operations) of each product."""
    idempotency_key = {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "description": "Seen before on this route with the same body and options, the first answer is given again, "
        "byte for byte; a batch that broke off is answered anew, and rows that rest on the same are not charged again.",
    }
    replayed = {"Idempotent-Replayed": {"schema": {"const": "true"}, "description": "Only on an answer given again."}}
    batch = {
        "Batch-Id": {"schema": {"type": "string"}, "required": True},
        "Location": {"schema": {"type": "string"}, "required": True},
    }
    batch_params = {param["name"]: param for param in query_params(BatchQuery)}
    files = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()}
    for product in products().values():
        names = sorted(name for name, model in models.items() if model.card.product == product.name)
        default = settings.default_models[product.name]
        request_schema = _request_schema(product, names, default)
        single_operation = operation(
            DECISION_PROBLEMS,
            product.operation_id,
            product.summary,
            json_response({"$ref": f"#/components/schemas/Answer.{product.name}"})
            | {"headers": replayed, "links": link("decision", "$response.body#/decision_id")},
            parameters=[idempotency_key],
            requestBody={"required": True, "content": {"application/json": {"schema": request_schema}}},
        )
        batch_operation = operation(
            BATCH_PROBLEMS,
            f"{product.operation_id}Many",
            product.batch_summary,
            {
                "description": "One row for each row that came",
                "content": files,
                "headers": batch | replayed,
                "links": link("batch", "$response.header.Batch-Id"),
            },
            parameters=[
                idempotency_key,
                *[batch_params[name] for name in ("format", "keep", "reasons")],
                query_param("model", _model_name_schema(names), f"Else {default}."),
            ],
            requestBody={"required": True, "content": files, "description": _BATCH_DESCRIPTION},
        )
        yield product.route, {"post": single_operation}
        yield f"{product.route}/batch", {"post": batch_operation}


_BATCH_DESCRIPTION = (
    "A table of indicators; or a column subject_id with none of the model's, each of a subject whose indicators the "
    "store holds (in NDJSON the first record decides). Its rows tell subject (pseudonym), inputs (an imprint of what "
    "was read), indicators_from, authorisations and not_read (conduct that no authorisation opens), lists with ';' "
    "between in CSV; one that is unknown or not authorised has an error and error_zh, and the others are answered."
)


def _model_name_schema(names: Sequence[str]) -> Schema:
    """The deployed models of a product; any text where none is deployed."""
    return {"enum": list(names)} if names else {"type": "string"}


def _common_paths() -> Schema:
    """The paths that belong to no single product."""
    return {
        "/v1/decisions/{id}": {
            "get": operation(
                PROBLEMS["/v1/decisions/{id}"],
                "decision",
                "A decision as it was recorded; of a row of a batch too",
                json_response({"type": "object", "required": ["decision_id", "model"]}),
                parameters=[path_param("id", "decision_id of an answer")],
            )
        },
        "/v1/batches/{id}": {
            "get": operation(
                PROBLEMS["/v1/batches/{id}"],
                "batch",
                "A batch's state, counts and faults",
                json_response(_batch_schema()),
                parameters=[path_param("id", "Batch-Id of an answer")],
            )
        },
        "/v1/session": _session_path(),
        "/v1/models": {
            "get": operation(
                PROBLEMS["/v1/models"],
                "models",
                "What serves",
                json_response({"type": "object", "required": ["models"], "properties": {"models": {"type": "array"}}}),
            )
        },
        "/healthz/live": {
            "get": operation(
                PROBLEMS["/healthz/live"], "live", "The process answers", json_response({"type": "object"})
            )
        },
        "/healthz/ready": {"get": _readiness_path()},
        "/metrics": {
            "get": operation(
                PROBLEMS["/metrics"],
                "metrics",
                "For Prometheus",
                {"description": "Text format 0.0.4", "content": {"text/plain": {"schema": {"type": "string"}}}},
            )
        },
        "/openapi.json": {
            "get": operation(PROBLEMS["/openapi.json"], "openapi", "This document", json_response({"type": "object"})),
        },
        "/problems/{kind}": {
            "get": operation(
                PROBLEMS["/problems/{kind}"],
                "problem",
                "What a kind of problem means",
                json_response({"type": "object", "required": ["type", "status", "title", "title_zh"]}),
                parameters=[path_param("kind", "last part of a problem's type", enum=list(PROBLEM_TYPES))],
            )
        },
    }


def _session_path() -> Schema:
    text_schema: Schema = {"type": "string"}
    names = ("tenant", "roles", "who", "name", "licence")
    principal_response = json_response(
        closed_object({**dict.fromkeys(names, text_schema), "roles": {"type": "array", "items": text_schema}}, names)
    )
    return {
        "get": operation(PROBLEMS["GET /v1/session"], "session", "Who asks, as their token says", principal_response),
        "post": operation(
            PROBLEMS["POST /v1/session"],
            "signIn",
            "A page's sign-in: the token goes into a cookie that no script reads",
            principal_response | {"headers": {"Set-Cookie": {"schema": text_schema}}},
            requestBody=json_body(SignIn),
        ),
        "delete": operation(
            PROBLEMS["DELETE /v1/session"], "signOut", "The cookie is removed", {"204": {"description": "Removed"}}
        ),
    }


def _readiness_path() -> Schema:
    """Readiness: 503 has a body of its own form, beside the problems."""
    body_schema = {"type": "object", "required": ["status"]}  # the rest needs a token
    ready = operation(
        PROBLEMS["/healthz/ready"], "ready", "A model is held and the store takes records", json_response(body_schema)
    )
    ready["responses"]["503"]["content"]["application/json"] = {"schema": body_schema}
    return ready


def _request_schema(product: Product, names: Sequence[str], default: str) -> Schema:
    """One alternative for each model, as each has its own indicators; the default model need not be named."""
    option_schemas: Schema = {
        option.name: {"type": "boolean", "default": option.default, "description": option.description}
        for option in product.options
    }
    schemas: list[Schema] = []
    for name in names:
        required = ["indicators"] if name == default else ["indicators", "model"]
        properties = {"indicators": {"$ref": f"#/components/schemas/Indicators.{name}"}, "model": {"const": name}}
        schemas.append(closed_object(properties | REFERENCE_FIELD | option_schemas, required))
    required = ["subject_id"] if default in names else ["subject_id", "model"]
    schemas.append(
        closed_object({"subject_id": ID_SCHEMA, "model": _model_name_schema(names)} | option_schemas, required)
    )
    return {"oneOf": schemas}


def _indicators_schema(model: DeployedModel, max_text_chars: int) -> Schema:
    columns = model.fields
    return {
        "type": "object",
        "description": f"What {model.card.model} {model.card.version} reads. What is left out, or null, is missing.",
        "properties": {column.name: _column_schema(column, max_text_chars) for column in columns},
        "required": [column.name for column in columns if column.required],
        "additionalProperties": False,
    }


def _column_schema(column: ColumnSchema, max_text_chars: int) -> Schema:
    base_schema = {"title": column.label, "description": f"{column.label_zh}。{column.expected()[0]}"}
    if column.unit:
        base_schema["x-unit"] = column.unit
    nullable = [] if column.required else [{"type": "null"}]
    if column.kind == "text" or column.other_level:
        return base_schema | {"anyOf": [{"type": "string", "maxLength": max_text_chars}, *nullable]}
    if column.kind == "category":
        codes_as_numbers = [int(level) for level in column.levels if re.fullmatch("0|-?[1-9][0-9]*", level)]
        return base_schema | {"enum": [*column.levels, *codes_as_numbers, *([] if column.required else [None])]}
    low, high = column.bounds
    number = {"type": "integer" if column.integer else "number", "minimum": low, "maximum": high}
    codes = [*column.missing_codes, *(float(code) for code in column.recode)]
    return base_schema | {"anyOf": [number, *([{"enum": codes}] if codes else []), *nullable]}


def _problem_schema() -> Schema:
    text_schema = {"type": "string"}
    error = {
        "type": "object",
        "required": ["field", "found", "needed", "needed_zh"],
        "properties": {
            "row": {"type": "integer"},
            "field": text_schema,
            "found": text_schema,
            "needed": text_schema,
            "needed_zh": text_schema,
        },
    }
    text_fields = ("type", "title", "title_zh", "detail", "detail_zh", "instance")
    return {
        "type": "object",
        "required": [*text_fields, "status"],
        "properties": {
            **dict.fromkeys(text_fields, text_schema),
            "type": {"enum": [f"/problems/{kind}" for kind in PROBLEM_TYPES]},
            "status": {"type": "integer"},
            "errors": {"type": "array", "items": error},
        },
    }


def _answer_schema(product: Product) -> Schema:
    text_schema, amount = {"type": "string"}, {"type": ["number", "null"]}
    common_fields = ("decision_id", "decision", "limit", "pd", "model", "policy_version", "simulated", "created")
    consent_fields = ("indicators_from", "authorisations", "remarks")
    return {
        "type": "object",
        "required": [*common_fields, *consent_fields, *product.required_fields],
        "properties": {
            "decision_id": text_schema,
            "decision": {"enum": ["approve", "refer"]},
            "limit": amount,
            "pd": {"type": "number", "minimum": 0, "maximum": 1},
            **product.answer_fields,
            "model": {
                "type": "object",
                "required": ["name", "version", "bundle"],
                "properties": dict.fromkeys(("name", "version", "bundle"), text_schema),
            },
            "policy_version": text_schema,
            "simulated": {"type": "boolean"},
            "indicators_from": {"enum": ["caller", "store"]},
            "authorisations": {"type": "array", "items": text_schema, "description": "Under which the store was read"},
            "remarks": {"type": "array", "description": "Conduct that no authorisation opens"},
            "created": text_schema,
        },
    }


def _batch_schema() -> Schema:
    count = {"type": "integer", "minimum": 0}
    return {
        "type": "object",
        "required": [
            *("batch_id", "state", "rows", "answered", "faulty", "faults", "faults_cut", "model", "version", "bundle")
        ],
        "properties": {
            "state": {"enum": ["running", "done", "broken"]},
            **dict.fromkeys(("rows", "answered", "faulty"), count),
            "faults": {"type": "array", "description": "The first ones; `faulty` counts the rows."},
            "faults_cut": {
                "type": "boolean",
                "description": "Whether there are faulty rows that `faults` does not name; each tells its own `error`.",
            },
        },
    }
