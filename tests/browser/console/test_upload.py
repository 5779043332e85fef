"""A slide of several files, sent from the console: chosen one by one, as a folder, or dropped."""

from __future__ import annotations

import pytest

from datasets.slides.simulate import writers
from datasets.slides.simulate.slides import simulate_slide
from serving.pathology.slides import store as slide_store
from serving.pathology.slides import upload_store
from tests.browser.conftest import screenshot
from tests.browser.console.conftest import TENANT, axe
from tests.serving.pathology.conftest import sha256
from tests.serving.pathology.upload.test_groups import manifest


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A folder with a DICOM series of two instances, and what an operating system adds to it."""
    folder = tmp_path_factory.mktemp("scans") / "C26"
    writers.write_dicom(folder / "series", simulate_slide(seed=5, label="NILM", columns=5, rows=2))
    (folder / ".DS_Store").write_bytes(b"x")
    return folder


def slide_of(page, console):
    """The slide that was sent, and its uploads by path."""
    page.wait_for_selector("#upload-status a.button, #upload-status .refusal")
    assert not page.locator("#upload-status .refusal").count(), page.inner_text("#upload-status")
    slide = page.get_attribute("#upload-status a.button", "href").rpartition("/")[2]
    engine = console.gateway.service.store.engine
    return slide_store.get(engine, slide), {each["path"]: each for each in upload_store.uploads_of_slide(engine, slide)}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_folder_is_sent_as_one_slide_with_the_progress_of_each_file(open_page, console, series, language):
    page = open_page("clinic", language=language)
    page.set_input_files("#folder", str(series))
    assert page.locator("#files .path").all_inner_texts() == ["C26/series/level_0.dcm", "C26/series/level_1.dcm"]
    assert page.inner_text("#selected-file").startswith({"en": "2 files", "zh": "2 个文件"}[language])
    page.fill("#accession", f"C26-0070{language}")
    assert axe(page) == []
    page.click("#submit-upload")
    row, uploads = slide_of(page, console)
    assert page.locator("#files li > :last-child").all_inner_texts() == ["100 %", "100 %"]
    contents = {f"C26/{path.relative_to(series)}": path.read_bytes() for path in series.rglob("*.dcm")}
    assert (row["state"], row["sha256"]) == ("verifying", manifest(contents))
    assert {path: upload["received_sha256"] for path, upload in uploads.items()} == {
        path: sha256(content) for path, content in contents.items()
    }
    assert page.inner_text("#sha256") == row["sha256"]
    assert axe(page) == []
    screenshot(page, f"slides_upload_folder_{language}")


def test_several_files_are_sent_as_one_slide_whose_group_names_none_of_them(open_page, console, series):
    page = open_page("clinic")
    page.set_input_files("#file", [str(path) for path in sorted(series.rglob("*.dcm"))])
    page.fill("#accession", "C26-00710")
    page.click("#submit-upload")
    row, uploads = slide_of(page, console)
    assert row["state"] == "verifying"
    assert set(uploads) == {"level_0.dcm", "level_1.dcm"}
    assert {upload["metadata"]["files"] for upload in uploads.values()} == {"2"}
    assert not [upload for upload in uploads.values() if "level" in upload["metadata"]["group"]]


def test_files_that_are_dropped_are_sent(open_page, console):
    page = open_page("clinic")
    page.evaluate("""() => {
        const data = new DataTransfer();
        for (const name of ["b.dcm", "a.dcm"]) data.items.add(new File([name], name));
        const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true });
        document.querySelector("#drop-zone").dispatchEvent(drop);
    }""")
    page.wait_for_selector("#files li >> nth=1")
    page.fill("#accession", "C26-00711")
    page.click("#submit-upload")
    row, uploads = slide_of(page, console)
    assert row["sha256"] == manifest({"a.dcm": b"a.dcm", "b.dcm": b"b.dcm"})
    assert set(uploads) == {"a.dcm", "b.dcm"}


def test_the_same_files_sent_again_after_the_page_was_closed_complete_their_slide(open_page, console, series):
    page, waiting = open_page("clinic"), []

    def hold_second_file(route):
        """No byte of the second file arrives."""
        created = upload_store.list_uploads(console.gateway.service.store.engine, "open")
        is_second = any(upload["path"] == "level_1.dcm" for upload in created)
        if route.request.method == "PATCH" and is_second and attempt == 0:
            waiting.append(route)
        else:
            route.continue_()

    page.route("**/v1/uploads/*", hold_second_file)
    for attempt in range(2):
        page.set_input_files("#file", [str(path) for path in sorted(series.rglob("*.dcm"))])
        page.fill("#accession", "C26-00712")
        page.click("#submit-upload")
        if attempt == 0:
            page.wait_for_selector("#files li:first-child >> text=100 %")
            page.wait_for_timeout(1_000)
            assert waiting
            (begun,) = slide_store.worklist(
                console.gateway.service.store.engine, 9, tenant=TENANT, accession="C26-00712"
            )
            page.reload()
            page.wait_for_selector("#drop-zone")
    row, _ = slide_of(page, console)
    assert (row["id"], row["state"]) == (begun["id"], "verifying")
