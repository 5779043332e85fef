"""The slide in the viewer: heatmap, evidence, scale bar, keys."""

from __future__ import annotations

import pytest

from tests.browser.browser_helpers import ID, opened, painted, repainted, settled
from tests.browser.conftest import shot


def test_the_heatmap_is_shown_faded_and_hidden(page, clinic):
    opened(page, clinic)
    settled(page)
    with_heat = painted(page)
    page.keyboard.press("h")
    bare = repainted(page, with_heat)
    assert page.get_attribute("#heat", "aria-pressed") == "false"
    page.keyboard.press("]")
    assert page.get_attribute("#heat", "aria-pressed") == "true"
    assert page.input_value("#opacity") == "70"
    page.keyboard.press("[")
    page.keyboard.press("[")
    assert page.input_value("#opacity") == "50"
    page.fill("#opacity", "100")
    repainted(page, bare, with_heat)


def test_evidence_jumps_to_its_place_and_is_outlined(page, clinic):
    opened(page, clinic)
    page.wait_for_selector("#evidence-list button")
    settled(page)
    wide = page.inner_text("#bar span")
    page.click("#evidence-list button >> nth=2")
    settled(page)
    assert page.get_attribute("#evidence-list button >> nth=2", "aria-current") == "true"
    assert page.inner_text(".evidence-mark.selected") == "3"
    box, stage = page.locator(".evidence-mark.selected").bounding_box(), page.locator("#image").bounding_box()
    assert abs(box["x"] + box["width"] / 2 - stage["x"] - stage["width"] / 2) < 5
    assert abs(box["y"] + box["height"] / 2 - stage["y"] - stage["height"] / 2) < 5
    assert page.inner_text("#bar span") != wide
    shot(page, "evidence")
    page.keyboard.press("n")
    assert page.inner_text(".evidence-mark.selected") == "4"
    page.keyboard.press("p")
    page.keyboard.press("p")
    assert page.inner_text(".evidence-mark.selected") == "2"


def test_the_scale_bar_is_as_long_as_it_says(page, clinic):
    opened(page, clinic)
    page.click("#evidence-list button >> nth=0")
    settled(page)
    um = float(page.get_attribute("#bar", "data-um"))
    bar = page.locator("#bar b").bounding_box()["width"]
    spot = page.locator(".evidence-mark.selected").bounding_box()["width"]  # 128 px at 0.499 um
    assert bar / um == pytest.approx(spot / (128 * 0.499), rel=0.03)


def test_keys_zoom_and_move_and_are_left_alone_in_a_form(page, clinic):
    opened(page, clinic)
    settled(page)
    view = "document.querySelector('.evidence-mark').getBoundingClientRect()"
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


def test_a_tile_that_the_browser_has_is_not_sent_again(page, clinic):
    opened(page, clinic)
    address = f"/v1/slides/{ID}/image_files/12/3_4.jpeg"
    first = page.request.get(address)
    again = page.request.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (first.status, again.status) == (200, 304)
    assert first.headers["cache-control"].startswith("private")
    other = page.request.get(f"/v1/slides/{ID}/heatmap_files/12/3_4.png")
    assert other.headers["etag"] != first.headers["etag"]
