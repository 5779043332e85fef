"""Learn a network over tiles: deterministic from a seed, stopped early, resumed where it was broken off.

learned = learn(tiles, labels, LearnConfig(), NetConfig(), held=(tiles, labels), folder=Path("var/checkpoints/run"))
learned.net, learned.history
logits, embedding = predict(learned.net, tiles, device)

An epoch's random numbers depend on the seed and the epoch alone, so a run that was resumed is the unbroken run, bit for
bit, on the same machine and number of threads. A CUDA device is used if there is one; there equal seeds give like
results, not the same bits.
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

from models.pathology.network import NetConfig, TileNet
from training.config import Settings
from training.pathology.augment import AugmentConfig, augment, symmetries
from training.progress import Tick, ignore

Tiles = NDArray[np.uint8]  # (n, side, side, 3)
Labels = NDArray[np.intp]  # (n,)
CHECKPOINT = "last.pt"
LAYOUT = torch.channels_last  # a step takes 0.7 of the time on a CPU
BATCH = 128  # tiles in one forward pass where nothing is learned


class LearnConfig(Settings):
    """frozen: first blocks left as ImageNet made them. body: share of the head's rate. smoothing: of a label's weight,
    given to its neighbours where classes are `ordinal`, to all classes where not. patience: epochs without a smaller
    loss on the held rows before it stops; 0 runs them all. moving: of the averaged weights, which are the ones kept."""

    epochs: int = Field(default=14, ge=1)
    batch: int = Field(default=24, ge=2)
    rate: float = Field(default=2e-3, gt=0)
    body: float = Field(default=1 / 3, gt=0)
    decay: float = Field(default=0.02, ge=0)
    frozen: int = Field(default=3, ge=0)
    mixup: float = Field(default=0.2, ge=0)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    ordinal: bool = True
    moving: float = Field(default=0.98, ge=0, lt=1)
    patience: int = Field(default=4, ge=0)
    seed: int = 0
    threads: int = Field(default=2, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    augment: AugmentConfig = AugmentConfig()


@dataclass(frozen=True)
class Epoch:
    """Mean losses; `held` is that of the averaged weights on the rows held back, NaN where there are none."""

    learned: float
    held: float


@dataclass(frozen=True)
class Learned:
    """The averaged weights of the best epoch; `best` counts from 0."""

    net: TileNet
    history: tuple[Epoch, ...]
    best: int
    device: str


@dataclass
class _State:
    """All that a run needs to go on. `steps`: of the averaged weights, which start as a plain mean."""

    net: TileNet
    mean: TileNet
    optimiser: torch.optim.Optimizer
    schedule: Any
    epoch: int = 0
    steps: int = 0
    best: int = 0
    kept: dict[str, Tensor] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)


def device_of(asked: Literal["auto", "cpu", "cuda"]) -> str:
    """Raises ValueError where CUDA is asked for and not there."""
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise ValueError('device is "cuda", and torch finds none here. Say "auto" or "cpu".')
    return "cuda" if there and asked != "cpu" else "cpu"


def learn(
    tiles: Tiles,
    labels: Labels,
    config: LearnConfig,
    net: NetConfig,
    held: tuple[Tiles, Labels] | None = None,
    folder: Path | None = None,
    tick: Tick = ignore,
) -> Learned:
    """`held`: tiles of other patients, by whose loss it stops. `folder`: where a checkpoint is kept, and resumed from.

    Raises ValueError where tiles and labels do not fit the network.
    """
    _check(tiles, labels, net)
    device, threads = device_of(config.device), torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(config.seed)
            state = _start(config, net, len(tiles), device)
            if folder is not None:
                _resume(state, folder, device)
            while state.epoch < config.epochs and not _done(state, config):
                _epoch(state, tiles, labels, held, config, device)
                tick(state.epoch, config.epochs)
                if folder is not None:
                    _save(state, folder)
    finally:
        torch.set_num_threads(threads)
    state.mean.load_state_dict(state.kept)
    best = state.mean.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return Learned(best.eval(), tuple(state.history), state.best, device)


def _start(config: LearnConfig, net: NetConfig, rows: int, device: str) -> _State:
    model = TileNet(net)
    model.freeze(config.frozen)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # Lite0's .01 lags behind weights that learn for minutes, not days
            layer.momentum = 0.1
    model = model.to(device, memory_format=LAYOUT)  # type: ignore[call-overload]
    head, body = list(model.head.parameters()), [one for one in model.features.parameters() if one.requires_grad]
    parts = [(part, rate) for part, rate in ((body, config.rate * config.body), (head, config.rate)) if part]
    groups = [{"params": part, "lr": rate} for part, rate in parts]
    optimiser = torch.optim.AdamW(groups, weight_decay=config.decay)
    steps = config.epochs * -(-rows // config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [rate for _, rate in parts], total_steps=steps)
    mean = copy.deepcopy(model).requires_grad_(False)
    return _State(model, mean, optimiser, schedule)


def _epoch(
    state: _State, tiles: Tiles, labels: Labels, held: tuple[Tiles, Labels] | None, config: LearnConfig, device: str
) -> None:
    """All rows once, in an order of this epoch's own."""
    seed = int(np.random.SeedSequence([config.seed, state.epoch]).generate_state(1)[0])
    generator = torch.Generator().manual_seed(seed)
    beta = np.random.default_rng(seed)
    torch.manual_seed(seed + 1)  # dropout's
    targets, weights = _targets(labels, state.net.config.classes, config), _weights(labels, state.net.config.classes)
    state.net.train()
    total = 0.0
    order = torch.randperm(len(tiles), generator=generator)
    for start in range(0, len(tiles), config.batch):
        rows = order[start : start + config.batch]
        pixels = augment(torch.from_numpy(tiles[rows.numpy()]).to(device), config.augment, generator)
        target, weight = targets[rows].to(device), weights[rows].to(device)
        if config.mixup:
            other = torch.randperm(len(rows), generator=generator)
            share = float(beta.beta(config.mixup, config.mixup))
            pixels, target = share * pixels + (1 - share) * pixels[other], share * target + (1 - share) * target[other]
            weight = share * weight + (1 - share) * weight[other]
        with torch.autocast(device, enabled=device == "cuda"):
            logits, _ = state.net.read(pixels.contiguous(memory_format=LAYOUT))
        losses = -(target * functional.log_softmax(logits.float(), -1)).sum(-1)
        loss = (weight * losses).mean()
        state.optimiser.zero_grad()
        torch.autograd.backward(loss)
        state.optimiser.step()
        state.schedule.step()
        state.steps += 1
        _average(state, config)
        total += float(loss.detach()) * len(rows)
    state.epoch += 1
    found = float("nan") if held is None else loss_of(state.mean, *held, device)
    state.history.append(Epoch(total / len(tiles), found))
    if held is None or len(state.history) == 1 or found < state.history[state.best].held:
        state.best = state.epoch - 1
        state.kept = {name: value.detach().cpu().clone() for name, value in state.mean.state_dict().items()}


def _average(state: _State, config: LearnConfig) -> None:
    """Weights and batch statistics; the first steps weigh alike, so that where it began is soon forgotten."""
    moving = min(config.moving, state.steps / (state.steps + 10))
    with torch.no_grad():
        for mean, now in zip(state.mean.state_dict().values(), state.net.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - moving)
            else:
                mean.copy_(now)


def _targets(labels: Labels, classes: int, config: LearnConfig) -> Tensor:
    """(n, classes) each label's weight, a part of it on its neighbours."""
    one = torch.eye(classes)
    if config.ordinal:
        near = torch.diag(torch.ones(classes - 1), 1) + torch.diag(torch.ones(classes - 1), -1)
    else:
        near = 1 - one
    soft = (1 - config.smoothing) * one + config.smoothing * near / near.sum(1, keepdim=True)
    return soft[torch.from_numpy(labels)]


def _weights(labels: Labels, classes: int) -> Tensor:
    """(n,) with mean 1: rare classes weigh more, by the root of how rare they are."""
    count = np.bincount(labels, minlength=classes)
    weight = torch.tensor(1 / np.sqrt(count.clip(1)), dtype=torch.float32)[torch.from_numpy(labels)]
    return weight / weight.mean()


def _done(state: _State, config: LearnConfig) -> bool:
    return bool(config.patience and state.epoch - 1 - state.best >= config.patience and state.history)


def predict(
    net: TileNet, tiles: Tiles, device: str = "cpu", turns: int = 1, tick: Tick = ignore
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n, classes) logits and (n, 1280) embeddings, means over the first `turns` of the eight symmetries."""
    net = net.to(device).eval()
    found: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode():
        for start in range(0, len(tiles), BATCH):
            part = torch.from_numpy(tiles[start : start + BATCH]).to(device)
            seen = [net(each) for each in symmetries(part, turns)]
            found.append(
                (torch.stack([a for a, _ in seen]).mean(0).cpu(), torch.stack([b for _, b in seen]).mean(0).cpu())
            )
            tick(min(start + BATCH, len(tiles)), len(tiles))
    logits, embedding = (torch.cat(part).numpy() for part in zip(*found, strict=True))
    return logits, embedding


def loss_of(net: TileNet, tiles: Tiles, labels: Labels, device: str) -> float:
    """Mean log loss, each class weighing the same."""
    logits, _ = predict(net, tiles, device)
    own = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels), reduction="none").numpy()
    return float(np.mean([own[labels == label].mean() for label in np.unique(labels)]))


def _save(state: _State, folder: Path) -> None:
    """Whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".{CHECKPOINT}.{os.getpid()}"
    content = {
        "net": state.net.state_dict(),
        "mean": state.mean.state_dict(),
        "kept": state.kept,
        "optimiser": state.optimiser.state_dict(),
        "schedule": {k: v for k, v in state.schedule.state_dict().items() if isinstance(v, (int, float, list))},
        "numbers": [state.epoch, state.steps, state.best],
        "history": [[one.learned, one.held] for one in state.history],
    }
    torch.save(content, scratch)
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.replace(folder / CHECKPOINT)


def _resume(state: _State, folder: Path, device: str) -> None:
    if not (folder / CHECKPOINT).exists():
        return
    found = torch.load(folder / CHECKPOINT, weights_only=True, map_location=device)
    state.net.load_state_dict(found["net"])
    state.mean.load_state_dict(found["mean"])
    state.optimiser.load_state_dict(found["optimiser"])
    state.schedule.load_state_dict(found["schedule"])
    state.epoch, state.steps, state.best = found["numbers"]
    state.kept = found["kept"]
    state.history = [Epoch(*one) for one in found["history"]]


def _check(tiles: Tiles, labels: Labels, net: NetConfig) -> None:
    if tiles.ndim != 4 or tiles.shape[1:] != (net.side, net.side, 3) or tiles.dtype != np.uint8:
        raise ValueError(f"The tiles are {tiles.shape} {tiles.dtype}; (n, {net.side}, {net.side}, 3) uint8 is needed.")
    if len(tiles) != len(labels) or len(tiles) < 2:
        raise ValueError(f"There are {len(tiles)} tiles and {len(labels)} labels; two at least, and as many of each.")
    if labels.min() < 0 or labels.max() >= net.classes:
        raise ValueError(f"The labels run from {labels.min()} to {labels.max()}; 0 to {net.classes - 1} are needed.")
