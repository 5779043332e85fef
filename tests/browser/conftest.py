from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.console import pages
from tests.browser.clinic import Clinic, Server

CHROMIUM = Path("/usr/bin/chromium")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SHOTS = os.environ.get("YUHENG_SHOTS")  # a folder to look at what was seen


@pytest.fixture(scope="module")  # not longer: while it is there its event loop runs, and asyncio.run refuses
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=str(CHROMIUM), args=list(QUIET))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Clinic, str]]:
    if not (pages.DIST_DIR / pages.INDEX_FILE).exists():
        pytest.skip("the console was not built: make console")
    clinic = Clinic(tmp_path_factory.mktemp("clinic"))
    with Server(clinic) as address:
        yield clinic, address
    clinic.images.close()


@pytest.fixture
def clinic(service: tuple[Clinic, str]) -> Clinic:
    clinic = service[0]
    for held in (clinic.slides, clinic.reports, clinic.events, clinic.uploads, clinic.asked):
        held.clear()
    return clinic


@pytest.fixture
def page(browser: Any, service: tuple[Clinic, str]) -> Iterator[Any]:
    """A page of a fresh profile; a test fails for any error in it and for anything asked of another place."""
    context = browser.new_context(
        viewport={"width": 1440, "height": 900}, base_url=service[1], locale="en-US", reduced_motion="reduce"
    )
    page, wrong = context.new_page(), []
    page.on("console", lambda told: wrong.append(told.text) if complaint(told) else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith((service[1], "data:", "blob:")) else wrong.append(asked.url),
    )
    page.set_default_timeout(15_000)
    page.wrong = wrong
    yield page
    context.close()
    assert not wrong, wrong


def complaint(told: Any) -> bool:
    """Looking at the canvas, as tests do, is what Chromium warns of as slow."""
    return told.type in ("error", "warning") and "willReadFrequently" not in told.text


def shot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png")
