"""Write the model card in Markdown, for risk officers, auditors and everyone accountable for the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from models.card import BaseCard, Card
from models.metrics import Interval
from training.evaluation.evaluate import EvaluationReport
from training.evaluation.promotion_gate import GateVerdict

METRIC_LABELS = (
    ("auc", "AUC", "1 is perfect, 0.5 is chance"),
    ("gini", "Gini", "2 AUC - 1"),
    ("ks", "KS", "largest gap between the outcomes' distributions"),
    ("h", "H-measure", "discrimination at costs fixed in advance (Hand 2009)"),
    ("brier", "Brier score", "mean squared error of the probability; lower is better"),
    ("slope", "calibration slope", "1 is perfect; below 1 the probabilities are too extreme"),
    ("intercept", "calibration intercept", "0 is perfect; above 0 the probabilities are too low"),
)
EXCLUDED_INPUTS = {
    "with_moral_data": "**Moral data.** The PD never reads the moral groups; they act through the uplift of the limit.",
    "with_shell_flags": "**Shell flags.** The PD never reads them; the gate does, and a block sets the limit to 0.",
}
CAVEATS = (
    "The metrics hold for applicants like those in the table. Applicants refused by an earlier policy are not in it, "
    "and "
    "nothing here corrects for that (reject inference).",
    "A PD is a frequency among borrowers with similar indicators, not a statement about the character of one of them.",
    "A reason says what moved this score. It is not a cause: changing the indicator need not change the risk.",
    "The profit assumes that every limit is drawn as the policy says, for one year, without fees or cost of capital.",
    "Ratios between audit groups are descriptive. A ratio near 1 does not show that decisions are fair, nor does one "
    "far "
    "from 1 show that they are not; a person has to interpret both.",
)


def render(
    card: Card, evaluation: EvaluationReport, verdict: GateVerdict | None, plots: Sequence[Path], remarks: Sequence[str]
) -> str:
    """Write a tabular model's card; `plots` are files in `plots/` next to it, `remarks` those on the data."""
    banner = (
        "> **Simulated data (模拟数据).** Nobody in this table exists. Nothing below says anything about real people."
    )
    sections = [
        f"# {card.model}, version {card.version}",
        banner if card.simulated else "",
        f"**Purpose.** {card.purpose} {card.purpose_zh}".rstrip(),
        f"**Horizon.** Default within {card.horizon}." if card.horizon else "",
        f"**Not for.** {card.not_for} {card.not_for_zh}".rstrip(),
        _data_section(card, evaluation),
        _metrics_section(evaluation),
        _baselines_section(evaluation),
        _decisions_section(evaluation),
        _groups_section(evaluation),
        _stability_section(evaluation),
        gate_section(verdict),
        limitations_section([*CAVEATS, *_stated_reasons(card), *remarks, *evaluation.remarks]),
        _inputs_section(card),
        plots_section(plots),
    ]
    return join_sections(sections)


def _stated_reasons(card: Card) -> list[str]:
    """Why inputs are used that describe a protected attribute or tell the outcome very well, in the owner's words."""
    return [
        f"`{column.name}` is an input for a reason that the table's owner states: {column.reason.strip()}"
        for column in card.inputs
        if column.reason.strip()
    ]


def join_sections(sections: Iterable[str]) -> str:
    """The document made of the sections that are not empty."""
    return "\n\n".join(section for section in sections if section) + "\n"


def limitations_section(lines: Iterable[str]) -> str:
    """What a reader of the card must keep in mind."""
    return "## Limitations\n\n" + bullet_list(lines)


def plots_section(plots: Sequence[Path]) -> str:
    """The plots as images of the folder `plots/`."""
    return "## Plots\n\n" + "\n\n".join(f"![{path.stem}](plots/{path.name})" for path in plots) if plots else ""


def provenance_section(card: BaseCard, details: Iterable[str]) -> str:
    """Data, splits and run of a model, with `details` in between."""
    lines = []
    for data in card.data:
        licence = f", {data.licence}" if data.licence else ""
        lines.append(f"Data: {data.name}, {data.rows:,} rows ({data.source}{licence}), SHA-256 `{data.sha256}`.")
        digest = f"; SHA-256 `{data.split_sha256}`" if data.split_sha256 else ""
        lines.append(f"Split: {data.split}{digest}.")
    commit, run_id = card.git_commit or "none", card.run_id or "none"
    run = f"Created {card.created}, commit `{commit}`, run `{run_id}`, seed {card.seed}."
    return "## Data and training\n\n" + bullet_list([*lines, *details, run])


def _data_section(card: Card, evaluation: EvaluationReport) -> str:
    details = [
        f"Trained on {evaluation.train_rows:,} rows, evaluated on {evaluation.rows:,} held-out ones "
        f"({evaluation.bad_rate:.1%} of them bad).",
        "Small monotone trees: every contribution is an exact Shapley value. Categories are ordinal codes.",
    ]
    return provenance_section(card, details)


def _metrics_section(evaluation: EvaluationReport) -> str:
    note = f"On the training rows the AUC is {evaluation.train_auc:.4f}."
    return f"## Performance\n\n{metrics_table(evaluation.metrics)}\n\n{note}"


def metrics_table(metrics: Mapping[str, Interval], population: str = "held-out rows") -> str:
    """The metrics of training.evaluation.metrics as a table; `population` names the rows that they were measured on."""
    rows = [(label, format_interval(metrics[name]), note) for name, label, note in METRIC_LABELS]
    return markdown_table(("metric", f"{population} [95 % interval]", ""), rows)


def _baselines_section(evaluation: EvaluationReport) -> str:
    if not evaluation.baselines:
        return ""
    rows = [
        (baseline.description, format_interval(baseline.auc), format_interval(baseline.auc_gain, show_sign=True))
        for baseline in evaluation.baselines.values()
    ]
    notes = [_explainability_cost(evaluation), _excluded_inputs_note(evaluation)]
    comparison = markdown_table(("on the same held-out rows", "AUC", "AUC of this model minus its own"), rows)
    return "## Comparison with other models\n\n" + "\n\n".join([comparison, *(line for line in notes if line)])


def _explainability_cost(evaluation: EvaluationReport) -> str:
    baseline = evaluation.baselines.get("unconstrained")
    if baseline is None:
        return ""
    cost, low, high = -baseline.auc_gain.value, -baseline.auc_gain.high, -baseline.auc_gain.low
    verb = "costs" if cost > 0 else "costs nothing; it gains"
    chance_note = " (chance alone could explain the difference)" if low <= 0 <= high else ""
    return (
        f"**The price of explainability.** Compared with unconstrained LightGBM, keeping the trees small and monotone "
        f"{verb} "
        f"{abs(cost):.4f} of AUC{chance_note}."
    )


def _excluded_inputs_note(evaluation: EvaluationReport) -> str:
    return "\n\n".join(
        f"{description} If the PD read them, its AUC would change by {-baseline.auc_gain.value:+.4f} "
        f"[{-baseline.auc_gain.high:+.4f}, {-baseline.auc_gain.low:+.4f}]. The model fitted to measure this was "
        "discarded."
        for name, description in EXCLUDED_INPUTS.items()
        if (baseline := evaluation.baselines.get(name)) is not None
    )


def _decisions_section(evaluation: EvaluationReport) -> str:
    profit = evaluation.profit
    lines = [
        f"{evaluation.above_cutoff:.1%} of the rows meet the approval cutoff; {evaluation.approval_rate:.1%} would be "
        "approved automatically, and a person decides the rest.",
        f"Median limit of the rows with a limit: {evaluation.median_limit:,.0f} {profit.currency}."
        if np.isfinite(evaluation.median_limit)
        else "No row has a limit.",
        f"Profit per applicant a year, {profit.currency}: {_format_money(profit.at_cutoff)} at the policy's cutoff, "
        f"{_format_money(profit.approve_all)} if all were approved, a gain of {_format_money(profit.gain)}. "
        f"The policy's cutoff is a PD of {profit.cutoff:.1%}; the best on these rows is {profit.best_cutoff.value:.1%} "
        f"[{profit.best_cutoff.low:.1%}, {profit.best_cutoff.high:.1%}] ({profit.best_profit:,.0f}). "
        f"Exposures: {profit.exposure_basis}.",
    ]
    if evaluation.referral_counts:
        referrals = sorted(evaluation.referral_counts.items(), key=lambda item: -item[1])
        lines.append("Why a person decides: " + ", ".join(f"{code} ({rows:,} rows)" for code, rows in referrals) + ".")
    return "## Decisions\n\n" + bullet_list(lines)


def _groups_section(evaluation: EvaluationReport) -> str:
    if not evaluation.groups:
        return "## Audit groups\n\nThe table has no audit group that is large enough to evaluate."
    rows = [
        (
            group.name,
            f"{group.rows:,}",
            f"{group.bad_rate:.1%}",
            f"{group.mean_pd:.1%}",
            format_interval(group.metrics["auc"]),
            format_interval(group.metrics["slope"], digits=2),
            f"{group.approval_rate:.1%}",
            format_interval(group.approval_ratio, digits=2),
            format_interval(group.limit_ratio_at_equal_pd, digits=2),
        )
        for group in evaluation.groups
    ]
    headers = (
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
    note = (
        "Ratios compare a group with the attribute's largest one, which is listed first. No model reads these columns."
    )
    return f"## Audit groups\n\n{note}\n\n{markdown_table(headers, rows)}"


def _stability_section(evaluation: EvaluationReport) -> str:
    shifts = sorted(evaluation.psi.items(), key=lambda item: -item[1])
    rows = [(name, f"{value:.3f}") for name, value in shifts[:8]]
    note = "Population stability index from training to held-out rows; below 0.1 is stable. The largest values:"
    return f"## Stability\n\n{note}\n\n" + markdown_table(("", "PSI"), rows)


def gate_section(verdict: GateVerdict | None) -> str:
    """Every check of the gate, passed or not."""
    if verdict is None:
        return ""
    heading = "Passed." if verdict.passed else "Not passed: the champion stays, and this version is the challenger."
    lines = [f"{'passed' if check.passed else '**failed**'}: {check}" for check in verdict.checks]
    return f"## Promotion gate\n\n{heading}\n\n" + bullet_list(lines)


def _inputs_section(card: Card) -> str:
    direction_labels = {1: "higher is riskier", -1: "higher is safer", 0: ""}
    rows = [
        (
            f"`{column.name}`",
            column.label,
            column.label_zh,
            column.unit or column.kind,
            direction_labels[column.direction],
            column.group,
        )
        for column in card.inputs
    ]
    return "## Inputs\n\n" + markdown_table(("name", "English", "中文", "unit", "direction", "indicator group"), rows)


def format_interval(interval: Interval, show_sign: bool = False, digits: int = 4) -> str:
    """ "value [low, high]", or a dash where the value is undefined."""
    if not np.isfinite(interval.value):
        return "–"
    format_spec = f"{'+' if show_sign else ''}.{digits}f"
    value_text = format(interval.value, format_spec)
    return (
        f"{value_text} [{interval.low:{format_spec}}, {interval.high:{format_spec}}]"
        if np.isfinite(interval.low)
        else value_text
    )


def _format_money(interval: Interval) -> str:
    return f"{interval.value:,.0f} [{interval.low:,.0f}, {interval.high:,.0f}]"


def bullet_list(lines: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
