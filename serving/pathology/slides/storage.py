"""Files of slides: names and paths, appending to uploads, reading from the inbox, atomic writes.

<slide>/quarantine/<name>        the uploaded file until it is verified and de-identified; of a slide of several files
                                 a folder that holds each under the id of its upload
<slide>/slide/                   the de-identified copy; its files have neutral names
<slide>/reports/<version>.pdf    a signed report; the signed body is beside it as .json

Every write is flushed to the disk before it is acknowledged.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from datasets.slides.deidentification.container import copy_name

CHUNK_BYTES = 1 << 20  # bytes per read or write
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")
_UNSAFE_CHARS = re.compile(r"[^\w-]+")


class OutsideInboxError(ValueError):
    """The reference does not name a regular file in the inbox."""


def sanitize_name(name: str) -> str:
    """Make a file name that is neither a path nor a command-line option: up to 60 letters, digits, _ and -, and a short
    suffix."""
    basename = re.split(r"[/\\]", name)[-1]
    stem, dot, extension = basename.rpartition(".")
    suffix = (dot + extension).lower()
    if not stem or not _SUFFIX.fullmatch(suffix):
        stem, suffix = basename, ""
    return (_UNSAFE_CHARS.sub("_", stem).strip("_-")[:60] or "slide") + suffix


def neutral_name(name: str) -> str:
    """The name of a slide whose uploaded file is gone, such as slide.svs."""
    return copy_name(Path(name))


def quarantine_path(slides_dir: Path, slide_id: str, name: str) -> Path:
    """Where the uploaded file of a slide is kept."""
    return slides_dir / slide_id / "quarantine" / name


def upload_path(slides_dir: Path, slide: Mapping[str, Any], upload: Mapping[str, Any]) -> Path:
    """Where the bytes of an upload are kept."""
    path = quarantine_path(slides_dir, slide["id"], slide["name"])
    return path if upload["path"] is None else path / str(upload["id"])


def deidentified_path(slide_dir: Path) -> Path | None:
    """The copy from which the slide is read; None before it has been made. Of a DICOM series the first file stands for
    all of them."""
    return min((path for path in (slide_dir / "slide").glob("*") if path.is_file()), default=None)


def create_empty(path: Path) -> None:
    """Create an empty file and its folder, and flush both to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    os.fsync(descriptor)
    os.close(descriptor)
    for directory in path.parents[:4]:
        sync_dir(directory)


def size_or_none(path: Path) -> int | None:
    """The file's size in bytes; None if there is no file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


class AppendFile:
    """Append to a file from `start` on.

    `digest` is the SHA-256 of all bytes before `start`, and is updated with every write; None if it is unknown.
    """

    def __init__(self, path: Path, start: int, digest: hashlib._Hash | None):
        self.file: BinaryIO = path.open("r+b", buffering=0)
        self.start = self.position = start
        self.digest = None if digest is None else digest.copy()
        self.file.seek(start)

    def write(self, chunk: bytes) -> None:
        """Write the whole chunk. After an OSError `position` tells how much was written."""
        view = memoryview(chunk)
        while view:
            written = self.file.write(view) or 0
            if self.digest is not None:
                self.digest.update(view[:written])
            self.position += written
            view = view[written:]

    def sync(self) -> None:
        """Flush the file to the disk."""
        os.fsync(self.file.fileno())

    def truncate(self) -> None:
        """Discard everything written since `start`; the digest is unknown afterwards."""
        self.file.truncate(self.start)
        self.position, self.digest = self.start, None
        self.sync()

    def close(self) -> None:
        self.file.close()


def sha256_of(path: Path) -> hashlib._Hash:
    """The SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest


def remove_file(path: Path) -> None:
    """Remove what is quarantined, a file or the folder of several, and its folders if they are empty then."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    for directory in (path.parent, path.parent.parent):
        with suppress(OSError):  # not empty, or gone
            directory.rmdir()


def remove_quarantine(slides_dir: Path, slide_id: str) -> None:
    """Remove all that is quarantined of a slide, and the slide's folder if it is empty then."""
    shutil.rmtree(slides_dir / slide_id / "quarantine", ignore_errors=True)
    with suppress(OSError):  # not empty, or gone
        (slides_dir / slide_id).rmdir()


@contextmanager
def open_inbox_file(inbox: Path, reference: str) -> Iterator[BinaryIO]:
    """Open a regular file in the inbox, folder by folder and without following links. Raises OutsideInboxError."""
    names = reference.split("/")
    if "\\" in reference or "\0" in reference or any(name in ("", ".", "..") for name in names):
        raise OutsideInboxError("a relative path of plain names inside the inbox")
    try:
        directory = os.open(inbox, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in names[:-1]:
                subdirectory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
                os.close(directory)
                directory = subdirectory
            # Non-blocking, because opening a pipe would wait for its writer.
            descriptor = os.open(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        finally:
            os.close(directory)
    except (OSError, ValueError) as error:
        raise OutsideInboxError("an existing file that is not a link") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OutsideInboxError("a regular file")
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        yield file


def write_temp(path: Path, content: bytes) -> Path:
    """Write a temporary file beside `path` and flush it; the caller renames it once everything else is done."""
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


def write_file(path: Path, content: bytes) -> None:
    """Write the file so that it appears whole or not at all, also after a crash."""
    write_temp(path, content).replace(path)
    sync_dir(path.parent)


def sync_tree(directory: Path) -> None:
    """Flush all files and folders below a folder to the disk."""
    for path in (*directory.rglob("*"), directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_dir(directory: Path) -> None:
    """Flush a folder's entries to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
