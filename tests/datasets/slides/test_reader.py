"""Every real file opens or is refused with its reason, and all formats are read alike."""

import os
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image

from datasets.files.external_files import file_sha256
from datasets.slides import sandbox
from datasets.slides.errors import SlideError
from datasets.slides.reader import open_slide
from tests.datasets.slides.slide_files import CMU, jpeg, kfb, painted, tiled

FOLDER = Path(os.environ.get("YUHENG_DATA", "/nowhere")) / "pathology" / "slides"
real = pytest.mark.skipif(not FOLDER.is_dir(), reason="YUHENG_DATA names no folder with pathology/slides")

OPENS = {  # file: format, size, levels, microns per pixel
    "CMU-1-Small-Region.svs": ("aperio", (2220, 2967), 1, (0.499, 0.499)),
    "TCGA-CR-7395-01A-01-TS1.svs": ("aperio", (4443, 3567), 2, None),
    "ez-wsi-multiframe_camelyon_challenge_image.dcm": ("dicom", (1152, 700), 1, (28.969, 28.968)),
    "kidney-48-5.tif": ("tiff", (1493, 901), 1, None),
    "openslide-small.svs": ("aperio", (16, 16), 1, (0.499, 0.499)),
    "openslide-boxes.tiff": ("generic-tiff", (300, 250), 4, None),  # its 72 dots per inch are no scanner's
    "openslide-boxes_0.dcm": ("dicom", (16, 16), 1, (0.499, 0.499)),
    "openslide-boxes_1.dcm": ("dicom", (16, 16), 1, (0.499, 0.499)),  # a thumbnail, beside its volume
}
REFUSED = {"ez-wsi-test_wsi.dcm": "associated_alone", "README.md": "unknown_format"}


@real
@pytest.mark.parametrize("name", OPENS)
def test_a_real_slide_opens_with_its_own_facts(name):
    kind, size, levels, mpp = OPENS[name]
    with open_slide(FOLDER / name) as slide:
        assert (slide.metadata.format, slide.metadata.size, len(slide.metadata.levels), slide.metadata.mpp) == (
            kind,
            size,
            levels,
            mpp,
        )
        for level in range(levels):
            assert slide.read(0, 0, (64, 48), level).shape == (48, 64, 3)


@real
@pytest.mark.parametrize("name", OPENS)
def test_a_real_slide_is_the_same_from_a_process_of_its_own(name):
    with open_slide(FOLDER / name) as plain, sandbox.open_slide(FOLDER / name) as boxed:
        assert boxed.metadata == plain.metadata
        for level in range(len(plain.metadata.levels)):
            np.testing.assert_array_equal(boxed.read(5, 3, (64, 48), level), plain.read(5, 3, (64, 48), level))


@real
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_shows_a_label_or_nothing_is_refused(name):
    with pytest.raises(SlideError) as refused:
        open_slide(FOLDER / name)
    assert refused.value.codes == (REFUSED[name],)


@real
def test_every_file_of_the_folder_is_in_one_of_the_two_tables():
    assert {path.name for path in FOLDER.iterdir()} - {"MD5SUMS"} == {*OPENS, *REFUSED}


def test_the_shipped_slide_is_the_one_described():
    assert file_sha256(CMU) == "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"


def test_pixels_are_those_of_openslide():
    with open_slide(CMU) as slide, openslide.OpenSlide(CMU) as plain:
        expected = np.asarray(plain.read_region((700, 900), 0, (256, 200)))[..., :3]
        np.testing.assert_array_equal(slide.read(700, 900, (256, 200)), expected)


def test_what_lies_outside_the_slide_is_background():
    with open_slide(CMU) as slide:
        assert (slide.read(-100, -100, (50, 50)) == 255).all()
        assert (slide.read(2200, 0, (64, 64))[:, 20:] == 255).all()


def test_no_label_macro_or_thumbnail_is_given_to_anyone():
    with open_slide(CMU) as slide:
        assert not [name for name in dir(slide) if any(word in name for word in ("label", "macro", "thumb", "assoc"))]
        assert len(slide.metadata.levels) == 1


@pytest.fixture
def formats(tmp_path):
    """The same pixels as pyramidal TIFF, KFB and flat PNG, with the same JPEG tiles in the first two."""
    pixels = painted(700, 500)
    (tmp_path / "a.tif").write_bytes(tiled(pixels))
    (tmp_path / "b.kfb").write_bytes(kfb(pixels))
    Image.fromarray(pixels).save(tmp_path / "c.png")
    return [tmp_path / name for name in ("a.tif", "b.kfb", "c.png")]


def test_the_same_pixels_are_read_from_every_format(formats):
    regions = []
    for path in formats:
        with open_slide(path) as slide:
            regions.append(slide.read(100, 50, (300, 200)).astype(int))
    np.testing.assert_array_equal(regions[0], regions[1])
    assert abs(regions[0] - regions[2]).mean() < 2  # JPEG against none


def test_levels_and_scale_are_alike_in_tiff_and_kfb(formats):
    with open_slide(formats[0]) as tiff, open_slide(formats[1]) as other:
        assert tiff.metadata.levels == other.metadata.levels
        assert tiff.metadata.mpp == other.metadata.mpp == (0.5, 0.5)


def test_a_scale_is_never_guessed_and_an_operators_is_marked(formats):
    with open_slide(formats[2]) as slide:
        assert (slide.metadata.mpp, slide.metadata.mpp_from) == (None, "")
    with open_slide(formats[2], mpp=0.25) as slide:
        assert (slide.metadata.mpp, slide.metadata.mpp_from, slide.metadata.stated) == ((0.25, 0.25), "operator", None)
    with open_slide(formats[0], mpp=(0.25, 0.26)) as slide:
        assert (slide.metadata.mpp, slide.metadata.mpp_from, slide.metadata.stated) == (
            (0.25, 0.26),
            "operator",
            (0.5, 0.5),
        )


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), 1e6])
def test_an_impossible_scale_is_refused(mpp):
    with pytest.raises(SlideError) as refused:
        open_slide(CMU, mpp=mpp)
    assert refused.value.codes == ("bad_mpp",)


def test_a_region_that_cannot_be_is_wrong_use():
    with open_slide(CMU) as slide:
        for ask in ((0, 0, (0, 5)), (0, 0, (100_000, 100_000)), (0, 0, (5, 5), 1), (10**9, 0, (5, 5))):
            with pytest.raises(ValueError, match=r"region is|position is|level is"):
                slide.read(*ask)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_a_flat_image_of_any_kind_becomes_rgb(tmp_path, mode):
    Image.fromarray(painted(90, 60)).convert(mode).save(tmp_path / "flat.tif")
    with open_slide(tmp_path / "flat.tif") as slide:
        assert slide.read(0, 0, (90, 60)).shape == (60, 90, 3)


def test_what_is_transparent_is_white(tmp_path):
    image = Image.new("RGBA", (20, 20), (200, 0, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 20, 10))
    image.save(tmp_path / "clear.png")
    with open_slide(tmp_path / "clear.png") as slide:
        assert (slide.read(0, 10, (20, 10)) == 255).all()
        assert (slide.read(0, 0, (20, 10)) == (200, 0, 0)).all()


def test_transparency_that_covers_the_whole_slide_is_not_meant(tmp_path):
    Image.new("RGBA", (20, 20), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    with open_slide(tmp_path / "clear.png") as slide:
        assert (slide.read(0, 0, (20, 20)) == (200, 0, 0)).all()


def test_a_slide_under_another_formats_name_is_read_as_what_it_is(tmp_path):
    (tmp_path / "slide.svs").write_bytes(jpeg(painted(64, 64)))
    with open_slide(tmp_path / "slide.svs") as slide:
        assert (slide.metadata.format, slide.metadata.notes) == ("jpeg", ("named_otherwise",))
