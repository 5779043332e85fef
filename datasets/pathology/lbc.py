"""950 liquid-based Pap fields (SurePath; Hussain et al., Mendeley zddtpgzv63 v4), CC BY 4.0, read through YUHENG_DATA.

No figure of this set is evidence: its carrier augmented the abnormal classes alone, and three numbers of background
colour tell normal from abnormal (AUC .96). It serves load and pipeline tests, and the test that a shortcut is noticed.
512 x 512 px JPEG, made smaller from 2048 x 1536: the microns per pixel are not known.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets.files.external_files import locate
from datasets.pathology import checksummed_folder as image_folder

CHECKSUMS_FILE = "pathology/lbc_surepath_512/MD5SUMS"
CHECKSUMS_SHA256 = "e63e8ae8d782c350d8c330cf27075aa318f41271b66e713e18ddb2645c308149"
MANIFEST = "pathology/lbc_surepath_512/manifest.csv"
MANIFEST_SHA256 = "4da4dac6f6a00a22a00d80d1f3c1082abb2376d0d77cebd64f691f76d08a169f"
CLASSES = ("NL", "LSIL", "HSIL", "SCC")


@dataclass(frozen=True, slots=True)
class CytologyField:
    """One field, still encoded: all of them decoded would take 750 MB."""

    jpeg: bytes
    label: str  # one of CLASSES
    batch: str  # fields of one batch stay on one side of a split

    def image(self) -> image_folder.Images:
        """(512, 512, 3) RGB."""
        return image_folder.decode_rgb(self.jpeg)


def read(folder: Path | None = None) -> Iterator[CytologyField]:
    """All 950, one by one. `folder` holds pathology/…, or YUHENG_DATA does. Raises DataError."""
    manifest = locate(MANIFEST, MANIFEST_SHA256, folder)
    checksums = image_folder.read_checksums(CHECKSUMS_FILE, CHECKSUMS_SHA256, folder)
    for row in csv.DictReader(io.StringIO(manifest.read_text(encoding="utf-8"))):
        path = manifest.parent / row["file"]
        yield CytologyField(image_folder.read_verified(path, checksums[path]), row["label4"], row["batch"])
