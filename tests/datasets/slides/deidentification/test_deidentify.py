"""After stripping the label is gone from the bytes, and the slide's pixels are as they were."""

import numpy as np
import pydicom
from PIL import Image

from datasets.slides.deidentification import deidentify
from datasets.slides.reader import open_slide
from datasets.slides.simulate import writers
from datasets.slides.simulate.slides import simulate_slide
from tests.datasets.slides.slide_files import kfb, painted

KEY = bytes(32)


def deidentify_slide(path, folder):
    return deidentify.deidentify_slide(path, folder, key=KEY).path


def same_pixels(original, stripped):
    with open_slide(original) as first, open_slide(stripped) as second:
        assert first.metadata == second.metadata
        for level in range(len(first.metadata.levels)):
            np.testing.assert_array_equal(
                first.read(300, 200, (400, 300), level), second.read(300, 200, (400, 300), level)
            )


def test_a_kfb_loses_macro_and_label_and_no_pixel(tmp_path, store):
    (tmp_path / "a.kfb").write_bytes(kfb(painted(900, 700)))
    stripped = deidentify_slide(tmp_path / "a.kfb", store)
    same_pixels(tmp_path / "a.kfb", stripped)
    assert stripped.read_bytes().count(b"\xff\xd8\xff") == (tmp_path / "a.kfb").read_bytes().count(b"\xff\xd8\xff") - 2


def test_of_a_dicom_series_only_the_volumes_are_copied(tmp_path, store):
    volume = writers.write_dicom(tmp_path / "series", simulate_slide(1, "NILM", 2, 2))
    label = pydicom.dcmread(volume)
    label.ImageType, label.SOPInstanceUID = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"], "1.2.3.4"
    label.save_as(tmp_path / "series" / "label.dcm")
    levels = len(list(volume.parent.glob("level_*.dcm")))
    deidentify_slide(tmp_path / "series" / "label.dcm", store)
    assert sorted(path.name for path in store.iterdir()) == [f"slide-{number:04d}.dcm" for number in range(levels)]


def same_pixels_of_one_level(original, stripped):
    with open_slide(original) as first, open_slide(stripped) as second:
        np.testing.assert_array_equal(first.read(0, 0, (64, 64)), second.read(0, 0, (64, 64)))


def test_the_words_beside_a_flat_picture_are_gone_and_its_pixels_are_as_they_were(tmp_path, store):
    from PIL.PngImagePlugin import PngInfo

    picture, words = Image.fromarray(painted(120, 80)), PngInfo()
    words.add_text("Patient", "Zhang San")
    words.add_itxt("Name", "Zhang San", zip=False)
    exif = Image.Exif()
    exif[0x010E] = "Zhang San"
    picture.save(tmp_path / "a.png", pnginfo=words, exif=exif)
    picture.save(tmp_path / "a.jpg", comment=b"Zhang San", exif=exif)
    for name in ("a.png", "a.jpg"):
        assert b"Zhang" in (tmp_path / name).read_bytes()
        stripped = deidentify_slide(tmp_path / name, store)
        assert b"Zhang" not in stripped.read_bytes()
        same_pixels_of_one_level(tmp_path / name, stripped)
