"""One cell, as a microscope would see its dyes. SIMULATED: no such cell was ever on a slide.

cell = paint(np.random.default_rng(7), KINDS["koilocyte"], mpp=0.5)     # cell.nuclear, cell.cytoplasm: (h, w) densities

The classes are those of the Bethesda system; each is a few kinds of cell, drawn as textbooks of cytology teach them:

NILM  large polygonal superficial and intermediate cells, nucleus about 35 um2; small round parabasal and metaplastic
      cells, whose N/C ratio nears that of HSIL; reactive cells, whose nucleus may double and show a narrow halo
LSIL  cells as large, nucleus above three times as large, often two of them, often in a wide hollow with a dense edge
HSIL  small cells, nucleus half to four fifths of them, dark, coarse and dented
SCC   keratinised cells of many shapes, tadpoles, spindles, ink-dark nuclei; and small cells with nucleoli

Neighbours overlap: some LSIL nuclei are no larger than reactive ones, some HSIL no denser than metaplasia, some SCC no
odder than HSIL. How much dye a cell took has no part in its class, but for the nuclei of HSIL and SCC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.simulate.texture import REACH, Plane, noise, outline, polar

CLASSES = ("NILM", "LSIL", "HSIL", "SCC")
NILM, LSIL, HSIL, SCC = range(4)
OTHER = -1  # neutrophils, debris, mucus: no squamous cell
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Kind:
    """What may be drawn for a cell of this kind; lengths in microns, shares from 0 to 1."""

    name: str
    label: int
    share: float  # of the cells of its class
    nucleus: Range  # radius
    cell: Range = (0, 0)  # radius; or, where it is (0, 0), by
    ratio: Range = (0, 0)  # nucleus over the whole cell, by area
    corners: Range = (0, 0)
    stretch: Range = (1.0, 1.25)
    wobble: Range = (0.01, 0.03)
    tail: float = 0.0  # share of cells with one
    thickness: Range = (0.16, 0.42)  # density of the cytoplasm
    pink: float = 0.35  # share of cells whose cytoplasm takes the red dye
    folds: float = 0.0  # mean number
    halo: float = 0.0  # share with a wide hollow
    narrow: float = 0.0  # share with a narrow one
    second: float = 0.03  # share with two nuclei
    darkness: Range = (0.75, 1.25)  # density of the nucleus
    coarse: Range = (0.05, 0.18)  # contrast of its chromatin
    edge: Range = (0.0, 0.03)  # wobble of its outline
    dents: float = 0.0  # mean number
    oval: Range = (1.0, 1.35)
    nucleoli: float = 0.0  # mean number
    crowd: float = 0.1  # share that lie in a crowd of their kind


LARGE: Range = (4, 8)  # corners of a large squamous cell
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("superficial", NILM, 0.26, (2.4, 3.2), (20, 28), folds=1.2, darkness=(0.9, 1.6), pink=0.5, corners=LARGE),
        Kind("intermediate", NILM, 0.34, (3.0, 3.9), (18, 27), folds=0.9, edge=(0, 0.04), corners=LARGE),
        Kind(
            "reactive",
            NILM,
            0.14,
            (4.0, 5.6),
            (15, 24),
            second=0.12,
            narrow=0.45,
            nucleoli=0.7,
            darkness=(0.75, 1.4),
            coarse=(0.06, 0.24),
            edge=(0.0, 0.04),
            corners=(4, 7),
        ),
        Kind(
            "parabasal",
            NILM,
            0.13,
            (3.5, 5.0),
            ratio=(0.12, 0.36),
            thickness=(0.25, 0.55),
            darkness=(0.75, 1.5),
            coarse=(0.05, 0.22),
            edge=(0, 0.04),
            crowd=0.4,
        ),
        Kind(
            "metaplastic",
            NILM,
            0.13,
            (3.9, 5.4),
            ratio=(0.18, 0.46),
            corners=(4, 6),
            wobble=(0.02, 0.08),
            thickness=(0.25, 0.6),
            darkness=(0.8, 1.6),
            coarse=(0.06, 0.27),
            edge=(0.0, 0.05),
            dents=0.2,
            crowd=0.5,
            nucleoli=0.3,
        ),
        Kind(
            "koilocyte",
            LSIL,
            0.65,
            (5.0, 7.4),
            (16, 26),
            halo=1.0,
            second=0.3,
            darkness=(0.8, 1.55),
            coarse=(0.05, 0.26),
            edge=(0.01, 0.07),
            dents=0.5,
            crowd=0.2,
            corners=LARGE,
        ),
        Kind(
            "low_grade",
            LSIL,
            0.35,
            (5.2, 7.4),
            (15, 24),
            narrow=0.3,
            second=0.2,
            darkness=(0.8, 1.55),
            coarse=(0.08, 0.3),
            edge=(0.01, 0.06),
            dents=0.4,
            folds=0.5,
            crowd=0.25,
            corners=LARGE,
        ),
        Kind(
            "high_grade",
            HSIL,
            1.0,
            (4.3, 6.6),
            ratio=(0.38, 0.84),
            corners=(0, 6),
            stretch=(1.0, 1.5),
            wobble=(0.02, 0.07),
            thickness=(0.25, 0.6),
            darkness=(0.95, 1.8),
            coarse=(0.14, 0.4),
            edge=(0.02, 0.09),
            dents=1.1,
            oval=(1.0, 1.5),
            crowd=0.5,
        ),
        Kind(
            "keratinised",
            SCC,
            0.34,
            (4.0, 8.5),
            (9, 19),
            corners=(0, 6),
            stretch=(1.0, 2.2),
            wobble=(0.03, 0.12),
            thickness=(0.35, 0.75),
            pink=0.5,
            darkness=(1.1, 2.2),
            coarse=(0.1, 0.5),
            edge=(0.04, 0.13),
            dents=1.4,
            oval=(1.0, 1.9),
            crowd=0.25,
        ),
        Kind(
            "tadpole",
            SCC,
            0.18,
            (3.6, 6.4),
            (6.5, 11),
            stretch=(1.0, 1.5),
            wobble=(0.02, 0.06),
            tail=1.0,
            thickness=(0.35, 0.75),
            pink=0.5,
            darkness=(1.1, 2.2),
            coarse=(0.1, 0.45),
            edge=(0.03, 0.1),
            dents=1.0,
            oval=(1.0, 1.8),
        ),
        Kind(
            "spindle",
            SCC,
            0.18,
            (3.4, 5.6),
            (7.5, 11.5),
            stretch=(2.6, 5.0),
            wobble=(0.02, 0.06),
            thickness=(0.3, 0.7),
            pink=0.45,
            darkness=(1.0, 2.1),
            coarse=(0.1, 0.45),
            edge=(0.03, 0.08),
            dents=0.5,
            oval=(1.6, 3.0),
            crowd=0.3,
        ),
        Kind(
            "small_cancer",
            SCC,
            0.30,
            (5.0, 8.6),
            ratio=(0.38, 0.8),
            corners=(0, 6),
            stretch=(1.0, 1.5),
            wobble=(0.03, 0.1),
            thickness=(0.25, 0.6),
            darkness=(0.9, 1.8),
            coarse=(0.28, 0.6),
            edge=(0.04, 0.12),
            dents=1.5,
            oval=(1.0, 1.6),
            nucleoli=1.3,
            crowd=0.5,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A patch of (h, w) densities around a nucleus; h and w are odd.

    pink:    share of the cytoplasm's dye that is the red one.
    centre:  of the nucleus, in pixels from the patch's middle (x, y).
    areas:   of the nuclei and of the cell with them, in um2.
    """

    kind: str
    label: int
    nuclear: Plane
    cytoplasm: Plane
    pink: float = 0.0
    centre: tuple[int, int] = (0, 0)
    areas: tuple[float, float] = (0.0, 0.0)
    radius: float = 0.0  # of the cell, in microns
    crowd: float = 0.0

    @property
    def ratio(self) -> float:
        """The N/C ratio, as nucleus over the whole cell."""
        return self.areas[0] / self.areas[1]


def kinds_of(label: int) -> tuple[list[str], list[float]]:
    """The kinds of a class and their shares."""
    kinds = [kind for kind in KINDS.values() if kind.label == label]
    return [kind.name for kind in kinds], [kind.share for kind in kinds]


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
