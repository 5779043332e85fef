"""Explain an answer: bounds, caps, referral reasons, evidence of the shell gate, innovation score and early warnings.

For one company in sentences, for a batch as columns of the same codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import floor
from typing import Any

import numpy as np
import polars as pl

from datasets.schema import ColumnSchema, format_number
from models.scitech_risk import messages
from models.scitech_risk.assessments.innovation_score import InnovationScore
from models.scitech_risk.assessments.shell_gate import VERDICTS, GateResult
from models.scitech_risk.limit_formula import BOUND_INPUTS, CompanyLimitResult
from models.scitech_risk.policy import BACKING, INNOVATION_GROUPS, Policy
from models.scorecard.batch_columns import gather_codes, join_codes, to_int
from models.scorecard.ledger import BaseLedger, Sentence, binding_bound, bound_columns, stop_entry

Numbers = Mapping[str, float]


class CompanyLedger(BaseLedger):
    """The ledger under one policy. Amounts are whole units of its money, rounded down.

    columns: those of the model's card, for labels and units.
    """

    def __init__(self, policy: Policy, columns: dict[str, ColumnSchema]):
        super().__init__((policy.money.en, policy.money.zh), messages.CAPS)
        self.policy = policy
        self._total_points = sum(piece.points for piece in policy.gate.evidence)
        self._stops = {stop.code: stop for stop in policy.stops}
        act_indicators = tuple(dict.fromkeys(signal.indicator for signal in policy.act_signals))
        self._inputs_by_code = {
            **BOUND_INPUTS,
            "backing": (*BACKING, "data_asset_value"),
            "warning_unknown": act_indicators,
        }
        self._column: Callable[[str], ColumnSchema] = lambda name: messages.find_column(name, columns)

    def build_entry(self, numbers: Numbers, result: CompanyLimitResult) -> dict[str, Any]:
        """base_limit (or 0 if the gate blocks) - rounding.amount = limit, in whole units of money."""
        exact, limit = int(result.unrounded), int(result.limit)
        binding = binding_bound(result.bounds)
        caps = [self.cap_entry("legal_cap", self.policy.product.legal_cap, result.base > result.before_gate)]
        if result.gate.block:
            caps.append(self.cap_entry("gate", 0, True))
        step, step_zh = self.format_money(self.policy.product.rounding)
        rounded_off, rounded_off_zh = self.format_money(exact - limit)
        en, zh = messages.ROUNDING
        rounding = {
            "en": en.format(step=step, amount=rounded_off),
            "zh": zh.format(step=step_zh, amount=rounded_off_zh),
        }
        return {
            "bounds": [self._bound_entry(code, amount, known, code == binding, numbers)
                       for code, (amount, known) in result.bounds.items()],
            "base_limit": int(result.base),
            "binding": binding,
            "caps": caps,
            "rounding": {"code": "rounding", "amount": exact - limit, **rounding},
            "limit": limit,
        }  # fmt: skip

    def build_indicative(self, numbers: Numbers, limit: int) -> dict[str, Any] | None:
        """The indicative limit as a sentence, where the limit rests on an assumption; None where it does not."""
        missing = [name for name in messages.ASSUMED if numbers[name] != numbers[name]]
        if not missing:
            return None
        counts_as = {name: float(self.policy.unknown[name].counts_as) for name in missing}
        labels = messages.format_names([self._column(name) for name in missing])
        return self.indicative_entry(limit, counts_as, self._assumed_texts(missing), labels)

    def build_referral(
        self, numbers: Numbers, causes: Mapping[str, Any], lacks: Mapping[str, list[str]]
    ) -> list[dict[str, Any]]:
        """Why a person decides: one entry per reason that holds. lacks: reason -> the unknown indicators that it
        names.
        """
        return [self._referral_entry(code, numbers, lacks) for code, flag in causes.items() if flag]

    def build_gate(self, numbers: Numbers, gate: GateResult, path: str | None) -> dict[str, Any]:
        """The verdict of the gate and its evidence. path: the loop of invoices, if the register has one."""
        evidence, unknown = [], []
        for piece in self.policy.gate.evidence:
            second_indicator = piece.beside.indicator if piece.beside else None
            if gate.unknown[piece.code]:
                unknown += [
                    name for name in (piece.indicator, second_indicator) if name and numbers[name] != numbers[name]
                ]
            if not gate.holds[piece.code]:
                continue
            value = numbers[piece.indicator]
            value_en, value_zh = messages.format_value(value, self._column(piece.indicator))
            second_value, second_value_zh = (
                messages.format_value(numbers[second_indicator], self._column(second_indicator))
                if second_indicator
                else ("", "")
            )
            en, zh = (
                piece.en.format(value=value_en, beside=second_value),
                piece.zh.format(value=value_zh, beside=second_value_zh),
            )
            if path and piece.indicator == "invoice_loop_share":
                en, zh = en + messages.LOOP_PATH[0].format(path=path), zh + messages.LOOP_PATH[1].format(path=path)
            evidence.append({"code": piece.code, "indicator": piece.indicator, "value": value,
                             "points": piece.points, "en": en, "zh": zh})  # fmt: skip
        verdict = _gate_verdict(gate)
        points = format_number(gate.points)
        is_insufficient = gate.insufficient_data and verdict == "review" and gate.points < self.policy.gate.review
        en, zh = messages.GATE["blind" if is_insufficient else verdict]
        values = {"points": points, "known": format_number(gate.known), "all": format_number(self._total_points),
                  "sources": format_number(gate.sources)}  # fmt: skip
        return {
            "verdict": verdict,
            "points": gate.points,
            "evidence": evidence,
            "unknown": list(dict.fromkeys(unknown)),
            "en": en.format(**values),
            "zh": zh.format(**values),
        }

    def build_warnings(self, numbers: Numbers, active: Mapping[str, bool]) -> list[dict[str, Any]]:
        """One entry per active early warning."""
        entries = []
        for signal in self.policy.signals:
            if active[signal.code]:
                value = numbers[signal.indicator]
                en, zh = messages.format_value(value, self._column(signal.indicator))
                texts = {"en": signal.en.format(value=en), "zh": signal.zh.format(value=zh)}
                entries.append({"code": signal.code, "severity": signal.severity, "indicator": signal.indicator,
                             "value": value, **texts})  # fmt: skip
        return entries

    def build_missing(self, names: list[str]) -> list[dict[str, Any]]:
        """The missing indicators, with their labels."""
        columns = [self._column(name) for name in names]
        return [{"indicator": column.name, "en": column.label, "zh": column.label_zh} for column in columns]

    def build_columns(
        self,
        result: CompanyLimitResult,
        stage: Any,
        active_warnings: Mapping[str, Any],
        extra_reasons: Mapping[str, Any],
        rows: int,
    ) -> dict[str, Any]:
        """The ledger of a batch, by column name.

        stage: (rows,) index into the stages, -1 where not known. extra_reasons: referral reasons besides the formula's.
        """
        limit, exact = to_int(result.limit, rows), to_int(result.unrounded, rows)
        low, coverage = (
            self._value_at_stage(result.innovation.low, stage, rows),
            self._value_at_stage(result.innovation.coverage, stage, rows),
        )
        is_scored = (stage >= 0) & (coverage > 0) & (coverage >= self.policy.innovation.least_coverage)
        score = np.where(is_scored, _round_to_tenth(low / np.where(coverage > 0, coverage, 1.0), np.floor), np.nan)
        stages = [growth_stage.name for growth_stage in self.policy.stages]
        gate = result.gate
        verdict = np.where(_broadcast(gate.block, rows), 2, np.where(_broadcast(gate.review, rows), 1, 0))
        return {
            "innovation": pl.Series(score, nan_to_null=True),
            "innovation_low": _round_to_tenth(low, np.floor),
            "stage": pl.Series([*stages, None], dtype=pl.String).gather(np.where(stage < 0, len(stages), stage)),
            "gate": gather_codes(list(VERDICTS), verdict),
            "gate_points": _broadcast(gate.points, rows),
            "evidence": join_codes(gate.holds, rows),
            "warnings": join_codes(active_warnings, rows),
            "referral": join_codes({**result.referral_reasons, **extra_reasons}, rows),
            **bound_columns(result.bounds, rows),
            "base_limit": to_int(result.base, rows),
            "rounding": exact - limit,
        }

    def _value_at_stage(self, by_stage: list[Any], stage: Any, rows: int) -> Any:
        """The value of each row at its stage; the smallest of all stages where the stage is not known."""
        values = np.stack([_broadcast(amount, rows) for amount in by_stage])
        return np.where(stage < 0, values.min(axis=0), values[stage, np.arange(rows)])

    def _referral_entry(self, code: str, numbers: Numbers, lacks: Mapping[str, list[str]]) -> dict[str, Any]:
        if code in self._stops:
            return stop_entry(self._stops[code])
        if code in lacks:
            names, names_zh = messages.format_names([self._column(name) for name in lacks[code]])
            en, zh = messages.REFERRALS[code]
            return {"code": code, "en": en.format(lacks=names), "zh": zh.format(lacks=names_zh)}
        values, values_zh = _template_values(self, code, numbers)
        en, zh = messages.REFERRALS[code]
        return {"code": code, "en": en.format(**values), "zh": zh.format(**values_zh)}

    def missing_columns(self, code: str, numbers: Numbers) -> list[ColumnSchema]:
        return [self._column(name) for name in self._inputs_by_code.get(code, ()) if numbers[name] != numbers[name]]

    def _bound_entry(self, code: str, amount: float, known: bool, binding: bool, numbers: Numbers) -> dict[str, Any]:
        missing = self.missing_columns(code, numbers)
        money, money_zh = self.format_money(amount)
        if known:
            ungraded = code == "loss_budget" and numbers["known_share"] < self.policy.least_known.share
            en, zh = messages.UNGRADED if ungraded else messages.BOUNDS[code]
            en, zh = en.format(amount=money), zh.format(amount=money_zh)
            if missing:
                names, names_zh = messages.format_names(missing)
                en, zh = en + messages.UNBACKED[0].format(lacks=names), zh + messages.UNBACKED[1].format(lacks=names_zh)
        else:
            names, names_zh = self._assumed_texts([column.name for column in missing])
            en, zh = messages.ASSUMED_BOUNDS[code]
            en, zh = en.format(amount=money, assumed=names), zh.format(amount=money_zh, assumed=names_zh)
        return {
            "code": code,
            "amount": int(amount),
            "binding": binding,
            "lacks": [column.name for column in missing],
            "en": en,
            "zh": zh,
        }

    def _assumed_texts(self, names: list[str]) -> Sentence:
        amounts = {name: float(self.policy.unknown[name].counts_as) * self.policy.unit for name in names}
        return self.assumed_texts(amounts, messages.ASSUMED)


def _template_values(ledger: CompanyLedger, code: str, numbers: Numbers) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of a referral sentence's placeholders, in English and in Chinese."""
    if code == "below_floor_grade":
        floor_grade, horizon = ledger.policy.risk.floor_grade, ledger.policy.horizon
        return {"floor": floor_grade, "horizon": horizon.en}, {"floor": floor_grade, "horizon": horizon.zh}
    if code == "too_little_known":
        share, minimum = (
            messages.format_percent(numbers["known_share"]),
            messages.format_percent(ledger.policy.least_known.share),
        )
        return ({"known": share, "least": minimum},) * 2
    if code == "below_minimum":
        en, zh = ledger.format_money(ledger.policy.product.minimum)
        return {"minimum": en}, {"minimum": zh}
    if code.startswith("lacks_") or code == "warning_unknown":
        en, zh = messages.format_names(ledger.missing_columns(code.removeprefix("lacks_"), numbers))
        return {"lacks": en}, {"lacks": zh}
    return {}, {}


def build_innovation(policy: Policy, innovation: InnovationScore, stage: int | None) -> dict[str, Any]:
    """The innovation score at a stage; None if the stage is not known."""
    low = _round_to_tenth(min(innovation.low) if stage is None else innovation.low[stage])
    coverage = min(innovation.coverage) if stage is None else innovation.coverage[stage]
    score = None
    if stage is not None and coverage and coverage >= policy.innovation.least_coverage:
        score = _round_to_tenth(innovation.low[stage] / coverage)
    code = "no_stage" if stage is None else "too_little_known" if score is None else "scored"
    values = {"coverage": messages.format_percent(coverage), "low": f"{low:.1f}", "score": f"{score or 0:.1f}"}
    stage_policy = None if stage is None else policy.stages[stage]
    en, zh = messages.INNOVATION[code]
    return {
        "score": score,
        "low": low,
        "stage": stage_policy and stage_policy.name,
        "coverage": round(coverage, 4),
        "parts": [_group_entry(policy, group, innovation, stage) for group in INNOVATION_GROUPS],
        "en": en.format(stage=stage_policy and stage_policy.en, **values),
        "zh": zh.format(stage=stage_policy and stage_policy.zh, **values),
    }


def _group_entry(policy: Policy, group: str, innovation: InnovationScore, stage: int | None) -> dict[str, Any]:
    earned, known = innovation.groups[group]
    score = _round_to_tenth(100 * earned / known) if known else None
    weights = None if stage is None else policy.stages[stage].weights
    en, zh = messages.GROUP_UNKNOWN if score is None else messages.GROUP_SCORE
    name, name_zh = messages.GROUPS[group]
    return {
        "group": group,
        "score": score,
        "weight": weights and round(weights[group] / sum(weights.values()), 4),  # type: ignore[index]
        "known": round(known, 4),
        "en": en.format(group=name[:1].upper() + name[1:], score=f"{score or 0:.1f}"),
        "zh": zh.format(group=name_zh, score=f"{score or 0:.1f}"),
    }


def _gate_verdict(gate: GateResult) -> str:
    return "block" if gate.block else "review" if gate.review else "pass"


def _broadcast(amount: Any, rows: int) -> Any:
    return np.broadcast_to(amount, rows)


def _round_to_tenth(score: Any, floor_fn: Callable[[Any], Any] = floor) -> Any:
    """To one decimal, the same for a float and for an array."""
    return floor_fn(score * 10 + 0.5) / 10
