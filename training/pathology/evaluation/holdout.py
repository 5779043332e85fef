"""Predict held-out tiles, cells and slides with the exported graphs, as the service would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import SLIDE_GRAPH, Bundle, BundleError
from models.pathology import decision
from models.pathology.calibration import log_odds
from models.pathology.card import SlideCard, require_readable
from models.pathology.onnx_sessions import SlideGraph, TileGraph, TileOutputs, softmax
from models.pathology.policy import ReadingPolicy
from training.evaluation.metrics import BootstrapSamples, auc_difference
from training.evaluation.promotion_gate import ChampionComparison
from training.pathology import slide_reader
from training.pathology.data import Images, LabelledTiles, TrainingData
from training.pathology.evaluation.evaluate import HoldoutPredictions
from training.pathology.slide_reader import SlideFeatures


@dataclass(frozen=True)
class TilePredictions:
    """The network's outputs for n labelled tiles. images: (k, side, side, 3) of the rows `image_rows` (k,)."""

    logits: NDArray[np.float32]
    distance: NDArray[np.float32]
    labels: NDArray[np.intp]
    groups: NDArray[Any]
    images: Images
    image_rows: NDArray[np.intp]


def from_slides(reads: Sequence[SlideFeatures]) -> TilePredictions:
    """The tiles of known class of the slides that were read."""
    labelled_rows = [slide.labelled_rows for slide in reads]
    starts = np.cumsum([0, *(len(slide) for slide in labelled_rows)])
    image_rows, images = [], []
    for slide, labelled, start in zip(reads, labelled_rows, starts, strict=False):
        is_labelled = np.isin(slide.image_rows, labelled)
        image_rows.append(start + np.searchsorted(labelled, slide.image_rows[is_labelled]))
        images.append(slide.images[is_labelled])
    return TilePredictions(
        logits=np.concatenate(
            [slide.table.logits[labelled] for slide, labelled in zip(reads, labelled_rows, strict=True)]
        ),
        distance=np.concatenate(
            [slide.table.distance[labelled] for slide, labelled in zip(reads, labelled_rows, strict=True)]
        ),
        labels=np.concatenate([slide.truth[labelled] for slide, labelled in zip(reads, labelled_rows, strict=True)]),
        groups=np.concatenate(
            [[slide.slide.name] * len(labelled) for slide, labelled in zip(reads, labelled_rows, strict=True)]
        ),
        images=np.concatenate(images),
        image_rows=np.concatenate(image_rows),
    )


def from_tiles(outputs: TileOutputs, distance: NDArray[Any], tiles: LabelledTiles) -> TilePredictions:
    """The predictions of single tiles; distance (n,)."""
    return TilePredictions(outputs.logits, distance, tiles.labels, tiles.groups, tiles.images, np.arange(len(tiles)))


def predict_tiles(card: SlideCard, tile_predictions: TilePredictions, unit: str) -> HoldoutPredictions:
    """Apply the card's tile calibration; `unit` names the rows in reports: "tiles" or "cells"."""
    positive_probability = decision.tile_probability(card, tile_predictions.logits)
    is_undecided = card.tile.conformal.is_undecided(
        np.column_stack([1 - positive_probability, positive_probability]), np.array([1])
    )
    return HoldoutPredictions(
        unit=unit,
        labels=tile_predictions.labels,
        class_probabilities=softmax(tile_predictions.logits / card.tile.temperature),
        positive_probability=positive_probability,
        positive_classes=card.positive,
        groups=tile_predictions.groups,
        abstention_reasons=np.select(
            [tile_predictions.distance > card.familiar, is_undecided], ["out_of_distribution", "undecided"], ""
        ),
        operating_point=card.tile.point,
    )


def predict_slides(
    card: SlideCard, graph: SlideGraph, policy: ReadingPolicy, slides: Sequence[SlideFeatures]
) -> tuple[HoldoutPredictions, list[NDArray[np.float32]]]:
    """Predict slides; also returns the attention (tiles,) of each, 0 for tiles that the graph did not use."""
    assert card.slide is not None
    logits, weights, abstention_reasons = [], [], []
    for slide in slides:
        rows = decision.usable_rows(card, slide.table)
        slide_logits, attention = graph.run(slide.table.embedding[rows].astype(np.float32))
        decided = decision.decide(card, policy, slide.table, rows, slide_logits, attention)
        logits.append(slide_logits)
        weights.append(np.zeros(len(slide.table), np.float32))
        weights[-1][rows] = attention
        abstention_reasons.append(decided.abstained[0].code if decided.abstained else "")
    all_logits = np.stack(logits)
    predictions = HoldoutPredictions(
        unit="slides",
        labels=np.array([slide.slide.label for slide in slides]),
        class_probabilities=softmax(all_logits / card.slide.temperature),
        positive_probability=card.slide.line.probability(log_odds(all_logits, card.positive)),
        positive_classes=card.positive,
        groups=np.array([slide.slide.name for slide in slides]),
        abstention_reasons=np.array(abstention_reasons),
        operating_point=card.slide.point,
    )
    return predictions, weights


def compare_champion(
    champion: Bundle[SlideCard],
    data: TrainingData,
    predictions: HoldoutPredictions,
    samples: BootstrapSamples,
    threads: int,
) -> ChampionComparison:
    """Compare the AUC of held-out predictions with that of the champion's own graphs, policy and scale."""
    card = champion.card
    try:
        champion_probability = _champion_probability(champion, data, predictions, threads)
    except (BundleError, ValueError) as error:
        return ChampionComparison(card.version, failure=str(error))
    return ChampionComparison(
        card.version, auc_difference(predictions.y, predictions.positive_probability, champion_probability, samples)
    )


def _champion_probability(
    champion: Bundle[SlideCard], data: TrainingData, predictions: HoldoutPredictions, threads: int
) -> NDArray[np.float64]:
    card, encoder = champion.card, TileGraph(champion.graph, threads)
    if not data.slides:
        probability = decision.tile_probability(card, encoder.run(data.cells["test"].images).logits)
        return np.asarray(probability)
    require_readable(champion)
    assert card.mpp is not None
    policy, graph = ReadingPolicy.load(champion.policy), SlideGraph(champion.extra_graphs[SLIDE_GRAPH], threads)
    slides = list(slide_reader.read_slides(data.slides["test"], encoder, card.side, card.mpp, policy))
    return predict_slides(card, graph, policy, slides)[0].positive_probability
