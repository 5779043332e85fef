"""Write the XML of Leica, Ventana, Philips and OME anew: numbers of known attributes, and words of closed lists.

What OpenSlide and tifffile do not need to read the levels is not in it: no barcode, no names, no dates, no pictures.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from datasets.slides.byte_source import CheckAbortedError
from datasets.slides.deidentification.tiff.plan import (
    SIMULATED,
    Original,
    PlannedImage,
    bounded_number,
    text_value,
    unreadable,
    whole_number,
)
from datasets.slides.deidentification.tiff.tags import BYTE, Tags, read_bytes
from datasets.slides.formats import tiff
from datasets.slides.formats.tiff_directories import (
    BITS,
    DESCRIPTION,
    SAMPLES,
    SOFTWARE,
    SUBFILE_TYPE,
    XMP,
    TiffDirectory,
)

MAX_POWER = 200
MIN_LENS = 2.0  # macro cameras have less
GLASS_NANOMETRES = 80_000_000  # of a side; a glass of 76 x 52 mm is the largest
MAX_PIXEL_RATIO = 1.05  # of the sides of a pixel
LEICA = "http://www.leica-microsystems.com/scn/2010/10/01"
LEICA_SCANNER = re.compile(r"Leica SCN400( F)?")
BRIGHTFIELD = "brightfield"

VENTANA_LEVEL = re.compile(r"level=(\d{1,2}) mag=(\d{1,3}(?:\.\d{1,6})?)(?: quality=(\d{1,3}))?")
ISCAN_NUMBERS = {"Magnification": MAX_POWER, "ScanRes": 40, "ScanWhitePoint": 255, "Z-layers": 1_000}
AOI_NUMBERS = ("AOIScanned", "AOIIndex", "NumRows", "NumCols", "Width", "Height", "Pos-X", "Pos-Y")
JOINT_NUMBERS = ("FlagJoined", "Confidence", "Tile1", "Tile2", "OverlapX", "OverlapY")
VENTANA_PROGRAM = "ScanOutputManager"
DIRECTIONS = ("RIGHT", "UP", "LEFT", "DOWN")
MAX_POSITION = 10_000_000  # pixels

PHILIPS_PROGRAM = re.compile(r"Philips DP v\d{1,2}(\.\d{1,3}){0,3}")
SPACING = re.compile(r'\s*"(\d\.\d{3,12}|\d\.\d{1,12}[eE]-\d{1,2})"\s+"(\d\.\d{3,12}|\d\.\d{1,12}[eE]-\d{1,2})"\s*')
PHILIPS_ATTRIBUTES = {  # name -> group, element, type
    "DICOM_MANUFACTURER": ("0x0008", "0x0070", "IString"),
    "DICOM_PIXEL_SPACING": ("0x0028", "0x0030", "IDoubleArray"),
    "PIM_DP_SCANNED_IMAGES": ("0x301D", "0x1003", "IDataObjectArray"),
    "PIM_DP_IMAGE_TYPE": ("0x301D", "0x1004", "IString"),
    "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE": ("0x1001", "0x8B01", "IDataObjectArray"),
    "PIIM_PIXEL_DATA_REPRESENTATION_NUMBER": ("0x1001", "0x8B02", "IUInt16"),
}

OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
MICRONS = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "μm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}


def parse_xml(original: Original, directory: TiffDirectory, tag: int) -> Element:
    """Raises CheckAbortedError if it is no XML, or has declarations of entities, which can grow without bounds."""
    entry = directory.entries.get(tag)
    text = b"" if entry is None else read_bytes(original.source, entry, original.limits).rstrip(b"\0 \t\r\n")
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text or b"\0" in text:
        raise unreadable(f"tag {tag} of {directory.name}", "XML with declarations", "plain XML")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise unreadable(f"tag {tag} of {directory.name}", "no XML", "the XML of its scanner") from error


def serialize(root: Element) -> str:
    return '<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(root, encoding="unicode")


def _required(element: Element, name: str, low: int, high: int) -> str:
    value = whole_number(element.get(name), low, high)
    if value is None:
        raise unreadable(f"{name} of {_local_name(element)}", "no whole number within bounds", f"{low} to {high}")
    return str(value)


def _local_name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


# Leica SCN


def plan_leica(original: Original) -> list[PlannedImage]:
    """The images of the scan at their place on the glass; the macro image is left out."""
    collection = parse_xml(original, original.directories[0], DESCRIPTION).find(f"{{{LEICA}}}collection")
    if collection is None:
        raise unreadable("the XML of the slide", "no collection of images", "that of a Leica scanner")
    size = {name: _required(collection, name, 1, GLASS_NANOMETRES) for name in ("sizeX", "sizeY")}
    root = Element("scn", {"xmlns": LEICA})
    copied_collection = SubElement(root, "collection", {"name": SIMULATED if original.is_simulated() else "", **size})
    levels: list[TiffDirectory] = []
    scans = [image for image in collection.findall(f"{{{LEICA}}}image") if _is_scan(image, size)]
    for image in scans:
        _copy_leica_image(original, image, copied_collection, levels)
    if not levels:
        raise unreadable("the XML of the slide", "no image but the macro image", "a brightfield image")
    planned = [PlannedImage(level, original.image_tags(level, is_reduced=_is_reduced(level))) for level in levels]
    if len(scans) > 1:
        _add_white_macro(copied_collection, size, len(planned))
        planned.append(PlannedImage(None))
    planned[0].tags[DESCRIPTION] = text_value(serialize(root))
    return planned


def _copy_view(original: Original, image: Element, collection: Element, pixels: Element) -> Element:
    """Where the image lies on the glass. Its numbers are believed as far as they fit the glass and the pixels, because
    one of eight digits could be a date.
    """
    view, copied = _leica_find(image, "view"), Element("view")
    for name, low in (("sizeX", 1), ("sizeY", 1), ("offsetX", 0), ("offsetY", 0)):
        copied.set(name, _required(view, name, low, GLASS_NANOMETRES))
    numbers = {name: int(value) for name, value in copied.attrib.items()}
    scales = [numbers[f"size{axis}"] / 1_000 / int(pixels.get(f"size{axis}", "1")) for axis in "XY"]
    ends = [numbers[f"offset{axis}"] + numbers[f"size{axis}"] for axis in "XY"]
    if any(end > int(collection.get(f"size{axis}", "0")) for end, axis in zip(ends, "XY", strict=True)):
        raise unreadable("a view in the XML of the slide", "larger than the glass", "a part of the glass")
    limits = original.limits
    is_plausible = all(limits.finest_mpp <= scale <= limits.coarsest_mpp for scale in scales)
    if not is_plausible or max(scales) > MAX_PIXEL_RATIO * min(scales):
        actual = f"{scales[0]:.3g} x {scales[1]:.3g} microns a pixel"
        raise unreadable("a view in the XML of the slide", actual, "square pixels of a scanner")
    return copied


def _add_white_macro(collection: Element, size: dict[str, str], number: int) -> None:
    """OpenSlide opens no slide of several regions without a macro image; this one is a white pixel."""
    macro = SubElement(collection, "image")
    pixels = SubElement(macro, "pixels", {"sizeX": "1", "sizeY": "1"})
    SubElement(pixels, "dimension", {"sizeX": "1", "sizeY": "1", "ifd": str(number)})
    SubElement(macro, "view", {**size, "offsetX": "0", "offsetY": "0"})
    settings = SubElement(macro, "scanSettings")
    SubElement(SubElement(settings, "objectiveSettings"), "objective").text = "1"
    SubElement(SubElement(settings, "illuminationSettings"), "illuminationSource").text = BRIGHTFIELD


def _is_reduced(level: TiffDirectory) -> bool:
    return bool(level.get_int(SUBFILE_TYPE, 0) & 1)


def _is_scan(image: Element, size: dict[str, str]) -> bool:
    view = _leica_find(image, "view")
    covers_glass = all(view.get(name) == value for name, value in size.items()) and all(
        view.get(name) == "0" for name in ("offsetX", "offsetY")
    )
    is_brightfield = _leica_text(image, "scanSettings/illuminationSettings/illuminationSource") == BRIGHTFIELD
    return is_brightfield and not covers_glass and float(_objective(image)) >= MIN_LENS


def _leica_find(image: Element, path: str) -> Element:
    element = image.find("/".join(f"{{{LEICA}}}{name}" for name in path.split("/")))
    if element is None:
        raise unreadable("an image in the XML of the slide", f"without {path}", "one with it")
    return element


def _leica_text(image: Element, path: str) -> str:
    return (_leica_find(image, path).text or "").strip()


def _objective(image: Element) -> str:
    objective = bounded_number(_leica_text(image, "scanSettings/objectiveSettings/objective"), 0.01, MAX_POWER)
    if objective is None:
        raise unreadable("the objective in the XML of the slide", "no number within bounds", f"0.01 to {MAX_POWER}")
    return objective


def _copy_leica_image(original: Original, image: Element, collection: Element, levels: list[TiffDirectory]) -> None:
    """Append the image to the collection, and its directories to `levels`."""
    by_number = {directory.number: directory for directory in original.directories if directory.is_tiled}
    copied = SubElement(collection, "image")
    device = image.find(f"{{{LEICA}}}device")
    if device is not None and (scanner := LEICA_SCANNER.match(device.get("model", ""))):
        SubElement(copied, "device", {"model": scanner[0]})
    pixels, copied_pixels = _leica_find(image, "pixels"), SubElement(copied, "pixels")
    for name in ("sizeX", "sizeY"):
        copied_pixels.set(name, _required(pixels, name, 1, original.limits.side))
    for dimension in pixels.findall(f"{{{LEICA}}}dimension"):
        directory = by_number.get(int(_required(dimension, "ifd", 0, original.limits.directories)))
        if directory is None:
            raise unreadable("a level in the XML of the slide", "no image of the file with tiles", "one of its images")
        numbers = {name: _required(dimension, name, 1, original.limits.side) for name in ("sizeX", "sizeY")}
        numbers |= {name: _required(dimension, name, 0, 1_000) for name in ("r", "z") if name in dimension.attrib}
        copied_numbers = [level.number for level in levels]
        if directory.number not in copied_numbers:
            levels.append(directory)
            copied_numbers.append(directory.number)
        SubElement(copied_pixels, "dimension", {**numbers, "ifd": str(copied_numbers.index(directory.number))})
    copied.append(_copy_view(original, image, collection, copied_pixels))
    settings = SubElement(copied, "scanSettings")
    SubElement(SubElement(settings, "objectiveSettings"), "objective").text = _objective(image)
    illumination = SubElement(settings, "illuminationSettings")
    aperture = bounded_number(_leica_text(image, "scanSettings/illuminationSettings/numericalAperture"), 0, 2)
    if aperture is not None:
        SubElement(illumination, "numericalAperture").text = aperture
    SubElement(illumination, "illuminationSource").text = BRIGHTFIELD


# Ventana BIF


def plan_ventana(original: Original) -> list[PlannedImage]:
    """A directory of one white pixel has the scanner's facts, as the picture of the label had them."""
    levels = [(image, match) for image in original.directories if (match := _ventana_level(original, image))]
    first = next((image for image in original.directories if "iScan" in original.text(image, XMP)), None)
    if not levels or first is None:
        raise unreadable("the images of the slide", "none with a level and a magnification", "those of a BIF")
    root = parse_xml(original, first, XMP)
    scan = root if root.tag == "iScan" else root.find("iScan")
    if scan is None:
        raise unreadable("the XML of the slide", "no element iScan", "that of a Ventana scanner")
    facts = {name: bounded_number(scan.get(name), 0, limit) for name, limit in ISCAN_NUMBERS.items()}
    copied = Element("iScan", {name: value for name, value in facts.items() if value is not None})
    if original.is_simulated():
        copied.set("Mode", SIMULATED)
    planned = [PlannedImage(None, {XMP: _xml_bytes(copied), SOFTWARE: text_value(VENTANA_PROGRAM)})]
    for image, match in levels:
        number, magnification, quality = match.groups()
        description = f"level={number} mag={magnification}" + (f" quality={quality}" if quality else "")
        tags: Tags = {DESCRIPTION: text_value(description)}
        if number == "0" and XMP in image.entries:
            tags |= {XMP: _xml_bytes(_copy_stitching(parse_xml(original, image, XMP)))}
        planned.append(PlannedImage(image, original.image_tags(image, is_reduced=number != "0") | tags))
    return planned


def _ventana_level(original: Original, image: TiffDirectory) -> re.Match[str] | None:
    return VENTANA_LEVEL.match(original.text(image, DESCRIPTION).strip()) if image.is_tiled else None


def _xml_bytes(root: Element) -> tuple[int, bytes]:
    return BYTE, serialize(root).encode() + b"\0"


def _copy_stitching(root: Element) -> Element:
    """Where the tiles lie: areas of interest, and how far each tile overlaps its neighbours."""
    copied = Element("EncodeInfo")
    areas = root.findall("SlideStitchInfo/ImageInfo")
    origins = [origin for parent in root.findall("AoiOrigin") for origin in parent]
    if root.tag != "EncodeInfo" or not areas or len(areas) != len(origins):
        actual = f"{len(areas)} areas and {len(origins)} origins"
        raise unreadable("the XML of the finest level", actual, "an origin for each area")
    stitching, copied_origins = SubElement(copied, "SlideStitchInfo"), SubElement(copied, "AoiOrigin")
    for area in areas:
        copied_area = SubElement(stitching, "ImageInfo", _numbers(area, AOI_NUMBERS))
        for joint in area.findall("TileJointInfo"):
            direction = joint.get("Direction")
            if direction not in DIRECTIONS:
                raise unreadable("the direction of a joint in the XML of the slide", "unknown", ", ".join(DIRECTIONS))
            SubElement(copied_area, "TileJointInfo", {"Direction": direction, **_numbers(joint, JOINT_NUMBERS)})
    for index, origin in enumerate(origins):
        SubElement(copied_origins, f"AOI{index}", _numbers(origin, ("OriginX", "OriginY")))
    return copied


def _numbers(element: Element, names: tuple[str, ...]) -> dict[str, str]:
    """Of the attributes that the element has. Some scanners write whole numbers with decimals."""
    present = [name for name in names if name in element.attrib]
    values = {name: bounded_number(element.get(name), -MAX_POSITION, MAX_POSITION) for name in present}
    if wrong := [name for name, value in values.items() if value is None]:
        raise unreadable(
            f"{wrong[0]} of {_local_name(element)}", "no number within bounds", f"at most {MAX_POSITION:,}"
        )
    return {name: value for name, value in values.items() if value is not None}


# Philips TIFF


def plan_philips(original: Original) -> list[PlannedImage]:
    levels = tiff.slide_images("philips", list(original.directories))
    scan = _philips_scan(parse_xml(original, original.directories[0], DESCRIPTION))
    spacings = [
        _spacing(representation) for representation in _philips_objects(scan, "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE")
    ]
    if len(spacings) != len(levels):
        raise unreadable("the XML of the slide", f"{len(spacings)} levels", f"{len(levels)}, as the file has")
    maker = f"PHILIPS ({SIMULATED})" if original.is_simulated() else "PHILIPS"
    root = Element("DataObject", {"ObjectType": "DPUfsImport"})
    _add_attribute(root, "DICOM_MANUFACTURER").text = maker
    copied = _add_object(_add_attribute(root, "PIM_DP_SCANNED_IMAGES"), "DPScannedImage")
    _add_attribute(copied, "PIM_DP_IMAGE_TYPE").text = "WSI"
    _add_attribute(copied, "DICOM_PIXEL_SPACING").text = _spacing(scan)
    sequence = SubElement(_add_attribute(copied, "PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"), "Array")
    for number, spacing in enumerate(spacings):
        representation = SubElement(sequence, "DataObject", {"ObjectType": "PixelDataRepresentation"})
        _add_attribute(representation, "DICOM_PIXEL_SPACING").text = spacing
        _add_attribute(representation, "PIIM_PIXEL_DATA_REPRESENTATION_NUMBER").text = str(number)
    program = PHILIPS_PROGRAM.match(original.text(original.directories[0], SOFTWARE))
    words: Tags = {DESCRIPTION: text_value(serialize(root))}
    words |= {SOFTWARE: text_value(program[0] if program else "Philips DP")}
    return [
        PlannedImage(level, original.image_tags(level, is_reduced=index > 0) | (words if not index else {}))
        for index, level in enumerate(levels)
    ]


def _philips_scan(root: Element) -> Element:
    scans = [
        image
        for image in _philips_objects(root, "PIM_DP_SCANNED_IMAGES")
        if any((item.text or "").strip() == "WSI" for item in image.findall("Attribute[@Name='PIM_DP_IMAGE_TYPE']"))
    ]
    if len(scans) != 1:
        raise unreadable("the XML of the slide", f"{len(scans)} images of type WSI", "1")
    return scans[0]


def _philips_objects(parent: Element, name: str) -> list[Element]:
    return parent.findall(f"Attribute[@Name='{name}']/Array/DataObject")


def _spacing(parent: Element) -> str:
    texts = [item.text or "" for item in parent.findall("Attribute[@Name='DICOM_PIXEL_SPACING']")]
    match = SPACING.fullmatch(texts[0]) if texts else None
    if match is None:
        raise unreadable(
            "the pixel spacing in the XML of the slide", "no two numbers", "millimetres, in quotation marks"
        )
    return f'"{match[1]}" "{match[2]}"'


def _add_attribute(parent: Element, name: str) -> Element:
    group, element, kind = PHILIPS_ATTRIBUTES[name]
    return SubElement(parent, "Attribute", {"Name": name, "Group": group, "Element": element, "PMSVR": kind})


def _add_object(parent: Element, kind: str) -> Element:
    return SubElement(SubElement(parent, "Array"), "DataObject", {"ObjectType": kind})


# OME-TIFF


def ome_description(original: Original, level: TiffDirectory) -> str | None:
    """Size, channels and scale of the finest level; None if the file has no OME-XML. Its levels follow one another in
    the copy, so that every reader of TIFF pyramids finds them.
    """
    first = original.directories[0]
    if "http://www.openmicroscopy.org/Schemas/OME/" not in original.text(first, DESCRIPTION):
        return None
    try:
        root = parse_xml(original, first, DESCRIPTION)
    except CheckAbortedError:
        return None
    width, height = level.size
    samples, bits = level.get_int(SAMPLES, 1), level.get_int(BITS, 1)
    copied = Element("OME", {"xmlns": OME})
    image = SubElement(copied, "Image", {"ID": "Image:0", "Name": SIMULATED if original.is_simulated() else ""})
    geometry = {"DimensionOrder": "XYCZT", "Type": f"uint{bits}", "SizeX": str(width), "SizeY": str(height)}
    geometry |= {"SizeC": str(samples), "SizeZ": "1", "SizeT": "1"}
    stated = [item for item in root.iter() if _local_name(item) == "Pixels" and item.get("SizeX") == str(width)]
    scale = _physical_size(original, stated[0]) if stated else {}
    pixels = SubElement(image, "Pixels", {"ID": "Pixels:0", **geometry, **scale})
    SubElement(pixels, "Channel", {"ID": "Channel:0:0", "SamplesPerPixel": str(samples)})
    SubElement(pixels, "TiffData", {"IFD": "0", "PlaneCount": "1"})
    return serialize(copied)


def _physical_size(original: Original, pixels: Element) -> dict[str, str]:
    """In microns, the unit that needs no mention."""
    size = {}
    for axis in ("X", "Y"):
        number = bounded_number(pixels.get(f"PhysicalSize{axis}"), 0, GLASS_NANOMETRES)
        microns = float(number or 0) * MICRONS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 0.0)
        if original.limits.finest_mpp <= microns <= original.limits.coarsest_mpp:
            size[f"PhysicalSize{axis}"] = f"{microns:.9g}"
    return size if len(size) == 2 else {}
