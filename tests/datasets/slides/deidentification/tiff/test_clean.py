"""A copy of a TIFF has the pixels of its levels and no word of the original, wherever it stood."""

import os

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from datasets.slides.byte_source import open_source
from datasets.slides.errors import SlideError
from datasets.slides.formats.tiff_directories import read_layout
from datasets.slides.reader import open_slide
from datasets.slides.static_check import check_slide
from tests.datasets.slides.deidentification.tiff.planted import (
    ASCII,
    ENCODINGS,
    LONG,
    append_sub_directory,
    copy_of,
    names_in,
    plant,
)
from tests.datasets.slides.slide_files import CMU, bigtiff, directory, jpeg, one_image, painted, tiled
from tests.paths import DATA, FIELD_CASES

REAL = DATA / "pathology" / "slides"
KEY = bytes(32)
REAL_SLIDES = ("TCGA-CR-7395-01A-01-TS1.svs", "openslide-small.svs", "openslide-boxes.tiff", "kidney-48-5.tif")
REPORTED = ("b01_windows_properties.tif", "b03_exif_directory.tif", "b11_decimal_comma.svs", "b19_gbk_words.svs")
# Tags whose values decide how the image is decoded: another value is another image.
GEOMETRY = {254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 330, 338}
GEOMETRY |= {339, 347, 400, 529, 530, 531, 532, 32997, 34665, 34853, 40965, 65420}


def assert_same_pixels(original, copy):
    """Of all levels, as they are read, and no other picture in the copy for either of two readers."""
    with open_slide(original) as first, open_slide(copy) as second:
        assert first.metadata.levels == second.metadata.levels
        assert (first.metadata.mpp, first.metadata.icc) == (second.metadata.mpp, second.metadata.icc)
        for index, level in enumerate(first.metadata.levels):
            size = min(level.width, 700), min(level.height, 500)
            x, y = (
                round(max(length - extent, 0) / 2 * level.downsample)
                for length, extent in zip((level.width, level.height), size, strict=True)
            )
            np.testing.assert_array_equal(first.read(x, y, size, index), second.read(x, y, size, index))


def assert_only_levels(copy, levels):
    with tifffile.TiffFile(copy) as file:
        assert [(page.imagewidth, page.imagelength) for page in file.pages] == levels
        assert not any(page.subifds for page in file.pages)
    if openslide.OpenSlide.detect_format(copy):
        with openslide.OpenSlide(copy) as slide:
            assert not slide.associated_images


def test_an_svs_loses_label_macro_and_thumbnail_and_no_pixel(store):
    copy = copy_of(CMU, store)
    assert_same_pixels(CMU, copy)
    assert_only_levels(copy, [(2220, 2967)])
    with openslide.OpenSlide(CMU) as slide:
        assert set(slide.associated_images) == {"label", "macro", "thumbnail"}
    assert copy.stat().st_size < CMU.stat().st_size - 600_000


def test_an_svs_keeps_its_scale_and_loses_who_scanned_what_and_when(store):
    copy = copy_of(CMU, store).read_bytes()
    for lost in (b"CMU-1", b"b414003d-95c6-48b0-9369-8010ed517ba7", b"12/29/09", b"CPAPERIOCS", b"1004486"):
        assert lost in CMU.read_bytes()
        assert lost not in copy
    for retained in (b"Aperio Image Library v11.2.1", b"MPP = 0.4990", b"AppMag = 20"):
        assert retained in copy


@pytest.mark.parametrize("name", REAL_SLIDES)
def test_a_real_slide_is_copied_with_its_pixels(store, name):
    if not (REAL / name).exists():
        pytest.skip("no folder of real slides")
    copy = copy_of(REAL / name, store)
    assert_same_pixels(REAL / name, copy)
    assert_only_levels(copy, list(check_slide(REAL / name).levels))


def test_a_colour_profile_keeps_its_transform_and_loses_its_words(store):
    from PIL import ImageCms

    path = REAL / "TCGA-CR-7395-01A-01-TS1.svs"
    if not path.exists():
        pytest.skip("no folder of real slides")
    with openslide.OpenSlide(path) as first, openslide.OpenSlide(copy_of(path, store)) as second:
        profiles = first.color_profile, second.color_profile
    patches = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    srgb = ImageCms.createProfile("sRGB")
    converted = [np.asarray(ImageCms.profileToProfile(patches, profile, srgb)) for profile in profiles]
    np.testing.assert_array_equal(*converted)
    assert "Hewlett-Packard" in profiles[0].profile.copyright
    assert profiles[1].profile.copyright == "colour profile"
    assert profiles[1].profile.manufacturer is None


@pytest.mark.parametrize("compression", ["jpeg", "raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "1"])
def test_a_flat_tiff_keeps_its_first_page_alone(tmp_path, store, compression, mode):
    if compression == "jpeg" and mode == "1":
        pytest.skip("JPEG has no bilevel images")
    first, second = (Image.fromarray(painted(90, 70, seed)).convert(mode) for seed in (1, 2))
    options = {} if compression == "raw" else {"compression": compression}
    first.save(
        tmp_path / "a.tif", save_all=True, append_images=[second], software=ENCODINGS["utf-8"].decode(), **options
    )
    copy = copy_of(tmp_path / "a.tif", store)
    assert_same_pixels(tmp_path / "a.tif", copy)
    assert_only_levels(copy, [(90, 70)])
    assert not names_in(copy.read_bytes())


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "jpeg"])
def test_a_tiled_pyramid_of_any_layout_keeps_its_stored_tiles(tmp_path, store, byte_order, big, compression):
    path = tmp_path / "a.tif"
    dtype = "uint8" if compression == "jpeg" else "uint16"
    with tifffile.TiffWriter(path, bigtiff=big, byteorder=byte_order) as writer:
        for level in range(2):
            pixels = painted(600 >> level, 400 >> level).astype(dtype)
            writer.write(
                pixels, tile=(128, 128), photometric="rgb", compression=compression, subfiletype=int(level > 0)
            )
    copy = copy_of(path, store)
    with tifffile.TiffFile(path) as first, tifffile.TiffFile(copy) as second:
        assert (second.byteorder, second.is_bigtiff) == (byte_order, big)
        for page, copied in zip(first.pages, second.pages, strict=True):
            np.testing.assert_array_equal(page.asarray(), copied.asarray())


def test_a_pyramid_without_words_is_a_fixed_point(tmp_path, store):
    (tmp_path / "a.tif").write_bytes(tiled(painted(900, 700)))
    once = copy_of(tmp_path / "a.tif", store).read_bytes()
    (tmp_path / "b.tif").write_bytes(once)
    assert copy_of(tmp_path / "b.tif", store).read_bytes() == once
    assert_same_pixels(tmp_path / "a.tif", tmp_path / "b.tif")


def test_tiles_that_are_not_stored_stay_so_and_shared_ones_are_stored_once(tmp_path, store):
    stored = jpeg(painted(128, 128))
    table = {"offsets": [16, 0, 16, 16], "counts": [len(stored), 0, len(stored), len(stored)]}
    (tmp_path / "a.tif").write_bytes(one_image(width=256, height=256, **table))
    copy = copy_of(tmp_path / "a.tif", store)
    assert_same_pixels(tmp_path / "a.tif", copy)
    assert copy.stat().st_size < 2 * len(stored)
    with tifffile.TiffFile(copy) as file:
        assert file.pages[0].databytecounts[1] == 0


def test_overlapping_tiles_that_would_blow_up_the_copy_are_refused(tmp_path, store):
    stored = jpeg(painted(128, 128))
    table = {"offsets": [16 + index for index in range(100)], "counts": [len(stored) - 100] * 100}
    (tmp_path / "a.tif").write_bytes(one_image(width=1280, height=1280, **table))
    with pytest.raises(SlideError) as refused:
        copy_of(tmp_path / "a.tif", store)
    assert refused.value.codes == ("malformed",)


@pytest.mark.parametrize("base", ["svs", "tiled", "flat"])
@pytest.mark.parametrize("kind", [1, 2, 6, 7])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_name_in_any_tag_of_the_standards_lists_is_gone(tmp_path, store, base, kind, encoding):
    path = base_file(tmp_path, base)
    name = ENCODINGS[encoding]
    registered = {code for code, _ in tifffile.TIFF.TAGS} | {code for code, _ in tifffile.TIFF.EXIF_TAGS}
    private = {40_091, 40_092, 40_093, 50_838, 50_839, 65_000, 65_427, 65_449, 65_535}
    planted = {tag: (kind, name + b"\0") for tag in (registered | private) - GEOMETRY - {270, 700, 34675}}
    if base != "svs":
        planted |= {270: (kind, name + b"\0"), 700: (kind, name + b"\0")}
    planted[282] = planted[283] = (5, b"TESTTEST")
    named = tmp_path / path.name
    named.write_bytes(plant(path, planted, tail=name))
    assert names_in(named.read_bytes())
    copy = copy_of(named, store)
    assert not names_in(copy.read_bytes())
    assert b"TEST" not in copy.read_bytes()
    assert_same_pixels(path, copy)


def base_file(tmp_path, base):
    if base == "svs":
        return CMU
    (tmp_path / "plain").mkdir()
    path = tmp_path / "plain" / "slide.tif"
    if base == "tiled":
        path.write_bytes(tiled(painted(300, 200), mpp=None))
    else:
        Image.fromarray(painted(90, 70)).save(path)
    return path


@pytest.mark.parametrize("link", [330, 400, 34665, 34853])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_name_in_any_tag_of_a_linked_directory_is_gone(tmp_path, store, link, encoding):
    """EXIF and, inside it, interoperability; GPS; SubIFDs; global parameters."""
    lists = {34665: tifffile.TIFF.EXIF_TAGS, 34853: tifffile.TIFF.GPS_TAGS}
    name = ENCODINGS[encoding] + b"\0"
    path = base_file(tmp_path, "tiled")
    data = bytearray(path.read_bytes())
    with open_source(path) as source:
        layout, _ = read_layout(source)
    inner = append_sub_directory(data, layout, {code: (ASCII, name) for code, _ in tifffile.TIFF.IOP_TAGS})
    planted = {code: (7, name) for code, _ in lists.get(link, tifffile.TIFF.TAGS)} | {
        40965: (LONG, inner.to_bytes(4, "little"))
    }
    outer = append_sub_directory(data, layout, planted)
    named = tmp_path / "slide.tif"
    named.write_bytes(data)
    named.write_bytes(plant(named, {link: (LONG, outer.to_bytes(4, "little"))}))
    assert names_in(named.read_bytes())
    copy = copy_of(named, store)
    assert not names_in(copy.read_bytes())
    assert_same_pixels(path, copy)


@pytest.mark.parametrize("tag", sorted(GEOMETRY - {256, 257, 273, 322, 323, 324, 325, 65420}))
@pytest.mark.parametrize("kind", [2, 3, 4, 5])
def test_a_name_in_a_tag_that_decides_the_decoding_is_gone_or_refused(tmp_path, store, tag, kind):
    path = base_file(tmp_path, "tiled")
    named = tmp_path / "slide.tif"
    named.write_bytes(plant(path, {tag: (kind, b"TEST PATIENT S26-0000100")}))
    try:
        copy = copy_of(named, store)
    except SlideError:
        assert not list(store.iterdir())
    else:
        assert b"TEST" not in copy.read_bytes()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_name_in_an_aperio_description_is_gone_from_every_key(tmp_path, store, encoding):
    keys = "AppMag MPP StripeWidth ScanScope_ID Filename Date Time User Parmset Left Top LineCameraSkew Focus_Offset"
    keys += " ImageID OriginalWidth OriginalHeight Filtered ICC_Profile Title Barcode Rack Slide DSR_ID Gamma"
    keys += " SessonMode Exposure_Time Exposure_Scale DisplayColor LineAreaXOffset LineAreaYOffset"
    name = ENCODINGS[encoding]
    head = b"Aperio Image Library v11.2.1 " + name + b"\r\n46000x32914 " + name + b" (240x240) JPEG/RGB Q=30;" + name
    pairs = b"".join(b"|" + key.replace("_", " ").encode() + b" = " + name for key in keys.split())
    (tmp_path / "slide.svs").write_bytes(plant(CMU, {270: (ASCII, head + pairs + b"|MPP = 0.4990|AppMag = 20\0")}))
    copy = copy_of(tmp_path / "slide.svs", store)
    assert not names_in(copy.read_bytes())
    with openslide.OpenSlide(copy) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert slide.properties["openslide.mpp-x"] == "0.499"


def test_a_name_in_a_tile_is_gone_and_its_pixels_stay(tmp_path, store):
    stored = jpeg(painted(128, 128))
    named = stored[:2] + b"\xff\xfe\0\x18TEST PATIENT S26-00001" + stored[2:] + b"TEST PATIENT S26-00001"
    copies = []
    for tile in (stored, named):
        size = {"width": 128, "height": 128, "tile_width": 128, "tile_height": 128, "compression": 7}
        (tmp_path / "a.tif").write_bytes(bigtiff([directory(**size, offsets=[16], counts=[len(tile)])], tile))
        copies.append(copy_of(tmp_path / "a.tif", store).read_bytes())
    assert copies[0] == copies[1]
    assert names_in((tmp_path / "a.tif").read_bytes())
    assert not names_in(copies[0])


@pytest.mark.parametrize("compression", [None, "zlib", "packbits", "lzw"])
@pytest.mark.parametrize("side", [16, 128, 512])
def test_bytes_behind_the_pixels_of_a_tile_are_gone(tmp_path, store, compression, side):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, painted(side, side), tile=(side, side), photometric="rgb", compression=compression)
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    tile = path.read_bytes()[offset : offset + count] + b"TEST PATIENT S26-00001"
    table = {324: (LONG, path.stat().st_size.to_bytes(4, "little")), 325: (LONG, len(tile).to_bytes(4, "little"))}
    path.write_bytes(path.read_bytes() + tile)
    path.write_bytes(plant(path, table))
    copy = copy_of(path, store)
    assert not names_in(copy.read_bytes())
    np.testing.assert_array_equal(tifffile.imread(copy), painted(side, side))


@pytest.mark.parametrize("name", REPORTED)
def test_a_reported_file_loses_its_words(store, name):
    if not FIELD_CASES.exists():
        pytest.skip("no folder of reported files")
    copy = copy_of(FIELD_CASES / name, store).read_bytes()
    words = ("Zhang", "San", "张三", "李四", "王", "仗亅")
    assert not [
        word
        for word in words
        for form in ("utf-8", "gbk", "utf-16-le", "utf-16-be")
        if len(word.encode(form)) > 2 and word.encode(form) in copy
    ]
    assert b"User" not in copy
    assert_same_pixels(FIELD_CASES / name, store / f"slide{os.path.splitext(name)[1]}")
    if name.startswith("b11"):
        assert b"MPP = 0.252000" in copy


@pytest.mark.parametrize(
    "name", sorted(path.name for path in FIELD_CASES.glob("b*.tif")) if FIELD_CASES.exists() else []
)
def test_a_reported_file_that_is_read_is_copied_with_its_pixels_and_scale(store, name):
    if name.startswith("b14"):
        pytest.skip("it is refused: 90 million pixels in strips")
    assert_same_pixels(FIELD_CASES / name, copy_of(FIELD_CASES / name, store))


def test_levels_in_sub_directories_follow_the_slide_in_the_copy(tmp_path, store):
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        options = {"tile": (128, 128), "photometric": "rgb"}
        writer.write(painted(600, 400), subifds=2, metadata={"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}, **options)
        for level in (1, 2):
            writer.write(painted(600 >> level, 400 >> level), subfiletype=1, **options)
        writer.write(painted(90, 80), metadata={"Name": "label Zhang San"}, **options)
    copy = copy_of(path, store)
    assert_same_pixels(path, copy)
    assert_only_levels(copy, [(600, 400), (300, 200), (150, 100)])
    assert b"Zhang" not in copy.read_bytes()
    with openslide.OpenSlide(copy) as slide:
        assert slide.level_count == 3
        assert slide.properties["openslide.mpp-x"] == "0.5"


def test_the_scale_that_imagej_states_in_words_stays(tmp_path, store):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path, painted(300, 200), imagej=True, resolution=(3, 3), metadata={"unit": "um", "Info": "Zhang San"}
    )
    copy = copy_of(path, store)
    assert check_slide(path).mpp == check_slide(copy).mpp == pytest.approx((1 / 3, 1 / 3), abs=1e-6)
    assert b"Zhang" not in copy.read_bytes()


def test_a_simulated_slide_still_says_so_and_no_more(tmp_path, store):
    (tmp_path / "a.tif").write_bytes(one_image(description="SIMULATED slide of Zhang San, seed=7"))
    copy = copy_of(tmp_path / "a.tif", store).read_bytes()
    assert b"SIMULATED" in copy
    assert not [word for word in (b"Zhang", b"seed") if word in copy]
