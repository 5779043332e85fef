"""Hostile and broken files are refused before anything is decoded, each with its reason."""

import os
import shutil
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets.slides.byte_source import open_source
from datasets.slides.errors import ISSUE_TEMPLATES, SlideError
from datasets.slides.formats.tiff_directories import read_directories
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.static_check import check_slide
from tests.datasets.slides.slide_files import CMU, bigtiff, dicom, directory, jpeg, kfb, one_image, painted, tiled


def refused(path, limits=SLIDE_LIMITS):
    with pytest.raises(SlideError) as error:
        check_slide(path, limits)
    assert all(each.en.count(".") >= 2 and each.zh.endswith("。") for each in error.value.issues)
    return error.value.codes


def png(width, height, body=b"\0" * 1_000):
    def block(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", head) + block(b"IDAT", zlib.compress(body)) + block(b"IEND", b"")


FILES = {
    "nothing": (b"", "empty"),
    "random bytes": (np.random.default_rng(0).bytes(5_000), "unknown_format"),
    "a page of HTML": (b"<html><body>not found</body></html>", "unknown_format"),
    "a header alone": (b"II*\0", "truncated"),
    "a directory beyond the end": (b"II*\0" + struct.pack("<I", 10**9) + bytes(100), "truncated"),
    "a directory of 65,535 entries": (b"II*\0\x08\0\0\0" + b"\xff\xff" + bytes(10**6), "too_many"),
    "directories in a circle": (bigtiff([directory(width=1, height=1)] * 2, loop=True), "ifd_loop"),
    "a thousand directories": (bigtiff([directory(width=1, height=1)] * 1_000), "too_many"),
    "a tile of 4 gigapixels": (
        one_image(width=65_536, height=65_536, tile_width=65_536, tile_height=65_536),
        "tile_bomb",
    ),
    "a level of 10^18 pixels": (one_image(width=10**9, height=10**9), "pixel_bomb"),
    "no width": (one_image(width=0), "no_size"),
    "a tile of no height": (one_image(tile_height=0), "no_size"),
    "fewer tiles than its size needs": (one_image(width=1_280), "tile_table"),
    "a tile beyond the end": (one_image(offsets=[10**12]), "truncated"),
    "a tile whose end overflows": (one_image(offsets=[2**64 - 8], counts=[100]), "truncated"),
    "a tile that claims a gigabyte": (one_image(counts=[2**30]), "tile_bytes"),
    "one tile that stands for a million": (
        one_image(width=128_000, height=128_000, offsets=[16] * 10**6, counts=[600] * 10**6),
        "ratio",
    ),
    "uncompressed pixels fewer than declared": (one_image(compression=1), "size_lies"),
    "no tile stored": (one_image(offsets=[0], counts=[0]), "no_pixels"),
    "a PNG bomb": (png(50_000, 50_000), "pixel_bomb"),
    "a PNG cut off": (png(100, 100)[:-20], "truncated"),
    "a PNG without its end": (png(100, 100)[:-12], "no_end"),
    "a PNG of no width": (png(0, 100), "no_size"),
    "a JPEG cut off": (jpeg(painted(300, 300))[:-100], "no_end"),
    "a JPEG of 4 gigapixels": (
        jpeg(painted(16, 16)).replace(b"\x08\0\x10\0\x10\x03", b"\x08\xff\xff\xff\xff\x03"),
        "pixel_bomb",
    ),
    "a KFB cut off": (kfb(painted(300, 300))[:-100], "truncated"),
    "a KFB of 10^18 pixels": (
        kfb(painted(300, 300))[:20] + struct.pack("<II", 10**9, 10**9) + kfb(painted(300, 300))[28:],
        "pixel_bomb",
    ),
    "a KFB of 4 billion tiles": (
        kfb(painted(99, 99))[:16] + b"\xff\xff\xff\xff" + kfb(painted(99, 99))[20:],
        "too_many",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_for_its_reason(tmp_path, name):
    data, code = FILES[name]
    (tmp_path / "slide.svs").write_bytes(data)
    assert code in refused(tmp_path / "slide.svs")


@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.99])
def test_a_slide_cut_anywhere_is_truncated(tmp_path, share):
    data = CMU.read_bytes()
    (tmp_path / "cut.svs").write_bytes(data[: int(share * len(data))])
    assert "truncated" in refused(tmp_path / "cut.svs")


def test_all_faults_are_told_together(tmp_path):
    data = one_image(width=10**9, height=10**9, tile_width=10**5, tile_height=10**5, counts=[2**30])
    (tmp_path / "slide.tif").write_bytes(data)
    assert {"pixel_bomb", "tile_bomb", "tile_table"} <= set(refused(tmp_path / "slide.tif"))


def test_a_large_sparse_slide_is_no_bomb(tmp_path):
    stored, tiles = jpeg(painted(128, 128)), 782 * 625
    table = {"offsets": [16] + [0] * (tiles - 1), "counts": [len(stored)] + [0] * (tiles - 1)}
    (tmp_path / "sparse.tif").write_bytes(one_image(width=100_000, height=80_000, **table))
    assert check_slide(tmp_path / "sparse.tif").levels == ((100_000, 80_000),)


def test_a_missing_file_a_folder_and_a_pipe_are_no_slides(tmp_path):
    os.mkfifo(tmp_path / "pipe.svs")
    for name in ("missing.svs", ".", "pipe.svs"):
        assert refused(tmp_path / name) == ("no_file",)


@pytest.mark.parametrize(
    ("kind", "tags"),
    [
        ("generic-tiff", {}),
        ("aperio", {"description": "Aperio Image Library v10.0.51|MPP = 0.25|AppMag = 40"}),
        ("leica", {"description": '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'}),
        ("philips", {"software": "Philips DP v1.0"}),
        ("ventana", {"xmp": '<iScan Magnification="40">'}),
        ("ndpi", {"ndpi": 1}),
    ],
)
def test_a_scanners_tiff_is_told_by_its_content(tmp_path, kind, tags):
    (tmp_path / "slide").write_bytes(one_image(**tags))
    assert check_slide(tmp_path / "slide").format == kind


def test_an_ndpi_of_more_than_4_gigabytes_keeps_its_high_bits(tmp_path):
    """Classic TIFF, its directory beyond 2^32; the values stand before it, and only the low 32 bits say where."""
    base, stored = 2**32 + 4096, jpeg(painted(64, 64))
    tags = [(256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 7), (273, 4, 4096), (277, 3, 3), (278, 4, 64)]
    tags += [(279, 4, len(stored)), (65420, 4, 1)]
    entries = b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in tags)
    with (tmp_path / "slide.ndpi").open("wb") as file:
        file.write(b"II*\0" + struct.pack("<Q", base + len(stored)))
        file.seek(base)
        file.write(stored + struct.pack("<H", len(tags)) + entries + bytes(8))
    result = check_slide(tmp_path / "slide.ndpi")
    assert (result.format, result.levels) == ("ndpi", ((64, 64),))


def test_an_ndpi_whose_pixels_stand_before_its_first_4_gigabytes_states_their_high_bits(tmp_path):
    """They stand after the directory, a word for each entry; the nearest offset before the directory would be wrong."""
    base, stored = 2**32 + 4096, jpeg(painted(64, 64))
    tags = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 7), (273, 4, 1, 64), (277, 3, 1, 3)]
    tags += [(278, 4, 1, 64), (279, 4, 1, len(stored)), (305, 2, 9, 4096), (65420, 4, 1, 1)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    high_bits = b"".join(struct.pack("<I", int(tag[0] == 305)) for tag in tags)
    with (tmp_path / "slide.ndpi").open("wb") as file:
        file.write(b"II*\0" + struct.pack("<Q", base + 9))
        file.seek(64)
        file.write(stored)
        file.seek(base)
        file.write(b"NDP.scan\0" + struct.pack("<H", len(tags)) + entries + bytes(8) + high_bits)
    assert check_slide(tmp_path / "slide.ndpi").levels == ((64, 64),)
    with open_source(tmp_path / "slide.ndpi") as source:
        first = read_directories(source, SLIDE_LIMITS)[0]
    assert (first.tags[273].tolist(), first.get_text(305)) == ([64], "NDP.scan")


def test_many_directories_that_share_one_large_table_are_refused(tmp_path):
    tags = directory(
        width=128_000, height=128_000, tile_width=128, tile_height=128, offsets=[16] * 10**6, counts=[9] * 10**6
    )
    data = bytearray(bigtiff([tags]))
    first = struct.unpack_from("<Q", data, 8)[0]
    block = bytes(data[first:-8])
    for _ in range(100):
        data[-8:] = struct.pack("<Q", len(data))
        data += block + bytes(8)
    (tmp_path / "slide.tif").write_bytes(data)
    assert "too_many" in refused(tmp_path / "slide.tif")


def test_limits_are_those_given():
    assert refused(CMU, replace(SLIDE_LIMITS, pixels=1_000_000)) == ("pixel_bomb",)
    assert refused(CMU, replace(SLIDE_LIMITS, file_bytes=1_000)) == ("too_large",)


@pytest.mark.parametrize("flag", [b"II", b"MM"])
def test_both_byte_orders_are_read(tmp_path, flag):
    order = "<" if flag == b"II" else ">"
    entries = [
        (256, 4, 4),
        (257, 4, 2),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, 2),
        (279, 4, 8),
    ]
    data = flag + struct.pack(order + "HI", 42, 16) + bytes(8) + struct.pack(order + "H", len(entries))
    for tag, kind, value in entries:
        number = struct.pack(order + ("I" if kind == 4 else "HH"), *((value,) if kind == 4 else (value, 0)))
        data += struct.pack(order + "HHI", tag, kind, 1) + number
    (tmp_path / "flat.tif").write_bytes(data + bytes(4))
    assert check_slide(tmp_path / "flat.tif").levels == ((4, 2),)


def test_a_dicom_series_is_its_volumes_alone(tmp_path):
    fine = dicom(tmp_path, "a.dcm")
    coarse = dicom(tmp_path, "b.dcm", size=(128, 128))
    label = dicom(tmp_path, "c.dcm", "LABEL")
    dicom(tmp_path, "d.dcm", series="9.9.9")
    for given_path in (fine, coarse, label):
        result = check_slide(given_path)
        assert result.files == (fine, coarse)
        assert (result.levels, result.mpp) == (((256, 256), (128, 128)), (0.5, 0.51))


@pytest.mark.parametrize("flavour", ["LABEL", "OVERVIEW", "THUMBNAIL"])
def test_a_dicom_label_alone_is_refused(tmp_path, flavour):
    assert refused(dicom(tmp_path, "a.dcm", flavour)) == ("associated_alone",)


def test_a_dicom_neighbour_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "series").mkdir()
    other = dicom(tmp_path / "elsewhere", "b.dcm", size=(128, 128))
    (tmp_path / "series" / "b.dcm").symlink_to(other)
    path = dicom(tmp_path / "series", "a.dcm")
    assert check_slide(path).files == (path,)


def test_a_dicom_cut_off_lying_or_packed_is_refused(tmp_path):
    path = dicom(tmp_path, "a.dcm")
    path.write_bytes(path.read_bytes()[:-30])
    assert "truncated" in refused(path)
    assert "tile_table" in refused(dicom(tmp_path, "a.dcm", frames=2))
    assert "pixel_bomb" in refused(dicom(tmp_path, "a.dcm", size=(10**9, 10**9), frames=1))
    assert "packing" in refused(dicom(tmp_path, "a.dcm", deflated=True))


def test_a_broken_instance_of_the_series_refuses_it_and_another_series_does_not(tmp_path):
    path = dicom(tmp_path, "a.dcm")
    extra = dicom(tmp_path, "b.dcm", series="9.9.9")
    extra.write_bytes(extra.read_bytes()[:-30])
    assert check_slide(path).files == (path,)
    extra = dicom(tmp_path, "b.dcm")
    extra.write_bytes(extra.read_bytes()[:-30])
    assert "truncated" in refused(path)


def test_dicom_sequences_without_end_are_refused(tmp_path):
    path = dicom(tmp_path, "a.dcm")
    data = path.read_bytes()
    nested = (
        struct.pack("<HH2sHI", 0x40, 0x555, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ) * 5_000
    offset = data.index(struct.pack("<HH", 8, 8))
    path.write_bytes(data[:offset] + nested + data[offset:])
    assert refused(path) == ("too_many",)


MRXS = """[GENERAL]
SLIDE_ID = 1
[HIERARCHICAL]
INDEXFILE = {index}
HIER_0_VAL_0_SECTION = LEVEL_0
[LEVEL_0]
MICROMETER_PER_PIXEL_X = 0.25
MICROMETER_PER_PIXEL_Y = 0.25
[DATAFILE]
FILE_COUNT = 1
FILE_0 = {data}
"""


@pytest.fixture
def mrxs(tmp_path):
    def write(index="Index.dat", data="Data0000.dat"):
        (tmp_path / "slide.mrxs").write_bytes(jpeg(painted(32, 32)))
        (tmp_path / "slide").mkdir(exist_ok=True)
        (tmp_path / "slide" / "Slidedat.ini").write_text(MRXS.format(index=index, data=data), "utf-8-sig")
        for name in ("Index.dat", "Data0000.dat"):
            (tmp_path / "slide" / name).write_bytes(b"01.02")
        return tmp_path / "slide.mrxs"

    return write


def test_an_mrxs_names_its_files_and_its_scale(mrxs):
    result = check_slide(mrxs())
    assert (result.format, result.mpp) == ("mirax", (0.25, 0.25))
    assert [path.name for path in result.files] == ["slide.mrxs", "Slidedat.ini", "Data0000.dat", "Index.dat"]


@pytest.mark.parametrize(
    "name", ["../secret.dat", "/etc/passwd", "..\\secret.dat", "C:secret.dat", "sub/Data0000.dat", ".."]
)
def test_an_mrxs_that_leads_out_of_its_folder_is_refused(mrxs, tmp_path, name):
    (tmp_path / "secret.dat").write_bytes(b"secret")
    assert refused(mrxs(data=name)) == ("outside",)
    assert refused(mrxs(index=name)) == ("outside",)


@pytest.mark.parametrize(
    "more",
    [
        "[HIERARCHICAL]\n INDEXFILE = ../secret.dat",  # GLib does not see the space as a continuation
        "[HIERARCHICAL]\nINDEXFILE = ../secret.dat",
        "[DATAFILE]\nFILE_0 = ../secret.dat",
        "[DATAFILE]\nfile_0 = Data0000.dat\nFILE_0 = ../secret.dat",
        "[OTHER]\nFILE_0 = ../secret.dat",
        "[DATAFILE]\nX = 1\u2028FILE_9 = a\nFILE_1 = /etc/passwd",
    ],
)
def test_an_mrxs_cannot_hide_a_second_name(mrxs, tmp_path, more):
    path = mrxs()
    with (tmp_path / "slide" / "Slidedat.ini").open("a") as file:
        file.write(more + "\n")
    assert "outside" in refused(path)


def test_an_mrxs_part_that_is_a_link_is_refused(mrxs, tmp_path):
    path = mrxs()
    (tmp_path / "secret.dat").write_bytes(b"secret")
    (tmp_path / "slide" / "Data0000.dat").unlink()
    (tmp_path / "slide" / "Data0000.dat").symlink_to(tmp_path / "secret.dat")
    assert refused(path) == ("outside",)


def test_an_mrxs_without_its_parts_is_refused(mrxs, tmp_path):
    path = mrxs(data="Data0007.dat")
    assert refused(path) == ("missing_part",)
    shutil.rmtree(tmp_path / "slide")
    assert refused(path) == ("mrxs_alone",)  # the file itself shows the label


@settings(max_examples=300, deadline=2_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["tiff", "kfb", "png", "jpeg", "dicom"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=20),
    st.booleans(),
)
def test_a_check_answers_or_refuses_whatever_bytes_are_flipped(tmp_path, kind, flips, in_head):
    data = bytearray(SMALL[kind] if kind in SMALL else dicom(tmp_path, "whole").read_bytes())
    span = min(300, len(data)) if in_head else len(data)
    for position, by in flips:
        data[int(position * span)] ^= by
    (tmp_path / "flipped").write_bytes(data)
    try:
        check_slide(tmp_path / "flipped")
    except SlideError as error:
        result = error.codes
        if not result or not set(result) <= set(ISSUE_TEMPLATES):
            raise


SMALL = {
    "tiff": tiled(painted(200, 150)),
    "kfb": kfb(painted(200, 150)),
    "png": png(20, 20, bytes(20 * 61)),
    "jpeg": jpeg(painted(64, 64)),
}


def test_an_image_of_floating_point_numbers_is_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "deep.tif")
    assert refused(tmp_path / "deep.tif") == ("packing",)
