"""Renders the performance reports as one HTML file in English and Chinese, with inline SVG plots and no requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

Row = dict[str, Any]

MAX_INPUTS = 15  # in the drift plot, those with the smallest q
STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1b2230, #e6e9ef); --dim: light-dark(#667085, #98a2b3);
  --line: light-dark(#d0d5dd, #344054); --mark: light-dark(#1f5fbf, #7fb0ff); --bad: light-dark(#b42318, #ff8a7a); }
body { font: 15px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; color: var(--ink); max-width: 68rem;
  margin: 2rem auto; padding: 0 1rem; background: light-dark(#fff, #12161f); }
h1 { font-size: 1.5rem }
h2 { font-size: 1.15rem; margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .75rem 2rem; margin: 1rem 0 }
dt { color: var(--dim); font-size: .85rem } dd { margin: 0; font-variant-numeric: tabular-nums }
figure { display: inline-block; margin: 1rem 2rem 1rem 0; vertical-align: top; max-width: 100% }
figcaption { color: var(--dim); font-size: .85rem } p.remark { color: var(--dim); margin: .25rem 0 }
svg { display: block; max-width: 100% } text { fill: var(--ink); font-size: 11px }
.axis { stroke: var(--line); fill: none } .mark { stroke: var(--mark); fill: var(--mark) }
.soft { fill: var(--line) } .bad { fill: var(--bad); stroke: var(--bad) }
"""
METRICS = (  # of a report: name, English, Chinese
    ("decisions", "decisions", "决定"),
    ("slides", "slides read", "已阅切片数"),
    ("positive_rate", "approved, or flagged", "获批率／阳性率"),
    ("override_rate", "overridden by a person", "人工改判率"),
    ("abstained_rate", "abstained", "机器弃权率"),
    ("auc", "discrimination (AUC)", "区分度（AUC）"),
    ("sensitivity", "sensitivity", "敏感度"),
    ("specificity", "specificity", "特异度"),
)
CALIBRATION_METRICS = (
    ("slope", "calibration slope (1 is perfect)", "校准斜率（1 为佳）"),
    ("intercept", "calibration intercept (0 is perfect)", "校准截距（0 为佳）"),
    ("ratio", "observed to expected (1 is perfect)", "实际与预期之比（1 为佳）"),
)


def render_page(effects: Sequence[Row], generated: str) -> str:
    """effects: reports of `model_performance`. generated: the line below the title."""
    sections = [_render_report(report) for report in effects] or ["<p>There are no decisions yet. 尚无记录。</p>"]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Effects 效果分析</title><style>{STYLE}</style>'
    return f"{head}<h1>Effects 效果分析</h1><p class=remark>{escape(generated)}</p>{''.join(sections)}</html>\n"


def _render_report(report: Row) -> str:
    entries = [(en, zh, _format_number(report[name])) for name, en, zh in METRICS if report.get(name) is not None]
    calibration = report.get("calibration")
    if calibration is not None:
        entries += [
            (en, zh, _format_number(calibration[name]))
            for name, en, zh in CALIBRATION_METRICS
            if calibration[name] is not None
        ]
    for name, en, zh in (
        ("read", "arrival of the complete slide to reading", "切片完整送达至阅片"),
        ("signed", "arrival of the complete slide to signature", "切片完整送达至签发"),
    ):
        if hours := report.get("turnaround_hours", {}).get(name):
            entries.append((en, zh, f"{hours['median']:.1f} h, 90 %: {hours['p90']:.1f} h ({hours['slides']:,})"))
    for name, en, zh in (("outcomes", "outcomes", "已知结果"), ("diagnoses", "diagnoses", "已知诊断")):
        if report.get(name):
            entries.append((en, zh, ", ".join(f"{key} {value:,}" for key, value in report[name].items())))
    numbers = "".join(f"<div><dt>{en} {zh}</dt><dd>{escape(value)}</dd></div>" for en, zh, value in entries)
    figures = [] if calibration is None else [_reliability_plot(calibration["groups"])]
    if report.get("drift") is not None:
        figures.append(_drift_plot(report["drift"]))
        drifted = [row for row in (*report["drift"]["inputs"], report["drift"]["score"]) if row["drifted"]]
        figures += [_histogram_plot(row) for row in sorted(drifted, key=lambda row: -row["psi"])[:6]]
    remarks = "".join(
        f"<p class=remark>{escape(remark['en'])} {escape(remark['zh'])}</p>" for remark in report["remarks"]
    )
    title = escape(f"{report['model']} {report['version']} · {report['tenant']}")
    return f"<section><h2>{title}</h2><dl>{numbers}</dl>{remarks}{''.join(figures)}</section>"


def _format_number(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value['value']:.3f}  ({value['low']:.3f} – {value['high']:.3f})"


def _figure(svg: str, width: int, height: int, en: str, zh: str) -> str:
    svg = f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">{svg}</svg>'
    caption = f"<figcaption>{escape(en)}<br>{escape(zh)}</figcaption>"
    return f'<figure style="width:{width}px">{svg}{caption}</figure>'


def _reliability_plot(groups: Sequence[Row]) -> str:
    """Predicted PD against the share that defaulted, with its interval; a perfect model is on the diagonal."""
    side, edge = 280, 36
    upper = min(1.0, 1.05 * max(max(group["pd"], group["high"]) for group in groups))

    def to_pixels(x: float, y: float) -> tuple[float, float]:
        span = side - edge - 16
        return edge + x / upper * span, side - edge - y / upper * span

    (x0, y0), (x1, y1) = to_pixels(0, 0), to_pixels(upper, upper)
    parts = [f'<path class="axis" d="M{x0:.1f} {y1:.1f}V{y0:.1f}H{x1:.1f}M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"/>']
    for group in groups:
        (x, y), (_, low), (_, high) = (to_pixels(group["pd"], group[name]) for name in ("bad", "low", "high"))
        parts.append(f'<path class="mark" fill="none" d="M{x:.1f} {low:.1f}V{high:.1f}"/>')
        parts.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
    for tick in (0.0, upper / 2, upper):
        (x, y) = to_pixels(tick, tick)
        parts.append(f'<text x="{x:.1f}" y="{side - edge + 16}" text-anchor="middle">{tick:.2f}</text>')
        parts.append(f'<text x="{edge - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.2f}</text>')
    return _figure(
        "".join(parts),
        side,
        side,
        "Predicted PD (horizontal) and share that defaulted",
        "横轴：预测违约概率；纵轴：实际违约率",
    )


def _drift_plot(drift: Row) -> str:
    """The PSI of the score and of the most drifted inputs, each with its 95th percentile under no drift."""
    rows = [drift["score"], *sorted(drift["inputs"], key=lambda row: (row["q"], -row["psi"]))[: MAX_INPUTS - 1]]
    width, left, row_height = 620, 300, 20
    max_psi = max(1e-9, *(max(row["psi"], row["threshold"]) for row in rows))

    def to_x(psi: float) -> float:
        return left + math.sqrt(psi / max_psi) * (width - left - 60)

    parts = []
    for i, row in enumerate(rows):
        y, psi_x, threshold_x = i * row_height + 4, to_x(row["psi"]), to_x(row["threshold"])
        css_class = "bad" if row["drifted"] else "mark"
        name = f"{row['en'][:34]} {row['zh'][:14]}"
        parts.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="{css_class}" x="{left}" y="{y}" width="{max(1.0, psi_x - left):.1f}" height="12"/>')
        parts.append(f'<path class="axis" style="stroke:var(--ink)" d="M{threshold_x:.1f} {y - 2}v16"/>')
        parts.append(f'<text x="{max(psi_x, threshold_x) + 6:.1f}" y="{y + 11}">{row["psi"]:.3f}</text>')
    en = f"PSI of {drift['rows']:,} rows against {drift['reference_rows']:,}. Tick: exceeded by chance 1 time in 20. "
    zh = f"{drift['rows']:,} 行相对 {drift['reference_rows']:,} 行的 PSI。刻线：随机波动仅二十分之一会超过；"
    en, zh = f"{en}Red: drifted, after correction for multiple tests.", f"{zh}红色：经多重检验校正仍判为漂移。"
    return _figure("".join(parts), width, len(rows) * row_height + 8, en, zh)


def _histogram_plot(row: Row) -> str:
    """Shares by bin in training and now; the last bin is of missing values."""
    before, after = row["before"], row["after"]
    width, height, step = 260, 110, 250 / len(before)
    shares = [[value / max(1, sum(counts)) for value in counts] for counts in (before, after)]
    max_share = max(max(shares[0]), max(shares[1]))
    parts = []
    for i, (reference, current) in enumerate(zip(*shares, strict=True)):
        for share, css_class, offset in ((reference, "soft", 0.08), (current, "bad", 0.5)):
            bar_height = share / max_share * (height - 10)
            x, bar_width = 5 + (i + offset) * step, step * 0.4
            parts.append(
                f'<rect class="{css_class}" stroke="none" x="{x:.1f}" y="{height - bar_height:.1f}" '
                f'width="{bar_width:.1f}" height="{bar_height:.1f}"/>'
            )
    captions = (
        f"{row['en']}: in training (grey) and now; the last bin is of missing values",
        f"{row['zh']}：训练时（灰）与现在；末格为缺失值",
    )
    return _figure("".join(parts), width, height, *captions)
