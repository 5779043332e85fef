"""The credit limit's one question: how much may this household borrow, and why?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from datasets.faults import Fault
from datasets.table import Column, Table
from models.bundle import Bundle, BundleRefused
from models.card import Card
from models.credit_limit.decision import Decider
from models.credit_limit.policy import Policy
from models.graph import Graph
from models.inputs import Encoder, encode
from models.policy import PolicyRefused
from serving.question import Question

LONGEST_TEXT = 1_000  # characters


class CreditLimit:
    """A verified bundle and its policy, held ready."""

    def __init__(self, bundle: Bundle, policy: Policy):
        self.card: Card = bundle.card
        self.digest = bundle.digest
        self.policy = policy.version
        self.table = Table(name=self.card.model, columns=(*self.card.inputs, *self.card.also))
        self.fields = tuple(column for column in self.table.columns if column.derived is None)
        self._graph = Graph(bundle.graph)
        self._decider = Decider(self.card, policy, score=lambda x: self._graph.run(x).pd)
        self._inputs = Encoder(self.card.inputs)
        self._also = Encoder([column for column in self.card.also if column.kind != "text"])
        self._texts = [column for column in self.card.also if column.kind == "text"]
        self._known = frozenset(column.name for column in self.fields)

    def check(self, values: Mapping[str, Any]) -> tuple[list[float], list[Fault]]:
        row, faults = self._inputs.one(values)
        faults += self._also.one(values)[1] + _texts(self._texts, values)
        if not values.keys() <= self._known:
            faults += self._inputs.unknown(values, [column.name for column in self.fields])
        return row, faults

    def answer(self, values: Mapping[str, Any], row: list[float], question: Question) -> dict[str, Any]:
        scores = self._graph.run(np.array([row], np.float32), reasons=True)
        return self._decider.one(
            values, scores, consent=question.consent, person=question.person, raises=question.raises
        )

    def many(self, frame: pl.DataFrame, reasons: bool) -> pl.DataFrame:
        x = encode(frame, self.card.inputs)
        return self._decider.many(frame, self._graph.run(x, reasons=reasons))


def _texts(columns: list[Column], values: Mapping[str, Any]) -> list[Fault]:
    faults = []
    for column in columns:
        value = values.get(column.name)
        if value is None and not column.required:
            continue
        if not isinstance(value, str):
            faults.append(column.fault("missing" if value is None else value))
        elif len(value) > LONGEST_TEXT:
            needed = f"at most {LONGEST_TEXT:,} characters"
            faults.append(
                Fault(column.name, f"text of {len(value):,} characters", needed, f"最多 {LONGEST_TEXT:,} 个字符")
            )
    return faults


def hold(bundle: Bundle) -> CreditLimit:
    try:
        return CreditLimit(bundle, Policy.load(bundle.policy))
    except PolicyRefused as error:
        raise BundleRefused(f"{bundle.card.model} {bundle.card.version}: its policy cannot be used: {error}") from error
