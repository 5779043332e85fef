"""Herlev (Jantzen et al. 2005): Pap-smear cells with masks, real, read through YUHENG_DATA.

Cite Jantzen 2005; no formal licence was found, so the images are never shipped and never shown.
734 of the 917 cells, 200 x 200 px: each was scaled to fit and padded, so the microns per pixel are lost (there is no
`mpp` here, and no size but a ratio of sizes can be measured). Cells cut from one source share a `group`; `fold` 0-3
keeps groups whole.
The masks are the annotators' own. The published protocol gives them to the method at test time (arXiv 1810.06058), and
so do `crop` and every figure that uses it; on a slide they must come from a segmentation.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.errors import UnreadableFileError
from datasets.files.external_files import locate
from datasets.pathology.checksummed_folder import Images, decode_rgb

MANIFEST = "pathology/herlev/manifest.csv"
MANIFEST_SHA256 = "4cb1fff74830b129f354c1441f1ceb48771a138e0365c632bf8a90910f90ac5c"  # of the manifest
FILES_SHA256 = (
    "bf2cc1f0c1eca59f575b6aaac3c0c786ce966e34a875eaca6a5663c8aea7f4c5"  # of every image and mask, in its order
)
SIDE = 200  # px

CLASSES = (  # normal cells first, then the abnormal ones from mild to severe
    "normal_superficiel",
    "normal_intermediate",
    "normal_columnar",
    "light_dysplastic",
    "moderate_dysplastic",
    "severe_dysplastic",
    "carcinoma_in_situ",
)
ABNORMAL = tuple(not name.startswith("normal") for name in CLASSES)

OUTSIDE, CYTOPLASM, NUCLEUS, UNKNOWN = range(4)  # what a pixel of a mask says
MASK_COLOURS = np.array([(255, 0, 0), (0, 0, 128), (0, 0, 255), (128, 128, 128)])  # how the annotators painted it
MAX_PADDING_STD = 4.0  # grey levels: a line of padding varies less, JPEG noise included


@dataclass(frozen=True, slots=True)
class Cells:
    """n cells in the manifest's order."""

    images: Images  # (n, 200, 200, 3) RGB
    masks: Images  # (n, 200, 200) OUTSIDE, CYTOPLASM, NUCLEUS or UNKNOWN
    label7: NDArray[np.intp]  # (n,) place in CLASSES
    groups: NDArray[np.int64]  # (n,) source of the cell
    folds: NDArray[np.intp]  # (n,) 0-3

    @property
    def label2(self) -> NDArray[np.intp]:
        """(n,) 1: abnormal."""
        return np.asarray(ABNORMAL, np.intp)[self.label7]

    def __len__(self) -> int:
        return len(self.label7)

    def select_rows(self, rows: NDArray[np.intp]) -> Cells:
        return Cells(self.images[rows], self.masks[rows], self.label7[rows], self.groups[rows], self.folds[rows])

    def cross_validation_folds(self) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp]]]:
        """(fold, rows to learn from, rows held out), each fold in its turn; no group is on both sides."""
        for fold in np.unique(self.folds):
            yield int(fold), np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)


def read(folder: Path | None = None) -> Cells:
    """All 734 cells. `folder` holds pathology/…, or YUHENG_DATA does. Raises DataError."""
    manifest = locate(MANIFEST, MANIFEST_SHA256, folder)
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    hasher = hashlib.sha256()
    images = np.stack([_read_image(manifest.parent / row["file"], hasher) for row in rows])
    mask_images = np.stack([_read_image(manifest.parent / row["mask"], hasher) for row in rows])
    if hasher.hexdigest() != FILES_SHA256:
        raise UnreadableFileError(
            f"{manifest.parent}: the images and masks have the sha256 {hasher.hexdigest()[:12]}…; "
            f"the contract describes {FILES_SHA256[:12]}…. Take the files from the source that the manifest names."
        )
    return Cells(
        images,
        np.stack([decode_mask(mask_image, image) for mask_image, image in zip(mask_images, images, strict=True)]),
        np.array([CLASSES.index(row["label7"]) for row in rows]),
        np.array([int(row["group"]) for row in rows]),
        np.array([int(row["fold"]) for row in rows]),
    )


def _read_image(path: Path, hasher: hashlib._Hash) -> Images:
    """(200, 200, 3) RGB; the file's bytes go into `digest`."""
    if not path.is_file():
        raise UnreadableFileError(
            f"{path}: there is no such file, though the manifest names it. Copy the whole folder."
        )
    encoded = path.read_bytes()
    hasher.update(encoded)
    return decode_rgb(encoded)


def decode_mask(mask_image: Images, image: Images) -> Images:
    """(h, w) from the painted mask (h, w, 3): the nearest of the four colours.

    JPEG blurs the borders. Black and the padding of the image are OUTSIDE: some masks were padded in the colour of
    their edge, which would read as cytoplasm.
    """
    distance = ((mask_image[:, :, None, :].astype(np.int64) - MASK_COLOURS) ** 2).sum(-1)  # (h, w, 4)
    labels: Images = distance.argmin(-1).astype(np.uint8)
    labels[mask_image.max(-1) < 48] = OUTSIDE
    top, bottom, left, right = content_box(image)
    cropped: Images = np.zeros_like(labels)
    cropped[top:bottom, left:right] = labels[top:bottom, left:right]
    return cropped


def content_box(image: Images) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of what is not padding, ends excluded."""
    rows = np.flatnonzero(image.std(axis=1).max(-1) > MAX_PADDING_STD)
    columns = np.flatnonzero(image.std(axis=0).max(-1) > MAX_PADDING_STD)
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def crop_square(image: Images, mask: NDArray[np.bool_], side: int, margin: float = 0.1) -> Images:
    """(side, side, 3): the square around the pixels `seen`, `margin` of its side added all round, scaled to `side` px.

    What lies beyond the image repeats its edge. Raises ValueError where nothing is seen.
    """
    from PIL import Image

    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise ValueError("The mask is empty: a crop needs at least one pixel of the cell. Leave the cell out.")
    half_side = max(int(np.ptp(rows)), int(np.ptp(columns)), 1) * (0.5 + margin)
    half_px = int(np.ceil(half_side))
    centre = (int(rows[0] + rows[-1]) // 2, int(columns[0] + columns[-1]) // 2)
    padded = np.pad(image, ((half_px, half_px), (half_px, half_px), (0, 0)), mode="edge")
    square = padded[centre[0] : centre[0] + 2 * half_px, centre[1] : centre[1] + 2 * half_px]
    return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BILINEAR))


def crop_cells(cells: Cells, side: int, region: str = "cell", margin: float = 0.1) -> Images:
    """(n, side, side, 3): each cell's square, `part` "cell" (with its nucleus) or "nucleus" alone."""
    classes = {"cell": (CYTOPLASM, NUCLEUS), "nucleus": (NUCLEUS,)}[region]
    return np.stack(
        [
            crop_square(image, np.isin(cell_mask, classes), side, margin)
            for image, cell_mask in zip(cells.images, cells.masks, strict=True)
        ]
    )
