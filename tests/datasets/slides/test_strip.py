"""After stripping the label is gone from the bytes, and the slide's pixels are as they were."""

import numpy as np
import openslide
import pytest
from PIL import Image

from datasets.slides.check import check
from datasets.slides.faults import SlideRefused
from datasets.slides.reader import open_slide
from datasets.slides.strip import strip
from tests.datasets.slides.written import CMU, dicom, kfb, one_image, painted, tiled


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def same_pixels(one, other):
    with open_slide(one) as first, open_slide(other) as second:
        assert first.facts == second.facts
        for level in range(len(first.facts.levels)):
            np.testing.assert_array_equal(
                first.read(300, 200, (400, 300), level), second.read(300, 200, (400, 300), level)
            )


def test_an_svs_loses_label_macro_and_thumbnail_and_no_pixel(store):
    with openslide.OpenSlide(CMU) as slide:
        assert set(slide.associated_images) == {"label", "macro", "thumbnail"}
    stripped = strip(CMU, store)
    with openslide.OpenSlide(stripped) as slide:
        assert not slide.associated_images
    same_pixels(CMU, stripped)
    before, after = (np.frombuffer(path.read_bytes(), np.uint8) for path in (CMU, stripped))
    assert len(before) == len(after)
    assert (after[before != after] == 0).sum() > 100_000  # erased, not only unlinked
    assert len(check(stripped).levels) == 1


def test_a_kfb_loses_macro_and_label_and_no_pixel(tmp_path, store):
    (tmp_path / "a.kfb").write_bytes(kfb(painted(900, 700)))
    stripped = strip(tmp_path / "a.kfb", store)
    same_pixels(tmp_path / "a.kfb", stripped)
    assert stripped.read_bytes().count(b"\xff\xd8\xff") == (tmp_path / "a.kfb").read_bytes().count(b"\xff\xd8\xff") - 2


def test_a_pyramid_without_a_label_is_copied_as_it_is(tmp_path, store):
    (tmp_path / "a.tif").write_bytes(tiled(painted(900, 700)))
    assert strip(tmp_path / "a.tif", store).read_bytes() == (tmp_path / "a.tif").read_bytes()


def test_only_the_first_page_of_a_flat_file_is_kept(tmp_path, store):
    first, second = (Image.fromarray(painted(60, 40, seed)) for seed in (1, 2))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    with Image.open(strip(tmp_path / "a.tif", store)) as image:
        assert image.n_frames == 1
        np.testing.assert_array_equal(np.asarray(image), painted(60, 40, 1))


def test_of_a_dicom_series_only_the_volumes_are_copied(tmp_path, store):
    (tmp_path / "series").mkdir()
    dicom(tmp_path / "series", "a.dcm")
    dicom(tmp_path / "series", "b.dcm", "LABEL")
    strip(tmp_path / "series" / "b.dcm", store)
    assert [path.name for path in store.iterdir()] == ["a.dcm"]


def test_a_format_whose_label_cannot_be_taken_out_is_refused(tmp_path, store):
    (tmp_path / "a.tif").write_bytes(one_image(description="x http://www.leica-microsystems.com/scn/2010/10/01"))
    with pytest.raises(SlideRefused) as refused:
        strip(tmp_path / "a.tif", store)
    assert refused.value.codes == ("label_inside",)
    assert not list(store.iterdir())
