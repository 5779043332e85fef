"""Render the figures as one HTML page for a credit committee. The page loads nothing and contains no scripts.

Company ids and texts are untrusted, so the template escapes every value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.portfolio import labels, plots
from training.portfolio.aggregates import safe_ratio

TEMPLATE = Path(__file__).with_name("report.html")
CodeLabelFn = Callable[[str, str | None], tuple[str, str]]  # (kind, code) -> English, Chinese
CONTENTS = (
    ("grades", "Grades", "等级"),
    ("migration", "Migration", "迁移"),
    ("exposure", "Trades", "行业"),
    ("concentration", "Concentration", "集中度"),
    ("gate", "Shell gate", "空壳筛查"),
    ("warnings", "Warnings", "预警"),
    ("stress", "Stress", "压力测试"),
    ("person", "Referrals", "转人工"),
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
    figures: Mapping[str, Any],
    about: Mapping[str, Any],
    limits: Sequence[float],
    names: labels.CodeLabels,
    previous_version: str = "",
) -> str:
    """Render the page.

    figures: from compute_figures; about: the metadata of the run; limits: of all companies, for the Lorenz curve;
    names: from policy_labels.
    """
    from jinja2 import Environment, StrictUndefined

    env = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    env.filters |= {
        "n": format_number, "pct": format_percent, "pct2": format_percent_2, "millions": format_millions,
        "thousands": format_thousands, "money_en": money_en, "money_zh": money_zh, "signed": format_signed,
    }  # fmt: skip

    def code_label(kind: str, code: str | None) -> tuple[str, str]:
        return names.get((kind, code or ""), (labels.humanize_code(code or ""), ""))

    headline, previous, trades = figures["headline"], figures["previous"], figures["trades"]
    template = env.from_string(TEMPLATE.read_text(encoding="utf-8"))
    grades = [row["grade"] for row in figures["grades"]]
    loss_matrix = figures["matrix_of_trades"]
    return template.render(
        **{name: figures[name] for name in ("headline", "migration", "grades", "trades", "gate", "warnings", "stress",
                                          "referral", "binding", "quality")},
        about=about, before=previous, concentration=figures["concentration"], grade_order=grades, contents=CONTENTS,
        bridge=BRIDGE, tiles=_summary_tiles(headline, previous), key_messages=key_messages(figures, code_label),
        plots=_render_plots(figures, grades, limits),
        total_limit=headline["limit"] or 1, total_loss=headline["expected_loss"] or 1,
        max_loss=max((row["expected_loss"] for row in trades), default=0) or 1,
        max_cell_loss=max((loss for row in loss_matrix.values() for loss in row), default=0) or 1,
        trade_grades=lambda trade: loss_matrix.get(trade, [0.0] * len(grades)),
        first_below=about["first_below"], trade_names=labels.trade_label, columns=labels.column, code_label=code_label,
        act_codes={row["code"] for row in figures["warnings"]["codes"] if row["severity"] == "act"},
        evidence_numbers={row["code"]: position for position, row in enumerate(figures["gate"]["evidence"], 1)},
        stress_rows=_stress_rows(), facts=provenance_facts(about, figures), previous_version=previous_version,
        model_changed=bool(previous_version) and previous_version != about["version"],
    )  # fmt: skip


def _render_plots(figures: Mapping[str, Any], grades: list[str], limits: Sequence[float]) -> dict[str, str]:
    current_shares = [row["share"] for row in figures["grades"]]
    migration_figures = figures["migration"]
    previous_shares = [row["before_share"] for row in figures["grades"]] if figures["previous"] else None
    images = {
        "grades": plots.plot_grade_distribution(grades, current_shares, previous_shares),
        "curve": plots.plot_lorenz_curve(limits),
    }
    if migration_figures:
        images["migration"] = plots.plot_migration_heatmap(migration_figures["grades"], migration_figures["matrix"])
    if len(figures["stress"]) > 1:
        shares = [row["shares"] for row in figures["stress"]]
        images["stress"] = plots.plot_stressed_grades([f"S{number}" for number in range(len(shares))], grades, shares)
    return images


def _summary_tiles(headline: Mapping[str, Any], previous: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The six figures of the first page; `worse`: whether the change is for the worse."""

    def delta(name: str, worse_if_higher: bool | None) -> dict[str, Any]:
        if previous is None or not previous[name]:
            return {"delta": "", "worse": False}
        change = headline[name] / previous[name] - 1
        return {
            "delta": format_signed(change),
            "worse": worse_if_higher is not None and change != 0 and (change > 0) == worse_if_higher,
        }

    basis_points = f"{10_000 * headline['loss_rate']:.0f}"
    numbers = {name: format_number(headline[name]) for name in (
        "companies", "faulty", "with_limit", "referred", "below_floor", "blocked", "in_review", "act")}  # fmt: skip
    shares = {name: format_percent(safe_ratio(headline[name], headline["companies"])) for name in (
        "referred", "blocked", "act")}  # fmt: skip
    mean_pd = format_percent_2(headline["mean_pd"])
    limit, loss = headline["limit"], headline["expected_loss"]
    return [
        {"name": ("Companies", "企业"), "value": numbers["companies"], "zh": "户",
         "note": (f"{numbers['faulty']} rows with errors", f"{numbers['faulty']} 行有误"), **delta("companies", None)},
        {"name": ("Limits approved automatically", "自动批准额度"), "value": f"RMB {money_en(limit)}",
         "zh": f"{money_zh(limit)}元",
         "note": (f"to {numbers['with_limit']} companies", f"共 {numbers['with_limit']} 户"), **delta("limit", None)},
        {"name": ("Expected loss a year", "年预期损失"), "value": f"RMB {money_en(loss)}", "zh": f"{money_zh(loss)}元",
         "note": (f"{basis_points} basis points of the limits", f"占额度 {basis_points} 个基点"),
         **delta("expected_loss", True)},
        {"name": ("Referred to a person", "转人工"), "value": numbers["referred"], "zh": shares["referred"],
         "note": (f"below the floor: {numbers['below_floor']}", f"低于准入等级：{numbers['below_floor']}"),
         **delta("referred", True)},
        {"name": ("Blocked by the shell gate", "空壳拦截"), "value": numbers["blocked"], "zh": shares["blocked"],
         "note": (f"in review: {numbers['in_review']}", f"复核：{numbers['in_review']}"), **delta("blocked", True)},
        {"name": ("Warnings that require action", "须处置预警"), "value": numbers["act"], "zh": shares["act"],
         "note": (f"mean PD {mean_pd}", f"平均违约率 {mean_pd}"), **delta("act", True)},
    ]  # fmt: skip


def key_messages(figures: Mapping[str, Any], code_label: CodeLabelFn) -> list[tuple[str, str]]:
    """The findings for a reader with one minute."""
    headline, previous, migration_figures, concentration = (
        figures["headline"],
        figures["previous"],
        figures["migration"],
        figures["concentration"],
    )
    messages = []
    if previous and migration_figures:
        limit, loss = (
            format_signed(safe_ratio(headline[name] - previous[name], previous[name]))
            for name in ("limit", "expected_loss")
        )
        messages.append((
            f"Since {previous['month']} limits changed by {limit} and expected loss by {loss}; "
            f"{format_percent(migration_figures['share_up'])} of the companies moved up, "
            f"{format_percent(migration_figures['share_down'])} down, and "
            f"{format_number(migration_figures['newly_blocked'])} are newly blocked.",
            f"较 {previous['month']}，额度变动 {limit}，预期损失变动 "
            f"{loss}；{format_percent(migration_figures['share_up'])} 的企业上调，"
            f"{format_percent(migration_figures['share_down'])} 下调，新增拦截 "
            f"{format_number(migration_figures['newly_blocked'])} 户。",
        ))  # fmt: skip
    if figures["trades"] and headline["limit"]:
        largest_trade = figures["trades"][0]
        en, zh = labels.trade_label(largest_trade["trade"])
        share = format_percent(safe_ratio(largest_trade["limit"], headline["limit"]))
        loss = format_percent(safe_ratio(largest_trade["expected_loss"], headline["expected_loss"]))
        messages.append((
            f"The trade with the largest limits is {en}: {share} of the limits and {loss} of the expected loss; the "
            f"{len(concentration['top'])} largest companies hold {format_percent(concentration['top_share'])}.",
            f"额度最大的行业为{zh or en}：占额度 {share}，占预期损失 {loss}；前 {len(concentration['top'])} 户合计占 "
            f"{format_percent(concentration['top_share'])}。",
        ))  # fmt: skip
    baseline, shocks = figures["stress"][0], figures["stress"][1:]
    if shocks:
        worst_shock = max(shocks, key=lambda row: row["loss_on_held"])
        baseline_loss, stressed_loss = baseline["loss_on_held"], worst_shock["loss_on_held"]
        loss_multiple = f"{safe_ratio(stressed_loss, baseline_loss):.1f}"
        messages.append((
            f"The most severe of {len(shocks)} shocks ({worst_shock['en']}) raises the expected loss on today's limits "
            "from "
            f"RMB {money_en(baseline_loss)} to {money_en(stressed_loss)} ({loss_multiple} times) and moves "
            f"{format_number(worst_shock['newly_below_floor'])} more companies below the floor.",
            f"{len(shocks)} 种压力情景中最重者（{worst_shock['zh']}）使现有额度的预期损失由 "
            f"{money_zh(baseline_loss)}元升至 "
            f"{money_zh(stressed_loss)}元（{loss_multiple} 倍），另有 "
            f"{format_number(worst_shock['newly_below_floor'])} 户降至准入等级以下。",
        ))  # fmt: skip
    gate = figures["gate"]
    if gate["evidence"]:
        en, zh = code_label("evidence", gate["evidence"][0]["code"])
        size = gate["loops"][0]["size"] if gate["loops"] else 0
        messages.append((
            f"The gate blocks {format_number(headline['blocked'])} companies and refers "
            f"{format_number(headline['in_review'])} for review; the most common evidence is: {en}."
            + (f" The largest invoice loop has {size} members." if size else ""),
            f"筛查拦截 {format_number(headline['blocked'])} 户，须复核 {format_number(headline['in_review'])} "
            f"户，最常见证据为：{zh or en}。"
            + (f"最大开票循环含 {size} 家企业。" if size else ""),
        ))  # fmt: skip
    referral_causes = figures["referral"]
    if referral_causes:
        en, zh = code_label("referral", referral_causes[0]["code"])
        messages.append((
            f"{format_number(headline['referred'])} companies are referred to a person, most often for: {en}.",
            f"{format_number(headline['referred'])} 户待人工处理，最常见原因：{zh or en}。",
        ))  # fmt: skip
    return messages


def _stress_rows() -> tuple[tuple[str, str, str, Any], ...]:
    return (
        ("loss_on_held", "Expected loss on today's limits, RMB k a year", "现有额度损失 千元/年", format_thousands),
        ("mean_pd", "Mean PD", "平均违约率", format_percent_2),
        ("below_floor", "Companies below the floor", "低于准入等级户数", format_number),
        ("approved", "Approved after reassessment", "重新审批：批准户数", format_number),
        ("limit", "Limits after reassessment, RMB m", "重新审批：额度 百万元", format_millions),
        (
            "expected_loss",
            "Expected loss after reassessment, RMB k a year",
            "重新审批：预期损失 千元/年",
            format_thousands,
        ),
    )


def provenance_facts(about: Mapping[str, Any], figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Model, policy, run and inputs with their digests, so that every figure can be traced."""
    terms = f"LGD {about['lgd']:g}, CCF {about['ccf']:g}, floor grade {about['floor']}"
    entries = [
        ("model 模型", f"{about['model']} {about['version']}, trained {about['trained']}"),
        ("purpose 用途", about["purpose"]),
        ("bundle digest 模型包摘要", about["bundle"]),
        ("policy 政策", f"{about['policy_version']}; {terms}"),
        ("held-out metrics 留出集指标", about["judged"]),
        ("training data 训练数据", about["trained_on"]),
        ("run 运行", f"{about['run']}; commit {about['git_commit'] or 'none'}"),
    ]  # fmt: skip
    entries += [
        (f"{source['name']} SHA-256", f"{source['sha256']} ({format_number(source['rows'])} rows)")
        for source in about["inputs"]
    ]
    return [(name, value) for name, value in entries if value]


def format_number(value: float | None) -> str:
    """An integer with thousands separators; a dash for None."""
    return "–" if value is None else f"{value:,.0f}"


def format_percent(value: float | None) -> str:
    """A share in percent with one decimal; a dash for None."""
    return "–" if value is None else f"{value:.1%}"


def format_percent_2(value: float | None) -> str:
    """A share in percent with two decimals; a dash for None."""
    return "–" if value is None else f"{value:.2%}"


def format_signed(value: float) -> str:
    """A relative change in percent with its sign."""
    return f"{value:+.1%}"


def format_millions(value: float) -> str:
    """An amount in millions."""
    return f"{value / 1e6:,.1f}"


def format_thousands(value: float) -> str:
    """An amount in thousands."""
    return f"{value / 1e3:,.0f}" if abs(value) >= 1e5 else f"{value / 1e3:,.1f}"


def money_en(value: float) -> str:
    """An amount such as 1.23 bn, 45.6 m or 7.8 k."""
    for size, suffix, decimals in ((1e9, "bn", 2), (1e6, "m", 1), (1e3, "k", 1)):
        if abs(value) >= size:
            return f"{value / size:,.{decimals}f} {suffix}"
    return f"{value:,.0f}"


def money_zh(value: float) -> str:
    """An amount such as 12.3 亿 or 4,560 万."""
    for size, suffix, decimals in ((1e8, "亿", 2), (1e4, "万", 1)):
        if abs(value) >= size:
            return f"{value / size:,.{decimals}f} {suffix}"
    return f"{value:,.0f} "
