"""PNG, JPEG and KFB files are written anew: the same pixels, and no byte that a decoder does not need."""

import io
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from datasets.slides import reader
from datasets.slides.byte_source import CheckAbortedError
from datasets.slides.deidentification.deidentify import CONTAINERS, deidentify_slide
from datasets.slides.errors import SlideError
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.static_check import check_slide
from tests.datasets.slides.slide_files import kfb, painted

NAME = b"TEST PATIENT S26-00001"
KEY = bytes(range(32))
# W3C PNG 3rd edition, 11.3: all ancillary chunks, and some of extensions and of nobody
PNG_CHUNKS = [
    *(b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME", b"iCCP", b"bKGD", b"hIST", b"pHYs", b"sPLT", b"cICP", b"mDCV"),
    *(b"cLLI", b"acTL", b"fcTL", b"oFFs", b"pCAL", b"sCAL", b"gIFg", b"gIFx", b"sTER", b"dSIG", b"caBX", b"prVt"),
]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encoded(kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(painted(96, 64)).save(buffer, kind, **options)
    return buffer.getvalue()


PNG, JPEG, KFB = encoded("png"), encoded("jpeg", progressive=True), kfb(painted(300, 200))


def chunk(name, value):
    return len(value).to_bytes(4) + name + value + zlib.crc32(name + value).to_bytes(4)


def segment(marker, value):
    return bytes((0xFF, marker)) + (len(value) + 2).to_bytes(2) + value


def deidentified(tmp_path, content, suffix):
    """The copy, once it is proved and shows the same pixels."""
    path, copy = tmp_path / f"ZHANG_WEI{suffix}", tmp_path / "copy"
    path.write_bytes(content)
    copy.mkdir()
    proved = deidentify_slide(path, copy, key=KEY)
    assert [each.name for each in copy.iterdir()] == [f"slide{suffix}"]
    with reader.open_slide(path) as first, reader.open_slide(proved.path) as second:
        assert first.metadata == second.metadata
        width, height = first.metadata.size
        np.testing.assert_array_equal(first.read(0, 0, (width, height)), second.read(0, 0, (width, height)))
    return proved.path.read_bytes()


def cleaned(kind, tmp_path_factory, content):
    folder = tmp_path_factory.mktemp(kind)
    (folder / f"a.{kind}").write_bytes(content)
    copy = CONTAINERS[kind].clean(check_slide(folder / f"a.{kind}"), folder, SLIDE_LIMITS, KEY)
    return copy.read_bytes()


@pytest.mark.parametrize("name", PNG_CHUNKS)
def test_no_chunk_of_a_png_that_its_pixels_do_not_need_is_copied(tmp_path_factory, name):
    for value in (NAME, b"key\0" + NAME, b"key\0\0" + zlib.compress(NAME), b"key\0\1\0en\0\0" + zlib.compress(NAME)):
        for location in (33, len(PNG) - 12):
            assert cleaned("png", tmp_path_factory, PNG[:location] + chunk(name, value) + PNG[location:]) == PNG
    assert cleaned("png", tmp_path_factory, PNG + NAME) == PNG


def test_the_copy_of_a_png_is_proved(tmp_path):
    content = PNG[:33] + chunk(b"tEXt", b"Patient\0" + NAME) + chunk(b"eXIf", b"II*\0" + NAME) + PNG[33:] + NAME
    assert deidentified(tmp_path, content, ".png") == PNG


def test_a_png_whose_pixels_end_before_their_chunk_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG[:-12] + chunk(b"IDAT", NAME) + PNG[-12:])
    (tmp_path / "copy").mkdir()
    with pytest.raises(SlideError) as refused:
        deidentify_slide(tmp_path / "a.png", tmp_path / "copy", key=KEY)
    assert refused.value.codes == ("malformed",)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([*range(0xE0, 0xF0), *range(0xF0, 0xF7), *range(0xF9, 0xFD), 0xFE]), st.integers(0, 2))
def test_no_segment_of_a_jpeg_that_its_pixels_do_not_need_is_copied(tmp_path_factory, marker, location):
    first_scan = JPEG.index(b"\xff\xda")
    offset = (20, first_scan, JPEG.index(b"\xff\xda", first_scan + 2))[location]
    content = JPEG[:offset] + segment(marker, b"Exif\0\0" + NAME) + JPEG[offset:]
    if 0xF0 <= marker < 0xFE:  # an unknown segment may change what a decoder does
        with pytest.raises(CheckAbortedError):
            cleaned("jpeg", tmp_path_factory, content)
    else:
        assert cleaned("jpeg", tmp_path_factory, content) == JPEG


def test_the_copy_of_a_jpeg_is_proved(tmp_path):
    content = JPEG[:20] + segment(0xE1, b"Exif\0\0" + NAME) + segment(0xFE, NAME) + JPEG[20:] + NAME
    copy = deidentified(tmp_path, content, ".jpg")
    assert NAME not in copy
    assert copy == JPEG


@pytest.mark.parametrize(("kind", "suffix"), [("png", ".png"), ("jpeg", ".jpg")])
def test_a_colour_profile_is_kept_without_its_texts(tmp_path, kind, suffix):
    name = NAME[:13].decode().encode("utf-16-be")
    profile = SRGB.replace("sRGB built-in".encode("utf-16-be"), name)
    assert name in profile
    copy = deidentified(tmp_path, encoded(kind, icc_profile=profile), suffix)
    with Image.open(io.BytesIO(copy)) as image:
        assert name not in image.info["icc_profile"]
        retained = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    assert ImageCms.getProfileDescription(retained).strip() == "colour profile"


CHANGES = st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=5)
HEADER_GAPS = [*range(8, 12), *range(36, 52), *range(80, 88)]


def test_a_kfb_keeps_its_tiles_and_numbers_alone(tmp_path):
    marked = bytearray(KFB)
    for offset, letter in zip(HEADER_GAPS, NAME * 2, strict=False):
        if offset not in range(36, 40):
            marked[offset] = letter
    table = KFB.index(b"\xff\xd8\xff", KFB.rindex(b"\xff\x03\xee\xee") + 4)
    start = int.from_bytes(KFB[4 + 64 : 4 + 72], "little")
    marked[start + 36 : start + 36 + len(NAME)] = NAME
    assert table > 0
    copy = deidentified(tmp_path, bytes(marked[:48]) + KFB[48:start] + bytes(marked[start:]) + NAME, ".kfb")
    assert NAME not in copy
    assert b"\xf1\x03\xee\xee" not in copy  # no label
    assert copy.count(b"\xff\xd8\xff") == KFB.count(b"\xff\xd8\xff") - 2


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["png", "jpeg", "kfb"]), st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=5)
)
def test_a_damaged_file_ends_in_a_refusal_or_in_a_copy_of_no_more_bytes(tmp_path_factory, kind, changes):
    content = bytearray({"png": PNG, "jpeg": JPEG, "kfb": KFB}[kind])
    for offset, value in changes:
        content[offset % len(content)] = value
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "a").write_bytes(content)
    (folder / "copy").mkdir()
    with suppress(SlideError, CheckAbortedError):
        checked = check_slide(folder / "a")
        if checked.format == kind:
            copy = CONTAINERS[kind].clean(checked, folder / "copy", SLIDE_LIMITS, KEY)
            assert copy.stat().st_size <= len(content) + 100
