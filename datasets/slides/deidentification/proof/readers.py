"""What independent readers show of a copy: texts of any kind, and pictures beside the tissue.

They decode hostile files, so they run in the sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.slides.byte_source import CheckedSlide
from datasets.slides.deidentification.proof.identifiers import decode_text
from datasets.slides.formats.tiff import PLANE_MARK
from datasets.slides.sandbox import call_in_sandbox

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

MAX_TEXTS = 200_000
COLOR_PROPERTIES = ("openslide.background-color", "trestle.Background Color")
ASSOCIATED_NAMES = ("label", "macro", "thumbnail", "overview", "barcode", "preview")
# of Pillow's `info`: numbers about colours, density and encoding
PILLOW_NUMBERS = {
    *("dpi", "gamma", "chromaticity", "srgb", "transparency", "interlace", "icc_profile", "default_image", "aspect"),
    *("jfif", "jfif_version", "jfif_unit", "jfif_density", "adobe", "adobe_transform", "progressive", "progression"),
    *("compression", "resolution"),
}
RETAINED_SEGMENTS = ("APP0", "APP2", "APP14")  # JFIF, colour profile, Adobe's colour transform
# EXIF of the two resolutions and their unit; one of this length has nothing else
RESOLUTION_EXIF, RESOLUTION_EXIF_BYTES = {282, 283, 296}, 66


# of DICOM: bytes of the file's version, colour profile, offsets of frames, pixels
NO_TEXTS = {0x0002_0001, 0x0028_2000, 0x7FE0_0001, 0x7FE0_0002, 0x7FE0_0010}


@dataclass(slots=True)
class Inspection:
    """What one reader shows. texts: (where, text). pictures: names of pictures beside the tissue."""

    reader: str
    version: str
    texts: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)

    def add(self, where: str, value: object) -> None:
        """A value of any type; numbers are no texts."""
        if len(self.texts) >= MAX_TEXTS:
            raise ValueError(f"{self.reader} shows more than {MAX_TEXTS:,} texts")
        if isinstance(value, bytes):
            self.texts += [(where, text) for text in decode_text(value)]
        elif isinstance(value, str):
            self.texts.append((where, value))
        elif isinstance(value, dict):
            for key, each in value.items():
                self.add(f"{where}, {key}", each)
        elif isinstance(value, (list, tuple)) and not all(isinstance(each, (int, float)) for each in value):
            for each in value:
                self.add(where, each)


def inspect_slide(checked: CheckedSlide) -> list[Inspection]:
    """One inspection by each reader of the slide's format. Raises SlideError."""
    arguments = {"format": checked.format, "path": str(checked.path), "files": [str(path) for path in checked.files]}
    answer = call_in_sandbox(inspect_files, checked.path, arguments, checked.files)
    return [
        Inspection(each["reader"], each["version"], [(where, text) for where, text in each["texts"]], each["pictures"])
        for each in answer["inspections"]
    ]


def inspect_files(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same within the sandbox. path: the file to open; files: all files of the slide."""
    readers = READERS.get(arguments["format"], TIFF_READERS)
    files = [Path(file) for file in arguments["files"]]
    inspections = (read(Path(arguments["path"]), files) for read in readers.values())
    return {"inspections": [asdict(each) for each in inspections if each is not None]}


def read_openslide(path: Path, files: list[Path]) -> Inspection:
    import openslide

    inspection = Inspection("OpenSlide", openslide.__library_version__)
    if openslide.OpenSlide.detect_format(str(path)) is None:
        return read_pillow(path, files)  # a picture without tiles
    with openslide.OpenSlide(str(path)) as slide:
        for name, value in slide.properties.items():
            is_color = name in COLOR_PROPERTIES and re.fullmatch(r"[0-9A-Fa-f]{6}", value)
            if name != "openslide.quickhash-1" and not is_color:  # which is of the pixels
                inspection.add(name, value)
        # OpenSlide opens no Leica slide of several regions without a macro image; one white pixel shows nothing
        inspection.pictures += [name for name, image in slide.associated_images.items() if image.size != (1, 1)]
    return inspection


def read_tifffile(path: Path, files: list[Path]) -> Inspection:
    import tifffile

    inspection = Inspection("tifffile", tifffile.__version__)
    with tifffile.TiffFile(path) as file:
        queue: list[tuple[str, Any]] = [(f"directory {number}", page) for number, page in enumerate(file.pages)]
        has_tiles = any(page.is_tiled for _, page in queue)
        for where, page in queue:
            for tag in page.tags.values():
                if tag.name == "SubIFDs":
                    queue += [(f"{where}, subdirectory {index}", each) for index, each in enumerate(page.pages or ())]
                elif tag.code not in (273, 279, 324, 325, 347, 34675):  # pixels, their tables, the colour profile
                    inspection.add(f"{where}, {tag.name}", tag.value)
            name = str(page.description or "").lower()
            if any(each in name for each in ASSOCIATED_NAMES) or page.subfiletype == 9:
                inspection.pictures.append(where)
            elif has_tiles and not page.is_tiled and not file.is_ndpi and page.size > 1:
                inspection.pictures.append(f"{where} in strips")
    return inspection


def read_pydicom(path: Path, files: list[Path]) -> Inspection:
    import pydicom

    inspection = Inspection("pydicom", pydicom.__version__)
    for file in files:
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        inspection.add(f"{file.name}, preamble", dataset.preamble or b"")
        for element in (*_elements(dataset.file_meta), *_elements(dataset)):
            inspection.add(f"{file.name}, {element.tag}", _plain(element.value))
        flavour = [str(each).upper() for each in dataset.get("ImageType", ())]
        for name, is_visible in (
            *((each, each in flavour) for each in ("LABEL", "OVERVIEW", "THUMBNAIL", "LOCALIZER")),
            ("a label within the image", dataset.get("SpecimenLabelInImage", "NO") == "YES"),
            ("burned-in annotation", dataset.get("BurnedInAnnotation", "NO") == "YES"),
        ):
            if is_visible:
                inspection.pictures.append(f"{file.name}: {name}")
    return inspection


def read_openslide_or_none(path: Path, files: list[Path]) -> Inspection | None:
    """None for codecs and colours that OpenSlide does not read; pydicom or tifffile shows these."""
    import openslide

    try:
        return read_openslide(path, files)
    except openslide.OpenSlideError:
        return None


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)
        elif element.tag not in NO_TEXTS:
            yield element


def _plain(value: Any) -> object:
    from pydicom.multival import MultiValue

    if isinstance(value, MultiValue):
        return [_plain(each) for each in value]
    return value if isinstance(value, (bytes, int, float)) or value is None else str(value)


def read_pillow(path: Path, files: list[Path]) -> Inspection:
    import PIL
    from PIL import Image

    inspection = Inspection("Pillow", PIL.__version__)
    with Image.open(path) as image:
        numbers = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
        if len(numbers) != RESOLUTION_EXIF_BYTES or set(image.getexif()) != RESOLUTION_EXIF:
            numbers = None
        for name, value in image.info.items():
            if name not in PILLOW_NUMBERS and not (name == "exif" and numbers):
                inspection.add("a text", value)
                inspection.add("the name of a text", str(name))
        for name, value in getattr(image, "applist", ()):
            is_retained = name in RETAINED_SEGMENTS or (numbers and value == b"Exif\0\0" + numbers)
            inspection.add(name, b"" if is_retained else value)
        if image.format != "TIFF":  # whose tags are its EXIF
            for code, value in image.getexif().items():
                inspection.add(f"EXIF {code}", value)
        size = image.size
        for frame in range(1, getattr(image, "n_frames", 1)):
            image.seek(frame)
            description = str(getattr(image, "tag_v2", {}).get(270, ""))
            if image.size != size or not PLANE_MARK.search(description):
                inspection.pictures.append(f"picture {frame}")
    return inspection


def read_kfbslide(path: Path, files: list[Path]) -> Inspection:
    import kfbslide

    inspection = Inspection("kfbslide", version("kfbslide"))
    with kfbslide.OpenSlide(str(path)) as slide:
        for name, value in slide.properties.items():
            inspection.add(name, str(value))
        # the sections are needed to find the tiles, so they are there with pictures of no bytes
        inspection.pictures += [each.name for each in slide._info.assoc_images if each.data_length]
    return inspection


Reader = Callable[[Path, list[Path]], Inspection | None]
TIFF_READERS: dict[str, Reader] = {"OpenSlide": read_openslide_or_none, "tifffile": read_tifffile}
READERS: dict[str, dict[str, Reader]] = {  # format -> those that did not write the copy; TIFF_READERS for all others
    "tiff": {"Pillow": read_pillow, "tifffile": read_tifffile},
    "dicom": {"pydicom": read_pydicom, "OpenSlide": read_openslide_or_none},
    "mirax": {"OpenSlide": read_openslide},
    "png": {"Pillow": read_pillow},
    "jpeg": {"Pillow": read_pillow},
    "kfb": {"kfbslide": read_kfbslide},
}
