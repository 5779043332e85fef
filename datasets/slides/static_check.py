"""The static check: what a file is by its content, and whether it may be decoded; nothing is decoded here.

found = check("slide.svs")        # Found: format, levels, scale, files; or SlideRefused with every reason
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from datasets.slides.byte_source import Ends, Found, Source, opened
from datasets.slides.errors import SlideRefused, fault
from datasets.slides.formats import dicom, flat, kfb, mrxs, tiff
from datasets.slides.limits import LIMITS, Limits

Checker = Callable[[Source, Limits], Found | None]

# format, how its first 132 bytes tell it, and what checks it
FORMATS: tuple[tuple[str, Callable[[bytes], bool], Checker], ...] = (
    ("tiff", tiff.is_tiff, tiff.check),
    ("dicom", dicom.is_dicom, dicom.check),
    ("kfb", kfb.is_kfb, kfb.check),
    ("png", lambda head: head.startswith(flat.PNG), flat.check_png),
    ("jpeg", lambda head: head.startswith(flat.JPEG), flat.check_jpeg),
)
SUFFIXES = {
    "dicom": {".dcm", ".dicom", ""},
    "kfb": {".kfb"},
    "png": {".png"},
    "jpeg": {".jpg", ".jpeg"},
    "mirax": {".mrxs"},
    "aperio": {".svs", ".tif", ".tiff"},
    "ndpi": {".ndpi"},
    "leica": {".scn"},
    "ventana": {".bif", ".tif", ".tiff"},
}
NAMED_OTHERWISE = "named_otherwise"


def check(path: str | Path, limits: Limits = LIMITS) -> Found:
    """Raises SlideRefused with all that is wrong, as far as the file could be followed."""
    path = Path(path).absolute()
    try:
        plain = stat.S_ISREG(path.stat().st_mode)
    except OSError:
        plain = False
    if not plain:
        raise SlideRefused(path.name, [fault("no_file", name=path.name)])
    with opened(path) as source:
        found = None
        try:
            found = _checker(source, limits)(source, limits)
        except Ends as end:
            if end.reason not in source.faults:
                source.faults.append(end.reason)
        if source.faults or found is None:
            raise SlideRefused(path.name, source.faults)
    return _noted(found)


def _checker(source: Source, limits: Limits) -> Checker:
    head = source.some(0, 132)
    if not head:
        raise Ends(fault("empty"))
    if source.size > limits.file_bytes:
        raise Ends(fault("too_large", found=source.size, most=limits.file_bytes))
    if mrxs.is_mrxs(source.path):
        return mrxs.check
    for _, tells, checker in FORMATS:
        if tells(head):
            return checker
    raise Ends(fault("unknown_format", found=head[:8].hex(" ")))


def _noted(found: Found) -> Found:
    """A name that says another format is no fault; it is noted."""
    suffixes = SUFFIXES.get(found.format, {".tif", ".tiff"})
    if found.path.suffix.lower() in suffixes:
        return found
    return Found(
        found.path, found.format, found.levels, found.mpp, found.files, found.flat, (*found.notes, NAMED_OTHERWISE)
    )
