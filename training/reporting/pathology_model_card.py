"""The model card in Markdown of a model that reads slides or cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.pathology.card import SlideCard
from training.evaluation.promotion_gate import Verdict
from training.pathology.evaluate import Found, Judgement
from training.reporting.model_card import bullets, measured, table, the_gate, three

CAVEATS = (
    "The model assists. A pathologist reads every slide and signs; below the operating point it says that it found "
    "nothing, never that there is nothing.",
    "A probability is a frequency among slides like those it was calibrated on: where positives are rarer, fewer of "
    "those that it sends to a person are positive.",
    "Attention shows which tiles moved the answer. It is no proof that they hold the lesion.",
    "What it calls unlike all learned from is judged by an embedding; a strange slide that looks familiar passes.",
    "Every slide counts as a patient of its own. With several slides of one patient the claim must be made anew.",
)


def text(
    card: SlideCard, judgement: Judgement, verdict: Verdict | None, plots: Sequence[Path], shown: bool = True
) -> str:
    """The card as Markdown; `plots` are named as they lie in `plots/` beside it. shown: images of the data may be."""
    remarks = list(judgement.remarks)
    if shown and card.simulated:
        remarks.append("The images in this card are painted, as all that it learned from.")
    parts = [
        f"# {card.model}, version {card.version}",
        _banner(card),
        _cries(judgement),
        f"**Purpose.** {card.purpose} {card.purpose_zh}".rstrip(),
        f"**Not for.** {card.not_for} {card.not_for_zh}".rstrip(),
        f"**Claim.** {judgement.claim}",
        _made(card),
        _good(judgement),
        _classes(card, judgement.main),
        _works(card, judgement),
        _abstains(judgement),
        _graphs(card, judgement),
        _shortcut(judgement),
        the_gate(verdict),
        "## What to keep in mind\n\n" + bullets([*CAVEATS, *remarks]),
        "## Plots\n\n" + "\n\n".join(f"![{path.stem}](plots/{path.name})" for path in plots) if plots else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _banner(card: SlideCard) -> str:
    if not card.simulated:
        return ""
    return (
        "> **Simulated data (模拟数据).** These slides were painted; nobody was ever examined. No figure below says "
        "anything about real slides, and no patient may be read with this model."
    )


def _cries(judgement: Judgement) -> str:
    found = judgement.shortcut
    return (
        f"> **{found.en} No figure below can be trusted. {found.zh}以下数字均不可信。**"
        if found and found.cries
        else ""
    )


def _made(card: SlideCard) -> str:
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
    return "## How it was made\n\n" + bullets(lines)


def _good(judgement: Judgement) -> str:
    main = judgement.main
    told = f"{main.rows:,} held-out {main.unit} of {main.groups:,} groups, {main.positives:,} of them positive."
    parts = ["## How good it is", told, measured(main.figures, f"held-out {main.unit}"), _shares(main)]
    if judgement.tiles is not None:
        tiles = judgement.tiles
        parts += [
            f"### Its single tiles\n\n{tiles.rows:,} tiles of these slides, {tiles.positives:,} of them with a "
            "positive cell; drawn by slide.",
            measured(tiles.figures, "tiles"),
            _shares(tiles),
        ]
    return "\n\n".join(parts)


def _shares(found: Found) -> str:
    rows = [
        ("accuracy, positive or not", three(found.accuracy), "at a probability of .5"),
        ("accuracy, all classes", three(found.accuracy_classes), "the likeliest class"),
        ("sensitivity", three(found.sensitivity), "at the operating point"),
        ("specificity", three(found.specificity), "at the operating point"),
        ("sensitivity, exact", f"at least {found.bound:.4f}", f"one-sided 95 %; {found.missed} positive groups missed"),
    ]
    return table(("", f"{found.unit} [95 % interval]", ""), rows)


def _classes(card: SlideCard, found: Found) -> str:
    codes = [f"`{one.code}`" for one in card.classes]
    matrix = [(code, *(f"{count:,}" for count in row)) for code, row in zip(codes, found.confusion, strict=True)]
    known = [
        (code, one.en, one.zh, one.tbs or "–", "yes" if one.positive else "no")
        for code, one in zip(codes, card.classes, strict=True)
    ]
    return (
        "## Classes\n\n"
        + table(("code", "English", "中文", "TBS", "positive"), known)
        + f"\n\nThe held-out {found.unit}, true class by row, class told by column:\n\n"
        + table(("", *codes), matrix)
    )


def _works(card: SlideCard, judgement: Judgement) -> str:
    fitted = card.slide or card.tile
    point = fitted.point
    specificity = "unknown" if np.isnan(point.specificity) else f"{point.specificity:.4f}"
    lines = [
        f"A probability of {point.threshold:.4f} or more goes to a person as possibly positive.",
        f"{judgement.claim} {point.claim_zh()}",
        f"Chosen on {point.positives} positive calibration groups, for a sensitivity of {point.target:g}; specificity "
        f"there {specificity}.",
        f"Class probabilities: logits over a temperature of {fitted.temperature:.3f}. Log-odds of a positive class: "
        f"{fitted.line.slope:.3f} times the graph's, {fitted.line.intercept:+.3f}.",
    ]
    return "## Where it works\n\n" + bullets(lines)


def _abstains(judgement: Judgement) -> str:
    main = judgement.main
    told = ", ".join(f"{why} {share:.1%}" for why, share in main.abstained.items()) or "none"
    lines = [
        f"Held-out {main.unit} without an answer: {main.silent:.1%} ({told}).",
        f"A tile farther than {judgement.familiar:.4f} from all that was learned from is called unknown: "
        f"{judgement.alarms:.1%} of the held-out tiles, falsely.",
        "Strange tiles: none were tried."
        if judgement.strange is None
        else f"Strange tiles called unknown: {judgement.strange:.1%}.",
    ]
    return "## When it gives no answer\n\n" + bullets(lines)


def _graphs(card: SlideCard, judgement: Judgement) -> str:
    parity = ", ".join(f"{name} {value:.1e}" for name, value in card.metrics.get("parity", {}).items())
    lines = [f"Largest difference between torch and ONNX Runtime: {parity}."] if parity else []
    small = judgement.small
    if small is None:
        lines.append("An 8-bit graph was not tried.")
    else:
        verdict = "It is in the bundle" if judgement.offers_small else "It is not offered"
        lines.append(
            f"In 8 bits, on calibration tiles: {small.speed:.2f} times as fast on the machine that trained, AUC "
            f"{small.auc_int8:.4f} instead of {small.auc:.4f}, {judgement.small_extra or 0.0:+.1%} false alarms. "
            f"{verdict}."
        )
    return "## The graphs\n\n" + bullets(lines)


def _shortcut(judgement: Judgement) -> str:
    found = judgement.shortcut
    if found is None:
        return "## Shortcuts\n\nNot looked for."
    return "## Shortcuts\n\n" + (f"**{found.en}**" if found.cries else found.en)
