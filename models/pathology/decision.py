"""From what the graphs said of a slide's tiles to its reading. Numpy alone.

used = rows(card, table)                                   # the tiles that the slide graph may see
logits, attention = slide_graph.run(table.embedding[used])
reading = decide(card, policy, table, used, logits, attention)

First whether there is enough to judge (unsatisfactory is an answer), then whether it is like anything learned from,
then what the calibrated probability says beside the operating point. Nothing about the patient enters here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from models.pathology.calibration import log_odds
from models.pathology.card import Fitted, SlideCard
from models.pathology.onnx_sessions import softmax
from models.pathology.policy import ReadingPolicy

Triage = Literal["negative", "review", "positive", "abstained"]

ABSTAINED = {  # code -> why, in English and Chinese
    "unsatisfactory": (
        "Unsatisfactory for evaluation: {found} tiles with cells fit to be read; {needed} are needed.",
        "标本不满意：可判读图块{found}个，至少需要{needed}个。",
    ),
    "out_of_distribution": (
        "{found:.0%} of the tiles are unlike anything the model learned from; at most {needed:.0%} are taken. "
        "Another organ, stain or preparation looks so.",
        "{found:.0%}的图块与训练数据不符，上限{needed:.0%}；可能是其他器官、染色或制片方式。",
    ),
    "undecided": (
        "Both answers remain possible at the confidence asked for (probability {found:.3f}).",
        "在所要求的置信水平下，两种结论都不能排除（概率{found:.3f}）。",
    ),
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Words(_Part):
    en: str
    zh: str


class Why(Words):
    code: str


class ClassShare(Words):
    code: str
    tbs: str
    probability: float


class Adequacy(Words):
    adequate: bool
    tiles: int
    needed: int


class Counts(_Part):
    """Of tiles. grid: with tissue; read: of them seen by the network; unknown: unlike anything learned from."""

    grid: int
    read: int
    unfit: dict[str, int]
    unknown: int


class Spot(_Part):
    """A tile that mattered, in level-0 pixels. probability: calibrated, of any positive class."""

    x: int
    y: int
    width: int
    height: int
    code: str
    probability: float
    attention: float


class Reading(_Part):
    """What the machine says of one slide; it never changes once told."""

    triage: Triage
    abstained: tuple[Why, ...]
    probability: float | None
    threshold: float
    classes: tuple[ClassShare, ...]
    claim: Words
    adequacy: Adequacy
    tiles: Counts
    evidence: tuple[Spot, ...]


@dataclass(frozen=True, slots=True)
class TileTable:
    """The n tiles of a slide that were read.

    places: (n, 2) left, top in level-0 pixels. extent: level-0 pixels that a tile covers (x, y).
    reasons: (n,) "" or why the tile is unfit (datasets/slides/quality.py). logits: (n, classes). embedding: (n, d).
    distance: (n,) to what was learned from. grid: tiles with tissue, read or not.
    """

    places: NDArray[np.int64]
    extent: tuple[float, float]
    reasons: NDArray[np.str_]
    logits: NDArray[np.float32]
    embedding: NDArray[Any]
    distance: NDArray[np.float32]
    grid: int

    def __len__(self) -> int:
        return len(self.places)


def rows(card: SlideCard, table: TileTable) -> NDArray[np.intp]:
    """Tiles fit to be judged and like what was learned from; where none is familiar, all that are fit."""
    fit = table.reasons == ""
    known = fit & _familiar(card, table)
    return np.flatnonzero(known if known.any() else fit)


def decide(
    card: SlideCard,
    policy: ReadingPolicy,
    table: TileTable,
    used: NDArray[np.intp],
    logits: NDArray[np.float32] | None,
    attention: NDArray[np.float32] | None,
    stands: NDArray[np.float64] | None = None,
) -> Reading:
    """`used`: rows of the table that the slide graph saw; logits (classes,) and attention (used,) what it said, None
    where there was no tile to show it. stands: (n,) for how many tiles of the slide each of the table's does, where not
    all were read: how many are unknown is then an estimate."""
    assert card.slide is not None, "only a card that reads slides comes here: models.pathology.card.readable"
    fit = table.reasons == ""
    weight = np.ones(len(table)) if stands is None else stands
    strange = fit & ~_familiar(card, table)
    unknown = round(fit.sum() * weight[strange].sum() / max(1.0, weight[fit].sum()))
    probability = None if logits is None else _probability(card, card.slide, logits[None])[0]
    needed = policy.adequacy.least_tiles
    why = _why(card.slide, policy, int(fit.sum()), unknown, probability)
    point = card.slide.point
    adequate = int(fit.sum()) >= needed
    en, zh = (
        ("Satisfactory for evaluation", "标本满意") if adequate else ("Unsatisfactory for evaluation", "标本不满意")
    )
    return Reading(
        triage="abstained" if why or probability is None else _triage(policy, point.threshold, probability),
        abstained=why,
        probability=probability,
        threshold=point.threshold,
        classes=() if logits is None else _classes(card, card.slide, logits),
        claim=Words(en=point.claim(), zh=point.claim_zh()),
        adequacy=Adequacy(adequate=adequate, tiles=int(fit.sum()), needed=needed, en=f"{en}.", zh=f"{zh}。"),
        tiles=Counts(
            grid=table.grid,
            read=len(table),
            unfit={str(name): int((table.reasons == name).sum()) for name in np.unique(table.reasons) if name},
            unknown=unknown,
        ),
        evidence=_evidence(card, policy, table, used, attention),
    )


def settled(card: SlideCard, policy: ReadingPolicy, reading: Reading, unsure: float) -> bool:
    """Would the triage be the same with a probability that is off by `unsure`? Too few tiles settle nothing."""
    assert card.slide is not None, "only a card that reads slides comes here: models.pathology.card.readable"
    if reading.probability is None or not reading.adequacy.adequate:
        return False
    answers = set()
    for off in np.linspace(-unsure, unsure, 9):
        probability = float(np.clip(reading.probability + off, 0, 1))
        why = _why(card.slide, policy, reading.adequacy.tiles, reading.tiles.unknown, probability)
        answers.add("abstained" if why else _triage(policy, card.slide.point.threshold, probability))
    return answers == {reading.triage}


def tile_probability(card: SlideCard, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) calibrated probability that a tile shows something positive; logits (n, classes)."""
    return _probability(card, card.tile, logits)


def priority(reading: Reading, policy: ReadingPolicy, level: str = "routine") -> int:
    """0 to 100, 100 first. `level`: of the patient's risk, which can only raise it."""
    ranks = policy.priority
    found = int(getattr(ranks, reading.triage))
    likeliest = max(reading.classes, key=lambda one: one.probability, default=None)
    if likeliest is not None and likeliest.code in ranks.severe_classes and reading.triage in ("positive", "review"):
        found += ranks.severe
    return min(found + {"routine": 0, "raised": ranks.raised, "urgent": ranks.urgent}[level], 100)


def _familiar(card: SlideCard, table: TileTable) -> NDArray[np.bool_]:
    """A distance that is no number is unfamiliar."""
    near: NDArray[np.bool_] = table.distance <= card.familiar
    return near


def _probability(card: SlideCard, fitted: Fitted, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    return fitted.line.probability(log_odds(logits, card.positive))


def _why(fitted: Fitted, policy: ReadingPolicy, fit: int, unknown: int, probability: float | None) -> tuple[Why, ...]:
    found: list[tuple[str, float, float]] = []
    if fit < policy.adequacy.least_tiles or probability is None:
        found.append(("unsatisfactory", fit, policy.adequacy.least_tiles))
    if fit and unknown / fit > policy.abstain.most_unknown:
        found.append(("out_of_distribution", unknown / fit, policy.abstain.most_unknown))
    if not found and probability is not None:
        both = np.array([[1 - probability, probability]])
        if fitted.conformal.spans(both, np.array([1]))[0]:
            found.append(("undecided", probability, 0.0))
    return tuple(
        Why(code=code, en=en.format(found=value, needed=needed), zh=zh.format(found=value, needed=needed))
        for code, value, needed in found
        for en, zh in [ABSTAINED[code]]
    )


def _triage(policy: ReadingPolicy, threshold: float, probability: float) -> Triage:
    """At or above the operating point a person looks, whatever `positive_at` says."""
    if probability < threshold:
        return "negative"
    return "positive" if probability >= policy.triage.positive_at else "review"


def _classes(card: SlideCard, fitted: Fitted, logits: NDArray[np.float32]) -> tuple[ClassShare, ...]:
    shares = softmax(logits / fitted.temperature)
    return tuple(
        ClassShare(code=one.code, en=one.en, zh=one.zh, tbs=one.tbs, probability=float(share))
        for one, share in zip(card.classes, shares, strict=True)
    )


def _evidence(
    card: SlideCard,
    policy: ReadingPolicy,
    table: TileTable,
    used: NDArray[np.intp],
    attention: NDArray[np.float32] | None,
) -> tuple[Spot, ...]:
    """The tiles likeliest to be positive, the one that weighed more first where they are alike."""
    if attention is None or not len(used):
        return ()
    probability = tile_probability(card, table.logits[used])
    width, height = (round(side) for side in table.extent)
    return tuple(
        Spot(
            x=int(table.places[used[at], 0]),
            y=int(table.places[used[at], 1]),
            width=width,
            height=height,
            code=card.classes[int(table.logits[used[at]].argmax())].code,
            probability=float(probability[at]),
            attention=float(attention[at]),
        )
        for at in np.lexsort((-attention, -probability))[: policy.evidence.most]
    )
