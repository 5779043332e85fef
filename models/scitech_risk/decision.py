"""The answer for a company: grade, innovation, shell gate, early warnings, approve or refer to a person, the limit.

decider = Decider(card, policy)
decider.one(values, graph.run(x, reasons=True))      # a dict of plain JSON types
decider.many(frame, graph.run(encode(frame, card.inputs)))      # the same to the yuan, a row each
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.card import Card
from models.feature_encoder import Encoder, all_read
from models.policy.arithmetic import Arrays, Floats, any_of
from models.scitech_risk.early_warnings import raised
from models.scitech_risk.ledger import Ledger
from models.scitech_risk.limit_formula import INDICATORS, Formula
from models.scitech_risk.policy import Policy
from models.scorecard.batch_columns import picked, probability, whole
from models.scorecard.explanations import Explainer, line_points, rounded
from models.trees.onnx_session import Scores

LOOP = "loop_path"  # text
ASSETS = "total_assets"
PARTS = (  # of a balance sheet or an income statement, and the whole that holds each
    ("current_assets", ASSETS), ("cash", "current_assets"), ("receivables", "current_assets"),
    ("current_liabilities", "total_liabilities"), ("high_tech_revenue", "revenue"),
)  # fmt: skip
ROUNDED = 1.01  # a part may exceed its whole by what rounding does to a statement
MISSING = math.nan


class Decider:
    """One model under one policy.

    fields: the columns that are read beyond the model's inputs. line: points at which approval ends.
    """

    def __init__(self, card: Card, policy: Policy):
        self.card, self.policy = card, policy
        columns = {column.name: column for column in (*card.also, *card.inputs)}
        inputs = {column.name for column in card.inputs}
        books = (name for pair in PARTS for name in pair)
        self._read = tuple(dict.fromkeys((*INDICATORS, *(signal.indicator for signal in policy.signals), *books)))
        # A column that only shares a name is not what the formula means.
        self._numbers = [name for name in self._read if name in columns and columns[name].kind == "number"]
        self._loop = LOOP in columns and columns[LOOP].kind == "text"
        read = {*self._numbers, *([LOOP] if self._loop else [])}
        self.fields = tuple(columns[name] for name in columns if name in read - inputs)
        self.line = line_points(card, policy.approval_pd)
        coded = all_read(card.inputs, card.also)
        self._encoder = Encoder(coded)
        place = {column.name: at for at, column in enumerate(coded)}
        self._places = [(name, place[name]) for name in self._numbers]
        self._derived = [(c.name, at) for at, c in enumerate(coded) if c.derived is not None]
        known = policy.least_known.weights
        self._weights = [(c.name, float(known.get(c.group, 1.0))) for c in card.inputs if c.derived is None]
        self._weighed = [(place[name], weight) for name, weight in self._weights]
        self._weight = sum(weight for _, weight in self._weights) or 1.0
        stated = [*card.inputs, *self.fields]
        self._stated = [(c.name, place[c.name]) for c in stated if c.name in place and c.derived is None]
        self._ratios = [
            (c.name, place[c.name], [place[part] for part in c.derived.parts]) for c in coded if c.derived is not None
        ]
        self._acts = sorted(policy.acts)
        self._asked = [signal.indicator for signal in policy.signals if signal.unknown_refers]
        self._formula, self._arrays = Formula(policy, Floats), Formula(policy, Arrays)
        self._ledger = Ledger(policy, columns)
        self._explainer = Explainer(card, self.line)
        self._edges = [grade.pd_up_to for grade in policy.risk.grades]
        self._grades = [grade.name for grade in policy.risk.grades]
        self._ends = [stage.revenue_up_to for stage in policy.stages if stage.revenue_up_to is not None]

    def one(
        self, values: Mapping[str, Any], scores: Scores, *, person: bool = False, row: list[float] | None = None
    ) -> dict[str, Any]:
        """The answer for indicators without faults and the scores of their one row.

        person: the company asked for a person to decide. row: the values as inputs.all_read orders them, where at hand.
        """
        pd, points = float(scores.pd[0]), float(scores.points[0])
        probability(pd, pd)
        if row is None:
            row, _ = self._encoder.one(values)
        share = 0.0
        for at, weight in self._weighed:
            share += weight if row[at] == row[at] else 0.0
        numbers = dict.fromkeys(self._read, MISSING)
        numbers |= {name: row[at] for name, at in self._places}
        numbers |= {"pd": pd, "known_share": share / self._weight}
        worked = self._formula.work(numbers)
        told = raised(self.policy.signals, numbers, Floats)
        acting = any_of(Floats, (told[code] for code in self._acts))
        unsound = _unsound(numbers, Floats)
        unknown = any_of(Floats, (numbers[name] != numbers[name] for name in self._asked))
        beside = {
            "books_unsound": unsound,
            "warning_act": acting,
            "warning_unknown": unknown,
            "person_asked_for": person,
        }
        referred, blocked, limit = worked.referred or any(beside.values()), bool(worked.gate.block), int(worked.limit)
        revenue = numbers["revenue"]
        stage = bisect_right(self._ends, revenue * self.policy.unit) if revenue == revenue else None
        graded = not worked.refer["too_little_known"]
        answer: dict[str, Any] = {
            "decision": "refer" if referred else "approve",
            "limit": 0 if blocked else None if referred else limit,
            "indicative_limit": limit,
            "currency": self.policy.currency,
            "pd": round(pd, 6),
            "horizon": self.card.horizon or self.policy.horizon.en,
            "score": round(points, 1),
            "grade": self._grades[bisect_left(self._edges, pd)] if graded else None,
            "approval_line": round(self.line, 1),
            "referral": self._ledger.referral(numbers, {**worked.refer, **beside}),
            "innovation": self._ledger.innovation(worked.innovation, stage),
            "gate": self._ledger.gate(numbers, worked.gate, values.get(LOOP) if self._loop else None),
            "warnings": self._ledger.warnings(numbers, told),
            "ledger": self._ledger.one(numbers, worked),
            "reasons": [],
            "missing": self._ledger.missing(self._missing(row)),
            "policy_version": self.policy.version,
        }
        if scores.contributions is not None:
            shown = {**values, **{name: row[at] for name, at in self._derived}} if self._derived else values
            why = self._explainer.one(shown, scores.contributions[0], points, self.policy.reasons_shown)
            answer["reasons"] = rounded(why)
        return answer

    def _missing(self, row: list[float]) -> list[str]:
        """What was not stated, and ratios that what was stated cannot make: to 0 assets, say."""
        unstated = [name for name, at in self._stated if row[at] != row[at]]
        unmade = [
            name for name, at, parts in self._ratios if row[at] != row[at] and all(row[p] == row[p] for p in parts)
        ]
        return unstated + unmade

    def many(self, frame: pl.DataFrame, scores: Scores) -> pl.DataFrame:
        """A row's answer as columns: decision, limit (0 where the gate blocks, null where referred otherwise),
        indicative_limit, pd, score, grade, innovation, gate, evidence, warnings and referral (codes, ';' between), the
        ledger's amounts in whole units of money, and `reasons` (codes) where the scores have contributions."""
        pd, rows = scores.pd, len(scores.pd)
        if rows:
            probability(float(pd.min()), float(pd.max()))
        a: dict[str, Any] = {name: np.full(rows, MISSING) for name in self._read}
        for name in self._numbers:
            a[name] = frame[name].cast(pl.Float64).to_numpy()  # null becomes NaN
        share = np.zeros(rows)
        for name, weight in self._weights:
            share = share + np.where(_missing(frame[name]), 0.0, weight)
        a |= {"pd": pd, "known_share": share / self._weight}
        with np.errstate(invalid="ignore"):
            return self._columns(a, scores)

    def _columns(self, a: Mapping[str, Any], scores: Scores) -> pl.DataFrame:
        pd, points, rows = scores.pd, scores.points, len(scores.pd)
        worked = self._arrays.work(a)
        told = raised(self.policy.signals, a, Arrays)
        revenue = a["revenue"]
        stage = np.searchsorted(self._ends, revenue * self.policy.unit, side="right")
        stage = np.where(np.isnan(revenue), -1, stage)
        acting = any_of(Arrays, (told[code] for code in self._acts))
        unknown = any_of(Arrays, (np.isnan(a[name]) for name in self._asked))
        beside = {"books_unsound": _unsound(a, Arrays), "warning_act": acting, "warning_unknown": unknown}
        referred = np.broadcast_to(any_of(Arrays, (worked.referred, *beside.values())), rows)
        blocked = np.broadcast_to(worked.gate.block, rows)
        limit = whole(worked.limit, rows)
        grades = np.searchsorted(self._edges, pd, side="left")
        columns: dict[str, Any] = {
            "decision": picked(["approve", "refer"], referred.astype(np.int64)),
            "limit": pl.Series(limit).set(pl.Series(referred & ~blocked), None),
            "indicative_limit": limit,
            "pd": np.round(pd, 6),
            "score": np.round(points, 1),
            "grade": picked(self._grades, grades).set(pl.Series(worked.refer["too_little_known"]), None),
            **self._ledger.columns(worked, stage, told, beside, rows),
            "known_share": a["known_share"],
        }
        if scores.contributions is not None:
            effects = self._explainer.effects(scores.contributions, points)
            columns["reasons"] = self._explainer.codes(effects, self.policy.reasons_shown)
        return pl.DataFrame(columns)


def _unsound(a: Mapping[str, Any], ops: Any) -> Any:
    """Whether the books cannot be right: no assets, or a part larger than its whole. What is missing says nothing.

    Like a warning it stands beside the formula and its proofs: it can send to a person, and changes no amount.
    """
    larger = (a[part] > ROUNDED * a[whole] for part, whole in PARTS)
    return any_of(ops, (a[ASSETS] <= 0, *larger))


def _missing(column: pl.Series) -> NDArray[np.bool_]:
    missing = column.is_null()
    if column.dtype.is_float():
        missing |= column.is_nan().fill_null(True)
    return missing.to_numpy()
