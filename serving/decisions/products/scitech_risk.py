"""The sci-tech desk's one question: how risky is this technology company, how innovative, and how much may we lend?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datasets.errors import Fault
from models.bundle import Bundle, BundleRefused
from models.policy.config import PolicyRefused
from models.scitech_risk.decision import Decider
from models.scitech_risk.policy import Policy
from models.scitech_risk.stress import Shock, derive, fitted, no_better, shifted, shocked, with_rate
from serving.decisions.products.base import Product
from serving.decisions.products.tabular import Tabular
from serving.decisions.request import Wish
from serving.settings import SCOPES


class ScitechRisk(Tabular):
    def __init__(self, bundle: Bundle, policy: Policy):
        super().__init__(bundle, policy.version, policy.currency)
        self._decider = Decider(self.card, policy)
        self._deciding = lru_cache(32)(lambda rate: Decider(self.card, with_rate(policy, rate)))
        self._types = {c.name: pl.Float64 if c.kind == "number" else pl.String for c in self.fields}
        self._whole = {column.name for column in self.fields if column.integer}

    def answer(self, values: Mapping[str, Any], row: list[float], wishes: Mapping[str, bool]) -> dict[str, Any]:
        return self._decider.one(values, self.score(row), person=wishes["person"], row=row)

    def stressed(
        self, values: Mapping[str, Any], row: list[float], shocks: Sequence[Shock]
    ) -> tuple[dict[str, Any] | None, list[Fault]]:
        """The answer after one shock upon the other, without reasons; None and what is wrong where the moved books
        cannot be answered. As over a register, no shock makes the PD less."""
        frame = pl.DataFrame([{name: values.get(name) for name in self._types}], schema=self._types)
        frame = derive(frame, self.table, set(self._types))
        for shock in shocks:
            frame = shocked(frame, fitted(shock, self.table), self.table)
        moved = {
            name: int(value) if name in self._whole and value is not None else value
            for name, value in frame.row(0, named=True).items()
            if name in self._types
        }
        after, faults = self.check(moved)
        if faults:
            return None, faults
        scores = self.score(after)
        for shock in shocks:
            scores = shifted(scores, frame, shock, self.card.head)
        decider = self._deciding(round(sum(shock.rate for shock in shocks), 6))
        return decider.one(moved, no_better(scores, self.score(row)), row=after), []

    def many(self, frame: pl.DataFrame, reasons: bool, consent: bool | NDArray[np.bool_] = True) -> pl.DataFrame:
        return self._decider.many(frame, self.scores(frame, reasons))


def hold(bundle: Bundle) -> ScitechRisk:
    try:
        return ScitechRisk(bundle, Policy.load(bundle.policy))
    except PolicyRefused as error:
        raise BundleRefused(f"{bundle.card.model} {bundle.card.version}: its policy cannot be used: {error}") from error


TEXT, AMOUNT, NUMBER = {"type": "string"}, {"type": ["number", "null"]}, {"type": "number"}
SAID = {"code": TEXT, "en": TEXT, "zh": TEXT}


def _list(description: str, **more: Any) -> dict[str, Any]:
    """Of objects with a code and its sentence in two languages."""
    item = {"type": "object", "required": [*SAID, *more], "properties": SAID | more}
    return {"type": "array", "description": description, "items": item}


PRODUCT = Product(
    name="scitech_risk",
    route="/v1/scitech-risks",
    scope=SCOPES["scitech_risk"],
    operation="gradeCompany",
    asks="How risky is this technology company, how innovative, and how much may we lend it?",
    one="One company's grade, innovation score, shell gate, warnings and limit",
    many="Many companies' grades and limits: a table in, the same rows out with an answer or an error each",
    wishes=(Wish("person", False, "true: a person is to decide"),),
    answer={
        "indicative_limit": AMOUNT | {"description": "What it would be; `limit` where approved; 0 where blocked"},
        "currency": TEXT,
        "horizon": TEXT | {"description": "Of the PD"},
        "score": AMOUNT,
        "grade": {"type": ["string", "null"], "description": "null where too little is known of the company"},
        "approval_line": AMOUNT,
        "referral": _list("Why a person decides"),
        "innovation": {
            "type": "object",
            "required": ["score", "stage", "coverage", "parts"],
            "properties": {
                "score": AMOUNT | {"description": "0 to 100; null where too little is known"},
                "low": AMOUNT | {"description": "What it is at least, all that is missing counted as nothing"},
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
                "evidence": _list("What speaks for a shell", indicator=TEXT, points=NUMBER),
                "unknown": {"type": "array", "description": "Indicators that the gate reads and nobody stated"},
            },
        },
        "warnings": _list("Early warnings", severity={"enum": ["watch", "act"]}, indicator=TEXT),
        "ledger": {"type": "object", "description": "The bounds of the limit and which one binds, in RMB"},
        "reasons": _list("Points against the approval line, each an indicator's", points=NUMBER),
        "missing": {"type": "array", "description": "What was not stated"},
    },
    always=("horizon", "grade", "innovation", "gate", "warnings", "ledger", "reasons", "missing"),
    hold=hold,
)
