"""Blank the DICOM attributes about patient, staff, dates and containers. UIDs are kept; they identify the study only to
its holder.
"""

from __future__ import annotations

from pathlib import Path

from datasets.slides.byte_source import CheckedSlide, open_source
from datasets.slides.deidentification.erase import erase
from datasets.slides.formats import dicom
from datasets.slides.limits import SlideLimits


def clean_dicom(checked: CheckedSlide, folder: Path, limits: SlideLimits) -> None:
    """Overwrite texts with blanks, which every text representation may end with, so that no offset changes."""
    for original in checked.files:
        copy = folder / original.name
        with open_source(copy) as source, copy.open("r+b") as file:
            for offset, length in dicom.read_instance(source, limits).personal_values:
                erase(file, offset, length, b" ")
