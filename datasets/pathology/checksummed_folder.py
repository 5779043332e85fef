"""Folders of pictures whose list (MD5SUMS) is declared by digest, and whose files are checked against that list."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.errors import UnreadableFileError
from datasets.files.external_files import locate

Images = NDArray[np.uint8]


def read_checksums(checksums_file: str, sha256: str, folder: Path | None = None) -> dict[Path, str]:
    """Each file below the folder of `sums` (an MD5SUMS file) and its md5, in the list's order. Raises DataError."""
    path = locate(checksums_file, sha256, folder)
    lines = (line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines() if line)
    return {path.parent / name: md5 for md5, name in lines}


def read_verified(path: Path, md5: str) -> bytes:
    """The file's bytes. Raises Unreadable where it is missing or not the one listed."""
    if not path.is_file():
        raise UnreadableFileError(f"{path}: there is no such file, though the list names it. Copy the whole folder.")
    data = path.read_bytes()
    actual_md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()  # against a bad copy, not against an enemy
    if actual_md5 != md5:
        raise UnreadableFileError(f"{path}: its md5 is {actual_md5}; the list says {md5}. Copy the file again.")
    return data


def decode_rgb(encoded: bytes) -> Images:
    """(h, w, 3) RGB."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"))
