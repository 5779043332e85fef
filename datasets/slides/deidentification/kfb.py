"""Erase label and macro image of a KFB. Texts before its tiles are kept, as its layout is not public."""

from __future__ import annotations

from pathlib import Path

from datasets.slides.byte_source import CheckedSlide, open_source
from datasets.slides.deidentification.erase import erase
from datasets.slides.formats import kfb
from datasets.slides.limits import SlideLimits


def clean_kfb(checked: CheckedSlide, folder: Path, limits: SlideLimits) -> None:
    copy = folder / checked.path.name
    with open_source(copy) as source, copy.open("r+b") as file:
        for offset, length in kfb.associated_images(source, limits):
            erase(file, offset, length)
