"""Redact raw values from an answer about stored indicators: the caller learns what counted and how much, no value.

数据可用不可见: usable but not visible. The sentences stay, without the values in them.
"""

from __future__ import annotations

import re
from typing import Any

from datasets.schema import ColumnSchema, TableSchema
from models.scitech_risk.messages import find_column, format_value
from models.scorecard.explanations import OTHERS

CHANGE_PATTERN = re.compile(r" \([\d.,-]+ → [\d.,-]+\)|（[\d.,-]+ → [\d.,-]+）")
PLACEHOLDER = "…"
COUNT_PATTERN = re.compile(r"(?<=, )[\d.,]+(?= of them)|(?<=其中 )[\d.,]+")
LOOP_PATTERN = re.compile(r" The loop: [^.]*\.|循环路径：[^。]*。")  # it names other companies


def redact_answer(answer: dict[str, Any], table: TableSchema) -> dict[str, Any]:
    """The answer without `value`, `from` and `to`, and without these values in its sentences."""
    columns = {column.name: column for column in table.columns}
    redacted = dict(answer)
    redacted["reasons"] = [_redact_reason(item, columns) for item in answer.get("reasons", ())]
    if "raises" in answer:
        redacted["raises"] = [_redact_counterfactual(item) for item in answer["raises"]]
    if "warnings" in answer:
        redacted["warnings"] = [_redact_evidence(item, columns) for item in answer["warnings"]]
    if "gate" in answer:
        evidence = [_redact_evidence(item, columns) for item in answer["gate"]["evidence"]]
        redacted["gate"] = answer["gate"] | {"evidence": evidence}
    return redacted


def _redact_reason(reason: dict[str, Any], columns: dict[str, ColumnSchema]) -> dict[str, Any]:
    redacted = {name: value for name, value in reason.items() if name != "value"}
    if reason["code"] == OTHERS:
        return redacted
    column, size = columns[reason["indicator"]], f"{abs(reason['points']):.1f}"
    comparison, comparison_zh = ("more", "多") if reason["points"] > 0 else ("fewer", "少")
    return redacted | {
        "en": f"{column.label[:1].upper()}{column.label[1:]}: {size} points {comparison} than at the approval line.",
        "zh": f"{column.label_zh}：比审批线{comparison_zh} {size} 分。",
    }


def _redact_counterfactual(counterfactual: dict[str, Any]) -> dict[str, Any]:
    redacted = {name: value for name, value in counterfactual.items() if name not in ("from", "to")}
    return redacted | {name: CHANGE_PATTERN.sub("", counterfactual[name]) for name in ("en", "zh")}


def _redact_evidence(evidence: dict[str, Any], columns: dict[str, ColumnSchema]) -> dict[str, Any]:
    """Evidence of the gate or of a warning, whose sentences come from the policy."""
    redacted = {name: value for name, value in evidence.items() if name != "value"}
    texts = format_value(evidence["value"], find_column(evidence["indicator"], columns))
    for name, text in zip(("en", "zh"), texts, strict=True):
        hidden = re.sub(rf"(?<![\d.,]){re.escape(text)}(?!\d)", PLACEHOLDER, evidence[name])
        redacted[name] = LOOP_PATTERN.sub("", COUNT_PATTERN.sub(PLACEHOLDER, hidden))
    return redacted
