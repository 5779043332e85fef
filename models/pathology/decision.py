"""Derive the reading of a slide from the outputs of the graphs. Numpy only.

used = usable_rows(card, table)                                   # the tiles that the slide graph may see
logits, attention = slide_graph.run(table.embedding[used])
reading = decide(card, policy, table, used, logits, attention)

First it is checked whether there is enough material (unsatisfactory is an answer), then whether the slide resembles the
training data, then the calibrated probability is compared with the operating point. The patient plays no part here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from models.pathology.calibration import log_odds
from models.pathology.card import OutputCalibration, SlideCard
from models.pathology.onnx_sessions import softmax
from models.pathology.policy import ReadingPolicy

Triage = Literal["negative", "review", "positive", "abstained"]

OUT_OF_DISTRIBUTION = "out_of_distribution"
ADEQUACY_STATEMENTS = {  # enough usable tiles, or None -> the statement, in English and Chinese
    True: ("Satisfactory for evaluation", "标本满意"),
    False: ("Unsatisfactory for evaluation", "标本不满意"),
    None: (
        "Adequacy is not assessed, as the slide is unlike the training data",
        "切片与训练数据不符，未评估标本满意度",
    ),
}
ABSTENTION_REASONS = {  # code -> why, in English and Chinese
    "unsatisfactory": (
        "Unsatisfactory for evaluation: {found} tiles with cells fit to be read; {needed} are needed.",
        "标本不满意：可判读图块{found}个，至少需要{needed}个。",
    ),
    OUT_OF_DISTRIBUTION: (
        "{found:.0%} of the tiles are unlike anything the model learned from; at most {needed:.0%} are taken. "
        "Another organ, stain or preparation looks so.",
        "{found:.0%}的图块与训练数据不符，上限{needed:.0%}；可能是其他器官、染色或制片方式。",
    ),
    "undecided": (
        "Both answers remain possible at the confidence asked for (probability {found:.3f}).",
        "在所要求的置信水平下，两种结论都不能排除（概率{found:.3f}）。",
    ),
}


class _ReadingModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BilingualMessage(_ReadingModel):
    en: str
    zh: str


class AbstentionReason(BilingualMessage):
    code: str


class ClassProbability(BilingualMessage):
    code: str
    tbs: str
    probability: float


class Adequacy(BilingualMessage):
    """adequate: whether there are enough usable tiles; None, not assessed, for a slide unlike the training data."""

    adequate: bool | None
    tiles: int
    needed: int


class TileCounts(_ReadingModel):
    """Numbers of tiles. grid: with tissue. read: seen by the network. unknown: out of distribution."""

    grid: int
    read: int
    unfit: dict[str, int]
    unknown: int


class EvidenceTile(_ReadingModel):
    """A tile that influenced the result, in level-0 pixels. probability: calibrated, of any positive class."""

    x: int
    y: int
    width: int
    height: int
    code: str
    probability: float
    attention: float


class Reading(_ReadingModel):
    """The machine's reading of one slide; it never changes once given.

    A slide unlike the training data has neither probability nor classes nor evidence.
    """

    triage: Triage
    abstained: tuple[AbstentionReason, ...]
    probability: float | None
    threshold: float
    classes: tuple[ClassProbability, ...]
    claim: BilingualMessage
    adequacy: Adequacy
    tiles: TileCounts
    evidence: tuple[EvidenceTile, ...]


@dataclass(frozen=True, slots=True)
class TileTable:
    """The n tiles of a slide that were read.

    places: (n, 2) left, top in level-0 pixels. extent: level-0 pixels that a tile covers (x, y).
    reasons: (n,) "" or why the tile is unfit (datasets/slides/quality.py). logits: (n, classes). embedding: (n, d).
    distance: (n,) from the training data. grid: tiles with tissue, read or not.
    """

    positions: NDArray[np.int64]
    extent: tuple[float, float]
    reasons: NDArray[np.str_]
    logits: NDArray[np.float32]
    embedding: NDArray[Any]
    distance: NDArray[np.float32]
    grid: int

    def __len__(self) -> int:
        return len(self.positions)


def usable_rows(card: SlideCard, table: TileTable) -> NDArray[np.intp]:
    """Rows of tiles that are fit and in distribution; all fit tiles if none is in distribution."""
    fit = table.reasons == ""
    familiar = fit & _is_familiar(card, table)
    return np.flatnonzero(familiar if familiar.any() else fit)


def decide(
    card: SlideCard,
    policy: ReadingPolicy,
    table: TileTable,
    used_rows: NDArray[np.intp],
    logits: NDArray[np.float32] | None,
    attention: NDArray[np.float32] | None,
) -> Reading:
    """Turn the outputs of the tile and slide graphs into a reading.

    `used_rows`: rows of the table that the slide graph saw. logits (classes,) and attention (used,): its outputs, None
    where no tile was usable.
    """
    assert card.slide is not None, "only a card that reads slides comes here: models.pathology.card.readable"
    fit = table.reasons == ""
    unknown = int((fit & ~_is_familiar(card, table)).sum())
    probability = None if logits is None else _calibrated_probability(card, card.slide, logits[None])[0]
    min_tiles = policy.adequacy.min_tiles
    reasons = _abstention_reasons(card.slide, policy, int(fit.sum()), unknown, probability)
    operating_point = card.slide.point
    unfamiliar = any(reason.code == OUT_OF_DISTRIBUTION for reason in reasons)
    adequate = False if int(fit.sum()) < min_tiles else None if unfamiliar else True
    en, zh = ADEQUACY_STATEMENTS[adequate]
    return Reading(
        triage="abstained"
        if reasons or probability is None
        else _triage_for(policy, operating_point.threshold, probability),
        abstained=reasons,
        probability=None if unfamiliar else probability,
        threshold=operating_point.threshold,
        classes=() if logits is None or unfamiliar else _class_probabilities(card, card.slide, logits),
        claim=BilingualMessage(en=operating_point.claim(), zh=operating_point.claim_zh()),
        adequacy=Adequacy(adequate=adequate, tiles=int(fit.sum()), needed=min_tiles, en=f"{en}.", zh=f"{zh}。"),
        tiles=TileCounts(
            grid=table.grid,
            read=len(table),
            unfit={str(name): int((table.reasons == name).sum()) for name in np.unique(table.reasons) if name},
            unknown=unknown,
        ),
        evidence=() if unfamiliar else _evidence(card, policy, table, used_rows, attention),
    )


def tile_probability(card: SlideCard, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Calibrated probability that a tile is positive, (n,); logits: (n, classes)."""
    return _calibrated_probability(card, card.tile, logits)


def worklist_priority(reading: Reading, policy: ReadingPolicy, risk_level: str = "routine") -> int:
    """0 to 100, 100 first. `level`: of the patient's risk, which can only raise it."""
    points = policy.priority
    total = int(getattr(points, reading.triage))
    likeliest = max(reading.classes, key=lambda item: item.probability, default=None)
    if likeliest is not None and likeliest.code in points.severe_classes and reading.triage in ("positive", "review"):
        total += points.severe
    return min(total + {"routine": 0, "raised": points.raised, "urgent": points.urgent}[risk_level], 100)


def _is_familiar(card: SlideCard, table: TileTable) -> NDArray[np.bool_]:
    """Whether each tile is in distribution; NaN is not."""
    familiar: NDArray[np.bool_] = table.distance <= card.familiar
    return familiar


def _calibrated_probability(
    card: SlideCard, calibration: OutputCalibration, logits: NDArray[np.float32]
) -> NDArray[np.float64]:
    return calibration.line.probability(log_odds(logits, card.positive))


def _abstention_reasons(
    calibration: OutputCalibration, policy: ReadingPolicy, fit_count: int, unknown_count: int, probability: float | None
) -> tuple[AbstentionReason, ...]:
    reasons: list[tuple[str, float, float]] = []
    if fit_count < policy.adequacy.min_tiles or probability is None:
        reasons.append(("unsatisfactory", fit_count, policy.adequacy.min_tiles))
    if fit_count and unknown_count / fit_count > policy.abstain.max_unknown:
        reasons.append((OUT_OF_DISTRIBUTION, unknown_count / fit_count, policy.abstain.max_unknown))
    if not reasons and probability is not None:
        probabilities = np.array([[1 - probability, probability]])
        if calibration.conformal.is_undecided(probabilities, np.array([1]))[0]:
            reasons.append(("undecided", probability, 0.0))
    return tuple(
        AbstentionReason(
            code=code, en=en.format(found=value, needed=expected), zh=zh.format(found=value, needed=expected)
        )
        for code, value, expected in reasons
        for en, zh in [ABSTENTION_REASONS[code]]
    )


def _triage_for(policy: ReadingPolicy, threshold: float, probability: float) -> Triage:
    """The triage; at or above the operating point a person reviews, whatever `positive_at` is."""
    if probability < threshold:
        return "negative"
    return "positive" if probability >= policy.triage.positive_at else "review"


def _class_probabilities(
    card: SlideCard, calibration: OutputCalibration, logits: NDArray[np.float32]
) -> tuple[ClassProbability, ...]:
    shares = softmax(logits / calibration.temperature)
    return tuple(
        ClassProbability(code=item.code, en=item.en, zh=item.zh, tbs=item.tbs, probability=float(share))
        for item, share in zip(card.classes, shares, strict=True)
    )


def _evidence(
    card: SlideCard,
    policy: ReadingPolicy,
    table: TileTable,
    used_rows: NDArray[np.intp],
    attention: NDArray[np.float32] | None,
) -> tuple[EvidenceTile, ...]:
    """The tiles most likely to be positive; among equals the one with more attention comes first."""
    if attention is None or not len(used_rows):
        return ()
    probability = tile_probability(card, table.logits[used_rows])
    width, height = (round(side) for side in table.extent)
    return tuple(
        EvidenceTile(
            x=int(table.positions[used_rows[index], 0]),
            y=int(table.positions[used_rows[index], 1]),
            width=width,
            height=height,
            code=card.classes[int(table.logits[used_rows[index]].argmax())].code,
            probability=float(probability[index]),
            attention=float(attention[index]),
        )
        for index in np.lexsort((-attention, -probability))[: policy.evidence.max_tiles]
    )
