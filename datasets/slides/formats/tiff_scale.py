"""Find what a TIFF states about its scale: resolution tags, ImageJ, OME, and the texts of scanner makers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from xml.etree.ElementTree import Element

from datasets.slides.formats import tiff
from datasets.slides.formats import tiff_directories as tags
from datasets.slides.formats.tiff_directories import TiffDirectory
from datasets.slides.limits import SlideLimits
from datasets.slides.scale import (
    MICRONS_PER_CENTIMETRE,
    MICRONS_PER_INCH,
    ScaleStatement,
    parse_decimal,
    state_magnification,
    state_resolution,
    state_scale,
)

Statements = list[ScaleStatement]
MICRONS_PER_UNIT = {2: MICRONS_PER_INCH, 3: MICRONS_PER_CENTIMETRE}  # of the resolution tags
# Names of units in ImageJ's and OME's texts, in lower case, with either of Unicode's two signs for micro.
MICRONS_PER_NAMED_UNIT = {
    **dict.fromkeys(("micron", "microns", "um", "\u00b5m", "\u03bcm", "micrometer", "micrometre", "\\u00b5m"), 1.0),
    **{"nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "centimeter": 1e4, "m": 1e6},
    **{"inch": MICRONS_PER_INCH, "in": MICRONS_PER_INCH, "pm": 1e-6, "\u00e5": 1e-4},
}
ISCAN = re.compile(rb"<iScan\b[^>]*>")


def scale_statements(
    kind: str, directories: Sequence[TiffDirectory], slide: TiffDirectory, limits: SlideLimits
) -> tuple[ScaleStatement, ...]:
    """All statements of the file about `slide`, its largest image; the maker's own comes first."""
    maker = MAKERS.get(kind)
    statements = maker(directories, slide, limits) if maker else []
    if kind == "trestle":
        return tuple(statements)
    for directory in dict.fromkeys((slide, directories[0])):
        statements += _ome_statements(directory, slide, limits)
    return (*statements, *_imagej_statements(slide, limits), *_resolution_statements(slide, limits))


def _resolution_statements(slide: TiffDirectory, limits: SlideLimits) -> Statements:
    unit = MICRONS_PER_UNIT.get(slide.get_int(tags.RESOLUTION_UNIT, 2))
    x, y = _resolution(slide)
    return [] if unit is None else state_resolution("XResolution, YResolution", x, y, unit, limits)


def _resolution(slide: TiffDirectory) -> tuple[float, float]:
    x, y = (slide.tags.get(tag, ()) for tag in (tags.X_RESOLUTION, tags.Y_RESOLUTION))
    return (float(x[0]) if len(x) else 0.0, float(y[0]) if len(y) else 0.0)


def _imagej_statements(slide: TiffDirectory, limits: SlideLimits) -> Statements:
    """ImageJ's unit is in its text, and the resolution tags count pixels per this unit."""
    text = slide.get_text(tags.DESCRIPTION)
    match = re.search(r"^unit=(.+)$", text, re.MULTILINE) if text.startswith("ImageJ=") else None
    unit = MICRONS_PER_NAMED_UNIT.get(match[1].strip().lower()) if match else None
    return [] if unit is None else state_resolution("ImageJ", *_resolution(slide), unit, limits)


def _ome_statements(directory: TiffDirectory, slide: TiffDirectory, limits: SlideLimits) -> Statements:
    """The physical size of the OME image that has the slide's size."""
    text = directory.get_bytes(tags.DESCRIPTION)
    root = tiff.parse_xml(text) if b"PhysicalSizeX" in text else None
    statements: Statements = []
    for pixels in root.iterfind(".//{*}Pixels") if root is not None else ():
        if (pixels.get("SizeX"), pixels.get("SizeY")) != (str(slide.size[0]), str(slide.size[1])):
            continue
        x, y = (_ome_length(pixels, f"PhysicalSize{axis}") for axis in "XY")
        statements += state_scale("OME PhysicalSizeX, PhysicalSizeY", x, y, limits)
    return statements


def _ome_length(pixels: Element, name: str) -> float | None:
    value = parse_decimal(pixels.get(name, ""))
    unit = MICRONS_PER_NAMED_UNIT.get(pixels.get(f"{name}Unit", "um").strip().lower())
    return None if value is None or unit is None else value * unit


def _aperio_statements(directories: Sequence[TiffDirectory], slide: TiffDirectory, limits: SlideLimits) -> Statements:
    """`|MPP = 0.2520|AppMag = 40`; a text that states MPP twice states both."""
    statements: Statements = []
    items = [item.partition("=") for item in slide.get_text(tags.DESCRIPTION).split("|")]
    values = [(key.strip(), parse_decimal(value)) for key, _, value in items]
    for value in dict.fromkeys(value for key, value in values if key == "MPP"):
        statements += state_scale("Aperio MPP", value, None, limits)
    for value in dict.fromkeys(value for key, value in values if key == "AppMag"):
        statements += state_magnification("Aperio AppMag", value)
    return statements


def _ndpi_statements(directories: Sequence[TiffDirectory], slide: TiffDirectory, limits: SlideLimits) -> Statements:
    magnification = slide.tags.get(tags.NDPI_MAGNIFICATION, ())
    return state_magnification("Hamamatsu SourceLens", float(magnification[0])) if len(magnification) else []


def _leica_statements(directories: Sequence[TiffDirectory], slide: TiffDirectory, limits: SlideLimits) -> Statements:
    """A view's size in nanometres over its pixels, of the image to which the directory belongs."""
    root = tiff.parse_xml(directories[0].get_bytes(tags.DESCRIPTION))
    for image in root.iterfind(".//{*}image") if root is not None else ():
        view, pixels = image.find("{*}view"), image.find("{*}pixels")
        numbers = {dimension.get("ifd") for dimension in image.iterfind(".//{*}dimension")}
        if view is None or pixels is None or str(slide.number) not in numbers:
            continue
        x, y = (_ratio(view.get(f"size{axis}", ""), pixels.get(f"size{axis}", "")) for axis in "XY")
        return state_scale("Leica view", x, y, limits)
    return []


def _ratio(nanometres: str, pixels: str) -> float | None:
    length, count = parse_decimal(nanometres), parse_decimal(pixels)
    return length / 1_000 / count if length and count else None


def _philips_statements(directories: Sequence[TiffDirectory], slide: TiffDirectory, limits: SlideLimits) -> Statements:
    """The pixel spacing of the whole slide image, in millimetres with y first."""
    root = tiff.parse_xml(directories[0].get_bytes(tags.DESCRIPTION))
    for image in root.iterfind(".//DataObject[@ObjectType='DPScannedImage']") if root is not None else ():
        if (image.findtext("Attribute[@Name='PIM_DP_IMAGE_TYPE']") or "").strip() != "WSI":
            continue
        spacings = [*image.iterfind("Attribute[@Name='DICOM_PIXEL_SPACING']")]
        spacings += image.findall(".//DataObject[@ObjectType='PixelDataRepresentation']/Attribute")
        for spacing in spacings:  # that of the image, else that of its finest level
            values = [parse_decimal(value) for value in re.findall(r'"([^"]*)"', spacing.text or "")]
            if spacing.get("Name") == "DICOM_PIXEL_SPACING" and len(values) == 2 and None not in values:
                y, x = (1_000 * value for value in values if value is not None)
                return state_scale("Philips DICOM_PIXEL_SPACING", x, y, limits)
    return []


def _trestle_statements(directories: Sequence[TiffDirectory], slide: TiffDirectory, limits: SlideLimits) -> Statements:
    """Its resolution tags are microns per pixel, without a unit."""
    return state_scale("Trestle XResolution, YResolution", *_resolution(slide), limits)


def _ventana_statements(directories: Sequence[TiffDirectory], slide: TiffDirectory, limits: SlideLimits) -> Statements:
    statements: Statements = []
    for directory in directories:
        for element in ISCAN.findall(directory.get_bytes(tags.XMP)):
            values = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', element.decode("utf-8", "replace")))
            statements += state_scale("Ventana ScanRes", parse_decimal(values.get("ScanRes", "")), None, limits)
            statements += state_magnification("Ventana Magnification", parse_decimal(values.get("Magnification", "")))
    return statements


MAKERS: dict[str, Callable[[Sequence[TiffDirectory], TiffDirectory, SlideLimits], Statements]] = {
    "aperio": _aperio_statements,
    "ndpi": _ndpi_statements,
    "leica": _leica_statements,
    "philips": _philips_statements,
    "trestle": _trestle_statements,
    "ventana": _ventana_statements,
}
