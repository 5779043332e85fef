"""Formats and codecs that are not read are refused by their name, in both languages, with what to do instead."""

import imagecodecs
import numpy as np
import pytest
import tifffile

from datasets.slides.deidentification.deidentify import deidentify_slide
from datasets.slides.errors import SlideError
from datasets.slides.formats.tiff_check import COMPRESSION_NAMES, READ_COMPRESSIONS
from datasets.slides.formats.unread import UNREAD_FORMATS
from datasets.slides.reader import open_slide
from datasets.slides.static_check import check_slide
from tests.datasets.slides.slide_files import bigtiff, directory, one_image, painted, tiled


def refusal(path):
    with pytest.raises(SlideError) as refused:
        check_slide(path)
    (issue,) = refused.value.issues
    return issue


@pytest.mark.parametrize(
    ("unread", "offset", "mark"), [(each, *signature) for each in UNREAD_FORMATS for signature in each.signatures]
)
def test_a_format_that_is_not_read_is_refused_by_its_name(tmp_path, unread, offset, mark):
    (tmp_path / "slide.svs").write_bytes(bytes(offset) + mark + bytes(4_096))
    issue = refusal(tmp_path / "slide.svs")
    assert issue.code == "other_format"
    assert f"it is {unread.name}, which is not read here" in issue.en
    assert issue.en.endswith(unread.advice[0])
    assert (unread.chinese_name or unread.name) in issue.zh
    assert issue.zh.endswith(unread.advice[1])


def test_the_xml_of_an_isyntax_is_known_after_its_declaration(tmp_path):
    text = b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8" ?>\r\n<DataObject ObjectType="DPUfsImport">'
    (tmp_path / "slide.isyntax").write_bytes(text + bytes(100))
    assert "it is Philips iSyntax" in refusal(tmp_path / "slide.isyntax").en


def test_a_vsi_is_not_taken_for_the_slide_whose_label_it_holds(tmp_path):
    (tmp_path / "slide.VSI").write_bytes(tiled(painted(512, 384)))
    issue = refusal(tmp_path / "slide.VSI")
    assert issue.code == "other_format"
    assert "OlyVIA" in issue.en


@pytest.mark.parametrize("compression", COMPRESSION_NAMES)
def test_a_codec_that_is_not_read_is_refused_by_its_name(tmp_path, compression):
    assert compression not in READ_COMPRESSIONS
    (tmp_path / "slide.tif").write_bytes(one_image(compression=compression))
    issue = refusal(tmp_path / "slide.tif")
    assert issue.code == "codec"
    assert f"is stored as {COMPRESSION_NAMES[compression]}, which is not read here" in issue.en
    assert COMPRESSION_NAMES[compression] in issue.zh
    assert "vips tiffsave" in issue.en


def test_the_codec_of_a_picture_beside_the_slide_does_not_matter(tmp_path):
    pixels = painted(256, 256)
    with tifffile.TiffWriter(tmp_path / "slide.tif") as writer:
        writer.write(pixels, tile=(128, 128), photometric="rgb", compression="jpeg", metadata=None)
        writer.write(pixels[:64, :64], photometric="rgb", compression="zstd", description="label", metadata=None)
    assert check_slide(tmp_path / "slide.tif").levels == ((256, 256),)


@pytest.mark.parametrize("codec", ["jpeg2000", "aperio_jp2000_ycbc", "lzw", "deflate", "packbits", "jpeg", "none"])
def test_a_tiff_of_each_codec_that_is_read_is_copied_and_proved(tmp_path, codec):
    path, copy = tmp_path / "slide.tif", tmp_path / "copy"
    options = {"tile": (128, 128), "photometric": "rgb", "resolution": (20_000, 20_000), "resolutionunit": 3}
    tifffile.imwrite(path, painted(300, 200), compression=codec, metadata=None, **options)
    copy.mkdir()
    proved = deidentify_slide(path, copy, key=bytes(32))
    assert proved.proof.tiles >= 6
    assert "tifffile" in [name for name, _ in proved.proof.readers]
    with open_slide(path) as first, open_slide(proved.path) as second:
        assert second.metadata.mpp == (0.5, 0.5)
        np.testing.assert_array_equal(first.read(0, 0, (300, 200)), second.read(0, 0, (300, 200)))


def test_jpeg_2000_in_files_of_their_own_is_refused_by_its_name(tmp_path):
    tile = imagecodecs.jpeg2k_encode(painted(128, 128), codecformat="jp2")
    size = {"width": 128, "height": 128, "tile_width": 128, "tile_height": 128}
    tags = directory(compression=34712, offsets=[16], counts=[len(tile)], **size)
    (tmp_path / "slide.tif").write_bytes(bigtiff([tags], tile))
    issue = refusal(tmp_path / "slide.tif")
    assert (issue.code, "JPEG 2000 within JP2 files" in issue.en) == ("codec", True)
