"""The resolution in EXIF is a statement of the scale of a JPEG or PNG, and the one that a copy makes."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.slides.deidentification.deidentify import deidentify_slide
from datasets.slides.deidentification.proof.readers import read_pillow
from datasets.slides.formats.exif import build_exif, exif_scales
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.static_check import check_slide
from tests.datasets.slides.slide_files import painted

NAME = "TEST PATIENT S26-00001"


def picture(tmp_path, kind, exif=None, **options):
    path = tmp_path / f"slide.{kind}"
    if exif is not None:
        options["exif"] = exif
    Image.fromarray(painted(96, 64)).save(path, **options)
    return path


def exif_of(x, y, unit, **texts):
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = x, y, unit
    exif[315] = texts.get("artist", "")
    return exif


@given(*2 * [st.integers(20_000, 10_000_000)])
def test_what_is_written_is_read_again(x, y):
    """In millionths of a micron; above 10 microns lie the resolutions that programs write by default."""
    (statement,) = exif_scales(build_exif((x / 1e6, y / 1e6)), SLIDE_LIMITS)
    assert (statement.x, statement.y) == (x / 1e6, y / 1e6)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_exif_state_nothing_and_break_nothing(data):
    for head in (b"", b"II*\0", b"MM\0*\0\0\0\x08"):
        for statement in exif_scales(head + data, SLIDE_LIMITS):
            assert statement.x > 0


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize(("unit", "resolution"), [(2, 50_800.0), (3, 20_000.0)])
def test_the_resolution_in_exif_is_a_scale(tmp_path, kind, unit, resolution):
    checked = check_slide(picture(tmp_path, kind, exif_of(resolution, resolution, unit)))
    assert checked.mpp == (0.5, 0.5)
    assert [each.source for each in checked.scales] == ["EXIF XResolution, YResolution"]
    assert check_slide(picture(tmp_path, kind, exif_of(300.0, 300.0, 2))).scales == ()


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_resolution_in_exif_is_compared_with_the_other_statement(tmp_path, kind):
    exif = exif_of(50_800.0, 50_800.0, 2)
    checked = check_slide(picture(tmp_path, kind, exif, dpi=(25_400, 25_400)))
    assert checked.mpp is None
    assert sorted(each.x for each in checked.scales) == [0.5, 1.0]
    assert check_slide(picture(tmp_path, kind, exif, dpi=(50_800, 50_800))).mpp == (0.5, 0.5)


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("source", ["density", "exif"])
def test_the_copy_of_a_picture_keeps_its_scale_and_no_other_word(tmp_path, kind, source):
    exif = exif_of(101_600.0, 50_800.0, 2, artist=NAME) if source == "exif" else None
    dpi = {"dpi": (50_800, 50_800)} if source == "density" else {}
    original, copy = picture(tmp_path, kind, exif, **dpi), tmp_path / "copy"
    copy.mkdir()
    proved = deidentify_slide(original, copy, key=bytes(32))
    assert check_slide(proved.path).mpp == check_slide(original).mpp
    assert check_slide(proved.path).mpp == ((0.25, 0.5) if source == "exif" else (0.5, 0.5))
    assert NAME.encode() not in proved.path.read_bytes()
    with Image.open(io.BytesIO(proved.path.read_bytes())) as image:
        assert set(image.getexif()) == {282, 283, 296}
    assert copy_of_copy(proved.path, tmp_path) == proved.path.read_bytes()


def copy_of_copy(path, tmp_path):
    (tmp_path / "again").mkdir()
    return deidentify_slide(path, tmp_path / "again", key=bytes(32)).path.read_bytes()


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_name_beside_the_resolution_is_shown_by_the_reader_of_a_copy(tmp_path, kind):
    def texts(exif):
        return [text for _, text in read_pillow(picture(tmp_path, kind, exif), []).texts if text]

    plain = build_exif((0.5, 0.5))
    assert texts(plain) == []
    assert any(NAME in text for text in texts(plain + NAME.encode()))
    assert any(NAME in text for text in texts(exif_of(2.0, 2.0, 2, artist=NAME)))
