"""A decision in a few lines, in both languages: what was decided, and what the example is there to show."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.text import Text

EVIDENCE = 3  # pieces of the shell gate's evidence
REASONS = 2


def show_outcome(title: str, answer: dict[str, Any]) -> Panel:
    simulated = "trained on SIMULATED data 模拟数据训练" if answer["simulated"] else "trained on real data 真实数据训练"
    model = answer["model"]
    head = Text.assemble((title, "bold"), " (made up 虚构)")
    foot = Text(f"{model['name']} {model['version']} · {simulated}", style="dim")
    facts = [*_conduct(answer), *_gate(answer), *_referral(answer), *_reasons(answer)]
    return Panel(Group(head, _decision(answer), *facts, foot))


def _decision(answer: dict[str, Any]) -> Text:
    firm = answer["limit"] is not None
    amount = answer["limit"] if firm else answer["indicative_limit"]
    word = "limit 授信额度" if firm else "indicative limit, for the person who decides 参考额度"
    verdict = "approve 通过" if answer["decision"] == "approve" else "refer to a person 转人工"
    numbers = f"   {word}: {answer['currency']} {amount:,}   PD {answer['pd']:.2%}   grade {answer['grade'] or '–'}"
    return Text.assemble((verdict, "bold green" if answer["decision"] == "approve" else "bold yellow"), numbers)


def _conduct(answer: dict[str, Any]) -> list[Text]:
    """What good conduct adds, where a ledger says so."""
    uplift = (answer.get("ledger") or {}).get("uplift")
    if not uplift:
        return []
    money = f"{answer['currency']} {uplift:,.0f}"
    return [Text(f"  {money} of it for good conduct 其中品行提额 {money}", style="cyan")]


def _gate(answer: dict[str, Any]) -> list[Text]:
    gate = answer.get("gate")
    if not gate:
        return []
    pieces = sorted(gate["evidence"], key=lambda piece: -piece["points"])[:EVIDENCE]
    colour = "cyan" if gate["verdict"] == "pass" else "red"
    lines = [Text(f"  shell gate 空壳闸门: {gate['verdict']}; {gate['en']} {gate['zh']}", style=colour)]
    return lines + [Text(f"    ▸ {piece['en']} {piece['zh']}") for piece in pieces]


def _referral(answer: dict[str, Any]) -> list[Text]:
    return [Text(f"  {why['en']} {why['zh']}", style="yellow") for why in answer["referral"]]


def _reasons(answer: dict[str, Any]) -> list[Text]:
    strongest = sorted(answer["reasons"], key=lambda reason: -abs(reason["points"]))[:REASONS]
    return [Text(f"  {reason['points']:+.0f} points 分: {reason['en']}") for reason in strongest]
