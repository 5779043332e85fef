"""Files outside the project, found through YUHENG_DATA, and read only when their digest is the one declared."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from datasets.errors import DataError, Unreadable

VARIABLE = "YUHENG_DATA"


def locate(relative: str, sha256: str, folder: Path | None = None) -> Path:
    """The file `relative` below `folder`, or below the folder that YUHENG_DATA names, its digest checked."""
    if folder is None:
        named = os.environ.get(VARIABLE)
        if not named:
            raise DataError(
                f"{relative}: {VARIABLE} is not set, and this file is not shipped with the project. "
                f"Set {VARIABLE} to the folder that holds credit/ and company/."
            )
        folder = Path(named)
    path = Path(folder) / relative
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. {VARIABLE} must name the folder that holds {relative}.")
    found = digest(path)
    if found != sha256:
        raise Unreadable(
            f"{path}: its sha256 is {found[:12]}…; the contract describes {sha256[:12]}…. "
            "Take the file from the source named in the contract, or declare a contract of your own for this one."
        )
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
