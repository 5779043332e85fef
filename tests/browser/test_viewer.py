"""The viewer's page: what it tells, its states, its languages, whom it can be read by."""

from __future__ import annotations

import pytest

from tests.browser.browser_helpers import CONTRAST, ID, opened, painted, settled
from tests.browser.clinic import TOKEN, read, row
from tests.browser.conftest import shot
from tests.serving.pathology.fake_readings import READING


def test_a_read_slide_is_shown_with_its_result_and_where_it_comes_from(page, clinic):
    opened(page, clinic)
    settled(page)
    words = page.inner_text("#panel")
    for told in ("Positive", "0.934", "0.082", "73.1 %", "Satisfactory for evaluation.", "HPV 16 was found", "DRAFT"):
        assert told in words, told
    assert page.inner_text("#simulated").startswith("SIMULATED")
    page.click(".origin summary")
    assert READING["model"]["bundle"] in page.inner_text(".origin")
    assert sum(painted(page)) > 0
    shot(page, "ready")


def test_both_languages_are_there_and_the_choice_is_remembered(page, clinic):
    opened(page, clinic)
    assert "阳性" not in page.inner_text("#panel")
    page.click("[data-choose=zh]")
    assert "阳性" in page.inner_text("#panel")
    assert "Positive" not in page.inner_text("#panel .triage")
    page.reload()
    page.wait_for_selector("#panel .triage")
    assert page.inner_text("#panel .triage") == "阳性"
    settled(page)
    shot(page, "chinese")
    page.click("[data-choose=both]")
    assert page.inner_text("#panel .triage").split() == ["Positive", "阳性"]
    shot(page, "both")


def test_a_slide_that_is_being_read_tells_of_itself_until_it_is_read(page, clinic):
    clinic.slides[ID] = row(ID, "queued")
    done = [("progress", {"done": at, "total": 311}) for at in (64, 192, 311)]
    clinic.events[ID] = [("state", {"state": "inferring"}), *done, ("state", read(ID))]
    page.goto(f"/console/slides/{ID}")
    page.wait_for_selector(".steps .current")
    page.get_by_text("192 / 311").wait_for()
    shot(page, "progress")
    page.wait_for_selector("#panel .triage.positive")
    page.wait_for_selector("#evidence-list canvas")
    settled(page)


@pytest.mark.parametrize("state", ["failed", "quality_failed", "cancelled"])
def test_a_slide_that_failed_gives_its_reasons_and_a_way_on(page, clinic, state):
    why = {
        "code": "ifd_loop",
        "en": "image directory 3 leads back to one already read",
        "zh": "第 3 个图像目录指回已读目录",
    }
    clinic.slides[ID] = row(ID, state, code="ifd_loop", reasons=[why])
    page.goto(f"/console/slides/{ID}")
    page.wait_for_selector(".card.bad")
    assert "leads back to one already read" in page.inner_text(".card.bad")
    assert page.get_attribute(".card.bad a", "href") == "/console/slides"
    shot(page, state)


def test_an_unknown_slide_is_told_so(page, clinic):
    page.goto(f"/console/slides/{ID}")
    page.wait_for_selector(".card.bad")
    shot(page, "unknown")
    page.wrong[:] = [each for each in page.wrong if "404" not in each]


def test_text_has_the_contrast_of_wcag_aa_and_every_field_a_name(page, clinic):
    opened(page, clinic)
    page.fill("#token", TOKEN)
    page.click("text=Open for review")
    page.wait_for_selector("#diagnosis")
    page.click(".origin summary")
    settled(page)
    assert page.evaluate(CONTRAST) == []
    nameless = """() => [...document.querySelectorAll("button, input, select, textarea, a")]
        .filter((each) => each.checkVisibility() && !(each.labels && each.labels.length))
        .filter((each) => !each.getAttribute("aria-label") && !each.textContent.trim()).map((each) => each.outerHTML)"""
    assert page.evaluate(nameless) == []


def test_focus_is_seen(page, clinic):
    opened(page, clinic)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"
