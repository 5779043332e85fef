from __future__ import annotations

import hashlib
import json

from tests.browser.browser_helpers import LOW_CONTRAST_TEXT
from tests.browser.clinic import read_slide_row, slide_row
from tests.browser.conftest import screenshot
from tests.serving.pathology.fake_readings import ABSTAINED, CMU


def fill(page, accession: str = "C2026-000001") -> None:
    page.set_input_files("#file", str(CMU))
    page.fill("#accession", accession)
    page.select_option("#hpv_result", "positive")
    page.fill("#hpv_genotype", "16, 52")
    page.fill("#age", "41")


def test_an_empty_worklist_is_explained(page, clinic):
    page.goto("/console/slides")
    page.wait_for_selector("#worklist .empty >> text=No unsigned slides")
    page.select_option("#state-filter", "signed")
    page.wait_for_selector("#worklist .empty >> text=No slides match")
    page.select_option("#state-filter", "")
    page.wait_for_selector("#worklist .empty >> text=No slides yet")


def test_the_worklist_has_the_most_urgent_slide_first(page, clinic):
    for number, slide in enumerate(
        (slide_row("1" * 32, "inferring", progress={"done": 60, "total": 311}, accession="C-3"),
         read_slide_row("2" * 32, accession="C-1"),
         read_slide_row("3" * 32, "abstained", ABSTAINED | {"priority": 45}, accession="C-2"),
         slide_row("4" * 32, "failed", code="truncated", accession="C-4"),
         read_slide_row("5" * 32, "signed", accession="C-5"))
    ):  # fmt: skip
        clinic.slides[slide["slide_id"]] = slide | {"created": f"2026-11-25T08:0{number}:00Z"}
    page.goto("/console/slides")
    page.wait_for_selector("#worklist tbody tr")
    ranks = [each for each in page.locator(".rank").all_inner_texts() if each != "–"]
    assert ranks == sorted(ranks, key=int, reverse=True)
    assert page.evaluate(LOW_CONTRAST_TEXT) == []
    screenshot(page, "worklist")
    page.click("text=C-1")
    page.wait_for_selector("#panel .triage")


def test_a_slide_is_uploaded_with_the_sha256_computed_in_the_browser(page, clinic):
    page.goto("/console/slides")
    fill(page)
    page.click("#submit-upload")
    page.wait_for_selector("#upload-status a.button")
    screenshot(page, "sent")
    digest = hashlib.sha256(CMU.read_bytes()).hexdigest()
    (upload,) = clinic.uploads.values()
    assert upload["data"].getvalue() == CMU.read_bytes()
    assert upload["metadata"]["sha256"] == digest == page.inner_text("#sha256")
    form = json.loads(upload["metadata"]["request"])
    assert form == {"age": 41, "hpv_result": "positive", "hpv_genotype": ["16", "52"]}
    assert upload["metadata"]["accession"] == "C2026-000001"
    page.click("#upload-status a.button")
    page.wait_for_selector(".steps .current")
    assert "Verifying" in page.inner_text(".steps .current")


def test_an_interrupted_upload_continues_at_its_offset(page, clinic):
    clinic.cut = 1
    page.goto("/console/slides")
    fill(page, "C2026-000002")
    page.click("#submit-upload")
    page.wait_for_selector("#upload-status a.button")
    (upload,) = clinic.uploads.values()
    assert upload["data"].getvalue() == CMU.read_bytes()
    assert any(method == "HEAD" for method, _, _ in clinic.requests)
    page.errors[:] = [error for error in page.errors if "500" not in error]
