"""Paints one cell, as a microscope would see its dyes. SIMULATED: no such cell was ever on a slide.

cell = paint(np.random.default_rng(7), KINDS["koilocyte"], mpp=0.5)     # cell.nuclear, cell.cytoplasm: (h, w) densities
"""

from __future__ import annotations

import numpy as np

from datasets.slides.simulate.cell_types import OTHER, Cell, Kind
from datasets.slides.simulate.noise import REACH, Plane, noise, outline, polar


def paint(rng: np.random.Generator, kind: Kind, mpp: float) -> Cell:
    radius = rng.uniform(*kind.nucleus)
    size = radius / np.sqrt(rng.uniform(*kind.ratio)) if kind.ratio[1] else max(rng.uniform(*kind.cell), 1.2 * radius)
    corners = round(rng.uniform(*kind.corners))
    tail = rng.uniform(1.2, 2.8) if rng.random() < kind.tail else 0.0
    stretch = rng.uniform(*kind.stretch)
    edge = outline(
        rng, size, corners=corners if corners > 3 else 0, stretch=stretch, wobble=rng.uniform(*kind.wobble), tail=tail
    )
    half = min(round(REACH / mpp), int(np.ceil((float(edge.max()) + 2.0) / mpp)))
    rho, angle = polar(mpp, half)
    inside = edge[angle] - rho  # microns to the edge
    side = 2 * half + 1
    cytoplasm = rng.uniform(*kind.thickness) * _cover(inside, mpp)
    cytoplasm *= 1 + 0.16 * noise(rng, "cloud", mpp, side, side) + 0.07 * noise(rng, "clump", mpp, side, side)
    cytoplasm *= 1 + rng.uniform(0.1, 0.5) * np.exp(-np.square(inside / rng.uniform(0.6, 1.4)))
    cytoplasm *= 1 + rng.uniform(-0.2, 0.3) * np.exp(-np.square(rho / (0.5 * size)))
    for _ in range(rng.poisson(kind.folds)):
        cytoplasm *= 1 + _fold(rng, mpp, half, size)

    centres = [_near(rng, mpp, 0.16 * size)]
    if rng.random() < kind.second:
        way, apart = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.05) * radius / mpp
        y, x = centres[0]
        shift = round(apart * np.sin(way)), round(apart * np.cos(way))
        centres = [(y + shift[0], x + shift[1]), (y - shift[0], x - shift[1])]
        radius *= 0.88
    middle = round(sum(y for y, _ in centres) / len(centres)), round(sum(x for _, x in centres) / len(centres))
    reach = radius * (1.7 if len(centres) > 1 else 1.0)
    if rng.random() < kind.halo:
        _hollow(
            rng, cytoplasm, mpp, half, middle, min(reach * rng.uniform(1.35, 2.1), 0.85 * size), rng.uniform(0.5, 0.9)
        )
    elif rng.random() < kind.narrow:
        _hollow(rng, cytoplasm, mpp, half, middle, reach * rng.uniform(1.15, 1.45), rng.uniform(0.3, 0.7))

    nuclear = np.zeros_like(cytoplasm)
    for place in centres:
        _nucleus(rng, kind, nuclear, mpp, half, place, radius, inside)
    areas = float((nuclear > 0.2).sum()) * mpp**2, float((inside > 0).sum()) * mpp**2
    pink = rng.uniform(0.7, 1.0) if rng.random() < kind.pink else rng.uniform(0.0, 0.3)
    return Cell(kind.name, kind.label, nuclear, np.maximum(cytoplasm, 0), pink, middle[::-1], areas, size, kind.crowd)


def _cover(inside: Plane, mpp: float) -> Plane:
    """How far a pixel lies in an outline, with an edge a little wider than a pixel."""
    return np.asarray(np.clip(inside / (1.3 * mpp) + 0.5, 0, 1), np.float32)


def _near(rng: np.random.Generator, mpp: float, spread: float) -> tuple[int, int]:
    y, x = np.clip(rng.normal(0, spread / 2, 2), -spread, spread)
    return round(y / mpp), round(x / mpp)


def _fold(rng: np.random.Generator, mpp: float, half: int, size: float) -> Plane:
    """A crease across the cell: a dark line that fades at both ends."""
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32) * mpp
    way, away, bend = rng.uniform(0, np.pi), rng.normal(0, 0.45 * size), rng.normal(0, 0.008)
    along, across = x * np.cos(way) + y * np.sin(way), y * np.cos(way) - x * np.sin(way) - away
    across -= bend * along**2
    fade = np.exp(-np.square((along - rng.normal(0, 0.3 * size)) / rng.uniform(0.25, 0.7) / size))
    return np.asarray(rng.uniform(0.4, 1.3) * fade * np.exp(-np.square(across / rng.uniform(0.4, 0.9))), np.float32)


def _hollow(
    rng: np.random.Generator, cytoplasm: Plane, mpp: float, half: int, at: tuple[int, int], radius: float, clear: float
) -> None:
    """A hollow around the nucleus with a thick edge, cut into the cytoplasm."""
    edge = outline(rng, radius, stretch=rng.uniform(1.0, 1.5), wobble=rng.uniform(0.02, 0.06))
    rho, angle = polar(mpp, half, *at)
    inside = edge[angle] - rho
    cytoplasm *= 1 - clear * np.clip(inside / 1.2 + 0.5, 0, 1)
    cytoplasm *= 1 + clear * rng.uniform(0.3, 1.2) * np.exp(-np.square((inside + 1.6) / 1.8))


def _nucleus(
    rng: np.random.Generator,
    kind: Kind,
    nuclear: Plane,
    mpp: float,
    half: int,
    at: tuple[int, int],
    radius: float,
    inside: Plane,
) -> None:
    edge = outline(
        rng, radius, stretch=rng.uniform(*kind.oval), wobble=rng.uniform(*kind.edge), dents=rng.poisson(kind.dents)
    )
    rho, angle = polar(mpp, half, *at)
    rows = slice(max(0, half + at[0] - int(2.2 * radius / mpp)), half + at[0] + int(2.2 * radius / mpp) + 1)
    columns = slice(max(0, half + at[1] - int(2.2 * radius / mpp)), half + at[1] + int(2.2 * radius / mpp) + 1)
    rho, angle = rho[rows, columns], angle[rows, columns]
    depth = np.minimum(edge[angle] - rho, inside[rows, columns] - 0.4)  # a nucleus never leaves its cell
    height, width = depth.shape
    coarse = rng.uniform(*kind.coarse)
    chromatin = (
        1 + coarse * noise(rng, "clump", mpp, height, width) + 0.6 * coarse * noise(rng, "grain", mpp, height, width)
    )
    chromatin *= 1 + rng.uniform(0.1, 0.6) * np.exp(-np.square(depth / 0.7))
    for _ in range(rng.poisson(kind.nucleoli)):
        y, x = rng.normal(0, 0.35 * radius, 2)
        spot, _ = polar(mpp, half, at[0] + round(y / mpp), at[1] + round(x / mpp))
        chromatin *= 1 + rng.uniform(0.5, 1.0) * np.exp(-np.square(spot[rows, columns] / rng.uniform(0.6, 1.1)))
    painted = rng.uniform(*kind.darkness) * _cover(depth, mpp) * np.clip(chromatin, 0.15, 2.2)
    np.maximum(nuclear[rows, columns], painted, out=nuclear[rows, columns])


def neutrophil(rng: np.random.Generator, mpp: float) -> Cell:
    """A polymorph of about 11 um: a pale body and two to four dark lobes."""
    half = round(8 / mpp)
    rho, angle = polar(mpp, half)
    cytoplasm = rng.uniform(0.03, 0.2) * _cover(outline(rng, rng.uniform(4.5, 6.0), wobble=0.04)[angle] - rho, mpp)
    nuclear = np.zeros_like(cytoplasm)
    way, bend = rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 2.0)
    for lobe in range(rng.integers(2, 5)):
        place = round(2.2 / mpp * np.sin(way + bend * lobe)), round(2.2 / mpp * np.cos(way + bend * lobe))
        rho, angle = polar(mpp, half, *place)
        edge = outline(rng, rng.uniform(1.4, 2.2), stretch=rng.uniform(1.0, 1.5))
        np.maximum(nuclear, rng.uniform(0.9, 1.7) * _cover(edge[angle] - rho, mpp), out=nuclear)
    return Cell("neutrophil", OTHER, nuclear, cytoplasm, rng.uniform(0, 0.6), radius=5.5, crowd=0.5)


def debris(rng: np.random.Generator, mpp: float) -> Cell:
    """A scrap of a broken cell or a smudged bare nucleus: irregular, of any darkness."""
    radius = float(np.exp(rng.uniform(np.log(1.0), np.log(7.0))))
    half = round((2.2 * radius + 2) / mpp)
    rho, angle = polar(mpp, half)
    edge = outline(rng, radius, stretch=rng.uniform(1, 2.5), wobble=rng.uniform(0.03, 0.2), dents=rng.poisson(1))
    side = 2 * half + 1
    body = np.clip((edge[angle] - rho) / rng.uniform(0.6, 2.5) + 0.5, 0, 1)
    body *= np.clip(1 + 0.4 * noise(rng, "clump", mpp, side, side), 0, 2)
    dark = rng.uniform(0, 1.3)
    return Cell("debris", OTHER, dark * body, rng.uniform(0.1, 0.5) * body, rng.uniform(0, 1), radius=radius)


def mucus(rng: np.random.Generator, mpp: float) -> Cell:
    """A veil with strands, and at times bacteria as fine dark dots."""
    half = round(rng.uniform(14, 32) / mpp)
    side = 2 * half + 1
    rho, angle = polar(mpp, half)
    edge = outline(rng, 0.7 * half * mpp, stretch=rng.uniform(1, 2), wobble=0.1)
    veil = np.clip((np.minimum(edge[angle], half * mpp - 4) - rho) / 8, 0, 1)
    strands = np.exp(-np.square(noise(rng, "cloud", mpp, side, side) / rng.uniform(0.08, 0.3)))
    body = veil * (rng.uniform(0.0, 0.1) + rng.uniform(0.08, 0.3) * strands)
    dots = veil * rng.uniform(0.3, 0.9) * np.clip(noise(rng, "grain", mpp, side, side) - rng.uniform(1.6, 2.4), 0, 1)
    nuclear = dots if rng.random() < 0.5 else np.zeros_like(body)
    return Cell("mucus", OTHER, nuclear, body, rng.uniform(0, 0.7), radius=half * mpp)
