"""What cells are painted with: smooth noise, polar coordinates and closed outlines, all in microns."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
ANGLES = 256  # points of an outline
SCALES = {"grain": 0.45, "clump": 1.0, "cloud": 5.0}  # microns: fine chromatin, coarse chromatin, cytoplasm
SHEET_SIDE = 256.0  # microns a side of a sheet of noise
MAX_RADIUS = 40.0  # microns from the middle of a patch to its side, at most


@lru_cache(maxsize=16)
def noise_sheet(kind: str, mpp: float) -> Plane:
    """Gaussian noise of mean 0 and deviation 1, smoothed over `SCALES[kind]` microns; it wraps around."""
    side = max(256, round(SHEET_SIDE / mpp))
    frequency = np.fft.fftfreq(side)
    squared_frequency = frequency[:, None] ** 2 + frequency[None, : side // 2 + 1] ** 2
    white_noise = np.random.default_rng(sorted(SCALES).index(kind)).standard_normal((side, side))
    spectrum = np.fft.rfft2(white_noise) * np.exp(-2 * (np.pi * SCALES[kind] / mpp) ** 2 * squared_frequency)
    noise = np.fft.irfft2(spectrum, (side, side))
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def sample_noise(rng: np.random.Generator, kind: str, mpp: float, height: int, width: int) -> Plane:
    """A piece of the sheet, from anywhere on it."""
    full_sheet = noise_sheet(kind, mpp)
    y, x = rng.integers(0, len(full_sheet) - height + 1), rng.integers(0, len(full_sheet) - width + 1)
    return full_sheet[y : y + height, x : x + width]


@lru_cache(maxsize=4)
def _polar(mpp: float) -> tuple[Plane, NDArray[np.uint8]]:
    half_side = round(2 * MAX_RADIUS / mpp)
    y, x = np.mgrid[-half_side : half_side + 1, -half_side : half_side + 1] * mpp
    angle = np.rint(np.arctan2(y, x) / (2 * np.pi) * ANGLES).astype(np.int64) % ANGLES
    return np.hypot(x, y).astype(np.float32), angle.astype(np.uint8)


def polar(mpp: float, half_side: int, y: int = 0, x: int = 0) -> tuple[Plane, NDArray[np.uint8]]:
    """Of a patch of 2 * half + 1 pixels: microns from a point, and angle; (y, x) is in pixels from the middle."""
    distance, angle = _polar(mpp)
    centre = len(distance) // 2
    rows = slice(centre - half_side - y, centre + half_side + 1 - y)
    columns = slice(centre - half_side - x, centre + half_side + 1 - x)
    return distance[rows, columns], angle[rows, columns]


def draw_outline(
    rng: np.random.Generator,
    radius: float,
    *,
    corners: int = 0,
    stretch: float = 1.0,
    wobble: float = 0.0,
    dent_count: int = 0,
    tail: float = 0.0,
) -> Plane:
    """(ANGLES,) microns from the middle to the edge; it encloses pi * radius**2, and the tail besides.

    corners: a polygon of so many sides with its corners rounded; 0 is an ellipse.
    stretch: the longer axis over the shorter.
    wobble:  deviation of the edge from smooth, as a share of the radius.
    tail:    its length, in radii.
    """
    angle = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    edge = np.ones(ANGLES)
    if corners:
        normals = (np.arange(corners) + rng.uniform(-0.32, 0.32, corners)) * (2 * np.pi / corners)
        distances = rng.uniform(0.75, 1.15, corners)
        projections = np.maximum(np.cos(angle - (normals + rng.uniform(0, 7))[:, None]), 1e-3)
        edge = ((projections / distances[:, None]) ** 9).sum(0) ** (-1 / 9)
    rotation = rng.uniform(0, 2 * np.pi)
    axis_ratio = np.sqrt(stretch)
    edge = edge / np.hypot(np.cos(angle - rotation) / axis_ratio, np.sin(angle - rotation) * axis_ratio)
    waves = np.arange(2, 12)
    sizes = rng.standard_normal(len(waves)) * wobble / (waves - 1) ** 0.8
    edge *= 1 + (sizes[:, None] * np.cos(waves[:, None] * angle + rng.uniform(0, 7, len(waves))[:, None])).sum(0)
    for _ in range(dent_count):
        edge *= 1 - rng.uniform(0.12, 0.38) * np.exp(-((_relative_angle(angle, rng) / rng.uniform(0.2, 0.45)) ** 2))
    edge = np.maximum(edge, 0.25)
    edge *= radius / np.sqrt((edge**2).mean())
    if tail:
        edge += radius * tail * np.exp(-((_relative_angle(angle, rng) / rng.uniform(0.14, 0.24)) ** 2))
    return np.asarray(np.minimum(edge, MAX_RADIUS - 2), np.float32)


def _relative_angle(angle: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    """Angles from a random direction, -pi to pi."""
    return (angle - rng.uniform(0, 2 * np.pi) + np.pi) % (2 * np.pi) - np.pi
