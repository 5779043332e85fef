"""Streams lose comments and application segments and keep their pixels."""

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from datasets.slides.byte_source import CheckAbortedError
from datasets.slides.deidentification.codestream import clean_j2k, clean_jpeg, removed_from_jpeg_header
from tests.datasets.slides.slide_files import painted

NAME = b"TEST PATIENT S26-00001"


def cleaned(data):
    return b"".join(clean_jpeg(lambda start, size: data[start : start + size], len(data)))


def segment(marker, body):
    return b"\xff" + bytes([marker]) + (len(body) + 2).to_bytes(2) + body


def jpeg(**options):
    buffer = io.BytesIO()
    Image.fromarray(painted(90, 70)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 20, "optimize": True}])
@pytest.mark.parametrize("marker", [*range(0xE0, 0xF0), 0xFE])
def test_a_jpeg_loses_names_in_every_segment_and_after_its_end_and_no_pixel(options, marker):
    plain = jpeg(**options)
    named = plain[:2] + segment(marker, NAME) + plain[2:] + NAME
    assert NAME not in cleaned(named)
    np.testing.assert_array_equal(decoded(cleaned(named)), decoded(plain))
    assert cleaned(named) == cleaned(plain) == cleaned(cleaned(plain))


def test_a_name_between_the_scans_of_a_progressive_jpeg_is_gone():
    plain = jpeg(progressive=True)
    second_scan = plain.index(b"\xff\xc4", plain.index(b"\xff\xda"))
    named = plain[:second_scan] + segment(0xFE, NAME) + plain[second_scan:]
    assert NAME not in cleaned(named)
    np.testing.assert_array_equal(decoded(cleaned(named)), decoded(plain))


def test_the_thumbnail_and_density_of_jfif_are_gone_and_its_colours_stay():
    plain = jpeg(dpi=(72, 72))
    jfif = plain[2 : plain.index(b"\xff\xdb")]
    thumbnail = segment(0xE0, b"JFIF\0\1\1\1TEST" + bytes([4, 2]) + NAME + b"..")
    named = b"\xff\xd8" + thumbnail + plain[2 + len(jfif) :]
    assert NAME not in cleaned(named)
    assert b"TEST" not in cleaned(named)
    np.testing.assert_array_equal(decoded(cleaned(named)), decoded(plain))


@pytest.mark.parametrize("transform", [0, 1])
def test_the_colour_transform_of_an_adobe_segment_stays_and_its_rest_goes(transform):
    plain = jpeg()
    without_jfif = b"\xff\xd8" + plain[plain.index(b"\xff\xdb") :]
    adobe = segment(0xEE, b"Adobe" + b"NAME!!" + bytes([transform]) + NAME)
    named = without_jfif[:2] + adobe + without_jfif[2:]
    assert not [name for name in (NAME, b"NAME") if name in cleaned(named)]
    np.testing.assert_array_equal(decoded(cleaned(named)), decoded(named))


def test_tables_alone_are_copied():
    plain = jpeg()
    tables = plain[plain.index(b"\xff\xdb") : plain.index(b"\xff\xc0")]
    assert cleaned(b"\xff\xd8" + segment(0xFE, NAME) + tables + b"\xff\xd9") == b"\xff\xd8" + tables + b"\xff\xd9"


def test_the_shift_of_the_scan_is_what_its_header_loses():
    plain = jpeg()
    named = plain[:2] + segment(0xFE, NAME) + plain[2:]

    def read(start, size):
        return named[start : start + size]

    assert removed_from_jpeg_header(read, len(named)) == len(NAME) + 4


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"\xff\xd8TEST PATIENT",
        b"\xff\xd8\xff\xe1\0\1",
        b"\xff\xd8\xff\xe1\xff\xffTEST",
        b"\xff\xd8" + segment(0xDB, bytes(65) + NAME),
        b"\xff\xd8" + segment(0xC4, bytes(17) + NAME),
        b"\xff\xd8" + segment(0xC0, bytes(5) + b"\1" + bytes(3) + NAME),
        b"\xff\xd8" + segment(0xF7, NAME),
    ],
)
def test_a_stream_that_cannot_be_followed_is_refused(data):
    with pytest.raises(CheckAbortedError):
        cleaned(data)


def j2k(**options):
    return imagecodecs.jpeg2k_encode(painted(90, 70), codecformat="j2k", **options)


@pytest.mark.parametrize("options", [{}, {"reversible": True}, {"resolutions": 3, "level": 30}])
def test_a_jpeg_2000_stream_loses_comments_and_no_pixel(options):
    plain = j2k(**options)
    quantization = plain.index(b"\xff\x5c")
    comment = b"\xff\x64" + (len(NAME) + 4).to_bytes(2) + b"\0\1" + NAME
    named = plain[:quantization] + comment + plain[quantization:] + NAME
    assert NAME not in clean_j2k(named)
    np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(clean_j2k(named)), imagecodecs.jpeg2k_decode(plain))
    assert clean_j2k(named) == clean_j2k(clean_j2k(plain))


def test_a_comment_in_a_tile_part_is_gone_and_its_length_fits():
    plain = j2k()
    start = plain.index(b"\xff\x90")
    data = plain.index(b"\xff\x93")
    comment = b"\xff\x64" + (len(NAME) + 4).to_bytes(2) + b"\0\1" + NAME
    size = int.from_bytes(plain[start + 6 : start + 10]) + len(comment)
    named = plain[: start + 6] + size.to_bytes(4) + plain[start + 10 : data] + comment + plain[data:]
    assert NAME not in clean_j2k(named)
    np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(clean_j2k(named)), imagecodecs.jpeg2k_decode(plain))


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51\0", b"\xff\x4f\xff\x30", j2k()[:60]])
def test_a_jpeg_2000_stream_that_cannot_be_followed_is_refused(data):
    with pytest.raises(CheckAbortedError):
        clean_j2k(data)
