"""Explain how a limit was computed: bounds, uplift, caps and referral reasons, for one answer and for a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from datasets.schema import ColumnSchema
from models.credit_limit import messages
from models.credit_limit.limit_formula import ASSETS, CreditLimitResult
from models.credit_limit.policy import INCOME, Policy
from models.scorecard.batch_columns import amount_or_nan, gather_codes, join_codes, to_int
from models.scorecard.ledger import BaseLedger, Sentence, binding_bound, bound_columns, stop_entry

MISSING = math.nan


class CreditLedger(BaseLedger):
    """The ledger under one policy. Amounts are whole units of its money, rounded down.

    columns: those of the model's card by name, for labels.
    """

    def __init__(self, policy: Policy, columns: dict[str, ColumnSchema]):
        super().__init__((policy.money.en, policy.money.zh), messages.CAPS)
        self.policy, self._columns = policy, columns
        self.assumed_inputs = (*INCOME, *(["debts"] if policy.product.asset_based else []))
        self._stops = {stop.code: stop for stop in policy.stops}
        step, step_zh = self.format_money(policy.product.rounding)
        self._rounding_texts = [
            messages.ROUNDING[0].replace("{step}", step),
            messages.ROUNDING[1].replace("{step}", step_zh),
        ]

    def build_entry(self, numbers: Mapping[str, float], result: CreditLimitResult) -> dict[str, Any]:
        """base_limit + uplift - rounding.amount = limit, in whole units of money."""
        base, exact, limit = int(result.base), int(result.unrounded), int(result.limit)
        binding = binding_bound(result.bounds)
        return {
            "bounds": [self._bound_entry(code, amount, known, code == binding, numbers)
                       for code, (amount, known) in result.bounds.items()],
            "base_limit": base,
            "binding": binding,
            "conduct": self._conduct_entry(result, exact - base),
            "uplift": exact - base,
            "caps": [self.cap_entry(code, amount, amount < result.uplifted)
                     for code, (amount, _) in result.caps.items()],
            "rounding": self._rounding_entry(exact - limit),
            "limit": limit,
        }  # fmt: skip

    def build_indicative(self, numbers: Mapping[str, float], result: CreditLimitResult) -> dict[str, Any] | None:
        """The indicative limit as a sentence, where the limit rests on an assumption; None where it does not."""
        missing = [name for code in result.bounds for name in self._missing_inputs(code, numbers)]
        assumed = self._assumed(missing)
        if not assumed:
            return None
        texts = self.assumed_texts(assumed, messages.ASSUMED)
        return self.indicative_entry(int(result.limit), assumed, texts, self._labels(missing))

    def build_referral(
        self,
        numbers: Mapping[str, float],
        result: CreditLimitResult,
        vetoes: Sequence[str],
        lacks: list[str],
        human_requested: bool,
    ) -> list[dict[str, Any]]:
        """Why a person decides: one entry per reason. lacks: unknown indicators without which a person decides."""
        entries = []
        for code, flag in result.referral_reasons.items():
            if not flag:
                continue
            if code == "statutory_veto":
                entries += [self._veto_entry(veto) for veto in vetoes]
                continue
            if code in self._stops:
                entries.append(stop_entry(self._stops[code]))
                continue
            en, zh = messages.REFERRALS[code]
            values, values_zh = self._template_values(code, numbers, lacks)
            entries.append({"code": code, "en": en.format(**values), "zh": zh.format(**values_zh)})
        if human_requested:
            en, zh = messages.REFERRALS["person_asked_for"]
            entries.append({"code": "person_asked_for", "en": en, "zh": zh})
        return entries

    def build_columns(self, result: CreditLimitResult, rows: int) -> dict[str, Any]:
        """The ledger of a batch, by column name."""
        limit, exact, base = (to_int(amount, rows) for amount in (result.limit, result.unrounded, result.base))
        is_uplifted = np.broadcast_to(result.multiplier, rows) > 1
        codes = [*result.no_uplift_reasons, "uplifted", "below_qualifying"]
        code_index = np.argmax(
            np.stack(
                [np.broadcast_to(f, rows) for f in (*result.no_uplift_reasons.values(), is_uplifted, ~is_uplifted)]
            ),
            axis=0,
        )
        is_counted = code_index >= len(result.no_uplift_reasons)
        score = np.where(is_counted, np.broadcast_to(result.conduct_score, rows), MISSING)
        caps = {code: amount_or_nan(cap, rows) < result.uplifted for code, cap in result.caps.items()}
        return {
            "referral": join_codes(result.referral_reasons, rows),
            **bound_columns(result.bounds, rows),
            "base_limit": base,
            "conduct": gather_codes(codes, code_index),
            "conduct_score": pl.Series(np.round(score, 2), nan_to_null=True),
            "multiplier": np.round(np.broadcast_to(result.multiplier, rows), 4),
            "uplift": exact - base,
            "caps_applied": join_codes(caps, rows),
            "rounding": exact - limit,
        }

    def _veto_entry(self, veto: str) -> dict[str, Any]:
        """A code that the policy does not know refers too; it is shown as it is."""
        text = self.policy.vetoes.get(veto)
        en, zh = messages.REFERRALS["statutory_veto"]
        return {
            "code": "statutory_veto",
            "veto": veto,
            "en": en.format(veto=text.en if text else veto),
            "zh": zh.format(veto=text.zh if text else veto),
        }

    def _template_values(
        self, code: str, numbers: Mapping[str, float], lacks: list[str]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The values of a referral sentence's placeholders, in English and in Chinese."""
        if code == "below_floor_grade":
            return ({"floor": self.policy.risk.floor_grade},) * 2
        if code == "under_age":
            return ({"age": self.policy.min_age},) * 2
        if code == "over_age":
            return ({"max_age": self.policy.max_age_at_end},) * 2
        if code == "below_minimum":
            en, zh = self.format_money(self.policy.product.minimum)
            return {"minimum": en}, {"minimum": zh}
        if code == "fact_unknown" or code.startswith("lacks_"):
            bound = code.removeprefix("lacks_")
            en, zh = self._labels(lacks if code == "fact_unknown" else self._missing_inputs(bound, numbers))
            return {"lacks": en}, {"lacks": zh}
        return {}, {}

    def _bound_entry(
        self, code: str, amount: float, known: bool, binding: bool, numbers: Mapping[str, float]
    ) -> dict[str, Any]:
        money, money_zh = self.format_money(amount)
        missing = [] if known else self._missing_inputs(code, numbers)
        names, names_zh = self.assumed_texts(self._assumed(missing), messages.ASSUMED)
        en, zh = messages.BOUNDS[code] if known else messages.ASSUMED_BOUNDS[code]
        en, zh = en.format(amount=money, assumed=names), zh.format(amount=money_zh, assumed=names_zh)
        return {"code": code, "amount": int(amount), "binding": binding, "lacks": missing, "en": en, "zh": zh}

    def _conduct_entry(self, result: CreditLimitResult, uplift: int) -> dict[str, Any]:
        code = next((code for code, flag in result.no_uplift_reasons.items() if flag), None)
        is_counted = code is None
        code = code or ("uplifted" if result.multiplier > 1 else "below_qualifying")
        en, zh = messages.CONDUCT[code]
        if is_counted:
            money, money_zh = self.format_money(uplift)
            score, m = f"{result.conduct_score:.1f}", f"{result.multiplier:.3f}"
            en, zh = en.format(score=score, m=m, uplift=money), zh.format(score=score, m=m, uplift=money_zh)
        rounded_score = round(result.conduct_score, 2) if is_counted else None
        return {"code": code, "score": rounded_score, "multiplier": round(result.multiplier, 4), "en": en, "zh": zh}

    def _rounding_entry(self, amount: int) -> dict[str, Any]:
        money, money_zh = self.format_money(amount)
        en, zh = self._rounding_texts
        en, zh = en.format(amount=money), zh.format(amount=money_zh)
        return {"code": "rounding", "amount": amount, "en": en, "zh": zh}

    def _missing_inputs(self, code: str, numbers: Mapping[str, float]) -> list[str]:
        """The unknown inputs of a bound."""
        if code == "affordability":
            return [name for name in INCOME if numbers[name] != numbers[name]]
        if code != "assets":
            return []
        missing = ["debts"] if numbers["debts"] != numbers["debts"] else []
        return missing + ([*ASSETS] if all(numbers[name] != numbers[name] for name in ASSETS) else [])

    def _assumed(self, names: list[str]) -> dict[str, float]:
        """What the names count as. An unknown asset counts as nothing, which needs no confirmation."""
        return {name: float(self.policy.unknown[name].counts_as) for name in names if name in messages.ASSUMED}

    def _labels(self, names: list[str]) -> Sentence:
        columns = [messages.find_column(name, self._columns) for name in names]
        return ", ".join(column.label for column in columns), "、".join(column.label_zh for column in columns)
