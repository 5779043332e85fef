"""The OpenAPI document's part of receipts, statements, trace, outcomes and effects."""

from __future__ import annotations

from serving.core.billing.prices import RULES
from serving.core.billing.statements import FORMATS, MONTH
from serving.core.http.schema import KEY, STORE, Schema, closed, in_path, in_query, operation, told_as_json
from serving.governance.monitoring.outcomes import AT, CODES, MOST, NAME, REASON, REFERRAL, SOURCE

BODY = (
    "empty_body", "not_utf8", "malformed_json", "bad_header", "slow_request", "body_too_large",
    "unsupported_media_type", "invalid_request", "key_reused", *STORE,
)  # fmt: skip
PROBLEMS = {
    "/v1/decisions/{id}/receipt": ("unknown_receipt", *STORE),
    "/v1/statements/{month}": ("bad_parameter", *STORE),
    "/v1/decisions/{id}/trace": ("unknown_decision", *STORE),
    "/v1/decisions/{id}/override": ("unknown_decision", *BODY),
    "/v1/decisions/{id}/refer": ("unknown_decision", *BODY),
    "/v1/subjects/{id}/trace": ("bad_parameter", *STORE),
    "/v1/outcomes": BODY,
    "/v1/effects": ("bad_parameter", *STORE),
    "/v1/alarms": ("not_ready",),
}
TEXT: Schema = {"type": "string"}
LINK = {
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
DECISION = in_path("id", "decision_id of an answer")


def paths() -> Schema:
    at: Schema = {"type": "string", "pattern": f"^{AT.pattern}$"}
    told: Schema = {"at": at, "source": TEXT | {"minLength": 1, "maxLength": SOURCE}}
    ended = {"decision_id": TEXT, "outcome": {"enum": ["repaid", "defaulted"]}, **told}
    diagnosed = {"slide_id": TEXT, "outcome": {"const": "diagnosis"}, "code": {"enum": [*CODES]}, **told}
    one = {"anyOf": [closed(ended, [*ended]), closed(diagnosed, [*diagnosed])]}
    many = closed({"outcomes": {"type": "array", "minItems": 1, "maxItems": MOST, "items": one}}, ["outcomes"])
    reason = TEXT | {"minLength": 1, "maxLength": REASON}
    limit = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e12}
    approve = {"decision": {"const": "approve"}, "limit": limit, "reason": reason}
    decline = {"decision": {"const": "decline"}, "limit": {"type": "null"}, "reason": reason}
    override = {"anyOf": [closed(approve, [*approve]), closed(decline, ["decision", "reason"])]}
    items = {"type": "array", "items": {"type": "object"}}
    return {
        "/v1/decisions/{id}/receipt": {
            "get": operation(
                PROBLEMS["/v1/decisions/{id}/receipt"],
                "receipt",
                "What proves a decision with the log's public key alone: python -m serving receipt verify",
                told_as_json(_receipt()),
                parameters=[DECISION],
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
                        FORMATS["json"]: {"schema": _statement()},
                        FORMATS["ndjson"]: {"schema": {"type": "string"}},
                        FORMATS["csv"]: {"schema": {"type": "string"}},
                    },
                },
                parameters=[
                    in_path("month", "as 2026-11, UTC", pattern=f"^{MONTH}$"),
                    in_query("format", {"enum": [*FORMATS], "default": "json"}, "Of the statement."),
                ],
            )
        },
        "/v1/decisions/{id}/trace": {
            "get": _operation(
                "/v1/decisions/{id}/trace",
                "trace",
                "From a decision or a slide to model, run, commit, data sets and authorisations",
                LINK,
                parameters=[DECISION],
            )
        },
        "/v1/decisions/{id}/override": {
            "post": _operation(
                "/v1/decisions/{id}/override",
                "override",
                "What a person decided instead; the newest counts, the decision stays as it was told",
                {"type": "object", "required": ["override_id", "decision_id", "decision", "said"]},
                parameters=[DECISION, KEY],
                requestBody=_json(override),
            )
        },
        "/v1/decisions/{id}/refer": {
            "post": _operation(
                "/v1/decisions/{id}/refer",
                "refer",
                "Ask a colleague to look at a decision: it waits for them until a person decides",
                {"type": "object", "required": ["referral_id", "decision_id", "to", "note", "by", "at"]},
                parameters=[DECISION, KEY],
                requestBody=_json(
                    closed({"to": TEXT | {"minLength": 1, "maxLength": NAME}, "note": reason}, [*REFERRAL])
                ),
            )
        },
        "/v1/subjects/{id}/trace": {
            "get": _operation(
                "/v1/subjects/{id}/trace",
                "traceSubject",
                "From a household, company or slide to decisions, data sets, models and live services",
                LINK,
                parameters=[
                    in_path("id", "as its owner names it; a slide's id or SHA-256"),
                    in_query("product", {"enum": ["credit_limit", "scitech_risk", "pathology"]}, "Else credit_limit."),
                ],
            )
        },
        "/v1/outcomes": {
            "post": _operation(
                "/v1/outcomes",
                "outcomes",
                "How decisions and slides turned out: one, or many; a later one corrects, all are kept",
                {"type": "object", "required": ["outcomes"], "properties": {"outcomes": items}},
                parameters=[KEY],
                requestBody=_json({"anyOf": [*one["anyOf"], many]}),
            )
        },
        "/v1/effects": {
            "get": _operation(
                "/v1/effects",
                "effects",
                "Discrimination, calibration, drift, overrides and turnaround by model version and tenant",
                {"type": "object", "required": ["effects"], "properties": {"effects": items}},
                parameters=[
                    in_query("model", TEXT | {"pattern": r"^[^\u0000]*$"}, "Else every one."),
                    in_query(
                        "since",
                        {"type": "string", "pattern": r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$"},
                        "Only decisions and slides of this day or later.",
                    ),
                    in_query("by", {"enum": ["week"]}, "A series over the last weeks beside each."),
                ],
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


def _operation(path: str, name: str, summary: str, told: Schema, **more: object) -> Schema:
    return operation(PROBLEMS[path], name, summary, told_as_json(told), **more)


def _json(schema: Schema) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _receipt() -> Schema:
    whole, some = {"type": "integer", "minimum": 0}, {"type": "object"}
    digests = {"type": "array", "items": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}
    told = {
        "receipt": {"const": 1},
        "leaf": some | {"description": "As it stands in the audit log: keys sorted, without blanks"},
        "index": whole,
        "proof": digests | {"description": "Inclusion path, RFC 9162"},
        "checkpoint": {"type": "string", "description": "Signed note, C2SP tlog-checkpoint"},
        "lineage": some | {"description": "What the model was made from"},
        "salt": {"type": "string", "description": "Before the answer's bytes, and the inputs', in their digests"},
        "row": some | {"description": "Of a batch: the proof within its chunk"},
    }
    return closed(told, ["receipt", "leaf", "index", "proof", "checkpoint"])


def _statement() -> Schema:
    text, whole = {"type": "string"}, {"type": "integer", "minimum": 0}
    charged = {"product": text, "units": whole, "rules": text, "rule": {"enum": [*RULES]}, "fen": whole}
    line = {"decision": text, "at": text, **charged, "leaf": whole, "receipt": text}
    total = {**charged, "lines": whole}
    told = {
        "tenant": text,
        "month": text,
        "lines": {"type": "array", "items": closed(line, [*line])},
        "totals": {"type": "array", "items": closed(total, [*total])},
        "fen": whole,
        "currency": {"const": "CNY"},
    }
    return closed(told, [*told])
