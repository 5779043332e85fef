"""Decide on an application: approve or refer, the limit and its ledger, the reasons, and what would raise the limit.

engine = CreditDecisionEngine(card, policy, score=lambda x: graph.run(x).pd)
engine.decide(values, graph.run(x, reasons=True))      # a dict of plain JSON types
engine.decide_batch(frame, graph.run(encode(frame, card.inputs)))      # one row each, the same to the yuan
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datasets.schema import ColumnSchema
from datasets.tables.values.marks import split_codes, states_codes
from models.card import Card
from models.credit_limit.improvements import ImprovementFinder, Score
from models.credit_limit.ledger import CreditLedger
from models.credit_limit.limit_formula import FORMULA_INPUTS, CreditLimitFormula
from models.credit_limit.policy import INCOME, Policy
from models.feature_encoder import FeatureEncoder, date_operands
from models.policy.arithmetic import ArrayOps, ScalarOps
from models.scorecard.batch_columns import check_pd_range, gather_codes, join_codes, to_int
from models.scorecard.explanations import Explainer, cutoff_points, round_reason_points
from models.scorecard.unknown_inputs import NeededInputs, check_assumptions
from models.trees.onnx_session import Scores

VETO_FIELD = "veto_codes"  # text, codes joined by ';'; a word for none if none was reported, missing if nobody asked
NUMERIC_INPUTS = tuple(n for n in FORMULA_INPUTS if n not in ("pd", "veto", "consent", "unknown_inputs"))
MISSING = math.nan


class CreditDecisionEngine:
    """One model under one policy.

    score: encoded rows float32 (k, inputs) -> PD (k,); without it no improvements are found.
    fields: the columns read in addition to the model's inputs. cutoff: points of the approval line.
    """

    def __init__(self, card: Card, policy: Policy, score: Score | None = None):
        self.card, self.policy = card, policy
        columns = {column.name: column for column in (*card.also, *card.inputs)}
        # A column that only shares the name, such as a category "housing", is not the formula's input.
        self._numbers = [name for name in NUMERIC_INPUTS if name in columns and columns[name].kind == "number"]
        self._vetoes = VETO_FIELD in columns and columns[VETO_FIELD].kind == "text"
        inputs = {column.name for column in card.inputs}
        used_names = {*self._numbers, *([VETO_FIELD] if self._vetoes else [])}
        self.fields: tuple[ColumnSchema, ...] = tuple(columns[name] for name in columns if name in used_names - inputs)
        self.cutoff = cutoff_points(card, policy.approval_pd)
        self._special_values = {
            name: {code: MISSING for code in column.missing_codes} | {float(k): v for k, v in column.recode.items()}
            for name, column in columns.items()
            if name in self._numbers and (column.missing_codes or column.recode)
        }
        self._formula = CreditLimitFormula(policy, ScalarOps)
        self._array_formula = CreditLimitFormula(policy, ArrayOps)
        self._ledger = CreditLedger(policy, columns)
        self._explainer = Explainer(card, self.cutoff)
        check_assumptions(card, policy)
        self._needed_inputs = NeededInputs(card, policy, named_elsewhere=INCOME)
        self._encoder = FeatureEncoder(card.inputs, card.missing, date_operands(card.inputs, card.also))
        self._derived = [(index, c.name) for index, c in enumerate(card.inputs) if c.derived is not None]
        self._grade_edges = [grade.pd_up_to for grade in policy.risk.grades]
        self._grade_names = [grade.name for grade in policy.risk.grades]
        self.improvements = (
            None
            if score is None
            else ImprovementFinder(policy, self._encoder, score, columns, self._numbers, self._special_values)
        )

    def decide(
        self,
        values: Mapping[str, Any],
        scores: Scores,
        *,
        consent: bool = True,
        human_requested: bool = False,
        with_improvements: bool = True,
    ) -> dict[str, Any]:
        """The answer for one applicant's valid indicators and the scores of that row.

        consent: to the use of moral data. human_requested: the applicant asked for a person to decide (PIPL, Art. 24).
        with_improvements: whether to find what would raise the limit, about as much work as the rest.
        """
        pd, points = float(scores.pd[0]), float(scores.points[0])
        check_pd_range(pd, pd)
        vetoes = self._veto_codes(values)
        derived_values = self._with_derived(values)
        numbers = self._read_numbers(values, pd, consent)
        unknown_inputs = self._needed_inputs.unknown(derived_values)
        numbers["unknown_inputs"] = float(len(unknown_inputs))
        result = self._formula.evaluate(numbers)
        referred = bool(result.referred or human_requested)
        limit = int(result.limit)
        answer: dict[str, Any] = {
            "decision": "refer" if referred else "approve",
            "limit": None if referred else limit,
            "indicative_limit": limit,
            "indicative": self._ledger.build_indicative(numbers, result),
            "currency": self.policy.currency,
            "pd": round(pd, 6),
            "score": round(points, 1),
            "grade": self._grade_names[bisect_left(self._grade_edges, pd)],
            "approval_line": round(self.cutoff, 1),
            "referral": self._ledger.build_referral(
                numbers, result, vetoes, self._unknown_facts(numbers, unknown_inputs), human_requested
            ),
            "ledger": self._ledger.build_entry(numbers, result),
            "reasons": [],
            "raises": [],
            "policy_version": self.policy.version,
        }
        if scores.contributions is not None:
            reasons = self._explainer.explain(
                derived_values, scores.contributions[0], points, self.policy.reasons_shown
            )
            answer["reasons"] = round_reason_points(reasons)
        if with_improvements and self.improvements is not None:
            answer["raises"] = self.improvements.find(values, numbers, result, human_requested)
        return answer

    def decide_batch(
        self, frame: pl.DataFrame, scores: Scores, *, consent: bool | NDArray[np.bool_] = True
    ) -> pl.DataFrame:
        """The answers of a batch, one row each.

        Columns: decision, limit (null where referred), indicative_limit, assumed (unknown inputs that it rests on), pd,
        score, grade, referral (both codes joined by ';'), the ledger's amounts in whole units of money, and `reasons`
        (codes) if the scores have contributions.
        consent: to the use of moral data, for all rows or for each.
        """
        pd, points = scores.pd, scores.points
        if len(pd):
            check_pd_range(float(pd.min()), float(pd.max()))
        inputs: dict[str, Any] = {name: np.full(len(pd), MISSING) for name in NUMERIC_INPUTS}
        for name in self._numbers:
            inputs[name] = frame[name].cast(pl.Float64).to_numpy()  # null becomes NaN
        veto = np.full(len(pd), MISSING)
        if self._vetoes:
            flag_by_text = {text: _veto_flag(text) for text in frame[VETO_FIELD].unique()}
            veto = frame[VETO_FIELD].replace_strict(flag_by_text, return_dtype=pl.Float64).to_numpy()
        unknown_inputs = self._needed_inputs.count_unknown(frame)
        inputs |= {
            "pd": pd,
            "veto": veto,
            "unknown_inputs": unknown_inputs,
            "consent": np.broadcast_to(np.asarray(consent, float), len(pd)),
        }
        with np.errstate(invalid="ignore"):
            return self._columns(inputs, points, scores.contributions)

    def _columns(self, inputs: Mapping[str, Any], points: NDArray[np.float64], contributions: Any) -> pl.DataFrame:
        pd: NDArray[np.float64] = inputs["pd"]
        result, rows = self._array_formula.evaluate(inputs), len(pd)
        referred = np.broadcast_to(result.referred, rows)
        limit = to_int(result.limit, rows)
        columns: dict[str, Any] = {
            "decision": gather_codes(["approve", "refer"], referred.astype(np.int64)),
            "limit": pl.Series(limit).set(pl.Series(referred), None),
            "indicative_limit": limit,
            "assumed": join_codes({name: np.isnan(inputs[name]) for name in self._ledger.assumed_inputs}, rows),
            "pd": np.round(pd, 6),
            "score": np.round(points, 1),
            "grade": gather_codes(self._grade_names, np.searchsorted(self._grade_edges, pd, side="left")),
            **self._ledger.build_columns(result, rows),
        }
        if contributions is not None:
            effects = self._explainer.effects(contributions, points)
            columns["reasons"] = self._explainer.reason_codes(effects, self.policy.reasons_shown)
        return pl.DataFrame(columns)

    def _read_numbers(self, values: Mapping[str, Any], pd: float, consent: bool) -> dict[str, float]:
        numbers = dict.fromkeys(NUMERIC_INPUTS, MISSING)
        for name in self._numbers:
            value = values.get(name)
            if value is not None:
                numbers[name] = float(value)
        for name, special_values in self._special_values.items():
            numbers[name] = special_values.get(numbers[name], numbers[name])
        numbers["pd"] = pd
        numbers["veto"] = _veto_flag(values.get(VETO_FIELD) if self._vetoes else None)
        numbers["consent"] = 1.0 if consent else 0.0
        return numbers

    def _unknown_facts(self, numbers: Mapping[str, float], unknown_inputs: list[str]) -> list[str]:
        """The unknown indicators that only a person can do without."""
        facts = [name for name in self._formula.needed_facts if numbers[name] != numbers[name]]
        vetoes = [VETO_FIELD] if numbers["veto"] != numbers["veto"] else []
        return list(dict.fromkeys((*facts, *vetoes, *unknown_inputs)))

    def _veto_codes(self, values: Mapping[str, Any]) -> list[str]:
        text = values.get(VETO_FIELD) if self._vetoes else None
        return split_codes(text) if text else []

    def _with_derived(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self._derived:
            return values
        row, _ = self._encoder.encode_row(values)
        return {**values, **{name: row[index] for index, name in self._derived}}


def _veto_flag(text: str | None) -> float:
    """1 if a statutory code was reported, 0 if none was, NaN if that is not known."""
    if not text or not states_codes(text):
        return MISSING
    return float(bool(split_codes(text)))
