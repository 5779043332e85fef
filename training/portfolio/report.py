"""The figures as one HTML page for a credit committee: nothing in it is loaded from elsewhere, and nothing in it runs.

Company ids and texts come from outside; the template escapes every value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.portfolio import labels, plots
from training.portfolio.aggregates import ratio

PAGE = Path(__file__).with_name("report.html")
Called = Callable[[str, str | None], tuple[str, str]]  # (kind, code) -> English, Chinese
CONTENTS = (
    ("grades", "Grades", "等级"),
    ("migration", "Migration", "迁移"),
    ("exposure", "Trades", "行业"),
    ("concentration", "Concentration", "集中度"),
    ("gate", "Shell gate", "空壳筛查"),
    ("warnings", "Warnings", "预警"),
    ("stress", "Stress", "压力测试"),
    ("person", "For a person", "转人工"),
    ("quality", "Data quality", "数据质量"),
    ("about", "Model", "模型"),
)
BRIDGE = (
    ("before", "previous run", "上期"),
    ("gone", "companies gone", "退出企业"),
    ("stayed", "companies in both", "存续企业变动"),
    ("new", "new companies", "新进企业"),
    ("now", "this run", "本期"),
)


def render(
    found: Mapping[str, Any],
    about: Mapping[str, Any],
    limits: Sequence[float],
    names: labels.Names,
    previous_version: str = "",
) -> str:
    """The page. found: as `figures` made them; limits: each company's, for the curve of concentration."""
    from jinja2 import Environment, StrictUndefined

    env = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    env.filters |= {
        "n": number, "pct": percent, "pct2": percent_2, "millions": millions, "thousands": thousands,
        "money_en": money_en, "money_zh": money_zh, "signed": signed,
    }  # fmt: skip

    def called(kind: str, code: str | None) -> tuple[str, str]:
        return names.get((kind, code or ""), (labels.plain(code or ""), ""))

    head, before, trades = found["headline"], found["previous"], found["trades"]
    page = env.from_string(PAGE.read_text(encoding="utf-8"))
    grades = [row["grade"] for row in found["grades"]]
    cells = found["matrix_of_trades"]
    return page.render(
        **{name: found[name] for name in ("headline", "migration", "grades", "trades", "gate", "warnings", "stress",
                                          "referral", "binding", "quality")},
        about=about, before=before, held=found["concentration"], order=grades, contents=CONTENTS, bridge=BRIDGE,
        tiles=_tiles(head, before), said=sentences(found, called), plots=_plots(found, grades, limits),
        total_limit=head["limit"] or 1, total_loss=head["expected_loss"] or 1,
        most_loss=max((row["expected_loss"] for row in trades), default=0) or 1,
        most_cell=max((loss for row in cells.values() for loss in row), default=0) or 1,
        trade_grades=lambda trade: cells.get(trade, [0.0] * len(grades)),
        first_below=about["first_below"], trade_names=labels.trade, columns=labels.column, words=called,
        acts={row["code"] for row in found["warnings"]["codes"] if row["severity"] == "act"},
        marks={row["code"]: place for place, row in enumerate(found["gate"]["evidence"], 1)},
        stress_rows=_stress_rows(), facts=facts(about, found), previous_version=previous_version,
        model_changed=bool(previous_version) and previous_version != about["version"],
    )  # fmt: skip


def _plots(found: Mapping[str, Any], grades: list[str], limits: Sequence[float]) -> dict[str, str]:
    now = [row["share"] for row in found["grades"]]
    moved = found["migration"]
    then = [row["before_share"] for row in found["grades"]] if found["previous"] else None
    drawn = {"grades": plots.distribution(grades, now, then), "curve": plots.curve(limits)}
    if moved:
        drawn["migration"] = plots.heatmap(moved["grades"], moved["matrix"])
    if len(found["stress"]) > 1:
        shares = [row["shares"] for row in found["stress"]]
        drawn["stress"] = plots.stressed([f"S{at}" for at in range(len(shares))], grades, shares)
    return drawn


def _tiles(head: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The first six figures; `worse`: whether the change is one to ask about."""

    def delta(name: str, bad_up: bool | None) -> dict[str, Any]:
        if before is None or not before[name]:
            return {"delta": "", "worse": False}
        change = head[name] / before[name] - 1
        return {"delta": signed(change), "worse": bad_up is not None and change != 0 and (change > 0) == bad_up}

    granted, bp = head["with_limit"], f"{10_000 * head['loss_rate']:.0f}"
    return [
        {"name": ("Companies", "企业"), "value": number(head["companies"]), "zh": "户",
         "note": (f"{number(head['faulty'])} rows faulty", f"{number(head['faulty'])} 行有误"),
         **delta("companies", None)},
        {"name": ("Limits granted by the machine", "机器批准额度"), "value": f"RMB {money_en(head['limit'])}",
         "zh": f"{money_zh(head['limit'])}元",
         "note": (f"to {number(granted)} companies", f"共 {number(granted)} 户"), **delta("limit", None)},
        {"name": ("Expected loss a year", "年预期损失"), "value": f"RMB {money_en(head['expected_loss'])}",
         "zh": f"{money_zh(head['expected_loss'])}元",
         "note": (f"{bp} basis points of the limits", f"占额度 {bp} 个基点"), **delta("expected_loss", True)},
        {"name": ("Go to a person", "转人工"), "value": number(head["referred"]),
         "zh": percent(ratio(head["referred"], head["companies"])),
         "note": (f"below the floor: {number(head['below_floor'])}", f"低于准入等级：{number(head['below_floor'])}"),
         **delta("referred", True)},
        {"name": ("Blocked by the shell gate", "空壳拦截"), "value": number(head["blocked"]),
         "zh": percent(ratio(head["blocked"], head["companies"])),
         "note": (f"in review: {number(head['in_review'])}", f"复核：{number(head['in_review'])}"),
         **delta("blocked", True)},
        {"name": ("Signals that ask for an act", "须处置预警"), "value": number(head["act"]),
         "zh": percent(ratio(head["act"], head["companies"])),
         "note": (f"mean PD {percent_2(head['mean_pd'])}", f"平均违约率 {percent_2(head['mean_pd'])}"),
         **delta("act", True)},
    ]  # fmt: skip


def sentences(found: Mapping[str, Any], called: Called) -> list[tuple[str, str]]:
    """What somebody with one minute should read."""
    head, before, moved, held = found["headline"], found["previous"], found["migration"], found["concentration"]
    told = []
    if before and moved:
        limit, loss = (signed(ratio(head[name] - before[name], before[name])) for name in ("limit", "expected_loss"))
        told.append((
            f"Since {before['month']} limits changed by {limit} and expected loss by {loss}; "
            f"{percent(moved['share_up'])} of the companies moved up, {percent(moved['share_down'])} down, and "
            f"{number(moved['newly_blocked'])} are newly blocked.",
            f"较 {before['month']}，额度变动 {limit}，预期损失变动 {loss}；{percent(moved['share_up'])} 的企业上调，"
            f"{percent(moved['share_down'])} 下调，新增拦截 {number(moved['newly_blocked'])} 户。",
        ))  # fmt: skip
    if found["trades"] and head["limit"]:
        top = found["trades"][0]
        en, zh = labels.trade(top["trade"])
        share = percent(ratio(top["limit"], head["limit"]))
        loss = percent(ratio(top["expected_loss"], head["expected_loss"]))
        told.append((
            f"The trade with the largest limits is {en}: {share} of the limits and {loss} of the expected loss; the "
            f"{len(held['top'])} largest companies hold {percent(held['top_share'])}.",
            f"额度最大的行业为{zh or en}：占额度 {share}，占预期损失 {loss}；前 {len(held['top'])} 户合计占 "
            f"{percent(held['top_share'])}。",
        ))  # fmt: skip
    base, shocks = found["stress"][0], found["stress"][1:]
    if shocks:
        worst = max(shocks, key=lambda row: row["loss_on_held"])
        was, is_ = base["loss_on_held"], worst["loss_on_held"]
        times = f"{ratio(is_, was):.1f}"
        told.append((
            f"The hardest of {len(shocks)} shocks ({worst['en']}) takes the expected loss on today's limits from RMB "
            f"{money_en(was)} to {money_en(is_)} ({times} times) and {number(worst['newly_below_floor'])} more "
            "companies below the floor.",
            f"{len(shocks)} 种压力情景中最重者（{worst['zh']}）使现有额度的预期损失由 {money_zh(was)}元升至 "
            f"{money_zh(is_)}元（{times} 倍），另有 {number(worst['newly_below_floor'])} 户降至准入等级以下。",
        ))  # fmt: skip
    gate = found["gate"]
    if gate["evidence"]:
        en, zh = called("evidence", gate["evidence"][0]["code"])
        size = gate["loops"][0]["size"] if gate["loops"] else 0
        told.append((
            f"The gate blocks {number(head['blocked'])} companies and sends {number(head['in_review'])} to review; "
            f"the most common evidence is: {en}."
            + (f" The largest invoice loop has {size} members." if size else ""),
            f"筛查拦截 {number(head['blocked'])} 户，须复核 {number(head['in_review'])} 户，最常见证据为：{zh or en}。"
            + (f"最大开票循环含 {size} 家企业。" if size else ""),
        ))  # fmt: skip
    causes = found["referral"]
    if causes:
        en, zh = called("referral", causes[0]["code"])
        told.append((
            f"{number(head['referred'])} companies wait for a person, most often because: {en}.",
            f"{number(head['referred'])} 户待人工处理，最常见原因：{zh or en}。",
        ))  # fmt: skip
    return told


def _stress_rows() -> tuple[tuple[str, str, str, Any], ...]:
    return (
        ("loss_on_held", "Expected loss on today's limits, RMB k a year", "现有额度损失 千元/年", thousands),
        ("mean_pd", "Mean PD", "平均违约率", percent_2),
        ("below_floor", "Companies below the floor", "低于准入等级户数", number),
        ("approved", "Approved anew", "重新审批：批准户数", number),
        ("limit", "Limits anew, RMB m", "重新审批：额度 百万元", millions),
        ("expected_loss", "Expected loss anew, RMB k a year", "重新审批：预期损失 千元/年", thousands),
    )


def facts(about: Mapping[str, Any], found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Model, policy, run and inputs by digest, so that every figure can be traced back."""
    terms = f"LGD {about['lgd']:g}, CCF {about['ccf']:g}, floor grade {about['floor']}"
    told = [
        ("model 模型", f"{about['model']} {about['version']}, trained {about['trained']}"),
        ("purpose 用途", about["purpose"]),
        ("bundle digest 模型包摘要", about["bundle"]),
        ("policy 政策", f"{about['policy_version']}; {terms}"),
        ("held-out figures 留出集指标", about["judged"]),
        ("training data 训练数据", about["trained_on"]),
        ("run 运行", f"{about['run']}; commit {about['git_commit'] or 'none'}"),
    ]  # fmt: skip
    told += [(f"{one['name']} SHA-256", f"{one['sha256']} ({number(one['rows'])} rows)") for one in about["inputs"]]
    return [(name, value) for name, value in told if value]


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def percent_2(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def signed(value: float) -> str:
    return f"{value:+.1%}"


def millions(value: float) -> str:
    return f"{value / 1e6:,.1f}"


def thousands(value: float) -> str:
    return f"{value / 1e3:,.0f}" if abs(value) >= 1e5 else f"{value / 1e3:,.1f}"


def money_en(value: float) -> str:
    """1.23 bn, 45.6 m, 7.8 k."""
    for size, word, places in ((1e9, "bn", 2), (1e6, "m", 1), (1e3, "k", 1)):
        if abs(value) >= size:
            return f"{value / size:,.{places}f} {word}"
    return f"{value:,.0f}"


def money_zh(value: float) -> str:
    """12.3 亿, 4,560 万."""
    for size, word, places in ((1e8, "亿", 2), (1e4, "万", 1)):
        if abs(value) >= size:
            return f"{value / size:,.{places}f} {word}"
    return f"{value:,.0f} "
