"""A slide of each container in the browser: uploaded, de-identified, read, its proof seen and its report signed.

SVS is real; the other containers are SIMULATED around real pixels (tests/datasets/slides/vendor_containers.py).
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from serving.pathology.slides import store as slide_store
from tests.browser.conftest import screenshot
from tests.browser.test_gateway import CHEN, read_slide, service, sign_in, token  # noqa: F401
from tests.datasets.slides.vendor_containers import BARCODE, CASE, CONTAINERS, PATIENT, PLANTED, write_container
from tests.paths import VENDOR_SLIDES

FAST = ("ndpi", "mrxs", "dicom")  # another layout each: a TIFF variant, a folder, a series
SHARED_FILES = ("ndpi", "mrxs", "scn", "bif", "philips")
# format: the independent readers that the proof names
READERS = {"mirax": {"OpenSlide"}, "dicom": {"pydicom", "OpenSlide"}}


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CONTAINERS]
)
def test_a_slide_of_each_container_is_stripped_proved_read_and_signed(page, service, tmp_path, name):  # noqa: F811
    if name in SHARED_FILES and not VENDOR_SLIDES.is_dir():
        pytest.skip("no folder of simulated vendor files")
    gateway, _ = service
    container = CONTAINERS[name][0]
    file = write_container(name, tmp_path / name)
    sign_in(page, gateway, "clinic")
    slide = upload(page, file, accession=CASE)
    read_slide(gateway, slide)
    page.wait_for_selector("#panel .triage")
    assert slide_store.get(gateway.service.store.engine, slide)["reading"]["slide"]["format"] == container

    folder = gateway.settings.paths.slides / slide
    files = [path for path in (folder / "slide").rglob("*") if path.is_file()]
    copy = b"".join(path.read_bytes() + path.name.encode() for path in files)
    assert not [word for word in PLANTED if word in copy]
    assert not (folder / "quarantine").exists()
    page.click("#proof summary")
    page.wait_for_selector("#proof[open] dl")
    proof = page.inner_text("#proof")
    assert "No label, no macro image and no name in this copy" in proof
    for reader in READERS.get(container, {"OpenSlide", "tifffile"}):
        assert re.search(rf"{reader} \d+\.\d+", proof), reader
    tiles, regions = re.search(r"([\d,]+) tiles as stored, ([\d,]+) decoded regions", proof).groups()
    assert int(tiles.replace(",", "")) >= 3
    assert int(regions) >= 4
    assert PATIENT not in page.content()
    assert BARCODE not in page.content()
    screenshot(page, f"container_{name}")

    sign(page, token(gateway, "pathologist", "clinic", **CHEN))
    assert slide_store.get(gateway.service.store.engine, slide)["state"] == "signed"


def upload(page: Any, file: Any, accession: str) -> str:
    """Send a file with the form; returns the slide's id."""
    page.set_input_files("#file", str(file))
    page.fill("#accession", accession)
    page.click("#submit-upload")
    page.click("#upload-status a.button")
    page.wait_for_selector(".steps .current")
    return str(page.url.rpartition("/")[2])


def sign(page: Any, pathologist: str) -> None:
    page.fill("#token", pathologist)
    page.click("text=Open for review")
    page.select_option("#diagnosis", "LSIL")
    page.fill("#findings", "Koilocytes. 可见挖空细胞。")
    page.check("#confirmation")
    page.click("form.sign button[type=submit]")
    page.wait_for_selector(".stamp.final")
    page.wait_for_load_state("networkidle")
