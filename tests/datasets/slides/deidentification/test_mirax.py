"""A copy of an MRXS opens under its own driver with the same tiles, and holds no label and no name."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.slides import reader
from datasets.slides.deidentification.deidentify import deidentify_slide
from datasets.slides.deidentification.mirax import clean_mirax
from datasets.slides.errors import SlideError
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.static_check import check_slide
from tests.datasets.slides.mirax_files import LABEL, SLIDE_ID, write_mirax
from tests.datasets.slides.slide_files import jpeg, painted
from tests.paths import VENDOR_SLIDES

NAME = "TEST PATIENT S26-00001"
CHINESE = "王小明 病理号"
KEY = bytes(range(32))
REFUSALS = {"", "malformed", "truncated", "too_many", "tile_bytes", "undecodable", "not_proved", "sandbox_crash"}


def copy_of(path, folder):
    folder.mkdir()
    return deidentify_slide(path, folder, key=KEY)


def all_bytes(folder):
    return b"".join(path.read_bytes() + str(path).encode() for path in folder.rglob("*") if path.is_file())


def assert_same_levels(original, copy):
    with reader.open_slide(original) as first, reader.open_slide(copy) as second:
        assert first.metadata == second.metadata
        for level, size in enumerate(first.metadata.levels):
            np.testing.assert_array_equal(
                first.read(0, 0, (size.width, size.height), level), second.read(0, 0, (size.width, size.height), level)
            )


@pytest.mark.parametrize("positions", ["plain", "deflated", "none"])
def test_a_copy_opens_as_mirax_with_the_same_tiles_and_no_label(tmp_path, positions):
    original = write_mirax(tmp_path / "a", positions=positions)
    with openslide.OpenSlide(original) as slide:
        assert set(slide.associated_images) == {"label", "macro"}
    proved = copy_of(original, tmp_path / "copy")
    assert sorted(str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*.*")) == [
        *("slide.mrxs", "slide/Data0000.dat", "slide/Index.dat", "slide/Slidedat.ini"),
    ]
    with openslide.OpenSlide(proved.path) as slide:
        assert slide.properties["openslide.vendor"] == "mirax"
        assert not slide.associated_images
        assert slide.properties["mirax.GENERAL.SLIDE_ID"] not in (SLIDE_ID, "")
    assert_same_levels(original, proved.path)
    assert proved.proof.tiles == 10 + (positions != "none")
    content = all_bytes(tmp_path / "copy")
    for lost in (LABEL, SLIDE_ID, "01/02/2026", *(f"NAME{number}" for number in range(1, 10))):
        assert lost.encode() not in content
    assert b"SIMULATED" in content
    assert jpeg(painted(64, 32))[-70:-10] not in content


LOCATIONS = {
    **{f"NAME{number}": {"replaced": {f"NAME{number}": "{}"}} for number in range(1, 10)},
    "a date": {"replaced": {"01/02/2026": "{}"}},
    "another key": {"replaced": {"IMAGE_COMMENT = ": "OVERLAP_Z = {}"}},
    "a mark of simulation": {"replaced": {"= SIMULATED": "= SIMULATED {}"}},
    "a new key": {"replaced": {"PROJECT_NAME": "{}"}},
    "a section": {"extra_lines": "\n[{}]\nA = 1\n"},
    "a comment": {"extra_lines": "\n# {}\n"},
    "an earlier value": {"extra_lines": "\n[GENERAL]\nSLIDE_NAME = {}\nSLIDE_NAME = 1\n"},
    "a record": {"records": ("{}", "<xml>{}</xml>")},
    "a comment of each tile": {"tile_suffix": "{}"},
    "between tiles": {"gap": "{}"},
    "the end of each file": {"tail": "\n# {}"},
}


def planted_slide(folder, location, name):
    planted = {}
    for option, value in LOCATIONS[location].items():
        if option == "replaced":
            planted[option] = {old: new.format(name) for old, new in value.items()}
        elif option == "records":
            planted[option] = tuple(each.format(name).encode() for each in value)
        elif option == "tile_suffix":
            planted[option] = b"\xff\xfe" + (len(name.encode()) + 2).to_bytes(2) + name.encode()
        else:
            planted[option] = value.format(name) if option == "extra_lines" else value.format(name).encode()
    return write_mirax(folder, **planted)


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_name_in_a_field_leaves_a_copy_that_is_proved(tmp_path, location):
    name = (NAME, CHINESE, "ZHANG^WEI^^", "19610304123456")[list(LOCATIONS).index(location) % 4]
    original = planted_slide(tmp_path / "a", location, name)
    assert name.encode() in all_bytes(tmp_path / "a")
    proved = copy_of(original, tmp_path / "copy")
    assert name.encode() not in all_bytes(tmp_path / "copy")
    assert_same_levels(original, proved.path)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(LOCATIONS)), st.text(st.characters(categories=["L", "N"]), min_size=6, max_size=20))
def test_no_name_survives_in_any_field(location, name):
    with TemporaryDirectory() as folder:
        original = planted_slide(Path(folder) / "a", location, name)
        (Path(folder) / "copy").mkdir()
        clean_mirax(check_slide(original), Path(folder) / "copy", SLIDE_LIMITS, KEY)
        assert name.encode() not in all_bytes(Path(folder) / "copy")


@pytest.mark.skipif(not VENDOR_SLIDES.exists(), reason="YUHENG_DATA names no folder of real tables")
def test_the_shared_simulated_slide_is_stripped(tmp_path):
    proved = copy_of(VENDOR_SLIDES / "simulated_mirax.mrxs", tmp_path / "copy")
    content = all_bytes(tmp_path / "copy")
    for lost in (b"TEST-0001", b"VEVTVC0wMDAx", b"TEST PATIENT", b"S26-00001"):
        assert lost not in content
    assert_same_levels(VENDOR_SLIDES / "simulated_mirax.mrxs", proved.path)


def test_an_index_that_multiplies_bytes_or_leads_nowhere_is_refused(tmp_path):
    original = write_mirax(tmp_path / "a")
    index = tmp_path / "a" / "slide" / "Index.dat"
    sound = index.read_bytes()
    for offset in range(37, len(sound) - 3, 12):
        index.write_bytes(sound[:offset] + b"\xf0\xff\xff\x7f" + sound[offset + 4 :])
        (tmp_path / "copy").mkdir(exist_ok=True)
        try:
            deidentify_slide(original, tmp_path / "copy", key=KEY)
            code = ""
        except SlideError as refused:
            code = refused.codes[0]
        assert code in REFUSALS
        for path in sorted((tmp_path / "copy").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
