"""What would be answered, were it asked: POST /v1/{product}/what-if, and what may be stated of an applicant.

Nothing is recorded, charged or counted, and nobody may rely on it: the answer has no decision_id and says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson

from datasets.errors import Fault
from datasets.schema import UNITS_ZH, Column
from serving.core.http.problems import Problem
from serving.core.http.request import JSON, Call, Reply, read_body
from serving.core.http.schema import STORE, Schema, closed, in_path, operation, told_as_json
from serving.decisions.products.base import Product, products
from serving.decisions.request import parse_question
from serving.decisions.service import JSON_OPTIONS, DecisionService

Handler = Callable[[Call], Awaitable[Reply]]
FORM = "/v1/models/{name}/form"
ASKED = (
    "empty_body", "not_utf8", "malformed_json", "unknown_model", "slow_request", "body_too_large",
    "unsupported_media_type", "invalid_request", *STORE,
)  # fmt: skip
PROBLEMS = {FORM: ("unknown_model", "not_ready")}


class WhatIf:
    def __init__(self, service: DecisionService):
        self.service = service

    def routes(self) -> dict[str, dict[str, Handler]]:
        asked: dict[str, dict[str, Handler]] = {
            f"{product.route}/what-if": {"POST": partial(self.ask, product)} for product in products().values()
        }
        return {**asked, FORM: {"GET": self.form}}

    async def ask(self, product: Product, call: Call) -> Reply:
        media_type = call.media_type()
        if media_type != JSON:
            raise Problem("unsupported_media_type", found=repr(media_type) if media_type else "not given", needed=JSON)
        service = self.service
        limits = service.settings.limits
        question = parse_question(await read_body(call, limits.body, limits.body_seconds), product.form)
        if question.indicators is None:  # else what the store holds of a subject could be found by trying
            needed = "indicators: a stored subject's values are not told", "指标：已存储主体的数值不予透露"
            raise Problem("invalid_request", errors=[Fault("subject_id", "given", *needed)])
        held = service.held(product, question.model)
        row, faults = held.check(question.indicators)
        if faults:
            raise Problem("invalid_request", errors=faults)
        said = held.answer(question.indicators, row, question.wishes)
        model = {"name": held.card.model, "version": held.card.version, "bundle": held.digest}
        told = {**said, "model": model, "simulated": held.card.simulated, "recorded": False}
        return Reply(orjson.dumps(told, option=JSON_OPTIONS))

    async def form(self, call: Call) -> Reply:
        """What an applicant may state, group by group in the order of the contract."""
        held = self.service.champions.serving.get(call.path[0])
        if held is None:
            known = ", ".join(sorted(self.service.champions.serving)) or "no model"
            raise Problem("unknown_model", found=repr(call.path[0][:80]), needed=known)
        product = products()[held.card.product]
        told = {
            "model": held.card.model,
            "product": product.name,
            "route": product.route,
            "simulated": held.card.simulated,
            "currency": held.currency,
            "wishes": [{"name": w.name, "default": w.default, "description": w.description} for w in product.wishes],
            "fields": [_field(column) for column in held.fields],
        }
        return Reply(orjson.dumps(told))


def _field(column: Column) -> dict[str, Any]:
    needed, needed_zh = column.needed()
    return {
        "name": column.name,
        "group": column.group,
        "kind": column.kind,
        "unit": column.unit,
        "unit_zh": UNITS_ZH.get(column.unit, column.unit),
        "low": column.low,
        "high": column.high,
        "integer": column.integer,
        "levels": list(column.levels),
        "en": column.label,
        "zh": column.label_zh,
        "needed": needed,
        "needed_zh": needed_zh,
    }


def _body(product: Product) -> Schema:
    wishes = {wish.name: {"type": "boolean", "description": wish.description} for wish in product.wishes}
    stated = {"indicators": {"type": "object"}, "model": {"type": "string"}, **wishes}
    return {"required": True, "content": {JSON: {"schema": closed(stated, ["indicators"])}}}


def problems() -> dict[str, tuple[str, ...]]:
    return PROBLEMS | {f"{product.route}/what-if": ASKED for product in products().values()}


def paths() -> Schema:
    told = {
        "type": "object",
        "required": ["recorded", "model", "decision"],
        "properties": {"recorded": {"const": False}},
    }
    summary = "What would be answered: nothing is recorded, charged or counted"
    return {
        f"{product.route}/what-if": {
            "post": operation(
                ASKED, f"{product.operation}WhatIf", summary, told_as_json(told), requestBody=_body(product)
            )
        }
        for product in products().values()
    } | {
        FORM: {
            "get": operation(
                PROBLEMS[FORM],
                "form",
                "What may be stated of an applicant: each indicator with its group, unit and range",
                told_as_json({"type": "object", "required": ["model", "fields"]}),
                parameters=[in_path("name", "a model that serves")],
            )
        }
    }
