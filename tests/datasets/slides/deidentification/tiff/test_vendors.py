"""Copies of NDPI, SCN, BIF and Philips TIFF: read by the same driver, without label and macro, without any name.

The files are SIMULATED containers around real pixels; they are no proof of reading real scanners' files.
"""

import base64
import copy as copying
import struct
from xml.etree import ElementTree

import numpy as np
import openslide
import pytest
import tifffile

from datasets.slides import sandbox, tiling, tissue
from datasets.slides.byte_source import open_source
from datasets.slides.deidentification.deidentify import deidentify_slide
from datasets.slides.deidentification.tiff.texts import iter_texts
from datasets.slides.deidentification.tiff.writer import TiffWriter
from datasets.slides.errors import SlideError
from datasets.slides.formats.tiff_directories import ByteLayout, read_directories
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.static_check import check_slide
from tests.datasets.slides.deidentification.tiff.planted import ENCODINGS, FILES, NAME, copy_of, names_in, plant
from tests.datasets.slides.slide_files import jpeg, painted
from tests.paths import VENDOR_SLIDES

PLANTED = (b"TEST-0001", b"VEVTVC0wMDAx", b"TEST PATIENT", b"S26-00001")
# vendor, directory and tag of each XML
XML = (("leica", 0, 270), ("ventana", 0, 700), ("ventana", 2, 700), ("philips", 0, 270))
BYTE = 1
GEOMETRY = {254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 282, 283, 284, 296, 317, 320, 322, 323, 324}
GEOMETRY |= {325, 330, 338, 339, 347, 400, 529, 530, 531, 532, 32997, 34675, 34665, 34853, 40965, 65420, 65421, 65426}
pytestmark = pytest.mark.skipif(not VENDOR_SLIDES.exists(), reason="no folder of simulated vendor files")


def assert_same_slide(original, copy, vendor):
    with openslide.OpenSlide(original) as first, openslide.OpenSlide(copy) as second:
        assert second.properties["openslide.vendor"] == vendor
        assert not second.associated_images
        assert "openslide.barcode" not in second.properties
        assert first.level_dimensions == second.level_dimensions
        for axis in "xy":
            mpp = f"openslide.mpp-{axis}"
            assert first.properties[mpp] == second.properties[mpp]
        corner = tuple(int(first.properties.get(f"openslide.bounds-{axis}", 0)) for axis in "xy")
        for level, size in enumerate(first.level_dimensions):
            region = corner, level, (min(size[0], 1536), min(size[1], 1280))
            np.testing.assert_array_equal(first.read_region(*region), second.read_region(*region))


@pytest.mark.parametrize("vendor", FILES)
def test_a_copy_is_read_by_the_same_driver_without_label_and_macro(store, vendor):
    path = VENDOR_SLIDES / FILES[vendor]
    assert any(name in path.read_bytes() for name in PLANTED)
    copy = copy_of(path, store)
    assert not [name for name in PLANTED if name in copy.read_bytes()]
    assert b"SIMULATED" in copy.read_bytes()
    assert_same_slide(path, copy, vendor)
    with tifffile.TiffFile(copy) as file:
        sizes = [(page.imagewidth, page.imagelength) for page in file.pages]
        assert file.is_ndpi or file.is_scn or file.is_bif or file.is_philips
    assert [size for size in sizes if size != (1, 1)][0] == (1536, 1280)
    assert (640, 240) not in sizes


@pytest.mark.parametrize("vendor", FILES)
def test_a_copy_is_a_fixed_point(tmp_path, store, vendor):
    once = copy_of(VENDOR_SLIDES / FILES[vendor], store).read_bytes()
    (tmp_path / FILES[vendor]).write_bytes(once)
    assert copy_of(tmp_path / FILES[vendor], store).read_bytes() == once


@pytest.mark.parametrize("vendor", FILES)
def test_a_copy_goes_through_quality_and_tiles(store, vendor):
    copy = deidentify_slide(VENDOR_SLIDES / FILES[vendor], store, key=bytes(32)).path
    with sandbox.open_slide(copy) as slide:
        mask = tissue.find_tissue(slide)
        grid = tiling.tile_grid(slide.metadata, mask, tiling.GridConfig(mpp=1.0, tile_size=128))
        tiles = np.concatenate([tiles for _, tiles in tiling.read_tiles(slide, grid, 16)])
    assert len(tiles) == len(grid) > 3
    assert tiles.std() > 10


@pytest.mark.parametrize("vendor", FILES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_name_in_any_tag_of_any_directory_is_gone(tmp_path, store, vendor, encoding):
    path = VENDOR_SLIDES / FILES[vendor]
    registered = {code for code, _ in tifffile.TIFF.TAGS} | {65_425, 65_427, 65_428, 65_434, 65_442, 65_448, 65_000}
    with open_source(path) as source:
        directories = read_directories(source, SLIDE_LIMITS)
    named = tmp_path / FILES[vendor]
    named.write_bytes(path.read_bytes())
    for number, directory in enumerate(directories):
        tags = registered - GEOMETRY - ({270, 305, 700} & directory.entries.keys())
        tags -= {270, 305, 700} if vendor == "ventana" and number < 3 else set()
        named.write_bytes(
            plant(named, {tag: (7, ENCODINGS[encoding]) for tag in tags}, number, tail=ENCODINGS[encoding])
        )
    copy = copy_of(named, store)
    assert not names_in(copy.read_bytes())
    assert_same_slide(path, copy, vendor)


def xml_of(vendor, number, tag):
    with open_source(VENDOR_SLIDES / FILES[vendor]) as source:
        entry = read_directories(source, SLIDE_LIMITS)[number].entries[tag]
        return entry.kind, ElementTree.fromstring(source.read(entry.offset, entry.length, "XML").rstrip(b"\0"))


def fields(root):
    """The first attribute of each name in elements of each name, and the first text of each, and new ones."""
    first_fields = {}
    for index, element in enumerate(root.iter()):
        for name in element.attrib:
            first_fields.setdefault((element.tag, name, element.get("Name")), (index, name))
        first_fields.setdefault((element.tag, "text", element.get("Name")), (index, None))
        first_fields.setdefault((element.tag, "new", element.get("Name")), (index, "PatientName"))
    return list(first_fields.values())


@pytest.mark.parametrize(("vendor", "number", "tag"), XML)
def test_a_name_in_any_field_of_a_scanners_xml_is_gone_or_refused(tmp_path, store, vendor, number, tag):
    kind, root = xml_of(vendor, number, tag)
    named, copied = tmp_path / FILES[vendor], 0
    for text in (NAME, base64.b64encode(NAME.encode()).decode(), "TEST PATIENT S26-00001"):
        for index, attribute in fields(root):
            changed = copying.deepcopy(root)
            element = list(changed.iter())[index]
            if attribute is None:
                element.text = text
            else:
                element.set(attribute, text)
            xml = ElementTree.tostring(changed, encoding="unicode").encode()
            named.write_bytes(plant(VENDOR_SLIDES / FILES[vendor], {tag: (kind, xml + b"\0")}, number))
            try:
                copy = copy_of(named, store)
            except SlideError:
                assert not list(store.iterdir())
            else:
                copied += 1
                assert not names_in(copy.read_bytes())
    assert copied > 10


@pytest.mark.parametrize(("vendor", "number", "tag"), XML)
@pytest.mark.parametrize("xml", [b"", b"<", b"<!DOCTYPE a [<!ENTITY b 'c'>]><scn>&b;</scn>", b"<a/>", b"\xff\xfe<\0"])
def test_xml_that_is_not_the_scanners_is_refused(tmp_path, store, vendor, number, tag, xml):
    marks = {"leica": b"<!-- http://www.leica-microsystems.com/scn/ -->", "ventana": b"<!-- iScan -->"}
    named = tmp_path / FILES[vendor]
    named.write_bytes(plant(VENDOR_SLIDES / FILES[vendor], {tag: (7, xml + marks.get(vendor, b"") + b"\0")}, number))
    with pytest.raises(SlideError) as refused:
        copy_of(named, store)
    assert refused.value.codes


@pytest.mark.parametrize("digits", ["19610304", "20010304", "19991231", "00010304"])
@pytest.mark.parametrize(
    ("element", "name"),
    [("view", name) for name in ("sizeX", "sizeY", "offsetX", "offsetY")]
    + [("collection", "sizeY"), ("pixels", "sizeX")],
)
def test_a_date_in_a_length_of_a_leica_slide_is_refused(tmp_path, store, digits, element, name):
    """Unless it is a length that fits the glass and the pixels, as an offset may."""
    kind, root = xml_of("leica", 0, 270)
    namespace = root.tag.partition("}")[0] + "}"
    changed = root[0] if element == "collection" else root[0][-1].find(f"{namespace}{element}")
    before = changed.get(name)
    changed.set(name, digits)
    named = tmp_path / "slide.scn"
    xml = ElementTree.tostring(root, encoding="unicode")
    named.write_bytes(plant(VENDOR_SLIDES / FILES["leica"], {270: (kind, xml.encode() + b"\0")}))
    fits = name.startswith("offset") and int(digits) < {"offsetX": 24_000_000, "offsetY": 8_000_000}[name]
    if fits or element == "collection" and int(digits) > 4_000_000:
        assert copy_of(named, store)
    else:
        with pytest.raises(SlideError):
            copy_of(named, store)
    assert before != digits


def test_several_regions_of_a_leica_slide_stay_at_their_places(tmp_path, store):
    kind, root = xml_of("leica", 0, 270)
    collection = root[0]
    region = copying.deepcopy(collection[-1])
    namespace = root.tag.partition("}")[0] + "}"
    region.find(f"{namespace}view").set("offsetY", "6000000")
    collection.append(region)
    named = tmp_path / "slide.scn"
    ElementTree.register_namespace("", namespace[1:-1])
    xml = ElementTree.tostring(root, encoding="unicode")
    named.write_bytes(plant(VENDOR_SLIDES / FILES["leica"], {270: (kind, xml.encode() + b"\0")}))
    copy = copy_of(named, store)
    with openslide.OpenSlide(named) as first, openslide.OpenSlide(copy) as second:
        assert first.level_dimensions == second.level_dimensions
        for y in (6012, 12024):
            region = (28056, y), 0, (1536, 1280)
            np.testing.assert_array_equal(first.read_region(*region), second.read_region(*region))
        assert second.associated_images["macro"].size == (1, 1)  # without one, OpenSlide does not open the file
    (tmp_path / "proved").mkdir()
    assert deidentify_slide(named, tmp_path / "proved", key=bytes(32)).proof.tiles > 30
    assert not names_in(copy.read_bytes())


def test_an_ndpi_keeps_its_restart_table_where_a_comment_stood_in_a_level(tmp_path, store):
    path = VENDOR_SLIDES / FILES["hamamatsu"]
    data = path.read_bytes()
    with open_source(path) as source:
        level = read_directories(source, SLIDE_LIMITS)[0]
        table = level.entries[65426]
        starts = np.frombuffer(source.read(table.offset, table.length, "a table"), "<u4")
    offset, count = int(level.tags[273][0]), int(level.tags[279][0])
    comment = b"\xff\xfe\0\x18TEST PATIENT S26-00001"
    strip = data[offset : offset + 2] + comment + data[offset + 2 : offset + count]
    named = tmp_path / "slide.ndpi"
    named.write_bytes(data + strip)
    moved = {273: struct.pack("<I", len(data)), 279: struct.pack("<I", len(strip))}
    moved[65426] = (starts + len(comment)).astype("<u4").tobytes()
    named.write_bytes(plant(named, {tag: (4, value) for tag, value in moved.items()}))
    assert_same_slide(path, named_copy := copy_of(named, store), "hamamatsu")
    assert not names_in(named_copy.read_bytes())
    with open_source(named_copy) as source:
        table = read_directories(source, SLIDE_LIMITS)[0].entries[65426]
        np.testing.assert_array_equal(np.frombuffer(source.read(table.offset, table.length, "a table"), "<u4"), starts)


def test_an_ndpi_of_more_than_4_gigabytes_is_written_with_its_high_bits(tmp_path):
    stored, path = jpeg(painted(64, 64)), tmp_path / "slide.ndpi"
    with path.open("xb") as file:
        writer = TiffWriter(file, ByteLayout("<", False, is_ndpi=True))
        file.seek(2**32 + 4096)  # a hole takes no room on the disk
        numbers = {256: 64, 257: 64, 259: 7, 277: 3, 278: 64, 65420: 1}
        tags = {tag: (4, [number]) for tag, number in numbers.items()} | {258: (3, [8, 8, 8]), 305: (2, b"NDP.scan\0")}
        writer.add_image(tags, writer.add_bytes(stored), is_tiled=False)
    assert check_slide(path).levels == ((64, 64),)
    with open_source(path) as source:
        level = read_directories(source, SLIDE_LIMITS)[0]
        assert source.read(int(level.tags[273][0]), len(stored), "a level") == stored
    assert level.get_text(305) == "NDP.scan"
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].dataoffsets[0] == 2**32 + 4096
        assert file.pages[0].software == "NDP.scan"


@pytest.mark.parametrize("vendor", FILES)
def test_texts_that_stay_are_not_listed_and_planted_ones_are(vendor):
    listed = {text for _, text in iter_texts(check_slide(VENDOR_SLIDES / FILES[vendor]), SLIDE_LIMITS)}
    assert {b"TEST-0001"} & listed
    assert not {b"SIMULATED", b"brightfield", b"RIGHT", b"WSI", b"Hamamatsu", b"IString", b"0.4"} & listed


OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" Creator="Zhang San"><Experimenter ID="E:0" '
    'LastName="Zhang"/><Image ID="Image:0" Name="Zhang San"><Description>Zhang San</Description><Pixels ID="P:0" '
    'SizeX="600" SizeY="400" SizeC="3" SizeZ="1" SizeT="1" Type="uint8" DimensionOrder="XYCZT" PhysicalSizeX="500" '
    'PhysicalSizeXUnit="nm" PhysicalSizeY="0.5"><Channel ID="C:0" Name="Zhang" SamplesPerPixel="3"/><TiffData/>'
    "</Pixels></Image><StructuredAnnotations><XMLAnnotation>Zhang San</XMLAnnotation></StructuredAnnotations></OME>"
)


@pytest.mark.parametrize("is_broken", [False, True])
def test_an_ome_tiff_keeps_its_size_and_scale_and_loses_all_else(tmp_path, store, is_broken):
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        for level in range(2):
            pixels = painted(600 >> level, 400 >> level)
            description = {"description": OME[: -7 if is_broken else None]} if not level else {"subfiletype": 1}
            writer.write(pixels, tile=(128, 128), photometric="rgb", metadata=None, **description)
    copy = copy_of(path, store)
    assert b"Zhang" not in copy.read_bytes()
    with tifffile.TiffFile(copy) as file:
        assert file.is_ome is not is_broken
        np.testing.assert_array_equal(file.series[0].asarray(), painted(600, 400))
        if not is_broken:
            pixels = ElementTree.fromstring(file.ome_metadata).find(".//{*}Pixels")
            assert (pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY"), pixels.get("SizeC")) == (
                "0.5",
                "0.5",
                "3",
            )


def test_a_trestle_slide_keeps_its_overlaps_and_loses_its_words(tmp_path, store):
    named = tmp_path / "slide.tif"
    words = "Zhang San;Objective Power=20;Background Color=F0F0F0;OverlapsXY= 4 6 0 0;Name=Zhang San;SIMULATED"
    with tifffile.TiffWriter(named) as writer:
        for level in range(2):
            options = {"description": words, "software": "MedScan of Zhang San"} if not level else {"software": False}
            resolution = (0.5, 0.5)
            writer.write(
                painted(512 >> level, 256 >> level),
                tile=(128, 128),
                photometric="rgb",
                metadata=None,
                resolution=resolution,
                resolutionunit=1,
                **options,
            )
    assert openslide.OpenSlide.detect_format(named) == "trestle"
    assert check_slide(named).format == "trestle"
    copy = copy_of(named, store)
    assert b"Zhang" not in copy.read_bytes()
    assert_same_slide(named, copy, "trestle")
    with openslide.OpenSlide(copy) as slide:
        assert slide.properties["openslide.background-color"] == "F0F0F0"
        assert slide.properties["openslide.objective-power"] == "20"
    (tmp_path / "proved").mkdir()
    proof = deidentify_slide(named, tmp_path / "proved", key=bytes(32)).proof
    assert [name for name, _ in proof.readers[:2]] == ["OpenSlide", "tifffile"]
    assert not {b"F0F0F0", b" 4 6 0 0", b"4 6 0 0"} & {text for _, text in iter_texts(check_slide(named), SLIDE_LIMITS)}
