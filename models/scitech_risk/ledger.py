"""How an answer came about: each bound and cap, why a person decides, what the gate saw and what warns.

For one company in sentences, for a batch as columns of the same codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import floor
from typing import Any

import numpy as np
import polars as pl

from datasets.schema import Column, number_text
from models.scitech_risk import messages
from models.scitech_risk.innovation_score import Scored
from models.scitech_risk.limit_formula import Worked
from models.scitech_risk.policy import BACKING, CASH, GROUPS, Policy
from models.scitech_risk.shell_gate import VERDICTS, Gated
from models.scorecard.batch_columns import joined, known, nullable, picked, whole

Numbers = Mapping[str, float]
LACKS = {"debt_service_cover": CASH, "revenue_multiple": ("revenue",), "backing": (*BACKING, "data_asset_value")}


class Ledger:
    """The accounts under one policy. Amounts are whole units of its money, rounded down.

    columns: of the model's card, for labels and units.
    """

    def __init__(self, policy: Policy, columns: dict[str, Column]):
        self.policy = policy
        self._en, self._zh = f" {policy.money.en}", f" {policy.money.zh}"
        self._everything = sum(piece.points for piece in policy.gate.evidence)
        asked = tuple(dict.fromkeys(signal.indicator for signal in policy.signals if signal.unknown_refers))
        self._lacks = {**LACKS, "warning_unknown": asked}
        self._column: Callable[[str], Column] = lambda name: messages.column_of(name, columns)

    def one(self, numbers: Numbers, worked: Worked) -> dict[str, Any]:
        """base_limit, or 0 where the gate blocks, - rounding.amount = limit, in whole units of money."""
        exact, limit = int(worked.exact), int(worked.limit)
        told = {code: amount for code, (amount, flag) in worked.bounds.items() if flag}
        binding = min(told, key=told.__getitem__)
        caps = [self._cap("legal_cap", self.policy.product.legal_cap, worked.base > worked.capped)]
        if worked.gate.block:
            caps.append(self._cap("gate", 0, True))
        step, step_zh = self._money(self.policy.product.rounding)
        taken, taken_zh = self._money(exact - limit)
        en, zh = messages.ROUNDING
        rounding = {"en": en.format(step=step, amount=taken), "zh": zh.format(step=step_zh, amount=taken_zh)}
        return {
            "bounds": [self._bound(code, amount, code in told, code == binding, numbers)
                       for code, (amount, _) in worked.bounds.items()],
            "base_limit": int(worked.base),
            "binding": binding,
            "caps": caps,
            "rounding": {"code": "rounding", "amount": exact - limit, **rounding},
            "limit": limit,
        }  # fmt: skip

    def referral(self, numbers: Numbers, causes: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Why a person decides: one entry for each cause that holds."""
        return [self._referral(code, numbers) for code, flag in causes.items() if flag]

    def gate(self, numbers: Numbers, gated: Gated, path: str | None) -> dict[str, Any]:
        """path: of the loop of invoices, where the register has one."""
        evidence, unknown = [], []
        for piece in self.policy.gate.evidence:
            beside = piece.beside.indicator if piece.beside else None
            if gated.unknown[piece.code]:
                unknown += [name for name in (piece.indicator, beside) if name and numbers[name] != numbers[name]]
            if not gated.holds[piece.code]:
                continue
            value = numbers[piece.indicator]
            shown, shown_zh = messages.value_text(value, self._column(piece.indicator))
            aside, aside_zh = messages.value_text(numbers[beside], self._column(beside)) if beside else ("", "")
            en, zh = piece.en.format(value=shown, beside=aside), piece.zh.format(value=shown_zh, beside=aside_zh)
            if path and piece.indicator == "invoice_loop_share":
                en, zh = en + messages.LOOP[0].format(path=path), zh + messages.LOOP[1].format(path=path)
            evidence.append({"code": piece.code, "indicator": piece.indicator, "value": value,
                             "points": piece.points, "en": en, "zh": zh})  # fmt: skip
        verdict = _verdict(gated)
        points = number_text(gated.points)
        blind = gated.blind and verdict == "review" and gated.points < self.policy.gate.review
        en, zh = messages.GATE["blind" if blind else verdict]
        filled = {"points": points, "known": number_text(gated.known), "all": number_text(self._everything),
                  "sources": number_text(gated.sources)}  # fmt: skip
        return {
            "verdict": verdict,
            "points": gated.points,
            "evidence": evidence,
            "unknown": list(dict.fromkeys(unknown)),
            "en": en.format(**filled),
            "zh": zh.format(**filled),
        }

    def innovation(self, scored: Scored, stage: int | None) -> dict[str, Any]:
        low = _tenths(min(scored.low) if stage is None else scored.low[stage])
        coverage = min(scored.coverage) if stage is None else scored.coverage[stage]
        score = None
        if stage is not None and coverage and coverage >= self.policy.innovation.least_coverage:
            score = _tenths(scored.low[stage] / coverage)
        code = "no_stage" if stage is None else "too_little_known" if score is None else "scored"
        filled = {"coverage": messages.percent(coverage), "low": f"{low:.1f}", "score": f"{score or 0:.1f}"}
        found = None if stage is None else self.policy.stages[stage]
        en, zh = messages.INNOVATION[code]
        return {
            "score": score,
            "low": low,
            "stage": found and found.name,
            "coverage": round(coverage, 4),
            "parts": [self._part(group, scored, stage) for group in GROUPS],
            "en": en.format(stage=found and found.en, **filled),
            "zh": zh.format(stage=found and found.zh, **filled),
        }

    def warnings(self, numbers: Numbers, raised: Mapping[str, bool]) -> list[dict[str, Any]]:
        told = []
        for signal in self.policy.signals:
            if raised[signal.code]:
                value = numbers[signal.indicator]
                en, zh = messages.value_text(value, self._column(signal.indicator))
                said = {"en": signal.en.format(value=en), "zh": signal.zh.format(value=zh)}
                told.append({"code": signal.code, "severity": signal.severity, "indicator": signal.indicator,
                             "value": value, **said})  # fmt: skip
        return told

    def missing(self, names: list[str]) -> list[dict[str, Any]]:
        columns = [self._column(name) for name in names]
        return [{"indicator": column.name, "en": column.label, "zh": column.label_zh} for column in columns]

    def columns(
        self, worked: Worked, stage: Any, raised: Mapping[str, Any], beside: Mapping[str, Any], rows: int
    ) -> dict[str, Any]:
        """The same for many rows, by column name. stage: (rows,) place among the stages, -1 where not known; beside:
        what refers beside the formula."""
        limit, exact = whole(worked.limit, rows), whole(worked.exact, rows)
        bounds = {code: known(bound, rows) for code, bound in worked.bounds.items()}
        least = np.argmin(np.stack([np.where(np.isnan(b), np.inf, b) for b in bounds.values()]), axis=0)
        low, coverage = self._at(worked.innovation.low, stage, rows), self._at(worked.innovation.coverage, stage, rows)
        scored = (stage >= 0) & (coverage > 0) & (coverage >= self.policy.innovation.least_coverage)
        score = np.where(scored, _tenths(low / np.where(coverage > 0, coverage, 1.0), np.floor), np.nan)
        stages = [found.name for found in self.policy.stages]
        gate = worked.gate
        verdict = np.where(_full(gate.block, rows), 2, np.where(_full(gate.review, rows), 1, 0))
        return {
            "innovation": pl.Series(score, nan_to_null=True),
            "innovation_low": _tenths(low, np.floor),
            "stage": pl.Series([*stages, None], dtype=pl.String).gather(np.where(stage < 0, len(stages), stage)),
            "gate": picked(list(VERDICTS), verdict),
            "gate_points": _full(gate.points, rows),
            "evidence": joined(gate.holds, rows),
            "warnings": joined(raised, rows),
            "referral": joined({**worked.refer, **beside}, rows),
            **{f"bound_{code}": nullable(amount) for code, amount in bounds.items()},
            "binding": picked(list(bounds), least),
            "base_limit": whole(worked.base, rows),
            "rounding": exact - limit,
        }

    def _at(self, by_stage: list[Any], stage: Any, rows: int) -> Any:
        """Each row's at its stage, the least of all where that is not known."""
        every = np.stack([_full(amount, rows) for amount in by_stage])
        return np.where(stage < 0, every.min(axis=0), every[stage, np.arange(rows)])

    def _money(self, amount: float) -> tuple[str, str]:
        text = f"{int(amount):,}"
        return text + self._en, text + self._zh

    def _referral(self, code: str, numbers: Numbers) -> dict[str, Any]:
        filled, filled_zh = self._filling(code, numbers)
        en, zh = messages.REFERRALS[code]
        return {"code": code, "en": en.format(**filled), "zh": zh.format(**filled_zh)}

    def _filling(self, code: str, numbers: Numbers) -> tuple[dict[str, Any], dict[str, Any]]:
        """What stands in a referral's sentence, in English and in Chinese."""
        if code == "below_floor_grade":
            floor_grade, horizon = self.policy.risk.floor_grade, self.policy.horizon
            return {"floor": floor_grade, "horizon": horizon.en}, {"floor": floor_grade, "horizon": horizon.zh}
        if code == "too_little_known":
            share, least = messages.percent(numbers["known_share"]), messages.percent(self.policy.least_known.share)
            return ({"known": share, "least": least},) * 2
        if code == "below_minimum":
            en, zh = self._money(self.policy.product.minimum)
            return {"minimum": en}, {"minimum": zh}
        if code.startswith("lacks_") or code == "warning_unknown":
            en, zh = messages.names(self._lacking(code.removeprefix("lacks_"), numbers))
            return {"lacks": en}, {"lacks": zh}
        return {}, {}

    def _lacking(self, code: str, numbers: Numbers) -> list[Column]:
        return [self._column(name) for name in self._lacks.get(code, ()) if numbers[name] != numbers[name]]

    def _bound(self, code: str, amount: float, known: bool, binding: bool, numbers: Numbers) -> dict[str, Any]:
        lacks = self._lacking(code, numbers)
        names, names_zh = messages.names(lacks)
        if known:
            money, money_zh = self._money(amount)
            ungraded = code == "loss_budget" and numbers["known_share"] < self.policy.least_known.share
            en, zh = messages.UNGRADED if ungraded else messages.BOUNDS[code]
            en, zh = en.format(amount=money), zh.format(amount=money_zh)
            if lacks:
                en, zh = en + messages.UNBACKED[0].format(lacks=names), zh + messages.UNBACKED[1].format(lacks=names_zh)
        else:
            en, zh = messages.LACKING[code]
            en, zh = en.format(lacks=names), zh.format(lacks=names_zh)
        return {
            "code": code,
            "amount": int(amount) if known else None,
            "binding": binding,
            "lacks": [column.name for column in lacks],
            "en": en,
            "zh": zh,
        }

    def _part(self, group: str, scored: Scored, stage: int | None) -> dict[str, Any]:
        earned, known = scored.groups[group]
        score = _tenths(100 * earned / known) if known else None
        weights = None if stage is None else self.policy.stages[stage].weights
        en, zh = messages.UNKNOWN_PART if score is None else messages.PART
        name, name_zh = messages.GROUPS[group]
        return {
            "group": group,
            "score": score,
            "weight": weights and round(weights[group] / sum(weights.values()), 4),  # type: ignore[index]
            "known": round(known, 4),
            "en": en.format(group=name[:1].upper() + name[1:], score=f"{score or 0:.1f}"),
            "zh": zh.format(group=name_zh, score=f"{score or 0:.1f}"),
        }

    def _cap(self, code: str, amount: float, applied: bool) -> dict[str, Any]:
        money, money_zh = self._money(amount)
        en, zh = messages.CAPS[code]
        en, zh = en.format(amount=money), zh.format(amount=money_zh)
        return {"code": code, "amount": int(amount), "applied": applied, "en": en, "zh": zh}


def _verdict(gated: Gated) -> str:
    return "block" if gated.block else "review" if gated.review else "pass"


def _full(amount: Any, rows: int) -> Any:
    return np.broadcast_to(amount, rows)


def _tenths(score: Any, down: Callable[[Any], Any] = floor) -> Any:
    """To one decimal, alike for a float and for an array."""
    return down(score * 10 + 0.5) / 10
