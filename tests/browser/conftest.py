from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.console import pages
from tests.browser.clinic import Clinic, Server

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_ARGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
# Reading a canvas, as the tests do, is slow; a tile of the former focal plane came after the change to the next.
BENIGN_WARNINGS = ("willReadFrequently", "loaded before reset")
SCREENSHOTS_DIR = os.environ.get("YUHENG_SHOTS")  # a folder for screenshots


@pytest.fixture(scope="module")  # no longer than a module, because asyncio.run refuses while its event loop runs
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is missing: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_ARGS))
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
    for collection in (clinic.slides, clinic.reports, clinic.events, clinic.uploads, clinic.requests):
        collection.clear()
    return clinic


@pytest.fixture
def page(browser: Any, service: tuple[Clinic, str]) -> Iterator[Any]:
    """A page of a fresh profile; the test fails for any error in it and for any request to another host."""
    context = browser.new_context(
        viewport={"width": 1440, "height": 900}, base_url=service[1], locale="en-US", reduced_motion="reduce"
    )
    page, errors = context.new_page(), []
    page.on("console", lambda message: errors.append(message.text) if is_error(message) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith((service[1], "data:", "blob:")) else errors.append(request.url),
    )
    page.set_default_timeout(15_000)
    page.errors = errors
    yield page
    context.close()
    assert not errors, errors


def is_error(message: Any) -> bool:
    """Whether the message is an error or warning, other than those of BENIGN_WARNINGS."""
    return message.type in ("error", "warning") and not any(text in message.text for text in BENIGN_WARNINGS)


def screenshot(page: Any, name: str) -> None:
    if SCREENSHOTS_DIR:
        page.screenshot(path=f"{SCREENSHOTS_DIR}/{name}.png")
