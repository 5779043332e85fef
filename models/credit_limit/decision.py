"""The answer to an application: approve or refer to a person, the limit and its ledger, reasons, what would raise it.

engine = CreditDecisionEngine(card, policy, score=lambda x: graph.run(x).pd)
engine.decide(values, graph.run(x, reasons=True))      # a dict of plain JSON types
engine.decide_batch(frame, graph.run(encode(frame, card.inputs)))      # the same to the yuan, a row each
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datasets.schema import ColumnSchema, format_number
from models.card import Card
from models.credit_limit.ledger import CreditLedger
from models.credit_limit.limit_formula import APPRAISAL, ASSETS, CONDUCT, CreditLimitFormula, CreditLimitResult
from models.credit_limit.policy import ImprovementAction, Policy
from models.feature_encoder import FeatureEncoder
from models.policy.arithmetic import ArrayOps, ScalarOps
from models.scorecard.batch_columns import check_pd_range, gather_codes, to_int
from models.scorecard.explanations import Explainer, cutoff_points, round_reason_points
from models.trees.onnx_session import Scores

NUMERIC_INPUTS = (
    "declared_income", "monthly_debt_service", "utilisation", *ASSETS, "debts",
    "self_score", *CONDUCT, *APPRAISAL, "village_leniency", "age",
)  # fmt: skip
MORAL_INPUTS = frozenset(("self_score", *CONDUCT, *APPRAISAL, "village_leniency"))
VETO_FIELD = "veto_codes"  # text, ';' between; missing where none was reported
MISSING = math.nan


class CreditDecisionEngine:
    """One model under one policy.

    score: rows float32 (k, inputs) -> PD (k,), to find what would raise a limit; without it nothing is said of that.
    fields: the columns that are read beyond the model's inputs. cutoff: points at which approval ends.
    """

    def __init__(
        self, card: Card, policy: Policy, score: Callable[[NDArray[np.float32]], NDArray[np.float64]] | None = None
    ):
        self.card, self.policy, self.score = card, policy, score
        columns = {column.name: column for column in (*card.also, *card.inputs)}
        # A column that only shares a name, as a category "housing", is not what the formula means.
        self._numbers = [name for name in NUMERIC_INPUTS if name in columns and columns[name].kind == "number"]
        self._vetoes = VETO_FIELD in columns and columns[VETO_FIELD].kind == "text"
        collateral = (*ASSETS, "debts") if policy.product.asset_based else ()
        self._limit_inputs = MORAL_INPUTS | {
            "declared_income",
            "monthly_debt_service",
            *collateral,
        }  # act on another bound, or m
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
        self._ledger = CreditLedger(policy)
        self._explainer = Explainer(card, self.cutoff)
        self._encoder = FeatureEncoder(card.inputs)
        self._positions = {column.name: index for index, column in enumerate(card.inputs)}
        self._derived = [(index, c.name) for index, c in enumerate(card.inputs) if c.derived is not None]
        self._grade_edges = [grade.pd_up_to for grade in policy.risk.grades]
        self._grade_names = [grade.name for grade in policy.risk.grades]
        numeric = {name for name, column in columns.items() if column.kind == "number" and column.derived is None}
        self.improvements = tuple(action for action in policy.raises if action.indicator in numeric)
        self._bounds = {name: column.bounds for name, column in columns.items() if name in numeric}

    def decide(
        self,
        values: Mapping[str, Any],
        scores: Scores,
        *,
        consent: bool = True,
        human_requested: bool = False,
        with_improvements: bool = True,
    ) -> dict[str, Any]:
        """The answer for indicators without faults and the scores of their one row.

        consent: to the use of moral data. human_requested: the applicant asked for a person to decide (PIPL, Art. 24).
        with_improvements: whether to work out what would raise the limit, about as much work as all the rest.
        """
        pd, points = float(scores.pd[0]), float(scores.points[0])
        check_pd_range(pd, pd)
        vetoes = self._veto_codes(values)
        numbers = self._read_numbers(values, pd, consent)
        result = self._formula.evaluate(numbers)
        referred = bool(result.referred or human_requested)
        limit = int(result.limit)
        answer: dict[str, Any] = {
            "decision": "refer" if referred else "approve",
            "limit": None if referred else limit,
            "indicative_limit": limit,
            "currency": self.policy.currency,
            "pd": round(pd, 6),
            "score": round(points, 1),
            "grade": self._grade_names[bisect_left(self._grade_edges, pd)],
            "approval_line": round(self.cutoff, 1),
            "referral": self._ledger.build_referral(numbers, result, vetoes, human_requested),
            "ledger": self._ledger.build_entry(numbers, result),
            "reasons": [],
            "raises": [],
            "policy_version": self.policy.version,
        }
        if scores.contributions is not None:
            explained_values = self._with_derived(values)
            reasons = self._explainer.explain(
                explained_values, scores.contributions[0], points, self.policy.reasons_shown
            )
            answer["reasons"] = round_reason_points(reasons)
        if with_improvements and self.score is not None and self.improvements:
            answer["raises"] = self._find_improvements(values, numbers, result, human_requested, self.score)
        return answer

    def decide_batch(
        self, frame: pl.DataFrame, scores: Scores, *, consent: bool | NDArray[np.bool_] = True
    ) -> pl.DataFrame:
        """A row's answer as columns: decision, limit (null where referred), indicative_limit, pd, score, grade,
        referral (codes, ';' between), the ledger's amounts in whole units of money, and `reasons` (codes) where the
        scores have contributions. consent: to the use of moral data, of all or of each."""
        pd, points = scores.pd, scores.points
        if len(pd):
            check_pd_range(float(pd.min()), float(pd.max()))
        inputs: dict[str, Any] = {name: np.full(len(pd), MISSING) for name in NUMERIC_INPUTS}
        for name in self._numbers:
            inputs[name] = frame[name].cast(pl.Float64).to_numpy()  # null becomes NaN
        has_veto = np.zeros(len(pd))
        if self._vetoes:
            has_veto = (
                (frame[VETO_FIELD].str.strip_chars("; ").str.len_chars() > 0).fill_null(False).to_numpy().astype(float)
            )
        inputs |= {"pd": pd, "veto": has_veto, "consent": np.broadcast_to(np.asarray(consent, float), len(pd))}
        with np.errstate(invalid="ignore"):
            return self._columns(self._array_formula.evaluate(inputs), pd, points, scores.contributions)

    def _columns(
        self, result: CreditLimitResult, pd: NDArray[np.float64], points: NDArray[np.float64], contributions: Any
    ) -> pl.DataFrame:
        rows = len(pd)
        referred = np.broadcast_to(result.referred, rows)
        limit = to_int(result.limit, rows)
        columns: dict[str, Any] = {
            "decision": gather_codes(["approve", "refer"], referred.astype(np.int64)),
            "limit": pl.Series(limit).set(pl.Series(referred), None),
            "indicative_limit": limit,
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
        numbers["veto"] = 1.0 if self._veto_codes(values) else 0.0
        numbers["consent"] = 1.0 if consent else 0.0
        return numbers

    def _veto_codes(self, values: Mapping[str, Any]) -> list[str]:
        text = values.get(VETO_FIELD) if self._vetoes else None
        return [code.strip(" ") for code in text.split(";") if code.strip(" ")] if text else []

    def _with_derived(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self._derived:
            return values
        row, _ = self._encoder.encode_row(values)
        return {**values, **{name: row[index] for index, name in self._derived}}

    def _find_improvements(
        self,
        values: Mapping[str, Any],
        numbers: Mapping[str, float],
        result: CreditLimitResult,
        human_requested: bool,
        score: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    ) -> list[dict[str, Any]]:
        """Each change that gives more, or an approval where there was none; the greatest gain first."""
        changes = [
            (action, new_value)
            for action in self.improvements
            if (new_value := self._improved_value(action, values)) is not None
        ]
        if not result.referred and result.base == self._lowest_other_bound(result):  # a lower PD earns nothing
            changes = [(action, new_value) for action, new_value in changes if action.indicator in self._limit_inputs]
        if not changes:
            return []
        row = self._encoder.encode_row(values)[0]
        rows = np.array(
            [self._changed_row(row, values, action.indicator, new_value) for action, new_value in changes], np.float32
        )
        improvements = []
        for (action, new_value), pd in zip(changes, score(rows).tolist(), strict=True):
            new_numbers: dict[str, Any] = {**numbers, "pd": pd}
            if action.indicator in self._numbers:
                new_numbers[action.indicator] = float(new_value)
            if (
                not result.referred
                and action.indicator not in MORAL_INPUTS
                and self._has_same_bounds(result, new_numbers)
            ):
                continue
            new_result = self._formula.evaluate(new_numbers)
            gain = int(new_result.limit) - int(result.limit)
            new_result.referred = bool(new_result.referred or human_requested)
            approves = bool(result.referred and not new_result.referred)
            if gain > 0 or (approves and gain == 0):
                improvements.append(
                    self._improvement(action, values[action.indicator], new_value, gain, new_result, approves)
                )
        return sorted(improvements, key=lambda improvement: -improvement["gain"])

    def _lowest_other_bound(self, result: CreditLimitResult) -> float:
        amounts = (amount for code, (amount, known) in result.bounds.items() if known and code != "risk_budget")
        return float(min(amounts))

    def _has_same_bounds(self, result: CreditLimitResult, new_numbers: Mapping[str, Any]) -> bool:
        """Whether the bounds that all else rests on stay as they were; a third of working it all out."""
        bounds = self._formula.bounds(new_numbers)
        affordability_equal: bool = bounds["affordability"] == result.bounds["affordability"]
        return affordability_equal and bool(self._formula.base_limit(bounds) == result.base)

    def _changed_row(self, row: list[float], values: Mapping[str, Any], name: str, new_value: float) -> list[float]:
        """The model's row with one indicator changed; made anew where others are derived from it."""
        if self._derived:
            return self._encoder.encode_row({**values, name: new_value})[0]
        index = self._positions.get(name)
        return row if index is None else [*row[:index], new_value, *row[index + 1 :]]

    def _improved_value(self, action: ImprovementAction, values: Mapping[str, Any]) -> float | None:
        """The indicator's value after the action; None where it is missing or has nowhere to go."""
        value = values.get(action.indicator)
        if value is None or value in self._special_values.get(action.indicator, ()):
            return None
        low, high = self._bounds[action.indicator]
        if action.step > 0:
            new_value = min(value + action.step, action.end, high)
            return new_value if new_value > value else None
        new_value = max(value + action.step, action.end, low)
        return new_value if new_value < value else None

    def _improvement(
        self,
        action: ImprovementAction,
        value: float,
        new_value: float,
        gain: int,
        new_result: CreditLimitResult,
        approves: bool,
    ) -> dict[str, Any]:
        money = self.policy.money
        change = f"{format_number(value)} → {format_number(new_value)}"
        suffix, suffix_zh = (", and approved", "，并可自动批准") if approves else ("", "")
        return {
            "code": f"raise_{action.indicator}",
            "indicator": action.indicator,
            "from": value,
            "to": new_value,
            "limit": int(new_result.limit),
            "gain": gain,
            "decision": "refer" if new_result.referred else "approve",
            "en": f"{action.en} ({change}): {gain:+,} {money.en}{suffix}.",
            "zh": f"{action.zh}（{change}）：{gain:+,} {money.zh}{suffix_zh}。",
        }
