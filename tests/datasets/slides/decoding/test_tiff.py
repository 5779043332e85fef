"""Any kind of pixels in any organisation of a TIFF is read with right colours, levels and scale, and copied so."""

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from datasets.slides.decoding.tiff import coded_size
from datasets.slides.deidentification.tiff.clean import clean_tiff
from datasets.slides.errors import SlideError
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.reader import open_slide
from datasets.slides.static_check import check_slide
from tests.datasets.slides.slide_files import painted
from tests.paths import CMU

WIDTH, HEIGHT, TILE = 512, 384, (128, 128)
COLOUR = painted(WIDTH, HEIGHT)
GREY = COLOUR.mean(-1).round().astype(np.uint8)
YCBCR = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
ALPHA = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
PER_CENTIMETRE = (20_000, 20_000)  # 0.5 microns per pixel

# name: stored pixels, options of tifffile, displayed pixels, largest error
TYPES = {
    "RGB": (COLOUR, {"photometric": "rgb"}, COLOUR, 0),
    "RGB in planes": (COLOUR.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}, COLOUR, 0),
    "RGB as JPEG": (COLOUR, {"photometric": "rgb", "compression": "jpeg"}, COLOUR, 60),
    "YCbCr as JPEG": (YCBCR, {"photometric": "ycbcr", "compression": "jpeg"}, COLOUR, 60),
    "RGB as Aperio's JPEG 2000": (COLOUR, {"photometric": "rgb", "compression": "aperio_jp2000_rgb"}, COLOUR, 0),
    "YCbCr as Aperio's JPEG 2000": (YCBCR, {"photometric": "ycbcr", "compression": "aperio_jp2000_ycbc"}, COLOUR, 6),
    "RGB with LZW and a predictor": (
        COLOUR,
        {"photometric": "rgb", "compression": "lzw", "predictor": True},
        COLOUR,
        0,
    ),
    "grey": (GREY, {"photometric": "minisblack"}, GREY, 0),
    "grey, white is 0": (255 - GREY, {"photometric": "miniswhite"}, GREY, 0),
    "grey as JPEG": (GREY, {"photometric": "minisblack", "compression": "jpeg"}, GREY, 60),
    "grey of 12 in 16 bits": (GREY.astype(np.uint16) * 16, {"photometric": "minisblack"}, GREY, 1),
    "grey of 14 in 16 bits": (
        GREY.astype(np.uint16) * 64,
        {"photometric": "minisblack", "compression": "zlib"},
        GREY,
        1,
    ),
    "grey of 16 bits": (GREY.astype(np.uint16) * 257, {"photometric": "minisblack"}, GREY, 0),
    "RGB of 12 in 16 bits": (COLOUR.astype(np.uint16) * 16, {"photometric": "rgb"}, COLOUR, 1),
    "RGB of 16 bits": (COLOUR.astype(np.uint16) * 257, {"photometric": "rgb", "compression": "lzw"}, COLOUR, 0),
    "palette": (
        GREY,
        {"photometric": "palette", "colormap": np.stack([np.arange(256) * 257, *[np.arange(255, -1, -1) * 257] * 2])},
        np.stack([GREY, 255 - GREY, 255 - GREY], -1),
        0,
    ),
    "opaque RGBA": (
        np.concatenate([COLOUR, ALPHA], -1),
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        COLOUR,
        0,
    ),
    "RGBA with alpha 0": (
        np.concatenate([COLOUR, 0 * ALPHA], -1),
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        COLOUR,
        0,
    ),
    "RGB with an unspecified fourth": (
        np.concatenate([COLOUR, 0 * ALPHA], -1),
        {"photometric": "rgb", "extrasamples": ["unspecified"]},
        COLOUR,
        0,
    ),
    "RGBA of 16 bits with alpha 0": (
        np.concatenate([COLOUR, 0 * ALPHA], -1).astype(np.uint16) * 257,
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        COLOUR,
        0,
    ),
}


def half(pixels, options):
    """Every second pixel, so that values of a palette stay values of it."""
    return pixels[:, ::2, ::2] if options.get("planarconfig") == "separate" else pixels[::2, ::2]


def write_strips(path, pixels, options):
    tifffile.imwrite(path, pixels, resolution=PER_CENTIMETRE, resolutionunit="centimeter", rowsperstrip=50, **options)


def write_tiles(path, pixels, options):
    tifffile.imwrite(path, pixels, resolution=PER_CENTIMETRE, resolutionunit="centimeter", tile=TILE, **options)


def write_pages(path, pages, options, **changes):
    """pages: (pixels, options of the page)."""
    with tifffile.TiffWriter(path, **changes) as file:
        for pixels, own in pages:
            scale = {"resolution": PER_CENTIMETRE, "resolutionunit": "centimeter"}
            file.write(pixels, metadata=None, **{**options, **scale, **own})


def write_sub_directories(path, pixels, options):
    write_pages(path, [(pixels, {"tile": TILE, "subifds": 1}), (half(pixels, options), {"tile": TILE})], options)


def write_marked_levels(path, pixels, options):
    write_pages(path, [(pixels, {"tile": TILE}), (half(pixels, options), {"tile": TILE, "subfiletype": 1})], options)


def write_unmarked_levels(path, pixels, options):
    coarse = {"tile": TILE, "resolution": (10_000, 10_000)}
    write_pages(path, [(pixels, {"tile": TILE}), (half(pixels, options), coarse)], options, bigtiff=True)


def write_backwards(path, pixels, options):
    """The level of low resolution first, in a file of the other byte order."""
    coarse = {"tile": TILE, "resolution": (10_000, 10_000)}
    write_pages(path, [(half(pixels, options), coarse), (pixels, {"tile": TILE})], options, byteorder=">")


def write_thumbnail_first(path, pixels, options):
    thumbnail = np.full((90, 250, 3), 128, np.uint8), {"photometric": "rgb", "compression": None}
    own = {key: value for key, value in options.items() if key not in thumbnail[1]}
    with tifffile.TiffWriter(path) as file:
        file.write(thumbnail[0], metadata=None, photometric="rgb")
        file.write(
            pixels,
            metadata=None,
            tile=TILE,
            resolution=PER_CENTIMETRE,
            resolutionunit="centimeter",
            **{**options, **own},
        )


ORGANISATIONS = {  # how it is written: number of levels
    write_strips: 1,
    write_tiles: 1,
    write_sub_directories: 2,
    write_marked_levels: 2,
    write_unmarked_levels: 2,
    write_backwards: 2,
    write_thumbnail_first: 1,
}


@pytest.mark.parametrize("write", ORGANISATIONS, ids=lambda write: write.__name__.removeprefix("write_"))
@pytest.mark.parametrize("name", TYPES)
def test_pixels_of_any_type_in_any_order_are_read_and_copied_with_their_colours(tmp_path, name, write):
    stored, options, displayed, error = TYPES[name]
    write(tmp_path / "slide.tif", stored, options)
    displayed = np.broadcast_to(displayed if displayed.ndim == 3 else displayed[..., None], (HEIGHT, WIDTH, 3))
    (tmp_path / "store").mkdir()
    copy = clean_tiff(check_slide(tmp_path / "slide.tif"), tmp_path / "store", SLIDE_LIMITS, bytes(32))
    for path in (tmp_path / "slide.tif", copy):
        with open_slide(path) as slide:
            assert slide.metadata.mpp == (0.5, 0.5)
            sizes = [(level.width, level.height) for level in slide.metadata.levels]
            assert sizes == [(WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 2)][: ORGANISATIONS[write]]
            pixels = slide.read(0, 0, (WIDTH, HEIGHT)).astype(int)
            assert abs(pixels - displayed).max() <= error
            assert abs(pixels - displayed).mean() <= min(error, 3)
            for level in range(1, len(sizes)):
                coarse = slide.read(0, 0, sizes[level], level).astype(int)
                assert abs(coarse - displayed[::2, ::2]).mean() <= min(error, 6)


@pytest.mark.parametrize("region", [(0, 0, 100, 100), (78, 120, 300, 200), (-50, -20, 200, 100), (450, 350, 200, 200)])
def test_a_region_is_that_of_openslide_whatever_its_place(tmp_path, region):
    write_marked_levels(tmp_path / "slide.tif", COLOUR, {"photometric": "ycbcr", "compression": "jpeg"})
    x, y, *size = region
    for path in (tmp_path / "slide.tif", CMU):
        with open_slide(path) as slide, openslide.OpenSlide(path) as other:
            for level in range(len(slide.metadata.levels)):
                expected = np.asarray(other.read_region((x, y), level, tuple(size))).astype(int)
                alpha = expected[..., 3:]
                expected = (expected[..., :3] * alpha + 255 * (255 - alpha)) // 255
                np.testing.assert_array_equal(slide.read(x, y, tuple(size), level), expected)


REFUSED = {  # what is wrong: pixels, options, words of the sentence
    "floating point": (GREY.astype(np.float32), {"photometric": "minisblack"}, "32-bit floating point"),
    "signed": (GREY.astype(np.int16), {"photometric": "minisblack"}, "16-bit signed"),
    "32 bits": (GREY.astype(np.uint32), {"photometric": "minisblack"}, "32 bits"),
    "5 channels": (np.concatenate([COLOUR] * 2, -1)[..., :5], {"photometric": "rgb"}, "RGB of 5 channels"),
    "L*a*b*": (COLOUR, {"photometric": "cielab"}, "CIE L"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pixels_whose_colours_are_not_known_are_refused_in_a_sentence(tmp_path, name):
    pixels, options, words = REFUSED[name]
    write_tiles(tmp_path / "slide.tif", pixels, options)
    with pytest.raises(SlideError) as refused:
        open_slide(tmp_path / "slide.tif")
    assert refused.value.codes[0] == "packing"
    assert words in str(refused.value)


def test_partly_transparent_pixels_are_mixed_with_white(tmp_path):
    alpha = np.where(np.arange(WIDTH) < WIDTH // 2, 255, 0).astype(np.uint8)
    pixels = np.concatenate([COLOUR, np.broadcast_to(alpha[:, None], (HEIGHT, WIDTH, 1))], -1)
    write_tiles(tmp_path / "slide.tif", pixels, {"photometric": "rgb", "extrasamples": ["unassalpha"]})
    with open_slide(tmp_path / "slide.tif") as slide:
        read = slide.read(0, 0, (WIDTH, HEIGHT))
    np.testing.assert_array_equal(read[:, : WIDTH // 2], COLOUR[:, : WIDTH // 2])
    assert (read[:, WIDTH // 2 :] == 255).all()


def test_a_link_out_of_a_complete_file_ends_its_list_of_images(tmp_path):
    write_tiles(tmp_path / "slide.tif", COLOUR, {"photometric": "rgb"})
    data = bytearray((tmp_path / "slide.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "slide.tif") as file:
        page = file.pages[0]
        link = page.offset + 2 + 12 * len(page.tags)
    assert data[link : link + 4] == bytes(4)
    for target in (len(data) + 1_000, 0xFFFFFFF0):
        data[link : link + 4] = target.to_bytes(4, "little")
        (tmp_path / "slide.tif").write_bytes(data)
        with open_slide(tmp_path / "slide.tif") as slide:
            np.testing.assert_array_equal(slide.read(0, 0, (WIDTH, HEIGHT)), COLOUR)


@pytest.mark.parametrize("compression", ["jpeg", "aperio_jp2000_rgb"])
def test_a_tile_that_states_more_pixels_than_a_tile_has_is_not_decoded(tmp_path, compression):
    write_tiles(tmp_path / "slide.tif", COLOUR, {"photometric": "rgb", "compression": compression})
    with tifffile.TiffFile(tmp_path / "slide.tif") as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    data = bytearray((tmp_path / "slide.tif").read_bytes())
    tile = bytes(data[offset : offset + count])
    assert coded_size(tile) == TILE
    size = offset + (8 if compression != "jpeg" else tile.index(b"\xff\xc0") + 5)
    width = 4 if compression != "jpeg" else 2
    data[size : size + 2 * width] = (60_000).to_bytes(width) * 2
    (tmp_path / "slide.tif").write_bytes(data)
    with open_slide(tmp_path / "slide.tif") as slide:
        np.testing.assert_array_equal(slide.read(256, 128, (64, 64)).shape, (64, 64, 3))  # another tile
        with pytest.raises(SlideError, match="60,000 x 60,000 pixels where 128 x 128 were expected"):
            slide.read(0, 0, (64, 64))


NAMES = ["label", "Macro", "thumbnail image", "Label_Image", "overview"]


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_that_is_called_something_else_is_no_level_whatever_its_size(tmp_path, name):
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        file.write(np.full((1024, 1024, 3), 9, np.uint8), metadata=None, tile=TILE, photometric="rgb", description=name)
        file.write(COLOUR, metadata=None, tile=TILE, photometric="rgb")
        file.write(COLOUR[::2, ::2] * 0, metadata=None, tile=TILE, photometric="rgb", description=name)
    with open_slide(tmp_path / "slide.tif") as slide:
        assert [(level.width, level.height) for level in slide.metadata.levels] == [(WIDTH, HEIGHT)]
        np.testing.assert_array_equal(slide.read(0, 0, (WIDTH, HEIGHT)), COLOUR)


@pytest.mark.parametrize("size", [(300, 200), (256, 256), (180, 128)])
def test_a_picture_of_other_proportions_is_no_level(tmp_path, size):
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        file.write(COLOUR, metadata=None, tile=TILE, photometric="rgb")
        file.write(np.zeros((*size[::-1], 3), np.uint8), metadata=None, tile=TILE, photometric="rgb")
    with open_slide(tmp_path / "slide.tif") as slide:
        assert len(slide.metadata.levels) == 1


def test_a_large_picture_in_strips_is_the_slide_where_a_tiled_one_is_its_thumbnail(tmp_path):
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        file.write(COLOUR[::4, ::4].copy(), metadata=None, tile=(64, 64), photometric="rgb")
        file.write(COLOUR, metadata=None, rowsperstrip=64, photometric="rgb")
    with open_slide(tmp_path / "slide.tif") as slide:
        assert (slide.metadata.format, slide.metadata.size) == ("tiff", (WIDTH, HEIGHT))
        np.testing.assert_array_equal(slide.read(0, 0, (WIDTH, HEIGHT)), COLOUR)
