"""Train a slide model: a network over tiles, attention over a slide, and the calibration of both.

    python -m training pathology                                            # simulated cervical slides
    python -m training pathology --config configs/pathology_herlev.toml     # real cells, read through YUHENG_DATA

The network learns from single tiles; attention is fitted to the tiles of other slides, calibration to those of a third
set, and the evaluation uses the rest. The model never reads who the patient is, nor how a file was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.splits import split_groups
from models.pathology import calibration
from models.pathology.abstention import ConformalClassifier
from models.pathology.card import OutputCalibration
from models.pathology.neural import attention_pooling
from models.pathology.neural.attention_pooling import GatedAttention
from models.pathology.operating_point import fit_operating_point
from training.pathology import config as pathology_config
from training.pathology import data as data_loading
from training.pathology.config import Config
from training.pathology.data import HerlevConfig, LabelledTiles, TrainingData
from training.pathology.train_network import TrainedNetwork, train
from training.progress import ProgressReporter


def load(path: Path, data: Path | None = None) -> Config:
    """Read a config; see training.pathology.config.load."""
    return pathology_config.load(path, data)


def read(config: Config) -> TrainingData:
    """Read or simulate the config's data. Raises DataError."""
    if isinstance(config.data, HerlevConfig):
        return data_loading.load_herlev(config.data, config.codes, config.net.side)
    assert config.mpp is not None
    return data_loading.load_simulated(config.data, config.codes, config.net.side, config.mpp, config.seed)


def train_tile_network(
    config: Config, tiles: LabelledTiles, checkpoints: Path, reporter: ProgressReporter
) -> TrainedNetwork:
    """Train the network over tiles, stopped early by the loss on whole groups held back.

    A run that was interrupted continues from its checkpoint.
    """
    split = split_groups(tiles.groups, config.seed, (1 - config.validation_share, 0.0, config.validation_share))
    train_tiles, validation_tiles = tiles.subset(split.train), tiles.subset(split.test)
    with reporter.step("train: network over tiles") as progress:
        return train(
            train_tiles.images,
            train_tiles.labels,
            config.learn.model_copy(update={"seed": config.seed}),
            config.network_config,
            validation=(validation_tiles.images, validation_tiles.labels),
            checkpoint_dir=checkpoints,
            progress=progress,
        )


def fit_attention(
    config: Config,
    bags: Sequence[NDArray[np.float32]],
    labels: NDArray[np.intp],
    trained: TrainedNetwork,
    reporter: ProgressReporter,
) -> GatedAttention:
    """Fit attention over slides to one label each; it starts from the head that the network learned on tiles.

    bags: (tiles, d) embeddings of each slide; labels: (slides,).
    """
    with reporter.step("train: attention over slides"):
        attention_config = config.attention.model_copy(update={"classes": len(config.classes), "seed": config.seed})
        return attention_pooling.fit_attention(bags, labels, attention_config, trained.net.head)


def calibrate_outputs(
    config: Config,
    logits: NDArray[np.float32],
    labels: NDArray[np.intp],
    patients: Sequence[object],
    train_groups: Sequence[object],
) -> OutputCalibration:
    """Fit temperature, Platt's line, operating point and conformal sets to rows that nothing was trained on.

    logits (n, classes); labels (n,); patients (n,): whom a row belongs to; train_groups: those of the training rows.
    """
    is_positive = np.isin(labels, config.positive_classes)
    log_odds = calibration.log_odds(logits, config.positive_classes)
    line = calibration.fit_platt(log_odds, is_positive)
    probability = line.probability(log_odds)
    binary_probabilities = np.column_stack([1 - probability, probability])
    return OutputCalibration(
        temperature=calibration.fit_temperature(logits, labels),
        line=line,
        point=fit_operating_point(
            probability, is_positive.astype(int), patients, config.claims.sensitivity, train_groups
        ),
        conformal=ConformalClassifier.fit(binary_probabilities, is_positive.astype(np.intp), config.claims.alpha),
    )
