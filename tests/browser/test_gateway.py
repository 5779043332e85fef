"""A real slide in the browser with the real gateway, store and worker: uploaded, read, signed, downloaded as PDF.

The small model finds every tile unfamiliar, as a model of cervical cells should with a slide of another organ.
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
from tests.browser.conftest import screenshot
from tests.serving.conftest import bearer_of, settings_for
from tests.serving.pathology import fake_readings
from tests.serving.pathology.slide_bundles import publish

CHEN = {"name": "Chen Lan 陈岚", "licence": "110330100001234"}


class LifespanApp:
    """Starts and stops the gateway in the event loop of the server."""

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
    server = Server(LifespanApp(gateway))
    server.server.config.lifespan = "on"
    with server as address:
        yield gateway, address


def token(gateway: App, *roles: str, tenant: str = "lab", **claims: str) -> str:
    return bearer_of(gateway.settings, *roles, tenant=tenant, **claims)["Authorization"].partition(" ")[2]


def sign_in(page: Any, gateway: App, *roles: str, tenant: str = "lab", **claims: str) -> None:
    """Open the worklist and sign in with the form."""
    page.goto("/console/slides")
    page.fill("#token", token(gateway, *roles, tenant=tenant, **claims))
    screenshot(page, "sign_in")
    page.click("text=Sign in >> nth=-1")
    page.wait_for_selector(".session")
    screenshot(page, "signed_in_worklist")
    page.errors[:] = [error for error in page.errors if "401" not in error]  # the browser reports the refusal


def read_slide(gateway: App, slide: str) -> None:
    """Read the slide in a thread of its own, because DBOS needs one without an event loop."""
    errors: list[BaseException] = []

    def run_workflow() -> None:
        runner = TileRunner(gateway.settings)
        workflow = SlideWorkflow(gateway.settings, runner.infer)
        try:
            workflow.start()
            workflow.enqueue_new()
            workflow.wait_for_slide(slide, 100)
        except BaseException as error:  # raised by the caller of the thread
            errors.append(error)
        finally:
            workflow.stop()
            runner.close()

    thread = threading.Thread(target=run_workflow)
    thread.start()
    thread.join(120)
    assert not errors, errors


def test_a_slide_is_uploaded_read_signed_and_downloaded_as_pdf(page, service):
    gateway, _ = service
    sign_in(page, gateway, "clinic")
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

    read_slide(gateway, slide)
    page.wait_for_selector("#panel .triage.abstained")
    reading = slide_store.get(gateway.service.store.engine, slide)["reading"]
    assert [reason["code"] for reason in reading["abstained"]] == ["out_of_distribution"]
    assert reading["slide"]["format"] == "aperio"
    assert (reading["probability"], reading["classes"], reading["evidence"]) == (None, [], [])
    assert "%" not in page.inner_text("#panel section[aria-labelledby=result] .classes")
    assert "not assessed" in page.inner_text("#panel .adequacy")
    assert not page.is_visible("#evidence")
    page.fill("#token", token(gateway, "pathologist", "clinic", **CHEN))
    page.click("text=Open for review")
    page.select_option("#diagnosis", "HSIL")
    page.fill("#findings", "Coarse chromatin. 染色质粗。")
    page.check("#confirmation")
    page.click("form.sign button[type=submit]")
    page.wait_for_selector(".stamp.final")
    page.wait_for_load_state("networkidle")
    screenshot(page, "gateway")

    pdf = page.request.get(page.get_attribute("#downloads a >> nth=0", "href")).body()
    words = PdfReader(io.BytesIO(pdf)).pages[0].extract_text()
    for expected in ("SIGNED", "C2026-000042", "Coarse chromatin.", "染色质粗。", "110330100001234"):
        assert expected in words, expected
    assert hashlib.sha256(pdf).hexdigest() == slide_store.list_reports(gateway.service.store.engine, slide)[0]["sha256"]
    page.goto("/console/slides")
    page.select_option("#state-filter", "signed")
    assert page.locator("#worklist tbody tr").inner_text().split("\t")[4].strip() == "Signed"


def test_a_refused_form_names_the_wrong_field(page, service):
    sign_in(page, service[0], "clinic")
    page.set_input_files("#file", str(fake_readings.CMU))
    page.fill("#accession", "C2026-000043")
    page.fill("#hpv_genotype", "16")  # although the result is not positive
    page.click("#submit-upload")
    page.wait_for_selector("#upload-status .refusal")
    assert "hpv_genotype" in page.inner_text("#upload-status .refusal")
    page.errors[:] = [error for error in page.errors if "422" not in error]


def test_only_a_pathologist_can_sign(page, service):
    gateway, _ = service
    slide = slide_store.worklist(gateway.service.store.engine, 1, tenant="lab")[0]["id"]
    sign_in(page, gateway, "clinic")
    page.goto(f"/console/slides/{slide}")
    page.fill("#token", "nobody")
    page.click("text=Continue")
    page.wait_for_selector(".report .refusal")
    assert "The token cannot be used" in page.inner_text(".report .refusal")
    page.fill("#token", token(gateway, "clinic"))
    page.click("text=Continue")
    page.wait_for_selector(".report .refusal:has-text('Only a pathologist can do this')")
    page.errors[:] = [error for error in page.errors if "401" not in error]


def test_other_tenants_and_signed_out_users_see_no_slide(page, service):
    gateway, _ = service
    slide = slide_store.worklist(gateway.service.store.engine, 1, tenant="lab")[0]["id"]
    sign_in(page, gateway, "clinic", tenant="other")
    page.wait_for_selector("#worklist .empty")
    page.goto(f"/console/slides/{slide}")
    page.wait_for_selector("text=404")
    page.goto("/console/slides")
    page.click("text=Sign out")
    page.wait_for_selector("#token")
    page.goto(f"/console/slides/{slide}")
    page.wait_for_selector("#token")
    assert page.context.cookies() == []
    page.errors[:] = [error for error in page.errors if "401" not in error and "404" not in error]


def test_a_page_of_another_origin_cannot_act_for_the_user(page, service):
    """Another port is the same site, so requests from its page carry the cookie; they are refused by their origin."""
    gateway, address = service
    sign_in(page, gateway, "clinic")
    slide = slide_store.worklist(gateway.service.store.engine, 1, tenant="lab")[0]["id"]

    async def foreign_page(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"<!doctype html><link rel=icon href=data:,>"})

    metrics_before = gateway.metrics.render().decode()
    with Server(foreign_page) as foreign_address:
        page.goto(foreign_address)
        page.evaluate(
            """([url]) => fetch(url, {method: "POST", mode: "no-cors", credentials: "include"})""",
            [f"{address}/v1/slides/{slide}/cancel"],
        )
    assert 'route="/v1/slides/{id}/cancel",status="403"' not in metrics_before
    assert 'route="/v1/slides/{id}/cancel",status="403"' in gateway.metrics.render().decode()
    page.errors.clear()  # because the other page is on another host
