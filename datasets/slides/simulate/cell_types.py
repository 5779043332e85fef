"""The kinds of cells that are painted, and what is known of each. SIMULATED: no such cell was ever on a slide.

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

from datasets.slides.simulate.noise import Plane

CLASSES = ("NILM", "LSIL", "HSIL", "SCC")
NILM, LSIL, HSIL, SCC = range(4)
OTHER = -1  # neutrophils, debris, mucus: no squamous cell
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class CellKind:
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
    red_dye: float = 0.35  # share of cells whose cytoplasm takes the red dye
    fold_count: float = 0.0  # mean number
    halo: float = 0.0  # share with a wide hollow
    narrow_halo: float = 0.0  # share with a narrow one
    binucleate: float = 0.03  # share with two nuclei
    darkness: Range = (0.75, 1.25)  # density of the nucleus
    coarse: Range = (0.05, 0.18)  # contrast of its chromatin
    edge: Range = (0.0, 0.03)  # wobble of its outline
    dent_count: float = 0.0  # mean number
    elongation: Range = (1.0, 1.35)
    nucleoli: float = 0.0  # mean number
    crowding: float = 0.1  # share that lie in a crowd of their kind


LARGE: Range = (4, 8)  # corners of a large squamous cell
KINDS: dict[str, CellKind] = {
    kind.name: kind
    for kind in (
        CellKind(
            "superficial",
            NILM,
            0.26,
            (2.4, 3.2),
            (20, 28),
            fold_count=1.2,
            darkness=(0.9, 1.6),
            red_dye=0.5,
            corners=LARGE,
        ),
        CellKind("intermediate", NILM, 0.34, (3.0, 3.9), (18, 27), fold_count=0.9, edge=(0, 0.04), corners=LARGE),
        CellKind(
            "reactive",
            NILM,
            0.14,
            (4.0, 5.6),
            (15, 24),
            binucleate=0.12,
            narrow_halo=0.45,
            nucleoli=0.7,
            darkness=(0.75, 1.4),
            coarse=(0.06, 0.24),
            edge=(0.0, 0.04),
            corners=(4, 7),
        ),
        CellKind(
            "parabasal",
            NILM,
            0.13,
            (3.5, 5.0),
            ratio=(0.12, 0.36),
            thickness=(0.25, 0.55),
            darkness=(0.75, 1.5),
            coarse=(0.05, 0.22),
            edge=(0, 0.04),
            crowding=0.4,
        ),
        CellKind(
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
            dent_count=0.2,
            crowding=0.5,
            nucleoli=0.3,
        ),
        CellKind(
            "koilocyte",
            LSIL,
            0.65,
            (5.0, 7.4),
            (16, 26),
            halo=1.0,
            binucleate=0.3,
            darkness=(0.8, 1.55),
            coarse=(0.05, 0.26),
            edge=(0.01, 0.07),
            dent_count=0.5,
            crowding=0.2,
            corners=LARGE,
        ),
        CellKind(
            "low_grade",
            LSIL,
            0.35,
            (5.2, 7.4),
            (15, 24),
            narrow_halo=0.3,
            binucleate=0.2,
            darkness=(0.8, 1.55),
            coarse=(0.08, 0.3),
            edge=(0.01, 0.06),
            dent_count=0.4,
            fold_count=0.5,
            crowding=0.25,
            corners=LARGE,
        ),
        CellKind(
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
            dent_count=1.1,
            elongation=(1.0, 1.5),
            crowding=0.5,
        ),
        CellKind(
            "keratinised",
            SCC,
            0.34,
            (4.0, 8.5),
            (9, 19),
            corners=(0, 6),
            stretch=(1.0, 2.2),
            wobble=(0.03, 0.12),
            thickness=(0.35, 0.75),
            red_dye=0.5,
            darkness=(1.1, 2.2),
            coarse=(0.1, 0.5),
            edge=(0.04, 0.13),
            dent_count=1.4,
            elongation=(1.0, 1.9),
            crowding=0.25,
        ),
        CellKind(
            "tadpole",
            SCC,
            0.18,
            (3.6, 6.4),
            (6.5, 11),
            stretch=(1.0, 1.5),
            wobble=(0.02, 0.06),
            tail=1.0,
            thickness=(0.35, 0.75),
            red_dye=0.5,
            darkness=(1.1, 2.2),
            coarse=(0.1, 0.45),
            edge=(0.03, 0.1),
            dent_count=1.0,
            elongation=(1.0, 1.8),
        ),
        CellKind(
            "spindle",
            SCC,
            0.18,
            (3.4, 5.6),
            (7.5, 11.5),
            stretch=(2.6, 5.0),
            wobble=(0.02, 0.06),
            thickness=(0.3, 0.7),
            red_dye=0.45,
            darkness=(1.0, 2.1),
            coarse=(0.1, 0.45),
            edge=(0.03, 0.08),
            dent_count=0.5,
            elongation=(1.6, 3.0),
            crowding=0.3,
        ),
        CellKind(
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
            dent_count=1.5,
            elongation=(1.0, 1.6),
            nucleoli=1.3,
            crowding=0.5,
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
    nuclear_density: Plane
    cytoplasm_density: Plane
    red_dye_share: float = 0.0
    centre: tuple[int, int] = (0, 0)
    areas: tuple[float, float] = (0.0, 0.0)
    radius: float = 0.0  # of the cell, in microns
    crowding: float = 0.0

    @property
    def ratio(self) -> float:
        """The N/C ratio, as nucleus over the whole cell."""
        return self.areas[0] / self.areas[1]


def kinds_of(label: int) -> tuple[list[str], list[float]]:
    """The kinds of a class and their shares."""
    kinds = [cell_kind for cell_kind in KINDS.values() if cell_kind.label == label]
    return [kind.name for kind in kinds], [kind.share for kind in kinds]
