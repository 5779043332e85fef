"""After stripping the label is gone from the bytes, and the slide's pixels are as they were."""

import numpy as np
import pydicom
import pytest
from PIL import Image

from datasets.slides.deidentification import deidentify
from datasets.slides.reader import open_slide
from datasets.slides.simulate import writers
from datasets.slides.simulate.slides import simulate_slide
from datasets.slides.static_check import check_slide
from tests.datasets.slides.slide_files import kfb, painted

KEY = bytes(32)


def deidentify_slide(path, folder):
    return deidentify.deidentify_slide(path, folder, key=KEY).path


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


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


def test_a_dicom_loses_every_word_about_people_at_any_depth_and_no_pixel(tmp_path, store):
    original = writers.write_dicom(tmp_path / "series", simulate_slide(1, "NILM", 2, 2))
    complete = pydicom.dcmread(original)
    complete.PatientName, complete.PatientID, complete.PatientBirthDate = "Zhang^San", "330281196103", "19610304"
    complete.AccessionNumber, complete.StudyDate, complete.OperatorsName = "ACC-77", "20260101", "Li^Si"
    complete.ContainerIdentifier = "TUBE-88"
    specimen = pydicom.Dataset()
    specimen.SpecimenIdentifier = "SPECIMEN-99"
    specimen.SpecimenShortDescription = "of Zhang San"
    complete.SpecimenDescriptionSequence = pydicom.Sequence([specimen])
    complete.add_new((0x0099, 0x0010), "LO", "MAKER")
    complete.add_new((0x0099, 0x1001), "LO", "Zhang San again")
    complete.save_as(original)
    before = original.read_bytes()
    names = (b"Zhang", b"330281196103", b"19610304", b"ACC-77", b"20260101", b"Li^Si", b"TUBE-88", b"SPECIMEN-99")
    assert all(name in before for name in names)
    stripped = deidentify_slide(original, store)
    assert not [name for name in names if name in stripped.read_bytes()]
    again = pydicom.dcmread(stripped)
    assert (str(again.PatientName).strip(), again.SeriesInstanceUID) == ("", complete.SeriesInstanceUID)
    assert again.PixelData == complete.PixelData
    assert check_slide(stripped).mpp == check_slide(original).mpp


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
