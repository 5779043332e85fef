"""Decide on a company: grade, innovation, shell gate, early warnings, approve or refer to a person, and the limit.

engine = CompanyDecisionEngine(card, policy)
engine.decide(values, graph.run(x, reasons=True))      # a dict of plain JSON types
engine.decide_batch(frame, graph.run(encode(frame, card.inputs)))      # one row each, the same to the yuan
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from models.card import Card
from models.policy.arithmetic import ArrayOps, ScalarOps, any_of
from models.scitech_risk.assessments.early_warnings import active_warnings
from models.scitech_risk.indicators import IndicatorReader, has_unsound_books
from models.scitech_risk.ledger import CompanyLedger, build_innovation
from models.scitech_risk.limit_formula import CompanyLimitFormula
from models.scitech_risk.messages import ASSUMED
from models.scitech_risk.policy import Policy
from models.scorecard.batch_columns import check_pd_range, gather_codes, join_codes, to_int
from models.scorecard.explanations import Explainer, cutoff_points, round_reason_points
from models.scorecard.unknown_inputs import check_assumptions
from models.trees.onnx_session import Scores


class CompanyDecisionEngine:
    """One model under one policy.

    fields: the columns read in addition to the model's inputs. cutoff: points of the approval line.
    """

    def __init__(self, card: Card, policy: Policy):
        self.card, self.policy = card, policy
        self._indicators = IndicatorReader(card, policy)
        self.fields = self._indicators.fields
        self.cutoff = cutoff_points(card, policy.approval_pd)
        check_assumptions(card, policy)
        self._formula = CompanyLimitFormula(policy, ScalarOps)
        self._array_formula = CompanyLimitFormula(policy, ArrayOps)
        self._ledger = CompanyLedger(policy, {column.name: column for column in (*card.also, *card.inputs)})
        self._explainer = Explainer(card, self.cutoff)
        self._grade_edges = [grade.pd_up_to for grade in policy.risk.grades]
        self._grade_names = [grade.name for grade in policy.risk.grades]
        self._stage_ends = [stage.revenue_up_to for stage in policy.stages if stage.revenue_up_to is not None]

    def decide(
        self,
        values: Mapping[str, Any],
        scores: Scores,
        *,
        human_requested: bool = False,
        row: list[float] | None = None,
    ) -> dict[str, Any]:
        """The answer for one company's valid indicators and the scores of that row.

        human_requested: the company asked for a person to decide. row: the encoded values in the order of
        feature_encoder.required_columns, if at hand.
        """
        pd, points = float(scores.pd[0]), float(scores.points[0])
        check_pd_range(pd, pd)
        if row is None:
            row, _ = self._indicators.encoder.encode_row(values)
        numbers = self._indicators.read_row(row, pd)
        result = self._formula.evaluate(numbers)
        warnings = active_warnings(self.policy.signals, numbers, ScalarOps)
        extra_reasons = {"books_unsound": has_unsound_books(numbers, ScalarOps), "person_asked_for": human_requested}
        facts = [name for name in self._formula.needed_facts if numbers[name] != numbers[name]]
        gate = self._ledger.build_gate(numbers, result.gate, self._indicators.loop_path(values))
        lacks = {
            "fact_unknown": list(dict.fromkeys((*facts, *self._indicators.unknown_needed(row)))),
            "evidence_unknown": gate["unknown"],
        }
        referred = result.referred or any(extra_reasons.values())
        limit = int(result.limit)
        revenue = numbers["revenue"]
        stage = bisect_right(self._stage_ends, revenue * self.policy.unit) if revenue == revenue else None
        is_graded = not result.referral_reasons["too_little_known"]
        answer: dict[str, Any] = {
            "decision": "refer" if referred else "approve",
            "limit": 0 if result.gate.block else None if referred else limit,
            "indicative_limit": limit,
            "indicative": None if result.gate.block else self._ledger.build_indicative(numbers, limit),
            "currency": self.policy.currency,
            "pd": round(pd, 6),
            "horizon": self.card.horizon or self.policy.horizon.en,
            "score": round(points, 1),
            "grade": self._grade_names[bisect_left(self._grade_edges, pd)] if is_graded else None,
            "approval_line": round(self.cutoff, 1),
            "referral": self._ledger.build_referral(numbers, {**result.referral_reasons, **extra_reasons}, lacks),
            "innovation": build_innovation(self.policy, result.innovation, stage),
            "gate": gate,
            "warnings": self._ledger.build_warnings(numbers, warnings),
            "ledger": self._ledger.build_entry(numbers, result),
            "reasons": [],
            "missing": self._ledger.build_missing(self._indicators.missing(row)),
            "policy_version": self.policy.version,
        }
        if scores.contributions is not None:
            reasons = self._explainer.explain(
                self._indicators.with_derived(values, row), scores.contributions[0], points, self.policy.reasons_shown
            )
            answer["reasons"] = round_reason_points(reasons)
        return answer

    def decide_batch(self, frame: pl.DataFrame, scores: Scores) -> pl.DataFrame:
        """The answers of a batch, one row each.

        Columns: decision, limit (0 where the gate blocks, null where referred otherwise), indicative_limit, assumed
        (unknown inputs that it rests on), pd, score, grade, innovation, gate, evidence, warnings and referral (codes
        joined by ';'), the ledger's amounts in whole units of money, and `reasons` (codes) if the scores have
        contributions.
        """
        if len(scores.pd):
            check_pd_range(float(scores.pd.min()), float(scores.pd.max()))
        with np.errstate(invalid="ignore"):
            return self._columns(self._indicators.read_batch(frame, scores.pd), scores)

    def _columns(self, inputs: Mapping[str, Any], scores: Scores) -> pl.DataFrame:
        pd, points, rows = scores.pd, scores.points, len(scores.pd)
        result = self._array_formula.evaluate(inputs)
        warnings = active_warnings(self.policy.signals, inputs, ArrayOps)
        revenue = inputs["revenue"]
        stage = np.searchsorted(self._stage_ends, revenue * self.policy.unit, side="right")
        stage = np.where(np.isnan(revenue), -1, stage)
        extra_reasons = {"books_unsound": has_unsound_books(inputs, ArrayOps)}
        referred = np.broadcast_to(any_of(ArrayOps, (result.referred, *extra_reasons.values())), rows)
        blocked = np.broadcast_to(result.gate.block, rows)
        limit = to_int(result.limit, rows)
        grades = np.searchsorted(self._grade_edges, pd, side="left")
        columns: dict[str, Any] = {
            "decision": gather_codes(["approve", "refer"], referred.astype(np.int64)),
            "limit": pl.Series(limit).set(pl.Series(referred & ~blocked), None),
            "indicative_limit": limit,
            "assumed": join_codes({name: np.isnan(inputs[name]) for name in ASSUMED}, rows),
            "pd": np.round(pd, 6),
            "score": np.round(points, 1),
            "grade": gather_codes(self._grade_names, grades).set(
                pl.Series(result.referral_reasons["too_little_known"]), None
            ),
            **self._ledger.build_columns(result, stage, warnings, extra_reasons, rows),
            "known_share": inputs["known_share"],
        }
        if scores.contributions is not None:
            effects = self._explainer.effects(scores.contributions, points)
            columns["reasons"] = self._explainer.reason_codes(effects, self.policy.reasons_shown)
        return pl.DataFrame(columns)
