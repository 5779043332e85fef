"""The texts that a copy does not retain are listed from every tag, so that a proof can look for them."""

import base64

import pytest

from datasets.slides.byte_source import open_source
from datasets.slides.deidentification.tiff.texts import iter_texts
from datasets.slides.formats.tiff_directories import read_layout
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.static_check import check_slide
from tests.datasets.slides.deidentification.tiff.planted import ENCODINGS, LONG, append_sub_directory, plant
from tests.datasets.slides.slide_files import CMU, one_image

NAME = b"Zhang San"


def texts(path):
    return [text for _, text in iter_texts(check_slide(path), SLIDE_LIMITS)]


def test_of_an_svs_the_values_are_listed_one_by_one_without_those_that_stay():
    listed = texts(CMU)
    assert {b"CMU-1", b"12/29/09", b"CPAPERIOCS", b"b414003d-95c6-48b0-9369-8010ed517ba7"} <= set(listed)
    assert not {b"20", b"0.4990", b"Aperio Image Library v11.2.1"} & set(listed)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", [1, 2, 6, 7])
def test_a_name_in_any_tag_is_listed(tmp_path, encoding, kind):
    path = tmp_path / "slide.tif"
    path.write_bytes(one_image())
    for tag in (269, 270, 315, 700, 33723, 34377, 37500, 40091, 50839, 65000, 65535):
        path.write_bytes(one_image())
        path.write_bytes(plant(path, {tag: (kind, ENCODINGS[encoding])}))
        assert ENCODINGS[encoding].strip(b"\0\t") in texts(path)


@pytest.mark.parametrize("link", [330, 400, 34665, 34853])
def test_a_name_in_a_directory_inside_a_directory_is_listed(tmp_path, link):
    path = tmp_path / "slide.tif"
    path.write_bytes(one_image())
    data = bytearray(path.read_bytes())
    with open_source(path) as source:
        layout, _ = read_layout(source)
    inner = append_sub_directory(data, layout, {4096: (7, NAME)})
    outer = append_sub_directory(data, layout, {40965: (LONG, inner.to_bytes(4, "little"))})
    path.write_bytes(data)
    path.write_bytes(plant(path, {link: (LONG, outer.to_bytes(4, "little"))}))
    assert NAME in texts(path)


def test_a_directory_that_leads_to_itself_is_read_once(tmp_path):
    path = tmp_path / "slide.tif"
    path.write_bytes(one_image())
    data = bytearray(path.read_bytes())
    with open_source(path) as source:
        layout, _ = read_layout(source)
    inner = append_sub_directory(data, layout, {315: (2, NAME), 34665: (LONG, bytes(4))})
    data[-16:-12] = inner.to_bytes(4, "little")  # the value of its last entry
    path.write_bytes(data)
    path.write_bytes(plant(path, {34665: (LONG, inner.to_bytes(4, "little"))}))
    assert texts(path).count(NAME) == 1


def test_values_of_xml_are_listed_and_decoded(tmp_path):
    encoded = base64.b64encode(b"Wang Wu 4711").decode()
    xml = f"<a b=\"Zhang San\" c='Li Si'><d>{encoded}</d>born 1961<!-- of Zhao Liu --></a>"
    (tmp_path / "slide.tif").write_bytes(one_image(description=xml))
    assert {b"Zhang San", b"Li Si", b"Wang Wu 4711", b"born 1961", b"of Zhao Liu"} <= set(texts(tmp_path / "slide.tif"))


def test_a_label_in_base64_is_no_text(tmp_path):
    picture = base64.b64encode(bytes.fromhex("ffd8ff") + bytes(3_000)).decode()
    xml = f"<a>{picture}</a>"
    (tmp_path / "slide.tif").write_bytes(one_image(description=xml))
    assert texts(tmp_path / "slide.tif") == []


def test_a_link_to_no_directory_is_passed_over(tmp_path):
    path = tmp_path / "slide.tif"
    path.write_bytes(one_image())
    for offset in (16, 10**9):
        path.write_bytes(plant(path, {34665: (LONG, offset.to_bytes(4, "little")), 315: (2, NAME)}))
        assert texts(path) == [NAME]
