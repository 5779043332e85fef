"""The identifiers at the beginning of a DICOM instance.

Nothing of it is trusted: at most HEADER_BYTES are read, and whatever fails is the file's fault. datasets.slides checks
the instance itself, later and in full.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADER_BYTES = 4 << 20  # of real slides the identifiers stand within the first 10 kB
MAX_VALUE_BYTES = 1 << 16
LAST_TAG = 0x0020_000E  # SeriesInstanceUID
WSI_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage
IMPLICIT_SYNTAX = "1.2.840.10008.1.2"
UNREADABLE_SYNTAXES = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")  # deflated; big endian
UID_FIELDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
FIELDS = (*UID_FIELDS, "ImageType", "AccessionNumber")
MAX_UID_CHARS = 64


class DicomHeaderError(ValueError):
    """The file is no DICOM instance whose identifiers can be read."""


@dataclass(frozen=True, slots=True)
class DicomHeader:
    sop_class: str
    instance: str
    study: str
    series: str
    accession: str
    image_flavour: str  # the third value of ImageType: VOLUME, LABEL, OVERVIEW, THUMBNAIL


def read_header(path: Path) -> DicomHeader:
    """Raises DicomHeaderError."""
    with path.open("rb") as file:
        return parse_header(file.read(HEADER_BYTES))


def parse_header(head: bytes) -> DicomHeader:
    """The identifiers in the first bytes of an instance. Raises DicomHeaderError."""
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag

    if head[128:132] != b"DICM":
        raise DicomHeaderError("it does not begin as a DICOM file does")
    file = io.BytesIO(head)
    file.seek(132)
    # Without pydicom's dcmread, which would unpack a deflated data set as a whole, to any size.
    try:
        meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != 2, defer_size=MAX_VALUE_BYTES)
        syntax = _text(meta, "TransferSyntaxUID")
        if not syntax or syntax in UNREADABLE_SYNTAXES:
            raise DicomHeaderError(f"its transfer syntax is {syntax[:80] or 'missing'}")
        dataset = read_dataset(
            file,
            syntax == IMPLICIT_SYNTAX,
            True,
            stop_when=lambda tag, *_: tag > LAST_TAG,
            defer_size=MAX_VALUE_BYTES,
            specific_tags=[Tag(name) for name in FIELDS],
        )
        values = {name: _text(dataset, name) for name in FIELDS}
    except DicomHeaderError:
        raise
    except Exception as error:  # pydicom raises many kinds for broken files
        raise DicomHeaderError(f"its header cannot be read ({type(error).__name__})") from error
    for name in UID_FIELDS:
        value = values[name]
        if not value or len(value) > MAX_UID_CHARS or set(value) - set("0123456789."):
            raise DicomHeaderError(f"its {name} is {value[:80]!r}")
    flavours = [*values["ImageType"].split("\\"), "", "", ""]
    sop_class, instance, study, series = (values[name] for name in UID_FIELDS)
    return DicomHeader(sop_class, instance, study, series, values["AccessionNumber"], flavours[2].strip())


def _text(dataset: Any, name: str) -> str:
    """A value as it stands in the file: pydicom's own conversion writes values that it does not like into the log."""
    element = dataset.get_item(name)
    value = None if element is None else element.value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip(" \0")
    return str(value or "")
