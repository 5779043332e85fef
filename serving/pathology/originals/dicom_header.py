"""The identifiers at the beginning of a DICOM instance.

Nothing of it is trusted: at most HEADER_BYTES are read, and whatever fails is the file's fault. datasets.slides checks
the instance itself, later and in full.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

HEADER_BYTES = 4 << 20  # of real slides the identifiers stand within the first 10 kB
MAX_VALUE_BYTES = 1 << 16
LAST_TAG = 0x0020_000E  # SeriesInstanceUID
DEFLATED_SYNTAX = "1.2.840.10008.1.2.1.99"
UID_FIELDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
MAX_UID_CHARS = 64


class DicomHeaderError(ValueError):
    """The file is no DICOM instance whose identifiers can be read."""


@dataclass(frozen=True, slots=True)
class DicomHeader:
    sop_class: str
    instance: str
    study: str
    series: str
    transfer_syntax: str
    accession: str
    image_flavour: str  # the third value of ImageType: VOLUME, LABEL, OVERVIEW, THUMBNAIL


def is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_header(path: Path) -> DicomHeader:
    """Raises DicomHeaderError."""
    with path.open("rb") as file:
        return parse_header(file.read(HEADER_BYTES))


def parse_header(head: bytes) -> DicomHeader:
    """The identifiers in the first bytes of an instance. Raises DicomHeaderError."""
    from pydicom.filereader import read_partial

    if head[128:132] != b"DICM":
        raise DicomHeaderError("it does not begin as a DICOM file does")
    # The file meta information, before anything that a transfer syntax could have packed.
    try:
        meta = read_partial(io.BytesIO(head), lambda tag, *_: tag.group != 2, defer_size=MAX_VALUE_BYTES).file_meta
        syntax = str(meta.get("TransferSyntaxUID", ""))
        if syntax == DEFLATED_SYNTAX:
            raise DicomHeaderError("it is deflated as a whole")
        dataset = read_partial(io.BytesIO(head), lambda tag, *_: tag > LAST_TAG, defer_size=MAX_VALUE_BYTES)
        flavours = dataset.get("ImageType") or []
        values = [str(dataset.get(name) or "") for name in UID_FIELDS]
        accession = str(dataset.get("AccessionNumber") or "").strip()
    except DicomHeaderError:
        raise
    except Exception as error:  # pydicom raises many kinds for broken files
        raise DicomHeaderError(f"its header cannot be read ({type(error).__name__})") from error
    for name, value in zip(
        ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"), values, strict=True
    ):
        if not value or len(value) > MAX_UID_CHARS or set(value) - set("0123456789."):
            raise DicomHeaderError(f"its {name} is {value[:80]!r}")
    flavour = str(flavours[2]) if not isinstance(flavours, str) and len(flavours) > 2 else ""
    return DicomHeader(*values, transfer_syntax=syntax, accession=accession, image_flavour=flavour)
