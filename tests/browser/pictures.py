"""The README's pictures, taken of a running `make demo`: python -m tests.browser.pictures [http://127.0.0.1:3000]

To be looked at before they are committed: docs/images/*.png, of few colours, so that each stays small.
"""

from __future__ import annotations

import io
import sys
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from serving.cli.demo import demo_token
from tests.browser.conftest import CHROMIUM, CHROMIUM_ARGS
from tests.paths import ROOT

DOCS = ROOT / "docs" / "images"


def household(page: Page) -> None:
    page.click("text=Fill in a made-up household")
    page.wait_for_selector(".preview .headline")
    page.fill("[name=monthly_debt_service]", "1600")
    page.wait_for_selector(".preview .limit-change")


def register(page: Page) -> None:
    page.click("tbody a >> nth=0")
    page.wait_for_selector(".virtual-row")
    page.select_option("#main select >> nth=0", index=1)
    page.wait_for_selector(".matrix .unchanged")


def company(page: Page) -> None:
    page.click("#main .card button.main")
    page.wait_for_selector(".waterfall .total")


def around(page: Page) -> None:
    page.locator("input[type=range] >> nth=0").fill("1")
    page.wait_for_selector("table.pair")
    page.wait_for_selector("svg.network .node")
    page.locator("svg.network").first.scroll_into_view_if_needed()


def versions(page: Page) -> None:
    page.click("h2 a[href$=credit_limit]")
    page.wait_for_selector("svg.plot")
    page.locator("svg.plot").nth(1).scroll_into_view_if_needed()


def trace(page: Page) -> None:
    page.click("tbody a >> nth=0")
    page.wait_for_selector("#main svg")
    page.locator("#main svg").last.scroll_into_view_if_needed()


def heat(page: Page) -> None:
    page.click("tbody a >> nth=0")
    page.wait_for_selector("#evidence-list canvas")
    page.wait_for_timeout(1_500)


# name, role, language, address, what is done there
PICTURES: list[tuple[str, str, str, str, Any]] = [
    ("household", "bank", "en-US", "/console/credit", household),
    ("register", "bank", "en-US", "/console/companies", register),
    ("company", "bank", "zh-CN", "/console/companies/company/C00000131", company),
    ("around", "bank", "zh-CN", "/console/companies/company/C00000131", around),
    ("worklist", "clinic", "zh-CN", "/console/slides", None),
    ("slide", "pathologist", "en-US", "/console/slides", heat),
    ("model", "scientist", "en-US", "/console/models", versions),
    ("trace", "auditor", "en-US", "/console/audit", trace),
    ("operations", "operator", "zh-CN", "/console/operator", None),
]


def main(base: str) -> None:
    DOCS.mkdir(exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_ARGS))
        for name, role, locale, address, act in PICTURES:
            page = browser.new_page(viewport={"width": 1280, "height": 800}, locale=locale, reduced_motion="reduce")
            page.set_default_timeout(20_000)
            page.goto(f"{base}{address}#token={demo_token(role)}")
            page.wait_for_selector(".session")
            page.wait_for_load_state("networkidle")
            if act is not None:
                act(page)
            page.wait_for_timeout(400)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            small = picture.quantize(48 if name == "slide" else 128, dither=Image.Dither.NONE)
            small.save(DOCS / f"{name}.png", optimize=True)
            print(f"docs/images/{name}.png: {(DOCS / f'{name}.png').stat().st_size / 1_000:.0f} kB")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000")
