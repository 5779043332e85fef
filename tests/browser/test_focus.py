"""The focus wheel of a stack of focal planes, and pixels that are not square, in the viewer."""

from __future__ import annotations

import copy
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from datasets.slides.simulate import writers
from datasets.slides.simulate.slides import simulate_slide
from tests.browser.browser_helpers import ID, LOW_CONTRAST_TEXT, open_slide, wait_until_still
from tests.browser.clinic import read_slide_row
from tests.browser.conftest import screenshot
from tests.serving.pathology.fake_readings import READING

PLANES = 5
SHARPNESS = """() => {
    const canvas = document.querySelector("#image .openseadragon-canvas canvas");
    const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const halves = [0, 0];
    for (let y = 1; y < height; y += 1) for (let x = 1; x < width; x += 1) {
        const at = 4 * (y * width + x) + 1;
        if (data[at + 2] + data[at - 2] < 510) continue;  // beyond the slide
        halves[2 * x < width ? 0 : 1] += (data[at] - data[at - 4]) ** 2;
    }
    return halves;
}"""


def reading_of(size, **slide):
    reading = copy.deepcopy(READING)
    reading["slide"] |= {"width": size[0], "height": size[1], "mpp": [0.5, 0.5]} | slide
    return reading


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    simulated = simulate_slide(seed=5, label="HSIL", columns=4, rows=3)
    return writers.write_dicom(tmp_path_factory.mktemp("stack"), simulated, planes=PLANES)


@pytest.fixture
def stack_page(page, clinic, stack, monkeypatch):
    monkeypatch.setattr(clinic, "slide_file", stack)
    page.planes = []
    page.on(
        "request", lambda request: page.planes.append(plane_of(request.url)) if "image_files" in request.url else None
    )
    reading = reading_of((1_024, 768), planes=PLANES, plane_spacing=1.0, plane=None) | {"evidence": []}
    open_slide(page, clinic, read_slide_row(ID, reading=reading))
    page.wait_for_selector("#focus-tools")
    page.keyboard.press("h")  # without the heatmap
    wait_until_still(page)
    return page


def plane_of(url: str) -> int | None:
    return int(parse_qs(urlsplit(url).query).get("plane", [0])[0]) or None


def position(page) -> str:
    return page.inner_text("#focus-position")


def test_a_stack_is_displayed_in_its_sharpest_planes_first(stack_page):
    assert set(stack_page.planes) == {None}
    assert stack_page.get_attribute("#focus-sharpest", "aria-pressed") == "true"
    assert position(stack_page) == "sharpest of 5 planes"
    assert "5, 1 µm apart; each tile in the sharpest" in stack_page.locator(".origin").first.text_content()
    screenshot(stack_page, "focus-sharpest")


def test_the_focus_moves_through_the_planes_and_back_to_the_sharpest(stack_page):
    page = stack_page
    left, right = page.evaluate(SHARPNESS)
    page.click("#focus-down")
    page.click("#focus-down")
    assert position(page) == "plane 1 of 5 (−2 µm)"
    wait_until_still(page)
    assert {1, 2} <= set(page.planes)
    screenshot(page, "focus-lowest")
    left_below, right_below = page.evaluate(SHARPNESS)
    assert right_below < 0.7 * right, "the right part lies higher, and is blurred here"
    screenshot(page, "focus-lowest")
    page.locator("#focus").fill("5")
    wait_until_still(page)
    left_above, right_above = page.evaluate(SHARPNESS)
    assert left_above < 0.7 * left
    assert right_above > right_below
    assert left_below > left_above
    page.click("#focus-sharpest")
    wait_until_still(page)
    assert page.evaluate(SHARPNESS) == pytest.approx([left, right], rel=0.02)


def test_keys_and_the_wheel_move_the_focus_and_stop_at_both_ends(stack_page):
    page = stack_page
    page.keyboard.press("PageUp")
    assert position(page) == "plane 4 of 5 (+1 µm)"
    for _ in range(3):
        page.keyboard.press("PageUp")
    assert position(page) == "plane 5 of 5 (+2 µm)"
    page.keyboard.press("f")
    assert position(page) == "sharpest of 5 planes"
    page.mouse.move(500, 400)
    zoom = page.inner_text("#bar span")
    page.keyboard.down("Shift")
    page.mouse.wheel(0, 120)
    page.keyboard.up("Shift")
    page.wait_for_function("document.querySelector('#focus-position').innerText.startsWith('plane 2')")
    assert page.inner_text("#bar span") == zoom, "it does not zoom"
    page.hover("#focus-tools")
    page.mouse.wheel(0, -120)
    page.wait_for_function("document.querySelector('#focus-position').innerText.startsWith('plane 3')")
    assert position(page) == "plane 3 of 5 (±0 µm)"
    wait_until_still(page)


def test_the_focus_is_accessible_in_both_languages(stack_page):
    page = stack_page
    assert page.evaluate(LOW_CONTRAST_TEXT) == []
    page.focus("#focus")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#focus", "aria-valuetext") == "plane 4 of 5 (+1 µm)"
    assert {page.get_attribute(f"#focus-{name}", "aria-label") for name in ("up", "down")} == {
        "Nearer to the glass",
        "Further from the glass",
    }
    page.click("[data-choose=zh]")
    assert position(page) == "第 4 / 5 平面 (+1 µm)"
    page.click("#help-button")
    assert "焦平面" in page.inner_text("#help")
    wait_until_still(page)
    screenshot(page, "focus-chinese")


def test_a_slide_with_one_plane_has_no_focus(page, clinic):
    open_slide(page, clinic)
    wait_until_still(page)
    assert page.locator("#focus-tools").count() == 0
    page.keyboard.press("PageUp")
    page.click("#help-button")
    assert "PgUp" not in page.inner_text("#help")


def test_pixels_that_are_not_square_are_displayed_at_their_true_proportions(page, clinic, tmp_path, monkeypatch):
    """Circles of 100 um, in pixels of 0.5 x 1 um."""
    y, x = np.mgrid[:400, :1_000]
    is_ring = np.abs(np.hypot((x - 500) * 0.5, y - 200) - 100) < 4
    pixels = np.where(is_ring[..., None], (160, 40, 120), (240, 235, 240)).astype(np.uint8)
    path = tmp_path / "oblong.tif"
    Image.fromarray(pixels).save(path, dpi=(25_400 / 0.5, 25_400 / 1.0))
    monkeypatch.setattr(clinic, "slide_file", path)
    reading = reading_of((1_000, 400), mpp=[0.5, 1.0])
    reading["evidence"] = [reading["evidence"][0] | {"x": 400, "y": 150, "width": 200, "height": 100}]
    reading["grid"] |= {"extent": [256.0, 128.0], "columns": 4, "rows": 4}
    open_slide(page, clinic, read_slide_row(ID, reading=reading))
    page.keyboard.press("h")
    page.click("#home")
    wait_until_still(page)
    mark = page.locator(".evidence-mark").bounding_box()
    assert mark["width"] == pytest.approx(mark["height"], rel=0.05)
    width, height = page.evaluate("""() => {
        const canvas = document.querySelector("#image .openseadragon-canvas canvas");
        const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const box = [width, height, 0, 0];
        for (let y = 0; y < height; y += 1) for (let x = 0; x < width; x += 1) {
            const at = 4 * (y * width + x);
            if (data[at + 3] && data[at + 1] < 120) {
                box.splice(0, 4, Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x), Math.max(box[3], y));
            }
        }
        return [box[2] - box[0], box[3] - box[1]];
    }""")
    assert width == pytest.approx(height, rel=0.05)
    screenshot(page, "oblong")
