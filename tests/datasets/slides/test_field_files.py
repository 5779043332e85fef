"""Slides as laboratories send them, reported to other projects: each is read right, or refused in a sentence."""

import numpy as np
import pytest
from PIL import Image

from datasets.slides import sandbox, tiling, tissue
from datasets.slides.deidentification.deidentify import deidentify_slide
from datasets.slides.errors import SlideError
from datasets.slides.reader import open_slide
from tests.paths import FIELD_CASES

pytestmark = pytest.mark.skipif(not FIELD_CASES.is_dir(), reason="no folder of reported files")

# file: format, levels, microns per pixel, mean colour of its middle
READ = {
    "b08_thumbnail_first.tif": ("generic-tiff", [(2048, 1536)], (0.5, 0.5), (235, 232, 237)),
    "b09_pyramid_without_marks.tif": (
        "generic-tiff",
        [(1024, 768), (512, 384), (256, 192)],
        (0.5, 0.5),
        (235, 230, 237),
    ),
    "b11_decimal_comma.svs": ("aperio", [(1024, 768)], (0.252, 0.252), (235, 230, 237)),
    "b13_72_dpi.tif": ("generic-tiff", [(1024, 768)], None, (235, 230, 237)),
    "b13_300_dpi.tif": ("generic-tiff", [(1024, 768)], None, (235, 230, 237)),
    "b13_1200_dpi.tif": ("generic-tiff", [(1024, 768)], None, (235, 230, 237)),
    "b15_grey_12_of_16_bits.tif": ("generic-tiff", [(1024, 768)], (0.5, 0.5), (233, 233, 233)),
    "b15_palette.tif": ("generic-tiff", [(1024, 768)], (0.5, 0.5), (235, 230, 237)),
    "b15_rgba_alpha_zero.tif": ("generic-tiff", [(1024, 768)], (0.5, 0.5), (235, 230, 237)),
    "b16_tiles_without_bytes.tif": ("generic-tiff", [(1024, 768)], (0.5, 0.5), (244, 242, 245)),
    "b17_bigtiff.tif": ("generic-tiff", [(1024, 768), (256, 192)], (0.5, 0.5), (235, 230, 237)),
    "b18_oblong_pixels.tif": ("generic-tiff", [(1024, 768)], (0.5, 0.25), (235, 230, 237)),
    "b19_gbk_words.svs": ("aperio", [(1024, 768)], (0.25, 0.25), (235, 230, 237)),
    "b24_one_tile_too_many.tif": ("generic-tiff", [(1024, 768)], (0.5, 0.5), (235, 230, 237)),
    "b26_grey_16_bits.png": ("png", [(1024, 768)], None, (234, 234, 234)),
}


def middle(slide):
    width, height = slide.metadata.size
    return slide.read(width // 4, height // 4, (512, 512))


@pytest.mark.parametrize("name", READ)
def test_a_reported_slide_is_read_with_its_levels_its_scale_and_its_colours(name):
    kind, levels, mpp, colour = READ[name]
    with sandbox.open_slide(FIELD_CASES / name) as slide:
        assert (slide.metadata.format, slide.metadata.mpp) == (kind, mpp)
        assert [(level.width, level.height) for level in slide.metadata.levels] == levels
        np.testing.assert_allclose(middle(slide).reshape(-1, 3).mean(0), colour, atol=1)
        for level, size in enumerate(levels):
            coarse = slide.read(0, 0, size, level)
            assert coarse.min() < 150 < coarse.max(), "neither empty nor black"


@pytest.mark.parametrize("name", READ)
def test_the_copy_of_a_reported_slide_is_read_like_it(tmp_path, name):
    copy = deidentify_slide(FIELD_CASES / name, tmp_path, key=bytes(32)).path
    with open_slide(FIELD_CASES / name) as slide, open_slide(copy) as copied:
        assert copied.metadata.levels == slide.metadata.levels
        assert copied.metadata.mpp == slide.metadata.mpp
        np.testing.assert_array_equal(middle(copied), middle(slide))


def test_ninety_million_pixels_in_strips_are_to_be_converted():
    with pytest.raises(SlideError, match="no smaller levels.*Convert it to a tiled pyramid") as refused:
        open_slide(FIELD_CASES / "b14_90_million_pixels_in_strips.tif")
    assert refused.value.codes == ("no_pyramid",)
    assert "分块金字塔" in refused.value.zh()


def test_tiles_of_an_oblong_scan_show_square_pixels():
    """A round cell is round: 0.5 x 0.25 microns a pixel become 0.5 x 0.5, from half as many columns as rows."""
    with open_slide(FIELD_CASES / "b18_oblong_pixels.tif") as slide:
        grid = tiling.tile_grid(slide.metadata, tissue.Tissue(np.ones((4, 4), bool), (256.0, 192.0), 0.0))
        assert grid.extent == (224, 448)
        _, tiles = next(tiling.read_tiles(slide, grid, 4))
        x, y = grid.positions[0]
        region = Image.fromarray(slide.read(int(x), int(y), (224, 448)))
        expected = np.asarray(region.resize((224, 224), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(tiles[0].astype(int), expected.astype(int), atol=3)


@pytest.mark.parametrize(
    ("name", "secrets"),
    [
        ("b05_label_text_in_volume", (b"Zhang San", b"1961-03-04", b"LAB-7788", b"330281196103")),
        ("b07_name_as_unknown", (b"Zhang^San", b"Zhang San")),
    ],
)
def test_the_copy_of_a_reported_dicom_names_nobody(tmp_path, name, secrets):
    path = FIELD_CASES / name / f"{name}.dcm"
    original = path.read_bytes()
    copy = deidentify_slide(path, tmp_path, key=bytes(32)).path
    assert all(secret in original for secret in secrets)
    assert not [secret for secret in secrets if secret in copy.read_bytes()]
    with open_slide(path) as slide, open_slide(copy) as copied:
        np.testing.assert_array_equal(middle(copied), middle(slide))
        assert copied.metadata.mpp == (0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("b20_first_of_two", "concatenation", "of the 2 parts of a concatenation only 1 is there"),
        ("b21_two_optical_paths", "optical_paths", "it has 2 optical paths"),
        ("b22_jpeg_ls", "undecodable", "frame 1 is no JPEG-LS Lossless Image Compression"),
    ],
)
def test_a_reported_dicom_that_is_not_read_says_why(tmp_path, name, code, words):
    with pytest.raises(SlideError, match=words) as refused:
        deidentify_slide(FIELD_CASES / name / f"{name}.dcm", tmp_path, key=bytes(32))
    assert refused.value.codes == (code,)
