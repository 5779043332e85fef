"""Previews of decisions, POST /v1/{product}/what-if, and the form of indicators that a request may state.

A preview is not recorded, charged or counted, and nobody may rely on it: it has no decision_id and says so.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from datasets.errors import FieldError
from datasets.schema import UNITS_ZH, ColumnSchema
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSONResponse, Request, Response
from serving.core.http.router import Routes
from serving.core.http.schema import (
    BODY_PROBLEMS,
    STORE_PROBLEMS,
    Schema,
    closed_object,
    json_body,
    json_response,
    operation,
    path_param,
)
from serving.core.http.validation import read_json
from serving.decisions.products.base import Product, products
from serving.decisions.request import parse_request
from serving.decisions.service import DecisionService

FORM_ROUTE = "/v1/models/{name}/form"
PREVIEW_PROBLEMS = (
    *BODY_PROBLEMS, "unknown_model", "invalid_request", *STORE_PROBLEMS,
)  # fmt: skip
PROBLEMS = {FORM_ROUTE: ("unknown_model", "not_ready")}


class WhatIf:
    def __init__(self, service: DecisionService):
        self.service = service

    def routes(self) -> Routes:
        preview_routes: Routes = {
            f"{product.route}/what-if": {"POST": partial(self.preview, product)} for product in products().values()
        }
        return {**preview_routes, FORM_ROUTE: {"GET": self.input_form}}

    async def preview(self, product: Product, request: Request) -> Response:
        service = self.service
        decision_request = parse_request(await read_json(request, service.settings.limits), product.request_schema)
        if decision_request.indicators is None:  # else stored values could be found by trying
            expected = (
                "replaced by indicators: a preview would reveal stored values",
                "指标：预览会透露已入库主体的数值",
            )
            raise ProblemError("invalid_request", errors=[FieldError("subject_id", "given", *expected)])
        model = service.deployed_model(product, decision_request.model)
        row, faults = model.validate(decision_request.indicators)
        if faults:
            raise ProblemError("invalid_request", errors=faults)
        answer = model.decide(decision_request.indicators, row, decision_request.options)
        model_json = {"name": model.card.model, "version": model.card.version, "bundle": model.digest}
        payload = {**answer, "model": model_json, "simulated": model.card.simulated, "recorded": False}
        return JSONResponse(payload)

    async def input_form(self, request: Request) -> Response:
        """The indicators that a request may state, by group in the order of the contract."""
        model = self.service.model_loader.deployed.get(request.path_params["name"])
        if model is None:
            model_names = ", ".join(sorted(self.service.model_loader.deployed)) or "no model"
            raise ProblemError("unknown_model", actual=repr(request.path_params["name"][:80]), expected=model_names)
        product = products()[model.card.product]
        payload = {
            "model": model.card.model,
            "product": product.name,
            "route": product.route,
            "simulated": model.card.simulated,
            "currency": model.currency,
            "wishes": [
                {"name": option.name, "default": option.default, "description": option.description}
                for option in product.options
            ],
            "fields": [_field_json(column) for column in model.fields],
        }
        return JSONResponse(payload)


def _field_json(column: ColumnSchema) -> dict[str, Any]:
    expected, expected_zh = column.expected()
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
        "needed": expected,
        "needed_zh": expected_zh,
    }


def _request_body(product: Product) -> Schema:
    options = {option.name: {"type": "boolean", "description": option.description} for option in product.options}
    properties = {"indicators": {"type": "object"}, "model": {"type": "string"}, **options}
    return json_body(closed_object(properties, ["indicators"]))


def problems() -> dict[str, tuple[str, ...]]:
    return PROBLEMS | {f"{product.route}/what-if": PREVIEW_PROBLEMS for product in products().values()}


def paths() -> Schema:
    answer_schema = {
        "type": "object",
        "required": ["recorded", "model", "decision"],
        "properties": {"recorded": {"const": False}},
    }
    summary = "Preview a decision: nothing is recorded, charged or counted"
    return {
        f"{product.route}/what-if": {
            "post": operation(
                PREVIEW_PROBLEMS,
                f"{product.operation_id}WhatIf",
                summary,
                json_response(answer_schema),
                requestBody=_request_body(product),
            )
        }
        for product in products().values()
    } | {
        FORM_ROUTE: {
            "get": operation(
                PROBLEMS[FORM_ROUTE],
                "form",
                "The indicators that a request may state, each with its group, unit and range",
                json_response({"type": "object", "required": ["model", "fields"]}),
                parameters=[path_param("name", "a model that serves")],
            )
        }
    }
