"""Simulated slides: pyramids that open, alike in every format, with the cells that they are said to have."""

import json
import subprocess
import sys

import numpy as np
import pydicom
import pytest
import tifffile

from datasets.errors import DataError
from datasets.slides import quality, tiling, tissue
from datasets.slides.errors import SlideError
from datasets.slides.reader import open_slide
from datasets.slides.simulate import pyramid, slides, writers
from datasets.slides.simulate.cell_types import CLASSES
from datasets.slides.static_check import check_slide

CONFIG = tiling.GridConfig(mpp=0.5, tile_size=128)


@pytest.fixture(scope="module")
def painted():
    return slides.simulate_slide(3, "HSIL", columns=7, rows=5)


@pytest.fixture(scope="module")
def written(painted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    return {
        "generic-tiff": pyramid.write_tiff(folder / "a.tiff", painted),
        "dicom": writers.write_dicom(folder / "dicom", painted),
        "kfb": writers.write_kfb(folder / "a.kfb", painted),
    }


def read(path, mpp=None):
    """Facts, tissue, grid and its tiles."""
    with open_slide(path, mpp) as slide:
        result = tissue.find_tissue(slide)
        covered = tiling.tile_grid(slide.metadata, result, CONFIG)
        batches = [batch for _, batch in tiling.read_tiles(slide, covered, 64)]
        tiles = np.concatenate(batches) if batches else np.empty((0, 128, 128, 3), np.uint8)
        return slide.metadata, result, covered, tiles


def judged(path, mpp=None):
    _, result, _, tiles = read(path, mpp)
    reasons = quality.assess_tiles(tiles)
    return [each.code for each in quality.assess_slide(reasons, result.share)], reasons


def test_a_slide_is_the_same_whatever_is_read_of_it_first(painted):
    again = slides.simulate_slide(3, "HSIL", columns=7, rows=5)
    last = again.tile(6, 4)
    np.testing.assert_array_equal(again.tile(2, 1), painted.tile(2, 1))
    np.testing.assert_array_equal(last, painted.tile(6, 4))
    assert list(again.cells()) == list(painted.cells())


def test_tiles_of_a_slide_meet_without_a_seam(painted):
    left, right = painted.tile(2, 2).astype(int), painted.tile(3, 2).astype(int)
    seam, extra = np.abs(left[:, -1] - right[:, 0]).mean(), np.abs(left[:, -2] - left[:, -1]).mean()
    assert seam < 2 * extra + 2


@pytest.mark.parametrize("kind", ["generic-tiff", "dicom", "kfb"])
def test_a_slide_opens_in_every_format_with_its_scale(written, painted, kind):
    result = check_slide(written[kind])
    assert (result.format, result.levels[0], result.mpp) == (kind, painted.size, (0.5, 0.5))
    with open_slide(written[kind]) as slide:
        assert [level.downsample for level in slide.metadata.levels] == [1, 2]
        assert (slide.metadata.mpp, slide.metadata.mpp_from) == ((0.5, 0.5), "file")


def test_grid_and_pixels_are_identical_in_every_format(written):
    tiff, *others = (read(path) for path in written.values())
    assert len(tiff[2]) > 50
    for _, result, covered, tiles in others:
        np.testing.assert_array_equal(result.mask, tiff[1].mask)
        np.testing.assert_array_equal(covered.positions, tiff[2].positions)
        np.testing.assert_array_equal(tiles, tiff[3])


def test_what_is_stored_is_what_was_painted(written, painted):
    with open_slide(written["generic-tiff"]) as slide:
        stored = slide.read(512, 256, (256, 256)).astype(int)
    assert np.abs(stored - painted.tile(2, 1)).mean() < 4  # JPEG


def test_a_coarser_level_shows_the_finer_one(written):
    with open_slide(written["generic-tiff"]) as slide:
        width, height = slide.metadata.size
        fine = slide.read(0, 0, (width, height)).astype(float)
        coarse = slide.read(0, 0, (width // 2, height // 2), 1)
    shrunk = fine.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    assert np.abs(shrunk - coarse).mean() < 3


def test_a_slide_says_that_it_is_simulated(written):
    with tifffile.TiffFile(written["generic-tiff"]) as file:
        assert "SIMULATED 模拟" in file.pages[0].tags[270].value
        assert file.is_bigtiff
    assert "SIMULATED" in pydicom.dcmread(written["dicom"]).ImageComments


def test_every_cell_is_where_it_is_said_to_be(painted):
    """Nuclei are darker than what lies about them."""
    complete = np.concatenate([np.concatenate([painted.tile(c, r) for c in range(7)], 1) for r in range(5)])
    red = np.pad(complete[..., 0].astype(float), 24, mode="edge")
    cells = [cell for cell in painted.cells() if cell.kind == "intermediate"]
    assert len(cells) > 20
    around = np.array([np.median(red[cell.y : cell.y + 49, cell.x : cell.x + 49]) for cell in cells])
    assert (complete[[cell.y for cell in cells], [cell.x for cell in cells], 0] < around - 20).mean() > 0.9


@pytest.mark.parametrize("label", range(len(CLASSES)))
@pytest.mark.parametrize("shape", [(1, 1), (6, 5)])
def test_the_worst_cell_of_a_slide_is_of_its_label(label, shape):
    for seed in range(2):
        painted = slides.simulate_slide(seed, label, *shape)
        assert max((cell.label for cell in painted.cells()), default=0) == label


def test_a_tile_is_labelled_by_the_worst_nucleus_well_inside_it():
    places = np.array([[0, 0], [128, 0]])
    cells = [slides.TrueCell(64, 64, 1, ""), slides.TrueCell(30, 70, 0, "")]
    assert list(slides.worst_labels(cells, places, (128, 128), 0.5)) == [1, 0]
    cut = slides.TrueCell(126, 64, 3, "")  # 1 um from the side
    assert list(slides.worst_labels([*cells, cut], places, (128, 128), 0.5)) == [-1, -1]
    assert list(slides.worst_labels([*cells, cut._replace(x=100)], places, (128, 128), 0.5)) == [3, 0]


def test_a_sound_slide_is_fit(written):
    faults, reasons = judged(written["generic-tiff"])
    assert faults == []
    assert (reasons == "").mean() > 0.95


@pytest.mark.parametrize("fault", ["all_background", "out_of_focus", "pen_marks"])
def test_a_fault_on_demand_sends_the_slide_back(tmp_path, fault):
    path = pyramid.write_tiff(tmp_path / "a.tiff", slides.simulate_slide(3, "LSIL", 7, 5, defect=fault))
    assert judged(path)[0] == [fault]


def test_a_slide_without_a_scale_is_refused_and_fit_once_it_is_given(tmp_path):
    painted = slides.simulate_slide(3, "LSIL", 4, 3, defect="no_scale")
    paths = [pyramid.write_tiff(tmp_path / "a.tiff", painted), writers.write_dicom(tmp_path / "dicom", painted)]
    for path in [*paths, writers.write_kfb(tmp_path / "a.kfb", painted)]:
        with pytest.raises(SlideError) as refused:
            read(path)
        assert refused.value.codes == ("no_scale",)
        assert judged(path, mpp=0.5)[0] == []


def test_a_wrong_stain_has_a_colour_that_no_sound_slide_has(tmp_path):
    green = slides.simulate_slide(3, "HSIL", 4, 3, defect="wrong_stain").tile(1, 1)
    sound = [slides.simulate_slide(seed, "HSIL", 4, 3).tile(1, 1) for seed in range(4)]

    def stained(pixels):
        return pixels[np.ptp(pixels, axis=-1) > 30].astype(float).mean(0)

    assert all(np.abs(stained(green) - stained(each)).max() > 25 for each in sound)


def test_another_scale_has_larger_cells_and_says_so(tmp_path):
    path = pyramid.write_tiff(tmp_path / "a.tiff", slides.simulate_slide(3, "NILM", 6, 4, mpp=0.25))
    facts, _, covered, _ = read(path)
    assert facts.mpp == (0.25, 0.25)
    assert covered.extent == (256, 256)


def test_memory_is_flat_in_the_height_of_a_slide(tmp_path):
    """Of a process that writes one ten times as high, and one that repeats a block over 40,000 x 30,000 pixels."""
    program = (
        "import sys, resource; from datasets.slides.simulate import pyramid, slides\n"
        "columns, rows, repeat = map(int, sys.argv[2:])\n"
        "pyramid.write_tiff(sys.argv[1], slides.simulate_slide(1, 'HSIL', columns, rows, repeat_tiles=repeat))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )

    def peak(*shape):
        words = [sys.executable, "-c", program, str(tmp_path / "a.tiff"), *map(str, shape)]
        return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)  # MiB

    low = peak(3, 4, 0)
    assert peak(3, 40, 0) < low + 10
    assert peak(156, 117, 4) < low + 100


def test_a_slide_that_repeats_is_the_same_block_over_and_over(tmp_path):
    painted = slides.simulate_slide(2, "LSIL", 9, 6, repeat_tiles=4)
    path = pyramid.write_tiff(tmp_path / "a.tiff", painted)
    with open_slide(path) as slide:
        block = slide.read(0, 0, (1_024, 1_024))
        np.testing.assert_array_equal(slide.read(1_024, 0, (1_024, 1_024)), block)
        coarse = slide.read(0, 0, (512, 512), 1)
        np.testing.assert_array_equal(slide.read(1_024, 0, (512, 512), 1), coarse)
    cells = {(cell.x, cell.y) for cell in painted.cells()}
    inner = [(x, y) for x, y in cells if 0 <= x < 1_024 and 0 <= y < 512]
    assert inner
    assert all((x + 1_024, y) in cells for x, y in inner)


def test_the_command_line_writes_slides_and_their_truth(tmp_path):
    words = [sys.executable, "-m", "datasets", "simulate", "slides", "--out", str(tmp_path), "--slides", "4"]
    done = subprocess.run([*words, "--columns", "3", "--rows", "2"], check=True, capture_output=True, text=True)
    assert "SIMULATED" in done.stdout
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["simulated"] is True
    assert [each["label"] for each in truth["slides"].values()] == list(CLASSES)
    for name, each in truth["slides"].items():
        assert check_slide(tmp_path / name).levels[0] == tuple(each["size"])
        assert {"x", "y", "class", "kind"} == set(each["cells"][0])


def test_a_slide_that_cannot_be_is_refused_with_all_that_is_wrong():
    with pytest.raises(DataError) as refused:
        slides.simulate_slide(-1, "ASC-H", 0, 3, mpp=9, defect="torn", repeat_tiles=3)
    message = str(refused.value)
    assert all(word in message for word in ("seed", "ASC-H", "0 x 3", "mpp", "torn", "power of two"))
