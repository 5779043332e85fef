"""From what a clinic sent to the file by which its slide is opened: one file, a ZIP, or the files of a group.

<slide>/quarantine/<name>          one file, or a folder with the files of a group under the ids of their uploads
<slide>/quarantine/.files/<path>   the unpacked files, or those of the group, as they lay beside each other
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from datasets.slides.errors import SlideError, slide_issue
from datasets.slides.formats.unread import HEAD_BYTES, UNREAD_FORMATS, find_unread
from datasets.slides.static_check import FORMATS
from serving.pathology.originals import archive, dicom_header
from serving.pathology.slides import storage
from serving.pathology.upload.groups import manifest_sha256

FILES_FOLDER = ".files"  # sanitised names begin with no dot
SERIES_FOLDER = ".series"
MIRAX_SUFFIX, MIRAX_INDEX = ".mrxs", "Slidedat.ini"
FLAT_FORMATS = ("png", "jpeg")  # pictures beside a slide, unless there is nothing else
IGNORED_NAMES = {"thumbs.db", "desktop.ini", "dicomdir"}
IGNORED_FOLDERS = {"__MACOSX"}


def sha256_of(original: Path, paths: Mapping[str, str]) -> str:
    """The SHA-256 of the slide as it was sent. paths: upload -> path of its file in the group; empty of one file."""
    if not original.is_dir():
        return storage.sha256_of(original).hexdigest()
    digests = {path: storage.sha256_of(original / upload).hexdigest() for upload, path in paths.items()}
    return manifest_sha256(digests.items())


def locate_slide(original: Path, paths: Mapping[str, str]) -> Path:
    """The file by which the slide is opened. May be repeated. Raises SlideError."""
    folder = original.parent / FILES_FOLDER
    if original.is_dir():
        _link_group(original, folder, paths)
    elif not archive.is_archive(original):
        return original
    elif not folder.exists():
        temp_folder = original.parent / f"{FILES_FOLDER}.unpacking"
        shutil.rmtree(temp_folder, ignore_errors=True)
        temp_folder.mkdir()
        try:
            archive.unpack(original, temp_folder)
        except SlideError:
            shutil.rmtree(temp_folder)
            raise
        temp_folder.rename(folder)
        storage.sync_dir(folder.parent)
    return find_slide(folder, original.name)


def _link_group(original: Path, folder: Path, paths: Mapping[str, str]) -> None:
    """Give each file of a group its own name beside the others, without copying it."""
    for upload, path in paths.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(original / upload, target)


def find_slide(folder: Path, name: str) -> Path:
    """The file by which the slide among these files is opened. Raises SlideError unless there is exactly one slide.

    Reasons name no file: they are kept with the slide, and the name of a file may be that of a person.
    """
    files = sorted(path for path in folder.rglob("*") if _is_relevant(path.relative_to(folder)) and path.is_file())
    formats = {path: _format_of(path) for path in files}
    mirax = [path for path in files if path.suffix.lower() == MIRAX_SUFFIX]
    data_folders = {path.parent for path in files if path.name == MIRAX_INDEX}
    others = [path for path in files if path not in mirax and not data_folders & set(path.parents)]
    slides = [*mirax, *_series(folder, [path for path in others if formats[path] == "dicom"], name)]
    slides += [path for path in others if formats[path] not in (None, "dicom", *FLAT_FORMATS)]
    slides = slides or [path for path in others if formats[path] in FLAT_FORMATS]
    slides = slides or _find_unread(others)
    if len(slides) != 1:
        if not slides:
            raise SlideError(name, [slide_issue("no_slide", count=len(files))])
        formats_text = ", ".join("mirax" if path in mirax else str(_format_of(path)) for path in slides[:5])
        raise SlideError(name, [slide_issue("several_slides", count=len(slides), formats=formats_text)])
    return slides[0]


def _is_relevant(path: Path) -> bool:
    """Whether the file is not one that an operating system or a DICOM export adds; of what this module adds."""
    hidden = any(name.startswith(".") for name in path.parts)
    return not hidden and path.name.lower() not in IGNORED_NAMES and not IGNORED_FOLDERS & set(path.parts)


def _format_of(path: Path) -> str | None:
    head = _head_of(path)
    return next((name for name, matches, _ in FORMATS if matches(head)), None)


def _find_unread(files: list[Path]) -> list[Path]:
    """The file of a format that is not read, which the check refuses by its name; a slide rather than a picture."""
    ranks = {path: UNREAD_FORMATS.index(unread) for path in files if (unread := find_unread(_head_of(path)))}
    return sorted(ranks, key=ranks.__getitem__)[:1]


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _series(folder: Path, instances: list[Path], name: str) -> list[Path]:
    """One instance of each series of slides; its other instances lie beside it. Raises SlideError."""
    by_series: dict[str, list[Path]] = {}
    for number, path in enumerate(instances, 1):
        try:
            header = dicom_header.read_header(path)
        except dicom_header.DicomHeaderError as error:
            what = f"DICOM file {number} in order of the names"
            issue = slide_issue("malformed", what=what, actual=str(error), expected="a DICOM instance")
            raise SlideError(name, [issue]) from error
        by_series.setdefault(header.series, []).append(path)
    if len(by_series) == 1:
        return [_gather(folder, instances)]
    # Series of labels and overviews alone are no slides; those of the slides are told apart by their VOLUME images.
    volumes = [paths for paths in by_series.values() if any(_is_volume(path) for path in paths)]
    return [_gather(folder, volumes[0])] if len(volumes) == 1 else [paths[0] for paths in volumes or by_series.values()]


def _is_volume(path: Path) -> bool:
    return dicom_header.read_header(path).image_flavour == "VOLUME"


def _gather(folder: Path, instances: list[Path]) -> Path:
    """The first instance, with the others beside it: exports put each into a folder of its own."""
    if len({path.parent for path in instances}) == 1:
        return instances[0]
    series_folder = folder / SERIES_FOLDER
    series_folder.mkdir(exist_ok=True)
    targets = [series_folder / f"{number:04d}.dcm" for number in range(len(instances))]
    for source, target in zip(instances, targets, strict=True):
        if not target.exists():
            os.link(source, target)
    return targets[0]
