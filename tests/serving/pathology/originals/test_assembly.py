"""Which file of a folder a slide is opened by: MRXS, DICOM series, one slide among pictures; or why none is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from datasets.slides import static_check
from datasets.slides.errors import SlideError
from datasets.slides.simulate import pyramid, writers
from datasets.slides.simulate.slides import simulate_slide
from serving.pathology.originals import assembly, dicom_header
from tests.serving.pathology.originals.test_archive import write_zip

JPEG = b"\xff\xd8\xff\xe0" + b"x" * 200


@pytest.fixture(scope="module")
def tiff(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("tiff") / "a.tiff"
    return pyramid.write_tiff(path, simulate_slide(seed=5, label="NILM", columns=2, rows=2)).read_bytes()


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> dict[str, bytes]:
    """File name -> content of the instances of a DICOM series."""
    slide = simulate_slide(seed=5, label="NILM", columns=8, rows=6)
    first = writers.write_dicom(tmp_path_factory.mktemp("dicom") / "series", slide)
    return {path.name: path.read_bytes() for path in sorted(first.parent.iterdir())}


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def find(folder: Path) -> str:
    return str(assembly.find_slide(folder, "sent.zip").relative_to(folder))


def code(folder: Path) -> str:
    with pytest.raises(SlideError) as refused:
        assembly.find_slide(folder, "sent.zip")
    [code] = refused.value.codes
    return code


def test_the_slide_is_found_beside_pictures_texts_and_what_systems_add(tmp_path, tiff):
    others = {"label.jpg": JPEG, "notes.txt": b"C26", ".DS_Store": b"x", "__MACOSX/._a.tiff": tiff, "Thumbs.db": b"x"}
    assert find(put(tmp_path, {"export/a.tiff": tiff} | others)) == "export/a.tiff"


def test_a_slide_of_a_format_that_is_not_read_is_found_and_then_refused_by_its_name(tmp_path):
    files = {"a/scan.czi": b"ZISRAWFILE" + bytes(100), "a/report.pdf": b"%PDF-1.7", "a/notes.txt": b"C26"}
    assert find(put(tmp_path, files)) == "a/scan.czi"
    with pytest.raises(SlideError, match=r"scan\.czi: it is Zeiss CZI.*from ZEN"):
        static_check.check_slide(tmp_path / "a" / "scan.czi")


def test_a_picture_alone_is_the_slide(tmp_path):
    assert find(put(tmp_path, {"a/smear.jpg": JPEG, "readme.txt": b""})) == "a/smear.jpg"


def test_mirax_is_opened_by_its_file_and_never_by_what_lies_in_its_folder(tmp_path, tiff):
    folder = {"out/C 1/Slidedat.ini": b"[GENERAL]", "out/C 1/Data0000.dat": JPEG, "out/C 1/Index.dat": tiff}
    assert find(put(tmp_path, {"out/C 1.mrxs": JPEG} | folder)) == "out/C 1.mrxs"
    (tmp_path / "out/C 1.mrxs").unlink()
    assert code(tmp_path) == "no_slide"


def test_two_slides_are_refused_with_their_formats_and_without_their_names(tmp_path, tiff):
    put(tmp_path, {"Zhang.tiff": tiff, "b.tiff": tiff})
    with pytest.raises(SlideError, match=r"2 slides \(tiff, tiff\)") as refused:
        assembly.find_slide(tmp_path, "sent.zip")
    assert "Zhang" not in str(refused.value)


def test_files_without_a_slide_are_refused(tmp_path):
    assert code(put(tmp_path, {"a.txt": b"x", "b.zip": b"PK\x03\x04"})) == "no_slide"
    assert code(put(tmp_path / "none", {".hidden": b"x"})) == "no_slide"


def test_a_series_is_one_slide_also_where_each_instance_has_a_folder_of_its_own(tmp_path, series):
    scattered = {f"DICOM/ST0/SE{number}/I0": content for number, content in enumerate(series.values())}
    path = assembly.find_slide(put(tmp_path, scattered | {"DICOMDIR": bytes(128) + b"DICM"}), "sent.zip")
    checked = static_check.check_slide(path)
    assert checked.format == "dicom"
    assert len(checked.files) == len([content for content in series.values() if b"VOLUME" in content])
    assert assembly.find_slide(tmp_path, "sent.zip") == path, "repeated after a crash it is the same"


def test_two_series_are_two_slides(tmp_path, series):
    header = dicom_header.parse_header(next(iter(series.values())))
    other_series = header.series[:-1] + ("1" if header.series[-1] != "1" else "2")
    others = {f"2-{name}": content.replace(header.series.encode(), other_series.encode())
              for name, content in series.items()}  # fmt: skip
    assert code(put(tmp_path, series | others)) == "several_slides"


def test_the_files_of_a_group_lie_as_they_lay_and_have_the_digest_that_sha256sum_prints(tmp_path, series):
    import hashlib

    paths = {f"{number:032x}": f"a/{name}" for number, name in enumerate(series)}
    original = put(tmp_path / "quarantine/C26", {upload: series[Path(path).name] for upload, path in paths.items()})
    lines = [f"{hashlib.sha256(series[Path(path).name]).hexdigest()}  {path}\n" for path in sorted(paths.values())]
    assert assembly.sha256_of(original, paths) == hashlib.sha256("".join(lines).encode()).hexdigest()
    first = assembly.locate_slide(original, paths)
    assert first.parent == tmp_path / "quarantine/.files/a"
    assert assembly.locate_slide(original, paths) == first
    static_check.check_slide(first)


def test_a_zip_is_unpacked_once_and_again_after_a_crash(tmp_path, tiff):
    original = tmp_path / "quarantine/a.zip"
    original.parent.mkdir()
    write_zip(original, {"x/a.tiff": tiff})
    (tmp_path / "quarantine/.files.unpacking/half").mkdir(parents=True)
    path = assembly.locate_slide(original, {})
    assert path.read_bytes() == tiff
    inode = path.stat().st_ino
    assert assembly.locate_slide(original, {}).stat().st_ino == inode
    assert not (tmp_path / "quarantine/.files.unpacking").exists()


def test_one_file_stays_where_it_is(tmp_path, tiff):
    path = put(tmp_path, {"a.tiff": tiff}) / "a.tiff"
    assert assembly.locate_slide(path, {}) == path
    shutil.rmtree(tmp_path)
