"""The reading of a slide: a network over tiles, attention over a slide, and what both may claim.

    python -m training pathology                                            # simulated cervical slides
    python -m training pathology --config configs/pathology_herlev.toml     # real cells, through YUHENG_DATA

Learn a network from single tiles; fit attention over the tiles of slides that it never saw; calibrate on others;
predict those that are left. It never reads who the patient is, nor how a file was made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from datasets.splits import split_groups
from models.pathology import calibration
from models.pathology.abstention import FALSE_POSITIVE_RATE, ConformalClassifier
from models.pathology.card import OutputCalibration, TileClass
from models.pathology.neural import attention_pooling
from models.pathology.neural.attention_pooling import AttentionConfig, GatedAttention
from models.pathology.neural.network import NetConfig
from models.pathology.operating_point import fit_operating_point
from training import config as settings
from training.config import ConfigError, ConfigSection
from training.interfaces import TrainingConfig
from training.pathology import data as data_loading
from training.pathology.data import HerlevConfig, LabelledTiles, SimulatedConfig, TrainingData
from training.pathology.evaluate import SlideEvaluationConfig, SlideGateConfig
from training.pathology.pipeline import PathologyPipeline
from training.pathology.train_network import NetworkTrainingConfig, TrainedNetwork, train
from training.progress import ProgressReporter

PRODUCT = "pathology"
CONFIG = Path("configs/pathology.toml")
PIPELINE = PathologyPipeline


class ClaimsConfig(ConfigSection):
    """What is asked of the numbers that are fitted after the networks."""

    sensitivity: float = Field(default=0.95, gt=0, lt=1)  # claimed with 95 % confidence, or told not to be claimable
    alpha: float = Field(default=0.05, gt=0, lt=1)  # how often the true answer may be missing from the set
    ood_false_positive_rate: float = Field(
        default=FALSE_POSITIVE_RATE, gt=0, lt=1
    )  # of familiar tiles called unlike all learned from
    reference_embeddings: int = Field(default=2_000, ge=5)  # embeddings that the graph keeps to compare with


class Config(TrainingConfig):
    """`classes` in the order of the data's own; mpp: None where the data lost it, and then no slide is read."""

    purpose: str = "A triage of cervical slides for a pathologist: probability, evidence tiles and a draft report."
    not_for: str = "Any answer without a pathologist; another organ, stain or preparation than it learned from."
    policy: Path = Path("configs/policies/pathology.toml")
    data: Annotated[SimulatedConfig | HerlevConfig, Field(discriminator="source")]
    classes: tuple[TileClass, ...] = Field(min_length=2)
    specimens: tuple[str, ...] = ()
    mpp: float | None = Field(default=None, gt=0)
    net: NetConfig = NetConfig()
    learn: NetworkTrainingConfig = NetworkTrainingConfig()
    validation_share: float = Field(default=0.15, gt=0, lt=1)  # of the tiles to learn from, by whose loss it stops
    attention: AttentionConfig = AttentionConfig()
    claims: ClaimsConfig = ClaimsConfig()
    judge: SlideEvaluationConfig = SlideEvaluationConfig()
    gate: SlideGateConfig = SlideGateConfig()

    @model_validator(mode="after")
    def _check_consistency(self) -> Config:
        positive = [slide_class.positive for slide_class in self.classes]
        if all(positive) or not any(positive):
            raise ValueError("classes: at least one must be positive, and one not")
        if isinstance(self.data, SimulatedConfig) and self.mpp is None:
            raise ValueError("mpp is absent; slides are painted and read at a scale, in microns per pixel")
        return self

    @property
    def network_config(self) -> NetConfig:
        return self.net.model_copy(update={"classes": len(self.classes)})

    @property
    def positive_classes(self) -> NDArray[np.intp]:
        """Places of the positive classes."""
        return np.flatnonzero([slide_class.positive for slide_class in self.classes])


def load(path: Path, data: Path | None = None) -> Config:
    """The config in a file; `data`: the folder that holds pathology/…, for a config that reads one."""
    config = settings.load(path, Config, name=re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_"))
    if data is None:
        return config
    if not isinstance(config.data, HerlevConfig):
        raise ConfigError(
            f"--data is {data}; {path} paints its slides itself and reads no folder. Leave --data out, or name a "
            "config that reads one: --config configs/pathology_herlev.toml."
        )
    return config.model_copy(update={"data": config.data.model_copy(update={"folder": data})})


def read(config: Config) -> TrainingData:
    codes = [slide_class.code for slide_class in config.classes]
    if isinstance(config.data, HerlevConfig):
        return data_loading.load_herlev(config.data, codes, config.net.side)
    assert config.mpp is not None
    return data_loading.load_simulated(config.data, codes, config.net.side, config.mpp, config.seed)


def train_tile_network(
    config: Config, tiles: LabelledTiles, checkpoints: Path, reporter: ProgressReporter
) -> TrainedNetwork:
    """The network over tiles; it stops by the loss on whole groups held back. Goes on from a checkpoint of its own."""
    split = split_groups(tiles.groups, config.seed, (1 - config.validation_share, 0.0, config.validation_share))
    train_tiles, validation_tiles = tiles.subset(split.train), tiles.subset(split.test)
    with reporter.step("learn: network over tiles") as progress:
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
    """Attention over slides, from one label each; it begins with what the network learned of tiles."""
    with reporter.step("learn: attention over slides"):
        attention_config = config.attention.model_copy(update={"classes": len(config.classes), "seed": config.seed})
        return attention_pooling.fit_attention(bags, labels, attention_config, trained.net.head)


def calibrate_outputs(
    config: Config,
    logits: NDArray[np.float32],
    labels: NDArray[np.intp],
    patients: Sequence[object],
    train_groups: Sequence[object],
) -> OutputCalibration:
    """What logits (n, classes) of rows not learned from mean: temperature, line, operating point, conformal sets."""
    is_positive = np.isin(labels, config.positive_classes)
    calibration_line = calibration.fit_platt(calibration.log_odds(logits, config.positive_classes), is_positive)
    probability = calibration_line.probability(calibration.log_odds(logits, config.positive_classes))
    binary_probabilities = np.column_stack([1 - probability, probability])
    return OutputCalibration(
        temperature=calibration.fit_temperature(logits, labels),
        line=calibration_line,
        point=fit_operating_point(
            probability, is_positive.astype(int), patients, config.claims.sensitivity, train_groups
        ),
        conformal=ConformalClassifier.fit(binary_probabilities, is_positive.astype(np.intp), config.claims.alpha),
    )
