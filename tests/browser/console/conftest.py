"""The console under the browser: a real gateway with a real bundle of each product, signed in by role.

page = desk("bank", language="zh")          # at /console, 1440 x 900
page = desk("pathologist", width=820)       # a tablet
assert axe(page) == []                      # what axe finds serious
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from serving.app import App
from serving.console import pages
from tests.browser.clinic import Server
from tests.browser.conftest import complaint
from tests.browser.test_gateway import Serving
from tests.paths import ROOT
from tests.serving.conftest import bearer_of, companies, keys, made, people, settings_for, zone  # noqa: F401
from tests.serving.pathology.slide_bundles import publish

AXE = ROOT / "serving/console/web/node_modules/axe-core/axe.min.js"
TENANT = "demo"
PEOPLE = {"pathologist": {"name": "Chen Lan 陈岚", "licence": "110330100001234"}}


@dataclass(frozen=True)
class House:
    """The service under the browser."""

    gateway: App
    address: str

    def token(self, role: str, tenant: str = TENANT, **person: str) -> str:
        told = bearer_of(self.gateway.settings, role, tenant=tenant, **(PEOPLE.get(role, {}) | person))
        return told["Authorization"].partition(" ")[2]


@pytest.fixture(scope="module")
def house(made: Any, companies: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:  # noqa: F811
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
    server = Server(Serving(gateway))
    server.server.config.lifespan = "on"
    with server as address:
        yield House(gateway, address)


@pytest.fixture
def desk(browser: Any, house: House) -> Iterator[Callable[..., Any]]:
    """Signed-in pages of fresh profiles; a test fails for any error in one and for anything asked of another place."""
    opened = []

    def sit(
        role: str | None, language: str = "en", width: int = 1440, height: int = 900, at: str = "/console",
        tenant: str = TENANT,
    ) -> Any:  # fmt: skip
        context = browser.new_context(
            viewport={"width": width, "height": height},
            base_url=house.address,
            locale={"zh": "zh-CN"}.get(language, "en-US"),
            reduced_motion="reduce",
            accept_downloads=True,
        )
        page = context.new_page()
        page.wrong = []
        page.on("console", lambda told: page.wrong.append(told.text) if complaint(told) else None)
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("request", lambda asked: _elsewhere(page, asked.url, house.address))
        page.set_default_timeout(15_000)
        opened.append((context, page))
        page.goto(at if role is None else f"{at}#token={house.token(role, tenant)}")
        if role is not None:
            page.wait_for_selector(".session")
        return page

    yield sit
    for context, _ in opened:
        context.close()
    wrong = [told for _, page in opened for told in page.wrong]
    assert not wrong, wrong


def _elsewhere(page: Any, url: str, address: str) -> None:
    if not url.startswith((address, "data:", "blob:")):
        page.wrong.append(url)


def axe(page: Any) -> list[str]:
    """What axe-core finds serious or critical, by rule and element. Playwright evaluates beside the page's policy."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then((told) => told.violations)")
    return [
        f"{one['id']}: {node['target']}: {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
