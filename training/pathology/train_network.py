"""Train a network over tiles: deterministic for a seed, stopped early, resumable after an interruption.

trained = train(tiles, labels, NetworkTrainingConfig(), NetConfig(), validation=(tiles, labels), checkpoint_dir=folder)
trained.net, trained.history
logits, embedding = predict(trained.net, tiles, device)

An epoch's random numbers depend on the seed and the epoch alone, so a resumed run equals an uninterrupted one bit for
bit, on the same machine and number of threads. A CUDA device is used if there is one; on it, equal seeds give similar
results, not identical bits.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from models.pathology.neural.network import NetConfig, TileNet
from training.config import ConfigSection
from training.pathology.augment import AugmentConfig, augment, symmetries
from training.progress import ProgressCallback, ignore_progress

TileImages = NDArray[np.uint8]  # (n, side, side, 3)
Labels = NDArray[np.intp]  # (n,)
CHECKPOINT_FILE = "last.pt"
MEMORY_FORMAT = torch.channels_last  # a step takes 0.7 of the time on a CPU
INFERENCE_BATCH = 128  # tiles in one forward pass without training


class NetworkTrainingConfig(ConfigSection):
    """frozen_blocks: first blocks that keep their ImageNet weights. backbone_rate_factor: the backbone's learning rate
    as a share of the head's. label_smoothing: share of a label's weight that goes to the neighbouring classes where
    they are `ordinal`, to all classes otherwise. patience: epochs without a lower validation loss before training
    stops; 0 runs them all. ema_decay: of the exponential moving average of the weights, which is the network that is
    returned."""

    epochs: int = Field(default=14, ge=1)
    batch_size: int = Field(default=24, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    backbone_rate_factor: float = Field(default=1 / 3, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    frozen_blocks: int = Field(default=3, ge=0)
    mixup: float = Field(default=0.2, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    ordinal: bool = True
    ema_decay: float = Field(default=0.98, ge=0, lt=1)
    patience: int = Field(default=4, ge=0)
    seed: int = 0
    threads: int = Field(default=2, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    augment: AugmentConfig = AugmentConfig()


@dataclass(frozen=True)
class EpochLosses:
    """Mean losses of an epoch; the validation loss is that of the averaged weights, NaN without validation rows."""

    train_loss: float
    validation_loss: float


@dataclass(frozen=True)
class TrainedNetwork:
    """The averaged weights of the best epoch; `best_epoch` counts from 0."""

    net: TileNet
    history: tuple[EpochLosses, ...]
    best_epoch: int
    device: str


@dataclass
class _TrainingState:
    """Everything that a resumed run needs. `steps`: updates of the averaged weights, which start as a plain mean."""

    net: TileNet
    averaged_net: TileNet
    optimiser: torch.optim.Optimizer
    schedule: Any
    epoch: int = 0
    steps: int = 0
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[EpochLosses] = field(default_factory=list)


def resolve_device(requested: Literal["auto", "cpu", "cuda"]) -> str:
    """Return "cpu" or "cuda". Raises ValueError where CUDA is requested and not available."""
    has_cuda = torch.cuda.is_available()
    if requested == "cuda" and not has_cuda:
        raise ValueError('device is "cuda", but torch finds no CUDA device. Use "auto" or "cpu".')
    return "cuda" if has_cuda and requested != "cpu" else "cpu"


def train(
    tiles: TileImages,
    labels: Labels,
    config: NetworkTrainingConfig,
    net: NetConfig,
    validation: tuple[TileImages, Labels] | None = None,
    checkpoint_dir: Path | None = None,
    progress: ProgressCallback = ignore_progress,
) -> TrainedNetwork:
    """Train on tiles (n, side, side, 3) uint8 with labels (n,).

    validation: tiles of other patients, for early stopping. checkpoint_dir: where checkpoints are written, and read to
    resume. Raises ValueError where tiles and labels do not fit the network.
    """
    _check_inputs(tiles, labels, net)
    device, threads = resolve_device(config.device), torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(config.seed)
            state = _initialise(config, net, len(tiles), device)
            if checkpoint_dir is not None:
                _load_checkpoint(state, checkpoint_dir, device)
            while state.epoch < config.epochs and not _should_stop(state, config):
                _train_epoch(state, tiles, labels, validation, config, device)
                progress(state.epoch, config.epochs)
                if checkpoint_dir is not None:
                    _save_checkpoint(state, checkpoint_dir)
    finally:
        torch.set_num_threads(threads)
    state.averaged_net.load_state_dict(state.best_weights)
    averaged_net = state.averaged_net.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return TrainedNetwork(averaged_net.eval(), tuple(state.history), state.best_epoch, device)


def _initialise(config: NetworkTrainingConfig, net: NetConfig, rows: int, device: str) -> _TrainingState:
    model = TileNet(net)
    model.freeze(config.frozen_blocks)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # Lite0's 0.01 lags behind weights that train for minutes, not days
            layer.momentum = 0.1
    model = model.to(device, memory_format=MEMORY_FORMAT)  # type: ignore[call-overload]
    head, body = (
        list(model.head.parameters()),
        [parameter for parameter in model.features.parameters() if parameter.requires_grad],
    )
    parameter_groups = [
        (parameters, rate)
        for parameters, rate in (
            (body, config.learning_rate * config.backbone_rate_factor),
            (head, config.learning_rate),
        )
        if parameters
    ]
    groups = [{"params": parameters, "lr": rate} for parameters, rate in parameter_groups]
    optimiser = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    steps = config.epochs * -(-rows // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [rate for _, rate in parameter_groups], total_steps=steps)
    averaged_net = copy.deepcopy(model).requires_grad_(False)
    return _TrainingState(model, averaged_net, optimiser, schedule)


def _train_epoch(
    state: _TrainingState,
    tiles: TileImages,
    labels: Labels,
    validation: tuple[TileImages, Labels] | None,
    config: NetworkTrainingConfig,
    device: str,
) -> None:
    """Train on all rows once, in an order that depends on the epoch."""
    seed = int(np.random.SeedSequence([config.seed, state.epoch]).generate_state(1)[0])
    generator = torch.Generator().manual_seed(seed)
    mixup_rng = np.random.default_rng(seed)
    torch.manual_seed(seed + 1)  # for dropout
    targets, weights = (
        _soft_targets(labels, state.net.config.classes, config),
        _class_weights(labels, state.net.config.classes),
    )
    state.net.train()
    loss_sum = 0.0
    order = torch.randperm(len(tiles), generator=generator)
    for start in range(0, len(tiles), config.batch_size):
        rows = order[start : start + config.batch_size]
        pixels = augment(torch.from_numpy(tiles[rows.numpy()]).to(device), config.augment, generator)
        target, weight = targets[rows].to(device), weights[rows].to(device)
        if config.mixup:
            permutation = torch.randperm(len(rows), generator=generator)
            mix_share = float(mixup_rng.beta(config.mixup, config.mixup))
            pixels, target = (
                mix_share * pixels + (1 - mix_share) * pixels[permutation],
                mix_share * target + (1 - mix_share) * target[permutation],
            )
            weight = mix_share * weight + (1 - mix_share) * weight[permutation]
        with torch.autocast(device, enabled=device == "cuda"):
            logits, _ = state.net.forward_pixels(pixels.contiguous(memory_format=MEMORY_FORMAT))
        losses = -(target * functional.log_softmax(logits.float(), -1)).sum(-1)
        loss = (weight * losses).mean()
        state.optimiser.zero_grad()
        torch.autograd.backward(loss)
        state.optimiser.step()
        state.schedule.step()
        state.steps += 1
        _update_average(state, config)
        loss_sum += float(loss.detach()) * len(rows)
    state.epoch += 1
    validation_loss = float("nan") if validation is None else mean_class_loss(state.averaged_net, *validation, device)
    state.history.append(EpochLosses(loss_sum / len(tiles), validation_loss))
    if (
        validation is None
        or len(state.history) == 1
        or validation_loss < state.history[state.best_epoch].validation_loss
    ):
        state.best_epoch = state.epoch - 1
        state.best_weights = {
            name: value.detach().cpu().clone() for name, value in state.averaged_net.state_dict().items()
        }


def _update_average(state: _TrainingState, config: NetworkTrainingConfig) -> None:
    """Average weights and batch statistics; the first steps weigh equally, to forget the initial weights quickly."""
    decay = min(config.ema_decay, state.steps / (state.steps + 10))
    with torch.no_grad():
        for average, current in zip(
            state.averaged_net.state_dict().values(), state.net.state_dict().values(), strict=True
        ):
            if average.is_floating_point():
                average.lerp_(current, 1 - decay)
            else:
                average.copy_(current)


def _soft_targets(labels: Labels, classes: int, config: NetworkTrainingConfig) -> Tensor:
    """(n, classes) weight of each class, after label smoothing."""
    identity = torch.eye(classes)
    if config.ordinal:
        neighbours = torch.diag(torch.ones(classes - 1), 1) + torch.diag(torch.ones(classes - 1), -1)
    else:
        neighbours = 1 - identity
    soft_targets = (1 - config.label_smoothing) * identity + config.label_smoothing * neighbours / neighbours.sum(
        1, keepdim=True
    )
    return soft_targets[torch.from_numpy(labels)]


def _class_weights(labels: Labels, classes: int) -> Tensor:
    """(n,) with mean 1; the weight of a class is proportional to 1 / sqrt(its number of tiles)."""
    count = np.bincount(labels, minlength=classes)
    weight = torch.tensor(1 / np.sqrt(count.clip(1)), dtype=torch.float32)[torch.from_numpy(labels)]
    return weight / weight.mean()


def _should_stop(state: _TrainingState, config: NetworkTrainingConfig) -> bool:
    return bool(config.patience and state.epoch - 1 - state.best_epoch >= config.patience and state.history)


def predict(
    net: TileNet,
    tiles: TileImages,
    device: str = "cpu",
    symmetry_count: int = 1,
    progress: ProgressCallback = ignore_progress,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n, classes) logits and (n, 1280) embeddings of tiles (n, side, side, 3), averaged over so many symmetries."""
    net = net.to(device).eval()
    outputs: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode():
        for start in range(0, len(tiles), INFERENCE_BATCH):
            batch = torch.from_numpy(tiles[start : start + INFERENCE_BATCH]).to(device)
            predictions = [net(view) for view in symmetries(batch, symmetry_count)]
            outputs.append(
                (
                    torch.stack([a for a, _ in predictions]).mean(0).cpu(),
                    torch.stack([b for _, b in predictions]).mean(0).cpu(),
                )
            )
            progress(min(start + INFERENCE_BATCH, len(tiles)), len(tiles))
    logits, embedding = (torch.cat(batch).numpy() for batch in zip(*outputs, strict=True))
    return logits, embedding


def mean_class_loss(net: TileNet, tiles: TileImages, labels: Labels, device: str) -> float:
    """Mean log loss, in which every class has the same weight."""
    logits, _ = predict(net, tiles, device)
    losses = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels), reduction="none").numpy()
    return float(np.mean([losses[labels == label].mean() for label in np.unique(labels)]))


def _save_checkpoint(state: _TrainingState, folder: Path) -> None:
    """Write the checkpoint atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".{CHECKPOINT_FILE}.{os.getpid()}"
    content = {
        "net": state.net.state_dict(),
        "mean": state.averaged_net.state_dict(),
        "kept": state.best_weights,
        "optimiser": state.optimiser.state_dict(),
        "schedule": {k: v for k, v in state.schedule.state_dict().items() if isinstance(v, (int, float, list))},
        "numbers": [state.epoch, state.steps, state.best_epoch],
        "history": [[epoch.train_loss, epoch.validation_loss] for epoch in state.history],
    }
    torch.save(content, scratch)
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.replace(folder / CHECKPOINT_FILE)


def _load_checkpoint(state: _TrainingState, folder: Path, device: str) -> None:
    if not (folder / CHECKPOINT_FILE).exists():
        return
    checkpoint = torch.load(folder / CHECKPOINT_FILE, weights_only=True, map_location=device)
    state.net.load_state_dict(checkpoint["net"])
    state.averaged_net.load_state_dict(checkpoint["mean"])
    state.optimiser.load_state_dict(checkpoint["optimiser"])
    state.schedule.load_state_dict(checkpoint["schedule"])
    state.epoch, state.steps, state.best_epoch = checkpoint["numbers"]
    state.best_weights = checkpoint["kept"]
    state.history = [EpochLosses(*losses) for losses in checkpoint["history"]]


def _check_inputs(tiles: TileImages, labels: Labels, net: NetConfig) -> None:
    if tiles.ndim != 4 or tiles.shape[1:] != (net.side, net.side, 3) or tiles.dtype != np.uint8:
        raise ValueError(
            f"The tiles are {tiles.shape} {tiles.dtype}; (n, {net.side}, {net.side}, 3) uint8 is expected."
        )
    if len(tiles) != len(labels) or len(tiles) < 2:
        raise ValueError(
            f"There are {len(tiles)} tiles and {len(labels)} labels; at least two tiles with one label each are "
            "expected."
        )
    if labels.min() < 0 or labels.max() >= net.classes:
        raise ValueError(f"The labels run from {labels.min()} to {labels.max()}; 0 to {net.classes - 1} are expected.")
