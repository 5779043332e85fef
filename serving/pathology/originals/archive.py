"""Unpack a ZIP that holds the files of one slide, within bounds.

Sizes and names are checked before a byte is unpacked, and counted while it is: what an archive says of itself may be a
lie. An archive inside the archive stays packed.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from datasets.slides.errors import SlideError, SlideIssue, slide_issue
from datasets.slides.limits import SLIDE_LIMITS, SlideLimits
from serving.pathology.upload.metadata import is_safe_path

SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")  # of an archive's first file; of an archive without files
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others need memory without a bound, or are no ZIP's own
METHOD_NAMES = {9: "Deflate64", 12: "BZIP2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
END_RECORD, END_LOCATOR, END_RECORD_64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
END_BYTES = 22 + 20 + 65_535  # the end record, before it the locator, behind it a comment
MAX_RATIO = 100  # unpacked over packed bytes; pixels are compressed already
UNRATED_BYTES = 1 << 30  # below this a slide may be as empty as it likes
CHUNK_BYTES = 1 << 20
QUOTED = re.compile(r"b?(['\"]).*\1", re.DOTALL)  # names of files in the messages of zipfile, which may be persons'


def is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in SIGNATURES


def unpack(path: Path, folder: Path, limits: SlideLimits = SLIDE_LIMITS) -> None:
    """Unpack into the empty `folder`. Raises SlideError with all that is wrong, and leaves the folder incomplete."""
    if issue := _directory_issue(path, limits):
        raise SlideError(path.name, [issue])
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if issues := list(_entry_issues(entries, path, folder, limits)):
                raise SlideError(path.name, issues)
            for entry in entries:
                _unpack_entry(archive, entry, folder / _path_of(entry))
    except SlideError:  # a ValueError too
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, NotImplementedError) as error:
        reason = QUOTED.sub("…", str(error))
        issue = slide_issue("archive", what="the archive", actual=f"broken ({reason})", expected="a complete ZIP")
        raise SlideError(path.name, [issue]) from error


def _directory_issue(path: Path, limits: SlideLimits) -> SlideIssue | None:
    """What is wrong with the size of the list of files, which is read into memory as a whole."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - END_BYTES))
        tail = file.read()
        end = tail.rfind(END_RECORD)
        if end < 0 or len(tail) - end < 22:
            return slide_issue("archive", what="the archive", actual="cut off", expected="a complete ZIP")
        count, directory_bytes = struct.unpack_from("<H2xI", tail, end + 8)
        if end >= 20 and tail[end - 20 :].startswith(END_LOCATOR):
            (offset,) = struct.unpack_from("<Q", tail, end - 12)
            file.seek(min(offset, size))
            record = file.read(56)
            if len(record) < 56 or not record.startswith(END_RECORD_64):
                return slide_issue("archive", what="its list of files", actual="broken", expected="a complete ZIP")
            count, directory_bytes = struct.unpack_from("<Q8xQ", record, 24)
    if count > 2 * limits.files:  # folders have entries too
        return slide_issue("too_many", what="files in the archive", actual=count, limit=limits.files)
    if directory_bytes > limits.text_bytes:
        return slide_issue("too_many", what="bytes of names", actual=directory_bytes, limit=limits.text_bytes)
    return None


def _entry_issues(
    entries: list[zipfile.ZipInfo], path: Path, folder: Path, limits: SlideLimits
) -> Iterator[SlideIssue]:
    if len(entries) > limits.files:
        yield slide_issue("too_many", what="files in the archive", actual=len(entries), limit=limits.files)
    total, packed = sum(entry.file_size for entry in entries), path.stat().st_size
    room = min(limits.file_bytes, shutil.disk_usage(folder).free)
    if total > room:
        yield slide_issue("too_large", actual=total, limit=room)
    elif total > max(UNRATED_BYTES, MAX_RATIO * packed):
        yield slide_issue("ratio", what="the archive", actual=total / packed, limit=float(MAX_RATIO))
    names: set[str] = set()
    for number, entry in enumerate(entries, 1):
        name, label = _path_of(entry), f"file {number:,} of its list"  # a name may be that of a person
        if not is_safe_path(name.split("/")) or stat.S_ISLNK(entry.external_attr >> 16):
            yield slide_issue("outside", what="the archive", actual=label)
        if name.lower() in names:
            yield slide_issue("duplicate", what=f"{label} in the archive")
        names.add(name.lower())
        if entry.flag_bits & 1:
            yield slide_issue("archive", what=label, actual="encrypted", expected="an archive without a password")
        elif entry.compress_type not in METHODS:
            method = METHOD_NAMES.get(entry.compress_type, f"method {entry.compress_type}")
            yield slide_issue("archive", what=label, actual=f"packed by {method}", expected="Deflate or no packing")


def _path_of(entry: zipfile.ZipInfo) -> str:
    """Its path; some programs of Windows write backslashes."""
    return entry.filename.replace("\\", "/")


def _unpack_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    """Write one file and flush it to the disk; zipfile compares its checksum at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(entry) as source, target.open("xb") as file:
        while chunk := source.read(CHUNK_BYTES):
            written += len(chunk)
            if written > entry.file_size:
                raise zipfile.BadZipFile("a file is longer than announced")
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if written != entry.file_size:
        raise zipfile.BadZipFile("a file is shorter than announced")
