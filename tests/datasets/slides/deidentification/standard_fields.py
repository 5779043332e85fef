"""The fields that each container defines for words; DICOM's and TIFF's lists are those of pydicom and tifffile."""

import re
import tomllib
from pathlib import Path

from pydicom.datadict import DicomDictionary

_TEXTS = tomllib.loads((Path(__file__).parent / "standard_fields.toml").read_text(encoding="utf-8"))
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def names(key: str) -> list[str]:
    """A list of standard_fields.toml."""
    text = _TEXTS[key]
    return [name.strip() for name in text.split("|")] if "|" in text else text.split()


def philips_names() -> list[str]:
    """Philips' own, and DICOM's keywords as Philips spells them: DICOM_PATIENT_NAME."""
    keywords = (keyword for *_, keyword in DicomDictionary.values() if keyword)
    return names("philips_names") + ["DICOM_" + _WORD_START.sub("_", keyword).upper() for keyword in keywords]
