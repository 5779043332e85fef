"""The credit limit's one question: how much may this household borrow, and why?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.bundle import Bundle, BundleError
from models.credit_limit.decision import CreditDecisionEngine
from models.credit_limit.policy import Policy
from models.policy.config import PolicyError
from serving.decisions.products.base import Product
from serving.decisions.products.tabular import TabularModel
from serving.decisions.request import RequestOption
from serving.settings import SCOPES


class CreditLimitModel(TabularModel):
    def __init__(self, bundle: Bundle, policy: Policy):
        super().__init__(bundle, policy.version, policy.currency)
        self._engine = CreditDecisionEngine(self.card, policy, score=lambda x: self._graph.run(x).pd)

    def decide(self, values: Mapping[str, Any], row: list[float], options: Mapping[str, bool]) -> dict[str, Any]:
        return self._engine.decide(
            values,
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
    summary="One applicant's limit",
    batch_summary="Many applicants' limits: a table in, the same rows out with an answer or an error each",
    options=(
        # Without it the uplift is 1, and nothing else changes.
        RequestOption("moral_data_consent", True, "false: conduct raises no limit"),
        RequestOption("person", False, "true: a person is to decide"),  # PIPL, Art. 24
        RequestOption(
            "raises", True, "false: leave out what would raise the limit"
        ),  # a third of the work of an answer
    ),
    answer_fields={
        "score": AMOUNT,
        "indicative_limit": {"type": "number", "description": "What it would be; `limit` where approved"},
        "currency": TEXT,
        "grade": TEXT,
        "approval_line": AMOUNT,
        "referral": {"type": "array", "description": "Why a person decides"},
        "ledger": {"type": "object", "description": "The bounds, the uplift and each cap, in whole units of money"},
        "reasons": {"type": "array", "description": "Points against the approval line, each an indicator's"},
        "raises": {"type": "array"},
    },
    required_fields=(),
    deploy=deploy,
)
