"""The routes of a stored company: its history, its network, and its decision under stress.

Each needs the authorisations that a decision about the company would need. What a response contains is not recorded;
that the authorisations were used is, in the audit log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, Any

import sqlalchemy as sa

from datasets.errors import FieldError
from datasets.schema import find_unknown_names
from models.policy.config import load_section
from models.scitech_risk.stress import Shock, StressConfig, scale_shock
from serving.core.http.problems import ProblemError
from serving.core.http.request import JSONResponse, Request, Response
from serving.core.http.router import Routes
from serving.core.http.schema import (
    BODY_PROBLEMS,
    STORE_PROBLEMS,
    Schema,
    json_body,
    json_response,
    operation,
    path_param,
    query_params,
)
from serving.core.http.validation import RequestModel, Rule, read_model, text
from serving.decisions.companies import history as company_history
from serving.decisions.companies import network as company_network
from serving.decisions.companies.access import CompanyAccess
from serving.decisions.inputs import redact_faults
from serving.decisions.products.scitech_risk import PRODUCT, ScitechRiskModel
from serving.decisions.request import DecisionRequest
from serving.decisions.service import DecisionService
from serving.privacy.consent.redaction import redact_answer
from serving.privacy.subjects.errors import TamperedError
from serving.settings import ROOT

log = logging.getLogger("yuheng.companies")

STRESS_ROUTE = f"{PRODUCT.route}/stress"
HISTORY_ROUTE, NETWORK_ROUTE = "/v1/companies/{id}/history", "/v1/companies/{id}/network"
STRESS_CONFIG = ROOT / "configs" / "stress.toml"
DISCLOSED_FIELDS = ("decision", "grade", "limit", "indicative_limit", "currency", "referral", "gate")
SHOCKS = Rule(
    "an object of shocks, each with its size",
    "冲击及其倍数的对象",
    {"type": "object", "additionalProperties": {"type": "number"}},
    lambda value: isinstance(value, dict),
)
READ_PROBLEMS = ("not_authorised", "authorisation_ended", "indicators_refused")
PROBLEMS = {
    HISTORY_ROUTE: ("unknown_company", "bad_parameter", *READ_PROBLEMS, *STORE_PROBLEMS),
    NETWORK_ROUTE: ("unknown_company", *READ_PROBLEMS, *STORE_PROBLEMS),
    f"GET {STRESS_ROUTE}": ("not_ready",),
    f"POST {STRESS_ROUTE}": (
        *BODY_PROBLEMS, "unknown_model", "unknown_subject", *READ_PROBLEMS, "invalid_request", *STORE_PROBLEMS,
    ),
}  # fmt: skip


class StressRequest(RequestModel):
    """The size of each shock by its code. At least one: without a shock it would be a decision that is not recorded."""

    subject_id: Annotated[str, text(255)]
    shocks: Annotated[dict[str, Any], SHOCKS]
    model: Annotated[
        str | None, Rule("the name of a model", "模型名称", {"type": "string"}, lambda value: isinstance(value, str))
    ] = None


class CompanyRoutes:
    """Raises PolicyError where configs/stress.toml cannot be used."""

    def __init__(self, service: DecisionService):
        self.service = service
        self.stress_config = load_section(StressConfig, STRESS_CONFIG)
        self.access = CompanyAccess(service)

    def routes(self) -> Routes:
        return {
            HISTORY_ROUTE: {"GET": self.get_history},
            NETWORK_ROUTE: {"GET": self.get_network},
            STRESS_ROUTE: {"GET": self.list_shocks, "POST": self.stress_company},
        }

    async def get_history(self, request: Request) -> Response:
        page, company_id, principal = company_history.page(request), request.path_params["id"], request.principal
        store = self.service.store

        def load_history() -> bytes:
            used_grants = self.access.authorising_grants(company_id, principal)
            body = company_history.history(store.reader, store.vault, principal.tenant, company_id, page)
            self.access.record_use("history", company_id, principal, used_grants)
            return body

        return JSONResponse(await asyncio.to_thread(_map_tampering, load_history))

    async def get_network(self, request: Request) -> Response:
        company_id, principal, store = request.path_params["id"], request.principal, self.service.store
        groups = company_network.REQUIRED_GROUPS

        def load_network() -> bytes:
            used_grants = self.access.authorising_grants(company_id, principal, groups)

            def select_visible(connection: sa.Connection, pseudonyms: list[str]) -> set[str]:
                visible, grants = self.access.visible_companies(principal.tenant, groups, connection, pseudonyms)
                used_grants.update(grants)
                return visible

            body = company_network.network(store.reader, store.vault, company_id, select_visible)
            self.access.record_use("network", company_id, principal, used_grants)
            return body

        return JSONResponse(await asyncio.to_thread(_map_tampering, load_network))

    # --- stress

    def _available_shocks(self, model: ScitechRiskModel) -> dict[str, Shock]:
        """The shocks that change what the model or its policy reads; one of a trade is taken to hit the company."""
        field_names = {column.name for column in model.fields}
        return {
            shock.code: shock.model_copy(update={"trade": ""})
            for shock in self.stress_config.shocks
            if shock.rate or shock.log_odds or any(effect.column in field_names for effect in shock.effects)
        }

    def _deployed_model(self, model_name: str | None) -> ScitechRiskModel:
        deployed = self.service.deployed_model(PRODUCT, model_name)
        assert isinstance(deployed, ScitechRiskModel)
        return deployed

    async def list_shocks(self, request: Request) -> Response:
        model, scale = self._deployed_model(None), self.stress_config.desk
        columns = {column.name: column for column in model.fields}
        trade_codes = {shock.code for shock in self.stress_config.shocks if shock.trade}
        payload = [
            {
                "code": shock.code,
                "en": shock.en,
                "zh": shock.zh,
                "why_en": shock.why_en,
                "why_zh": shock.why_zh,
                "own_trade": shock.code in trade_codes,
                "rate": shock.rate,
                "log_odds": shock.log_odds,
                "moves": [
                    {"indicator": effect.column, "en": column.label, "zh": column.label_zh, "times": effect.times}
                    for effect in shock.effects
                    if effect.times != 1 and not effect.plus and (column := columns.get(effect.column))
                ],
            }
            for shock in self._available_shocks(model).values()
        ]
        return JSONResponse({"shocks": payload, "step": scale.step, "most": scale.most})

    async def stress_company(self, request: Request) -> Response:
        service = self.service
        body, _ = await read_model(request, StressRequest, service.settings.limits)
        model = self._deployed_model(body.model)
        shocks = self._select_shocks(body.shocks, model)
        options = {option.name: option.default for option in PRODUCT.options}
        decision_request = DecisionRequest(None, body.subject_id, body.model, options)
        inputs = await service.resolve_inputs(decision_request, model, request.principal)
        row, faults = model.validate(inputs.values)
        if faults:
            raise ProblemError("invalid_request", errors=redact_faults(faults))
        stressed_answer, faults = model.decide_under_stress(inputs.values, row, shocks)
        if stressed_answer is None:
            raise ProblemError("invalid_request", errors=redact_faults(faults))
        response = {
            "subject_id": body.subject_id,
            "recorded": False,
            "simulated": model.card.simulated or inputs.simulated,
            "model": {"name": model.card.model, "version": model.card.version, "bundle": model.digest},
            "authorisations": list(inputs.grants),
            "shocks": body.shocks,
            "before": _round_for_disclosure(redact_answer(model.decide(inputs.values, row, options), model.table)),
            "after": _round_for_disclosure(redact_answer(stressed_answer, model.table)),
        }
        await asyncio.to_thread(self.access.record_use, "stress", body.subject_id, request.principal, inputs.grants)
        return JSONResponse(response)

    def _select_shocks(self, requested: dict[str, Any], deployed: ScitechRiskModel) -> list[Shock]:
        """The requested shocks, scaled. Raises ProblemError with every fault."""
        available, sizes = self._available_shocks(deployed), self.stress_config.desk.sizes
        faults = find_unknown_names(
            requested, available, f"one of {', '.join(available)}", f"{'、'.join(available)} 之一"
        )
        if not requested:
            faults.append(FieldError("shocks", "none", "one shock or more", "至少一项冲击"))
        for code, size in requested.items():
            if code in available and (isinstance(size, bool) or size not in sizes):
                allowed = ", ".join(f"{value:g}" for value in sizes)
                faults.append(FieldError(code, repr(size)[:60], f"one of {allowed}", f"{allowed} 之一"))
        if faults:
            raise ProblemError("invalid_request", errors=faults)
        return [scale_shock(available[code], size) for code, size in requested.items()]


def _round_for_disclosure(answer: dict[str, Any]) -> dict[str, Any]:
    """The part of an answer that may be disclosed.

    Exact amounts at a few steps would reveal the company's own figures, and with reasons it would be a full decision.
    """
    disclosed = {name: answer[name] for name in DISCLOSED_FIELDS if name in answer}
    disclosed["pd"] = _round_to_two_figures(answer["pd"])
    bounds = (answer["ledger"] or {}).get("bounds", [])
    disclosed["bounds"] = [
        {
            "code": bound["code"],
            "binding": bound["binding"],
            "amount": bound["amount"] and int(_round_to_two_figures(bound["amount"])),
        }
        for bound in bounds
    ]
    return disclosed


def _round_to_two_figures(value: float) -> float:
    """Round to two significant figures, as 3,300,000 and 0.031."""
    return float(f"{value:.1e}")


def _map_tampering(fn: Callable[[], bytes]) -> bytes:
    """Run a function; raises ProblemError where it finds stored values that were changed."""
    try:
        return fn()
    except TamperedError as error:
        log.error("the stored values of a company are refused: %s", error)
        raise ProblemError("indicators_refused", actual=str(error)) from error


def paths() -> Schema:
    answer_schema = {
        "type": "object",
        "required": ["subject_id", "recorded", "before", "after"],
        "properties": {"recorded": {"const": False}, "before": {"type": "object"}, "after": {"type": "object"}},
    }
    shocks_schema = {
        "type": "object",
        "required": ["shocks", "step", "most"],
        "properties": {"shocks": {"type": "array"}},
    }
    company = path_param("id", "company_id of the register")
    return {
        HISTORY_ROUTE: {
            "get": operation(
                PROBLEMS[HISTORY_ROUTE],
                "history",
                "A company's months, and the decisions about its id, newest first",
                json_response(company_history.schema()),
                parameters=[
                    company,
                    *query_params(company_history.HistoryQuery),
                ],
            )
        },
        NETWORK_ROUTE: {
            "get": operation(
                PROBLEMS[NETWORK_ROUTE],
                "network",
                "The network around a company: who shares its officers, addresses and owners, and who trades with it",
                json_response(company_network.schema()),
                parameters=[company],
            )
        },
        STRESS_ROUTE: {
            "get": operation(
                PROBLEMS[f"GET {STRESS_ROUTE}"],
                "shocks",
                "The shocks that a company can be put under, and their sizes",
                json_response(shocks_schema),
            ),
            "post": operation(
                PROBLEMS[f"POST {STRESS_ROUTE}"],
                "stressCompany",
                "Decide on a stored company as it is and under shocks: not charged; only the use of grants is recorded",
                json_response(answer_schema),
                requestBody=json_body(StressRequest),
            ),
        },
    }
