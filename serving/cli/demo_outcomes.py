"""A decision in both languages: in a few lines, what was decided and what the example is there to show; or complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

EVIDENCE = 3  # pieces of the shell gate's evidence
REASONS = 2
VERDICT_LABELS = {"pass": "pass 通过", "review": "review 复核", "block": "block 拦截"}


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
    causes = [*answer["referral"], *([answer["indicative"]] if answer.get("indicative") else [])]
    return [Text(f"  {why['en']} {why['zh']}", style="yellow") for why in causes]


def _reasons(answer: dict[str, Any]) -> list[Text]:
    strongest = sorted(answer["reasons"], key=lambda reason: -abs(reason["points"]))[:REASONS]
    return [Text(f"  {reason['points']:+.0f} points 分: {reason['en']}") for reason in strongest]


def show_decision(name: str, answer: dict[str, Any]) -> Panel:
    """A complete answer: the decision, then those of SECTIONS that it has."""
    currency = answer["currency"]
    limit = answer["limit"] if answer["limit"] is not None else answer["indicative_limit"]
    limit_label = (
        "limit 授信额度" if answer["limit"] is not None else "indicative limit, for the person who decides 参考额度"
    )
    headline = Text.assemble(
        ("approve 通过" if answer["decision"] == "approve" else "refer to a person 转人工", "bold"),
        f"   {limit_label}: {currency} {limit:,}   PD {answer['pd']:.2%}   score {answer['score']:.0f} "
        f"(line {answer['approval_line']:.0f})   grade {answer['grade'] or 'none 未评级'}",
    )
    sections: list[Any] = [
        headline,
        *(Text(f"  {why['en']} {why['zh']}", style="yellow") for why in answer["referral"]),
    ]
    for field, render in SECTIONS.items():
        if answer.get(field):
            sections += [Text(), render(answer[field])]
    simulated = "trained on SIMULATED data 模拟数据训练" if answer["simulated"] else "trained on real data 真实数据训练"
    subtitle = (
        f"{answer['model']['name']} {answer['model']['version']} · {simulated} · decision {answer['decision_id']}"
    )
    return Panel(
        Group(*sections),
        title=f"{name} (a made-up applicant 虚构的申请人)",
        subtitle=subtitle,
        title_align="left",
        subtitle_align="left",
    )


def _gate_table(gate: dict[str, Any]) -> Table:
    table = _new_table("shell gate 空壳闸门", VERDICT_LABELS[gate["verdict"]])
    table.add_row("  " + gate["en"], gate["zh"])
    for evidence in gate["evidence"]:
        table.add_row(f"▸ {evidence['points']:g}  {evidence['en']}", evidence["zh"])
    return table


def _innovation_table(innovation: dict[str, Any]) -> Table:
    table = _new_table("innovation 科创评分", "")
    table.add_row("  " + innovation["en"], innovation["zh"])
    for component in innovation["parts"]:
        weight = "" if component["weight"] is None else f" × {component['weight']:.2f}"
        bar = Bar(100, 0, component["score"] or 0, width=30, color="cyan")
        table.add_row(f"  {component['en']}{weight}", bar)
    return table


def _warnings_table(warnings: list[dict[str, Any]]) -> Table:
    table = _new_table("early warnings 预警", "")
    for warning in warnings:
        table.add_row(("▸ " if warning["severity"] == "act" else "  ") + warning["en"], warning["zh"])
    return table


def _new_table(*headers: str) -> Table:
    return Table(*headers, box=None, pad_edge=False, header_style="bold")


def _ledger_table(ledger: dict[str, Any]) -> Table:
    table = _new_table("ledger 额度台账", "")
    for bound in ledger["bounds"]:
        table.add_row(("▸ " if bound["binding"] else "  ") + bound["en"], bound["zh"])
    if "conduct" in ledger:
        table.add_row("  " + ledger["conduct"]["en"], ledger["conduct"]["zh"])
    for cap in ledger["caps"]:
        if cap["applied"]:
            table.add_row("▸ " + cap["en"], cap["zh"])
    table.add_row("  " + ledger["rounding"]["en"], ledger["rounding"]["zh"])
    return table


def _reasons_table(reasons: list[dict[str, Any]]) -> Table:
    table = _new_table("reasons 原因", "points 分", "")
    max_points = max((abs(reason["points"]) for reason in reasons), default=1.0) or 1.0
    for reason in reasons:
        points = reason["points"]
        width = 15 * abs(points) / max_points
        bar = (
            Bar(30, 15, 15 + width, width=30, color="green")
            if points > 0
            else Bar(30, 15 - width, 15, width=30, color="red")
        )
        table.add_row(reason["en"], f"{points:+.1f}", bar)
    return table


def _improvements(improvements: list[dict[str, Any]]) -> Group:
    lines = [Text(f"  {improvement['en']} {improvement['zh']}") for improvement in improvements]
    return Group(Text("What would raise it 提额途径", style="bold"), *lines)


# Of an answer, whichever product's, in the order in which they are read.
SECTIONS: dict[str, Callable[[Any], RenderableType]] = {
    "gate": _gate_table,
    "innovation": _innovation_table,
    "warnings": _warnings_table,
    "ledger": _ledger_table,
    "reasons": _reasons_table,
    "raises": _improvements,
}
