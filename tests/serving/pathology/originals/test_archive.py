"""ZIPs from clinics: unpacked within bounds, and refused with a reason before or while they do harm."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.slides.errors import SlideError
from datasets.slides.limits import SlideLimits
from serving.pathology.originals import archive

FILES = {"slide/CMU-1.mrxs": b"label", "slide/CMU-1/Slidedat.ini": b"[GENERAL]", "片子/数据.dat": os.urandom(5_000)}


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def unpack(path: Path, **limits: int) -> dict[str, bytes]:
    folder = path.parent / "out"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    archive.unpack(path, folder, SlideLimits(**limits))
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def codes(path: Path, **limits: int) -> tuple[str, ...]:
    with pytest.raises(SlideError) as refused:
        unpack(path, **limits)
    for issue in refused.value.issues:
        assert issue.en
        assert issue.zh
    assert not (path.parent / "outside").exists()
    return refused.value.codes


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_all_files_are_unpacked_as_they_were(tmp_path, method):
    path = write_zip(tmp_path / "a.zip", FILES, method)
    assert archive.is_archive(path)
    assert unpack(path) == FILES


@pytest.mark.parametrize("name", [
    "../outside", "/outside", "a/../../outside", "..\\outside", "C:\\outside", "C:outside", "a//b", "./a", "a/./b",
    "con\x01trol", "a/b/c/d/e/f/g/h/i", "x" * 300,
])  # fmt: skip
def test_a_name_that_is_no_plain_path_is_refused(tmp_path, name):
    path = write_zip(tmp_path / "a.zip", {"fine.svs": b"x", "PLACE/HOLDER": b"y"})
    content = path.read_bytes()
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            info = zipfile.ZipInfo("fine.svs")
            info.filename = name if entry.filename.startswith("PLACE") else entry.filename
            target.writestr(info, source.read(entry))
    assert codes(path) == ("outside",)


def test_backslashes_that_programs_of_windows_write_separate_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        entry = zipfile.ZipInfo("a")
        entry.filename = "C1\\Slidedat.ini"
        packed.writestr(entry, b"x")
    assert unpack(tmp_path / "a.zip") == {"C1/Slidedat.ini": b"x"}


def test_a_link_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        link = zipfile.ZipInfo("slide.svs")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/etc/passwd")
    assert codes(tmp_path / "a.zip") == ("outside",)


def test_names_that_differ_in_case_alone_are_refused(tmp_path):
    assert codes(write_zip(tmp_path / "a.zip", {"A.svs": b"1", "a.SVS": b"2"})) == ("duplicate",)


def test_too_many_files_are_refused_before_their_names_are_read(tmp_path):
    path = write_zip(tmp_path / "a.zip", {f"{number}.dcm": b"" for number in range(30)}, zipfile.ZIP_STORED)
    assert codes(path, files=10) == ("too_many",)
    assert codes(write_zip(tmp_path / "b.zip", {f"{n}.dcm": b"" for n in range(15)}), files=10) == ("too_many",)
    long = {"x" * 190 + f"/{number}": b"" for number in range(10)}
    assert codes(write_zip(tmp_path / "c.zip", long), text_bytes=1_000) == ("too_many",)


def test_a_bomb_is_refused_by_what_it_announces(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"slide.tif": bytes(50_000_000)})
    assert path.stat().st_size < 100_000
    assert unpack(path)["slide.tif"] == bytes(50_000_000), "an empty slide is small and is taken"
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 50_000_000), struct.pack("<I", 2_000_000_000)))
    assert codes(path) == ("ratio",)
    assert codes(path, file_bytes=1_000_000) == ("too_large",)


@pytest.mark.parametrize("announced", [10, 49_999_999])
def test_an_archive_that_lies_about_its_sizes_is_stopped_where_the_lie_ends(tmp_path, announced):
    path = write_zip(tmp_path / "a.zip", {"slide.tif": bytes(50_000_000)})
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 50_000_000), struct.pack("<I", announced)))
    assert codes(path) == ("archive",)
    written = sum(file.stat().st_size for file in (tmp_path / "out").rglob("*"))
    assert written <= announced


def test_an_encrypted_archive_is_refused_by_that_word(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"slide.svs": b"x" * 50})
    content = bytearray(path.read_bytes())
    content[6] |= 1
    directory = content.rfind(b"PK\x01\x02")
    content[directory + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(SlideError, match="encrypted; expected an archive without a password"):
        unpack(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_packing_is_refused_by_its_name(tmp_path, method):
    path = write_zip(tmp_path / "a.zip", {"slide.svs": b"x" * 50}, method)
    with pytest.raises(SlideError, match=f"packed by {archive.METHOD_NAMES[method]}"):
        unpack(path)


def test_a_zip64_archive_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed, packed.open("a.svs", "w", force_zip64=True) as file:
        file.write(b"content")
    assert unpack(tmp_path / "a.zip") == {"a.svs": b"content"}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_archive_is_unpacked_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("zip")
    content = bytearray(write_zip(folder / "a.zip", FILES).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.zip").write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        unpack(folder / "a.zip")
    except SlideError as error:
        assert error.issues, "a reason is named"  # noqa: PT017
    assert {path.name for path in folder.iterdir()} <= {"a.zip", "out"}
