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
from models.pathology import attention_pooling, calibration
from models.pathology.abstention import FALSE_ALARMS, Conformal
from models.pathology.attention_pooling import AggregateConfig, GatedAttention
from models.pathology.card import Class, Fitted
from models.pathology.network import NetConfig
from models.pathology.operating_point import choose
from training import config as settings
from training.config import Settings, SettingsRefused
from training.interfaces import RoadConfig
from training.pathology import data as material
from training.pathology.data import Herlev, Material, Simulated, Tiles
from training.pathology.evaluate import JudgeConfig, PathologyGate
from training.pathology.pipeline import PathologyTrip
from training.pathology.train_network import LearnConfig, Learned, learn
from training.progress import Watch

PRODUCT = "pathology"
CONFIG = Path("configs/pathology.toml")
TRIP = PathologyTrip


class Claims(Settings):
    """What is asked of the numbers that are fitted after the networks."""

    sensitivity: float = Field(default=0.95, gt=0, lt=1)  # claimed with 95 % confidence, or told not to be claimable
    alpha: float = Field(default=0.05, gt=0, lt=1)  # how often the true answer may be missing from the set
    false_alarms: float = Field(default=FALSE_ALARMS, gt=0, lt=1)  # of familiar tiles called unlike all learned from
    known: int = Field(default=2_000, ge=5)  # embeddings that the graph keeps to compare with


class Config(RoadConfig):
    """`classes` in the order of the data's own; mpp: None where the data lost it, and then no slide is read."""

    purpose: str = "A triage of cervical slides for a pathologist: probability, evidence tiles and a draft report."
    not_for: str = "Any answer without a pathologist; another organ, stain or preparation than it learned from."
    policy: Path = Path("configs/policies/pathology.toml")
    data: Annotated[Simulated | Herlev, Field(discriminator="source")]
    classes: tuple[Class, ...] = Field(min_length=2)
    specimens: tuple[str, ...] = ()
    mpp: float | None = Field(default=None, gt=0)
    net: NetConfig = NetConfig()
    learn: LearnConfig = LearnConfig()
    held_back: float = Field(default=0.15, gt=0, lt=1)  # of the tiles to learn from, by whose loss it stops
    attention: AggregateConfig = AggregateConfig()
    claims: Claims = Claims()
    judge: JudgeConfig = JudgeConfig()
    gate: PathologyGate = PathologyGate()

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        positive = [one.positive for one in self.classes]
        if all(positive) or not any(positive):
            raise ValueError("classes: at least one must be positive, and one not")
        if isinstance(self.data, Simulated) and self.mpp is None:
            raise ValueError("mpp is absent; slides are painted and read at a scale, in microns per pixel")
        return self

    @property
    def network(self) -> NetConfig:
        return self.net.model_copy(update={"classes": len(self.classes)})

    @property
    def positive(self) -> NDArray[np.intp]:
        """Places of the positive classes."""
        return np.flatnonzero([one.positive for one in self.classes])


def load(path: Path, data: Path | None = None) -> Config:
    """The config in a file; `data`: the folder that holds pathology/…, for a config that reads one."""
    config = settings.load(path, Config, name=re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_"))
    if data is None:
        return config
    if not isinstance(config.data, Herlev):
        raise SettingsRefused(
            f"--data is {data}; {path} paints its slides itself and reads no folder. Leave --data out, or name a "
            "config that reads one: --config configs/pathology_herlev.toml."
        )
    return config.model_copy(update={"data": config.data.model_copy(update={"folder": data})})


def read(config: Config) -> Material:
    codes = [one.code for one in config.classes]
    if isinstance(config.data, Herlev):
        return material.herlev(config.data, codes, config.net.side)
    assert config.mpp is not None
    return material.simulated(config.data, codes, config.net.side, config.mpp, config.seed)


def fit(config: Config, tiles: Tiles, checkpoints: Path, watch: Watch) -> Learned:
    """The network over tiles; it stops by the loss on whole groups held back. Goes on from a checkpoint of its own."""
    back = split_groups(tiles.groups, config.seed, (1 - config.held_back, 0.0, config.held_back))
    ours, held = tiles.take(back.train), tiles.take(back.test)
    with watch.step("learn: network over tiles") as tick:
        return learn(
            ours.images,
            ours.labels,
            config.learn.model_copy(update={"seed": config.seed}),
            config.network,
            held=(held.images, held.labels),
            folder=checkpoints,
            tick=tick,
        )


def attend(
    config: Config, bags: Sequence[NDArray[np.float32]], labels: NDArray[np.intp], learned: Learned, watch: Watch
) -> GatedAttention:
    """Attention over slides, from one label each; it begins with what the network learned of tiles."""
    with watch.step("learn: attention over slides"):
        asked = config.attention.model_copy(update={"classes": len(config.classes), "seed": config.seed})
        return attention_pooling.fit(bags, labels, asked, learned.net.head)


def predict(
    config: Config,
    logits: NDArray[np.float32],
    labels: NDArray[np.intp],
    patients: Sequence[object],
    learned_from: Sequence[object],
) -> Fitted:
    """What logits (n, classes) of rows not learned from mean: temperature, line, operating point, conformal sets."""
    is_positive = np.isin(labels, config.positive)
    line = calibration.fit(calibration.log_odds(logits, config.positive), is_positive)
    stated = line.probability(calibration.log_odds(logits, config.positive))
    both = np.column_stack([1 - stated, stated])
    return Fitted(
        temperature=calibration.temperature(logits, labels),
        line=line,
        point=choose(stated, is_positive.astype(int), patients, config.claims.sensitivity, learned_from),
        conformal=Conformal.fit(both, is_positive.astype(np.intp), config.claims.alpha),
    )
