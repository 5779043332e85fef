"""The pages of slides, in both languages: worklist with turnaround and filters, review and signature, upload."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from datasets.slides.deidentification.deidentify import deidentify_slide
from datasets.slides.scale import ScaleStatement
from serving.core.db.schema import SLIDE_EVENTS, SLIDES
from serving.core.identifiers import new_id
from serving.pathology.slides import scale
from serving.pathology.slides import store as slide_store
from tests.browser.conftest import screenshot
from tests.browser.console.conftest import TENANT, axe
from tests.serving.pathology import fake_readings
from tests.serving.pathology.conftest import FORM, READING, STATE_PATH, put_slide

NEGATIVE = READING | {"triage": "negative", "priority": 5}
NOT_SAMPLED = {"en": "Negative, not sampled for audit", "zh": "阴性，未抽检"}
TIMES = {"verifying": 0, "ready": 14, "in_review": 200, "signed": 320}  # minutes after arrival


def backdate(gateway: Any, slide: str, days: float, factor: float) -> None:
    """Move the slide's arrival and later events into the past."""
    arrived = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)
    with gateway.service.store.engine.begin() as connection:
        connection.execute(sa.update(SLIDES).where(SLIDES.c.id == slide).values(created=f"{arrived.isoformat()[:23]}Z"))
        for state, minutes in TIMES.items():
            timestamp = f"{(arrived + timedelta(minutes=factor * minutes)).isoformat()[:23]}Z"
            this_event = (SLIDE_EVENTS.c.slide == slide) & (SLIDE_EVENTS.c.state == state)
            connection.execute(sa.update(SLIDE_EVENTS).where(this_event).values(at=timestamp))


def put_read_slide(gateway: Any, slide: str, accession: str) -> str:
    """Create a slide that has been read, with its file and heatmap on the disk."""
    folder = gateway.settings.paths.slides / slide
    (folder / "slide").mkdir(parents=True)
    proof = deidentify_slide(fake_readings.CMU, folder / "slide", key=bytes(32)).proof
    probability, attention = fake_readings.heatmap()
    np.savez(folder / "heat.npz", probability=probability, attention=attention)
    reading = fake_readings.READING | {"slide_id": slide, "accession": accession}
    columns = FORM | {"request": FORM, "name": fake_readings.CMU.name, "sha256": reading["slide"]["sha256"]}
    slide_store.create(
        gateway.service.store.engine, slide, bytes=1, tenant=TENANT, **(columns | {"accession": accession})
    )
    for state in STATE_PATH[: STATE_PATH.index("ready") + 1]:
        slide_store.transition(
            gateway.service.store.engine,
            slide,
            state,
            {"proof": proof.to_json()} if state == "deidentified" else None,
            **({"reading": reading} if state == "ready" else {}),
        )
    return slide


@pytest.fixture(scope="module")
def slide_ids(console: Any) -> dict[str, str]:
    """Two weeks of a small laboratory: accession number -> slide id; and a slide to be signed per language."""
    gateway = console.gateway
    slides = {f"C26-{number:05}": ("signed", {}) for number in range(301, 312)}
    slides |= {"C26-00312": ("in_review", {}), "C26-00313": ("queued", {}), "C26-00314": ("ready", {})}
    slides |= {
        "C26-00315": ("ready", {"reading": NEGATIVE, "audit": True}),
        "C26-00316": ("ready", {"reading": NEGATIVE}),
    }
    slides |= {"C26-00317": ("signed", {"reading": NEGATIVE, "audit": True})}
    slides |= {"B26-00021": ("ready", {"specimen": "breast_histology", "reading": READING | {"priority": 45}})}
    ids = {}
    for number, (accession, (state, columns)) in enumerate(slides.items()):
        ids[accession] = put_slide(gateway, state, tenant=TENANT, accession=accession, **columns)
        backdate(gateway, ids[accession], 14 - 0.7 * number, 1 + (number % 5) ** 2 / 4)
    for number, language in enumerate(("en", "zh")):
        ids[language] = put_read_slide(gateway, new_id(), f"C26-0032{number}")
    return ids


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_pathologist_finds_a_slide_in_the_worklist_and_signs_it(open_page, slide_ids, language):
    page = open_page("pathologist", language=language)
    page.wait_for_selector("#worklist tbody tr")
    assert not page.locator("#form").count()
    names = page.locator("#worklist tbody td:nth-child(2)").all_inner_texts()
    assert "C26-00315" in names  # the negative selected for audit,
    assert "C26-00316" not in names  # not the other one,
    assert not page.locator("#worklist .triage, #worklist .sampled").count()  # and nothing reveals which it is
    page.click(".explanation summary")
    assert {"en": "one in ten", "zh": "十分之一"}[language] in page.inner_text(".explanation")
    page.wait_for_selector(".times .median")
    assert axe(page) == []
    screenshot(page, f"slides_worklist_pathologist_{language}")
    page.select_option("#state-filter", "open")
    page.wait_for_selector("#worklist tbody tr:has-text('C26-00316')")
    assert not page.locator("#worklist tbody", has_text=NOT_SAMPLED[language]).count()
    page.select_option("#state-filter", "review")
    page.select_option("#specimen-filter", "breast_histology")
    page.wait_for_selector("#worklist tbody tr:only-child >> text=B26-00021")
    page.select_option("#specimen-filter", "")
    page.select_option("#state-filter", "signed")
    page.wait_for_selector("#worklist .sampled")
    page.fill("#accession-filter", "C26-00313")
    page.keyboard.press("Enter")
    page.wait_for_selector("#worklist tbody tr:only-child >> text=C26-00313")  # whatever state was selected before
    assert page.is_disabled("#state-filter")
    page.fill("#accession-filter", "")
    page.keyboard.press("Enter")
    page.wait_for_selector("#worklist .sampled")

    page.goto(f"/console/slides/{slide_ids[language]}")
    page.wait_for_selector("#evidence-list canvas")
    page.wait_for_load_state("networkidle")
    page.click("#proof summary")
    proof = page.inner_text("#proof")
    assert {"en": "No label, no macro image and no name in this copy", "zh": "本副本不含标签图、宏观图与姓名等标识"}[
        language
    ] in proof
    assert re.search(
        {"en": r"131 tiles as stored, \d+ decoded regions", "zh": r"存储图块 131 个，解码区域 \d+ 个"}[language], proof
    )
    assert "OpenSlide 4.0.1" in proof
    assert "tifffile" in proof
    assert axe(page) == []
    page.click("#proof summary")
    page.click({"en": "text=Open for review", "zh": "text=开始审核"}[language])
    page.select_option("#diagnosis", "HSIL")
    page.fill("#findings", "Coarse chromatin. 染色质粗。")
    page.click(".back")
    page.wait_for_selector("#worklist tbody tr")
    page.go_back()
    page.wait_for_selector("#evidence-list canvas")
    assert page.input_value("#diagnosis") == "HSIL"
    assert page.input_value("#findings") == "Coarse chromatin. 染色质粗。"
    page.check("#confirmation")
    screenshot(page, f"slides_viewer_{language}")
    page.click("form.sign button[type=submit]")
    page.wait_for_selector(".stamp.final")
    page.click(".back")
    page.wait_for_selector("#worklist tbody tr")
    assert page.locator("#console > main, main").count() == 1


def test_a_long_worklist_has_pages(open_page, console):
    for number in range(101):
        put_slide(console.gateway, "queued", tenant="long", accession=f"L26-{number:05}")
    page = open_page("clinic", tenant="long")
    page.wait_for_selector("#worklist tbody tr >> nth=99")
    first_page = page.locator("#worklist tbody td:nth-child(2)").all_inner_texts()
    page.click("text=Less urgent")
    page.wait_for_selector("#worklist tbody tr:only-child")
    assert {*first_page, page.inner_text("#worklist tbody td:nth-child(2)")} == {
        f"L26-{number:05}" for number in range(101)
    }
    page.click("text=More urgent")
    page.wait_for_selector("#worklist tbody tr >> nth=99")
    assert page.is_disabled("text=More urgent")
    assert axe(page) == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_clinic_sees_its_slides_and_uploads_one_on_a_tablet(open_page, slide_ids, language):
    page = open_page("clinic", language=language, width=820, height=1180)
    page.wait_for_selector("#worklist tbody tr")
    page.wait_for_selector(".times .median")
    assert page.evaluate("document.documentElement.scrollWidth") <= 820
    assert axe(page) == []
    not_sampled = page.locator("#worklist tbody tr", has_text=NOT_SAMPLED[language])
    assert not_sampled.locator("a").all_inner_texts() == ["C26-00316"]  # the clinic sees that this slide awaits nobody
    screenshot(page, f"slides_worklist_clinic_tablet_{language}")
    page.set_input_files("#file", str(fake_readings.CMU))
    page.fill("#accession", f"C26-0040{language}")
    page.click("#submit-upload")
    page.click("#upload-status a.button")
    page.wait_for_selector(".steps .current")
    assert axe(page) == []
    screenshot(page, f"slides_way_tablet_{language}")
    page.goto(f"/console/slides/{slide_ids[language]}")
    page.wait_for_selector("#evidence-list canvas")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= 820
    assert axe(page) == []
    screenshot(page, f"slides_viewer_tablet_{language}")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_clinic_confirms_the_scale_of_a_slide_whose_file_contradicts_itself(open_page, console, language):
    engine = console.gateway.service.store.engine
    slide = put_slide(console.gateway, "verifying", tenant=TENANT, accession=f"C26-0060{language}")
    statements = [
        ScaleStatement("Aperio MPP", 0.252, 0.252),
        ScaleStatement("XResolution, YResolution", 0.5, 0.5),
    ]
    reason = scale.confirmation_reason(statements, None)
    slide_store.transition(engine, slide, scale.WAITING_STATE, reasons=[reason])
    page = open_page("clinic", path=f"/console/slides/{slide}", language=language)
    page.wait_for_selector("#scales li >> nth=1")
    assert page.locator("#scales li").all_inner_texts() == [
        "0.252 µm/px Aperio MPP",
        "0.5 µm/px XResolution, YResolution",
    ]
    assert axe(page) == []
    screenshot(page, f"slides_scale_{language}")
    page.click("#scales button >> nth=0")
    assert page.input_value("#mpp") == "0.252"
    page.click(f"form >> text={ {'en': 'Confirm', 'zh': '确认'}[language] }")
    page.wait_for_selector(".steps .current")
    row = slide_store.get(engine, slide)
    assert (row["state"], row["mpp"]) == ("verifying", 0.252)


def fill_report(page, findings: str) -> None:
    page.wait_for_selector("#panel .triage")
    page.click("text=Open for review")
    page.select_option("#diagnosis", "LSIL")
    page.fill("#findings", findings)
    page.check("#confirmation")


def test_two_people_in_one_browser_cannot_sign_for_each_other(open_page, console):
    slide = put_read_slide(console.gateway, new_id(), "C26-00501")
    page = open_page("pathologist", path=f"/console/slides/{slide}")
    fill_report(page, "mine")
    assert "Chen Lan 陈岚 · 110330100001234" in page.inner_text("form.sign .signer")
    wang = console.token("pathologist", name="Wang Wu 王五", licence="110330100009999")
    tab = page.context.new_page()
    tab.goto(f"/console#token={wang}")
    tab.wait_for_selector(".session >> text=Wang Wu")
    page.click("form.sign button.main")
    page.wait_for_selector("dialog.session-dialog >> text=Another person has signed in")
    assert axe(page) == []
    screenshot(page, "another_person")
    page.click("text=Back to my input")
    assert page.input_value("#findings") == "mine"
    assert slide_store.get(console.gateway.service.store.engine, slide)["state"] == "in_review"
    page.click("form.sign button.main")
    page.click("dialog.session-dialog button.main")
    page.wait_for_selector(".session >> text=Wang Wu")
    page.wait_for_selector("form.sign .signer >> text=Wang Wu")
    page.errors[:] = [error for error in page.errors if "409" not in error]


def test_input_survives_the_session_and_a_lost_response_signs_once(open_page, console):
    slide = put_read_slide(console.gateway, new_id(), "C26-00502")
    page = open_page("pathologist", path=f"/console/slides/{slide}")
    fill_report(page, "first")
    lost_statuses = []

    def lose_first_response(route) -> None:
        if not lost_statuses:
            lost_statuses.append(route.fetch().status)
            route.abort()
        else:
            route.continue_()

    page.route("**/sign", lose_first_response)
    page.click("form.sign button.main")
    page.wait_for_selector(".report .refusal")
    page.click("form.sign button.main")
    page.wait_for_selector(".stamp.final")
    assert lost_statuses == [200]

    page.click("text=Amend")
    page.fill("#findings", "second")
    page.fill("#reason", "a reason of ten minutes")
    page.check("#confirmation")
    page.context.clear_cookies()
    page.click("form.sign button.main")
    page.fill("#token-again", console.token("pathologist"))
    page.click("dialog.session-dialog button")
    page.wait_for_selector("dialog.session-dialog", state="hidden")
    assert page.input_value("#reason") == "a reason of ten minutes"
    page.click("form.sign button.main")
    page.wait_for_selector(".stamp.amended")
    assert "a reason of ten minutes" in page.inner_text("div.signed")
    assert len(slide_store.list_reports(console.gateway.service.store.engine, slide)) == 2
    page.errors[:] = [error for error in page.errors if "401" not in error and "ERR_FAILED" not in error]


def test_a_slide_signed_in_another_tab_is_reloaded_and_the_draft_kept(open_page, console):
    slide = put_read_slide(console.gateway, new_id(), "C26-00503")
    page = open_page("pathologist", path=f"/console/slides/{slide}")
    fill_report(page, "mine")
    other = page.context.new_page()
    other.goto(f"/console/slides/{slide}")
    other.select_option("#diagnosis", "HSIL")
    other.fill("#findings", "of the other tab")
    other.check("#confirmation")
    other.click("form.sign button.main")
    other.wait_for_selector(".stamp.final")
    page.click("form.sign button.main")
    page.wait_for_selector(".stamp.final")
    assert "of the other tab" in page.inner_text("div.signed")
    page.wait_for_selector(".report .refusal")
    page.click("text=Amend")
    assert page.input_value("#findings") == "mine"
    page.errors[:] = [error for error in page.errors if "409" not in error]


def test_a_slide_is_not_uploaded_for_another_person(open_page, console):
    page = open_page("clinic")
    page.set_input_files("#file", str(fake_readings.CMU))
    page.fill("#accession", "C26-00504")
    tab = page.context.new_page()
    tab.goto(f"/console#token={console.token('clinic', tenant='other')}")
    tab.wait_for_selector(".session >> text=other")
    page.click("#submit-upload")
    page.wait_for_selector("dialog.session-dialog >> text=Another person has signed in")
    page.click("text=Back to my input")
    with page.expect_response("**/v1/slides?*") as response_info:  # the worklist polls every few seconds
        pass
    assert response_info.value.status == 409
    page.wait_for_timeout(200)
    assert not page.is_visible("dialog.session-dialog")
    assert page.input_value("#accession") == "C26-00504"
    page.errors[:] = [error for error in page.errors if "409" not in error]


def test_the_worklist_stays_during_renewal_of_the_session_and_then_continues(open_page, console):
    put_slide(console.gateway, "queued", tenant="pause", accession="C26-00505")
    page = open_page("clinic", tenant="pause")
    page.wait_for_selector("#worklist tbody tr")
    page.context.clear_cookies()
    page.wait_for_selector("#token-again")
    assert page.locator("#worklist tbody tr").count() == 1
    put_slide(console.gateway, "queued", tenant="pause", accession="C26-00506")
    page.fill("#token-again", console.token("clinic", "pause"))
    page.click("dialog.session-dialog button")
    page.wait_for_selector("#worklist tbody tr >> nth=1")
    page.errors[:] = [error for error in page.errors if "401" not in error]
