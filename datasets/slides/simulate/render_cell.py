"""Paints one cell, as a microscope would see its dyes. SIMULATED: no such cell was ever on a slide.

cell = paint(np.random.default_rng(7), KINDS["koilocyte"], mpp=0.5)     # cell.nuclear, cell.cytoplasm: (h, w) densities
"""

from __future__ import annotations

import numpy as np

from datasets.slides.simulate.cell_types import OTHER, Cell, CellKind
from datasets.slides.simulate.noise import MAX_RADIUS, Plane, draw_outline, polar, sample_noise


def render(rng: np.random.Generator, kind: CellKind, mpp: float) -> Cell:
    radius = rng.uniform(*kind.nucleus)
    size = radius / np.sqrt(rng.uniform(*kind.ratio)) if kind.ratio[1] else max(rng.uniform(*kind.cell), 1.2 * radius)
    corners = round(rng.uniform(*kind.corners))
    tail = rng.uniform(1.2, 2.8) if rng.random() < kind.tail else 0.0
    stretch = rng.uniform(*kind.stretch)
    edge = draw_outline(
        rng, size, corners=corners if corners > 3 else 0, stretch=stretch, wobble=rng.uniform(*kind.wobble), tail=tail
    )
    half_side = min(round(MAX_RADIUS / mpp), int(np.ceil((float(edge.max()) + 2.0) / mpp)))
    rho, angle = polar(mpp, half_side)
    depth = edge[angle] - rho  # microns to the edge
    side = 2 * half_side + 1
    cytoplasm = rng.uniform(*kind.thickness) * _coverage(depth, mpp)
    cytoplasm *= (
        1 + 0.16 * sample_noise(rng, "cloud", mpp, side, side) + 0.07 * sample_noise(rng, "clump", mpp, side, side)
    )
    cytoplasm *= 1 + rng.uniform(0.1, 0.5) * np.exp(-np.square(depth / rng.uniform(0.6, 1.4)))
    cytoplasm *= 1 + rng.uniform(-0.2, 0.3) * np.exp(-np.square(rho / (0.5 * size)))
    for _ in range(rng.poisson(kind.fold_count)):
        cytoplasm *= 1 + _draw_fold(rng, mpp, half_side, size)

    centres = [_random_offset(rng, mpp, 0.16 * size)]
    if rng.random() < kind.binucleate:
        direction, separation = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.05) * radius / mpp
        y, x = centres[0]
        shift = round(separation * np.sin(direction)), round(separation * np.cos(direction))
        centres = [(y + shift[0], x + shift[1]), (y - shift[0], x - shift[1])]
        radius *= 0.88
    centre = round(sum(y for y, _ in centres) / len(centres)), round(sum(x for _, x in centres) / len(centres))
    extent = radius * (1.7 if len(centres) > 1 else 1.0)
    if rng.random() < kind.halo:
        _cut_hollow(
            rng,
            cytoplasm,
            mpp,
            half_side,
            centre,
            min(extent * rng.uniform(1.35, 2.1), 0.85 * size),
            rng.uniform(0.5, 0.9),
        )
    elif rng.random() < kind.narrow_halo:
        _cut_hollow(rng, cytoplasm, mpp, half_side, centre, extent * rng.uniform(1.15, 1.45), rng.uniform(0.3, 0.7))

    nuclear = np.zeros_like(cytoplasm)
    for nucleus_centre in centres:
        _draw_nucleus(rng, kind, nuclear, mpp, half_side, nucleus_centre, radius, depth)
    areas = float((nuclear > 0.2).sum()) * mpp**2, float((depth > 0).sum()) * mpp**2
    red_dye_share = rng.uniform(0.7, 1.0) if rng.random() < kind.red_dye else rng.uniform(0.0, 0.3)
    return Cell(
        kind.name,
        kind.label,
        nuclear,
        np.maximum(cytoplasm, 0),
        red_dye_share,
        centre[::-1],
        areas,
        size,
        kind.crowding,
    )


def _coverage(depth: Plane, mpp: float) -> Plane:
    """How far a pixel lies in an outline, with an edge a little wider than a pixel."""
    return np.asarray(np.clip(depth / (1.3 * mpp) + 0.5, 0, 1), np.float32)


def _random_offset(rng: np.random.Generator, mpp: float, spread: float) -> tuple[int, int]:
    y, x = np.clip(rng.normal(0, spread / 2, 2), -spread, spread)
    return round(y / mpp), round(x / mpp)


def _draw_fold(rng: np.random.Generator, mpp: float, half_side: int, size: float) -> Plane:
    """A crease across the cell: a dark line that fades at both ends."""
    y, x = np.mgrid[-half_side : half_side + 1, -half_side : half_side + 1].astype(np.float32) * mpp
    direction, distance, bend = rng.uniform(0, np.pi), rng.normal(0, 0.45 * size), rng.normal(0, 0.008)
    along, across = (
        x * np.cos(direction) + y * np.sin(direction),
        y * np.cos(direction) - x * np.sin(direction) - distance,
    )
    across -= bend * along**2
    fade = np.exp(-np.square((along - rng.normal(0, 0.3 * size)) / rng.uniform(0.25, 0.7) / size))
    return np.asarray(rng.uniform(0.4, 1.3) * fade * np.exp(-np.square(across / rng.uniform(0.4, 0.9))), np.float32)


def _cut_hollow(
    rng: np.random.Generator,
    cytoplasm: Plane,
    mpp: float,
    half_side: int,
    centre: tuple[int, int],
    radius: float,
    clearing: float,
) -> None:
    """A hollow around the nucleus with a thick edge, cut into the cytoplasm."""
    edge = draw_outline(rng, radius, stretch=rng.uniform(1.0, 1.5), wobble=rng.uniform(0.02, 0.06))
    rho, angle = polar(mpp, half_side, *centre)
    depth = edge[angle] - rho
    cytoplasm *= 1 - clearing * np.clip(depth / 1.2 + 0.5, 0, 1)
    cytoplasm *= 1 + clearing * rng.uniform(0.3, 1.2) * np.exp(-np.square((depth + 1.6) / 1.8))


def _draw_nucleus(
    rng: np.random.Generator,
    kind: CellKind,
    nuclear: Plane,
    mpp: float,
    half_side: int,
    centre: tuple[int, int],
    radius: float,
    cell_depth: Plane,
) -> None:
    edge = draw_outline(
        rng,
        radius,
        stretch=rng.uniform(*kind.elongation),
        wobble=rng.uniform(*kind.edge),
        dent_count=rng.poisson(kind.dent_count),
    )
    rho, angle = polar(mpp, half_side, *centre)
    rows = slice(
        max(0, half_side + centre[0] - int(2.2 * radius / mpp)), half_side + centre[0] + int(2.2 * radius / mpp) + 1
    )
    columns = slice(
        max(0, half_side + centre[1] - int(2.2 * radius / mpp)), half_side + centre[1] + int(2.2 * radius / mpp) + 1
    )
    rho, angle = rho[rows, columns], angle[rows, columns]
    depth = np.minimum(edge[angle] - rho, cell_depth[rows, columns] - 0.4)  # a nucleus never leaves its cell
    height, width = depth.shape
    coarseness = rng.uniform(*kind.coarse)
    chromatin = (
        1
        + coarseness * sample_noise(rng, "clump", mpp, height, width)
        + 0.6 * coarseness * sample_noise(rng, "grain", mpp, height, width)
    )
    chromatin *= 1 + rng.uniform(0.1, 0.6) * np.exp(-np.square(depth / 0.7))
    for _ in range(rng.poisson(kind.nucleoli)):
        y, x = rng.normal(0, 0.35 * radius, 2)
        spot, _ = polar(mpp, half_side, centre[0] + round(y / mpp), centre[1] + round(x / mpp))
        chromatin *= 1 + rng.uniform(0.5, 1.0) * np.exp(-np.square(spot[rows, columns] / rng.uniform(0.6, 1.1)))
    density = rng.uniform(*kind.darkness) * _coverage(depth, mpp) * np.clip(chromatin, 0.15, 2.2)
    np.maximum(nuclear[rows, columns], density, out=nuclear[rows, columns])


def render_neutrophil(rng: np.random.Generator, mpp: float) -> Cell:
    """A polymorph of about 11 um: a pale body and two to four dark lobes."""
    half_side = round(8 / mpp)
    rho, angle = polar(mpp, half_side)
    cytoplasm = rng.uniform(0.03, 0.2) * _coverage(
        draw_outline(rng, rng.uniform(4.5, 6.0), wobble=0.04)[angle] - rho, mpp
    )
    nuclear = np.zeros_like(cytoplasm)
    direction, bend = rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 2.0)
    for lobe in range(rng.integers(2, 5)):
        lobe_centre = (
            round(2.2 / mpp * np.sin(direction + bend * lobe)),
            round(2.2 / mpp * np.cos(direction + bend * lobe)),
        )
        rho, angle = polar(mpp, half_side, *lobe_centre)
        edge = draw_outline(rng, rng.uniform(1.4, 2.2), stretch=rng.uniform(1.0, 1.5))
        np.maximum(nuclear, rng.uniform(0.9, 1.7) * _coverage(edge[angle] - rho, mpp), out=nuclear)
    return Cell("neutrophil", OTHER, nuclear, cytoplasm, rng.uniform(0, 0.6), radius=5.5, crowding=0.5)


def render_debris(rng: np.random.Generator, mpp: float) -> Cell:
    """A scrap of a broken cell or a smudged bare nucleus: irregular, of any darkness."""
    radius = float(np.exp(rng.uniform(np.log(1.0), np.log(7.0))))
    half_side = round((2.2 * radius + 2) / mpp)
    rho, angle = polar(mpp, half_side)
    edge = draw_outline(
        rng, radius, stretch=rng.uniform(1, 2.5), wobble=rng.uniform(0.03, 0.2), dent_count=rng.poisson(1)
    )
    side = 2 * half_side + 1
    body = np.clip((edge[angle] - rho) / rng.uniform(0.6, 2.5) + 0.5, 0, 1)
    body *= np.clip(1 + 0.4 * sample_noise(rng, "clump", mpp, side, side), 0, 2)
    darkness = rng.uniform(0, 1.3)
    return Cell("debris", OTHER, darkness * body, rng.uniform(0.1, 0.5) * body, rng.uniform(0, 1), radius=radius)


def render_mucus(rng: np.random.Generator, mpp: float) -> Cell:
    """A veil with strands, and at times bacteria as fine dark dots."""
    half_side = round(rng.uniform(14, 32) / mpp)
    side = 2 * half_side + 1
    rho, angle = polar(mpp, half_side)
    edge = draw_outline(rng, 0.7 * half_side * mpp, stretch=rng.uniform(1, 2), wobble=0.1)
    veil = np.clip((np.minimum(edge[angle], half_side * mpp - 4) - rho) / 8, 0, 1)
    strands = np.exp(-np.square(sample_noise(rng, "cloud", mpp, side, side) / rng.uniform(0.08, 0.3)))
    body = veil * (rng.uniform(0.0, 0.1) + rng.uniform(0.08, 0.3) * strands)
    dots = (
        veil
        * rng.uniform(0.3, 0.9)
        * np.clip(sample_noise(rng, "grain", mpp, side, side) - rng.uniform(1.6, 2.4), 0, 1)
    )
    nuclear = dots if rng.random() < 0.5 else np.zeros_like(body)
    return Cell("mucus", OTHER, nuclear, body, rng.uniform(0, 0.7), radius=half_side * mpp)
