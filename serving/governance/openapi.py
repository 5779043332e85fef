"""The OpenAPI document's part of receipts, statements, trace, outcomes and effects."""

from __future__ import annotations

from serving.core.billing.prices import PRICING_RULES
from serving.core.billing.routes import StatementQuery
from serving.core.billing.statements import FORMATS, MONTH_PATTERN
from serving.core.http.schema import (
    IDEMPOTENCY_KEY_PARAM,
    STORE_PROBLEMS,
    Schema,
    closed_object,
    json_response,
    operation,
    path_param,
    query_params,
)
from serving.governance.monitoring.outcomes import (
    CODES,
    MAX_NAME_CHARS,
    MAX_OUTCOMES,
    MAX_REASON_CHARS,
    MAX_SOURCE_CHARS,
    REFERRAL_FIELDS,
    TIME_PATTERN,
)
from serving.governance.routes import EffectsQuery, TraceQuery

BODY_PROBLEMS = (
    "empty_body", "not_utf8", "malformed_json", "bad_header", "slow_request", "body_too_large",
    "unsupported_media_type", "invalid_request", "key_reused", *STORE_PROBLEMS,
)  # fmt: skip
PROBLEMS = {
    "/v1/decisions/{id}/receipt": ("unknown_receipt", *STORE_PROBLEMS),
    "/v1/statements/{month}": ("bad_parameter", *STORE_PROBLEMS),
    "/v1/decisions/{id}/trace": ("unknown_decision", *STORE_PROBLEMS),
    "/v1/decisions/{id}/override": ("unknown_decision", *BODY_PROBLEMS),
    "/v1/decisions/{id}/refer": ("unknown_decision", *BODY_PROBLEMS),
    "/v1/subjects/{id}/trace": ("bad_parameter", *STORE_PROBLEMS),
    "/v1/outcomes": BODY_PROBLEMS,
    "/v1/effects": ("bad_parameter", *STORE_PROBLEMS),
    "/v1/alarms": ("not_ready",),
}
TEXT: Schema = {"type": "string"}
TRACE_NODE = {
    "type": "object",
    "required": ["kind", "name", "links"],
    "properties": {
        "kind": TEXT,
        "name": TEXT,
        "missing": TEXT | {"description": "Why the trail ends here"},
        "links": {"type": "array", "description": "Links of the same form"},
        "missing_links": {"type": "array"},
    },
}
DECISION_ID = path_param("id", "decision_id of an answer")


def paths() -> Schema:
    timestamp: Schema = {"type": "string", "pattern": f"^{TIME_PATTERN.pattern}$"}
    common: Schema = {"at": timestamp, "source": TEXT | {"minLength": 1, "maxLength": MAX_SOURCE_CHARS}}
    credit_outcome = {"decision_id": TEXT, "outcome": {"enum": ["repaid", "defaulted"]}, **common}
    slide_outcome = {"slide_id": TEXT, "outcome": {"const": "diagnosis"}, "code": {"enum": [*CODES]}, **common}
    outcome = {
        "anyOf": [closed_object(credit_outcome, [*credit_outcome]), closed_object(slide_outcome, [*slide_outcome])]
    }
    outcome_list = closed_object(
        {"outcomes": {"type": "array", "minItems": 1, "maxItems": MAX_OUTCOMES, "items": outcome}}, ["outcomes"]
    )
    reason = TEXT | {"minLength": 1, "maxLength": MAX_REASON_CHARS}
    limit = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e12}
    approve = {"decision": {"const": "approve"}, "limit": limit, "reason": reason}
    decline = {"decision": {"const": "decline"}, "limit": {"type": "null"}, "reason": reason}
    override = {"anyOf": [closed_object(approve, [*approve]), closed_object(decline, ["decision", "reason"])]}
    items = {"type": "array", "items": {"type": "object"}}
    return {
        "/v1/decisions/{id}/receipt": {
            "get": operation(
                PROBLEMS["/v1/decisions/{id}/receipt"],
                "receipt",
                "What proves a decision with the log's public key alone: python -m serving receipt verify",
                json_response(_receipt_schema()),
                parameters=[DECISION_ID],
            )
        },
        "/v1/statements/{month}": {
            "get": operation(
                PROBLEMS["/v1/statements/{month}"],
                "statement",
                "What the tenant used in a month: a line for each answer and each chunk of a batch, its price "
                "rule and its receipt",
                {
                    "description": "In the order of time",
                    "content": {
                        FORMATS["json"]: {"schema": _statement_schema()},
                        FORMATS["ndjson"]: {"schema": {"type": "string"}},
                        FORMATS["csv"]: {"schema": {"type": "string"}},
                    },
                },
                parameters=[
                    path_param("month", "as 2026-11, UTC", pattern=f"^{MONTH_PATTERN}$"),
                    *query_params(StatementQuery),
                ],
            )
        },
        "/v1/decisions/{id}/trace": {
            "get": _operation(
                "/v1/decisions/{id}/trace",
                "trace",
                "From a decision or a slide to model, run, commit, data sets and authorisations",
                TRACE_NODE,
                parameters=[DECISION_ID],
            )
        },
        "/v1/decisions/{id}/override": {
            "post": _operation(
                "/v1/decisions/{id}/override",
                "override",
                "What a person decided instead; the newest counts, the decision stays as it was told",
                {"type": "object", "required": ["override_id", "decision_id", "decision", "said"]},
                parameters=[DECISION_ID, IDEMPOTENCY_KEY_PARAM],
                requestBody=_json_body(override),
            )
        },
        "/v1/decisions/{id}/refer": {
            "post": _operation(
                "/v1/decisions/{id}/refer",
                "refer",
                "Ask a colleague to look at a decision: it waits for them until a person decides",
                {"type": "object", "required": ["referral_id", "decision_id", "to", "note", "by", "at"]},
                parameters=[DECISION_ID, IDEMPOTENCY_KEY_PARAM],
                requestBody=_json_body(
                    closed_object(
                        {"to": TEXT | {"minLength": 1, "maxLength": MAX_NAME_CHARS}, "note": reason}, [*REFERRAL_FIELDS]
                    )
                ),
            )
        },
        "/v1/subjects/{id}/trace": {
            "get": _operation(
                "/v1/subjects/{id}/trace",
                "traceSubject",
                "From a household, company or slide to decisions, data sets, models and live services",
                TRACE_NODE,
                parameters=[
                    path_param("id", "as its owner names it; a slide's id or SHA-256"),
                    *query_params(TraceQuery),
                ],
            )
        },
        "/v1/outcomes": {
            "post": _operation(
                "/v1/outcomes",
                "outcomes",
                "How decisions and slides turned out: one, or many; a later one corrects, all are kept",
                {"type": "object", "required": ["outcomes"], "properties": {"outcomes": items}},
                parameters=[IDEMPOTENCY_KEY_PARAM],
                requestBody=_json_body({"anyOf": [*outcome["anyOf"], outcome_list]}),
            )
        },
        "/v1/effects": {
            "get": _operation(
                "/v1/effects",
                "effects",
                "Discrimination, calibration, drift, overrides and turnaround by model version and tenant",
                {"type": "object", "required": ["effects"], "properties": {"effects": items}},
                parameters=query_params(EffectsQuery),
            )
        },
        "/v1/alarms": {
            "get": _operation(
                "/v1/alarms",
                "alarms",
                "What an operator must look at: refused or changed bundles, a failing store, a log that was put back",
                {"type": "object", "required": ["alarms"], "properties": {"alarms": items}},
            )
        },
    }


def _operation(path: str, name: str, summary: str, response_schema: Schema, **extra: object) -> Schema:
    return operation(PROBLEMS[path], name, summary, json_response(response_schema), **extra)


def _json_body(schema: Schema) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _receipt_schema() -> Schema:
    count, any_object = {"type": "integer", "minimum": 0}, {"type": "object"}
    digests = {"type": "array", "items": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}
    properties = {
        "receipt": {"const": 1},
        "leaf": any_object | {"description": "As it stands in the audit log: keys sorted, without blanks"},
        "index": count,
        "proof": digests | {"description": "Inclusion path, RFC 9162"},
        "checkpoint": {"type": "string", "description": "Signed note, C2SP tlog-checkpoint"},
        "lineage": any_object | {"description": "What the model was made from"},
        "salt": {"type": "string", "description": "Before the answer's bytes, and the inputs', in their digests"},
        "row": any_object | {"description": "Of a batch: the proof within its chunk"},
    }
    return closed_object(properties, ["receipt", "leaf", "index", "proof", "checkpoint"])


def _statement_schema() -> Schema:
    text, count = {"type": "string"}, {"type": "integer", "minimum": 0}
    charge = {"product": text, "units": count, "rules": text, "rule": {"enum": [*PRICING_RULES]}, "fen": count}
    line = {"decision": text, "at": text, **charge, "leaf": count, "receipt": text}
    total = {**charge, "lines": count}
    properties = {
        "tenant": text,
        "month": text,
        "lines": {"type": "array", "items": closed_object(line, [*line])},
        "totals": {"type": "array", "items": closed_object(total, [*total])},
        "fen": count,
        "currency": {"const": "CNY"},
    }
    return closed_object(properties, [*properties])
