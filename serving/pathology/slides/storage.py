"""What of a slide lies on the disk: its folder, a file that grows by parts, a file of the inbox, a file written whole.

<slide>/quarantine/<name>      what was sent, until it is verified and stripped
<slide>/reports/<version>.pdf  what was signed, with the same as .json

Each write is synced before anybody is told of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1 << 20  # bytes read or written at once
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")
_UNSAFE_CHARS = re.compile(r"[^\w-]+")


class OutsideInboxError(ValueError):
    """The reference is no plain file below the inbox."""


def sanitize_name(name: str) -> str:
    """A name that is no path and no option: letters, digits, _ and -, at most 60 of them, and a short suffix."""
    basename = re.split(r"[/\\]", name)[-1]
    stem, dot, extension = basename.rpartition(".")
    suffix = (dot + extension).lower()
    if not stem or not _SUFFIX.fullmatch(suffix):
        stem, suffix = basename, ""
    return (_UNSAFE_CHARS.sub("_", stem).strip("_-")[:60] or "slide") + suffix


def quarantine_path(slides_dir: Path, slide_id: str, name: str) -> Path:
    return slides_dir / slide_id / "quarantine" / name


def create_empty(path: Path) -> None:
    """An empty file in a folder of its own, both on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    os.fsync(descriptor)
    os.close(descriptor)
    for directory in (path.parent, path.parent.parent, path.parent.parent.parent):
        sync_dir(directory)


def size_or_none(path: Path) -> int | None:
    """Bytes on the disk; None where there is no file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


class AppendFile:
    """A file that grows by parts from `start` on; `digest` runs along where it is known for all before `start`."""

    def __init__(self, path: Path, start: int, digest: hashlib._Hash | None):
        self.file: BinaryIO = path.open("r+b", buffering=0)
        self.start = self.position = start
        self.digest = None if digest is None else digest.copy()
        self.file.seek(start)

    def write(self, chunk: bytes) -> None:
        """Whole, or OSError; then `at` is what the disk took."""
        view = memoryview(chunk)
        while view:
            written = self.file.write(view) or 0
            if self.digest is not None:
                self.digest.update(view[:written])
            self.position += written
            view = view[written:]

    def sync(self) -> None:
        os.fsync(self.file.fileno())

    def truncate(self) -> None:
        """What was written since `start`; the digest is that of nothing then."""
        self.file.truncate(self.start)
        self.position, self.digest = self.start, None
        self.sync()

    def close(self) -> None:
        self.file.close()


def sha256_of(path: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest


def remove_file(path: Path) -> None:
    """A quarantined file, and its folders where nothing else is in them."""
    path.unlink(missing_ok=True)
    for directory in (path.parent, path.parent.parent):
        with suppress(OSError):  # not empty, or gone
            directory.rmdir()


@contextmanager
def open_inbox_file(inbox: Path, reference: str) -> Iterator[BinaryIO]:
    """A plain file below `inbox`, opened folder by folder without following a link. Raises OutsideInbox."""
    parts = reference.split("/")
    if "\\" in reference or "\0" in reference or any(part in ("", ".", "..") for part in parts):
        raise OutsideInboxError("a path of plain names below the inbox is needed")
    try:
        directory = os.open(inbox, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in parts[:-1]:
                subdirectory = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
                os.close(directory)
                directory = subdirectory
            # Not blocking: a pipe of that name would wait for its writer.
            descriptor = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        finally:
            os.close(directory)
    except (OSError, ValueError) as error:
        raise OutsideInboxError("a file that is there, and is no link, is needed") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OutsideInboxError("a plain file is needed")
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        yield file


def write_temp(path: Path, content: bytes) -> Path:
    """A scratch file beside `path`, synced, for its caller to rename when all else is done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temp_path = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(temp_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temp_path.unlink(missing_ok=True)
        raise
    return temp_path


def sync_dir(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
