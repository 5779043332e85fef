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
from serving.app import App
from serving.pathology.slides import store as slide_store
from serving.pathology.workflow.runner import TileRunner
from serving.pathology.workflow.workflow import SlideWorkflow
from tests.browser.clinic import Server
from tests.browser.conftest import shot
from tests.serving.conftest import bearer_of, settings_for
from tests.serving.pathology import fake_readings
from tests.serving.pathology.slide_bundles import publish

CHEN = {"name": "Chen Lan 陈岚", "licence": "110330100001234"}


class Serving:
    """The gateway, started and stopped in the loop that serves."""

    def __init__(self, gateway: App):
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
def service(tmp_path_factory) -> Iterator[tuple[App, str]]:
    folder = tmp_path_factory.mktemp("gateway")
    keys = bundle.create_signing_keys(folder / "keys")
    publish(folder / "bundles", keys, familiar=-1.0)
    environ = {"YUHENG_SLIDES_POLL_SECONDS": "0.1", "YUHENG_ACCESS_REQUIRED": "true"}
    settings = settings_for(folder / "bundles", SimpleNamespace(public=keys[1]), folder, **environ)
    gateway = App(settings)
    server = Server(Serving(gateway))
    server.server.config.lifespan = "on"
    with server as address:
        yield gateway, address


def token(gateway: App, *roles: str, tenant: str = "lab", **more: str) -> str:
    return bearer_of(gateway.settings, *roles, tenant=tenant, **more)["Authorization"].partition(" ")[2]


def signed_in(page: Any, gateway: App, *roles: str, tenant: str = "lab", **more: str) -> None:
    """At the worklist, by the form that a stranger sees."""
    page.goto("/console/slides")
    page.fill("#token", token(gateway, *roles, tenant=tenant, **more))
    shot(page, "sign_in")
    page.click("text=Sign in >> nth=-1")
    page.wait_for_selector(".session")
    shot(page, "signed_in_worklist")
    page.wrong[:] = [each for each in page.wrong if "401" not in each]  # as the browser tells of the refusal


def work(gateway: App, slide: str) -> None:
    """What arrived is read, in a thread of its own as DBOS wants no event loop in its."""
    failed: list[BaseException] = []

    def read() -> None:
        runner = TileRunner(gateway.settings)
        jobs = SlideWorkflow(gateway.settings, runner.infer)
        try:
            jobs.start()
            jobs.enqueue_new()
            jobs.wait_for_slide(slide, 100)
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
    signed_in(page, gateway, "clinic")
    page.wait_for_selector("#worklist .empty")
    page.set_input_files("#file", str(fake_readings.CMU))
    page.fill("#accession", "C2026-000042")
    page.select_option("#hpv_result", "positive")
    page.fill("#hpv_genotype", "16")
    page.click("#submit-upload")
    page.click("#upload-status a.button")
    page.wait_for_selector(".steps .current")
    assert "Verifying" in page.inner_text(".steps .current")
    slide = page.url.rpartition("/")[2]
    row = slide_store.get(gateway.service.store.engine, slide)
    assert row["sha256"] == hashlib.sha256(fake_readings.CMU.read_bytes()).hexdigest()
    assert row["request"]["hpv_genotype"] == ["16"]

    work(gateway, slide)
    page.wait_for_selector("#panel .triage.abstained")
    reading = slide_store.get(gateway.service.store.engine, slide)["reading"]
    assert [why["code"] for why in reading["abstained"]] == ["out_of_distribution"]
    assert reading["slide"]["format"] == "aperio"
    page.wait_for_selector("#evidence-list canvas")
    page.fill("#token", token(gateway, "pathologist", "clinic", **CHEN))
    page.click("text=Open for review")
    page.select_option("#diagnosis", "HSIL")
    page.fill("#findings", "Coarse chromatin. 染色质粗。")
    page.check("#confirmation")
    page.click("form.sign button[type=submit]")
    page.wait_for_selector(".stamp.final")
    page.wait_for_load_state("networkidle")
    shot(page, "gateway")

    pdf = page.request.get(page.get_attribute("#downloads a >> nth=0", "href")).body()
    words = PdfReader(io.BytesIO(pdf)).pages[0].extract_text()
    for told in ("SIGNED", "C2026-000042", "Coarse chromatin.", "染色质粗。", "110330100001234"):
        assert told in words, told
    assert hashlib.sha256(pdf).hexdigest() == slide_store.list_reports(gateway.service.store.engine, slide)[0]["sha256"]
    page.goto("/console/slides")
    page.select_option("#state-filter", "signed")
    assert page.locator("#worklist tbody tr").inner_text().split("\t")[4].strip() == "Signed"


def test_a_refused_form_is_told_field_by_field(page, service):
    signed_in(page, service[0], "clinic")
    page.set_input_files("#file", str(fake_readings.CMU))
    page.fill("#accession", "C2026-000043")
    page.fill("#hpv_genotype", "16")  # of a result that is not positive
    page.click("#submit-upload")
    page.wait_for_selector("#upload-status .refusal")
    assert "hpv_genotype" in page.inner_text("#upload-status .refusal")
    page.wrong[:] = [each for each in page.wrong if "422" not in each]


def test_who_is_no_pathologist_does_not_sign(page, service):
    gateway, _ = service
    slide = next(each for each in slide_store.worklist(gateway.service.store.engine, 1, tenant="lab"))["id"]
    signed_in(page, gateway, "clinic")
    page.goto(f"/console/slides/{slide}")
    page.fill("#token", "nobody")
    page.click("text=Continue")
    page.wait_for_selector(".report .refusal")
    assert "The token cannot be used" in page.inner_text(".report .refusal")
    page.fill("#token", token(gateway, "clinic"))
    page.click("text=Continue")
    page.wait_for_selector(".report .refusal:has-text('Only a pathologist can do this')")
    page.wrong[:] = [each for each in page.wrong if "401" not in each]


def test_another_clinic_and_who_signed_out_see_nothing(page, service):
    gateway, _ = service
    slide = next(each for each in slide_store.worklist(gateway.service.store.engine, 1, tenant="lab"))["id"]
    signed_in(page, gateway, "clinic", tenant="other")
    page.wait_for_selector("#worklist .empty")
    page.goto(f"/console/slides/{slide}")
    page.wait_for_selector("text=404")
    page.goto("/console/slides")
    page.click("text=Sign out")
    page.wait_for_selector("#token")
    page.goto(f"/console/slides/{slide}")
    page.wait_for_selector("#token")
    assert page.context.cookies() == []
    page.wrong[:] = [each for each in page.wrong if "401" not in each and "404" not in each]


def test_a_page_of_another_site_does_nothing_in_our_name(page, service):
    """One on another port counts as the same site, so its requests bring the cookie: they are told by their origin."""
    gateway, address = service
    signed_in(page, gateway, "clinic")
    slide = next(each for each in slide_store.worklist(gateway.service.store.engine, 1, tenant="lab"))["id"]

    async def elsewhere(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"<!doctype html><link rel=icon href=data:,>"})

    asked = gateway.metrics.text().decode()
    with Server(elsewhere) as evil:
        page.goto(evil)
        page.evaluate(
            """([place]) => fetch(place, {method: "POST", mode: "no-cors", credentials: "include"})""",
            [f"{address}/v1/slides/{slide}/cancel"],
        )
    assert 'route="/v1/slides/{id}/cancel",status="403"' not in asked
    assert 'route="/v1/slides/{id}/cancel",status="403"' in gateway.metrics.text().decode()
    page.wrong.clear()  # as the other page is of another place
