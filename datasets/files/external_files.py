"""Locate files outside the project through YUHENG_DATA; only files with the declared digest are accepted."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from datasets.errors import DataError, UnreadableFileError

DATA_DIR_VARIABLE = "YUHENG_DATA"


def locate(relative: str, sha256: str, folder: Path | None = None) -> Path:
    """The path of `relative` below `folder`, or below the folder that YUHENG_DATA names.

    Raises DataError if it is not there, UnreadableFileError if its digest is not `sha256`.
    """
    if folder is None:
        data_dir = os.environ.get(DATA_DIR_VARIABLE)
        if not data_dir:
            raise DataError(
                f"{relative}: {DATA_DIR_VARIABLE} is not set, and this file is not shipped with the project. "
                f"Set {DATA_DIR_VARIABLE} to the folder that contains credit/ and company/."
            )
        folder = Path(data_dir)
    path = Path(folder) / relative
    if not path.is_file():
        raise DataError(
            f"{path}: there is no such file. {DATA_DIR_VARIABLE} must name the folder that contains {relative}."
        )
    actual = file_sha256(path)
    if actual != sha256:
        raise UnreadableFileError(
            f"{path}: its sha256 is {actual[:12]}…; the contract describes {sha256[:12]}…. "
            "Take the file from the source named in the contract, or declare another contract for this file."
        )
    return path


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
