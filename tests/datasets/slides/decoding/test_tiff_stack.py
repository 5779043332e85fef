"""Stacks of focal planes in TIFF: OME-TIFF, ImageJ, and images with a mark; read, and copied without names."""

from __future__ import annotations

import io
import itertools
import re

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.slides.deidentification.deidentify import deidentify_slide
from datasets.slides.deidentification.tiff.writer import TiffWriter
from datasets.slides.errors import SlideError
from datasets.slides.formats.tiff_directories import ByteLayout
from datasets.slides.reader import PlaneError, open_slide
from datasets.slides.simulate import writers
from datasets.slides.simulate.slides import simulate_slide

RNG = np.random.default_rng(7)
# Three planes of 512 x 256 px in tiles of 256: the first is sharp at the left, the last at the right.
FLAT, SHARP = np.full((256, 256, 3), 200, np.uint8), RNG.integers(0, 255, (256, 256, 3)).astype(np.uint8)
PLANES = [
    np.concatenate([SHARP, FLAT], 1),
    np.concatenate([SHARP // 8 + 100, SHARP // 8 + 90], 1),
    np.concatenate([FLAT, SHARP], 1),
]
TILED = {"tile": (256, 256), "photometric": "rgb", "compression": "deflate"}
RESOLUTION = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}


def write_marked(path, marks, levels=1, name=""):
    """Pages in this order; marks: (plane, mark) of each."""
    with tifffile.TiffWriter(path) as file:
        for level, (plane, mark) in itertools.product(range(levels), marks):
            pixels = PLANES[plane][:: 2**level, :: 2**level]
            description = f"{name} {mark}".strip().encode()
            file.write(pixels, description=description, metadata=None, subfiletype=level > 0, **TILED, **RESOLUTION)
    return path


def write_ome(path, ome=None, pixels=None, **options):
    data = np.stack(PLANES) if pixels is None else pixels
    metadata = {"axes": "ZYXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 1.5} | (ome or {})
    tifffile.imwrite(path, data, ome=True, metadata=metadata, **TILED, **options)
    return path


def write_imagej(path):
    data = np.stack(PLANES)
    metadata = {"axes": "ZYXS", "spacing": 1.5, "unit": "um"}
    tifffile.imwrite(path, data, imagej=True, metadata=metadata, resolution=(2.0, 2.0))
    return path


def restart_jpeg(pixels):
    """A JPEG of parts of 256 x 8 pixels, and where each of them begins."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0, restart_marker_blocks=32)
    data = buffer.getvalue()
    start = data.index(b"\xff\xda") + 2 + int.from_bytes(data[data.index(b"\xff\xda") + 2 :][:2])
    marks = [match.end() for match in re.finditer(rb"\xff[\xd0-\xd7]", data[start:])]
    return data, [start, *(start + mark for mark in marks)]


def write_ndpi(path, heights=(1_500, -1_500, 0), with_tables=True, planes=PLANES):
    """SIMULATED: the layout of a NanoZoomer, with planes in the order of `heights`, nanometres from the best focus."""
    layout = ByteLayout("<", False, is_ndpi=True)
    with path.open("wb") as file:
        writer = TiffWriter(file, layout)
        for height in heights:
            pixels = planes[sorted(heights).index(height)]
            data, starts = restart_jpeg(pixels)
            rows, columns = pixels.shape[:2]
            tags = {256: (4, [columns]), 257: (4, [rows]), 258: (3, [8, 8, 8]), 259: (3, [7]), 262: (3, [6])}
            tags |= {277: (3, [3]), 278: (4, [rows]), 282: (5, [20_000, 1]), 283: (5, [20_000, 1]), 296: (3, [3])}
            tags |= {271: (2, b"Hamamatsu\0"), 305: (2, b"NDP.scan SIMULATED\0"), 530: (3, [1, 1])}
            tags |= {65420: (4, [1]), 65421: (11, [20.0]), 65422: (9, [0]), 65423: (9, [0]), 65424: (9, [height])}
            tags |= {65426: (4, starts)} if with_tables else {}
            writer.add_image(tags, writer.add_bytes(data), is_tiled=False)
    return path


def test_an_ndpi_stack_is_read_by_its_distances_from_the_best_focus_and_copied(tmp_path):
    path = write_ndpi(tmp_path / "Zhang.ndpi")
    (tmp_path / "copy").mkdir()
    copied = deidentify_slide(path, tmp_path / "copy", key=b"k" * 32)
    for file in (path, copied.path):
        with open_slide(file) as slide:
            assert (slide.metadata.format, slide.metadata.planes, slide.metadata.plane_spacing) == ("ndpi", 3, 1.5)
            assert slide.metadata.mpp == (0.5, 0.5)
            for plane, pixels in enumerate(PLANES):
                expected = np.asarray(Image.open(io.BytesIO(restart_jpeg(pixels)[0])))
                difference = np.abs(slide.read(0, 0, (512, 256), 0, plane).astype(int) - expected)
                assert difference.max() <= 3, plane
            sharpest = slide.read(0, 0, (512, 256))
            assert np.abs(sharpest.astype(int) - np.concatenate([SHARP, SHARP], 1)).mean() < 12
            assert np.array_equal(sharpest[:, :256], slide.read(0, 0, (256, 256), 0, 0))
            assert np.array_equal(sharpest[:, 256:], slide.read(256, 0, (256, 256), 0, 2))
    assert copied.proof.regions == 4 * 3


def test_an_ndpi_stack_whose_images_have_no_tables_is_read_whole_where_they_are_small(tmp_path):
    with open_slide(write_ndpi(tmp_path / "a.ndpi", with_tables=False)) as slide:
        assert slide.metadata.planes == 3
        tall = slide.read(100, 50, (64, 64), 0, 2)
    expected = np.asarray(Image.open(io.BytesIO(restart_jpeg(PLANES[2])[0])))[50:114, 100:164]
    assert np.abs(tall.astype(int) - expected).max() <= 3


def test_an_ndpi_of_one_plane_is_no_stack(tmp_path):
    with open_slide(write_ndpi(tmp_path / "a.ndpi", heights=(0,), planes=PLANES[:1])) as slide:
        assert slide.metadata.planes == 1


def planes_of(path):
    with open_slide(path) as slide:
        return [slide.read(0, 0, slide.metadata.size, 0, plane) for plane in range(slide.metadata.planes)]


def assert_is_stack(path, spacing=1.5):
    with open_slide(path) as slide:
        assert (slide.metadata.planes, slide.metadata.plane_spacing) == (3, spacing)
        assert slide.metadata.mpp == (0.5, 0.5)
        sharpest = slide.read(0, 0, (512, 256))
    assert all(np.array_equal(actual, plane) for actual, plane in zip(planes_of(path), PLANES, strict=True))
    return sharpest


MARKED = [(2, "z=1.5 um"), (0, "Z = -1,5 µm"), (1, "focus: 0 um")]
STACKS = {
    "OME": lambda path: write_ome(path),
    "marks": lambda path: write_marked(path, MARKED),
    "marks in nanometres": lambda path: write_marked(path, [(1, "Z-offset=0 nm"), (2, "z=1500nm"), (0, "z=-1500 nm")]),
    "ImageJ": write_imagej,
}


@pytest.mark.parametrize("kind", ["OME", "marks", "marks in nanometres"])
def test_each_tile_of_a_stack_is_read_in_its_sharpest_plane(tmp_path, kind):
    sharpest = assert_is_stack(STACKS[kind](tmp_path / "stack.tif"))
    assert np.array_equal(sharpest, np.concatenate([SHARP, SHARP], 1))


def test_an_imagej_stack_in_strips_is_read_too(tmp_path):
    assert_is_stack(write_imagej(tmp_path / "stack.tif"))


def test_a_stack_is_read_alike_in_tiff_and_dicom(tmp_path):
    simulated = simulate_slide(seed=5, label="LSIL", columns=6, rows=3)
    tiff = writers.write_tiff_stack(tmp_path / "a.ome.tiff", simulated, planes=3, plane_spacing=0.8)
    dicom = writers.write_dicom(tmp_path / "dicom", simulated, planes=3, plane_spacing=0.8)
    with open_slide(tiff) as first, open_slide(dicom) as second:
        assert (first.metadata.planes, first.metadata.plane_spacing) == (3, pytest.approx(0.8))
        assert first.metadata.levels == second.metadata.levels
        assert (second.metadata.planes, second.metadata.plane_spacing) == (3, pytest.approx(0.8))
        for level, plane in itertools.product(range(len(first.metadata.levels)), (None, 0, 1, 2)):
            region = (128, 64, (640, 320), level, plane)
            assert np.array_equal(first.read(*region), second.read(*region)), (level, plane)


def test_marks_without_a_unit_are_an_order_and_levels_belong_to_their_plane(tmp_path):
    path = write_marked(tmp_path / "a.tif", [(1, "plane: 2"), (0, "plane: 1"), (2, "plane: 4")], levels=2)
    with open_slide(path) as slide:
        assert (slide.metadata.planes, slide.metadata.plane_spacing, len(slide.metadata.levels)) == (3, None, 2)
        for plane, pixels in enumerate(PLANES):
            assert np.array_equal(slide.read(0, 0, (256, 128), 1, plane), pixels[::2, ::2])
        with pytest.raises(PlaneError, match="from 0 to 2"):
            slide.at_plane(3)


@pytest.mark.parametrize("marks", [["", "", ""], ["z=1 um", "z=1 um", "z=1 um"], ["z=1 um", "", ""]])
def test_images_of_one_size_without_different_marks_are_no_stack(tmp_path, marks):
    path = write_marked(tmp_path / "a.tif", list(enumerate(marks)))
    with open_slide(path) as slide:
        assert slide.metadata.planes == 1
        assert np.array_equal(slide.read(0, 0, (512, 256)), PLANES[0])


def test_the_order_of_the_planes_is_that_of_the_ome_xml(tmp_path):
    path = write_ome(tmp_path / "a.ome.tif")
    reverse = "".join(f'<TiffData IFD="{2 - z}" FirstZ="{z}"/>' for z in range(3))
    tifffile.tiffcomment(
        path, tifffile.tiffcomment(path).replace('<TiffData IFD="0" PlaneCount="3"/>', reverse).encode()
    )
    assert all(np.array_equal(*pair) for pair in zip(planes_of(path), PLANES[::-1], strict=True))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('SizeZ="3"', 'SizeZ="4"', "malformed"),
        ('IFD="0" PlaneCount="3"', 'IFD="1" PlaneCount="3"', "malformed"),
        ('IFD="0" PlaneCount="3"', 'IFD="0" PlaneCount="2"', "malformed"),
        ('IFD="0"', 'IFD="-1"', "malformed"),
        ('SizeZ="3"', 'SizeZ="999999999"', "malformed"),
    ],
)
def test_planes_that_the_ome_xml_declares_and_the_file_lacks_are_refused(tmp_path, old, new, words):
    path = write_ome(tmp_path / "a.ome.tif")
    tifffile.tiffcomment(path, tifffile.tiffcomment(path).replace(old, new).encode())
    with pytest.raises(SlideError) as refused:
        open_slide(path)
    assert refused.value.codes == (words,)
    assert "focal planes" in str(refused.value)


@pytest.mark.parametrize("axis", ["T", "C"])
def test_times_and_channels_in_images_of_their_own_are_no_focal_planes(tmp_path, axis):
    data = np.stack(PLANES)
    data = data[..., 1] if axis == "C" else data
    options = TILED | {"photometric": "minisblack" if axis == "C" else "rgb"}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", data, ome=True, metadata={"axes": f"{axis}YX" + "S" * (axis == "T")}, **options
    )
    with open_slide(tmp_path / "a.ome.tif") as slide:
        assert slide.metadata.planes == 1


@pytest.mark.parametrize("kind", [*STACKS, "simulated"])
def test_a_copy_keeps_all_planes_and_no_name(tmp_path, kind):
    path = tmp_path / "Zhang_San.ome.tif"
    if kind == "simulated":
        writers.write_tiff_stack(path, simulate_slide(seed=5, label="LSIL", columns=5, rows=2), planes=2)
    elif kind == "marks":
        write_marked(path, MARKED, name="Zhang San 1962-03-04 C26-0815")
    elif kind == "OME":
        write_ome(path, {"Name": "Zhang San C26-0815", "Description": "born 1962-03-04"})
    else:
        STACKS[kind](path)
    (tmp_path / "copy").mkdir()
    copied = deidentify_slide(path, tmp_path / "copy", key=b"k" * 32, known_words=["Zhang San"])
    with open_slide(path) as first, open_slide(copied.path) as second:
        same = ("levels", "mpp", "planes", "plane_spacing")
        assert [getattr(first.metadata, name) for name in same] == [getattr(second.metadata, name) for name in same]
        assert first.metadata.planes > 1
        for plane in (None, *range(first.metadata.planes)):
            region = (0, 0, (512, 256), 0, plane)
            assert np.array_equal(first.read(*region), second.read(*region))
    content = copied.path.read_bytes().lower()
    assert not [word for word in (b"zhang", b"1962", b"c26-0815") if word in content]
    assert (b"simulated" in content) == (kind == "simulated")
