"""What a tenant asked and was answered, listed: GET /v1/decisions, /v1/batches."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import sqlalchemy as sa

from datasets.errors import Fault
from serving.core.db import lookup
from serving.core.db.lookup import decided_about
from serving.core.db.schema import BATCHES, DECISIONS, OVERRIDES, REFERRALS
from serving.core.http.problems import Problem
from serving.core.http.request import Call, Reply, query
from serving.core.http.schema import STORE, Schema, in_query, operation, told_as_json
from serving.decisions.batch.records import summary
from serving.decisions.products.base import products
from serving.decisions.service import DecisionService

Handler = Callable[[Call], Awaitable[Reply]]
Row = dict[str, Any]
Found = tuple[str, Any]  # an id, and the decision as recorded; None where it is no more

USUAL, MOST = 50, 200  # rows of a page
STEP = 100  # looked at at once, of a page as short as one row too: the next one that fits may be far
LOOKED_AT = 5_000  # decisions for one page at most, where what is asked for stands in the answer
TEXT = 255  # characters of a name
ID, BATCH = re.compile(r"[0-9a-f]{32}(-[1-9][0-9]{0,9})?"), re.compile(r"[0-9a-f]{32}")
NAME = rf"[^\u0000]{{1,{TEXT}}}"  # PostgreSQL looks for no NUL
DAY = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", re.ASCII)
SAID = ("approve", "refer")
DECIDED = ("id", "product", "subject", "decision", "model", "since", "until", "referred", "before", "limit")
PROBLEMS = {
    "/v1/decisions": ("bad_parameter", *STORE),
    "/v1/batches": ("bad_parameter", *STORE),
}


class Listed:
    def __init__(self, service: DecisionService):
        self.service = service

    def routes(self) -> dict[str, dict[str, Handler]]:
        return {
            "/v1/decisions": {"GET": self.decisions},
            "/v1/batches": {"GET": self.batches},
        }

    async def decisions(self, call: Call) -> Reply:
        options, faults = query(call, DECIDED)
        most = _limit(options, faults)
        _one_of(options, "product", tuple(products()), faults)
        _one_of(options, "decision", SAID, faults)
        for name in ("since", "until"):
            if name in options and not DAY.fullmatch(options[name]):
                faults.append(Fault(name, repr(options[name][:60]), "a day, as 2026-11-01", "日期，如 2026-11-01"))
        for name in ("id", "before"):
            if name in options and not ID.fullmatch(options[name]):
                faults.append(Fault(name, repr(options[name][:60]), "a decision_id", "决定编号"))
        for name in ("subject", "model", "referred"):
            if name in options and not 0 < len(options[name]) <= TEXT:
                needed = f"1 to {TEXT} characters", f"1 至 {TEXT} 个字符"
                faults.append(Fault(name, f"{len(options[name]):,} characters", *needed))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        service, tenant = self.service, call.caller.tenant
        reader = service.store.reader
        if "subject" in options:
            product = options.setdefault("product", next(iter(products())))
            options["subject"] = service.vault.pseudonym(product, options["subject"])
        find = next((find for name, find in FINDS.items() if name in options), _decided)
        told = await asyncio.to_thread(reader.ask, lambda connection: find(connection, tenant, options, most))
        return Reply(orjson.dumps(told))

    async def batches(self, call: Call) -> Reply:
        options, faults = query(call, ("product", "before", "limit"))
        most = _limit(options, faults)
        _one_of(options, "product", tuple(products()), faults)
        if "before" in options and not BATCH.fullmatch(options["before"]):
            faults.append(Fault("before", repr(options["before"][:60]), "a batch_id", "批次编号"))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        tenant, reader = call.caller.tenant, self.service.store.reader
        chosen = sa.select(BATCHES).where(BATCHES.c.tenant == tenant, BATCHES.c.id < options.get("before", "g"))
        if "product" in options:
            chosen = chosen.where(BATCHES.c.scope == f"{products()[options['product']].scope}/batch")
        chosen = chosen.order_by(BATCHES.c.id.desc()).limit(most)
        found = await asyncio.to_thread(reader.ask, lambda connection: [*connection.execute(chosen).mappings()])
        told = [_batch(row) for row in found]
        following = told[-1]["batch_id"] if len(told) == most else None
        return Reply(orjson.dumps({"batches": told, "next": following}))


def _limit(options: Row, faults: list[Fault]) -> int:
    told = options.get("limit", f"{USUAL}")
    if not re.fullmatch(r"[0-9]{1,4}", told) or not 1 <= int(told) <= MOST:
        faults.append(Fault("limit", repr(told[:60]), f"a whole number from 1 to {MOST}", f"1 至 {MOST} 的整数"))
        return USUAL
    return int(told)


def _one_of(options: Row, name: str, known: tuple[str, ...], faults: list[Fault]) -> None:
    if name in options and options[name] not in known:
        faults.append(Fault(name, repr(options[name][:60]), f"one of {', '.join(known)}", f"{'、'.join(known)} 之一"))


def _decided(connection: sa.Connection, tenant: str, options: Row, most: int) -> Row:
    chosen = sa.select(DECISIONS).where(DECISIONS.c.tenant == tenant)
    if "product" in options:
        chosen = chosen.where(DECISIONS.c.scope == products()[options["product"]].scope)
    if "model" in options:
        chosen = chosen.where(DECISIONS.c.model == options["model"])
    if "since" in options:
        chosen = chosen.where(DECISIONS.c.created >= options["since"])
    if "until" in options:  # the whole day
        chosen = chosen.where(DECISIONS.c.created < f"{options['until']}T99")
    step = 500 if "decision" in options else most
    chosen = chosen.order_by(DECISIONS.c.id.desc()).limit(step)

    def part(before: str) -> list[Found]:
        return [(row.id, row) for row in connection.execute(chosen.where(DECISIONS.c.id < before))]

    def fits(row: Any, answer: Row) -> bool:
        return "decision" not in options or bool(answer["decision"] == options["decision"])

    return _gathered(connection, tenant, options, most, step, part, fits)


def _referred(connection: sa.Connection, tenant: str, options: Row, most: int) -> Row:
    """What waits for a colleague: referred to them last, and not decided by a person since."""
    newest = (
        sa.select(sa.func.max(REFERRALS.c.id).label("id"))
        .where(REFERRALS.c.tenant == tenant)
        .group_by(REFERRALS.c.about)
        .subquery()
    )
    done = sa.exists().where(
        OVERRIDES.c.tenant == tenant, OVERRIDES.c.about == REFERRALS.c.about, OVERRIDES.c.id > REFERRALS.c.id
    )
    chosen = (
        sa.select(REFERRALS.c.about)
        .join(newest, newest.c.id == REFERRALS.c.id)
        .where(REFERRALS.c.to == options["referred"], ~done)
        .order_by(REFERRALS.c.about.desc())
    )

    def ids(before: str, step: int) -> list[str]:
        return list(connection.execute(chosen.where(REFERRALS.c.about < before).limit(step)).scalars())

    return _among(connection, tenant, options, most, ids)


def _about(connection: sa.Connection, tenant: str, options: Row, most: int) -> Row:
    """Of a stored subject: rows of batches, too."""

    def ids(before: str, step: int) -> list[str]:
        return decided_about(connection, options["product"], options["subject"], tenant, before, step)

    return _among(connection, tenant, options, most, ids)


def _among(
    connection: sa.Connection, tenant: str, options: Row, most: int, ids: Callable[[str, int], list[str]]
) -> Row:
    """What of these, single decisions or rows of batches, is as it was asked for. `ids`: so many before an id."""
    step = max(most, STEP)

    def part(before: str) -> list[Found]:
        wanted = ids(before, step)
        found = lookup.find_many(connection, wanted, tenant)
        decided = {one: row for one, row in found.items() if row.kind == "decision"}
        return [(one, decided.get(one)) for one in wanted]

    def fits(row: Any, answer: Row) -> bool:
        told = {
            "decision": answer["decision"],
            "product": _product(row.scope),
            "model": row.model,
            "subject": row.subject,
        }
        if any(options.get(name, value) != value for name, value in told.items()):
            return False
        return bool(options.get("since", "") <= row.created < f"{options.get('until', '9999-99-99')}T99")

    return _gathered(connection, tenant, options, most, step, part, fits)


def _gathered(
    connection: sa.Connection, tenant: str, options: Row, most: int, step: int,
    part: Callable[[str], list[Found]], fits: Callable[[Any, Row], bool],
) -> Row:  # fmt: skip
    """A page of what `part` finds before an id, `step` at a time and the newest first, and `fits`."""
    rows: list[Row] = []
    before, seen = options.get("before", "g"), 0
    while len(rows) < most and seen < LOOKED_AT and before is not None:
        found = part(before)
        seen += len(found)
        before = found[-1][0] if len(found) == step else None
        for one, row in found:
            if row is None:
                continue
            answer = row.answer if isinstance(row.answer, dict) else orjson.loads(row.answer)
            if fits(row, answer):
                rows.append(_row(row, answer))
                if len(rows) == most:
                    before = one
                    break
    return {"decisions": _followed(connection, tenant, rows), "next": before}


def _named(connection: sa.Connection, tenant: str, options: Row, most: int) -> Row:
    """One, or a row of a batch."""
    wanted = options["id"]
    told = _among(connection, tenant, options, most, lambda before, _: [wanted] if wanted < before else [])
    return told | {"next": None}


def _row(row: Any, answer: Row) -> Row:
    return {
        "decision_id": row.id,
        "product": _product(row.scope),
        "created": row.created,
        "model": row.model,
        "version": row.version,
        "decision": answer["decision"],
        "limit": answer.get("limit"),
        "indicative_limit": answer.get("indicative_limit"),
        "currency": answer.get("currency"),
        "pd": answer.get("pd"),
        "grade": answer.get("grade"),
        "gate": answer["gate"]["verdict"] if isinstance(answer.get("gate"), dict) else answer.get("gate"),
        "stored": row.subject is not None,
        "simulated": answer.get("simulated"),
    }


def _product(scope: str) -> str:
    return next((product.name for product in products().values() if product.scope == scope), "")


def _followed(connection: sa.Connection, tenant: str, rows: list[Row]) -> list[Row]:
    """With the newest referral and override of each."""
    ids = [row["decision_id"] for row in rows]
    for name, table, told in (
        ("override", OVERRIDES, ("decision", "limit", "reason", "by", "at")),
        ("referral", REFERRALS, ("to", "note", "by", "at")),
    ):
        chosen = sa.select(table).where(table.c.tenant == tenant, table.c.about.in_(ids)).order_by(table.c.id)
        newest = {one["about"]: {each: one[each] for each in told} for one in connection.execute(chosen).mappings()}
        for row in rows:
            row[name] = newest.get(row["decision_id"])
    return rows


def _batch(row: Any) -> Row:
    told = summary(row)
    told["faults"] = len(told["faults"])
    return told | {"product": _product(row["scope"].removesuffix("/batch"))}


FINDS = {"id": _named, "referred": _referred, "subject": _about}  # by what is asked for, the first that is


def paths() -> Schema:
    text, null = {"type": "string"}, {"type": "null"}
    after = {"anyOf": [text, null], "description": "`before` of the next page; null: there is none"}
    rows = {"type": "array", "items": {"type": "object"}}
    limit = in_query("limit", {"type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL}, "Of a page.")
    product = in_query("product", {"enum": [*products()]}, "Else of each.")
    told: Schema = {"type": "string", "pattern": f"^{NAME}$"}
    name, day = {"type": "string", "minLength": 1, "maxLength": TEXT}, {"type": "string", "pattern": f"^{DAY.pattern}$"}
    return {
        "/v1/decisions": {
            "get": operation(
                PROBLEMS["/v1/decisions"],
                "decisions",
                "The tenant's decisions, the newest first, with their newest referral and override. Rows of batches "
                "are found by subject, id or referral alone",
                told_as_json(
                    {
                        "type": "object",
                        "required": ["decisions", "next"],
                        "properties": {"decisions": rows, "next": after},
                    }
                ),
                parameters=[
                    in_query("id", {"type": "string", "pattern": f"^{ID.pattern}$"}, "That one, or a batch's row."),
                    product,
                    in_query("subject", name, "About a stored household, or with its product a company."),
                    in_query("decision", {"enum": [*SAID]}, "Else either."),
                    in_query("model", told, "Else of each."),
                    in_query("since", day, "From that day on, UTC."),
                    in_query("until", day, "Up to and with that day, UTC."),
                    in_query("referred", told, "Those that wait for this colleague."),
                    in_query("before", {"type": "string", "pattern": f"^{ID.pattern}$"}, "Only older ones."),
                    limit,
                ],
            )
        },
        "/v1/batches": {
            "get": operation(
                PROBLEMS["/v1/batches"],
                "batches",
                "The tenant's batches, the newest first",
                told_as_json(
                    {"type": "object", "required": ["batches", "next"], "properties": {"batches": rows, "next": after}}
                ),
                parameters=[
                    product,
                    in_query("before", {"type": "string", "pattern": "^[0-9a-f]{32}$"}, "Only older ones."),
                    limit,
                ],
            )
        },
    }
