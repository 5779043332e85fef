"""The product `scitech_risk`: how risky and how innovative is this technology company, and how much may we lend it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datasets.errors import FieldError
from models.bundle import Bundle, BundleError
from models.policy.config import PolicyError
from models.scitech_risk.decision import CompanyDecisionEngine
from models.scitech_risk.policy import Policy
from models.scitech_risk.stress import (
    Shock,
    add_rate,
    apply_shock,
    fit_to_table,
    recompute_derived,
    shift_log_odds,
    worse_of,
)
from serving.decisions.products.base import Product
from serving.decisions.products.tabular import TabularModel
from serving.decisions.request import RequestOption
from serving.settings import SCOPES


class ScitechRiskModel(TabularModel):
    def __init__(self, bundle: Bundle, policy: Policy):
        super().__init__(bundle, policy.version, policy.currency)
        self._engine = CompanyDecisionEngine(self.card, policy)
        self._engine_at_rate = lru_cache(32)(lambda rate: CompanyDecisionEngine(self.card, add_rate(policy, rate)))
        self._column_types = {
            column.name: pl.Float64 if column.kind == "number" else pl.String for column in self.fields
        }
        self._integer_columns = {column.name for column in self.fields if column.integer}

    def decide(self, values: Mapping[str, Any], row: list[float], options: Mapping[str, bool]) -> dict[str, Any]:
        return self._engine.decide(
            self.plain_values(values), self.score(row), human_requested=options["person"], row=row
        )

    def decide_under_stress(
        self, values: Mapping[str, Any], row: list[float], shocks: Sequence[Shock]
    ) -> tuple[dict[str, Any] | None, list[FieldError]]:
        """(the answer after all shocks, one upon the other; every fault of the shocked indicators).

        The answer is None where there are faults. As in a stress test of a register, no shock lowers the PD.
        """
        values = self.plain_values(values)
        frame = pl.DataFrame([{name: values.get(name) for name in self._column_types}], schema=self._column_types)
        frame = recompute_derived(frame, self.table, set(self._column_types))
        for shock in shocks:
            frame = apply_shock(frame, fit_to_table(shock, self.table), self.table)
        stressed_values = {
            name: int(value) if name in self._integer_columns and value is not None else value
            for name, value in frame.row(0, named=True).items()
            if name in self._column_types
        }
        stressed_row, faults = self.validate(stressed_values)
        if faults:
            return None, faults
        scores = self.score(stressed_row)
        for shock in shocks:
            scores = shift_log_odds(scores, frame, shock, self.card.head)
        engine = self._engine_at_rate(round(sum(shock.rate for shock in shocks), 6))
        return engine.decide(stressed_values, worse_of(scores, self.score(row)), row=stressed_row), []

    def predict_batch(
        self, frame: pl.DataFrame, reasons: bool, consent: bool | NDArray[np.bool_] = True
    ) -> pl.DataFrame:
        return self._engine.decide_batch(frame, self.score_batch(frame, reasons))


def deploy(bundle: Bundle) -> ScitechRiskModel:
    """Raises BundleError where the bundle's policy cannot be used."""
    try:
        return ScitechRiskModel(bundle, Policy.load(bundle.policy))
    except PolicyError as error:
        raise BundleError(f"{bundle.card.model} {bundle.card.version}: its policy cannot be used: {error}") from error


TEXT, AMOUNT, NUMBER = {"type": "string"}, {"type": ["number", "null"]}, {"type": "number"}
MESSAGE_FIELDS = {"code": TEXT, "en": TEXT, "zh": TEXT}


def _message_list(description: str, **extra_fields: Any) -> dict[str, Any]:
    """The schema of a list of coded messages in both languages."""
    item = {"type": "object", "required": [*MESSAGE_FIELDS, *extra_fields], "properties": MESSAGE_FIELDS | extra_fields}
    return {"type": "array", "description": description, "items": item}


PRODUCT = Product(
    name="scitech_risk",
    route="/v1/scitech-risks",
    scope=SCOPES["scitech_risk"],
    operation_id="gradeCompany",
    question="How risky is this technology company, how innovative, and how much may we lend it?",
    summary="Decide on one company: its grade, innovation score, shell gate, warnings and limit",
    batch_summary="Decide on many companies: a table in, the same rows out, each with an answer or an error",
    options=(RequestOption("person", False, "true: a person is to decide"),),
    answer_fields={
        "indicative_limit": AMOUNT
        | {"description": "The limit if approved; equal to `limit` where it was, 0 where the gate blocks"},
        "indicative": {
            "type": ["object", "null"],
            "description": "What the indicative limit assumes, as a sentence; null where it assumes nothing",
        },
        "currency": TEXT,
        "horizon": TEXT | {"description": "The period that the PD is for"},
        "score": AMOUNT,
        "grade": {"type": ["string", "null"], "description": "null where too little is known about the company"},
        "approval_line": AMOUNT,
        "referral": _message_list("Why a person must decide"),
        "innovation": {
            "type": "object",
            "required": ["score", "stage", "coverage", "parts"],
            "properties": {
                "score": AMOUNT | {"description": "0 to 100; null where too little is known"},
                "low": AMOUNT | {"description": "The lowest possible score: whatever is missing counts as zero"},
                "stage": {"type": ["string", "null"]},
                "coverage": NUMBER,
                "parts": {"type": "array"},
            },
        },
        "gate": {
            "type": "object",
            "required": ["verdict", "points", "evidence", "unknown"],
            "properties": {
                "verdict": {"enum": ["pass", "review", "block"]},
                "points": NUMBER,
                "evidence": _message_list("Evidence of a shell company", indicator=TEXT, points=NUMBER),
                "unknown": {"type": "array", "description": "Indicators that the gate reads and that were not stated"},
            },
        },
        "warnings": _message_list("Early warnings", severity={"enum": ["watch", "act"]}, indicator=TEXT),
        "ledger": {"type": "object", "description": "The bounds of the limit and which of them is binding, in RMB"},
        "reasons": _message_list(
            "Score points of each indicator, against a company at the approval line", points=NUMBER
        ),
        "missing": {"type": "array", "description": "Indicators that were not stated"},
    },
    required_fields=("horizon", "grade", "innovation", "gate", "warnings", "ledger", "reasons", "missing"),
    deploy=deploy,
)
