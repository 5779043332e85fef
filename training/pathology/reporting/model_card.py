"""The model card in Markdown of a model that reads slides or cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.pathology.card import SlideCard
from training.evaluation.promotion_gate import GateVerdict
from training.pathology.evaluate import HoldoutMetrics, SlideEvaluationReport
from training.reporting.model_card import bullet_list, format_interval, gate_section, markdown_table, metrics_table

CAVEATS = (
    "The model assists. A pathologist reads every slide and signs; below the operating point it says that it found "
    "nothing, never that there is nothing.",
    "A probability is a frequency among slides like those it was calibrated on: where positives are rarer, fewer of "
    "those that it sends to a person are positive.",
    "Attention shows which tiles moved the answer. It is no proof that they hold the lesion.",
    "What it calls unlike all learned from is judged by an embedding; a strange slide that looks familiar passes.",
    "Every slide counts as a patient of its own. With several slides of one patient the claim must be made anew.",
)


def render(
    card: SlideCard,
    evaluation: SlideEvaluationReport,
    verdict: GateVerdict | None,
    plots: Sequence[Path],
    show_images: bool = True,
) -> str:
    """The card as Markdown; `plots` are named as they lie in `plots/` beside it. shown: images of the data may be."""
    remarks = list(evaluation.remarks)
    if show_images and card.simulated:
        remarks.append("The images in this card are painted, as all that it learned from.")
    sections = [
        f"# {card.model}, version {card.version}",
        _simulated_banner(card),
        _shortcut_warning(evaluation),
        f"**Purpose.** {card.purpose} {card.purpose_zh}".rstrip(),
        f"**Not for.** {card.not_for} {card.not_for_zh}".rstrip(),
        f"**Claim.** {evaluation.claim}",
        _data_section(card),
        _metrics_section(evaluation),
        _classes_section(card, evaluation.main),
        _operating_point_section(card, evaluation),
        _abstention_section(evaluation),
        _graphs_section(card, evaluation),
        _shortcut_section(evaluation),
        gate_section(verdict),
        "## What to keep in mind\n\n" + bullet_list([*CAVEATS, *remarks]),
        "## Plots\n\n" + "\n\n".join(f"![{path.stem}](plots/{path.name})" for path in plots) if plots else "",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _simulated_banner(card: SlideCard) -> str:
    if not card.simulated:
        return ""
    return (
        "> **Simulated data (模拟数据).** These slides were painted; nobody was ever examined. No figure below says "
        "anything about real slides, and no patient may be read with this model."
    )


def _shortcut_warning(evaluation: SlideEvaluationReport) -> str:
    shortcut = evaluation.shortcut
    return (
        f"> **{shortcut.en} No figure below can be trusted. {shortcut.zh}以下数字均不可信。**"
        if shortcut and shortcut.flagged
        else ""
    )


def _data_section(card: SlideCard) -> str:
    lines = []
    for data in card.data:
        licence = f", {data.licence}" if data.licence else ""
        lines.append(f"Data: {data.name}, {data.rows:,} rows ({data.source}{licence}), SHA-256 `{data.sha256}`.")
        digest = f"; SHA-256 `{data.split_sha256}`" if data.split_sha256 else ""
        lines.append(f"Split: {data.split}{digest}.")
    scale = "of unknown scale, so it reads no slide" if card.mpp is None else f"at {card.mpp:g} um a pixel"
    lines += [
        f"Tiles of {card.side} px {scale}; backbone {card.backbone} with a linear head.",
        "Nothing of the calibration or held-out part was learned from; nothing held out was calibrated on.",
        f"Made {card.created}, commit `{card.git_commit or 'none'}`, run `{card.run_id or 'none'}`, seed {card.seed}.",
    ]
    return "## How it was made\n\n" + bullet_list(lines)


def _metrics_section(evaluation: SlideEvaluationReport) -> str:
    main = evaluation.main
    note = f"{main.rows:,} held-out {main.unit} of {main.groups:,} groups, {main.positives:,} of them positive."
    sections = ["## How good it is", note, metrics_table(main.metrics, f"held-out {main.unit}"), _accuracy_table(main)]
    if evaluation.tiles is not None:
        tiles = evaluation.tiles
        sections += [
            f"### Its single tiles\n\n{tiles.rows:,} tiles of these slides, {tiles.positives:,} of them with a "
            "positive cell; drawn by slide.",
            metrics_table(tiles.metrics, "tiles"),
            _accuracy_table(tiles),
        ]
    return "\n\n".join(sections)


def _accuracy_table(metrics: HoldoutMetrics) -> str:
    rows = [
        ("accuracy, positive or not", format_interval(metrics.accuracy), "at a probability of .5"),
        ("accuracy, all classes", format_interval(metrics.accuracy_classes), "the likeliest class"),
        ("sensitivity", format_interval(metrics.sensitivity), "at the operating point"),
        ("specificity", format_interval(metrics.specificity), "at the operating point"),
        (
            "sensitivity, exact",
            f"at least {metrics.sensitivity_bound:.4f}",
            f"one-sided 95 %; {metrics.missed_groups} positive groups missed",
        ),
    ]
    return markdown_table(("", f"{metrics.unit} [95 % interval]", ""), rows)


def _classes_section(card: SlideCard, metrics: HoldoutMetrics) -> str:
    codes = [f"`{slide_class.code}`" for slide_class in card.classes]
    confusion_rows = [
        (code, *(f"{count:,}" for count in row)) for code, row in zip(codes, metrics.confusion, strict=True)
    ]
    class_rows = [
        (code, slide_class.en, slide_class.zh, slide_class.tbs or "–", "yes" if slide_class.positive else "no")
        for code, slide_class in zip(codes, card.classes, strict=True)
    ]
    return (
        "## Classes\n\n"
        + markdown_table(("code", "English", "中文", "TBS", "positive"), class_rows)
        + f"\n\nThe held-out {metrics.unit}, true class by row, class told by column:\n\n"
        + markdown_table(("", *codes), confusion_rows)
    )


def _operating_point_section(card: SlideCard, evaluation: SlideEvaluationReport) -> str:
    fitted = card.slide or card.tile
    operating_point = fitted.point
    specificity = "unknown" if np.isnan(operating_point.specificity) else f"{operating_point.specificity:.4f}"
    lines = [
        f"A probability of {operating_point.threshold:.4f} or more goes to a person as possibly positive.",
        f"{evaluation.claim} {operating_point.claim_zh()}",
        f"Chosen on {operating_point.positives} positive calibration groups, for a sensitivity of {operating_point.target:g}; specificity "
        f"there {specificity}.",
        f"Class probabilities: logits over a temperature of {fitted.temperature:.3f}. Log-odds of a positive class: "
        f"{fitted.line.slope:.3f} times the graph's, {fitted.line.intercept:+.3f}.",
    ]
    return "## Where it works\n\n" + bullet_list(lines)


def _abstention_section(evaluation: SlideEvaluationReport) -> str:
    main = evaluation.main
    reasons = ", ".join(f"{reason} {share:.1%}" for reason, share in main.abstention_shares.items()) or "none"
    lines = [
        f"Held-out {main.unit} without an answer: {main.abstention_rate:.1%} ({reasons}).",
        f"A tile farther than {evaluation.ood_threshold:.4f} from all that was learned from is called unknown: "
        f"{evaluation.false_alarm_rate:.1%} of the held-out tiles, falsely.",
        "Strange tiles: none were tried."
        if evaluation.ood_detection_rate is None
        else f"Strange tiles called unknown: {evaluation.ood_detection_rate:.1%}.",
    ]
    return "## When it gives no answer\n\n" + bullet_list(lines)


def _graphs_section(card: SlideCard, evaluation: SlideEvaluationReport) -> str:
    parity = ", ".join(f"{name} {value:.1e}" for name, value in card.metrics.get("parity", {}).items())
    lines = [f"Largest difference between torch and ONNX Runtime: {parity}."] if parity else []
    int8_verdict = evaluation.int8_verdict
    if int8_verdict is None:
        lines.append("An 8-bit graph was not tried.")
    else:
        bundle_note = "It is in the bundle" if evaluation.offers_int8 else "It is not offered"
        lines.append(
            f"In 8 bits, on calibration tiles: {int8_verdict.speed:.2f} times as fast on the machine that trained, AUC "
            f"{int8_verdict.auc_int8:.4f} instead of {int8_verdict.auc:.4f}, {evaluation.int8_extra_alarms or 0.0:+.1%} false alarms. "
            f"{bundle_note}."
        )
    return "## The graphs\n\n" + bullet_list(lines)


def _shortcut_section(evaluation: SlideEvaluationReport) -> str:
    shortcut = evaluation.shortcut
    if shortcut is None:
        return "## Shortcuts\n\nNot looked for."
    return "## Shortcuts\n\n" + (f"**{shortcut.en}**" if shortcut.flagged else shortcut.en)
