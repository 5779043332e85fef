"""A cleaner that leaves something behind, or changes the tissue, is caught for each container."""

import io
import shutil
from dataclasses import replace

import pydicom
import pytest
from PIL import Image

from datasets.slides.deidentification import deidentify
from datasets.slides.deidentification.deidentify import CONTAINERS, deidentify_slide
from datasets.slides.errors import SlideError
from datasets.slides.simulate import writers
from datasets.slides.simulate.slides import simulate_slide
from tests.datasets.slides.mirax_files import write_mirax
from tests.datasets.slides.slide_files import CMU, kfb, one_image, painted

NAME = "TEST PATIENT S26-00001"
KEY = bytes(range(32))


def named_png(folder):
    from PIL.PngImagePlugin import PngInfo

    words = PngInfo()
    words.add_text("Patient", NAME)
    Image.fromarray(painted(96, 64)).save(folder / "a.png", pnginfo=words)
    return folder / "a.png"


def named_jpeg(folder):
    Image.fromarray(painted(96, 64)).save(folder / "a.jpg", comment=NAME)
    return folder / "a.jpg"


def named_kfb(folder):
    (folder / "a.kfb").write_bytes(kfb(painted(300, 200)) + NAME.encode())
    return folder / "a.kfb"


def named_tiff(folder):
    (folder / "a.tif").write_bytes(one_image(description=NAME))
    return folder / "a.tif"


def named_dicom(folder):
    path = writers.write_dicom(folder, simulate_slide(1, "NILM", 2, 2))
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.PatientName = NAME
        dataset.save_as(file)
    return path


ORIGINALS = {
    "aperio": lambda folder: shutil.copy(CMU, folder),
    "tiff": named_tiff,
    "mirax": lambda folder: write_mirax(folder / "m", replaced={"NAME1": NAME}),
    "png": named_png,
    "jpeg": named_jpeg,
    "kfb": named_kfb,
    "dicom": named_dicom,
}


def copied_as_it_is(checked, folder, limits, key):
    """A cleaner that cleans nothing but the names of the files."""
    from datasets.slides.deidentification.container import copy_name

    if checked.format == "mirax":
        shutil.copytree(checked.path.with_suffix(""), folder / "slide")
        return shutil.copy(checked.path, folder / "slide.mrxs") and folder / "slide.mrxs"
    numbers = [None] if len(checked.files) == 1 else range(len(checked.files))
    copies = [folder / copy_name(path, number) for path, number in zip(checked.files, numbers, strict=True)]
    for path, copy in zip(checked.files, copies, strict=True):
        shutil.copy(path, copy)
    return copies[0]


@pytest.fixture(params=list(ORIGINALS))
def original(request, tmp_path):
    (tmp_path / "original").mkdir()
    (tmp_path / "copy").mkdir()
    return ORIGINALS[request.param](tmp_path / "original")


def refused_for(path, folder, known_words=()):
    with pytest.raises(SlideError) as refused:
        deidentify_slide(path, folder, key=KEY, known_words=known_words)
    assert refused.value.codes == ("not_proved",)
    assert "TEST" not in str(refused.value)
    return str(refused.value), refused.value.zh()


def sabotage(monkeypatch, spoil):
    """Replace each container's cleaner by one whose copy is spoilt afterwards."""

    def cleaner(clean):
        def spoilt(checked, folder, limits, key):
            path = clean(checked, folder, limits, key)
            spoil(path)
            return path

        return spoilt

    spoilt = {name: replace(each, clean=cleaner(each.clean)) for name, each in CONTAINERS.items()}
    monkeypatch.setattr(deidentify, "CONTAINERS", spoilt)


def largest_file(path):
    return max((each for each in path.parent.rglob("*") if each.is_file()), key=lambda each: each.stat().st_size)


def test_a_sound_copy_is_proved(original, tmp_path):
    proof = deidentify_slide(original, tmp_path / "copy", key=KEY, known_words=["ACC-77001"]).proof
    assert len(proof.readers) >= 2
    assert {name for name, _ in proof.readers} <= {"OpenSlide", "tifffile", "pydicom", "Pillow", "kfbslide", "Yuheng"}
    assert proof.words > 0
    assert proof.tiles > 0
    assert proof.regions > 0
    assert proof.bytes == sum(each.stat().st_size for each in (tmp_path / "copy").rglob("*") if each.is_file())
    assert proof.original_sha256 != proof.copy_sha256


def test_a_cleaner_that_cleans_nothing_is_caught(original, tmp_path, monkeypatch):
    uncleaned = {name: replace(each, clean=copied_as_it_is) for name, each in CONTAINERS.items()}
    monkeypatch.setattr(deidentify, "CONTAINERS", uncleaned)
    english, chinese = refused_for(original, tmp_path / "copy")
    assert "shows" in english or "word of the original" in english
    assert "读到" in chinese or "原始文件中的词" in chinese


def test_a_word_after_the_last_byte_is_caught_in_any_encoding(original, tmp_path, monkeypatch):
    def append(path):
        with largest_file(path).open("ab") as file:
            file.write("acc 77001-王".encode("utf-16-be"))

    sabotage(monkeypatch, append)
    english, _ = refused_for(original, tmp_path / "copy", ["ACC 77001-王"])
    assert "a word of the original is at byte" in english


def test_one_other_bit_of_a_tile_is_caught(original, tmp_path, monkeypatch):
    def flip(path):
        file = largest_file(path)
        content = bytearray(file.read_bytes())
        start = content.find(b"\xff\xda") + 20 if b"\xff\xda" in content else len(content) // 2
        content[start] ^= 1 if content[start] not in (0xFE, 0xFF) else 2
        file.write_bytes(content)

    sabotage(monkeypatch, flip)
    with pytest.raises(SlideError) as refused:
        deidentify_slide(original, tmp_path / "copy", key=KEY)
    assert set(refused.value.codes) <= {"not_proved", "undecodable", "malformed"}


def test_a_picture_left_in_a_copy_is_caught(tmp_path, monkeypatch):
    """The real label of a real SVS, beside the tissue of its copy."""
    (tmp_path / "copy").mkdir()

    def add_label(path):
        shutil.copy(CMU, path)

    sabotage(monkeypatch, add_label)
    english, _ = refused_for(CMU, tmp_path / "copy")
    assert "OpenSlide shows a picture beside the tissue" in english
    assert "tifffile shows a picture beside the tissue" in english


def test_a_file_more_in_the_folder_of_a_copy_is_searched_too(tmp_path, monkeypatch):
    (tmp_path / "copy").mkdir()
    sabotage(monkeypatch, lambda path: (path.parent / "notes.txt").write_text("S26-00001 test patient"))
    english, _ = refused_for(named_png(tmp_path), tmp_path / "copy")
    assert "notes.txt" in english


def test_a_refusal_does_not_quote_a_name_that_is_a_key(tmp_path, monkeypatch):
    from PIL.PngImagePlugin import PngInfo

    words = PngInfo()
    words.add_text(NAME, "x")
    Image.fromarray(painted(96, 64)).save(tmp_path / "a.png", pnginfo=words)
    (tmp_path / "copy").mkdir()
    monkeypatch.setitem(deidentify.CONTAINERS, "png", replace(CONTAINERS["png"], clean=copied_as_it_is))
    english, _ = refused_for(tmp_path / "a.png", tmp_path / "copy")
    assert "(the name of a text)" in english


def test_a_lossless_picture_decodes_to_the_same_pixels(tmp_path):
    (tmp_path / "copy").mkdir()
    copy = deidentify_slide(named_png(tmp_path), tmp_path / "copy", key=KEY).path
    with Image.open(tmp_path / "a.png") as first, Image.open(io.BytesIO(copy.read_bytes())) as second:
        assert first.tobytes() == second.tobytes()
