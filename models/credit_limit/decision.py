"""The answer to an application: approve or refer to a person, the limit and its ledger, reasons, what would raise it.

decider = Decider(card, policy, score=lambda x: graph.run(x).pd)
decider.one(values, graph.run(x, reasons=True))      # a dict of plain JSON types
decider.many(frame, graph.run(encode(frame, card.inputs)))      # the same to the yuan, a row each
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datasets.schema import Column, number_text
from models.card import Card
from models.credit_limit.ledger import Ledger
from models.credit_limit.limit_formula import APPRAISAL, ASSETS, CONDUCT, Formula, Worked
from models.credit_limit.policy import Policy, Raise
from models.feature_encoder import Encoder
from models.policy.arithmetic import Arrays, Floats
from models.scorecard.batch_columns import picked, probability, whole
from models.scorecard.explanations import Explainer, line_points, rounded
from models.trees.onnx_session import Scores

NUMBERS = (
    "declared_income", "monthly_debt_service", "utilisation", *ASSETS, "debts",
    "self_score", *CONDUCT, *APPRAISAL, "village_leniency", "age",
)  # fmt: skip
MORAL = frozenset(("self_score", *CONDUCT, *APPRAISAL, "village_leniency"))
VETOES = "veto_codes"  # text, ';' between; missing where none was reported
MISSING = math.nan


class Decider:
    """One model under one policy.

    score: rows float32 (k, inputs) -> PD (k,), to find what would raise a limit; without it nothing is said of that.
    fields: the columns that are read beyond the model's inputs. line: points at which approval ends.
    """

    def __init__(
        self, card: Card, policy: Policy, score: Callable[[NDArray[np.float32]], NDArray[np.float64]] | None = None
    ):
        self.card, self.policy, self.score = card, policy, score
        columns = {column.name: column for column in (*card.also, *card.inputs)}
        # A column that only shares a name, as a category "housing", is not what the formula means.
        self._numbers = [name for name in NUMBERS if name in columns and columns[name].kind == "number"]
        self._vetoes = VETOES in columns and columns[VETOES].kind == "text"
        backing = (*ASSETS, "debts") if policy.product.asset_based else ()
        self._beside_risk = MORAL | {"declared_income", "monthly_debt_service", *backing}  # act on another bound, or m
        inputs = {column.name for column in card.inputs}
        read = {*self._numbers, *([VETOES] if self._vetoes else [])}
        self.fields: tuple[Column, ...] = tuple(columns[name] for name in columns if name in read - inputs)
        self.line = line_points(card, policy.approval_pd)
        self._special = {
            name: {code: MISSING for code in column.missing_codes} | {float(k): v for k, v in column.recode.items()}
            for name, column in columns.items()
            if name in self._numbers and (column.missing_codes or column.recode)
        }
        self._formula = Formula(policy, Floats)
        self._arrays = Formula(policy, Arrays)
        self._ledger = Ledger(policy)
        self._explainer = Explainer(card, self.line)
        self._encoder = Encoder(card.inputs)
        self._place = {column.name: at for at, column in enumerate(card.inputs)}
        self._derived = [(at, c.name) for at, c in enumerate(card.inputs) if c.derived is not None]
        self._edges = [grade.pd_up_to for grade in policy.risk.grades]
        self._grades = [grade.name for grade in policy.risk.grades]
        numeric = {name for name, column in columns.items() if column.kind == "number" and column.derived is None}
        self.raises = tuple(action for action in policy.raises if action.indicator in numeric)
        self._bounds = {name: column.bounds for name, column in columns.items() if name in numeric}

    def one(
        self,
        values: Mapping[str, Any],
        scores: Scores,
        *,
        consent: bool = True,
        person: bool = False,
        raises: bool = True,
    ) -> dict[str, Any]:
        """The answer for indicators without faults and the scores of their one row.

        consent: to the use of moral data. person: the applicant asked for a person to decide (PIPL, Art. 24).
        raises: whether to work out what would raise the limit, about as much work as all the rest.
        """
        pd, points = float(scores.pd[0]), float(scores.points[0])
        probability(pd, pd)
        vetoes = self._codes(values)
        numbers = self._read(values, pd, consent)
        worked = self._formula.work(numbers)
        referred = bool(worked.referred or person)
        limit = int(worked.limit)
        answer: dict[str, Any] = {
            "decision": "refer" if referred else "approve",
            "limit": None if referred else limit,
            "indicative_limit": limit,
            "currency": self.policy.currency,
            "pd": round(pd, 6),
            "score": round(points, 1),
            "grade": self._grades[bisect_left(self._edges, pd)],
            "approval_line": round(self.line, 1),
            "referral": self._ledger.referral(numbers, worked, vetoes, person),
            "ledger": self._ledger.one(numbers, worked),
            "reasons": [],
            "raises": [],
            "policy_version": self.policy.version,
        }
        if scores.contributions is not None:
            shown = self._with_derived(values)
            told = self._explainer.one(shown, scores.contributions[0], points, self.policy.reasons_shown)
            answer["reasons"] = rounded(told)
        if raises and self.score is not None and self.raises:
            answer["raises"] = self._raises(values, numbers, worked, person, self.score)
        return answer

    def many(self, frame: pl.DataFrame, scores: Scores, *, consent: bool | NDArray[np.bool_] = True) -> pl.DataFrame:
        """A row's answer as columns: decision, limit (null where referred), indicative_limit, pd, score, grade,
        referral (codes, ';' between), the ledger's amounts in whole units of money, and `reasons` (codes) where the
        scores have contributions. consent: to the use of moral data, of all or of each."""
        pd, points = scores.pd, scores.points
        if len(pd):
            probability(float(pd.min()), float(pd.max()))
        a: dict[str, Any] = {name: np.full(len(pd), MISSING) for name in NUMBERS}
        for name in self._numbers:
            a[name] = frame[name].cast(pl.Float64).to_numpy()  # null becomes NaN
        veto = np.zeros(len(pd))
        if self._vetoes:
            veto = (frame[VETOES].str.strip_chars("; ").str.len_chars() > 0).fill_null(False).to_numpy().astype(float)
        a |= {"pd": pd, "veto": veto, "consent": np.broadcast_to(np.asarray(consent, float), len(pd))}
        with np.errstate(invalid="ignore"):
            return self._columns(self._arrays.work(a), pd, points, scores.contributions)

    def _columns(
        self, worked: Worked, pd: NDArray[np.float64], points: NDArray[np.float64], contributions: Any
    ) -> pl.DataFrame:
        rows = len(pd)
        referred = np.broadcast_to(worked.referred, rows)
        limit = whole(worked.limit, rows)
        columns: dict[str, Any] = {
            "decision": picked(["approve", "refer"], referred.astype(np.int64)),
            "limit": pl.Series(limit).set(pl.Series(referred), None),
            "indicative_limit": limit,
            "pd": np.round(pd, 6),
            "score": np.round(points, 1),
            "grade": picked(self._grades, np.searchsorted(self._edges, pd, side="left")),
            **self._ledger.columns(worked, rows),
        }
        if contributions is not None:
            effects = self._explainer.effects(contributions, points)
            columns["reasons"] = self._explainer.codes(effects, self.policy.reasons_shown)
        return pl.DataFrame(columns)

    def _read(self, values: Mapping[str, Any], pd: float, consent: bool) -> dict[str, float]:
        numbers = dict.fromkeys(NUMBERS, MISSING)
        for name in self._numbers:
            value = values.get(name)
            if value is not None:
                numbers[name] = float(value)
        for name, special in self._special.items():
            numbers[name] = special.get(numbers[name], numbers[name])
        numbers["pd"] = pd
        numbers["veto"] = 1.0 if self._codes(values) else 0.0
        numbers["consent"] = 1.0 if consent else 0.0
        return numbers

    def _codes(self, values: Mapping[str, Any]) -> list[str]:
        text = values.get(VETOES) if self._vetoes else None
        return [code.strip(" ") for code in text.split(";") if code.strip(" ")] if text else []

    def _with_derived(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self._derived:
            return values
        row, _ = self._encoder.one(values)
        return {**values, **{name: row[at] for at, name in self._derived}}

    def _raises(
        self,
        values: Mapping[str, Any],
        numbers: Mapping[str, float],
        worked: Worked,
        person: bool,
        score: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    ) -> list[dict[str, Any]]:
        """Each change that gives more, or an approval where there was none; the greatest gain first."""
        changes = [(action, to) for action in self.raises if (to := self._moved(action, values)) is not None]
        if not worked.referred and worked.base == self._least_beside_risk(worked):  # a lower PD earns nothing
            changes = [(action, to) for action, to in changes if action.indicator in self._beside_risk]
        if not changes:
            return []
        row = self._encoder.one(values)[0]
        rows = np.array([self._changed(row, values, action.indicator, to) for action, to in changes], np.float32)
        told = []
        for (action, to), pd in zip(changes, score(rows).tolist(), strict=True):
            changed: dict[str, Any] = {**numbers, "pd": pd}
            if action.indicator in self._numbers:
                changed[action.indicator] = float(to)
            if not worked.referred and action.indicator not in MORAL and self._same(worked, changed):
                continue
            found = self._formula.work(changed)
            gain = int(found.limit) - int(worked.limit)
            found.referred = bool(found.referred or person)
            approves = bool(worked.referred and not found.referred)
            if gain > 0 or (approves and gain == 0):
                told.append(self._raise(action, values[action.indicator], to, gain, found, approves))
        return sorted(told, key=lambda one: -one["gain"])

    def _least_beside_risk(self, worked: Worked) -> float:
        amounts = (amount for code, (amount, known) in worked.bounds.items() if known and code != "risk_budget")
        return float(min(amounts))

    def _same(self, worked: Worked, changed: Mapping[str, Any]) -> bool:
        """Whether the bounds that all else rests on stay as they were; a third of working it all out."""
        bounds = self._formula.bounds(changed)
        same: bool = bounds["affordability"] == worked.bounds["affordability"]
        return same and bool(self._formula.base(bounds) == worked.base)

    def _changed(self, row: list[float], values: Mapping[str, Any], name: str, to: float) -> list[float]:
        """The model's row with one indicator changed; made anew where others are derived from it."""
        if self._derived:
            return self._encoder.one({**values, name: to})[0]
        at = self._place.get(name)
        return row if at is None else [*row[:at], to, *row[at + 1 :]]

    def _moved(self, action: Raise, values: Mapping[str, Any]) -> float | None:
        """The indicator's value after the action; None where it is missing or has nowhere to go."""
        value = values.get(action.indicator)
        if value is None or value in self._special.get(action.indicator, ()):
            return None
        low, high = self._bounds[action.indicator]
        if action.step > 0:
            to = min(value + action.step, action.end, high)
            return to if to > value else None
        to = max(value + action.step, action.end, low)
        return to if to < value else None

    def _raise(
        self, action: Raise, value: float, to: float, gain: int, found: Worked, approves: bool
    ) -> dict[str, Any]:
        money = self.policy.money
        moved = f"{number_text(value)} → {number_text(to)}"
        tail, tail_zh = (", and approved", "，并可自动批准") if approves else ("", "")
        return {
            "code": f"raise_{action.indicator}",
            "indicator": action.indicator,
            "from": value,
            "to": to,
            "limit": int(found.limit),
            "gain": gain,
            "decision": "refer" if found.referred else "approve",
            "en": f"{action.en} ({moved}): {gain:+,} {money.en}{tail}.",
            "zh": f"{action.zh}（{moved}）：{gain:+,} {money.zh}{tail_zh}。",
        }
