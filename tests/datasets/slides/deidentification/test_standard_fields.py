"""A name in every field that a container's standard defines, all at once and each alone: none survives in a copy."""

import base64
from xml.etree import ElementTree
from xml.etree.ElementTree import SubElement

import pytest
import tifffile

from datasets.slides.byte_source import CheckAbortedError, open_source
from datasets.slides.deidentification.deidentify import CONTAINERS
from datasets.slides.errors import SlideError
from datasets.slides.formats.tiff_directories import read_directories
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.reader import open_slide
from datasets.slides.static_check import check_slide
from tests.datasets.slides.deidentification.standard_fields import names, philips_names
from tests.datasets.slides.deidentification.tiff.planted import FILES, NAME, PLAIN_NAME, copy_of, names_in, plant
from tests.datasets.slides.mirax_files import write_mirax
from tests.datasets.slides.slide_files import CMU, kfb, painted
from tests.datasets.slides.vendor_containers import OME, write_ome, write_trestle
from tests.paths import VENDOR_SLIDES

REFUSED = (SlideError, CheckAbortedError)  # the second is of a file that contradicts itself
TEXTS = {"plain": PLAIN_NAME, "Chinese": NAME, "base64": base64.b64encode(NAME.encode()).decode()}
needs_vendor_slides = pytest.mark.skipif(not VENDOR_SLIDES.exists(), reason="no folder of simulated vendor files")
every_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


def assert_clean(named, store):
    """The copy has no planted name and is read; returns its bytes."""
    content = copy_of(named, store).read_bytes()
    assert not names_in(content)
    (copy,) = store.iterdir()
    with open_slide(copy) as slide:
        assert slide.read(0, 0, (64, 64)).shape == (64, 64, 3)
    return content


def xml_of(path, number, tag):
    with open_source(path) as source:
        entry = read_directories(source, SLIDE_LIMITS)[number].entries[tag]
        return entry.kind, ElementTree.fromstring(source.read(entry.offset, entry.length, "XML").rstrip(b"\0"))


def plant_xml(root, elements, attributes, text):
    """Every attribute in every element that lacks it, and every element with all attributes and a text within each of
    the original's, whose own numbers stay so that the file is still read. test_vendors has each of those alone.
    """
    namespace = root.tag.partition("}")[0] + "}" if "}" in root.tag else ""
    for element in list(root.iter()):
        for name in {*attributes} - NUMBERS:
            element.attrib.setdefault(name, text)
        if not (element.text or "").strip():
            element.text = text
        element.tail = text
    for parent in [element for element in root.iter() if element.tag != "AoiOrigin"]:  # each child is an area's
        holder = SubElement(parent, f"{namespace}unknown", {"name": text})
        for name in elements:
            SubElement(holder, namespace + name, dict.fromkeys(attributes, text)).text = text
    root.tail = None
    return b"<!--" + text.encode() + b"-->" + ElementTree.tostring(root, encoding="unicode").encode() + b"\0"


NUMBERS = {"r", "z"}  # of Leica's, which are read wherever they are
VENTANA_ATTRIBUTES = [*names("iscan_attributes"), *names("ventana_attributes")]
XMLS = {  # vendor, directory and tag: elements and attributes of its XML
    ("leica", 0, 270): (names("leica_elements"), names("leica_attributes")),
    ("ventana", 0, 700): (names("ventana_elements"), VENTANA_ATTRIBUTES),
    ("ventana", 2, 700): (names("ventana_elements"), VENTANA_ATTRIBUTES),
    ("philips", 0, 270): (["DataObject", "Array", "Attribute"], ["ObjectType", "Name", "Group", "Element", "PMSVR"]),
}


@needs_vendor_slides
@every_text
@pytest.mark.parametrize(("vendor", "number", "tag"), XMLS)
def test_a_name_in_every_element_and_attribute_of_a_scanners_xml_is_gone(tmp_path, store, vendor, number, tag, text):
    path = VENDOR_SLIDES / FILES[vendor]
    kind, root = xml_of(path, number, tag)
    if vendor == "leica":
        ElementTree.register_namespace("", root.tag.partition("}")[0][1:])
    content = plant_xml(root, *XMLS[vendor, number, tag], text)
    named = tmp_path / FILES[vendor]
    named.write_bytes(plant(path, {tag: (kind, content)}, number))
    assert_clean(named, store)


@needs_vendor_slides
@every_text
def test_a_name_in_every_attribute_that_philips_names_is_gone(tmp_path, store, text):
    path = VENDOR_SLIDES / FILES["philips"]
    kind, root = xml_of(path, 0, 270)
    added = {*philips_names()} - {"DICOM_PIXEL_SPACING"}
    assert len(added) > 4_000
    for parent in [each for each in root.iter() if each.tag == "DataObject"]:
        present = {each.get("Name") for each in parent.findall("Attribute")}
        for name in added - present:
            kinds = {"Name": name, "Group": "0x0010", "Element": "0x0010", "PMSVR": "IString"}
            SubElement(parent, "Attribute", kinds).text = text
    named = tmp_path / FILES["philips"]
    named.write_bytes(plant(path, {270: (kind, ElementTree.tostring(root, encoding="unicode").encode() + b"\0")}))
    assert_clean(named, store)


@every_text
@pytest.mark.parametrize("keeps_numbers", [True, False])
def test_a_name_in_every_element_and_attribute_of_the_ome_schema_is_gone(tmp_path, store, text, keeps_numbers):
    root = ElementTree.fromstring(OME)
    ElementTree.register_namespace("", root.tag.partition("}")[0][1:])
    if not keeps_numbers:
        for element in root.iter():
            element.attrib.update(dict.fromkeys(element.attrib, text))
    content = plant_xml(root, names("ome_elements"), names("ome_attributes"), text)
    (tmp_path / "in").mkdir()
    named = tmp_path / "slide.ome.tif"
    named.write_bytes(plant(write_ome(tmp_path / "in"), {270: (2, content)}))
    assert b"<OME " in assert_clean(named, store)


@every_text
def test_a_name_under_every_key_of_an_aperio_description_is_gone(tmp_path, store, text):
    head = "Aperio Image Library v11.2.1\r\n2220x2967 (240x240) JPEG/RGB Q=30"
    pairs = "|".join(f"{key} = {text}" for key in names("aperio_keys"))
    named = tmp_path / "slide.svs"
    named.write_bytes(plant(CMU, {270: (2, f"{head}|AppMag = 20|MPP = 0.4990|{pairs}".encode() + b"\0")}))
    assert b"MPP = 0.4990" in assert_clean(named, store)


@every_text
def test_a_name_under_every_key_of_a_trestle_description_is_gone(tmp_path, store, text):
    pairs = ";".join(f"{key}={text}" for key in names("trestle_keys"))
    (tmp_path / "in").mkdir()
    named = tmp_path / "slide.tif"
    content = f"Objective Power=20;Background Color=F0F0F0;OverlapsXY= 0 0 0 0;{pairs}".encode() + b"\0"
    named.write_bytes(plant(write_trestle(tmp_path / "in"), {270: (2, content)}))
    assert b"Objective Power=20" in assert_clean(named, store)


@needs_vendor_slides
@every_text
def test_a_name_in_every_tag_and_property_of_an_ndpi_is_gone(tmp_path, store, text):
    path = VENDOR_SLIDES / FILES["hamamatsu"]
    pairs = "".join(f"{key}={text}\r\n" for key in names("ndpi_keys")).encode()
    decoding = {65_420, 65_421, 65_424, 65_426}  # version, magnification, focal plane, starts of the JPEG's parts
    private = {code for code, _ in tifffile.TIFF.NDPI_TAGS} | {65_459}
    tags = {code: (7, text.encode()) for code in private - decoding} | {65_449: (2, pairs + b"\0")}
    named = tmp_path / FILES["hamamatsu"]
    named.write_bytes(path.read_bytes())
    with open_source(path) as source:
        count = len(read_directories(source, SLIDE_LIMITS))
    for number in range(count):
        named.write_bytes(plant(named, tags, number))
    assert_clean(named, store)


def clean(kind, path, folder):
    folder.mkdir()
    copy = CONTAINERS[kind].clean(check_slide(path), folder, SLIDE_LIMITS, bytes(32))
    return copy, b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


@every_text
def test_a_name_under_every_key_of_every_section_of_a_slidedat_ini_is_gone(tmp_path, text):
    path = write_mirax(tmp_path / "in")
    ini = tmp_path / "in" / "slide" / "Slidedat.ini"
    lines = []
    for line in ini.read_text(encoding="utf-8-sig").splitlines():
        lines.append(line)
        if line.startswith("["):  # before the section's own values, as the last value of a key counts
            own = section_keys(ini, line)
            unique = {"INDEXFILE", "FILE_COUNT", "FILE_0"}  # which the check allows once
            lines += [f"{key} = {text}" for key in {*names("mirax_keys"), *own} - unique]
    extra = [f"[{text}]", f"A = {text}", f"; {text}"]
    ini.write_text("\n".join([*lines, *extra]), encoding="utf-8")
    copy, content = clean("mirax", path, tmp_path / "copy")
    assert not names_in(content)
    with open_slide(copy) as slide:
        assert slide.metadata.levels


def section_keys(ini, section):
    body = ini.read_text(encoding="utf-8-sig").partition(f"{section}\n")[2].partition("\n[")[0]
    return [line.partition("=")[0].strip() for line in body.splitlines() if "=" in line]


@every_text
def test_a_name_as_any_value_of_a_slidedat_ini_is_gone_or_refused(tmp_path, text):
    path = write_mirax(tmp_path / "in")
    ini = tmp_path / "in" / "slide" / "Slidedat.ini"
    lines, copied = ini.read_text(encoding="utf-8-sig").splitlines(), 0
    for number, line in enumerate(lines):
        if "=" not in line:
            continue
        ini.write_text("\n".join([*lines[:number], f"{line.partition('=')[0]}= {text}", *lines[number + 1 :]]))
        try:
            _, content = clean("mirax", path, tmp_path / f"copy{number}")
        except REFUSED:
            continue
        copied += 1
        assert not names_in(content)
    assert copied > 20


def test_a_name_at_any_place_before_and_behind_the_tiles_of_a_kfb_is_gone_or_refused(tmp_path):
    slide, word = kfb(painted(300, 200)), b"Zhang S26-00001"
    table = int.from_bytes(slide[4 + 64 : 4 + 72], "little")
    first_tile = slide.index(b"\xff\xd8\xff", table)
    copied = 0
    for number, start in enumerate([*range(0, first_tile - len(word), 4), len(slide)]):
        path = tmp_path / "slide.kfb"
        path.write_bytes(slide[:start] + word + slide[start + len(word) :])
        try:
            _, content = clean("kfb", path, tmp_path / f"copy{number}")
        except REFUSED:
            continue
        copied += 1
        assert not names_in(content), start
    assert copied > 20


def test_the_lists_hold_what_published_lists_name():
    """Bisson et al. 2023, appendix A."""
    assert {"JP2FileName", "UnitNumber", "UserName", "Barcode1D", "Barcode2D", "BaseName", "BuildDate"} <= {
        *names("iscan_attributes")
    }
    assert {"SLIDE_NAME", "PROJECT_NAME", "SLIDE_ID", "SLIDE_CREATIONDATETIME", "SCANNER_HARDWARE_ID"} <= {
        *names("mirax_keys")
    }
    assert {"Macro.S/N", "NDP.S/N", "Created", "Updated"} <= {*names("ndpi_keys")}
    assert {"ScanScope ID", "Filename", "Date", "Time", "User"} <= {*names("aperio_keys")}
    for name in ("DICOM_DEVICE_SERIAL_NUMBER", "DICOM_PATIENT_NAME", "DICOM_SOFTWARE_VERSIONS", "PIM_DP_UFS_BARCODE"):
        assert name in philips_names()
