"""The report in the viewer: reviewed, signed, amended, downloaded."""

from __future__ import annotations

from tests.browser.browser_helpers import ID, open_slide, wait_until_still
from tests.browser.clinic import PERSON, TOKEN, read_slide_row
from tests.browser.conftest import screenshot
from tests.serving.pathology.fake_readings import ABSTAINED


def test_a_pathologist_reviews_signs_and_amends(page, clinic):
    open_slide(page, clinic)
    page.fill("#token", TOKEN)
    page.click("text=Open for review")
    page.wait_for_selector("#diagnosis")
    assert clinic.slides[ID]["state"] == "in_review"
    page.select_option("#diagnosis", "HSIL")
    page.fill("#findings", "Clusters with coarse chromatin. 成团细胞，染色质粗。\n<b>no markup</b>")
    page.click("form.sign button[type=submit]")
    assert not clinic.reports  # not before they have confirmed their own review
    page.check("#confirmation")
    screenshot(page, "form")
    page.click("form.sign button[type=submit]")
    page.wait_for_selector(".stamp.final")
    assert clinic.reports[ID][0]["diagnosis"] == "HSIL"
    assert "<b>no markup</b>" in page.inner_text(".signed .findings")
    assert page.inner_text("#state") == "Signed"
    screenshot(page, "signed")
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


def test_a_signed_in_pathologist_needs_no_token_for_the_next_slide(page, clinic):
    open_slide(page, clinic)
    page.fill("#token", TOKEN)
    page.click("text=Open for review")
    page.wait_for_selector("#diagnosis")
    clinic.slides[ID]["state"] = "ready"
    page.reload()
    page.wait_for_selector(".session")
    assert PERSON["licence"] in page.inner_text(".session")
    assert not page.locator("#token").count()
    screenshot(page, "signed_in")
    page.click("text=Open for review")
    page.wait_for_selector("#diagnosis")
    page.click("text=Sign out")
    page.wait_for_selector("#token")
    assert page.context.cookies() == []


def test_an_invalid_token_is_refused_beside_the_form(page, clinic):
    open_slide(page, clinic)
    page.fill("#token", "wrong")
    page.click("text=Open for review")
    page.wait_for_selector(".report .refusal")
    assert "nobody's" in page.inner_text(".report .refusal")
    assert clinic.slides[ID]["state"] == "ready"
    page.errors[:] = [error for error in page.errors if "401" not in error]  # the browser reports the refusal too


def test_an_abstention_gives_its_reasons_and_can_be_signed(page, clinic):
    open_slide(page, clinic, read_slide_row(ID, "abstained", ABSTAINED))
    assert "No AI result" in page.inner_text("#panel .triage")
    assert "unlike anything the model learned from" in page.inner_text("#panel")
    assert page.locator("#token").is_visible()
    assert not page.locator("#simulated").is_visible()
    wait_until_still(page)
    screenshot(page, "abstained")


def test_reports_can_be_downloaded_as_pdf_fhir_and_geojson(page, clinic):
    open_slide(page, clinic)
    kinds = {}
    for link in page.locator("#downloads a").all():
        response = page.request.get(link.get_attribute("href"))
        assert response.ok
        kinds[link.inner_text()] = response.headers["content-type"]
    assert kinds == {"PDF": "application/pdf", "FHIR": "application/json", "GeoJSON": "application/geo+json"}
