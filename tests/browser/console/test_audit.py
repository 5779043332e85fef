"""The auditor's and the operator's pages, in both languages."""

from __future__ import annotations

import base64
import json
import re
import zlib

import httpx
import pytest
from playwright.sync_api import expect

from serving.core.audit.verify import BEGIN, END
from tests.browser.conftest import screenshot
from tests.browser.console.conftest import TENANT, axe
from tests.serving.conftest import applicant  # noqa: F401


@pytest.fixture
def decision_ids(console, applicant):  # noqa: F811
    """The ids of three decisions."""
    with httpx.Client(base_url=console.address, headers={"Authorization": f"Bearer {console.token('bank')}"}) as client:
        responses = [
            client.post("/v1/credit-limits", json={"indicators": applicant | {"age": 40 + i}}) for i in range(3)
        ]
        return [response.json()["decision_id"] for response in responses]


@pytest.fixture
def public_key_file(console):
    return console.gateway.settings.paths.log_key.with_suffix(".pub.pem")


@pytest.mark.parametrize(("language", "width"), [("en", 1440), ("zh", 820)])
def test_an_auditor_finds_a_decision_verifies_it_and_follows_its_trace(
    open_page, console, decision_ids, public_key_file, language, width
):
    page = open_page("auditor", language=language, width=width)
    page.wait_for_selector("tbody tr")
    assert page.locator("tbody tr").count() >= 3
    assert axe(page) == []
    screenshot(page, f"audit_decisions_{language}")
    page.click(f"a[href$='{decision_ids[1]}']")
    page.wait_for_selector(".trace .node")
    assert axe(page) == [], "before a key is loaded"
    page.set_input_files(".key-card input[type=file]", public_key_file)
    page.wait_for_selector(".verdict.good")
    states = {
        item.get_attribute("data-step"): item.get_attribute("data-state") for item in page.locator(".steps li").all()
    }
    assert states == {
        "signature": "proved", "inclusion": "proved", "lineage": "proved", "row": "skipped", "decision": "proved",
        "answer": "proved", "request": "skipped",
    }  # fmt: skip
    proof = page.locator("[aria-labelledby=proof-title]")
    for expected in (
        decision_ids[1],
        TENANT,
        "credit_limit 1",
        re.compile("Household credit|农户授信"),
        re.compile(r"\((free|公益免费), "),
    ):
        expect(proof.locator("dl")).to_contain_text(expected)
    assert page.locator(".trace .node.missing").count() > 0, "the tests' model names no run"
    page.locator(".trace .node.model").focus()
    page.keyboard.press("Enter")
    assert page.locator(".trace .node.model").get_attribute("aria-pressed") == "true"
    assert axe(page) == []
    screenshot(page, f"audit_decision_{language}")
    page.evaluate("scrollTo(0, 100000)")
    screenshot(page, f"audit_trace_{language}")


def test_a_receipt_file_is_verified_and_an_altered_one_is_not(
    open_page, console, decision_ids, public_key_file, tmp_path
):
    with httpx.Client(
        base_url=console.address, headers={"Authorization": f"Bearer {console.token('auditor')}"}
    ) as client:
        receipt, answer = (
            client.get(f"/v1/decisions/{decision_ids[0]}{suffix}").content for suffix in ("/receipt", "")
        )
    altered = json.loads(receipt)
    altered["leaf"]["price"]["fen"] = 1
    for name, content in (("receipt", receipt), ("answer", answer), ("false", json.dumps(altered).encode())):
        (tmp_path / f"{name}.json").write_bytes(content)
    page = open_page("auditor", path="/console/audit/verify")
    page.fill("#pasted", "nonsense")
    assert axe(page) == []
    page.click(".key-card button.main")
    page.wait_for_selector(".key-card .refusal")
    page.fill("#pasted", public_key_file.read_text())
    page.click(".key-card button.main")
    page.wait_for_selector(".fingerprint")
    page.set_input_files("[data-part=receipt]", tmp_path / "receipt.json")
    page.set_input_files("[data-part=answer]", tmp_path / "answer.json")
    page.wait_for_selector("[data-step=answer][data-state=proved]")
    expect(page.locator(".verdict.good + dl")).to_contain_text(decision_ids[0])
    assert page.locator("[data-step=decision]").get_attribute("data-state") == "skipped"
    screenshot(page, "audit_verify")
    page.set_input_files("[data-part=receipt]", tmp_path / "false.json")
    page.wait_for_selector(".verdict.bad")
    assert page.locator("[data-step=inclusion]").get_attribute("data-state") == "failed"
    assert page.locator(".verdict + dl").count() == 0, "the content of an altered receipt is not displayed"
    assert axe(page) == []
    screenshot(page, "audit_verify_false")


def test_each_search_of_decisions_shows_its_own_rows(open_page, console, decision_ids):
    page = open_page("auditor")
    hits = {"approve": set(), "refer": set(), "": set()}
    for row in page.request.get("/v1/decisions").json()["decisions"]:
        hits[row["decision"]].add(row["decision_id"])
        hits[""].add(row["decision_id"])
    assert set(decision_ids) <= hits[""]
    last_day = page.request.get(f"/v1/decisions/{decision_ids[0]}").json()["created"][:10]
    searches = (("2000-01-01", set()), (last_day, hits[""]), ("2000-01-02", set()))
    for until, expected in (*searches, *searches):
        page.get_by_label(re.compile("^Up to")).fill(until)
        page.get_by_role("button", name="Search", exact=True).click()
        expect_decisions(page, expected)
    page.get_by_role("button", name="Clear").click()
    expect_decisions(page, hits[""])
    page.go_back()
    expect_decisions(page, set())
    for decision in ("approve", "refer", "approve"):
        page.get_by_role("button", name="Clear").click()
        page.get_by_label("Conclusion").select_option(decision)
        page.get_by_role("button", name="Search", exact=True).click()
        expect_decisions(page, hits[decision])


def test_a_statement_is_gone_as_soon_as_another_month_is_chosen(open_page, console, decision_ids):
    page = open_page("auditor", path="/console/audit/statement")
    expect(page.locator(".headline")).to_be_visible()
    page.route("**/v1/statements/2020-01", lambda route: None)  # it never answers
    page.fill("input[type=month]", "2020-01")
    expect(page.locator(".headline")).to_have_count(0)
    expect(page.locator(".loading")).to_be_visible()


def expect_decisions(page, expected):
    expect(page.locator("tbody tr")).to_have_count(len(expected))
    links = page.locator("tbody a[href*='/audit/decisions/']")
    assert {link.get_attribute("href").rpartition("/")[2] for link in links.all()} == expected


def test_the_receipt_of_another_decision_is_not_accepted(open_page, console, decision_ids, public_key_file):
    page = open_page("auditor")
    for suffix in ("", "/receipt"):
        other = page.request.get(f"/v1/decisions/{decision_ids[1]}{suffix}").body()
        page.route(
            f"**/v1/decisions/{decision_ids[0]}{suffix}", lambda route, *, other=other: route.fulfill(body=other)
        )
    page.goto(f"/console/audit/decisions/{decision_ids[0]}")
    page.set_input_files(".key-card input[type=file]", public_key_file)
    page.wait_for_selector(".verdict.bad")
    expect(page.locator("[data-step=decision][data-state=failed]")).to_contain_text(decision_ids[1])


def test_a_printed_receipt_with_extra_bytes_is_refused(open_page, console, decision_ids, public_key_file, tmp_path):
    with httpx.Client(
        base_url=console.address, headers={"Authorization": f"Bearer {console.token('auditor')}"}
    ) as client:
        receipt = client.get(f"/v1/decisions/{decision_ids[0]}/receipt").content
    page = open_page("auditor", path="/console/audit/verify")
    page.set_input_files(".key-card input[type=file]", public_key_file)
    for extra, selector in ((b"", ".verdict.good"), (b"more", ".stack + .card .refusal")):
        packed = base64.b64encode(zlib.compress(receipt) + extra).decode()
        (tmp_path / f"printed{len(extra)}.txt").write_text(f"{BEGIN}\n{packed}\n{END}\n")
        page.set_input_files("[data-part=receipt]", tmp_path / f"printed{len(extra)}.txt")
        page.wait_for_selector(selector)


def test_an_unknown_decision_has_an_error_message(open_page, console):
    page = open_page("auditor", path=f"/console/audit/decisions/{'0' * 32}")
    page.wait_for_selector(".refusal")
    page.errors[:] = [error for error in page.errors if "404" not in error]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_authorisation_is_entered_and_revoked_and_the_auditor_sees_its_uses(open_page, console, tmp_path, language):
    index = ["en", "zh"].index(language)
    page = open_page("operator", language=language, width=[1440, 820][index])
    page.wait_for_selector(".no-alarms")
    page.wait_for_selector(".tile .good-text")
    assert axe(page) == []
    screenshot(page, f"operator_now_{language}")
    page.click(".tabs a[href$=authorisations]")
    page.click("#main button.main")
    page.wait_for_selector(".groups label")
    for names, value in (
        (("Granted to (tenant)", "被授权机构"), "demo"),
        (("Granted by", "授权机关"), "County 县"),
        (("Valid until", "有效期至"), "2998-12-31"),
    ):
        page.get_by_label(names[index]).fill(value)
    (tmp_path / "signed.pdf").write_bytes(b"signed")
    page.locator("form input[type=file]").set_input_files(tmp_path / "signed.pdf")
    expect(page.locator("[pattern]")).to_have_value(re.compile("^.{64}$"))
    page.click(".groups button")
    assert axe(page) == []
    screenshot(page, f"operator_enter_{language}")
    page.click("form button.main")
    page.wait_for_selector("tbody tr")
    assert ["until 2998-12-31, inclusive", "至 2998-12-31（含当日）"][index] in page.inner_text("tbody")
    grant = page.locator("[data-revoke]").first.get_attribute("data-revoke")
    page.click(f"[data-revoke='{grant}']")
    page.wait_for_selector("[role=alertdialog]")
    assert axe(page) == []
    screenshot(page, f"operator_revoke_{language}")
    page.click("[role=alertdialog] button.danger")
    page.wait_for_selector(".chip.bad")
    auditor = open_page("auditor", language=language, path=f"/console/audit/authorisations/{grant}")
    auditor.wait_for_selector("h1 code")
    auditor.wait_for_selector(f"text={['Revoked', '已撤销'][index]}")
    assert ["until 2998-12-31, inclusive", "至 2998-12-31（含当日）"][index] in auditor.inner_text("#main")
    assert axe(auditor) == []
    screenshot(auditor, f"audit_uses_{language}")
    auditor.click(".tabs a[href$=statement]")
    auditor.wait_for_selector("input[type=month]")
    assert axe(auditor) == []
    screenshot(auditor, f"audit_statement_{language}")


RULES = "/v1/authorisations/rules"


@pytest.fixture
def grant(console):
    """The id of an active authorisation for all data that a decision may need."""
    with httpx.Client(
        base_url=console.address, headers={"Authorization": f"Bearer {console.token('operator')}"}
    ) as client:
        needs = client.get(RULES).json()["needs"]["credit_limit"]
        payload = {
            "kind": "government", "tenant": TENANT, "purpose": "credit_limit", "grantor": "County 县",
            "valid_to": "2990-01-01", "document_sha256": "0" * 64,
            "groups": [group for group, kinds in needs.items() if "government" in kinds],
        }  # fmt: skip
        return client.post("/v1/authorisations", json=payload).json()["authorisation"]


def test_a_key_held_down_revokes_nothing_and_escape_restores_the_focus(open_page, console, grant):
    page = open_page("operator", path="/console/operator/authorisations")
    revoke_button = page.locator(f"[data-revoke='{grant}']")
    revoke_button.focus()
    enter_key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    keyboard = page.context.new_cdp_session(page)
    for repeat in range(4):
        keyboard.send("Input.dispatchKeyEvent", {"type": "keyDown", "autoRepeat": repeat > 0, **enter_key})
        page.wait_for_timeout(150)
    keyboard.send("Input.dispatchKeyEvent", {"type": "keyUp", **enter_key})
    expect(page.locator("[role=alertdialog]")).to_be_visible()
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("[role=alertdialog]")).to_have_count(0)
    expect(revoke_button).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=alertdialog]")
    page.keyboard.press("Enter")
    expect(page.locator("[role=alertdialog]")).to_have_count(0)
    expect(revoke_button).to_be_focused()


def test_a_personal_authorisation_ignores_hidden_fields(open_page, console):
    page = open_page("operator", path="/console/operator/authorisations")
    page.click("#main button.main")
    page.get_by_label("Granted by").fill("County")
    page.get_by_label("Kind", exact=True).select_option("personal")
    page.get_by_label("Granted to (tenant)").fill(TENANT)
    page.get_by_label("Subject id").fill("H-1")
    page.get_by_label("Valid until").fill("2990-01-01")
    page.get_by_label("or its SHA-256").fill("0" * 64)
    page.click(".groups button")
    with page.expect_request(lambda item: item.method == "POST") as request_info:
        page.click("form button.main")
    assert "grantor" not in request_info.value.post_data_json
    page.wait_for_selector("[data-revoke]")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_service_that_is_not_ready_is_displayed_in_red_with_its_alarm(open_page, console, language):
    page = open_page("operator", language=language)
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
    screenshot(page, f"operator_not_ready_{language}")
    page.errors[:] = [error for error in page.errors if "503" not in error]


def test_the_trace_gives_the_last_day_of_an_authorisation(open_page, console, decision_ids):
    grants = [("one", "2990-01-02T00:00:00.000Z"), ("two", "2990-01-02T12:00:00.000Z")]
    links = [{"kind": "authorisation", "name": name, "valid_to": end, "links": []} for name, end in grants]
    page = open_page("auditor")
    root = {"kind": "decision", "name": decision_ids[0], "links": links}
    page.route("**/trace", lambda route: route.fulfill(json=root))
    page.goto(f"/console/audit/decisions/{decision_ids[0]}")
    for name, expected in (("one", "until 2990-01-01, inclusive"), ("two", "until 2990-01-02 12:00:00 UTC")):
        page.locator(".trace .node", has_text=name).click()
        expect(page.locator(".detail")).to_contain_text(expected)


def test_going_back_restores_the_search_fields(open_page, console, decision_ids):
    page = open_page("auditor", path="/console/audit?decision=approve")
    page.get_by_label("Conclusion").select_option("refer")
    page.click("form button.main")
    page.wait_for_url("**decision=refer")
    page.go_back()
    expect(page.get_by_label("Conclusion")).to_have_value("approve")
    page.go_forward()
    expect(page.get_by_label("Conclusion")).to_have_value("refer")
