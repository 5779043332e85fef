from __future__ import annotations

import pytest

from tests.browser.clinic import TOKEN, read, row
from tests.browser.conftest import shot
from tests.serving.pathology.readings import ABSTAINED, READING

ID = "0" * 31 + "1"
EDGE = "#image .openseadragon-canvas canvas"


def opened(page, clinic, slide=None):
    clinic.slides[ID] = slide or read(ID)
    page.goto(f"/slides/{ID}")
    page.wait_for_selector("#panel .triage")
    return page


def painted(page) -> list[int]:
    """Mean red, green, blue of what the viewer shows."""
    return page.evaluate(
        """selector => {
            const canvas = document.querySelector(selector);
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const sum = [0, 0, 0];
            for (let at = 0; at < data.length; at += 4) for (const one of [0, 1, 2]) sum[one] += data[at + one];
            return sum.map((each) => Math.round((4 * each) / data.length));
        }""",
        EDGE,
    )


def settled(page) -> None:
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(150)


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


def test_the_heatmap_is_shown_faded_and_hidden(page, clinic):
    opened(page, clinic)
    settled(page)
    with_heat = painted(page)
    page.keyboard.press("h")
    page.wait_for_timeout(150)
    bare = painted(page)
    assert bare != with_heat
    assert page.get_attribute("#heat", "aria-pressed") == "false"
    page.keyboard.press("]")
    assert page.get_attribute("#heat", "aria-pressed") == "true"
    assert page.input_value("#opacity") == "70"
    page.keyboard.press("[")
    page.keyboard.press("[")
    assert page.input_value("#opacity") == "50"
    page.fill("#opacity", "100")
    page.wait_for_timeout(150)
    assert painted(page) not in (bare, with_heat)


def test_evidence_jumps_to_its_place_and_is_outlined(page, clinic):
    opened(page, clinic)
    page.wait_for_selector("#strip button")
    settled(page)
    wide = page.inner_text("#bar span")
    page.click("#strip button >> nth=2")
    settled(page)
    assert page.get_attribute("#strip button >> nth=2", "aria-current") == "true"
    assert page.inner_text(".spot.chosen") == "3"
    box, stage = page.locator(".spot.chosen").bounding_box(), page.locator("#image").bounding_box()
    assert abs(box["x"] + box["width"] / 2 - stage["x"] - stage["width"] / 2) < 5
    assert abs(box["y"] + box["height"] / 2 - stage["y"] - stage["height"] / 2) < 5
    assert page.inner_text("#bar span") != wide
    shot(page, "evidence")
    page.keyboard.press("n")
    assert page.inner_text(".spot.chosen") == "4"
    page.keyboard.press("p")
    page.keyboard.press("p")
    assert page.inner_text(".spot.chosen") == "2"


def test_the_scale_bar_is_as_long_as_it_says(page, clinic):
    opened(page, clinic)
    page.click("#strip button >> nth=0")
    settled(page)
    um = float(page.get_attribute("#bar", "data-um"))
    bar = page.locator("#bar b").bounding_box()["width"]
    spot = page.locator(".spot.chosen").bounding_box()["width"]  # 128 px at 0.499 um
    assert bar / um == pytest.approx(spot / (128 * 0.499), rel=0.03)


def test_keys_zoom_and_move_and_are_left_alone_in_a_form(page, clinic):
    opened(page, clinic)
    settled(page)
    view = "document.querySelector('.spot').getBoundingClientRect()"
    wide = page.evaluate(f"{view}.width")
    page.keyboard.press("+")
    page.keyboard.press("+")
    settled(page)
    near = page.evaluate(f"{view}.width")
    assert near > 1.5 * wide
    left = page.evaluate(f"{view}.left")
    page.keyboard.press("ArrowRight")
    settled(page)
    assert page.evaluate(f"{view}.left") < left
    page.keyboard.press("0")
    settled(page)
    assert page.evaluate(f"{view}.width") == pytest.approx(wide, rel=0.05)
    page.fill("#token", "h?n+")
    assert page.get_attribute("#heat", "aria-pressed") == "true"
    page.locator("#image").focus()
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    shot(page, "help")
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_a_pathologist_opens_signs_and_amends(page, clinic):
    opened(page, clinic)
    page.fill("#token", TOKEN)
    page.click("text=Open for review")
    page.wait_for_selector("#diagnosis")
    assert clinic.slides[ID]["state"] == "in_review"
    page.select_option("#diagnosis", "HSIL")
    page.fill("#findings", "Clusters with coarse chromatin. 成团细胞，染色质粗。\n<b>no markup</b>")
    page.click("form.sign button[type=submit]")
    assert not clinic.reports  # not before they say that they looked themselves
    page.check("#sure")
    shot(page, "form")
    page.click("form.sign button[type=submit]")
    page.wait_for_selector(".stamp.final")
    assert clinic.reports[ID][0]["diagnosis"] == "HSIL"
    assert "<b>no markup</b>" in page.inner_text(".signed .findings")
    assert page.inner_text("#state") == "Signed"
    shot(page, "signed")
    page.click("text=Amend")  # the token is still known
    page.select_option("#diagnosis", "other")
    page.fill("#other", "ASC-H, favour reactive")
    page.fill("#reason", "Second look")
    page.check("#sure")
    page.click("text=Sign the amendment")
    page.wait_for_selector(".stamp.amended")
    assert clinic.reports[ID][1] | {"version": 2, "amends": 1, "reason": "Second look"} == clinic.reports[ID][1]
    assert "Replaces v1" in page.inner_text(".signed")
    assert page.evaluate("JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie").find(TOKEN) == -1


def test_a_token_that_is_nobodys_is_refused_beside_the_form(page, clinic):
    opened(page, clinic)
    page.fill("#token", "wrong")
    page.click("text=Open for review")
    page.wait_for_selector(".report .refusal")
    assert "nobody's" in page.inner_text(".report .refusal")
    assert clinic.slides[ID]["state"] == "ready"
    page.wrong[:] = [each for each in page.wrong if "400" not in each]  # the browser tells of the refusal too


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
    page.goto(f"/slides/{ID}")
    page.wait_for_selector(".steps .now")
    page.get_by_text("192 / 311").wait_for()
    shot(page, "progress")
    page.wait_for_selector("#panel .triage.positive")
    page.wait_for_selector("#strip canvas")
    settled(page)


@pytest.mark.parametrize("state", ["failed", "quality_failed", "cancelled"])
def test_a_slide_that_failed_gives_its_reasons_and_a_way_on(page, clinic, state):
    why = {
        "code": "ifd_loop",
        "en": "image directory 3 leads back to one already read",
        "zh": "第 3 个图像目录指回已读目录",
    }
    clinic.slides[ID] = row(ID, state, code="ifd_loop", reasons=[why])
    page.goto(f"/slides/{ID}")
    page.wait_for_selector(".card.bad")
    assert "leads back to one already read" in page.inner_text(".card.bad")
    assert page.get_attribute(".card.bad a", "href") == "/slides"
    shot(page, state)


def test_an_abstained_slide_says_why_and_can_be_signed(page, clinic):
    opened(page, clinic, read(ID, "abstained", {**ABSTAINED, "classes": [], "probability": None, "evidence": []}))
    assert "No answer" in page.inner_text("#panel .triage")
    assert "unlike anything the model learned from" in page.inner_text("#panel")
    assert page.locator("#token").is_visible()
    assert not page.locator("#simulated").is_visible()
    settled(page)
    shot(page, "abstained")


def test_an_unknown_slide_is_told_so(page, clinic):
    page.goto(f"/slides/{ID}")
    page.wait_for_selector(".card.bad")
    shot(page, "unknown")
    page.wrong[:] = [each for each in page.wrong if "404" not in each]


def test_downloads_lead_to_pdf_fhir_and_geojson(page, clinic):
    opened(page, clinic)
    kinds = {}
    for link in page.locator("#downloads a").all():
        answer = page.request.get(link.get_attribute("href"))
        assert answer.ok
        kinds[link.inner_text()] = answer.headers["content-type"]
    assert kinds == {"PDF": "application/pdf", "FHIR": "application/json", "GeoJSON": "application/geo+json"}


def test_a_tile_that_the_browser_has_is_not_sent_again(page, clinic):
    opened(page, clinic)
    address = f"/v1/slides/{ID}/image_files/12/3_4.jpeg"
    first = page.request.get(address)
    again = page.request.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (first.status, again.status) == (200, 304)
    assert first.headers["cache-control"].startswith("private")
    other = page.request.get(f"/v1/slides/{ID}/heatmap_files/12/3_4.png")
    assert other.headers["etag"] != first.headers["etag"]


CONTRAST = """() => {
  const light = (text) => {
    const [red, green, blue] = text.match(/[\\d.]+/g).slice(0, 3).map((each) => {
      const value = each / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      const parts = color.match(/[\\d.]+/g).map(Number);
      if (parts.length === 3 || parts[3] > 0.8) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    const text = walk.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest("script, option")) continue;
    const [one, other] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < 4.5) poor.push(`${element.className}: ${text.slice(0, 40)}`);
  }
  return poor;
}"""


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
