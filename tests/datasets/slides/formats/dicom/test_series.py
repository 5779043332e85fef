"""Instances of one series that are no pyramid: the one in bright field and focal planes are read, others refused."""

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from datasets.slides.deidentification.deidentify import deidentify_slide
from datasets.slides.errors import SlideError
from datasets.slides.reader import open_slide
from datasets.slides.static_check import check_slide
from tests.datasets.slides.decoding.test_dicom import paths_of
from tests.datasets.slides.dicom_files import image
from tests.datasets.slides.slide_files import painted

PIXELS, OTHER = painted(200, 150), painted(200, 150, seed=5)
FLUORESCENCE, BRIGHTFIELD = "111743", "111744"


@pytest.mark.parametrize("opened", ["a.dcm", "b.dcm"])
def test_of_optical_paths_in_separate_instances_the_one_in_bright_field_is_read(tmp_path, opened):
    image(tmp_path, "a.dcm", [OTHER], "explicit", attributes={"OpticalPathSequence": paths_of(FLUORESCENCE)})
    attributes = {"OpticalPathSequence": paths_of(BRIGHTFIELD)}
    image(tmp_path, "b.dcm", [PIXELS], "explicit", instance=2, attributes=attributes)
    (tmp_path / "copy").mkdir()
    copy = deidentify_slide(tmp_path / opened, tmp_path / "copy", key=bytes(32)).path
    for path in (tmp_path / opened, copy):
        with open_slide(path) as slide:
            np.testing.assert_array_equal(slide.read(0, 0, (200, 150)), PIXELS)


def test_instances_of_the_same_size_are_refused_as_separate_planes(tmp_path):
    for number in range(3):
        path = image(tmp_path, f"{number}.dcm", [PIXELS], "explicit", instance=number)
    image(tmp_path, "coarse.dcm", [painted(100, 75)], "explicit", instance=9)
    with pytest.raises(SlideError, match="3 of its instances have the same 200 x 150 pixels.*TILED_FULL") as refused:
        check_slide(path)
    assert refused.value.codes == ("separate_planes",)
    assert "焦平面" in refused.value.zh()


PLANES = [painted(200, 150, seed=seed) for seed in range(3)]
SHARED, ORIGIN, FRAMES = "in shared groups", "in the origin", "in each frame"


def write_planes(folder, where, heights=(0.0, 1.5, 3.0), codecs=("explicit",) * 3):
    """The planes as instances whose names tell nothing of their order; returns one of them."""
    for name, pixels, height, codec in zip("bca", PLANES, heights, codecs, strict=True):
        path = image(folder, f"{name}.dcm", [pixels], codec, sparse=where == FRAMES, instance=ord(name))
        data = dcmread(path)
        position = Dataset()
        position.ZOffsetInSlideCoordinateSystem = height
        if where == SHARED:
            data.SharedFunctionalGroupsSequence[0].PlanePositionSlideSequence = Sequence([position])
        elif where == ORIGIN:
            data.TotalPixelMatrixOriginSequence = Sequence([position])
        for item in data.get("PerFrameFunctionalGroupsSequence", ()):
            item.PlanePositionSlideSequence[0].ZOffsetInSlideCoordinateSystem = height
        data.save_as(path)
    return path


@pytest.mark.parametrize("where", [SHARED, ORIGIN, FRAMES])
def test_focal_planes_in_separate_instances_are_read_from_the_slide_upwards(tmp_path, where):
    path = write_planes(tmp_path / "in", where)
    image(tmp_path / "in", "coarse.dcm", [painted(100, 75)], "explicit", instance=1)
    (tmp_path / "copy").mkdir()
    copy = deidentify_slide(path, tmp_path / "copy", key=bytes(32)).path
    for each in (path, copy):
        with open_slide(each) as slide:
            assert slide.metadata.planes == 3
            assert [(level.width, level.height) for level in slide.metadata.levels] == [(200, 150), (100, 75)]
            for number, plane in enumerate(PLANES):
                np.testing.assert_array_equal(slide.read(0, 0, (200, 150), plane=number), plane)
    assert len(list((tmp_path / "copy").iterdir())) == 2


@pytest.mark.parametrize("where", [SHARED, ORIGIN, FRAMES])
@pytest.mark.parametrize("heights", [(0.0, 1.5, 1.5), (2.0, 2.0, 2.0)])
def test_instances_of_one_height_are_no_focal_planes(tmp_path, where, heights):
    with pytest.raises(SlideError) as refused:
        check_slide(write_planes(tmp_path, where, heights))
    assert refused.value.codes == ("separate_planes",)


def test_scans_of_several_codecs_are_no_focal_planes(tmp_path):
    with pytest.raises(SlideError) as refused:
        check_slide(write_planes(tmp_path, SHARED, codecs=("explicit", "explicit", "jpeg-2000")))
    assert refused.value.codes == ("separate_planes",)
