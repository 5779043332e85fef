"""Authorisations over HTTP: entered and revoked by the operator, seen by the tenant to whom they were granted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import sqlalchemy as sa

from datasets.errors import Fault
from serving.core.db.store import Store
from serving.core.http.problems import Problem
from serving.core.http.request import JSON, Call, Reply, query
from serving.core.http.schema import STORE, Schema, closed, in_path, in_query, operation, told_as_json
from serving.core.http.validation import json_object
from serving.privacy.consent import grants, usage
from serving.privacy.consent.rules import KINDS, PURPOSES, Rules
from serving.privacy.subjects.vault import Vault
from serving.settings import Settings

ID = re.compile(r"[0-9a-f]{32}")
LEAF = re.compile(r"[0-9]{1,18}", re.ASCII)
ROUTE = "/v1/authorisations"
Handler = Callable[[Call], Awaitable[Reply]]
PROBLEMS = {
    ROUTE: ("bad_parameter", *STORE),
    f"{ROUTE}/rules": ("not_ready",),
    f"{ROUTE}/{{id}}/revoke": ("unknown_authorisation", *STORE),
    f"{ROUTE}/{{id}}/uses": ("unknown_authorisation", "bad_parameter", *STORE),
}
ENTERED = (
    "empty_body", "not_utf8", "malformed_json", "slow_request", "body_too_large", "unsupported_media_type",
    "invalid_request", *STORE,
)  # fmt: skip


class Authorisations:
    """`open_vault` is called at each use, as the vault is opened with the store."""

    def __init__(self, settings: Settings, store: Store, open_vault: Callable[[], Vault], rules: Rules):
        self.settings, self.store, self.open_vault, self.consent_rules = settings, store, open_vault, rules

    def routes(self) -> dict[str, dict[str, Handler]]:
        return {
            ROUTE: {"GET": self.listed, "POST": self.create},
            f"{ROUTE}/rules": {"GET": self.rules},
            f"{ROUTE}/{{id}}/revoke": {"POST": self.revoke},
            f"{ROUTE}/{{id}}/uses": {"GET": self.uses},
        }

    async def create(self, call: Call) -> Reply:
        body, _ = await json_object(call, self.settings.limits)
        form, faults = grants.read(body, self.consent_rules, self.open_vault())
        if form is None:
            raise Problem("invalid_request", errors=faults)
        made = await self._work(lambda connection: grants.create(connection, form, call.caller.who))
        return Reply(orjson.dumps(made), status=201, headers={"Location": f"{ROUTE}/{made['authorisation']}"})

    async def listed(self, call: Call) -> Reply:
        options, faults = query(call, ("before",))
        before = options.get("before", "g")
        if before != "g" and not ID.fullmatch(before):
            faults.append(Fault("before", repr(before[:60]), "an authorisation's id", "授权编号"))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        whose, reader = self._whose(call), self.store.reader
        found = await asyncio.to_thread(reader.ask, lambda connection: grants.listed(connection, whose, before))
        return Reply(orjson.dumps({"authorisations": found}))

    async def rules(self, call: Call) -> Reply:
        """What an authorisation may name."""
        told = self.consent_rules
        purposes = {purpose: told.groups(purpose) for purpose in PURPOSES}
        return Reply(orjson.dumps({"purposes": purposes, "needs": told.needs, "conduct": sorted(told.conduct)}))

    async def revoke(self, call: Call) -> Reply:
        wanted, whose = call.path[0], self._whose(call)
        done = None
        if ID.fullmatch(wanted):
            done = await self._work(lambda connection: grants.revoke(connection, wanted, whose))
        if done is None:
            raise Problem("unknown_authorisation", found=repr(wanted[:80]))
        return Reply(orjson.dumps(done))

    async def uses(self, call: Call) -> Reply:
        options, faults = query(call, ("before",))
        wanted, before = call.path[0], options.get("before")
        if before is not None and not LEAF.fullmatch(before):
            faults.append(Fault("before", repr(before[:60]), "a leaf's index, as `next` tells it", "日志序号"))
        if faults:
            raise Problem("bad_parameter", errors=faults)
        found, whose, reader = None, self._whose(call), self.store.reader
        if ID.fullmatch(wanted):
            older = None if before is None else int(before)
            found = await asyncio.to_thread(reader.ask, lambda connection: usage.of(connection, wanted, whose, older))
        if found is None:
            raise Problem("unknown_authorisation", found=repr(wanted[:80]))
        return Reply(orjson.dumps(found))

    def _whose(self, call: Call) -> str | None:
        """The operator sees every tenant's."""
        return None if "operator" in call.caller.roles else call.caller.tenant

    async def _work(self, do: Callable[[sa.Connection], Any]) -> Any:
        return await self.store.write(do)


def paths() -> Schema:
    text, null = {"type": "string"}, {"type": "null"}
    time = text | {"description": "A day or a time in UTC"}
    digest = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256 of the signed document"}
    common = {
        "kind": {"enum": list(KINDS)},
        "tenant": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$", "description": "To whom"},
        "purpose": {"enum": list(PURPOSES)},
        "groups": {"type": "array", "minItems": 1, "items": text},
        "valid_to": time,
        "document_sha256": digest,
    }
    told = {
        "authorisation": text,
        **common,
        "grantor": text,
        "subject": {"anyOf": [text, null], "description": "Pseudonym; null: all"},
        "valid_from": time,
        "revoked_at": {"anyOf": [text, null]},
        "created": text,
        "by": text,
    }
    named = {"type": "string", "minLength": 1, "maxLength": 255}
    asked = common | {
        "grantor": named | {"description": "The body; of a personal one the subject itself"},
        "subject_id": named,
        "product": {"enum": list(PURPOSES[:3]), "description": "Of the subject, where the purpose is training"},
        "valid_from": time | {"description": "Else from now on"},
    }
    grant = closed(told, list(told))
    asked_rules = ["purposes", "needs", "conduct"]
    whole = closed({"authorisations": {"type": "array", "items": grant}}, ["authorisations"])
    entered = {"description": "Entered", "content": {JSON: {"schema": grant}}}
    entered["headers"] = {"Location": {"schema": text, "required": True}}
    form = {"required": True, "content": {JSON: {"schema": closed(asked, list(common))}}}
    return {
        ROUTE: {
            "get": operation(
                PROBLEMS[ROUTE], "authorisations", "Authorisations, the newest first; 200 at most",
                told_as_json(whole),
                parameters=[in_query("before", {"type": "string", "pattern": "^[0-9a-f]{32}$"}, "Only older ones.")],
            ),
            "post": operation(
                ENTERED, "authorise", "Enter an authorisation that was signed", {"201": entered}, requestBody=form
            ),
        },
        f"{ROUTE}/rules": {
            "get": operation(
                PROBLEMS[f"{ROUTE}/rules"], "authorisationRules",
                "Which groups an authorisation for each purpose may name, and which kinds of it each group needs",
                told_as_json(closed(dict.fromkeys(asked_rules, {"type": ["object", "array"]}), asked_rules)),
            )
        },
        f"{ROUTE}/{{id}}/revoke": {
            "post": operation(
                PROBLEMS[f"{ROUTE}/{{id}}/revoke"], "revoke",
                "From now on nothing more is read under it, and what waits for it is not answered",
                told_as_json(grant), parameters=[in_path("id", "authorisation")],
            )
        },
        f"{ROUTE}/{{id}}/uses": {
            "get": operation(
                PROBLEMS[f"{ROUTE}/{{id}}/uses"], "uses",
                "Which answers and looks were made under it, the newest first, 200 at most; which models of data taken "
                "under it",
                told_as_json(_uses(told)),
                parameters=[
                    in_path("id", "authorisation"),
                    in_query("before", {"type": "string", "pattern": "^[0-9]{1,18}$"}, "A leaf: only older ones."),
                ],
            )
        },
    }  # fmt: skip


def _uses(grant: Schema) -> Schema:
    text, count = {"type": "string"}, {"type": "integer", "minimum": 0}
    null: Schema = {"type": "null"}
    some = {"anyOf": [text, null]}
    use = {
        "leaf": count | {"description": "Its index in the audit log"},
        "kind": {"enum": ["decision", "chunk", "slide_state", "read"]},
        "decision": some | {"description": "Of a chunk its batch and first row; of a slide the slide; of a look null"},
        "what": some | {"description": "Of a look: history, network or stress"},
        "at": text,
        "tenant": text,
        **dict.fromkeys(("product", "model", "version"), some),
        "rows": {"anyOf": [count, null], "description": "Of a chunk"},
    }
    model = {**dict.fromkeys(("model", "version", "bundle"), text), "data": {"type": "array", "items": text}}
    told = grant | {
        "used": count | {"description": "Answers, chunks and looks in all"},
        "uses": {"type": "array", "items": closed(use, [*use])},
        "next": {"anyOf": [count, null], "description": "`before` of the next page; null: there is none"},
        "models": {"type": "array", "items": closed(model, [*model]), "description": "That answered at least once"},
    }
    return closed(told, [*told])
