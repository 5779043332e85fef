"""The texts of a TIFF that its copy does not retain: of every tag in every directory, whatever its type."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from html import unescape

from datasets.slides.byte_source import CheckedSlide
from datasets.slides.deidentification.container import Text
from datasets.slides.deidentification.tiff import vendor_xml
from datasets.slides.deidentification.tiff.clean import open_original
from datasets.slides.deidentification.tiff.descriptions import APERIO_HEAD, BACKGROUND, OVERLAPS
from datasets.slides.deidentification.tiff.ndpi import PROPERTIES, SCANNER, SCANNERS
from datasets.slides.deidentification.tiff.plan import DIRECTORY_TAGS, NUMBER, all_directories
from datasets.slides.deidentification.tiff.tags import (
    CLOSED_LISTS,
    COEFFICIENTS,
    ICC_PROFILE,
    JPEG_TABLES,
    REFERENCE_BLACK_WHITE,
    SIZES,
)
from datasets.slides.formats.tiff_directories import (
    COLOR_MAP,
    DESCRIPTION,
    NDPI,
    RESOLUTION_UNIT,
    ROWS_PER_STRIP,
    STRIP_COUNTS,
    STRIP_OFFSETS,
    SUBFILE_TYPE,
    TILE_COUNTS,
    TILE_OFFSETS,
    X_RESOLUTION,
    Y_RESOLUTION,
)
from datasets.slides.limits import SlideLimits

NDPI_NUMBERS = (NDPI, 65421, 65422, 65423, 65424, 65426, 65432)
# of numbers that are copied, or that only say where bytes stand
NUMERIC_TAGS = {*SIZES, *CLOSED_LISTS, *DIRECTORY_TAGS, *NDPI_NUMBERS, SUBFILE_TYPE, ROWS_PER_STRIP, RESOLUTION_UNIT}
NUMERIC_TAGS |= {STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS, X_RESOLUTION, Y_RESOLUTION, JPEG_TABLES}
NUMERIC_TAGS |= {COEFFICIENTS, REFERENCE_BLACK_WHITE, COLOR_MAP, ICC_PROFILE}
LISTS_OF_PAIRS = (DESCRIPTION, PROPERTIES)
# The copy has these too: numbers of known keys and attributes, and words of closed lists.
RETAINED_NUMBERS = {
    *("AppMag", "MPP", "Objective Power", "Objective.Lens.Magnificant", "objective", "numericalAperture"),
    *("sizeX", "sizeY", "offsetX", "offsetY", "ifd", "r", "z", "OriginX", "OriginY", "SizeX", "SizeY", "SizeC"),
    *("SizeZ", "SizeT", "PhysicalSizeX", "PhysicalSizeY", "SamplesPerPixel", "IFD", "PlaneCount", "version"),
    *(*vendor_xml.ISCAN_NUMBERS, *vendor_xml.AOI_NUMBERS, *vendor_xml.JOINT_NUMBERS),
}
WORDS = (
    *("SIMULATED", "MedScan", "Hamamatsu", "NDP.scan", "NDP.scan SIMULATED", "ScanOutputManager", "brightfield"),
    *(
        "WSI",
        "PHILIPS",
        "PHILIPS (SIMULATED)",
        "Philips DP",
        "DPUfsImport",
        "DPScannedImage",
        "PixelDataRepresentation",
    ),
    *("UTF-8", "utf-8", "Image:0", "Pixels:0", "Channel:0:0", "XYCZT", "uint8", "uint16", "uint32", "0", "1"),
    *(vendor_xml.LEICA, vendor_xml.OME, *vendor_xml.DIRECTIONS, *vendor_xml.PHILIPS_ATTRIBUTES),
    *(word for words in vendor_xml.PHILIPS_ATTRIBUTES.values() for word in words),
)
SCHEMA = re.compile(r"(?:http://www\.openmicroscopy\.org/Schemas/OME/\d{4}-\d{2}(?:/ome\.xsd)?\s*)+")
FORMS = (SCHEMA, APERIO_HEAD, SCANNER, vendor_xml.LEICA_SCANNER, vendor_xml.VENTANA_LEVEL, vendor_xml.PHILIPS_PROGRAM)
RETAINED_WORDS = re.compile("|".join([*map(re.escape, WORDS), *(form.pattern for form in FORMS)]))
# Names that stand around the values in a copy.
NAMES = (
    *("scn", "collection", "image", "device", "model", "pixels", "dimension", "view", "scanSettings", "name", "xmlns"),
    *("objectiveSettings", "illuminationSettings", "illuminationSource", "xml", "encoding", "Background", "Color"),
    *(
        "none",
        "OverlapsXY",
        "EncodeInfo",
        "SlideStitchInfo",
        "ImageInfo",
        "TileJointInfo",
        "AoiOrigin",
        "AOI",
        "Direction",
    ),
    *("iScan", "Mode", "level", "mag", "quality", "DataObject", "ObjectType", "Attribute", "Group", "Element", "PMSVR"),
    *("Array", "OME", "ID", "DimensionOrder", "Type", "Channel", "TiffData", "Leica SCN400 F", "Philips DP v"),
    *("Aperio Image Library", "Leica Biosystems GT450 DX", "uint", "um", *SCANNERS),
)
# of a Leica slide, in nanometres; a colour of a Trestle slide
MEASURES = re.compile(r'(?<= )(?:size|offset)[XY]="\d{1,9}"|(?<=Background Color=)[0-9A-Fa-f]{6}\b')
TOKENS = re.compile(r"[^\W_]+")
VOCABULARY = frozenset(
    token.lower() for words in (WORDS, RETAINED_NUMBERS, NAMES) for word in words for token in TOKENS.findall(word)
)
BASE64 = re.compile(rb"[A-Za-z0-9+/\r\n]{4,}={0,2}[\r\n]*")
PICTURE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"GIF8", b"II*\0", b"MM\0*")
ATTRIBUTES = re.compile(rb"([\w:.-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
ELEMENTS = re.compile(rb"<([\w:.-]+)[^<>]*>([^<>]+)(?=<)")
COMMENTS = re.compile(rb"<!--(.*?)-->", re.DOTALL)
CONTENTS = re.compile(rb">([^<>]+)")
PAIRS = re.compile(rb"[|;\r\n]")


def iter_texts(checked: CheckedSlide, limits: SlideLimits) -> Iterator[Text]:
    with open_original(checked, limits) as original:
        for directory, name in all_directories(original):
            for entry in directory.entries.values():
                if entry.tag in NUMERIC_TAGS:
                    continue
                label = f"{name}, tag {entry.tag}"
                length = min(entry.length, limits.text_bytes)
                yield from _split(label, entry.tag, original.source.read(entry.offset, length, label))


def _split(label: str, tag: int, value: bytes) -> Iterator[Text]:
    """The values of XML and of lists of keys one by one, base64 decoded too; any other text as it is."""
    for key, raw in _fields(tag, value):
        text = raw.strip(b" \0\t\r\n")
        if not text or _is_retained(key.decode("latin-1"), unescape(text.decode("latin-1"))):
            continue
        decoded = _base64_decoded(text)
        if decoded.startswith(PICTURE_SIGNATURES):
            continue
        yield label, text
        if decoded:
            yield f"{label}, base64", decoded


def _is_retained(key: str, text: str) -> bool:
    is_number = key in RETAINED_NUMBERS and NUMBER.fullmatch(text)
    is_trestle = BACKGROUND.fullmatch(f"{key}={text}") or OVERLAPS.fullmatch(f"{key}={text}")
    return bool(is_number or is_trestle or RETAINED_WORDS.fullmatch(text) or vendor_xml.SPACING.fullmatch(text))


def _fields(tag: int, value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value); the key is empty for a text without one."""
    if b"<" in value and b">" in value:
        for key, double_quoted, single_quoted in ATTRIBUTES.findall(value):
            yield key, double_quoted or single_quoted
        yield from ((b"", comment) for comment in COMMENTS.findall(value))
        named = {match.start(2): match[1] for match in ELEMENTS.finditer(value)}
        for match in CONTENTS.finditer(value):
            yield named.get(match.start(1), b""), match[1]
        return
    pieces = PAIRS.split(value) if tag in LISTS_OF_PAIRS else [value]
    for piece in pieces:
        key, _, text = piece.partition(b"=")
        is_pair = len(pieces) > 1 and text.strip(b"= \0")
        yield (key.strip(), text) if is_pair else (b"", piece)


def _base64_decoded(text: bytes) -> bytes:
    if len(text) < 8 or not BASE64.fullmatch(text):
        return b""
    try:
        return base64.b64decode(text, validate=False)
    except binascii.Error:
        return b""
