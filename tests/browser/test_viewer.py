"""The viewer's page: its content in every state, its languages, its accessibility."""

from __future__ import annotations

import pytest

from tests.browser.browser_helpers import ID, LOW_CONTRAST_TEXT, mean_colour, open_slide, wait_until_still
from tests.browser.clinic import TOKEN, read_slide_row, slide_row
from tests.browser.conftest import screenshot
from tests.serving.pathology.fake_readings import READING


def test_a_read_slide_is_displayed_with_its_result_and_provenance(page, clinic):
    open_slide(page, clinic)
    wait_until_still(page)
    words = page.inner_text("#panel")
    for expected in (
        "Positive",
        "0.934",
        "0.082",
        "73.1 %",
        "Satisfactory for evaluation.",
        "HPV 16 was found",
        "DRAFT",
    ):
        assert expected in words, expected
    assert page.inner_text("#simulated").startswith("SIMULATED")
    page.click(".origin summary")
    assert READING["model"]["bundle"] in page.inner_text(".origin")
    assert sum(mean_colour(page)) > 0
    screenshot(page, "ready")


def test_the_language_can_be_chosen_and_is_remembered(page, clinic):
    open_slide(page, clinic)
    assert "阳性" not in page.inner_text("#panel")
    page.click("[data-choose=zh]")
    assert "阳性" in page.inner_text("#panel")
    assert "Positive" not in page.inner_text("#panel .triage")
    page.reload()
    page.wait_for_selector("#panel .triage")
    assert page.inner_text("#panel .triage") == "阳性"
    wait_until_still(page)
    screenshot(page, "chinese")
    page.click("[data-choose=both]")
    assert page.inner_text("#panel .triage").split() == ["Positive", "阳性"]
    screenshot(page, "both")


def test_the_page_follows_a_slide_until_it_has_been_read(page, clinic):
    clinic.slides[ID] = slide_row(ID, "queued")
    done = [("progress", {"done": tiles_done, "total": 311}) for tiles_done in (64, 192, 311)]
    clinic.events[ID] = [("state", {"state": "inferring"}), *done, ("state", read_slide_row(ID))]
    page.goto(f"/console/slides/{ID}")
    page.wait_for_selector(".steps .current")
    page.get_by_text("192 / 311").wait_for()
    screenshot(page, "progress")
    page.wait_for_selector("#panel .triage.positive")
    page.wait_for_selector("#evidence-list canvas")
    wait_until_still(page)


@pytest.mark.parametrize("state", ["failed", "quality_failed", "cancelled"])
def test_a_failed_slide_gives_its_reasons_and_a_link_to_the_worklist(page, clinic, state):
    reason = {
        "code": "ifd_loop",
        "en": "image directory 3 leads back to one already read",
        "zh": "第 3 个图像目录指回已读目录",
    }
    clinic.slides[ID] = slide_row(ID, state, code="ifd_loop", reasons=[reason])
    page.goto(f"/console/slides/{ID}")
    page.wait_for_selector(".card.bad")
    assert "leads back to one already read" in page.inner_text(".card.bad")
    assert page.get_attribute(".card.bad a", "href") == "/console/slides"
    screenshot(page, state)


def test_a_slide_without_a_scale_asks_for_it(page, clinic):
    reason = {
        "code": "no_scale",
        "en": "it does not say how many microns a pixel is",
        "zh": "文件未说明比例",
        "scales": [],
    }
    clinic.slides[ID] = slide_row(ID, "awaiting_scale", code="no_scale", reasons=[reason])
    page.goto(f"/console/slides/{ID}")
    page.wait_for_selector("#scales", state="attached")
    assert page.inner_text(".card h2") == "What is the scale?"
    assert "does not state how many microns a pixel is" in page.inner_text(".card")
    screenshot(page, "no-scale")


def test_an_unknown_slide_has_an_error_page(page, clinic):
    page.goto(f"/console/slides/{ID}")
    page.wait_for_selector(".card.bad")
    screenshot(page, "unknown")
    page.errors[:] = [error for error in page.errors if "404" not in error]


def test_text_has_wcag_aa_contrast_and_every_field_has_a_name(page, clinic):
    open_slide(page, clinic)
    page.fill("#token", TOKEN)
    page.click("text=Open for review")
    page.wait_for_selector("#diagnosis")
    page.click(".origin summary")
    wait_until_still(page)
    assert page.evaluate(LOW_CONTRAST_TEXT) == []
    nameless = """() => [...document.querySelectorAll("button, input, select, textarea, a")]
        .filter((each) => each.checkVisibility() && !(each.labels && each.labels.length))
        .filter((each) => !each.getAttribute("aria-label") && !each.textContent.trim()).map((each) => each.outerHTML)"""
    assert page.evaluate(nameless) == []


def test_the_focus_is_visible(page, clinic):
    open_slide(page, clinic)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"
