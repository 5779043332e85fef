"""The slide in the viewer: heatmap, evidence, scale bar, keyboard."""

from __future__ import annotations

import pytest

from tests.browser.browser_helpers import ID, mean_colour, open_slide, wait_for_other_colour, wait_until_still
from tests.browser.conftest import screenshot


def test_the_heatmap_can_be_hidden_and_its_opacity_changed(page, clinic):
    open_slide(page, clinic)
    wait_until_still(page)
    with_heatmap = mean_colour(page)
    page.keyboard.press("h")
    without_heatmap = wait_for_other_colour(page, with_heatmap)
    assert page.get_attribute("#heat", "aria-pressed") == "false"
    page.keyboard.press("]")
    assert page.get_attribute("#heat", "aria-pressed") == "true"
    assert page.input_value("#opacity") == "70"
    page.keyboard.press("[")
    page.keyboard.press("[")
    assert page.input_value("#opacity") == "50"
    page.fill("#opacity", "100")
    wait_for_other_colour(page, without_heatmap, with_heatmap)


def test_a_click_on_an_evidence_tile_centres_and_outlines_it(page, clinic):
    open_slide(page, clinic)
    page.wait_for_selector("#evidence-list button")
    wait_until_still(page)
    initial = page.inner_text("#bar span")
    page.click("#evidence-list button >> nth=2")
    wait_until_still(page)
    assert page.get_attribute("#evidence-list button >> nth=2", "aria-current") == "true"
    assert page.inner_text(".evidence-mark.selected") == "3"
    box, stage = page.locator(".evidence-mark.selected").bounding_box(), page.locator("#image").bounding_box()
    assert abs(box["x"] + box["width"] / 2 - stage["x"] - stage["width"] / 2) < 5
    assert abs(box["y"] + box["height"] / 2 - stage["y"] - stage["height"] / 2) < 5
    assert page.inner_text("#bar span") != initial
    screenshot(page, "evidence")
    page.keyboard.press("n")
    assert page.inner_text(".evidence-mark.selected") == "4"
    page.keyboard.press("p")
    page.keyboard.press("p")
    assert page.inner_text(".evidence-mark.selected") == "2"


def test_the_scale_bar_has_the_length_on_its_label(page, clinic):
    open_slide(page, clinic)
    page.click("#evidence-list button >> nth=0")
    wait_until_still(page)
    um = float(page.get_attribute("#bar", "data-um"))
    bar_width = page.locator("#bar b").bounding_box()["width"]
    tile_width = page.locator(".evidence-mark.selected").bounding_box()["width"]  # 128 px at 0.499 um
    assert bar_width / um == pytest.approx(tile_width / (128 * 0.499), rel=0.03)


def test_keys_zoom_and_pan_except_in_a_form(page, clinic):
    open_slide(page, clinic)
    wait_until_still(page)
    view = "document.querySelector('.evidence-mark').getBoundingClientRect()"
    initial = page.evaluate(f"{view}.width")
    page.keyboard.press("+")
    page.keyboard.press("+")
    wait_until_still(page)
    zoomed = page.evaluate(f"{view}.width")
    assert zoomed > 1.5 * initial
    left = page.evaluate(f"{view}.left")
    page.keyboard.press("ArrowRight")
    wait_until_still(page)
    assert page.evaluate(f"{view}.left") < left
    page.keyboard.press("0")
    wait_until_still(page)
    assert page.evaluate(f"{view}.width") == pytest.approx(initial, rel=0.05)
    page.fill("#token", "h?n+")
    assert page.get_attribute("#heat", "aria-pressed") == "true"
    page.locator("#image").focus()
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    screenshot(page, "help")
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_a_cached_tile_is_not_sent_again(page, clinic):
    open_slide(page, clinic)
    address = f"/v1/slides/{ID}/image_files/12/3_4.jpeg"
    first = page.request.get(address)
    again = page.request.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (first.status, again.status) == (200, 304)
    assert first.headers["cache-control"].startswith("private")
    other = page.request.get(f"/v1/slides/{ID}/heatmap_files/12/3_4.png")
    assert other.headers["etag"] != first.headers["etag"]
