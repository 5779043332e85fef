"""GET /openapi.json: every route, status and problem; the request's schema from the cards of the bundles that serve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from datasets.schema import Column
from serving.console import openapi as console
from serving.core.http.principal import ROLES
from serving.core.http.problems import KINDS
from serving.core.http.schema import STORE, Schema, closed, guarded, in_path, in_query, link, operation, told_as_json
from serving.core.security.authentication import COOKIE
from serving.core.security.permissions import MAY
from serving.decisions import search, what_if
from serving.decisions.batch import rows
from serving.decisions.batch.formats import MEDIA_TYPES
from serving.decisions.companies import routes as companies_routes
from serving.decisions.products.base import Held, Product, products
from serving.governance import openapi as trust
from serving.pathology import openapi as slides
from serving.privacy.consent import routes as consent_routes
from serving.registry import openapi as versions
from serving.settings import Settings

ONE = (  # each product's route
    "empty_body", "not_utf8", "malformed_json", "bad_header", "unknown_model", "unknown_subject", "not_authorised",
    "indicators_refused", "slow_request", "body_too_large", "unsupported_media_type", "invalid_request",
    "authorisation_ended", "key_reused", "quota_used",
    *STORE, "overloaded",
)  # fmt: skip
MANY = (  # each product's batch
    "empty_body", "bad_header", "unknown_model", "not_acceptable", "slow_request", "batch_running",
    "authorisation_ended", "body_too_large", "unsupported_media_type", "bad_parameter", "invalid_batch",
    "key_reused", "quota_used", *STORE, "overloaded",
)  # fmt: skip
PROBLEMS = {
    "/v1/decisions/{id}": ("unknown_decision", *STORE),
    "/v1/batches/{id}": ("unknown_batch", *STORE),
    "/v1/models": ("not_ready",),
    "/healthz/live": (),
    "/healthz/ready": ("not_ready",),
    "/metrics": ("not_ready", "store_failed"),
    "/openapi.json": ("not_ready",),
    "/problems/{kind}": ("not_found",),
    "GET /v1/session": (),
    "POST /v1/session": (
        "empty_body", "not_utf8", "malformed_json", "slow_request", "body_too_large", "unsupported_media_type",
        "bad_token", "cross_site",
    ),
    "DELETE /v1/session": ("cross_site",),
    **consent_routes.PROBLEMS,
    **console.PROBLEMS,
    **companies_routes.PROBLEMS,
    **search.PROBLEMS,
    **rows.PROBLEMS,
    **what_if.problems(),
    **slides.PROBLEMS,
    **trust.PROBLEMS,
    **versions.PROBLEMS,
}  # fmt: skip
SOMEWHERE = ("not_found", "method_not_allowed")  # of no single route: another address, another method


def document(serving: Mapping[str, Held], settings: Settings) -> Schema:
    schemas: Schema = {
        "Problem": _problem(),
        **{f"Answer.{product.name}": _answer(product) for product in products().values()},
        **{f"Indicators.{name}": _indicators(held, settings.limits.text) for name, held in sorted(serving.items())},
    }
    paths = dict(_products(serving, settings)) | slides.paths(settings) | consent_routes.paths() | console.paths()
    paths |= companies_routes.paths() | search.paths() | rows.paths() | trust.paths() | versions.paths()
    paths |= what_if.paths() | _paths()
    for path, operations in paths.items():
        for method, told in operations.items():
            if roles := MAY[f"{method.upper()} {path}"]:
                guarded(told, settings.access.required)
                told["x-roles"] = sorted(roles)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Yuheng",
            "version": "1",
            "description": " ".join(f"{product.asks} POST {product.route}." for product in products().values())
            + " Each answer is on disk before it is sent. Problems are RFC 9457, in English and Chinese. Of no route "
            "but of the whole service: " + ", ".join(f"/problems/{kind}" for kind in SOMEWHERE) + ".",
        },
        "paths": paths,
        "components": {"schemas": schemas | slides.schemas(), "securitySchemes": _security()},
    }


def _security() -> Schema:
    roles = "; ".join(f"{name} {en}" for name, (en, _) in ROLES.items())
    told = f"python -m serving token makes one. Its roles say what it may call (x-roles): {roles}."
    return {
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": told},
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": COOKIE,
            "description": "As POST /v1/session sets it, for the pages of this service.",
        },
    }


def _products(serving: Mapping[str, Held], settings: Settings) -> Iterator[tuple[str, Schema]]:
    """(path, its operations) for each product."""
    key = {
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
    files = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()}
    for product in products().values():
        names = sorted(name for name, held in serving.items() if held.card.product == product.name)
        default = settings.default_models[product.name]
        form = _question(product, names, default)
        one = operation(
            ONE,
            product.operation,
            product.one,
            told_as_json({"$ref": f"#/components/schemas/Answer.{product.name}"})
            | {"headers": replayed, "links": link("decision", "$response.body#/decision_id")},
            parameters=[key],
            requestBody={"required": True, "content": {"application/json": {"schema": form}}},
        )
        many = operation(
            MANY,
            f"{product.operation}Many",
            product.many,
            {
                "description": "One row for each row that came",
                "content": files,
                "headers": batch | replayed,
                "links": link("batch", "$response.header.Batch-Id"),
            },
            parameters=[
                key,
                in_query("format", {"enum": list(MEDIA_TYPES)}, "Of the answer; else by Accept; else as it came."),
                in_query("model", _named(names), f"Else {default}."),
                in_query("keep", {"type": "string"}, "Columns to copy into the answer unread, commas between."),
                in_query("reasons", {"enum": ["true", "false"]}, "Whether each row shows its reasons; else false."),
            ],
            requestBody={"required": True, "content": files, "description": _MANY},
        )
        yield product.route, {"post": one}
        yield f"{product.route}/batch", {"post": many}


_MANY = (
    "A table of indicators; or a column subject_id with none of the model's, each of a subject whose indicators the "
    "store holds (in NDJSON the first record decides). Its rows tell subject (pseudonym), inputs (an imprint of what "
    "was read), indicators_from, authorisations and not_read (conduct that no authorisation opens), lists with ';' "
    "between in CSV; one that is unknown or not authorised has an error and error_zh, and the others are answered."
)


def _named(names: Sequence[str]) -> Schema:
    """The models of a product that serve; where none does, any name is answered alike."""
    return {"enum": list(names)} if names else {"type": "string"}


def _paths() -> Schema:
    """The addresses that serve every product."""
    return {
        "/v1/decisions/{id}": {
            "get": operation(
                PROBLEMS["/v1/decisions/{id}"],
                "decision",
                "A decision as it was recorded; of a row of a batch too",
                told_as_json({"type": "object", "required": ["decision_id", "model"]}),
                parameters=[in_path("id", "decision_id of an answer")],
            )
        },
        "/v1/batches/{id}": {
            "get": operation(
                PROBLEMS["/v1/batches/{id}"],
                "batch",
                "A batch's state, counts and faults",
                told_as_json(_batch()),
                parameters=[in_path("id", "Batch-Id of an answer")],
            )
        },
        "/v1/session": _session(),
        "/v1/models": {
            "get": operation(
                PROBLEMS["/v1/models"],
                "models",
                "What serves",
                told_as_json({"type": "object", "required": ["models"], "properties": {"models": {"type": "array"}}}),
            )
        },
        "/healthz/live": {
            "get": operation(PROBLEMS["/healthz/live"], "live", "The process answers", told_as_json({"type": "object"}))
        },
        "/healthz/ready": {"get": _ready()},
        "/metrics": {
            "get": operation(
                PROBLEMS["/metrics"],
                "metrics",
                "For Prometheus",
                {"description": "Text format 0.0.4", "content": {"text/plain": {"schema": {"type": "string"}}}},
            )
        },
        "/openapi.json": {
            "get": operation(PROBLEMS["/openapi.json"], "openapi", "This document", told_as_json({"type": "object"})),
        },
        "/problems/{kind}": {
            "get": operation(
                PROBLEMS["/problems/{kind}"],
                "problem",
                "What a kind of problem means",
                told_as_json({"type": "object", "required": ["type", "status", "title", "title_zh"]}),
                parameters=[in_path("kind", "last part of a problem's type", enum=list(KINDS))],
            )
        },
    }


def _session() -> Schema:
    text: Schema = {"type": "string"}
    names = ("tenant", "roles", "who", "name", "licence")
    who = told_as_json(closed({**dict.fromkeys(names, text), "roles": {"type": "array", "items": text}}, names))
    body = closed({"token": text | {"minLength": 1}}, ["token"])
    return {
        "get": operation(PROBLEMS["GET /v1/session"], "session", "Who asks, as their token says", who),
        "post": operation(
            PROBLEMS["POST /v1/session"],
            "signIn",
            "A page's sign-in: the token goes into a cookie that no script reads",
            who | {"headers": {"Set-Cookie": {"schema": text}}},
            requestBody={"required": True, "content": {"application/json": {"schema": body}}},
        ),
        "delete": operation(
            PROBLEMS["DELETE /v1/session"], "signOut", "The cookie is removed", {"204": {"description": "Removed"}}
        ),
    }


def _ready() -> Schema:
    """Not ready is an answer of its own form here, beside the problems."""
    told = {"type": "object", "required": ["status"]}  # all else needs a token
    ready = operation(
        PROBLEMS["/healthz/ready"], "ready", "A model is held and the store takes records", told_as_json(told)
    )
    ready["responses"]["503"]["content"]["application/json"] = {"schema": told}
    return ready


def _question(product: Product, names: Sequence[str], default: str) -> Schema:
    """One form for each model, as each has its own indicators; the default one need not be named."""
    wishes: Schema = {
        wish.name: {"type": "boolean", "default": wish.default, "description": wish.description}
        for wish in product.wishes
    }
    forms: list[Schema] = []
    for name in names:
        needed = ["indicators"] if name == default else ["indicators", "model"]
        asked = {"indicators": {"$ref": f"#/components/schemas/Indicators.{name}"}, "model": {"const": name}}
        forms.append(closed(asked | wishes, needed))
    subject = {"type": "string", "minLength": 1, "maxLength": 255}
    needed = ["subject_id"] if default in names else ["subject_id", "model"]
    forms.append(closed({"subject_id": subject, "model": _named(names)} | wishes, needed))
    return {"oneOf": forms}


def _indicators(held: Held, text: int) -> Schema:
    columns = held.fields
    return {
        "type": "object",
        "description": f"What {held.card.model} {held.card.version} reads. What is left out, or null, is missing.",
        "properties": {column.name: _value(column, text) for column in columns},
        "required": [column.name for column in columns if column.required],
        "additionalProperties": False,
    }


def _value(column: Column, text: int) -> Schema:
    described = {"title": column.label, "description": f"{column.label_zh}。{column.needed()[0]}"}
    if column.unit:
        described["x-unit"] = column.unit
    null = [] if column.required else [{"type": "null"}]
    if column.kind == "category":
        return described | {"enum": [*column.levels, *([] if column.required else [None])]}
    if column.kind == "text":
        return described | {"anyOf": [{"type": "string", "maxLength": text}, *null]}
    low, high = column.bounds
    number = {"type": "integer" if column.integer else "number", "minimum": low, "maximum": high}
    codes = [*column.missing_codes, *(float(code) for code in column.recode)]
    return described | {"anyOf": [number, *([{"enum": codes}] if codes else []), *null]}


def _problem() -> Schema:
    text = {"type": "string"}
    error = {
        "type": "object",
        "required": ["field", "found", "needed", "needed_zh"],
        "properties": {
            "row": {"type": "integer"},
            "field": text,
            "found": text,
            "needed": text,
            "needed_zh": text,
        },
    }
    told = ("type", "title", "title_zh", "detail", "detail_zh", "instance")
    return {
        "type": "object",
        "required": [*told, "status"],
        "properties": {
            **dict.fromkeys(told, text),
            "type": {"enum": [f"/problems/{kind}" for kind in KINDS]},
            "status": {"type": "integer"},
            "errors": {"type": "array", "items": error},
        },
    }


def _answer(product: Product) -> Schema:
    text, amount = {"type": "string"}, {"type": ["number", "null"]}
    every = ("decision_id", "decision", "limit", "pd", "model", "policy_version", "simulated", "created")
    trust = ("indicators_from", "authorisations", "remarks")
    return {
        "type": "object",
        "required": [*every, *trust, *product.always],
        "properties": {
            "decision_id": text,
            "decision": {"enum": ["approve", "refer"]},
            "limit": amount,
            "pd": {"type": "number", "minimum": 0, "maximum": 1},
            **product.answer,
            "model": {
                "type": "object",
                "required": ["name", "version", "bundle"],
                "properties": dict.fromkeys(("name", "version", "bundle"), text),
            },
            "policy_version": text,
            "simulated": {"type": "boolean"},
            "indicators_from": {"enum": ["caller", "store"]},
            "authorisations": {"type": "array", "items": text, "description": "Under which the store was read"},
            "remarks": {"type": "array", "description": "Conduct that no authorisation opens"},
            "created": text,
        },
    }


def _batch() -> Schema:
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
