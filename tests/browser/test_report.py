"""The report in the viewer: opened, signed, amended, taken home."""

from __future__ import annotations

from tests.browser.browser_helpers import ID, opened, settled
from tests.browser.clinic import PERSON, TOKEN, read
from tests.browser.conftest import shot
from tests.serving.pathology.fake_readings import ABSTAINED


def test_a_pathologist_opens_signs_and_amends(page, clinic):
    opened(page, clinic)
    page.fill("#token", TOKEN)
    page.click("text=Open for review")
    page.wait_for_selector("#diagnosis")
    assert clinic.slides[ID]["state"] == "in_review"
    page.select_option("#diagnosis", "HSIL")
    page.fill("#findings", "Clusters with coarse chromatin. 成团细胞，染色质粗。\n<b>no markup</b>")
    page.click("form.sign button[type=submit]")
    assert not clinic.reports  # not before they say that they looked themselves
    page.check("#confirmation")
    shot(page, "form")
    page.click("form.sign button[type=submit]")
    page.wait_for_selector(".stamp.final")
    assert clinic.reports[ID][0]["diagnosis"] == "HSIL"
    assert "<b>no markup</b>" in page.inner_text(".signed .findings")
    assert page.inner_text("#state") == "Signed"
    shot(page, "signed")
    page.click("text=Amend")  # the token is still known
    page.select_option("#diagnosis", "other")
    page.fill("#other", "ASC-H, favour reactive")
    page.fill("#reason", "Second look")
    page.check("#confirmation")
    page.click("text=Sign the amendment")
    page.wait_for_selector(".stamp.amended")
    assert clinic.reports[ID][1] | {"version": 2, "amends": 1, "reason": "Second look"} == clinic.reports[ID][1]
    assert "Replaces v1" in page.inner_text(".signed")
    assert page.evaluate("JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie").find(TOKEN) == -1


def test_who_is_signed_in_opens_the_next_slide_without_a_token_and_signs_out(page, clinic):
    opened(page, clinic)
    page.fill("#token", TOKEN)
    page.click("text=Open for review")
    page.wait_for_selector("#diagnosis")
    clinic.slides[ID]["state"] = "ready"
    page.reload()
    page.wait_for_selector(".session")
    assert PERSON["licence"] in page.inner_text(".session")
    assert not page.locator("#token").count()
    shot(page, "signed_in")
    page.click("text=Open for review")
    page.wait_for_selector("#diagnosis")
    page.click("text=Sign out")
    page.wait_for_selector("#token")
    assert page.context.cookies() == []


def test_a_token_that_is_nobodys_is_refused_beside_the_form(page, clinic):
    opened(page, clinic)
    page.fill("#token", "wrong")
    page.click("text=Open for review")
    page.wait_for_selector(".report .refusal")
    assert "nobody's" in page.inner_text(".report .refusal")
    assert clinic.slides[ID]["state"] == "ready"
    page.wrong[:] = [each for each in page.wrong if "401" not in each]  # the browser tells of the refusal too


def test_an_abstained_slide_says_why_and_can_be_signed(page, clinic):
    opened(page, clinic, read(ID, "abstained", {**ABSTAINED, "classes": [], "probability": None, "evidence": []}))
    assert "No AI result" in page.inner_text("#panel .triage")
    assert "unlike anything the model learned from" in page.inner_text("#panel")
    assert page.locator("#token").is_visible()
    assert not page.locator("#simulated").is_visible()
    settled(page)
    shot(page, "abstained")


def test_downloads_lead_to_pdf_fhir_and_geojson(page, clinic):
    opened(page, clinic)
    kinds = {}
    for link in page.locator("#downloads a").all():
        answer = page.request.get(link.get_attribute("href"))
        assert answer.ok
        kinds[link.inner_text()] = answer.headers["content-type"]
    assert kinds == {"PDF": "application/pdf", "FHIR": "application/json", "GeoJSON": "application/geo+json"}
