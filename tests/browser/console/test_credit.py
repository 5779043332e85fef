"""The loan officer: a household entered and decided, looked up, referred, overridden, told by letter; a batch."""

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
from tests.browser.conftest import shot
from tests.browser.console.conftest import TENANT, axe
from tests.serving.conftest import indicators, put_subject, vault_of

HOUSEHOLD = "H-2026-0007"
FILL = {"en": "Fill in a made-up household", "zh": "填入虚构农户示例"}
ASK = {"en": "Request a decision", "zh": "申请决定"}
NOW = {"en": "Request a decision now", "zh": "立即申请决定"}


@pytest.fixture(scope="module")
def stored(house, people, made):
    """A household in the store, with the county's authorisation and its own."""
    gateway, settings = house.gateway, house.gateway.settings
    table = gateway.service.model_loader.deployed["credit_limit"].table
    put_subject(gateway.service.store.engine, settings, table, HOUSEHOLD, indicators(people, made.card, 7))
    told, vault = load_rules(), vault_of(settings)
    with gateway.service.store.engine.begin() as connection:
        for kind, whose in (("government", {"grantor": "County"}), ("personal", {"subject_id": HOUSEHOLD})):
            found = {"kind": kind, "tenant": TENANT, "purpose": "credit_limit", "valid_to": "2099-12-31"}
            found |= {"groups": told.groups("credit_limit"), "document_sha256": "0" * 64, **whose}
            form, faults = grants.validate(found, told, vault)
            assert form is not None, faults
            grants.create(connection, form, "operator")


def amount(text: str) -> int:
    return int(re.sub(r"\D", "", text))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_household_is_entered_decided_referred_overridden_and_told_by_letter(desk, language):
    page = desk("bank", language=language)
    page.wait_for_selector("#main fieldset")
    page.click(f"text={FILL[language]}")
    page.wait_for_selector(".preview .headline")
    before = amount(page.inner_text(".preview .headline"))
    page.fill("[name=monthly_debt_service]", "2600")
    page.wait_for_selector(".preview .limit-change.bad-text")
    assert amount(page.locator(".preview .headline").evaluate("it => it.firstChild.textContent")) < before
    assert axe(page) == []
    shot(page, f"credit_preview_{language}")
    page.fill("[name=declared_income]", "much")
    page.wait_for_selector(".field .fault")
    assert page.get_attribute("[name=declared_income]", "aria-invalid") == "true"
    shot(page, f"credit_fault_{language}")
    page.fill("[name=declared_income]", "96000")
    page.wait_for_selector(".field .fault", state="detached")
    page.click(f".preview >> text={ASK[language]}")
    page.wait_for_url("**/decisions/*")
    page.wait_for_selector(".waterfall .total")
    assert page.locator(".bars li").count() > 3
    assert axe(page) == []
    shot(page, f"credit_decision_{language}")

    page.click("details.human-action >> nth=1")
    page.fill("details.human-action >> nth=1 >> input", "bank")
    page.fill("details.human-action >> nth=1 >> textarea", "Please look at the debts.\n请复核负债。")
    page.click("details.human-action >> nth=1 >> button[type=submit]")
    page.wait_for_selector("text=Please look at the debts.")
    decision = page.url.rpartition("/")[2]
    page.click(".tabs a >> nth=2")
    page.wait_for_selector(f"tbody a[href$='{decision}']")
    shot(page, f"credit_inbox_{language}")
    page.click(f"tbody a[href$='{decision}']")
    page.click("details.human-action >> nth=0")
    page.fill("details.human-action >> nth=0 >> input", "55000")
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
    for right in ("withdraw your consent", "撤回后其他事项不受影响"):
        assert right in letter
    page.emulate_media(media="print")
    assert page.locator(".top").is_hidden()
    shot(page, f"credit_letter_{language}")
    assert len(PdfReader(io.BytesIO(page.pdf(format="A4"))).pages) == 1
    page.wrong[:] = [each for each in page.wrong if "422" not in each]


def test_a_stored_household_is_looked_up_and_its_values_are_not_shown(desk, stored):
    page = desk("bank")
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
    shot(page, "credit_household")
    page.fill("[name=household]", "H-nobody")
    page.keyboard.press("Enter")
    page.click(f"text={NOW['en']}")
    page.wait_for_selector(".refusal")
    page.wrong[:] = [each for each in page.wrong if "404" not in each]


def test_a_batch_is_sent_followed_and_taken_home(desk, people, made, tmp_path):
    known = [column.name for column in (*made.card.inputs, *made.card.also) if column.derived is None]
    file = tmp_path / "households.csv"
    people.head(40).select("household_id", *known).write_csv(file)
    page = desk("bank", width=820, height=1180, at="/console/credit/batches")
    page.set_input_files("input[type=file]", str(file))
    expect(page.locator("form.stack input:not([type=file])")).to_have_value("household_id")
    page.click("form.stack button[type=submit]")
    page.wait_for_selector("tbody tr")
    page.wait_for_selector("text=40 rows processed of 40")
    assert axe(page) == []
    shot(page, "credit_batches_tablet")
    with page.expect_download() as taken:
        page.click("tbody a >> nth=0")
    assert pl.read_csv(taken.value.path()).height == 40


def test_a_batchs_row_that_a_colleague_referred_is_opened_from_the_inbox(desk, house, people, made):
    known = [column.name for column in (*made.card.inputs, *made.card.also) if column.derived is None]
    body = people.head(2).select(known).write_csv().encode()
    with httpx.Client(base_url=house.address, headers={"Authorization": f"Bearer {house.token('bank')}"}) as client:
        sent = client.post("/v1/credit-limits/batch", content=body, headers={"Content-Type": "text/csv"})
        row = f"{sent.headers['Batch-Id']}-2"
        sent = client.post(f"/v1/decisions/{row}/refer", json={"to": "bank", "note": "Look at the second row"})
        assert sent.status_code == 200, sent.text
    page = desk("bank", at="/console/credit/inbox")
    page.click(f"tbody a[href$='{row}']")
    page.wait_for_selector("text=A row of a batch")
    page.wait_for_selector("text=Look at the second row")
    assert "bound_affordability" in page.inner_text("#main")
    assert axe(page) == []


@pytest.fixture
def client(house):
    with httpx.Client(base_url=house.address, headers={"Authorization": f"Bearer {house.token('bank')}"}) as client:
        yield client


def asked(client, people, made, at=3) -> str:
    told = client.post("/v1/credit-limits", json={"indicators": indicators(people, made.card, at)})
    assert told.status_code == 200, told.text
    return told.json()["decision_id"]


def test_a_letter_offers_nothing_before_it_is_known_what_a_person_decided(desk, client, people, made):
    decision = asked(client, people, made)
    said = {"decision": "decline", "reason": "Internal: the deed looks forged"}
    assert client.post(f"/v1/decisions/{decision}/override", json=said).status_code == 200
    page = desk("bank", at="/console/credit/decisions")
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
    for never in ("We can lend", "forged", "What would raise"):
        assert never not in letter
    waits = {"to": "li.na", "note": "Once more, please"}
    assert client.post(f"/v1/decisions/{decision}/refer", json=waits).status_code == 200
    page.reload()
    page.wait_for_selector(".letter >> text=is reviewing your application")
    page.wrong[:] = [each for each in page.wrong if "503" not in each]


def test_a_question_whose_answer_was_lost_is_recorded_once(desk, client):
    def ids() -> set[str]:
        return {one["decision_id"] for one in client.get("/v1/decisions?limit=200").json()["decisions"]}

    page, before = desk("bank"), ids()
    page.wait_for_selector("#main fieldset")
    page.click(f"text={FILL['en']}")
    page.wait_for_selector(".preview .headline")
    page.route("**/v1/credit-limits", lambda route: (route.fetch(), route.abort()))
    page.click(f".preview >> text={ASK['en']}")
    page.wait_for_selector("text=The service could not be reached")
    assert len(ids() - before) == 1
    page.unroute("**/v1/credit-limits")
    page.click(f".preview >> text={ASK['en']}")
    page.wait_for_url("**/decisions/*")
    assert ids() - before == {page.url.rpartition("/")[2]}
    page.wrong[:] = [each for each in page.wrong if "ERR_FAILED" not in each]


def test_a_preview_that_was_refused_can_be_asked_for_again(desk):
    page = desk("bank")
    page.wait_for_selector("#main fieldset")
    page.route("**/what-if", lambda route: route.fulfill(status=429, json={"title": "Too many requests"}), times=1)
    page.click(f"text={FILL['en']}")
    page.click(".preview .refusal >> text=Try again")
    page.wait_for_selector(".preview .headline")
    assert page.is_enabled(f".preview >> text={ASK['en']}")
    page.wrong[:] = [each for each in page.wrong if "429" not in each]


def test_amounts_stand_in_the_currency_of_their_policy(desk, client, people, made):
    decision = asked(client, people, made)
    page = desk("bank", language="zh", at="/console/credit/decisions")
    told = client.get(f"/v1/decisions/{decision}").json() | {"currency": "TWD"}
    page.route(f"**/v1/decisions/{decision}", lambda route: route.fulfill(json=told))
    page.goto(f"/console/credit/decisions/{decision}")
    page.wait_for_selector(".headline >> text=TWD")
    page.wait_for_selector("text=新台币元", state="attached")
    assert "RMB" not in page.inner_text("#main")


def test_what_was_typed_outlives_a_change_of_language_and_a_look_elsewhere(desk):
    page = desk("bank")
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
