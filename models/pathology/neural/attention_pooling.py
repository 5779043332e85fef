"""Aggregate the tiles of a slide by gated attention over embeddings (Ilse, Tomczak & Welling 2018, eq. 9).

    a_k = softmax_k( w . (tanh(V h_k) * sigmoid(U h_k)) )        z = sum_k a_k h_k        logits = C z

This module imports torch, for training only. A service runs the exported graph: embeddings (k, d) -> logits,
attention (k,).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

Bag = NDArray[np.float32]  # (k, d) the embeddings of one slide's tiles; k differs from slide to slide


class AttentionConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding: int = Field(default=1280, ge=1)
    hidden: int = Field(default=64, ge=1)  # width of V and U
    classes: int = Field(default=2, ge=2)
    dropout: float = Field(default=0.25, ge=0, lt=1)  # of embedding values
    tiles_shown: int = Field(default=256, ge=1)  # of one slide at one step: a random part is an augmentation too
    epochs: int = Field(default=60, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    decay: float = Field(default=1e-3, ge=0)
    seed: int = 0


class GatedAttention(nn.Module):
    """(k, d) embeddings -> logits (classes,), attention (k,) that sums to 1. The order of the tiles does not matter."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: AttentionConfig):
        super().__init__()
        self.register_buffer("mean", torch.zeros(config.embedding))
        self.register_buffer("deviation", torch.ones(config.embedding))
        self.dropout = nn.Dropout(config.dropout)
        self.content = nn.Linear(config.embedding, config.hidden)  # V
        self.gate = nn.Linear(config.embedding, config.hidden)  # U
        self.weight = nn.Linear(config.hidden, 1, bias=False)  # w
        self.head = nn.Linear(config.embedding, config.classes)  # C

    def forward(self, bag: Tensor) -> tuple[Tensor, Tensor]:
        scaled = self.dropout(self.normalise(bag))
        attention = functional.softmax(self.scores(scaled), dim=0)  # (k,)
        return self.head(attention @ scaled), attention

    def normalise(self, bag: Tensor) -> Tensor:
        return (bag - self.mean) / self.deviation

    def scores(self, scaled: Tensor) -> Tensor:
        """(k,) the log of each tile's weight, before the weights are made to sum to 1."""
        gated = torch.tanh(self.content(scaled)) * torch.sigmoid(self.gate(scaled))
        weight: Tensor = self.weight(gated)
        return weight.squeeze(-1)


def fit_attention(
    bags: Sequence[Bag],
    labels: NDArray[np.intp],
    config: AttentionConfig | None = None,
    tile_head: nn.Linear | None = None,
) -> GatedAttention:
    """Train on one label per slide, with equal weights of the classes. Deterministic given the seed.

    tiles: the head (embedding -> classes) of the tiles. C starts as this head, so a slide of one tile gets that tile's
    result, and few slides suffice to learn where to look. Raises ValueError if bags and labels do not match.
    """
    config = config or AttentionConfig()
    _check_inputs(bags, labels, config)
    rng_state, threads = torch.random.get_rng_state(), torch.get_num_threads()  # neither changes for anybody else
    torch.manual_seed(config.seed)
    torch.set_num_threads(1)  # a slide's products are small: two threads that wait for each other took 6 times as long
    try:
        model = GatedAttention(config)
        all_embeddings = torch.from_numpy(np.concatenate(bags))
        model.mean.copy_(all_embeddings.mean(0))
        model.deviation.copy_(all_embeddings.std(0).clamp(min=1e-3))
        if tile_head is not None:
            _init_from_tile_head(model, tile_head)
        _train(model, bags, labels, config)
    finally:
        torch.random.set_rng_state(rng_state)
        torch.set_num_threads(threads)
    return model.eval()


@torch.no_grad()
def _init_from_tile_head(model: GatedAttention, tile_head: nn.Linear) -> None:
    """C h' + c = T h + t, where h' = (h - mean) / deviation."""
    weight, bias = tile_head.weight.cpu(), tile_head.bias.cpu()
    model.head.weight.copy_(weight * model.deviation)
    model.head.bias.copy_(bias + weight @ model.mean)


def _train(model: GatedAttention, bags: Sequence[Bag], labels: NDArray[np.intp], config: AttentionConfig) -> None:
    steps = config.epochs * len(bags)
    optimiser = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    class_counts = np.bincount(labels, minlength=config.classes)
    weight = torch.tensor(len(labels) / (class_counts.clip(1) * config.classes), dtype=torch.float32)
    model.train()
    for _ in range(config.epochs):
        for index in torch.randperm(len(bags)).tolist():
            bag = torch.from_numpy(bags[index])
            bag = bag[torch.randperm(len(bag))[: config.tiles_shown]]
            logits, _ = model(bag)
            label = int(labels[index])
            loss = weight[label] * functional.cross_entropy(logits[None], torch.tensor([label]))
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()


def _check_inputs(bags: Sequence[Bag], labels: NDArray[np.intp], config: AttentionConfig) -> None:
    if len(bags) != len(labels) or not len(bags):
        raise ValueError(f"There are {len(bags)} slides and {len(labels)} labels; one label a slide is needed.")
    invalid = [
        index for index, bag in enumerate(bags) if bag.ndim != 2 or bag.shape[1] != config.embedding or not len(bag)
    ]
    if invalid:
        raise ValueError(
            f"Slides {invalid[:5]}: their embeddings are {[bags[index].shape for index in invalid[:5]]}; "
            f"(tiles, {config.embedding}) with at least one tile is needed."
        )
    if labels.min() < 0 or labels.max() >= config.classes:
        raise ValueError(f"The labels run from {labels.min()} to {labels.max()}; 0 to {config.classes - 1} are needed.")
