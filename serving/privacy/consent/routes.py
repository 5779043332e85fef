"""Routes of authorisations: operators enter and revoke them, tenants see those granted to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field

from serving.core.db.store import Store
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSON_MEDIA_TYPE, JSONResponse, Request, Response
from serving.core.http.router import Routes
from serving.core.http.schema import (
    BODY_PROBLEMS,
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
from serving.core.http.validation import RequestModel, json_object, matching, parse_query
from serving.core.identifiers import ID_PATTERN
from serving.privacy.consent import grants, usage
from serving.privacy.consent.rules import PURPOSES, ConsentRules
from serving.privacy.subjects.vault import Vault
from serving.settings import Settings

ROUTE = "/v1/authorisations"
GRANT_FIELDS = ("kind", "tenant", "purpose", "groups", "valid_to", "document_sha256")  # in requests and responses
PROBLEMS = {
    ROUTE: ("bad_parameter", *STORE_PROBLEMS),
    f"{ROUTE}/rules": ("not_ready",),
    f"{ROUTE}/{{id}}/revoke": ("unknown_authorisation", *STORE_PROBLEMS),
    f"{ROUTE}/{{id}}/uses": ("unknown_authorisation", "bad_parameter", *STORE_PROBLEMS),
}
CREATE_PROBLEMS = (*BODY_PROBLEMS, "invalid_request", *STORE_PROBLEMS)


class GrantQuery(RequestModel):
    """Query of GET /v1/authorisations."""

    before: Annotated[
        str,
        matching(ID_PATTERN, "the id of an authorisation", "授权编号"),
        Field(description="Only older ones."),
    ] = ""


class UsageQuery(RequestModel):
    """Query of GET /v1/authorisations/{id}/uses."""

    before: Annotated[
        str,
        matching("[0-9]{1,18}", "the index of a log entry, such as `next`", "日志序号，如 next"),
        Field(description="Index of a log entry: only older ones."),
    ] = ""


class ConsentRoutes:
    """`open_vault` is called at each use, since the vault is opened with the store."""

    def __init__(self, settings: Settings, store: Store, open_vault: Callable[[], Vault], rules: ConsentRules):
        self.settings, self.store, self.open_vault, self.consent_rules = settings, store, open_vault, rules

    def routes(self) -> Routes:
        return {
            ROUTE: {"GET": self.list_grants, "POST": self.create},
            f"{ROUTE}/rules": {"GET": self.get_rules},
            f"{ROUTE}/{{id}}/revoke": {"POST": self.revoke},
            f"{ROUTE}/{{id}}/uses": {"GET": self.list_uses},
        }

    async def create(self, request: Request) -> Response:
        body, _ = await json_object(request, self.settings.limits)
        values, faults = grants.validate(body, self.consent_rules, self.open_vault())
        if values is None:
            raise ProblemError("invalid_request", errors=faults)
        grant = await self._write(lambda connection: grants.create(connection, values, request.principal.subject))
        return JSONResponse(grant, status_code=201, headers={"Location": f"{ROUTE}/{grant['authorisation']}"})

    async def list_grants(self, request: Request) -> Response:
        before = parse_query(request, GrantQuery).before or "g"
        tenant, reader = self._visible_tenant(request), self.store.reader
        listed = await asyncio.to_thread(reader.run, lambda connection: grants.list_grants(connection, tenant, before))
        return JSONResponse({"authorisations": listed})

    async def get_rules(self, request: Request) -> Response:
        """GET /v1/authorisations/rules: the groups that an authorisation may name."""
        consent_rules = self.consent_rules
        purposes = {purpose: consent_rules.groups(purpose) for purpose in PURPOSES}
        return JSONResponse(
            {"purposes": purposes, "needs": consent_rules.needs, "conduct": sorted(consent_rules.conduct)}
        )

    async def revoke(self, request: Request) -> Response:
        grant_id, tenant = request.path_params["id"], self._visible_tenant(request)
        revoked = None
        if ID_PATTERN.fullmatch(grant_id):
            revoked = await self._write(lambda connection: grants.revoke(connection, grant_id, tenant))
        if revoked is None:
            raise ProblemError("unknown_authorisation", actual=repr(grant_id[:80]))
        return JSONResponse(revoked)

    async def list_uses(self, request: Request) -> Response:
        grant_id, before = request.path_params["id"], parse_query(request, UsageQuery).before
        page, tenant, reader = None, self._visible_tenant(request), self.store.reader
        if ID_PATTERN.fullmatch(grant_id):
            before_leaf = int(before) if before else None
            page = await asyncio.to_thread(
                reader.run, lambda connection: usage.usage_page(connection, grant_id, tenant, before_leaf)
            )
        if page is None:
            raise ProblemError("unknown_authorisation", actual=repr(grant_id[:80]))
        return JSONResponse(page)

    def _visible_tenant(self, request: Request) -> str | None:
        """None for operators, who see the authorisations of every tenant."""
        return None if "operator" in request.principal.roles else request.principal.tenant

    async def _write(self, fn: Callable[[sa.Connection], Any]) -> Any:
        return await self.store.write(fn)


def paths() -> Schema:
    text, null = {"type": "string"}, {"type": "null"}
    common = {
        name: schema for name, schema in model_schema(grants.GrantRequest)["properties"].items() if name in GRANT_FIELDS
    }
    grant_properties = {
        "authorisation": text,
        **common,
        "grantor": text,
        "subject": {"anyOf": [text, null], "description": "Pseudonym; null: every subject"},
        "valid_from": common["valid_to"],
        "revoked_at": {"anyOf": [text, null]},
        "created": text,
        "by": text,
    }
    grant = closed_object(grant_properties, list(grant_properties))
    rule_fields = ["purposes", "needs", "conduct"]
    list_schema = closed_object({"authorisations": {"type": "array", "items": grant}}, ["authorisations"])
    created_response = {"description": "Entered", "content": {JSON_MEDIA_TYPE: {"schema": grant}}}
    created_response["headers"] = {"Location": {"schema": text, "required": True}}
    return {
        ROUTE: {
            "get": operation(
                PROBLEMS[ROUTE], "authorisations", "List authorisations, newest first, 200 at most",
                json_response(list_schema),
                parameters=query_params(GrantQuery),
            ),
            "post": operation(
                CREATE_PROBLEMS, "authorise", "Enter a signed authorisation", {"201": created_response},
                requestBody=json_body(grants.GrantRequest),
            ),
        },
        f"{ROUTE}/rules": {
            "get": operation(
                PROBLEMS[f"{ROUTE}/rules"], "authorisationRules",
                "Groups that an authorisation may name for each purpose, and the kinds of grants that each needs",
                json_response(closed_object(dict.fromkeys(rule_fields, {"type": ["object", "array"]}), rule_fields)),
            )
        },
        f"{ROUTE}/{{id}}/revoke": {
            "post": operation(
                PROBLEMS[f"{ROUTE}/{{id}}/revoke"], "revoke",
                "Revoke an authorisation: no further read uses it, and pending answers under it are refused",
                json_response(grant), parameters=[path_param("id", "authorisation")],
            )
        },
        f"{ROUTE}/{{id}}/uses": {
            "get": operation(
                PROBLEMS[f"{ROUTE}/{{id}}/uses"], "uses",
                "Uses of an authorisation, newest first, 200 at most, and the models trained under it",
                json_response(_uses_schema(grant_properties)),
                parameters=[
                    path_param("id", "authorisation"),
                    *query_params(UsageQuery),
                ],
            )
        },
    }  # fmt: skip


def _uses_schema(grant: Schema) -> Schema:
    text, count = {"type": "string"}, {"type": "integer", "minimum": 0}
    null: Schema = {"type": "null"}
    nullable_text = {"anyOf": [text, null]}
    use = {
        "leaf": count | {"description": "Its index in the audit log"},
        "kind": {"enum": ["decision", "chunk", "slide_state", "read"]},
        "decision": nullable_text
        | {"description": "Id of the decision or slide; batch and first row of a chunk; null for a query"},
        "what": nullable_text | {"description": "For a query: history, network or stress"},
        "at": text,
        "tenant": text,
        **dict.fromkeys(("product", "model", "version"), nullable_text),
        "rows": {"anyOf": [count, null], "description": "Rows of a chunk"},
    }
    model = {**dict.fromkeys(("model", "version", "bundle"), text), "data": {"type": "array", "items": text}}
    properties = grant | {
        "used": count | {"description": "Number of answers, chunks and queries"},
        "uses": {"type": "array", "items": closed_object(use, [*use])},
        "next": {"anyOf": [count, null], "description": "`before` of the next page; null on the last page"},
        "models": {
            "type": "array",
            "items": closed_object(model, [*model]),
            "description": "Models that answered at least once",
        },
    }
    return closed_object(properties, [*properties])
