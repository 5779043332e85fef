"""Augment tiles as other laboratories and scanners would have produced them: rotated, scaled, stained differently.

pixels = augment(tiles, config, generator)      # uint8 (n, side, side, 3) -> (n, 3, side, side) float, 0 to 255

Size and colour carry the diagnosis, so both vary only as much as they do between laboratories.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from training.config import ConfigSection

WHITE_LEVEL = 255.0


class AugmentConfig(ConfigSection):
    """turn: rotate by any angle, and mirror. zoom_range: range of the factor by which a tile is enlarged. stain: the
    optical density of each colour is multiplied by 1 +- this, so white stays white. blur: share of blurred tiles."""

    turn: bool = True
    zoom_range: tuple[float, float] = (0.8, 1.15)
    stain: float = Field(default=0.15, ge=0, lt=1)
    blur: float = Field(default=0.1, ge=0, le=1)


def augment(tiles: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Augment tiles (n, side, side, 3) uint8 to (n, 3, side, side) float, 0 to 255.

    All random numbers come from `generator` (on the CPU); how many are drawn does not depend on the pixels.
    """
    pixels = tiles.permute(0, 3, 1, 2).float()
    return _blur_random(
        _vary_stain(_transform_geometry(pixels, config, generator), config, generator), config, generator
    )


def _transform_geometry(pixels: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Rotate, mirror and scale; a tile is reflected beyond its edge."""
    n, device = len(pixels), pixels.device
    angle = torch.rand(n, generator=generator) * (2 * math.pi if config.turn else 0.0)
    mirror = torch.where(torch.rand(n, generator=generator) < (0.5 if config.turn else 0.0), -1.0, 1.0)
    low, high = config.zoom_range
    scale = 1 / (low + (high - low) * torch.rand(n, generator=generator))
    cos, sin, zeros = torch.cos(angle) * scale, torch.sin(angle) * scale, torch.zeros(n)
    rows = torch.stack([torch.stack([cos * mirror, -sin, zeros], 1), torch.stack([sin * mirror, cos, zeros], 1)], 1)
    grid = functional.affine_grid(rows.to(device), list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _vary_stain(pixels: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Vary the optical density, which is -log of the transmittance (Beer-Lambert law) and proportional to the stain."""
    factor = 1 + config.stain * (2 * torch.rand((len(pixels), 3, 1, 1), generator=generator) - 1)
    transmittance = (pixels.clamp(0, WHITE_LEVEL) / WHITE_LEVEL).clamp(min=1 / 512)
    return WHITE_LEVEL * transmittance ** factor.to(pixels.device)


def _blur_random(pixels: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    selected = (torch.rand(len(pixels), generator=generator) < config.blur).to(pixels.device)
    blurred = functional.avg_pool2d(functional.pad(pixels, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    return torch.where(selected[:, None, None, None], blurred, pixels)


def symmetries(tiles: Tensor, count: int) -> list[Tensor]:
    """The first `count` of the eight rotations and reflections of square tiles (n, side, side, 3)."""
    rotations = [torch.rot90(tiles, turn, (1, 2)) for turn in range(4)]
    return [*rotations, *(rotated.flip(2) for rotated in rotations)][:count]
