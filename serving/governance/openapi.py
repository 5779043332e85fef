"""The part of the OpenAPI document about receipts, the log, statements, traces, outcomes, performance and alarms."""

from __future__ import annotations

from serving.core.billing.prices import PRICING_RULES
from serving.core.billing.routes import StatementQuery
from serving.core.billing.statements import FORMATS, MONTH_PATTERN
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
from serving.governance.human_decisions.overrides import Approval, Decline
from serving.governance.human_decisions.referrals import Referral
from serving.governance.monitoring.outcomes import MAX_OUTCOMES, CreditOutcome, SlideOutcome
from serving.governance.routes import ConsistencyQuery, EffectsQuery, TraceQuery

ENTRY_PROBLEMS = (*BODY_PROBLEMS, "bad_header", "invalid_request", "key_reused", *STORE_PROBLEMS)
PROBLEMS = {
    "/v1/decisions/{id}/receipt": ("unknown_receipt", *STORE_PROBLEMS),
    "/v1/statements/{month}": ("bad_parameter", *STORE_PROBLEMS),
    "/v1/decisions/{id}/trace": ("unknown_decision", *STORE_PROBLEMS),
    "/v1/decisions/{id}/override": ("unknown_decision", *ENTRY_PROBLEMS),
    "/v1/decisions/{id}/refer": ("unknown_decision", *ENTRY_PROBLEMS),
    "/v1/authority": (),
    "/v1/subjects/{id}/trace": ("bad_parameter", *STORE_PROBLEMS),
    "/v1/outcomes": ENTRY_PROBLEMS,
    "/v1/effects": ("bad_parameter", *STORE_PROBLEMS),
    "/v1/alarms": ("not_ready",),
    "/v1/log/checkpoint": STORE_PROBLEMS,
    "/v1/log/consistency": ("bad_parameter", "unknown_checkpoint", *STORE_PROBLEMS),
}
TEXT: Schema = {"type": "string"}
TRACE_NODE = {
    "type": "object",
    "required": ["kind", "name", "links"],
    "properties": {
        "kind": TEXT,
        "name": TEXT,
        "missing": TEXT | {"description": "Why the trace ends here"},
        "links": {"type": "array", "description": "Nodes of the same form"},
        "missing_links": {"type": "array"},
    },
}
DECISION_ID = path_param("id", "decision_id of an answer")


def paths() -> Schema:
    outcome = {"anyOf": [model_schema(CreditOutcome), model_schema(SlideOutcome)]}
    outcome_list = closed_object(
        {"outcomes": {"type": "array", "minItems": 1, "maxItems": MAX_OUTCOMES, "items": outcome}}, ["outcomes"]
    )
    override = {"anyOf": [model_schema(Approval), model_schema(Decline)]}
    items = {"type": "array", "items": {"type": "object"}}
    return {
        "/v1/decisions/{id}/receipt": {
            "get": operation(
                PROBLEMS["/v1/decisions/{id}/receipt"],
                "receipt",
                "The receipt that proves a decision with the log's public key only: python -m serving receipt verify",
                json_response(_receipt_schema()),
                parameters=[DECISION_ID],
            )
        },
        "/v1/statements/{month}": {
            "get": operation(
                PROBLEMS["/v1/statements/{month}"],
                "statement",
                "The tenant's use in a month: a line for each decision and each chunk of a batch, with its price "
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
                "Trace a decision or a slide to its model, run, commit, data sets and authorisations",
                TRACE_NODE,
                parameters=[DECISION_ID],
            )
        },
        "/v1/decisions/{id}/override": {
            "post": _operation(
                "/v1/decisions/{id}/override",
                "override",
                "Record what a person decided instead; the newest in force counts, and the decision stays as it was. "
                "An amount beyond their authority is only proposed until another person approves the same",
                {"type": "object", "required": ["override_id", "decision_id", "decision", "state", "said"]},
                parameters=[DECISION_ID, IDEMPOTENCY_KEY_PARAM],
                requestBody=json_body(override),
            )
        },
        "/v1/decisions/{id}/refer": {
            "post": _operation(
                "/v1/decisions/{id}/refer",
                "refer",
                "Refer a decision to a colleague: it waits for them until a person decides",
                {"type": "object", "required": ["referral_id", "decision_id", "to", "note", "by", "at"]},
                parameters=[DECISION_ID, IDEMPOTENCY_KEY_PARAM],
                requestBody=json_body(Referral),
            )
        },
        "/v1/authority": {
            "get": _operation(
                "/v1/authority",
                "authority",
                "What the person may decide instead of a model, by product, and the reasons to choose from",
                {"type": "object", "required": ["limits", "min_text", "confirm_hours", "reasons"]},
            )
        },
        "/v1/subjects/{id}/trace": {
            "get": _operation(
                "/v1/subjects/{id}/trace",
                "traceSubject",
                "Trace a household, company or slide to decisions, data sets, models and deployed services",
                TRACE_NODE,
                parameters=[
                    path_param("id", "the id that its owner uses; of a slide its id or SHA-256"),
                    *query_params(TraceQuery),
                ],
            )
        },
        "/v1/outcomes": {
            "post": _operation(
                "/v1/outcomes",
                "outcomes",
                "Record how decisions and slides turned out, one or several; a later outcome corrects an earlier one",
                {"type": "object", "required": ["outcomes"], "properties": {"outcomes": items}},
                parameters=[IDEMPOTENCY_KEY_PARAM],
                requestBody=json_body({"anyOf": [*outcome["anyOf"], outcome_list]}),
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
                "What an operator must look at: refused or changed bundles, a failing store, a log that was reset",
                {"type": "object", "required": ["alarms"], "properties": {"alarms": items}},
            )
        },
        "/v1/log/checkpoint": {
            "get": operation(
                PROBLEMS["/v1/log/checkpoint"],
                "logCheckpoint",
                "The newest checkpoint of the audit log, a signed note (C2SP tlog-checkpoint)",
                {"description": "The note", "content": {"text/plain": {"schema": TEXT}}},
            )
        },
        "/v1/log/consistency": {
            "get": _operation(
                "/v1/log/consistency",
                "logConsistency",
                "The newest checkpoint, with the proof that it continues the log of an earlier one (RFC 9162)",
                _consistency_schema(),
                parameters=query_params(ConsistencyQuery),
            )
        },
    }


def _operation(path: str, name: str, summary: str, response_schema: Schema, **extra: object) -> Schema:
    return operation(PROBLEMS[path], name, summary, json_response(response_schema), **extra)


def _receipt_schema() -> Schema:
    count, any_object = {"type": "integer", "minimum": 0}, {"type": "object"}
    digests = {"type": "array", "items": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}
    properties = {
        "receipt": {"const": 1},
        "leaf": any_object | {"description": "The entry as it is in the audit log: keys sorted, without blanks"},
        "index": count,
        "proof": digests | {"description": "Inclusion path, RFC 9162"},
        "checkpoint": {"type": "string", "description": "A signed note, C2SP tlog-checkpoint"},
        "lineage": any_object | {"description": "The provenance of the model"},
        "salt": {
            "type": "string",
            "description": "Precedes the answer's bytes, and the inputs', in their digests",
        },
        "row": any_object | {"description": "For a row of a batch: the proof within its chunk"},
    }
    return closed_object(properties, ["receipt", "leaf", "index", "proof", "checkpoint"])


def _consistency_schema() -> Schema:
    hashes = {"type": "array", "items": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}
    properties = {"size": {"type": "integer", "minimum": 1}, "proof": hashes, "checkpoint": TEXT}
    return closed_object(properties, [*properties])


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
