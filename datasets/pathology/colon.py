"""70 colon tiles (Kather et al., Zenodo 1214456, part CRC-VAL-HE-7K): the wrong organ, read through YUHENG_DATA.

H&E, 224 x 224 px, ten of each tissue, JPEG made by the carrier; its licence is not restated there, so they are not
shipped. A model of cervical cells must call them out of distribution. No patient is named: no benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.pathology import checksummed_folder as image_folder

CHECKSUMS_FILE = "pathology/crc_val_he_70/MD5SUMS"
CHECKSUMS_SHA256 = "1fbf75f8a9ea0b05a401c422d757964a2b01212e46cc89bbe90b66ddf17d867f"


@dataclass(frozen=True, slots=True)
class ColonTiles:
    images: image_folder.Images  # (n, 224, 224, 3) RGB
    tissue: tuple[str, ...]  # ADI, LYM, MUC, MUS, NORM, STR or TUM


def read(folder: Path | None = None) -> ColonTiles:
    """All 70. `folder` holds pathology/…, or YUHENG_DATA does. Raises DataError."""
    files = {
        path: md5
        for path, md5 in image_folder.read_checksums(CHECKSUMS_FILE, CHECKSUMS_SHA256, folder).items()
        if path.suffix == ".jpg"
    }
    images = [image_folder.decode_rgb(image_folder.read_verified(path, md5)) for path, md5 in files.items()]
    return ColonTiles(np.stack(images), tuple(path.parent.name for path in files))
