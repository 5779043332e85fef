"""The credit limit's one question: how much may this household borrow, and why?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.bundle import Bundle, BundleRefused
from models.credit_limit.decision import Decider
from models.credit_limit.policy import Policy
from models.policy.config import PolicyRefused
from serving.decisions.products.base import Product
from serving.decisions.products.tabular import Tabular
from serving.decisions.request import Wish
from serving.settings import SCOPES


class CreditLimit(Tabular):
    def __init__(self, bundle: Bundle, policy: Policy):
        super().__init__(bundle, policy.version, policy.currency)
        self._decider = Decider(self.card, policy, score=lambda x: self._graph.run(x).pd)

    def answer(self, values: Mapping[str, Any], row: list[float], wishes: Mapping[str, bool]) -> dict[str, Any]:
        return self._decider.one(
            values,
            self.score(row),
            consent=wishes["moral_data_consent"],
            person=wishes["person"],
            raises=wishes["raises"],
        )

    def many(self, frame: pl.DataFrame, reasons: bool, consent: bool | NDArray[np.bool_] = True) -> pl.DataFrame:
        return self._decider.many(frame, self.scores(frame, reasons), consent=consent)


def hold(bundle: Bundle) -> CreditLimit:
    try:
        return CreditLimit(bundle, Policy.load(bundle.policy))
    except PolicyRefused as error:
        raise BundleRefused(f"{bundle.card.model} {bundle.card.version}: its policy cannot be used: {error}") from error


TEXT, AMOUNT = {"type": "string"}, {"type": ["number", "null"]}
PRODUCT = Product(
    name="credit_limit",
    route="/v1/credit-limits",
    scope=SCOPES["credit_limit"],
    operation="answer",
    asks="How much may this household borrow, under which product, and why?",
    one="One applicant's limit",
    many="Many applicants' limits: a table in, the same rows out with an answer or an error each",
    wishes=(
        # Without it the uplift is 1, and nothing else changes.
        Wish("moral_data_consent", True, "false: conduct raises no limit"),
        Wish("person", False, "true: a person is to decide"),  # PIPL, Art. 24
        Wish("raises", True, "false: leave out what would raise the limit"),  # a third of the work of an answer
    ),
    answer={
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
    always=(),
    hold=hold,
)
