"""The product `credit_limit`: how much may this household borrow, and why?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.bundle import Bundle, BundleError
from models.credit_limit.decision import VETO_FIELD, CreditDecisionEngine
from models.credit_limit.policy import Policy
from models.policy.config import PolicyError
from serving.decisions.products.base import Product
from serving.decisions.products.tabular import TabularModel
from serving.decisions.request import RequestOption
from serving.settings import SCOPES


class CreditLimitModel(TabularModel):
    def __init__(self, bundle: Bundle, policy: Policy):
        super().__init__(bundle, policy.version, policy.currency, {VETO_FIELD: tuple(policy.vetoes)})
        self._engine = CreditDecisionEngine(self.card, policy, score=lambda x: self._graph.run(x).pd)

    def decide(self, values: Mapping[str, Any], row: list[float], options: Mapping[str, bool]) -> dict[str, Any]:
        return self._engine.decide(
            self.plain_values(values),
            self.score(row),
            consent=options["moral_data_consent"],
            human_requested=options["person"],
            with_improvements=options["raises"],
        )

    def predict_batch(
        self, frame: pl.DataFrame, reasons: bool, consent: bool | NDArray[np.bool_] = True
    ) -> pl.DataFrame:
        return self._engine.decide_batch(frame, self.score_batch(frame, reasons), consent=consent)


def deploy(bundle: Bundle) -> CreditLimitModel:
    """Raises BundleError where the bundle's policy cannot be used."""
    try:
        return CreditLimitModel(bundle, Policy.load(bundle.policy))
    except PolicyError as error:
        raise BundleError(f"{bundle.card.model} {bundle.card.version}: its policy cannot be used: {error}") from error


TEXT, AMOUNT = {"type": "string"}, {"type": ["number", "null"]}
PRODUCT = Product(
    name="credit_limit",
    route="/v1/credit-limits",
    scope=SCOPES["credit_limit"],
    operation_id="answer",
    question="How much may this household borrow, under which product, and why?",
    summary="Decide on one household's limit",
    batch_summary="Decide on many households' limits: a table in, the same rows out, each with an answer or an error",
    options=(
        RequestOption("moral_data_consent", True, "false: conduct does not raise the limit; nothing else changes"),
        RequestOption("person", False, "true: a person is to decide"),  # PIPL, Art. 24
        # A third of the time of an answer.
        RequestOption("raises", True, "false: leave out what would raise the limit"),
    ),
    answer_fields={
        "score": AMOUNT,
        "indicative_limit": {"type": "number", "description": "The limit if approved; equal to `limit` where it was"},
        "indicative": {
            "type": ["object", "null"],
            "description": "What the indicative limit assumes, as a sentence; null where it assumes nothing",
        },
        "currency": TEXT,
        "grade": TEXT,
        "approval_line": AMOUNT,
        "referral": {"type": "array", "description": "Why a person must decide"},
        "ledger": {
            "type": "object",
            "description": "The bounds, the uplift and each cap, in whole units of the currency",
        },
        "reasons": {
            "type": "array",
            "description": "Score points of each indicator, against an applicant at the approval line",
        },
        "raises": {"type": "array"},
    },
    required_fields=(),
    deploy=deploy,
)
