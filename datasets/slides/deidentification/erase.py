"""Overwrite ranges of a file in place."""

from __future__ import annotations

from typing import BinaryIO

BLOCK_BYTES = 1 << 20


def erase(file: BinaryIO, offset: int, length: int, fill: bytes = b"\0") -> None:
    file.seek(offset)
    for start in range(0, length, BLOCK_BYTES):
        file.write(fill * min(BLOCK_BYTES, length - start))
