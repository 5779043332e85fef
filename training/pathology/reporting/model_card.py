"""Write the model card of a slide model in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.pathology.card import SlideCard
from training.evaluation.promotion_gate import GateVerdict
from training.pathology.evaluation.evaluate import HoldoutMetrics, SlideEvaluationReport
from training.reporting.model_card import (
    bullet_list,
    format_interval,
    gate_section,
    join_sections,
    limitations_section,
    markdown_table,
    metrics_table,
    plots_section,
    provenance_section,
)

CAVEATS = (
    "The model assists. A pathologist reads every slide and signs; below the operating point the model says that it "
    "found nothing, never that there is nothing.",
    "A probability is a frequency among slides like those of the calibration: where positives are rarer, fewer of the "
    "slides that are sent to a person are positive.",
    "Attention shows which tiles moved the answer. It does not prove that they contain the lesion.",
    "Out-of-distribution tiles are recognised by their embedding; an unfamiliar slide that looks familiar is missed.",
    "Every slide counts as a patient. Where a patient has several slides, the claim must be established again.",
)


def render(
    card: SlideCard,
    evaluation: SlideEvaluationReport,
    verdict: GateVerdict | None,
    plots: Sequence[Path],
    show_images: bool = True,
) -> str:
    """Write a slide model's card; `plots` are files in `plots/` next to it; show_images: whether it may show images."""
    remarks = list(evaluation.remarks)
    if show_images and card.simulated:
        remarks.append("The images in this card are simulated, like all training data.")
    banner = (
        "> **Simulated data (模拟数据).** These slides were simulated; nobody was ever examined. Nothing below says "
        "anything about real slides, and no patient's slide may be read with this model."
    )
    sections = [
        f"# {card.model}, version {card.version}",
        banner if card.simulated else "",
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
        limitations_section([*CAVEATS, *remarks]),
        plots_section(plots),
    ]
    return join_sections(sections)


def _shortcut_warning(evaluation: SlideEvaluationReport) -> str:
    shortcut = evaluation.shortcut
    return (
        f"> **{shortcut.en} No metric below can be trusted. {shortcut.zh}以下指标均不可信。**"
        if shortcut and shortcut.flagged
        else ""
    )


def _data_section(card: SlideCard) -> str:
    scale = "of unknown scale, so it reads no slide" if card.mpp is None else f"at {card.mpp:g} um per pixel"
    details = [
        f"Tiles of {card.side} px {scale}; backbone {card.backbone} with a linear head.",
        "The networks were not trained on the calibration or held-out parts, and nothing was calibrated on the "
        "held-out part.",
    ]
    return provenance_section(card, details)


def _metrics_section(evaluation: SlideEvaluationReport) -> str:
    main = evaluation.main
    note = f"{main.rows:,} held-out {main.unit} of {main.groups:,} groups, {main.positives:,} of them positive."
    sections = ["## Performance", note, metrics_table(main.metrics, f"held-out {main.unit}"), _accuracy_table(main)]
    if evaluation.tiles is not None:
        tiles = evaluation.tiles
        sections += [
            f"### Single tiles\n\n{tiles.rows:,} tiles of these slides, {tiles.positives:,} of them with a positive "
            "cell; "
            "resampled by slide.",
            metrics_table(tiles.metrics, "tiles"),
            _accuracy_table(tiles),
        ]
    return "\n\n".join(sections)


def _accuracy_table(metrics: HoldoutMetrics) -> str:
    rows = [
        ("accuracy, positive or not", format_interval(metrics.accuracy), "at a probability of 0.5"),
        ("accuracy, all classes", format_interval(metrics.accuracy_classes), "the most likely class"),
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
        + f"\n\nThe held-out {metrics.unit}, true class by row, predicted class by column:\n\n"
        + markdown_table(("", *codes), confusion_rows)
    )


def _operating_point_section(card: SlideCard, evaluation: SlideEvaluationReport) -> str:
    fitted = card.slide or card.tile
    operating_point = fitted.point
    specificity = "unknown" if np.isnan(operating_point.specificity) else f"{operating_point.specificity:.4f}"
    lines = [
        f"A slide with a probability of {operating_point.threshold:.4f} or more goes to a person as possibly positive.",
        f"{evaluation.claim} {operating_point.claim_zh()}",
        f"Fitted to {operating_point.positives} positive calibration groups for a sensitivity of "
        f"{operating_point.target:g}; specificity on the calibration part: {specificity}.",
        f"Class probabilities: logits divided by a temperature of {fitted.temperature:.3f}. Log-odds of a positive "
        "class: "
        f"{fitted.line.slope:.3f} times the graph's, {fitted.line.intercept:+.3f}.",
    ]
    return "## Operating point\n\n" + bullet_list(lines)


def _abstention_section(evaluation: SlideEvaluationReport) -> str:
    main = evaluation.main
    reasons = ", ".join(f"{reason} {share:.1%}" for reason, share in main.abstention_shares.items()) or "none"
    lines = [
        f"Held-out {main.unit} without an answer: {main.abstention_rate:.1%} ({reasons}).",
        f"A tile at a distance above {evaluation.ood_threshold:.4f} from the training tiles is called out of "
        "distribution: "
        f"{evaluation.false_alarm_rate:.1%} of the held-out tiles, falsely.",
        "Out-of-distribution tiles: none were tested."
        if evaluation.ood_detection_rate is None
        else f"Out-of-distribution tiles recognised: {evaluation.ood_detection_rate:.1%}.",
    ]
    return "## Abstention\n\n" + bullet_list(lines)


def _graphs_section(card: SlideCard, evaluation: SlideEvaluationReport) -> str:
    parity = ", ".join(f"{name} {value:.1e}" for name, value in card.metrics.get("parity", {}).items())
    lines = [f"Largest difference between torch and ONNX Runtime: {parity}."] if parity else []
    int8_verdict = evaluation.int8_verdict
    if int8_verdict is None:
        lines.append("No 8-bit graph was made.")
    else:
        bundle_note = "The bundle contains it" if evaluation.offers_int8 else "The bundle does not contain it"
        lines.append(
            f"8-bit graph, on calibration tiles: {int8_verdict.speed:.2f} times as fast on the training machine, AUC "
            f"{int8_verdict.auc_int8:.4f} instead of {int8_verdict.auc:.4f}, "
            f"{evaluation.int8_extra_alarms or 0.0:+.1%} "
            f"false alarms. {bundle_note}."
        )
    return "## Graphs\n\n" + bullet_list(lines)


def _shortcut_section(evaluation: SlideEvaluationReport) -> str:
    shortcut = evaluation.shortcut
    if shortcut is None:
        return "## Shortcuts\n\nNot tested."
    return "## Shortcuts\n\n" + (f"**{shortcut.en}**" if shortcut.flagged else shortcut.en)
