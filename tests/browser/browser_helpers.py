"""How the tests open a slide in the viewer and look at it."""

from __future__ import annotations

from tests.browser.clinic import read

ID = "0" * 31 + "1"
EDGE = "#image .openseadragon-canvas canvas"


def opened(page, clinic, slide=None):
    clinic.slides[ID] = slide or read(ID)
    page.goto(f"/console/slides/{ID}")
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


def repainted(page, *others: list[int]) -> list[int]:
    """Once the viewer shows none of `others` any longer: it paints at the browser's next frames, not at once."""
    for _ in range(100):
        page.wait_for_timeout(150)
        if (found := painted(page)) not in others:
            return found
    raise AssertionError(f"it still shows {found}")


def settled(page) -> None:
    """Once nothing is on its way and two looks in a row find the same picture, spots and scale."""
    page.wait_for_load_state("networkidle")
    before = None
    for _ in range(100):
        page.wait_for_timeout(150)
        found = page.evaluate(LOOK, EDGE)
        if found == before:
            return
        before = found
    raise AssertionError("the picture does not come to rest")


LOOK = """selector => {
    const canvas = document.querySelector(selector);
    const marks = [...document.querySelectorAll(".evidence-mark")];
    const boxes = marks.map((mark) => JSON.stringify(mark.getBoundingClientRect()));
    return [canvas && canvas.toDataURL(), ...boxes, document.querySelector("#bar")?.innerText].join();
}"""

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
