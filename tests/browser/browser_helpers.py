"""Helpers of the viewer's tests: open a slide, read its colours, wait until it is displayed, check its contrast."""

from __future__ import annotations

from tests.browser.clinic import read_slide_row

ID = "0" * 31 + "1"
CANVAS_SELECTOR = "#image .openseadragon-canvas canvas"


def open_slide(page, clinic, slide=None):
    clinic.slides[ID] = slide or read_slide_row(ID)
    page.goto(f"/console/slides/{ID}")
    page.wait_for_selector("#panel .triage")
    return page


def mean_colour(page) -> list[int]:
    """Mean red, green and blue of the viewer's canvas."""
    return page.evaluate(
        """selector => {
            const canvas = document.querySelector(selector);
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const sum = [0, 0, 0];
            for (let i = 0; i < data.length; i += 4) for (const k of [0, 1, 2]) sum[k] += data[i + k];
            return sum.map((value) => Math.round((4 * value) / data.length));
        }""",
        CANVAS_SELECTOR,
    )


def wait_for_other_colour(page, *others: list[int]) -> list[int]:
    """Wait until the canvas has a mean colour other than `others`, and return it; painting takes a few frames."""
    for _ in range(100):
        page.wait_for_timeout(150)
        if (current := mean_colour(page)) not in others:
            return current
    raise AssertionError(f"the mean colour is still {current}")


def wait_until_still(page) -> None:
    """Wait until no request is pending and two snapshots in a row are equal."""
    page.wait_for_load_state("networkidle")
    previous = None
    for _ in range(100):
        page.wait_for_timeout(150)
        current = page.evaluate(SNAPSHOT, CANVAS_SELECTOR)
        if current == previous:
            return
        previous = current
    raise AssertionError("the image keeps changing")


SNAPSHOT = """selector => {
    const canvas = document.querySelector(selector);
    const marks = [...document.querySelectorAll(".evidence-mark")];
    const boxes = marks.map((mark) => JSON.stringify(mark.getBoundingClientRect()));
    return [canvas && canvas.toDataURL(), ...boxes, document.querySelector("#bar")?.innerText].join();
}"""

LOW_CONTRAST_TEXT = """() => {
  const luminance = (text) => {
    const [red, green, blue] = text.match(/[\\d.]+/g).slice(0, 3).map((channel) => {
      const value = channel / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const background = (element) => {
    for (let node = element; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
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
    const colors = [getComputedStyle(element).color, background(element)];
    const [lighter, darker] = colors.map(luminance).sort((a, b) => b - a);
    if ((lighter + 0.05) / (darker + 0.05) < 4.5) poor.push(`${element.className}: ${text.slice(0, 40)}`);
  }
  return poor;
}"""
