"""Check by its content what a file is and whether it may be decoded; nothing is decoded here.

checked = check_slide("slide.svs")        # CheckedSlide: format, levels, scale, files; or SlideError with every reason
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from datasets.slides.byte_source import ByteSource, CheckAbortedError, CheckedSlide, open_source
from datasets.slides.errors import SlideError, slide_issue
from datasets.slides.formats import flat, kfb, mrxs, tiff, tiff_check
from datasets.slides.formats.dicom import series
from datasets.slides.formats.dicom.instance import is_dicom
from datasets.slides.formats.unread import HEAD_BYTES, find_unread, unread_issue
from datasets.slides.limits import SLIDE_LIMITS, SlideLimits
from datasets.slides.scale import ScaleStatement

Checker = Callable[[ByteSource, SlideLimits], CheckedSlide | None]

# format, test of its first bytes, checker
FORMATS: tuple[tuple[str, Callable[[bytes], bool], Checker], ...] = (
    ("tiff", tiff.is_tiff, tiff_check.check_tiff),
    ("dicom", is_dicom, series.check_dicom),
    ("kfb", kfb.is_kfb, kfb.check_kfb),
    ("png", lambda head: head.startswith(flat.PNG_SIGNATURE), flat.check_png),
    ("jpeg", lambda head: head.startswith(flat.JPEG_SIGNATURE), flat.check_jpeg),
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
    "trestle": {".tif", ".tiff"},
    "ventana": {".bif", ".tif", ".tiff"},
}
NAME_MISMATCH = "named_otherwise"


def check_slide(path: str | Path, limits: SlideLimits = SLIDE_LIMITS) -> CheckedSlide:
    """Check a file. Raises SlideError with everything that is wrong, as far as the file could be followed."""
    path = Path(path).absolute()
    try:
        is_regular_file = stat.S_ISREG(path.stat().st_mode)
    except OSError:
        is_regular_file = False
    if not is_regular_file:
        raise SlideError(path.name, [slide_issue("no_file")])
    with open_source(path) as source:
        checked = None
        try:
            checked = _select_checker(source, limits)(source, limits)
        except CheckAbortedError as error:
            if error.issue not in source.issues:
                source.issues.append(error.issue)
        if source.issues or checked is None:
            raise SlideError(path.name, source.issues)
    if checked.mpp is not None and not checked.scales:
        checked = replace(checked, scales=(ScaleStatement(f"{checked.format} header", *checked.mpp),))
    return _add_name_note(checked)


def _select_checker(source: ByteSource, limits: SlideLimits) -> Checker:
    head = source.read_up_to(0, HEAD_BYTES)
    if not head:
        raise CheckAbortedError(slide_issue("empty"))
    if source.size > limits.file_bytes:
        raise CheckAbortedError(slide_issue("too_large", actual=source.size, limit=limits.file_bytes))
    if mrxs.is_mrxs(source.path):
        return mrxs.check_mrxs
    for _, matches, checker in FORMATS:
        if matches(head):
            return checker
    unread = find_unread(head)
    raise CheckAbortedError(unread_issue(unread) if unread else slide_issue("unknown_format", actual=head[:8].hex(" ")))


def _add_name_note(checked: CheckedSlide) -> CheckedSlide:
    """Note a suffix of another format; it is not an issue."""
    suffixes = SUFFIXES.get(checked.format, {".tif", ".tiff"})
    if checked.path.suffix.lower() in suffixes:
        return checked
    return replace(checked, notes=(*checked.notes, NAME_MISMATCH))
