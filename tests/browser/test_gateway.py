"""The real gateway, store and worker under the browser: a real slide sent, followed, signed and taken home as PDF.

The model is small and finds everything strange, as one of cervical cells should a slide of another organ.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pypdf import PdfReader

from models import bundle
from serving.gateway import Gateway
from serving.pathology import people
from serving.pathology.jobs import Jobs
from serving.pathology.runner import Runner
from serving.store import slides
from tests.browser.clinic import Server
from tests.browser.conftest import shot
from tests.serving.conftest import settings_for
from tests.serving.pathology import readings
from tests.serving.pathology.bundles import publish


class Serving:
    """The gateway, started and stopped in the loop that serves."""

    def __init__(self, gateway: Gateway):
        self.gateway = gateway

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self.gateway(scope, receive, send)
            return
        while True:
            kind = (await receive())["type"]
            (self.gateway.start if kind == "lifespan.startup" else self.gateway.stop)()
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[tuple[Gateway, str]]:
    folder = tmp_path_factory.mktemp("gateway")
    keys = bundle.make_keys(folder / "keys")
    publish(folder / "bundles", keys, familiar=-1.0)
    settings = settings_for(
        folder / "bundles", SimpleNamespace(public=keys[1]), folder, YUHENG_SLIDES_POLL_SECONDS="0.1"
    )
    gateway = Gateway(settings)
    server = Server(Serving(gateway))
    server.server.config.lifespan = "on"
    with server as address:
        yield gateway, address


def work(gateway: Gateway, slide: str) -> None:
    """What arrived is read, in a thread of its own as DBOS wants no event loop in its."""
    failed: list[BaseException] = []

    def read() -> None:
        runner = Runner(gateway.settings)
        jobs = Jobs(gateway.settings, runner.read)
        try:
            jobs.start()
            jobs.look()
            jobs.wait(slide, 100)
        except BaseException as error:  # told where the thread is awaited
            failed.append(error)
        finally:
            jobs.stop()
            runner.close()

    thread = threading.Thread(target=read)
    thread.start()
    thread.join(120)
    assert not failed, failed


def test_a_slide_goes_from_upload_to_a_signed_pdf(page, service):
    gateway, _ = service
    token = people.add(gateway.settings.paths.pathologists, "Chen Lan 陈岚", "110330100001234")
    page.goto("/slides")
    page.wait_for_selector("#worklist .empty")
    page.set_input_files("#file", str(readings.CMU))
    page.fill("#accession", "C2026-000042")
    page.select_option("#hpv_result", "positive")
    page.fill("#hpv_genotype", "16")
    page.click("#go")
    page.click("#sending a.button")
    page.wait_for_selector(".steps .now")
    assert "Being verified" in page.inner_text(".steps .now")
    slide = page.url.rpartition("/")[2]
    row = slides.get(gateway.runtime.engine, slide)
    assert row["sha256"] == hashlib.sha256(readings.CMU.read_bytes()).hexdigest()
    assert row["request"]["hpv_genotype"] == ["16"]

    work(gateway, slide)
    page.wait_for_selector("#panel .triage.abstained")
    reading = slides.get(gateway.runtime.engine, slide)["reading"]
    assert [why["code"] for why in reading["abstained"]] == ["out_of_distribution"]
    assert reading["slide"]["format"] == "aperio"
    page.wait_for_selector("#strip canvas")
    page.fill("#token", token)
    page.click("text=Open for review")
    page.select_option("#diagnosis", "HSIL")
    page.fill("#findings", "Coarse chromatin. 染色质粗。")
    page.check("#sure")
    page.click("form.sign button[type=submit]")
    page.wait_for_selector(".stamp.final")
    page.wait_for_load_state("networkidle")
    shot(page, "gateway")

    pdf = page.request.get(page.get_attribute("#downloads a >> nth=0", "href")).body()
    words = PdfReader(io.BytesIO(pdf)).pages[0].extract_text()
    for told in ("SIGNED", "C2026-000042", "Coarse chromatin.", "染色质粗。", "110330100001234"):
        assert told in words, told
    assert hashlib.sha256(pdf).hexdigest() == slides.reports(gateway.runtime.engine, slide)[0]["sha256"]
    page.goto("/slides")
    assert page.locator("tbody tr").inner_text().split("\t")[4].strip() == "Signed"


def test_a_refused_form_is_told_field_by_field(page, service):
    page.goto("/slides")
    page.set_input_files("#file", str(readings.CMU))
    page.fill("#accession", "C2026-000043")
    page.fill("#hpv_genotype", "16")  # of a result that is not positive
    page.click("#go")
    page.wait_for_selector("#sending .refusal")
    assert "hpv_genotype" in page.inner_text("#sending .refusal")
    page.wrong[:] = [each for each in page.wrong if "422" not in each]


def test_a_stranger_does_not_sign(page, service):
    gateway, _ = service
    slide = next(each for each in slides.worklist(gateway.runtime.engine, 1))["id"]
    page.goto(f"/slides/{slide}")
    page.fill("#token", "nobody")
    page.click("text=Continue")
    page.click("text=Amend")
    page.fill("#reason", "none")
    page.check("#sure")
    page.click("text=Sign the amendment")
    page.wait_for_selector(".report .refusal")
    assert "Only a pathologist may do this" in page.inner_text(".report .refusal")
    assert page.locator("#token").is_visible()  # the token is forgotten
    page.wrong[:] = [each for each in page.wrong if "401" not in each]
