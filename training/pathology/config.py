"""Define the settings of a slide model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.pathology.abstention import FALSE_POSITIVE_RATE
from models.pathology.card import TileClass
from models.pathology.neural.attention_pooling import AttentionConfig
from models.pathology.neural.network import NetConfig
from training import config as settings
from training.config import ConfigError, ConfigSection, TrainingConfig
from training.pathology.data import HerlevConfig, SimulatedConfig
from training.pathology.evaluation.evaluate import SlideEvaluationConfig, SlideGateConfig
from training.pathology.train_network import NetworkTrainingConfig


class ClaimsConfig(ConfigSection):
    """The rates that the numbers fitted after the networks aim at."""

    sensitivity: float = Field(default=0.95, gt=0, lt=1)  # claimed with 95 % confidence, or stated not to be claimable
    alpha: float = Field(default=0.05, gt=0, lt=1)  # how often the conformal set may miss the true answer
    ood_false_positive_rate: float = Field(default=FALSE_POSITIVE_RATE, gt=0, lt=1)  # of in-distribution tiles
    reference_embeddings: int = Field(default=2_000, ge=5)  # embeddings that the graph stores to compare with


class Config(TrainingConfig):
    """Settings of a slide model. `classes` in the order of the data; mpp: None where the data have no scale, and then
    the model reads single cells, no slide."""

    product: ClassVar[str] = "pathology"
    purpose: str = "A triage of cervical slides for a pathologist: probability, evidence tiles and a draft report."
    not_for: str = "Any answer without a pathologist; an organ, stain or preparation other than those of its training."
    policy: Path = Path("configs/policies/pathology.toml")
    data: Annotated[SimulatedConfig | HerlevConfig, Field(discriminator="source")]
    classes: tuple[TileClass, ...] = Field(min_length=2)
    specimens: tuple[str, ...] = ()
    mpp: float | None = Field(default=None, gt=0)  # microns per pixel
    net: NetConfig = NetConfig()
    learn: NetworkTrainingConfig = NetworkTrainingConfig()
    validation_share: float = Field(default=0.15, gt=0, lt=1)  # of the training tiles, for early stopping
    attention: AttentionConfig = AttentionConfig()
    claims: ClaimsConfig = ClaimsConfig()
    judge: SlideEvaluationConfig = SlideEvaluationConfig()
    gate: SlideGateConfig = SlideGateConfig()

    @model_validator(mode="after")
    def _check_consistency(self) -> Config:
        positive = [tile_class.positive for tile_class in self.classes]
        if all(positive) or not any(positive):
            raise ValueError("classes: at least one positive and one negative class are required")
        if isinstance(self.data, SimulatedConfig) and self.mpp is None:
            raise ValueError("mpp is missing; slides are simulated and read at a scale, in microns per pixel")
        return self

    @property
    def codes(self) -> list[str]:
        return [tile_class.code for tile_class in self.classes]

    @property
    def network_config(self) -> NetConfig:
        return self.net.model_copy(update={"classes": len(self.classes)})

    @property
    def positive_classes(self) -> NDArray[np.intp]:
        """Indices of the positive classes."""
        return np.flatnonzero([tile_class.positive for tile_class in self.classes])


def load(path: Path, data: Path | None = None) -> Config:
    """Read a config; `data` replaces the folder that holds pathology/..., for a config that reads one.

    Raises ConfigError.
    """
    config = settings.load_training_config(path, Config)
    if data is None:
        return config
    if not isinstance(config.data, HerlevConfig):
        raise ConfigError(
            f"--data is {data}, but {path} simulates its slides and reads no folder. Leave --data out, or choose a "
            "config that reads a folder: --config configs/pathology_herlev.toml."
        )
    return config.model_copy(update={"data": config.data.model_copy(update={"folder": data})})
