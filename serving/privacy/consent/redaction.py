"""An answer about stored indicators as its caller may see it: what counted and for how much, never the raw values.

数据可用不可见: the sentences stay, the values in them go.
"""

from __future__ import annotations

import re
from typing import Any

from datasets.schema import Column, Table
from models.scitech_risk.messages import column_of, value_text
from models.scorecard.explanations import OTHERS

MOVED = re.compile(r" \([\d.,-]+ → [\d.,-]+\)|（[\d.,-]+ → [\d.,-]+）")
HIDDEN = "…"
BESIDE = re.compile(r"(?<=, )[\d.,]+(?= of them)|(?<=其中 )[\d.,]+")
LOOP = re.compile(r" The loop: [^.]*\.|循环路径：[^。]*。")  # names other companies


def veiled(said: dict[str, Any], table: Table) -> dict[str, Any]:
    """The answer without `value`, `from` and `to`, and without them in its sentences."""
    columns = {column.name: column for column in table.columns}
    told = dict(said)
    told["reasons"] = [_reason(one, columns) for one in said.get("reasons", ())]
    if "raises" in said:
        told["raises"] = [_moved(one) for one in said["raises"]]
    if "warnings" in said:
        told["warnings"] = [_unvalued(one, columns) for one in said["warnings"]]
    if "gate" in said:
        evidence = [_unvalued(one, columns) for one in said["gate"]["evidence"]]
        told["gate"] = said["gate"] | {"evidence": evidence}
    return told


def _reason(one: dict[str, Any], columns: dict[str, Column]) -> dict[str, Any]:
    kept = {name: found for name, found in one.items() if name != "value"}
    if one["code"] == OTHERS:
        return kept
    column, size = columns[one["indicator"]], f"{abs(one['points']):.1f}"
    more, more_zh = ("more", "多") if one["points"] > 0 else ("fewer", "少")
    return kept | {
        "en": f"{column.label[:1].upper()}{column.label[1:]}: {size} points {more} than at the approval line.",
        "zh": f"{column.label_zh}：比审批线{more_zh} {size} 分。",
    }


def _moved(one: dict[str, Any]) -> dict[str, Any]:
    kept = {name: found for name, found in one.items() if name not in ("from", "to")}
    return kept | {name: MOVED.sub("", one[name]) for name in ("en", "zh")}


def _unvalued(one: dict[str, Any], columns: dict[str, Column]) -> dict[str, Any]:
    """Of the gate and of the warnings, whose words are the policy's."""
    kept = {name: found for name, found in one.items() if name != "value"}
    texts = value_text(one["value"], column_of(one["indicator"], columns))
    for name, text in zip(("en", "zh"), texts, strict=True):
        hidden = re.sub(rf"(?<![\d.,]){re.escape(text)}(?!\d)", HIDDEN, one[name])
        kept[name] = LOOP.sub("", BESIDE.sub(HIDDEN, hidden))
    return kept
