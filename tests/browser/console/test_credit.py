"""The loan officer's pages: a household entered, decided, looked up, referred, overridden; its letter; a batch."""

from __future__ import annotations

import io
import re

import httpx
import polars as pl
import pytest
from playwright.sync_api import expect
from pypdf import PdfReader

from serving.privacy.consent import grants
from serving.privacy.consent.rules import load_rules
from tests.browser.conftest import screenshot
from tests.browser.console.conftest import TENANT, axe
from tests.serving.conftest import indicators, put_subject, vault_of

HOUSEHOLD = "H-2026-0007"
FILL = {"en": "Fill in a made-up household", "zh": "填入虚构农户示例"}
ASK = {"en": "Request a decision", "zh": "申请决定"}
NOW = {"en": "Request a decision now", "zh": "立即申请决定"}


@pytest.fixture(scope="module")
def stored(console, people, made):
    """Store a household with the county's authorisation and its own."""
    gateway, settings = console.gateway, console.gateway.settings
    table = gateway.service.model_loader.deployed["credit_limit"].table
    put_subject(gateway.service.store.engine, settings, table, HOUSEHOLD, indicators(people, made.card, 7))
    rules, vault = load_rules(), vault_of(settings)
    with gateway.service.store.engine.begin() as connection:
        for kind, party in (("government", {"grantor": "County"}), ("personal", {"subject_id": HOUSEHOLD})):
            payload = {"kind": kind, "tenant": TENANT, "purpose": "credit_limit", "valid_to": "2099-12-31"}
            payload |= {"groups": rules.groups("credit_limit"), "document_sha256": "0" * 64, **party}
            form, errors = grants.validate(payload, rules, vault)
            assert form is not None, errors
            grants.create(connection, form, "operator")


def amount(text: str) -> int:
    return int(re.sub(r"\D", "", text))


LETTER = {  # in the chosen language: the reason of the person, and the household's rights
    "en": ("The facts that had to be checked were clarified.", "A person made this decision.", "withdraw your consent"),
    "zh": ("需核实的事项已核实清楚。", "本决定由工作人员作出。", "撤回后其他事项不受影响"),
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_household_is_decided_referred_overridden_and_gets_a_letter(open_page, language):
    page = open_page("bank", language=language)
    page.wait_for_selector("#main fieldset")
    page.click(f"text={FILL[language]}")
    page.wait_for_selector(".preview .headline")
    assert not page.is_checked("[name=moral_data_consent]"), "consent is asked, never assumed"
    initial_limit = amount(page.inner_text(".preview .headline"))
    page.fill("[name=monthly_debt_service]", "2600")
    page.wait_for_selector(".preview .limit-change.bad-text")
    assert amount(page.locator(".preview .headline").evaluate("it => it.firstChild.textContent")) < initial_limit
    assert axe(page) == []
    screenshot(page, f"credit_preview_{language}")
    page.fill("[name=declared_income]", "much")
    page.wait_for_selector(".field .fault")
    assert page.get_attribute("[name=declared_income]", "aria-invalid") == "true"
    screenshot(page, f"credit_fault_{language}")
    page.fill("[name=declared_income]", "96000")
    page.wait_for_selector(".field .fault", state="detached")
    page.click(f".preview >> text={ASK[language]}")
    page.wait_for_url("**/decisions/*")
    page.wait_for_selector(".waterfall .total")
    assert page.locator(".bars li").count() > 3
    assert axe(page) == []
    screenshot(page, f"credit_decision_{language}")

    page.click("details.human-action >> nth=1")
    page.fill("details.human-action >> nth=1 >> input", "bank")
    page.fill("details.human-action >> nth=1 >> textarea", "Please look at the debts.\n请复核负债。")
    page.click("details.human-action >> nth=1 >> button[type=submit]")
    page.wait_for_selector("text=Please look at the debts.")
    decision = page.url.rpartition("/")[2]
    page.click(".tabs a >> nth=2")
    page.wait_for_selector(f"tbody a[href$='{decision}']")
    screenshot(page, f"credit_inbox_{language}")
    page.click(f"tbody a[href$='{decision}']")
    page.wait_for_selector("text=Please look at the debts.")
    page.wait_for_selector(".waterfall .total")
    page.click("details.human-action >> nth=0 >> summary")
    page.wait_for_selector("details.human-action >> nth=0 >> input")
    page.fill("details.human-action >> nth=0 >> input", "55000")
    page.select_option("details.human-action >> nth=0 >> select >> nth=1", "facts_clarified")
    page.fill("details.human-action >> nth=0 >> textarea", "Seen at home; the debts are paid. 已上门核实，负债已清。")
    page.click("details.human-action >> nth=0 >> button[type=submit]")
    page.wait_for_selector("text=the debts are paid")
    page.click(f"a[href$='{decision}/letter']")
    page.wait_for_selector(".letter")
    letter = page.inner_text(".letter")
    assert "55,000" in letter
    assert "SIMULATED" in letter
    assert "debts are paid" not in letter, "the reason was written for the log"
    page.fill(".no-print textarea", "Thank you for showing us your books. 感谢您出示账目。")
    page.wait_for_selector(".letter >> text=感谢您出示账目")
    for expected in LETTER[language]:
        assert expected in letter
    assert not any(text in letter for text in LETTER["zh" if language == "en" else "en"])
    assert not page.locator(".letter h2 >> text=/favour|lowered|有利|不利/").count(), "reasons of the model"
    page.emulate_media(media="print")
    assert page.locator(".top").is_hidden()
    screenshot(page, f"credit_letter_{language}")
    assert len(PdfReader(io.BytesIO(page.pdf(format="A4"))).pages) == 1
    page.errors[:] = [error for error in page.errors if "422" not in error]


def test_a_stored_household_is_looked_up_without_displaying_its_values(open_page, stored):
    page = open_page("bank")
    page.fill("[name=household]", HOUSEHOLD)
    page.keyboard.press("Enter")
    for times in (1, 2):
        page.wait_for_url(f"**/household/{HOUSEHOLD}")
        page.click(f"text={NOW['en']}")
        page.wait_for_selector(".waterfall .total")
        assert "values hidden" in page.inner_text("#main")
        page.go_back()
        page.wait_for_selector(f"tbody tr >> nth={times - 1}")
    page.wait_for_selector("svg.plot")
    assert axe(page) == []
    screenshot(page, "credit_household")
    page.fill("[name=household]", "H-nobody")
    page.keyboard.press("Enter")
    page.click(f"text={NOW['en']}")
    page.wait_for_selector(".refusal")
    page.errors[:] = [error for error in page.errors if "404" not in error]


def test_a_batch_is_uploaded_followed_and_downloaded(open_page, people, made, tmp_path):
    columns = [column.name for column in (*made.card.inputs, *made.card.also) if column.derived is None]
    file = tmp_path / "households.csv"
    people.head(40).select("household_id", *columns).write_csv(file)
    page = open_page("bank", width=820, height=1180, path="/console/credit/batches")
    page.set_input_files("input[type=file]", str(file))
    expect(page.locator("form.stack input:not([type=file])")).to_have_value("household_id")
    page.click("form.stack button[type=submit]")
    page.wait_for_selector("tbody tr")
    page.wait_for_selector("text=40 rows processed of 40")
    assert axe(page) == []
    screenshot(page, "credit_batches_tablet")
    with page.expect_download() as download_info:
        page.click("tbody a >> nth=0")
    assert pl.read_csv(download_info.value.path()).height == 40


def test_a_referred_row_of_a_batch_is_opened_from_the_inbox(open_page, console, people, made):
    columns = [column.name for column in (*made.card.inputs, *made.card.also) if column.derived is None]
    body = people.head(2).select(columns).write_csv().encode()
    with httpx.Client(base_url=console.address, headers={"Authorization": f"Bearer {console.token('bank')}"}) as client:
        response = client.post("/v1/credit-limits/batch", content=body, headers={"Content-Type": "text/csv"})
        row = f"{response.headers['Batch-Id']}-2"
        response = client.post(f"/v1/decisions/{row}/refer", json={"to": "bank", "note": "Look at the second row"})
        assert response.status_code == 200, response.text
    page = open_page("bank", path="/console/credit/inbox")
    page.click(f"tbody a[href$='{row}']")
    page.wait_for_selector("text=A row of a batch")
    page.wait_for_selector("text=Look at the second row")
    assert "bound_affordability" in page.inner_text("#main")
    assert axe(page) == []


@pytest.fixture
def client(console):
    with httpx.Client(base_url=console.address, headers={"Authorization": f"Bearer {console.token('bank')}"}) as client:
        yield client


def request_decision(client, people, made, index=3) -> str:
    response = client.post("/v1/credit-limits", json={"indicators": indicators(people, made.card, index)})
    assert response.status_code == 200, response.text
    return response.json()["decision_id"]


def test_a_letter_offers_nothing_before_the_human_decision_is_known(open_page, client, people, made):
    decision = request_decision(client, people, made)
    override = {"decision": "decline", "reason": "Internal: the deed looks forged", "reason_code": "documents_missing"}
    assert client.post(f"/v1/decisions/{decision}/override", json=override).status_code == 200
    page = open_page("bank", path="/console/credit/decisions")
    page.wait_for_selector("tbody tr")
    page.route("**/v1/decisions?id=*", lambda route: route.fulfill(status=503, json={"title": "Not now"}))
    page.goto(f"/console/credit/decisions/{decision}/letter")
    page.wait_for_selector(".refusal")
    assert not page.locator(".letter").count()
    page.unroute("**/v1/decisions?id=*")
    page.click(".refusal button")
    page.wait_for_selector(".letter")
    letter = page.inner_text(".letter")
    assert "unable to offer" in letter
    assert "Documents that we asked for are missing." in letter
    for forbidden in ("We can lend", "forged", "What would raise"):
        assert forbidden not in letter
    referral = {"to": "li.na", "note": "Once more, please"}
    assert client.post(f"/v1/decisions/{decision}/refer", json=referral).status_code == 200
    page.reload()
    page.wait_for_selector(".letter >> text=is reviewing your application")
    page.errors[:] = [error for error in page.errors if "503" not in error]


def test_a_request_whose_response_was_lost_is_recorded_once(open_page, client):
    def ids() -> set[str]:
        return {decision["decision_id"] for decision in client.get("/v1/decisions?limit=200").json()["decisions"]}

    page, known_ids = open_page("bank"), ids()
    page.wait_for_selector("#main fieldset")
    page.click(f"text={FILL['en']}")
    page.wait_for_selector(".preview .headline")
    page.route("**/v1/credit-limits", lambda route: (route.fetch(), route.abort()))
    page.click(f".preview >> text={ASK['en']}")
    page.wait_for_selector("text=The service could not be reached")
    assert len(ids() - known_ids) == 1
    page.unroute("**/v1/credit-limits")
    page.click(f".preview >> text={ASK['en']}")
    page.wait_for_url("**/decisions/*")
    assert ids() - known_ids == {page.url.rpartition("/")[2]}
    page.errors[:] = [error for error in page.errors if "ERR_FAILED" not in error]


def test_a_refused_preview_can_be_repeated(open_page):
    page = open_page("bank")
    page.wait_for_selector("#main fieldset")
    page.route("**/what-if", lambda route: route.fulfill(status=429, json={"title": "Too many requests"}), times=1)
    page.click(f"text={FILL['en']}")
    page.click(".preview .refusal >> text=Try again")
    page.wait_for_selector(".preview .headline")
    assert page.is_enabled(f".preview >> text={ASK['en']}")
    page.errors[:] = [error for error in page.errors if "429" not in error]


def test_amounts_are_in_the_currency_of_the_policy(open_page, client, people, made):
    decision = request_decision(client, people, made)
    page = open_page("bank", language="zh", path="/console/credit/decisions")
    decision_payload = client.get(f"/v1/decisions/{decision}").json() | {"currency": "TWD"}
    page.route(f"**/v1/decisions/{decision}", lambda route: route.fulfill(json=decision_payload))
    page.goto(f"/console/credit/decisions/{decision}")
    page.wait_for_selector(".headline >> text=TWD")
    page.wait_for_selector("text=新台币元", state="attached")
    assert "RMB" not in page.inner_text("#main")


def test_input_survives_a_change_of_language_and_of_the_page(open_page):
    page = open_page("bank")
    page.wait_for_selector("#main fieldset")
    page.fill("[name=deposits]", "58000")
    page.click("[data-choose=zh]")
    page.wait_for_selector("text=新申请")
    assert page.input_value("[name=deposits]") == "58000"
    page.click(".tabs a >> nth=1")
    page.wait_for_selector("#which")
    page.go_back()
    page.wait_for_selector("#main fieldset")
    assert page.input_value("[name=deposits]") == "58000"
