"""Instances of one series that are no pyramid: the one in bright field is read, others are refused by their name."""

import numpy as np
import pytest

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
