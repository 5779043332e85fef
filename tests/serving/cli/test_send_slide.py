"""send-slide against the real service: one file, an MRXS, a folder, and a connection that is lost on the way."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from serving.cli import send_slide
from tests.browser.lossy_proxy import LossyProxy
from tests.serving.pathology.conftest import FORM, sha256, slide_service  # noqa: F401


def put(folder: Path, *names: str) -> dict[str, bytes]:
    files = {name: os.urandom(1_000) for name in names}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return files


def read(service, slide: str) -> dict:
    return httpx.get(f"{service.url}/v1/slides/{slide}").json()


def test_one_file_is_sent_with_its_form(slide_service, tmp_path):  # noqa: F811
    [content] = put(tmp_path, "a.svs").values()
    slide = read(slide_service, send_slide.send(slide_service.url, tmp_path / "a.svs", "", FORM | {"age": 46}))
    assert (slide["state"], slide["sha256"], slide["request"]["age"]) == ("verifying", sha256(content), 46)


@pytest.mark.parametrize(("path", "names", "expected"), [
    ("C1.mrxs", ("C1.mrxs", "C1/Slidedat.ini", "C1/Data0000.dat"), {"C1.mrxs", "C1/Slidedat.ini", "C1/Data0000.dat"}),
    ("series", ("series/1.dcm", "series/sub/2.dcm"), {"series/1.dcm", "series/sub/2.dcm"}),
])  # fmt: skip
def test_the_files_of_a_slide_are_sent_together(slide_service, tmp_path, path, names, expected):  # noqa: F811
    put(tmp_path, *names)
    put(tmp_path, "another.svs")
    assert set(send_slide.files_of_slide(tmp_path / path)) == expected
    slide = read(slide_service, send_slide.send(slide_service.url, tmp_path / path, "", FORM))
    assert (slide["state"], slide["bytes"]) == ("verifying", 1_000 * len(names))


def test_an_upload_continues_after_its_connection_was_lost(slide_service, tmp_path, monkeypatch):  # noqa: F811
    content = os.urandom(3_000_000)
    (tmp_path / "a.svs").write_bytes(content)
    monkeypatch.setattr(send_slide, "CHUNK_BYTES", 1_000_000)
    proxy = LossyProxy(slide_service.url, 500_000)
    slide = read(slide_service, send_slide.send(proxy.address, tmp_path / "a.svs", "", FORM))
    proxy.close()
    assert proxy.losses == 1
    assert (slide["state"], slide["sha256"]) == ("verifying", sha256(content))


def test_a_folder_without_files_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no file"):
        send_slide.files_of_slide(tmp_path)
