"""How a limit came about: each bound, the uplift, each cap, why a person decides; for one answer and for a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from models.credit_limit import messages
from models.credit_limit.limit_formula import ASSETS, Worked
from models.credit_limit.policy import Policy
from models.scorecard.batch_columns import joined, known, nullable, picked, whole

MISSING = math.nan


class Ledger:
    """The accounts under one policy. Amounts are whole units of its money, rounded down."""

    def __init__(self, policy: Policy):
        self.policy = policy
        self._en, self._zh = f" {policy.money.en}", f" {policy.money.zh}"
        step, step_zh = self._money(policy.product.rounding)
        self._round = [
            messages.ROUNDING[0].replace("{step}", step),
            messages.ROUNDING[1].replace("{step}", step_zh),
        ]

    def one(self, numbers: Mapping[str, float], worked: Worked) -> dict[str, Any]:
        """base_limit + uplift - rounding.amount = limit, in whole units of money."""
        base, exact, limit = int(worked.base), int(worked.exact), int(worked.limit)
        known = {code: amount for code, (amount, known) in worked.bounds.items() if known}
        binding = min(known, key=known.__getitem__)
        return {
            "bounds": [self._bound(code, amount, code in known, code == binding, numbers)
                       for code, (amount, _) in worked.bounds.items()],
            "base_limit": base,
            "binding": binding,
            "conduct": self._conduct(worked, exact - base),
            "uplift": exact - base,
            "caps": [self._cap(code, amount, amount < worked.lifted)
                     for code, (amount, known) in worked.caps.items() if known],
            "rounding": self._rounding(exact - limit),
            "limit": limit,
        }  # fmt: skip

    def referral(
        self, numbers: Mapping[str, float], worked: Worked, vetoes: Sequence[str], person: bool
    ) -> list[dict[str, Any]]:
        """Why a person decides: one entry for each cause."""
        told = []
        for code, flag in worked.refer.items():
            if not flag:
                continue
            if code == "statutory_veto":
                told += [self._veto(veto) for veto in vetoes]
                continue
            en, zh = messages.REFERRALS[code]
            filled, filled_zh = self._filling(code, numbers)
            told.append({"code": code, "en": en.format(**filled), "zh": zh.format(**filled_zh)})
        if person:
            en, zh = messages.REFERRALS["person_asked_for"]
            told.append({"code": "person_asked_for", "en": en, "zh": zh})
        return told

    def columns(self, worked: Worked, rows: int) -> dict[str, Any]:
        """The same for many rows, by column name."""
        limit, exact, base = (whole(amount, rows) for amount in (worked.limit, worked.exact, worked.base))
        bounds = {code: known(bound, rows) for code, bound in worked.bounds.items()}
        least = np.argmin(np.stack([np.where(np.isnan(b), np.inf, b) for b in bounds.values()]), axis=0)
        lifted = np.broadcast_to(worked.m, rows) > 1
        unlifted = [*worked.unlifted, "uplifted", "below_qualifying"]
        why = np.argmax(
            np.stack([np.broadcast_to(f, rows) for f in (*worked.unlifted.values(), lifted, ~lifted)]), axis=0
        )
        counts = why >= len(worked.unlifted)
        score = np.where(counts, np.broadcast_to(worked.conduct, rows), MISSING)
        caps = {code: known(cap, rows) < worked.lifted for code, cap in worked.caps.items()}
        return {
            "referral": joined(worked.refer, rows),
            **{f"bound_{code}": nullable(amount) for code, amount in bounds.items()},
            "binding": picked(list(bounds), least),
            "base_limit": base,
            "conduct": picked(unlifted, why),
            "conduct_score": pl.Series(np.round(score, 2), nan_to_null=True),
            "multiplier": np.round(np.broadcast_to(worked.m, rows), 4),
            "uplift": exact - base,
            "caps_applied": joined(caps, rows),
            "rounding": exact - limit,
        }

    def _money(self, amount: float) -> tuple[str, str]:
        text = f"{int(amount):,}"
        return text + self._en, text + self._zh

    def _veto(self, veto: str) -> dict[str, Any]:
        """A code that the policy does not know refers too, told as it came."""
        known = self.policy.vetoes.get(veto)
        en, zh = messages.REFERRALS["statutory_veto"]
        return {
            "code": "statutory_veto",
            "veto": veto,
            "en": en.format(veto=known.en if known else veto),
            "zh": zh.format(veto=known.zh if known else veto),
        }

    def _filling(self, code: str, numbers: Mapping[str, float]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What stands in a referral's sentence, in English and in Chinese."""
        if code == "below_floor_grade":
            return ({"floor": self.policy.risk.floor_grade},) * 2
        if code == "under_age":
            return ({"age": self.policy.min_age},) * 2
        if code == "below_minimum":
            en, zh = self._money(self.policy.product.minimum)
            return {"minimum": en}, {"minimum": zh}
        if code.startswith("lacks_"):
            en, zh = _names(_lacks(code.removeprefix("lacks_"), numbers))
            return {"lacks": en}, {"lacks": zh}
        return {}, {}

    def _bound(
        self, code: str, amount: float, known: bool, binding: bool, numbers: Mapping[str, float]
    ) -> dict[str, Any]:
        if known:
            money, money_zh = self._money(amount)
            en, zh = messages.BOUNDS[code]
            en, zh = en.format(amount=money), zh.format(amount=money_zh)
            return {"code": code, "amount": int(amount), "binding": binding, "lacks": [], "en": en, "zh": zh}
        lacks = _lacks(code, numbers)
        names, names_zh = _names(lacks)
        en, zh = messages.LACKING[code]
        en, zh = en.format(lacks=names), zh.format(lacks=names_zh)
        return {"code": code, "amount": None, "binding": False, "lacks": lacks, "en": en, "zh": zh}

    def _conduct(self, worked: Worked, uplift: int) -> dict[str, Any]:
        code = next((code for code, flag in worked.unlifted.items() if flag), None)
        counts = code is None
        code = code or ("uplifted" if worked.m > 1 else "below_qualifying")
        en, zh = messages.CONDUCT[code]
        if counts:
            money, money_zh = self._money(uplift)
            score, m = f"{worked.conduct:.1f}", f"{worked.m:.3f}"
            en, zh = en.format(score=score, m=m, uplift=money), zh.format(score=score, m=m, uplift=money_zh)
        score_told = round(worked.conduct, 2) if counts else None
        return {"code": code, "score": score_told, "multiplier": round(worked.m, 4), "en": en, "zh": zh}

    def _rounding(self, amount: int) -> dict[str, Any]:
        money, money_zh = self._money(amount)
        en, zh = self._round
        en, zh = en.format(amount=money), zh.format(amount=money_zh)
        return {"code": "rounding", "amount": amount, "en": en, "zh": zh}

    def _cap(self, code: str, amount: float, applied: bool) -> dict[str, Any]:
        money, money_zh = self._money(amount)
        en, zh = messages.CAPS[code]
        en, zh = en.format(amount=money), zh.format(amount=money_zh)
        return {"code": code, "amount": int(amount), "applied": applied, "en": en, "zh": zh}


def _lacks(code: str, numbers: Mapping[str, float]) -> list[str]:
    """The inputs of a bound that are missing."""
    if code == "affordability":
        return [name for name in ("declared_income", "monthly_debt_service") if numbers[name] != numbers[name]]
    lacks = ["debts"] if numbers["debts"] != numbers["debts"] else []
    return lacks + ([*ASSETS] if all(numbers[name] != numbers[name] for name in ASSETS) else [])


def _names(fields: list[str]) -> tuple[str, str]:
    return ", ".join(messages.FIELDS[name][0] for name in fields), "、".join(
        messages.FIELDS[name][1] for name in fields
    )
