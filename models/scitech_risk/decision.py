"""The answer for a company: grade, innovation, shell gate, early warnings, approve or refer to a person, the limit.

engine = CompanyDecisionEngine(card, policy)
engine.decide(values, graph.run(x, reasons=True))      # a dict of plain JSON types
engine.decide_batch(frame, graph.run(encode(frame, card.inputs)))      # the same to the yuan, a row each
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
from models.feature_encoder import FeatureEncoder, required_columns
from models.policy.arithmetic import ArrayOps, ScalarOps, any_of
from models.scitech_risk.assessments.early_warnings import active_warnings
from models.scitech_risk.ledger import CompanyLedger
from models.scitech_risk.limit_formula import INDICATORS, CompanyLimitFormula
from models.scitech_risk.policy import Policy
from models.scorecard.batch_columns import check_pd_range, gather_codes, to_int
from models.scorecard.explanations import Explainer, cutoff_points, round_reason_points
from models.trees.onnx_session import Scores

LOOP_PATH_FIELD = "loop_path"  # text
TOTAL_ASSETS = "total_assets"
STATEMENT_PARTS = (  # of a balance sheet or an income statement, and the whole that holds each
    ("current_assets", TOTAL_ASSETS), ("cash", "current_assets"), ("receivables", "current_assets"),
    ("current_liabilities", "total_liabilities"), ("high_tech_revenue", "revenue"),
)  # fmt: skip
ROUNDING_TOLERANCE = 1.01  # a part may exceed its whole by what rounding does to a statement
MISSING = math.nan


class CompanyDecisionEngine:
    """One model under one policy.

    fields: the columns that are read beyond the model's inputs. cutoff: points at which approval ends.
    """

    def __init__(self, card: Card, policy: Policy):
        self.card, self.policy = card, policy
        columns = {column.name: column for column in (*card.also, *card.inputs)}
        inputs = {column.name for column in card.inputs}
        statement_fields = (name for pair in STATEMENT_PARTS for name in pair)
        self._indicators = tuple(
            dict.fromkeys((*INDICATORS, *(signal.indicator for signal in policy.signals), *statement_fields))
        )
        # A column that only shares a name is not what the formula means.
        self._numbers = [name for name in self._indicators if name in columns and columns[name].kind == "number"]
        self._has_loop_path = LOOP_PATH_FIELD in columns and columns[LOOP_PATH_FIELD].kind == "text"
        used_names = {*self._numbers, *([LOOP_PATH_FIELD] if self._has_loop_path else [])}
        self.fields = tuple(columns[name] for name in columns if name in used_names - inputs)
        self.cutoff = cutoff_points(card, policy.approval_pd)
        encoded_columns = required_columns(card.inputs, card.also)
        self._encoder = FeatureEncoder(encoded_columns)
        positions = {column.name: index for index, column in enumerate(encoded_columns)}
        self._number_positions = [(name, positions[name]) for name in self._numbers]
        self._derived_positions = [(c.name, index) for index, c in enumerate(encoded_columns) if c.derived is not None]
        group_weights = policy.least_known.weights
        self._input_weights = [
            (c.name, float(group_weights.get(c.group, 1.0))) for c in card.inputs if c.derived is None
        ]
        self._weight_positions = [(positions[name], weight) for name, weight in self._input_weights]
        self._total_weight = sum(weight for _, weight in self._input_weights) or 1.0
        stated_columns = [*card.inputs, *self.fields]
        self._stated_positions = [
            (c.name, positions[c.name]) for c in stated_columns if c.name in positions and c.derived is None
        ]
        self._derived_inputs = [
            (c.name, positions[c.name], [positions[operand] for operand in c.derived.operand_names])
            for c in encoded_columns
            if c.derived is not None
        ]
        self._act_codes = sorted(policy.act_codes)
        self._required_indicators = [signal.indicator for signal in policy.signals if signal.unknown_refers]
        self._formula, self._array_formula = (
            CompanyLimitFormula(policy, ScalarOps),
            CompanyLimitFormula(policy, ArrayOps),
        )
        self._ledger = CompanyLedger(policy, columns)
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
        """The answer for indicators without faults and the scores of their one row.

        human_requested: the company asked for a person to decide. row: the values as feature_encoder.required_columns orders them, where at hand.
        """
        pd, points = float(scores.pd[0]), float(scores.points[0])
        check_pd_range(pd, pd)
        if row is None:
            row, _ = self._encoder.encode_row(values)
        known_weight = 0.0
        for index, weight in self._weight_positions:
            known_weight += weight if row[index] == row[index] else 0.0
        numbers = dict.fromkeys(self._indicators, MISSING)
        numbers |= {name: row[index] for name, index in self._number_positions}
        numbers |= {"pd": pd, "known_share": known_weight / self._total_weight}
        result = self._formula.evaluate(numbers)
        warnings = active_warnings(self.policy.signals, numbers, ScalarOps)
        has_act_warning = any_of(ScalarOps, (warnings[code] for code in self._act_codes))
        books_unsound = _books_unsound(numbers, ScalarOps)
        has_unknown_warning = any_of(ScalarOps, (numbers[name] != numbers[name] for name in self._required_indicators))
        extra_reasons = {
            "books_unsound": books_unsound,
            "warning_act": has_act_warning,
            "warning_unknown": has_unknown_warning,
            "person_asked_for": human_requested,
        }
        referred, blocked, limit = (
            result.referred or any(extra_reasons.values()),
            bool(result.gate.block),
            int(result.limit),
        )
        revenue = numbers["revenue"]
        stage = bisect_right(self._stage_ends, revenue * self.policy.unit) if revenue == revenue else None
        is_graded = not result.referral_reasons["too_little_known"]
        answer: dict[str, Any] = {
            "decision": "refer" if referred else "approve",
            "limit": 0 if blocked else None if referred else limit,
            "indicative_limit": limit,
            "currency": self.policy.currency,
            "pd": round(pd, 6),
            "horizon": self.card.horizon or self.policy.horizon.en,
            "score": round(points, 1),
            "grade": self._grade_names[bisect_left(self._grade_edges, pd)] if is_graded else None,
            "approval_line": round(self.cutoff, 1),
            "referral": self._ledger.build_referral(numbers, {**result.referral_reasons, **extra_reasons}),
            "innovation": self._ledger.build_innovation(result.innovation, stage),
            "gate": self._ledger.build_gate(
                numbers, result.gate, values.get(LOOP_PATH_FIELD) if self._has_loop_path else None
            ),
            "warnings": self._ledger.build_warnings(numbers, warnings),
            "ledger": self._ledger.build_entry(numbers, result),
            "reasons": [],
            "missing": self._ledger.build_missing(self._missing_inputs(row)),
            "policy_version": self.policy.version,
        }
        if scores.contributions is not None:
            explained_values = (
                {**values, **{name: row[index] for name, index in self._derived_positions}}
                if self._derived_positions
                else values
            )
            reasons = self._explainer.explain(
                explained_values, scores.contributions[0], points, self.policy.reasons_shown
            )
            answer["reasons"] = round_reason_points(reasons)
        return answer

    def _missing_inputs(self, row: list[float]) -> list[str]:
        """What was not stated, and ratios that what was stated cannot make: to 0 assets, say."""
        unstated = [name for name, index in self._stated_positions if row[index] != row[index]]
        underivable = [
            name
            for name, index, operands in self._derived_inputs
            if row[index] != row[index] and all(row[operand] == row[operand] for operand in operands)
        ]
        return unstated + underivable

    def decide_batch(self, frame: pl.DataFrame, scores: Scores) -> pl.DataFrame:
        """A row's answer as columns: decision, limit (0 where the gate blocks, null where referred otherwise),
        indicative_limit, pd, score, grade, innovation, gate, evidence, warnings and referral (codes, ';' between), the
        ledger's amounts in whole units of money, and `reasons` (codes) where the scores have contributions."""
        pd, rows = scores.pd, len(scores.pd)
        if rows:
            check_pd_range(float(pd.min()), float(pd.max()))
        inputs: dict[str, Any] = {name: np.full(rows, MISSING) for name in self._indicators}
        for name in self._numbers:
            inputs[name] = frame[name].cast(pl.Float64).to_numpy()  # null becomes NaN
        known_weight = np.zeros(rows)
        for name, weight in self._input_weights:
            known_weight = known_weight + np.where(_is_missing(frame[name]), 0.0, weight)
        inputs |= {"pd": pd, "known_share": known_weight / self._total_weight}
        with np.errstate(invalid="ignore"):
            return self._columns(inputs, scores)

    def _columns(self, inputs: Mapping[str, Any], scores: Scores) -> pl.DataFrame:
        pd, points, rows = scores.pd, scores.points, len(scores.pd)
        result = self._array_formula.evaluate(inputs)
        warnings = active_warnings(self.policy.signals, inputs, ArrayOps)
        revenue = inputs["revenue"]
        stage = np.searchsorted(self._stage_ends, revenue * self.policy.unit, side="right")
        stage = np.where(np.isnan(revenue), -1, stage)
        has_act_warning = any_of(ArrayOps, (warnings[code] for code in self._act_codes))
        has_unknown_warning = any_of(ArrayOps, (np.isnan(inputs[name]) for name in self._required_indicators))
        extra_reasons = {
            "books_unsound": _books_unsound(inputs, ArrayOps),
            "warning_act": has_act_warning,
            "warning_unknown": has_unknown_warning,
        }
        referred = np.broadcast_to(any_of(ArrayOps, (result.referred, *extra_reasons.values())), rows)
        blocked = np.broadcast_to(result.gate.block, rows)
        limit = to_int(result.limit, rows)
        grades = np.searchsorted(self._grade_edges, pd, side="left")
        columns: dict[str, Any] = {
            "decision": gather_codes(["approve", "refer"], referred.astype(np.int64)),
            "limit": pl.Series(limit).set(pl.Series(referred & ~blocked), None),
            "indicative_limit": limit,
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


def _books_unsound(inputs: Mapping[str, Any], ops: Any) -> Any:
    """Whether the books cannot be right: no assets, or a part larger than its whole. What is missing says nothing.

    Like a warning it stands beside the formula and its proofs: it can send to a person, and changes no amount.
    """
    exceeds_total = (inputs[item] > ROUNDING_TOLERANCE * inputs[total] for item, total in STATEMENT_PARTS)
    return any_of(ops, (inputs[TOTAL_ASSETS] <= 0, *exceeds_total))


def _is_missing(column: pl.Series) -> NDArray[np.bool_]:
    missing = column.is_null()
    if column.dtype.is_float():
        missing |= column.is_nan().fill_null(True)
    return missing.to_numpy()
