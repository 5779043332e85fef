"""Copy a slide without its label, macro and thumbnail images, which may show a patient's name, and prove the copy.

deidentified = deidentify_slide("slide.svs", Path("store"), key=key)
deidentified.path                                          # the path to open from now on

The reader never shows these images; the copy does not hold their bytes, nor any text that may identify people.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datasets.slides.byte_source import CheckAbortedError
from datasets.slides.deidentification import flat, kfb, mirax
from datasets.slides.deidentification.container import Container
from datasets.slides.deidentification.dicom import clean as dicom_clean
from datasets.slides.deidentification.dicom import texts as dicom_texts
from datasets.slides.deidentification.proof.prove import Proof, prove_copy
from datasets.slides.deidentification.tiff.clean import PLANS, clean_tiff, tile_ranges
from datasets.slides.deidentification.tiff.texts import MEASURES, VOCABULARY, iter_texts
from datasets.slides.errors import SlideError, slide_issue
from datasets.slides.limits import SLIDE_LIMITS, SlideLimits
from datasets.slides.static_check import check_slide

# by the format that check_slide states
CONTAINERS: dict[str, Container] = {
    **dict.fromkeys(PLANS, Container(clean_tiff, iter_texts, tile_ranges, VOCABULARY, MEASURES)),
    "dicom": Container(dicom_clean.clean_dicom, dicom_texts.iter_texts, dicom_clean.tile_ranges, dicom_texts.WORDS),
    "kfb": Container(kfb.clean_kfb, kfb.iter_texts, kfb.tile_ranges, kfb.WORDS),
    "mirax": Container(mirax.clean_mirax, mirax.iter_texts, mirax.tile_ranges, mirax.WORDS),
    "png": Container(flat.clean_png, flat.iter_png_texts, flat.png_tile_ranges, frozenset()),
    "jpeg": Container(flat.clean_jpeg_file, flat.iter_jpeg_texts, flat.jpeg_tile_ranges, frozenset()),
}


@dataclass(frozen=True, slots=True)
class DeidentifiedSlide:
    path: Path
    proof: Proof


def deidentify_slide(
    path: str | Path,
    folder: Path,
    limits: SlideLimits = SLIDE_LIMITS,
    *,
    key: bytes,
    known_words: Iterable[str] = (),
) -> DeidentifiedSlide:
    """Write the copy into `folder`, which is empty, and prove it.

    key: of the pseudonyms (pseudonyms.py). known_words: of the request form, which must not be in the copy either.

    Raises SlideError: label_inside if the format cannot be copied, not_proved if the copy cannot be proved.
    """
    checked = check_slide(path, limits)
    if checked.format not in CONTAINERS:
        expected = "SVS, tiled TIFF, MRXS, KFB or DICOM"
        raise SlideError(checked.path.name, [slide_issue("label_inside", actual=checked.format, expected=expected)])
    container = CONTAINERS[checked.format]
    try:
        copy = container.clean(checked, folder, limits, key)
        return DeidentifiedSlide(copy, prove_copy(checked, copy, container, limits, known_words))
    except CheckAbortedError as error:
        raise SlideError(checked.path.name, [error.issue]) from error
