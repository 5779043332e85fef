"""The model card in Markdown: for a risk officer, an auditor, and whoever must answer for the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from models.card import Card
from training.evaluation.evaluate import Judgement
from training.evaluation.metrics import Interval
from training.evaluation.promotion_gate import Verdict

FIGURES = (
    ("auc", "AUC", "1 is perfect, 0.5 a coin"),
    ("gini", "Gini", "2 AUC - 1"),
    ("ks", "KS", "widest gap between the outcomes' distributions"),
    ("h", "H-measure", "discrimination at costs fixed beforehand (Hand 2009)"),
    ("brier", "Brier score", "mean squared error of the PD; smaller is better"),
    ("slope", "calibration slope", "1 is perfect; below 1 the PDs are too far apart"),
    ("intercept", "calibration intercept", "0 is perfect; above 0 the PDs are too low"),
)
UNREAD = {
    "with_moral_data": "**Moral data.** The PD never reads the moral groups; they act through the uplift of the limit.",
    "with_shell_flags": "**Shell flags.** The PD never reads them; the gate does, and its block makes the limit 0.",
}
CAVEATS = (
    "The figures hold for applicants like those of the table. Those whom an earlier policy refused are not in it, and "
    "nothing here corrects for that (reject inference).",
    "A PD is a frequency among borrowers with like indicators, no statement about the character of one of them.",
    "A reason says what moved this score. It is not a cause: changing the indicator need not change the risk.",
    "The profit assumes that every limit is drawn as the policy says, for one year, without fees or cost of capital.",
    "Ratios between audit groups are descriptive. A ratio near 1 does not show that a decision is fair, nor one far "
    "from 1 that it is not; both are read by a person.",
)


def text(
    card: Card, judgement: Judgement, verdict: Verdict | None, plots: Sequence[Path], remarks: Sequence[str]
) -> str:
    """The card as Markdown; `plots` are named as they lie in `plots/` beside it."""
    parts = [
        f"# {card.model}, version {card.version}",
        _banner(card),
        f"**Purpose.** {card.purpose} {card.purpose_zh}".rstrip(),
        f"**Horizon.** Default within {card.horizon}." if card.horizon else "",
        f"**Not for.** {card.not_for} {card.not_for_zh}".rstrip(),
        _made(card, judgement),
        _figures(judgement),
        _beside(judgement),
        _decisions(judgement),
        _groups(judgement),
        _stability(judgement),
        the_gate(verdict),
        "## What to keep in mind\n\n" + bullets([*CAVEATS, *remarks, *judgement.remarks]),
        _inputs(card),
        "## Plots\n\n" + "\n\n".join(f"![{path.stem}](plots/{path.name})" for path in plots) if plots else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _banner(card: Card) -> str:
    if not card.simulated:
        return ""
    return (
        "> **Simulated data (模拟数据).** Nobody in this table exists. No figure below says anything about real people."
    )


def _made(card: Card, judgement: Judgement) -> str:
    lines = []
    for data in card.data:
        licence = f", {data.licence}" if data.licence else ""
        lines.append(f"Data: {data.name}, {data.rows:,} rows ({data.source}{licence}), SHA-256 `{data.sha256}`.")
        lines.append(f"Split: {data.split}; SHA-256 `{data.split_sha256}`.")
    lines += [
        f"Trained on {judgement.train_rows:,} rows, judged on {judgement.rows:,} that it never saw "
        f"({judgement.bad_rate:.1%} of them bad).",
        f"Made {card.created}, commit `{card.git_commit or 'none'}`, run `{card.run_id or 'none'}`, seed {card.seed}.",
        "Small monotone trees: every contribution is an exact Shapley value. Categories are ordinal codes.",
    ]
    return "## How it was made\n\n" + bullets(lines)


def _figures(judgement: Judgement) -> str:
    note = f"On its own training rows the AUC is {judgement.train_auc:.4f}."
    return f"## How good it is\n\n{measured(judgement.figures)}\n\n{note}"


def measured(figures: Mapping[str, Interval], of: str = "held-out rows") -> str:
    """The figures of training.evaluation.metrics as a table; `of`: what they were measured on."""
    rows = [(label, three(figures[name]), note) for name, label, note in FIGURES]
    return table(("figure", f"{of} [95 % interval]", ""), rows)


def _beside(judgement: Judgement) -> str:
    if not judgement.beside:
        return ""
    rows = [(one.what, three(one.auc), three(one.less, sign=True)) for one in judgement.beside.values()]
    said = [_price(judgement), _unread(judgement)]
    beside = table(("on the same held-out rows", "AUC", "this model's AUC less its own"), rows)
    return "## Beside other models\n\n" + "\n\n".join([beside, *(line for line in said if line)])


def _price(judgement: Judgement) -> str:
    other = judgement.beside.get("unconstrained")
    if other is None:
        return ""
    cost, low, high = -other.less.value, -other.less.high, -other.less.low
    worth = "costs" if cost > 0 else "costs nothing; it gains"
    chance = " (chance alone could explain the difference)" if low <= 0 <= high else ""
    return (
        f"**The price of explainability.** Against LightGBM left free, keeping the trees small and monotone {worth} "
        f"{abs(cost):.4f} of AUC{chance}."
    )


def _unread(judgement: Judgement) -> str:
    return "\n\n".join(
        f"{what} Read by the PD they would change its AUC by {-other.less.value:+.4f} "
        f"[{-other.less.high:+.4f}, {-other.less.low:+.4f}]. That model was fitted to say so and is not kept."
        for name, what in UNREAD.items()
        if (other := judgement.beside.get(name)) is not None
    )


def _decisions(judgement: Judgement) -> str:
    earned = judgement.profit
    lines = [
        f"{judgement.cleared:.1%} clear the approval line; {judgement.approved:.1%} would be approved, "
        "the rest goes to a person.",
        f"Median limit of those who have one: {judgement.median_limit:,.0f} {earned.currency}."
        if np.isfinite(judgement.median_limit)
        else "No row has a limit.",
        f"Profit per applicant a year, {earned.currency}: {_money(earned.at_line)} at the policy's line, "
        f"{_money(earned.approve_all)} if all were approved, a gain of {_money(earned.gain)}. "
        f"The best cut-off on these rows is a PD of {earned.best_cut_off:.1%} ({earned.best:,.0f}). "
        f"Amounts: {earned.exposure}.",
    ]
    if judgement.referred:
        common = sorted(judgement.referred.items(), key=lambda item: -item[1])
        lines.append("Why a person decides: " + ", ".join(f"{code} ({rows:,} rows)" for code, rows in common) + ".")
    return "## What it would decide\n\n" + bullets(lines)


def _groups(judgement: Judgement) -> str:
    if not judgement.groups:
        return "## Audit groups\n\nThe table has no audit group that is large enough to look at."
    rows = [
        (
            group.name,
            f"{group.rows:,}",
            f"{group.bad_rate:.1%}",
            f"{group.mean_pd:.1%}",
            three(group.figures["auc"]),
            three(group.figures["slope"], digits=2),
            f"{group.approval:.1%}",
            three(group.approval_ratio, digits=2),
            three(group.limit_ratio_at_equal_pd, digits=2),
        )
        for group in judgement.groups
    ]
    heads = (
        "group",
        "rows",
        "bad",
        "mean PD",
        "AUC",
        "slope",
        "approved",
        "approval ratio",
        "limit ratio at equal PD",
    )
    told = "Ratios are to the attribute's largest group, which stands first. No model reads these columns."
    return f"## Audit groups\n\n{told}\n\n{table(heads, rows)}"


def _stability(judgement: Judgement) -> str:
    moved = sorted(judgement.psi.items(), key=lambda item: -item[1])
    rows = [(name, f"{value:.3f}") for name, value in moved[:8]]
    told = "Population stability index, training to held-out rows; under 0.1 is stable. The largest:"
    return f"## Stability\n\n{told}\n\n" + table(("", "PSI"), rows)


def the_gate(verdict: Verdict | None) -> str:
    """Every check, passed or not."""
    if verdict is None:
        return ""
    head = "Passed." if verdict.passed else "Not passed: the champion stays, and this is the challenger."
    lines = [f"{'passed' if check.passed else '**failed**'}: {check}" for check in verdict.checks]
    return f"## The gate\n\n{head}\n\n" + bullets(lines)


def _inputs(card: Card) -> str:
    arrow = {1: "more is riskier", -1: "more is safer", 0: ""}
    rows = [(f"`{c.name}`", c.label, c.label_zh, c.unit or c.kind, arrow[c.direction], c.group) for c in card.inputs]
    return "## Inputs\n\n" + table(("name", "English", "中文", "unit", "direction", "indicator group"), rows)


def three(found: Interval, sign: bool = False, digits: int = 4) -> str:
    """value [low, high]; a dash where there is none."""
    if not np.isfinite(found.value):
        return "–"
    form = f"{'+' if sign else ''}.{digits}f"
    told = format(found.value, form)
    return f"{told} [{found.low:{form}}, {found.high:{form}}]" if np.isfinite(found.low) else told


def _money(found: Interval) -> str:
    return f"{found.value:,.0f} [{found.low:,.0f}, {found.high:,.0f}]"


def bullets(lines: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
