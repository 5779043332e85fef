"""Three breast regions of BCSS (Amgad et al. 2019) with tumour masks: H&E, CC0 1.0, read through YUHENG_DATA.

Each region is of another patient and each holds tumour: leave one region out, and there are no negative slides.
JPEG, re-encoded and trimmed to multiples of 512 px by the carrier.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.pathology import checksummed_folder as image_folder

CHECKSUMS_FILE = "pathology/bcss_3roi/MD5SUMS"
CHECKSUMS_SHA256 = "06eeb17414767c0c404042d5cf7f3e49984feb2c007ca9e7d517dd2522b5b7ba"
MPP = 0.25  # microns per pixel, as the original says; not measured
NAMES = ("1008", "1015", "1019")


@dataclass(frozen=True, slots=True)
class Region:
    name: str
    image: image_folder.Images  # (h, w, 3) RGB
    tumour: NDArray[np.bool_]  # (h, w)


def read(name: str, folder: Path | None = None) -> Region:
    """One of NAMES, 22 to 28 MB in memory. `folder` holds pathology/…, or YUHENG_DATA does. Raises DataError."""
    checksums = image_folder.read_checksums(CHECKSUMS_FILE, CHECKSUMS_SHA256, folder)
    files = {str(Path(path.parent.name) / path.stem): (path, md5) for path, md5 in checksums.items()}
    image, mask_image = (
        image_folder.decode_rgb(image_folder.read_verified(*files[f"{subfolder}/{name}"]))
        for subfolder in ("images", "masks")
    )
    return Region(name, image, mask_image[..., 0] > 127)  # white is tumour


def cut_tiles(region: Region, side: int) -> tuple[image_folder.Images, NDArray[np.float64]]:
    """(n, side, side, 3) tiles row by row, and (n,) the share of tumour in each; a rest at the edge is left out."""
    rows, columns = region.tumour.shape[0] // side, region.tumour.shape[1] // side
    height, width = rows * side, columns * side
    image = region.image[:height, :width].reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    tumour = region.tumour[:height, :width].reshape(rows, side, columns, side).swapaxes(1, 2)
    return image.reshape(-1, side, side, 3), tumour.reshape(-1, side * side).mean(1)
