"""Fixtures of the console's browser tests: a real gateway with a real bundle of each product, and signed-in pages.

page = open_page("bank", language="zh")          # at /console, 1440 x 900
page = open_page("pathologist", width=820)       # a tablet
assert axe(page) == []                      # no serious accessibility violation
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from serving.app import App
from serving.console import pages
from tests.browser.clinic import Server
from tests.browser.conftest import is_error
from tests.browser.test_gateway import LifespanApp
from tests.paths import ROOT
from tests.serving.conftest import bearer_of, companies, keys, made, people, settings_for, zone  # noqa: F401
from tests.serving.pathology.slide_bundles import publish

AXE = ROOT / "serving/console/web/node_modules/axe-core/axe.min.js"
TENANT = "demo"
SIGNERS = {"pathologist": {"name": "Chen Lan 陈岚", "licence": "110330100001234"}}


@dataclass(frozen=True)
class ConsoleService:
    """The gateway that serves the console."""

    gateway: App
    address: str

    def token(self, role: str, tenant: str = TENANT, **claims: str) -> str:
        headers = bearer_of(self.gateway.settings, role, tenant=tenant, **(SIGNERS.get(role, {}) | claims))
        return headers["Authorization"].partition(" ")[2]


@pytest.fixture(scope="module")
def console(made: Any, companies: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleService]:  # noqa: F811
    if not (pages.DIST_DIR / pages.INDEX_FILE).exists():
        pytest.skip("the console was not built: make console")
    folder = tmp_path_factory.mktemp("console")
    made.publish(folder / "bundles", "1")
    companies.publish(folder / "bundles", "1")
    publish(folder / "bundles", (made.private, made.public), familiar=-1.0)
    environ = {
        "YUHENG_SLIDES_POLL_SECONDS": "0.1",
        "YUHENG_ACCESS_REQUIRED": "true",
        "YUHENG_CONSENT_REQUIRED": "true",
    }
    gateway = App(settings_for(folder / "bundles", made, folder, **environ))
    server = Server(LifespanApp(gateway))
    server.server.config.lifespan = "on"
    with server as address:
        yield ConsoleService(gateway, address)


@pytest.fixture
def open_page(browser: Any, console: ConsoleService) -> Iterator[Callable[..., Any]]:
    """Opens signed-in pages of fresh profiles; the test fails for any error in them or request to another host."""
    pages_opened = []

    def open_as(
        role: str | None, language: str = "en", width: int = 1440, height: int = 900, path: str = "/console",
        tenant: str = TENANT,
    ) -> Any:  # fmt: skip
        context = browser.new_context(
            viewport={"width": width, "height": height},
            base_url=console.address,
            locale={"zh": "zh-CN"}.get(language, "en-US"),
            reduced_motion="reduce",
            accept_downloads=True,
        )
        page = context.new_page()
        page.errors = []
        page.on("console", lambda message: page.errors.append(message.text) if is_error(message) else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("request", lambda request: record_foreign_request(page, request.url, console.address))
        page.set_default_timeout(15_000)
        pages_opened.append((context, page))
        page.goto(path if role is None else f"{path}#token={console.token(role, tenant)}")
        if role is not None:
            page.wait_for_selector(".session")
        return page

    yield open_as
    for context, _ in pages_opened:
        context.close()
    errors = [error for _, page in pages_opened for error in page.errors]
    assert not errors, errors


def record_foreign_request(page: Any, url: str, address: str) -> None:
    if not url.startswith((address, "data:", "blob:")):
        page.errors.append(url)


def axe(page: Any) -> list[str]:
    """Serious and critical violations that axe-core finds. Playwright's scripts are exempt from the page's CSP."""
    page.evaluate(AXE.read_text())
    violations = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations)")
    return [
        f"{violation['id']}: {node['target']}: {node['failureSummary']}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
