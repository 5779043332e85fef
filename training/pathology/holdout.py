"""Rows set aside, and what the exported graphs say of them: tiles, cells and slides, as a service would answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import SLIDE_GRAPH, Bundle, BundleRefused
from models.pathology import decision
from models.pathology.calibration import log_odds
from models.pathology.card import Fitted, SlideCard, readable
from models.pathology.onnx_sessions import SlideGraph, TileGraph, softmax
from models.pathology.onnx_sessions import Tiles as Answer
from models.pathology.policy import ReadingPolicy
from training.evaluation import promotion_gate
from training.evaluation.metrics import Draws, difference
from training.pathology import slide_reader
from training.pathology.data import Images, Material, Tiles
from training.pathology.evaluate import Answered
from training.pathology.slide_reader import Read


@dataclass(frozen=True)
class Cells:
    """n labelled tiles as the network answered them. images: (k, side, side, 3) of the rows `kept` (k,)."""

    logits: NDArray[np.float32]
    distance: NDArray[np.float32]
    labels: NDArray[np.intp]
    groups: NDArray[Any]
    images: Images
    kept: NDArray[np.intp]


def of_slides(reads: Sequence[Read]) -> Cells:
    """The tiles whose class is known, of the slides as read."""
    rows = [one.known for one in reads]
    starts = np.cumsum([0, *(len(one) for one in rows)])
    kept, images = [], []
    for one, known, start in zip(reads, rows, starts, strict=False):
        there = np.isin(one.kept, known)
        kept.append(start + np.searchsorted(known, one.kept[there]))
        images.append(one.images[there])
    return Cells(
        logits=np.concatenate([one.table.logits[known] for one, known in zip(reads, rows, strict=True)]),
        distance=np.concatenate([one.table.distance[known] for one, known in zip(reads, rows, strict=True)]),
        labels=np.concatenate([one.truth[known] for one, known in zip(reads, rows, strict=True)]),
        groups=np.concatenate([[one.slide.name] * len(known) for one, known in zip(reads, rows, strict=True)]),
        images=np.concatenate(images),
        kept=np.concatenate(kept),
    )


def of_tiles(answer: Answer, distance: NDArray[Any], tiles: Tiles) -> Cells:
    return Cells(answer.logits, distance, tiles.labels, tiles.groups, tiles.images, np.arange(len(tiles)))


def main(card: SlideCard) -> Fitted:
    """What was fitted for what it answers: slides, or single cells where it reads no slide."""
    return card.slide or card.tile


def answered_cells(card: SlideCard, cells: Cells, unit: str) -> Answered:
    stated = decision.tile_probability(card, cells.logits)
    spans = card.tile.conformal.spans(np.column_stack([1 - stated, stated]), np.array([1]))
    return Answered(
        unit=unit,
        labels=cells.labels,
        told=softmax(cells.logits / card.tile.temperature),
        stated=stated,
        positive=card.positive,
        groups=cells.groups,
        abstained=np.select([cells.distance > card.familiar, spans], ["out_of_distribution", "undecided"], ""),
        point=card.tile.point,
    )


def answered_slides(
    card: SlideCard, graph: SlideGraph, policy: ReadingPolicy, reads: Sequence[Read]
) -> tuple[Answered, list[NDArray[np.float32]]]:
    """The answers, and of each slide the attention (n,) to its tiles, 0 for those that the graph did not see."""
    assert card.slide is not None
    logits, weights, why = [], [], []
    for one in reads:
        used = decision.rows(card, one.table)
        found, attention = graph.run(one.table.embedding[used].astype(np.float32))
        told = decision.decide(card, policy, one.table, used, found, attention)
        logits.append(found)
        weights.append(np.zeros(len(one.table), np.float32))
        weights[-1][used] = attention
        why.append(told.abstained[0].code if told.abstained else "")
    said = np.stack(logits)
    answered = Answered(
        unit="slides",
        labels=np.array([one.slide.label for one in reads]),
        told=softmax(said / card.slide.temperature),
        stated=card.slide.line.probability(log_odds(said, card.positive)),
        positive=card.positive,
        groups=np.array([one.slide.name for one in reads]),
        abstained=np.array(why),
        point=card.slide.point,
    )
    return answered, weights


def against(
    champion: Bundle[SlideCard], material: Material, ours: Answered, draws: Draws, threads: int
) -> promotion_gate.Against:
    """The champion's AUC on the held-out rows beside ours, read by its own graphs and policy, at its own scale."""
    card = champion.card
    try:
        theirs = _read_again(champion, material, ours, threads)
    except (BundleRefused, ValueError) as error:
        return promotion_gate.Against(card.version, refused=str(error))
    return promotion_gate.Against(card.version, difference(ours.y, ours.stated, theirs, draws))


def _read_again(champion: Bundle[SlideCard], material: Material, ours: Answered, threads: int) -> NDArray[np.float64]:
    card, network = champion.card, TileGraph(champion.graph, threads)
    if not material.slides:
        stated = decision.tile_probability(card, network.run(material.cells["test"].images).logits)
        return np.asarray(stated)
    readable(champion)
    assert card.mpp is not None
    policy, graph = ReadingPolicy.load(champion.policy), SlideGraph(champion.more[SLIDE_GRAPH], threads)
    again = list(slide_reader.read(material.slides["test"], network, card.side, card.mpp, policy))
    return answered_slides(card, graph, policy, again)[0].stated
