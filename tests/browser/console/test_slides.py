"""The slides' pages in both languages: worklist with turnaround and filters, a slide read and signed, a slide sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from serving.core.db.schema import SLIDE_EVENTS, SLIDES
from serving.core.identifiers import new_id
from serving.pathology.slides import store as slide_store
from tests.browser.conftest import shot
from tests.browser.console.conftest import TENANT, axe
from tests.serving.pathology import fake_readings
from tests.serving.pathology.conftest import FORM, READING, STATE_PATH, put_slide

NEGATIVE = READING | {"triage": "negative", "priority": 5}
CALM = {"en": "Negative, not sampled for audit", "zh": "阴性，未抽检"}
TIMES = {"verifying": 0, "ready": 14, "in_review": 200, "signed": 320}  # minutes after the arrival


def aged(gateway: Any, slide: str, days: float, slower: float) -> None:
    """As if it had come days ago."""
    came = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)
    with gateway.service.store.engine.begin() as connection:
        connection.execute(sa.update(SLIDES).where(SLIDES.c.id == slide).values(created=f"{came.isoformat()[:23]}Z"))
        for state, minutes in TIMES.items():
            at = f"{(came + timedelta(minutes=slower * minutes)).isoformat()[:23]}Z"
            mine = (SLIDE_EVENTS.c.slide == slide) & (SLIDE_EVENTS.c.state == state)
            connection.execute(sa.update(SLIDE_EVENTS).where(mine).values(at=at))


def real(gateway: Any, slide: str, accession: str) -> str:
    """A slide that was read, with its picture on the disk."""
    folder = gateway.settings.paths.slides / slide
    (folder / "slide").mkdir(parents=True)
    (folder / "slide" / fake_readings.CMU.name).write_bytes(fake_readings.CMU.read_bytes())
    probability, attention = fake_readings.heatmap()
    np.savez(folder / "heat.npz", probability=probability, attention=attention)
    reading = fake_readings.READING | {"slide_id": slide, "accession": accession}
    columns = FORM | {"request": FORM, "name": fake_readings.CMU.name, "sha256": reading["slide"]["sha256"]}
    slide_store.create(
        gateway.service.store.engine, slide, bytes=1, tenant=TENANT, **(columns | {"accession": accession})
    )
    for state in STATE_PATH[: STATE_PATH.index("ready") + 1]:
        slide_store.transition(
            gateway.service.store.engine, slide, state, **({"reading": reading} if state == "ready" else {})
        )
    return slide


@pytest.fixture(scope="module")
def ward(house: Any) -> dict[str, str]:
    """A fortnight of a small laboratory: accession -> slide."""
    gateway = house.gateway
    made = {f"C26-{number:05}": ("signed", {}) for number in range(301, 312)}
    made |= {"C26-00312": ("in_review", {}), "C26-00313": ("queued", {}), "C26-00314": ("ready", {})}
    made |= {
        "C26-00315": ("ready", {"reading": NEGATIVE, "audit": True}),
        "C26-00316": ("ready", {"reading": NEGATIVE}),
    }
    made |= {"C26-00317": ("signed", {"reading": NEGATIVE, "audit": True})}
    made |= {"B26-00021": ("ready", {"specimen": "breast_histology", "reading": READING | {"priority": 45}})}
    found = {}
    for number, (accession, (state, columns)) in enumerate(made.items()):
        found[accession] = put_slide(gateway, state, tenant=TENANT, accession=accession, **columns)
        aged(gateway, found[accession], 14 - 0.7 * number, 1 + (number % 5) ** 2 / 4)
    for number, language in enumerate(("en", "zh")):
        found[language] = real(gateway, new_id(), f"C26-0032{number}")
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_pathologist_takes_the_most_urgent_slide_and_signs_it(desk, ward, language):
    page = desk("pathologist", language=language)
    page.wait_for_selector("#worklist tbody tr")
    assert not page.locator("#form").count()
    names = page.locator("#worklist tbody td:nth-child(2)").all_inner_texts()
    assert "C26-00315" in names  # the negative that was drawn,
    assert "C26-00316" not in names  # not the other,
    assert not page.locator("#worklist .triage, #worklist .sampled").count()  # and nothing tells which it is
    page.click(".explanation summary")
    assert {"en": "one in ten", "zh": "十分之一"}[language] in page.inner_text(".explanation")
    page.wait_for_selector(".times .median")
    assert axe(page) == []
    shot(page, f"slides_worklist_pathologist_{language}")
    page.select_option("#state-filter", "open")
    page.wait_for_selector("#worklist tbody tr:has-text('C26-00316')")
    assert not page.locator("#worklist tbody", has_text=CALM[language]).count()
    page.select_option("#state-filter", "review")
    page.select_option("#specimen-filter", "breast_histology")
    page.wait_for_selector("#worklist tbody tr:only-child >> text=B26-00021")
    page.select_option("#specimen-filter", "")
    page.select_option("#state-filter", "signed")
    page.wait_for_selector("#worklist .sampled")
    page.fill("#accession-filter", "C26-00313")
    page.keyboard.press("Enter")
    page.wait_for_selector("#worklist tbody tr:only-child >> text=C26-00313")  # whatever was chosen before
    assert page.is_disabled("#state-filter")
    page.fill("#accession-filter", "")
    page.keyboard.press("Enter")
    page.wait_for_selector("#worklist .sampled")

    page.goto(f"/console/slides/{ward[language]}")
    page.wait_for_selector("#evidence-list canvas")
    page.wait_for_load_state("networkidle")
    assert axe(page) == []
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
    shot(page, f"slides_viewer_{language}")
    page.click("form.sign button[type=submit]")
    page.wait_for_selector(".stamp.final")
    page.click(".back")
    page.wait_for_selector("#worklist tbody tr")
    assert page.locator("#console > main, main").count() == 1


def test_a_long_worklist_is_leafed_through(desk, house):
    for number in range(101):
        put_slide(house.gateway, "queued", tenant="long", accession=f"L26-{number:05}")
    page = desk("clinic", tenant="long")
    page.wait_for_selector("#worklist tbody tr >> nth=99")
    shown = page.locator("#worklist tbody td:nth-child(2)").all_inner_texts()
    page.click("text=Less urgent")
    page.wait_for_selector("#worklist tbody tr:only-child")
    assert {*shown, page.inner_text("#worklist tbody td:nth-child(2)")} == {f"L26-{at:05}" for at in range(101)}
    page.click("text=More urgent")
    page.wait_for_selector("#worklist tbody tr >> nth=99")
    assert page.is_disabled("text=More urgent")
    assert axe(page) == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_clinic_sees_its_slides_and_sends_one_on_a_tablet(desk, ward, language):
    page = desk("clinic", language=language, width=820, height=1180)
    page.wait_for_selector("#worklist tbody tr")
    page.wait_for_selector(".times .median")
    assert page.evaluate("document.documentElement.scrollWidth") <= 820
    assert axe(page) == []
    calm = page.locator("#worklist tbody tr", has_text=CALM[language])
    assert calm.locator("a").all_inner_texts() == ["C26-00316"]  # the clinic knows that nobody is awaited there
    shot(page, f"slides_worklist_clinic_tablet_{language}")
    page.set_input_files("#file", str(fake_readings.CMU))
    page.fill("#accession", f"C26-0040{language}")
    page.click("#submit-upload")
    page.click("#upload-status a.button")
    page.wait_for_selector(".steps .current")
    assert axe(page) == []
    shot(page, f"slides_way_tablet_{language}")
    page.goto(f"/slides/{ward[language]}")  # the earlier address
    page.wait_for_selector("#evidence-list canvas")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= 820
    assert axe(page) == []
    shot(page, f"slides_viewer_tablet_{language}")


def to_sign(page, findings: str) -> None:
    page.wait_for_selector("#panel .triage")
    page.click("text=Open for review")
    page.select_option("#diagnosis", "LSIL")
    page.fill("#findings", findings)
    page.check("#confirmation")


def test_two_people_in_one_browser_do_not_sign_for_each_other(desk, house):
    slide = real(house.gateway, new_id(), "C26-00501")
    page = desk("pathologist", at=f"/console/slides/{slide}")
    to_sign(page, "mine")
    assert "Chen Lan 陈岚 · 110330100001234" in page.inner_text("form.sign .signer")
    wang = house.token("pathologist", name="Wang Wu 王五", licence="110330100009999")
    tab = page.context.new_page()
    tab.goto(f"/console#token={wang}")
    tab.wait_for_selector(".session >> text=Wang Wu")
    page.click("form.sign button.main")
    page.wait_for_selector("dialog.session-dialog >> text=Another person has signed in")
    assert axe(page) == []
    shot(page, "another_person")
    page.click("text=Back to my input")
    assert page.input_value("#findings") == "mine"
    assert slide_store.get(house.gateway.service.store.engine, slide)["state"] == "in_review"
    page.click("form.sign button.main")
    page.click("dialog.session-dialog button.main")
    page.wait_for_selector(".session >> text=Wang Wu")
    page.wait_for_selector("form.sign .signer >> text=Wang Wu")
    page.wrong[:] = [each for each in page.wrong if "409" not in each]


def test_an_amendment_outlives_its_session_and_a_lost_answer_signs_once(desk, house):
    slide = real(house.gateway, new_id(), "C26-00502")
    page = desk("pathologist", at=f"/console/slides/{slide}")
    to_sign(page, "first")
    lost = []

    def lose(route) -> None:
        if not lost:
            lost.append(route.fetch().status)
            route.abort()
        else:
            route.continue_()

    page.route("**/sign", lose)
    page.click("form.sign button.main")
    page.wait_for_selector(".report .refusal")
    page.click("form.sign button.main")
    page.wait_for_selector(".stamp.final")
    assert lost == [200]

    page.click("text=Amend")
    page.fill("#findings", "second")
    page.fill("#reason", "a reason of ten minutes")
    page.check("#confirmation")
    page.context.clear_cookies()
    page.click("form.sign button.main")
    page.fill("#token-again", house.token("pathologist"))
    page.click("dialog.session-dialog button")
    page.wait_for_selector("dialog.session-dialog", state="hidden")
    assert page.input_value("#reason") == "a reason of ten minutes"
    page.click("form.sign button.main")
    page.wait_for_selector(".stamp.amended")
    assert "a reason of ten minutes" in page.inner_text("div.signed")
    assert len(slide_store.list_reports(house.gateway.service.store.engine, slide)) == 2
    page.wrong[:] = [each for each in page.wrong if "401" not in each and "ERR_FAILED" not in each]


def test_a_slide_signed_elsewhere_meanwhile_is_shown_as_it_is_and_the_draft_stays(desk, house):
    slide = real(house.gateway, new_id(), "C26-00503")
    page = desk("pathologist", at=f"/console/slides/{slide}")
    to_sign(page, "mine")
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
    page.wrong[:] = [each for each in page.wrong if "409" not in each]


def test_a_slide_is_not_sent_for_another_person(desk, house):
    page = desk("clinic")
    page.set_input_files("#file", str(fake_readings.CMU))
    page.fill("#accession", "C26-00504")
    tab = page.context.new_page()
    tab.goto(f"/console#token={house.token('clinic', tenant='other')}")
    tab.wait_for_selector(".session >> text=other")
    page.click("#submit-upload")
    page.wait_for_selector("dialog.session-dialog >> text=Another person has signed in")
    page.click("text=Back to my input")
    with page.expect_response("**/v1/slides?*") as looked:  # as the worklist does of itself, every few seconds
        pass
    assert looked.value.status == 409
    page.wait_for_timeout(200)
    assert not page.is_visible("dialog.session-dialog")
    assert page.input_value("#accession") == "C26-00504"
    page.wrong[:] = [each for each in page.wrong if "409" not in each]


def test_a_worklist_stays_while_its_session_is_asked_for_and_goes_on(desk, house):
    put_slide(house.gateway, "queued", tenant="pause", accession="C26-00505")
    page = desk("clinic", tenant="pause")
    page.wait_for_selector("#worklist tbody tr")
    page.context.clear_cookies()
    page.wait_for_selector("#token-again")
    assert page.locator("#worklist tbody tr").count() == 1
    put_slide(house.gateway, "queued", tenant="pause", accession="C26-00506")
    page.fill("#token-again", house.token("clinic", "pause"))
    page.click("dialog.session-dialog button")
    page.wait_for_selector("#worklist tbody tr >> nth=1")
    page.wrong[:] = [each for each in page.wrong if "401" not in each]
