"""Copy a slide without its label, macro and thumbnail images, which may show a patient's name.

copy = deidentify_slide("slide.svs", Path("store"))        # the path to open from now on

The reader never shows these images; here they are erased from the bytes too, and so are the texts that may identify
people.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from datasets.slides.byte_source import CheckedSlide
from datasets.slides.deidentification import dicom, flat, kfb, tiff
from datasets.slides.errors import SlideError, slide_issue
from datasets.slides.limits import SLIDE_LIMITS, SlideLimits
from datasets.slides.static_check import check_slide

# cleans the copies in a folder of the checked files
Cleaner = Callable[[CheckedSlide, Path, SlideLimits], None]
CLEANERS: dict[str, Cleaner] = {
    **dict.fromkeys(("aperio", "generic-tiff", "tiff"), tiff.clean_tiff),
    "dicom": dicom.clean_dicom,
    "kfb": kfb.clean_kfb,
    "png": flat.clean_png,
    "jpeg": flat.clean_jpeg,
}


def deidentify_slide(path: str | Path, folder: Path, limits: SlideLimits = SLIDE_LIMITS) -> Path:
    """Copy the checked files into `folder` and clean them. Raises SlideError; label_inside if the format cannot be
    cleaned.
    """
    checked = check_slide(path, limits)
    if checked.format not in CLEANERS:
        expected = "SVS, tiled TIFF, KFB or DICOM"
        raise SlideError(checked.path.name, [slide_issue("label_inside", actual=checked.format, expected=expected)])
    for path_to_copy in checked.files:
        shutil.copyfile(path_to_copy, folder / path_to_copy.name)
    CLEANERS[checked.format](checked, folder, limits)
    return folder / checked.path.name
