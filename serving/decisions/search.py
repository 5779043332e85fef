"""Lists and searches a tenant's decisions and batches: GET /v1/decisions, GET /v1/batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import orjson
import sqlalchemy as sa
from pydantic import Field

from serving.core.db import lookup
from serving.core.db.acts import read_acts
from serving.core.db.lookup import decision_ids_about
from serving.core.db.schema import BATCHES, DECISIONS, OVERRIDES, REFERRALS
from serving.core.db.tables.governance import PROPOSED
from serving.core.http.request import JSONResponse, Request, Response
from serving.core.http.router import Routes
from serving.core.http.schema import STORE_PROBLEMS, Schema, json_response, operation, query_params
from serving.core.http.validation import (
    BATCH_ID,
    DAY,
    DECISION_ID,
    RequestModel,
    matching,
    one_of,
    parse_query,
    text,
    whole_number,
)
from serving.decisions.batch.records import summary
from serving.decisions.products.base import products
from serving.decisions.service import DecisionService
from serving.settings import PRODUCTS

Row = dict[str, Any]
Candidate = tuple[str, Any]  # an id, and the recorded decision; None where it is not stored any more

DEFAULT_LIMIT, MAX_LIMIT = 50, 200  # rows of a page
SCAN_STEP = 100  # decisions read at a time, for a page of one row too: the next match may be far
MAX_SCANNED = 5_000  # decisions read for one page, where the filter is on the answer
MAX_TEXT_CHARS = 255  # characters of a name
DECISION_VALUES = ("approve", "refer")
PROBLEMS = {
    "/v1/decisions": ("bad_parameter", *STORE_PROBLEMS),
    "/v1/batches": ("bad_parameter", *STORE_PROBLEMS),
}


NAME = matching(  # PostgreSQL refuses NUL in a query
    rf"[^\u0000]{{1,{MAX_TEXT_CHARS}}}", f"1 to {MAX_TEXT_CHARS} characters", f"1 至 {MAX_TEXT_CHARS} 个字符"
)
PRODUCT = one_of(*PRODUCTS)


class BatchListQuery(RequestModel):
    product: Annotated[str, PRODUCT, Field(description="Else of each.")] = ""
    before: Annotated[str, BATCH_ID, Field(description="Only older ones.")] = ""
    limit: Annotated[int, whole_number(1, MAX_LIMIT), Field(description="Of a page.")] = DEFAULT_LIMIT


class DecisionListQuery(RequestModel):
    id: Annotated[str, DECISION_ID, Field(description="That decision, or that row of a batch.")] = ""
    product: Annotated[str, PRODUCT, Field(description="Else of each.")] = ""
    subject: Annotated[
        str,
        text(MAX_TEXT_CHARS),
        Field(description="About a stored household; with product=scitech_risk, a company."),
    ] = ""
    decision: Annotated[str, one_of(*DECISION_VALUES), Field(description="Else either.")] = ""
    model: Annotated[str, NAME, Field(description="Else of each.")] = ""
    since: Annotated[str, DAY, Field(description="From that day on, UTC.")] = ""
    until: Annotated[str, DAY, Field(description="Up to and including that day, UTC.")] = ""
    referred: Annotated[str, NAME, Field(description="Decisions that wait for this colleague.")] = ""
    before: Annotated[str, DECISION_ID, Field(description="Only older ones.")] = ""
    limit: Annotated[int, whole_number(1, MAX_LIMIT), Field(description="Of a page.")] = DEFAULT_LIMIT


class DecisionSearch:
    def __init__(self, service: DecisionService):
        self.service = service

    def routes(self) -> Routes:
        return {
            "/v1/decisions": {"GET": self.list_decisions},
            "/v1/batches": {"GET": self.list_batches},
        }

    async def list_decisions(self, request: Request) -> Response:
        query = parse_query(request, DecisionListQuery)
        options: Row = query.model_dump(exclude_unset=True)
        service, tenant = self.service, request.principal.tenant
        reader = service.store.reader
        if "subject" in options:
            product = options.setdefault("product", next(iter(products())))
            options["subject"] = service.store.vault.pseudonym(product, options["subject"])
        search = next((candidate for name, candidate in SEARCHES.items() if name in options), _search_recent)
        page = await asyncio.to_thread(reader.run, lambda connection: search(connection, tenant, options, query.limit))
        return JSONResponse(page)

    async def list_batches(self, request: Request) -> Response:
        query = parse_query(request, BatchListQuery)
        tenant, reader = request.principal.tenant, self.service.store.reader
        statement = sa.select(BATCHES).where(BATCHES.c.tenant == tenant, BATCHES.c.id < (query.before or "g"))
        if query.product:
            statement = statement.where(BATCHES.c.scope == f"{products()[query.product].scope}/batch")
        statement = statement.order_by(BATCHES.c.id.desc()).limit(query.limit)
        rows = await asyncio.to_thread(reader.run, lambda connection: [*connection.execute(statement).mappings()])
        batches = [_batch_json(row) for row in rows]
        next_id = batches[-1]["batch_id"] if len(batches) == query.limit else None
        return JSONResponse({"batches": batches, "next": next_id})


def _search_recent(connection: sa.Connection, tenant: str, options: Row, limit: int) -> Row:
    statement = sa.select(DECISIONS).where(DECISIONS.c.tenant == tenant)
    if "product" in options:
        statement = statement.where(DECISIONS.c.scope == products()[options["product"]].scope)
    if "model" in options:
        statement = statement.where(DECISIONS.c.model == options["model"])
    if "since" in options:
        statement = statement.where(DECISIONS.c.created >= options["since"])
    if "until" in options:  # including that day
        statement = statement.where(DECISIONS.c.created < f"{options['until']}T99")
    step = 500 if "decision" in options else limit
    statement = statement.order_by(DECISIONS.c.id.desc()).limit(step)

    def fetch(before: str) -> list[Candidate]:
        return [(row.id, row) for row in connection.execute(statement.where(DECISIONS.c.id < before))]

    def matches(row: Any, answer: Row) -> bool:
        return "decision" not in options or bool(answer["decision"] == options["decision"])

    return _paginate(connection, tenant, options, limit, step, fetch, matches)


def _search_referred(connection: sa.Connection, tenant: str, options: Row, limit: int) -> Row:
    """Decisions that wait for a colleague: referred to them last, and not decided by a person since."""
    latest = (
        sa.select(sa.func.max(REFERRALS.c.id).label("id"))
        .where(REFERRALS.c.tenant == tenant)
        .group_by(REFERRALS.c.about)
        .subquery()
    )
    decided_since = sa.exists().where(
        OVERRIDES.c.tenant == tenant,
        OVERRIDES.c.about == REFERRALS.c.about,
        OVERRIDES.c.id > REFERRALS.c.id,
        OVERRIDES.c.state != PROPOSED,
    )
    statement = (
        sa.select(REFERRALS.c.about)
        .join(latest, latest.c.id == REFERRALS.c.id)
        .where(REFERRALS.c.to == options["referred"], ~decided_since)
        .order_by(REFERRALS.c.about.desc())
    )

    def fetch_ids(before: str, step: int) -> list[str]:
        return list(connection.execute(statement.where(REFERRALS.c.about < before).limit(step)).scalars())

    return _filter_ids(connection, tenant, options, limit, fetch_ids)


def _search_subject(connection: sa.Connection, tenant: str, options: Row, limit: int) -> Row:
    """Decisions about a stored subject, rows of batches included."""

    def fetch_ids(before: str, step: int) -> list[str]:
        return decision_ids_about(connection, options["product"], options["subject"], tenant, before, step)

    return _filter_ids(connection, tenant, options, limit, fetch_ids)


def _filter_ids(
    connection: sa.Connection, tenant: str, options: Row, limit: int, fetch_ids: Callable[[str, int], list[str]]
) -> Row:
    """A page of the decisions and rows that match. fetch_ids(before, step): the next ids before one, newest first."""
    step = max(limit, SCAN_STEP)

    def fetch(before: str) -> list[Candidate]:
        candidate_ids = fetch_ids(before, step)
        records = lookup.find_many(connection, candidate_ids, tenant)
        decisions = {decision_id: row for decision_id, row in records.items() if row.kind == "decision"}
        return [(decision_id, decisions.get(decision_id)) for decision_id in candidate_ids]

    def matches(row: Any, answer: Row) -> bool:
        values = {
            "decision": answer["decision"],
            "product": _product_name(row.scope),
            "model": row.model,
            "subject": row.subject,
        }
        if any(options.get(name, value) != value for name, value in values.items()):
            return False
        return bool(options.get("since", "") <= row.created < f"{options.get('until', '9999-99-99')}T99")

    return _paginate(connection, tenant, options, limit, step, fetch, matches)


def _paginate(
    connection: sa.Connection, tenant: str, options: Row, limit: int, step: int,
    fetch: Callable[[str], list[Candidate]], matches: Callable[[Any, Row], bool],
) -> Row:  # fmt: skip
    """A page of the candidates that match. fetch(before): the next `step` candidates before an id, newest first."""
    rows: list[Row] = []
    before, scanned = options.get("before", "g"), 0
    while len(rows) < limit and scanned < MAX_SCANNED and before is not None:
        candidates = fetch(before)
        scanned += len(candidates)
        before = candidates[-1][0] if len(candidates) == step else None
        for decision_id, row in candidates:
            if row is None:
                continue
            answer = row.answer if isinstance(row.answer, dict) else orjson.loads(row.answer)
            if matches(row, answer):
                rows.append(_decision_json(row, answer))
                if len(rows) == limit:
                    before = decision_id
                    break
    return {"decisions": _attach_acts(connection, tenant, rows), "next": before}


def _search_by_id(connection: sa.Connection, tenant: str, options: Row, limit: int) -> Row:
    """The one decision, or row of a batch, of this id."""
    decision_id = options["id"]
    page = _filter_ids(
        connection, tenant, options, limit, lambda before, _: [decision_id] if decision_id < before else []
    )
    return page | {"next": None}


def _decision_json(row: Any, answer: Row) -> Row:
    return {
        "decision_id": row.id,
        "product": _product_name(row.scope),
        "created": row.created,
        "model": row.model,
        "version": row.version,
        "decision": answer["decision"],
        "limit": answer.get("limit"),
        "indicative_limit": answer.get("indicative_limit"),
        "indicative": answer.get("indicative"),
        "currency": answer.get("currency"),
        "pd": answer.get("pd"),
        "grade": answer.get("grade"),
        "gate": answer["gate"]["verdict"] if isinstance(answer.get("gate"), dict) else answer.get("gate"),
        "stored": row.subject is not None,
        "simulated": answer.get("simulated"),
    }


def _product_name(scope: str) -> str:
    return next((product.name for product in products().values() if product.scope == scope), "")


def _attach_acts(connection: sa.Connection, tenant: str, rows: list[Row]) -> list[Row]:
    """Add what people did about each decision, in order; the newest referral and override in force; and the proposal
    that waits for a second person.
    """
    acts = read_acts(connection, tenant, [row["decision_id"] for row in rows])
    for row in rows:
        in_order = acts[row["decision_id"]]
        overrides = [act for act in in_order if act["kind"] == "override"]
        referrals = [act for act in in_order if act["kind"] == "referral"]
        in_force = [act for act in overrides if act["state"] != PROPOSED]
        row["acts"] = in_order
        row["override"] = in_force[-1] if in_force else None
        row["proposal"] = overrides[-1] if overrides and overrides[-1]["state"] == PROPOSED else None
        row["referral"] = referrals[-1] if referrals else None
    return rows


def _batch_json(row: Any) -> Row:
    payload = summary(row)
    payload["faults"] = len(payload["faults"])
    return payload | {"product": _product_name(row["scope"].removesuffix("/batch"))}


SEARCHES = {
    "id": _search_by_id,
    "referred": _search_referred,
    "subject": _search_subject,
}  # parameter -> its search; the first parameter in the query decides


def paths() -> Schema:
    text, null = {"type": "string"}, {"type": "null"}
    next_page = {"anyOf": [text, null], "description": "`before` of the next page; null: there is none"}
    rows = {"type": "array", "items": {"type": "object"}}
    return {
        "/v1/decisions": {
            "get": operation(
                PROBLEMS["/v1/decisions"],
                "decisions",
                "The tenant's decisions, newest first, each with what people did about it. Rows of batches "
                "are found only by subject, id or referral",
                json_response(
                    {
                        "type": "object",
                        "required": ["decisions", "next"],
                        "properties": {"decisions": rows, "next": next_page},
                    }
                ),
                parameters=query_params(DecisionListQuery),
            )
        },
        "/v1/batches": {
            "get": operation(
                PROBLEMS["/v1/batches"],
                "batches",
                "The tenant's batches, newest first",
                json_response(
                    {
                        "type": "object",
                        "required": ["batches", "next"],
                        "properties": {"batches": rows, "next": next_page},
                    }
                ),
                parameters=query_params(BatchListQuery),
            )
        },
    }
