"""The auditor's and the operator's main paths, in both languages."""

from __future__ import annotations

import base64
import json
import re
import zlib

import httpx
import pytest
from playwright.sync_api import expect

from serving.core.audit.verify import BEGIN, END
from tests.browser.conftest import shot
from tests.browser.console.conftest import TENANT, axe
from tests.serving.conftest import applicant  # noqa: F401


@pytest.fixture
def decided(house, applicant):  # noqa: F811
    """Ids of three decisions."""
    with httpx.Client(base_url=house.address, headers={"Authorization": f"Bearer {house.token('bank')}"}) as client:
        asked = [client.post("/v1/credit-limits", json={"indicators": applicant | {"age": 40 + i}}) for i in range(3)]
        return [one.json()["decision_id"] for one in asked]


@pytest.fixture
def key(house):
    return house.gateway.settings.paths.log_key.with_suffix(".pub.pem")


@pytest.mark.parametrize(("language", "width"), [("en", 1440), ("zh", 820)])
def test_an_auditor_finds_a_decision_proves_it_here_and_walks_its_trace(desk, house, decided, key, language, width):
    page = desk("auditor", language=language, width=width)
    page.wait_for_selector("tbody tr")
    assert page.locator("tbody tr").count() >= 3
    assert axe(page) == []
    shot(page, f"audit_decisions_{language}")
    page.click(f"a[href$='{decided[1]}']")
    page.wait_for_selector(".trace .node")
    assert axe(page) == [], "before a key is loaded"
    page.set_input_files(".key-card input[type=file]", key)
    page.wait_for_selector(".verdict.good")
    told = {one.get_attribute("data-step"): one.get_attribute("data-state") for one in page.locator(".steps li").all()}
    assert told == {
        "signature": "proved", "inclusion": "proved", "lineage": "proved", "row": "skipped", "decision": "proved",
        "answer": "proved", "request": "skipped",
    }  # fmt: skip
    proof = page.locator("[aria-labelledby=proof-title]")
    for of_what in (
        decided[1],
        TENANT,
        "credit_limit 1",
        re.compile("Household credit|农户授信"),
        re.compile(r"\((free|公益免费), "),
    ):
        expect(proof.locator("dl")).to_contain_text(of_what)
    assert page.locator(".trace .node.missing").count() > 0, "the tests' model names no run"
    page.locator(".trace .node.model").focus()
    page.keyboard.press("Enter")
    assert page.locator(".trace .node.model").get_attribute("aria-pressed") == "true"
    assert axe(page) == []
    shot(page, f"audit_decision_{language}")
    page.evaluate("scrollTo(0, 100000)")
    shot(page, f"audit_trace_{language}")


def test_a_receipt_from_a_file_is_proved_and_an_altered_one_is_not(desk, house, decided, key, tmp_path):
    with httpx.Client(base_url=house.address, headers={"Authorization": f"Bearer {house.token('auditor')}"}) as client:
        receipt, answer = (client.get(f"/v1/decisions/{decided[0]}{part}").content for part in ("/receipt", ""))
    false = json.loads(receipt)
    false["leaf"]["price"]["fen"] = 1
    for name, content in (("receipt", receipt), ("answer", answer), ("false", json.dumps(false).encode())):
        (tmp_path / f"{name}.json").write_bytes(content)
    page = desk("auditor", at="/console/audit/verify")
    page.fill("#pasted", "nonsense")
    assert axe(page) == []
    page.click(".key-card button.main")
    page.wait_for_selector(".key-card .refusal")
    page.fill("#pasted", key.read_text())
    page.click(".key-card button.main")
    page.wait_for_selector(".fingerprint")
    page.set_input_files("[data-part=receipt]", tmp_path / "receipt.json")
    page.set_input_files("[data-part=answer]", tmp_path / "answer.json")
    page.wait_for_selector("[data-step=answer][data-state=proved]")
    expect(page.locator(".verdict.good + dl")).to_contain_text(decided[0])
    assert page.locator("[data-step=decision]").get_attribute("data-state") == "skipped"
    shot(page, "audit_verify")
    page.set_input_files("[data-part=receipt]", tmp_path / "false.json")
    page.wait_for_selector(".verdict.bad")
    assert page.locator("[data-step=inclusion]").get_attribute("data-state") == "failed"
    assert page.locator(".verdict + dl").count() == 0, "what a false one says is not told as true"
    assert axe(page) == []
    shot(page, "audit_verify_false")


def test_another_decisions_receipt_under_this_address_is_not_genuine(desk, house, decided, key):
    page = desk("auditor")
    for part in ("", "/receipt"):
        other = page.request.get(f"/v1/decisions/{decided[1]}{part}").body()
        page.route(f"**/v1/decisions/{decided[0]}{part}", lambda route, *, other=other: route.fulfill(body=other))
    page.goto(f"/console/audit/decisions/{decided[0]}")
    page.set_input_files(".key-card input[type=file]", key)
    page.wait_for_selector(".verdict.bad")
    expect(page.locator("[data-step=decision][data-state=failed]")).to_contain_text(decided[1])


def test_a_printed_receipt_that_more_follows_in_its_block_is_refused(desk, house, decided, key, tmp_path):
    with httpx.Client(base_url=house.address, headers={"Authorization": f"Bearer {house.token('auditor')}"}) as client:
        receipt = client.get(f"/v1/decisions/{decided[0]}/receipt").content
    page = desk("auditor", at="/console/audit/verify")
    page.set_input_files(".key-card input[type=file]", key)
    for more, seen in ((b"", ".verdict.good"), (b"more", ".stack + .card .refusal")):
        packed = base64.b64encode(zlib.compress(receipt) + more).decode()
        (tmp_path / f"printed{len(more)}.txt").write_text(f"{BEGIN}\n{packed}\n{END}\n")
        page.set_input_files("[data-part=receipt]", tmp_path / f"printed{len(more)}.txt")
        page.wait_for_selector(seen)


def test_a_decision_that_is_not_there_is_refused_in_words(desk, house):
    page = desk("auditor", at=f"/console/audit/decisions/{'0' * 32}")
    page.wait_for_selector(".refusal")
    page.wrong[:] = [each for each in page.wrong if "404" not in each]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_operator_enters_and_revokes_an_authorisation_whose_uses_the_auditor_sees(desk, house, tmp_path, language):
    at = ["en", "zh"].index(language)
    page = desk("operator", language=language, width=[1440, 820][at])
    page.wait_for_selector(".no-alarms")
    page.wait_for_selector(".tile .good-text")
    assert axe(page) == []
    shot(page, f"operator_now_{language}")
    page.click(".tabs a[href$=authorisations]")
    page.click("#main button.main")
    page.wait_for_selector(".groups label")
    for names, value in (
        (("Granted to (tenant)", "被授权机构"), "demo"),
        (("Granted by", "授权机关"), "County 县"),
        (("Valid until", "有效期至"), "2998-12-31"),
    ):
        page.get_by_label(names[at]).fill(value)
    (tmp_path / "signed.pdf").write_bytes(b"signed")
    page.locator("form input[type=file]").set_input_files(tmp_path / "signed.pdf")
    expect(page.locator("[pattern]")).to_have_value(re.compile("^.{64}$"))
    page.click(".groups button")
    assert axe(page) == []
    shot(page, f"operator_enter_{language}")
    page.click("form button.main")
    page.wait_for_selector("tbody tr")
    assert ["until 2998-12-31, inclusive", "至 2998-12-31（含当日）"][at] in page.inner_text("tbody")
    grant = page.locator("[data-revoke]").first.get_attribute("data-revoke")
    page.click(f"[data-revoke='{grant}']")
    page.wait_for_selector("[role=alertdialog]")
    assert axe(page) == []
    shot(page, f"operator_revoke_{language}")
    page.click("[role=alertdialog] button.danger")
    page.wait_for_selector(".chip.bad")
    auditor = desk("auditor", language=language, at=f"/console/audit/authorisations/{grant}")
    auditor.wait_for_selector("h1 code")
    auditor.wait_for_selector(f"text={['Revoked', '已撤销'][at]}")
    assert ["until 2998-12-31, inclusive", "至 2998-12-31（含当日）"][at] in auditor.inner_text("#main")
    assert axe(auditor) == []
    shot(auditor, f"audit_uses_{language}")
    auditor.click(".tabs a[href$=statement]")
    auditor.wait_for_selector("input[type=month]")
    assert axe(auditor) == []
    shot(auditor, f"audit_statement_{language}")


RULES = "/v1/authorisations/rules"


@pytest.fixture
def grant(house):
    """The id of one that is live up to and with a day, of all that a decision may ask for."""
    with httpx.Client(base_url=house.address, headers={"Authorization": f"Bearer {house.token('operator')}"}) as client:
        needs = client.get(RULES).json()["needs"]["credit_limit"]
        asked = {
            "kind": "government", "tenant": TENANT, "purpose": "credit_limit", "grantor": "County 县",
            "valid_to": "2990-01-01", "document_sha256": "0" * 64,
            "groups": [group for group, kinds in needs.items() if "government" in kinds],
        }  # fmt: skip
        return client.post("/v1/authorisations", json=asked).json()["authorisation"]


def test_a_held_key_revokes_nothing_and_escape_gives_the_focus_back(desk, house, grant):
    page = desk("operator", at="/console/operator/authorisations")
    opens = page.locator(f"[data-revoke='{grant}']")
    opens.focus()
    held = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    keyboard = page.context.new_cdp_session(page)
    for times in range(4):
        keyboard.send("Input.dispatchKeyEvent", {"type": "keyDown", "autoRepeat": times > 0, **held})
        page.wait_for_timeout(150)
    keyboard.send("Input.dispatchKeyEvent", {"type": "keyUp", **held})
    expect(page.locator("[role=alertdialog]")).to_be_visible()
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("[role=alertdialog]")).to_have_count(0)
    expect(opens).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=alertdialog]")
    page.keyboard.press("Enter")
    expect(page.locator("[role=alertdialog]")).to_have_count(0)
    expect(opens).to_be_focused()


def test_a_personal_grant_takes_nothing_from_fields_that_are_hidden(desk, house):
    page = desk("operator", at="/console/operator/authorisations")
    page.click("#main button.main")
    page.get_by_label("Granted by").fill("County")
    page.get_by_label("Kind", exact=True).select_option("personal")
    page.get_by_label("Granted to (tenant)").fill(TENANT)
    page.get_by_label("Subject id").fill("H-1")
    page.get_by_label("Valid until").fill("2990-01-01")
    page.get_by_label("or its SHA-256").fill("0" * 64)
    page.click(".groups button")
    with page.expect_request(lambda one: one.method == "POST") as sent:
        page.click("form button.main")
    assert "grantor" not in sent.value.post_data_json
    page.wait_for_selector("[data-revoke]")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_service_that_is_not_ready_is_shown_in_red_with_its_alarm(desk, house, language):
    page = desk("operator", language=language)
    page.wait_for_selector(".no-alarms")
    ready = {"status": "not_ready", "models": {}, "store": "the store's disk takes no more", "log": "ok", "alarms": {}}
    alarm = {"what": "store", "name": "store", "version": "", "why": "full", "why_zh": "存储已满", "since": ""}
    page.route("**/healthz/ready", lambda route: route.fulfill(status=503, json=ready))
    page.route("**/v1/alarms", lambda route: route.fulfill(json={"alarms": [alarm]}))
    page.reload()
    expect(page.locator(".tile .bad-text")).to_have_count(3)
    assert page.locator(".refusal").count() == 0
    expect(page.locator("tbody tr").first).to_contain_text({"en": "full", "zh": "存储已满"}[language])
    assert axe(page) == []
    shot(page, f"operator_not_ready_{language}")
    page.wrong[:] = [each for each in page.wrong if "503" not in each]


def test_the_trace_tells_the_last_day_that_an_authorisation_covers(desk, house, decided):
    grants = [("one", "2990-01-02T00:00:00.000Z"), ("two", "2990-01-02T12:00:00.000Z")]
    links = [{"kind": "authorisation", "name": name, "valid_to": end, "links": []} for name, end in grants]
    page = desk("auditor")
    root = {"kind": "decision", "name": decided[0], "links": links}
    page.route("**/trace", lambda route: route.fulfill(json=root))
    page.goto(f"/console/audit/decisions/{decided[0]}")
    for name, told in (("one", "until 2990-01-01, inclusive"), ("two", "until 2990-01-02 12:00:00 UTC")):
        page.locator(".trace .node", has_text=name).click()
        expect(page.locator(".detail")).to_contain_text(told)


def test_back_brings_the_searchs_fields_back_with_its_results(desk, house, decided):
    page = desk("auditor", at="/console/audit?decision=approve")
    page.get_by_label("Conclusion").select_option("refer")
    page.click("form button.main")
    page.wait_for_url("**decision=refer")
    page.go_back()
    expect(page.get_by_label("Conclusion")).to_have_value("approve")
    page.go_forward()
    expect(page.get_by_label("Conclusion")).to_have_value("refer")
