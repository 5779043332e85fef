"""The console's frame: signing in and out, the pages of each role, languages, page size, layout."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from serving.core.http.principal import ROLES
from tests.browser.conftest import screenshot
from tests.browser.console.conftest import axe
from tests.browser.console.test_companies import files  # noqa: F401  # fixture
from tests.browser.console.test_slides import slide_ids  # noqa: F401  # fixture

AREAS = {
    "bank": ["Households", "Companies"],
    "clinic": ["Slides"],
    "pathologist": ["Slides"],
    "scientist": ["Models"],
    "auditor": ["Audit"],
    "operator": ["Operations"],
}


def drop_known_errors(page, *expected: str) -> None:
    """Forget the errors that the browser reports for expected refusals."""
    page.errors[:] = [error for error in page.errors if not any(text in error for text in expected or ("401",))]


def test_signing_in_asks_for_a_token_and_reports_an_invalid_one(open_page, console):
    page = open_page(None)
    page.wait_for_selector("#token")
    assert axe(page) == []
    page.fill("#token", "x.y.z")
    page.click("form button[type=submit]")
    page.wait_for_selector(".refusal")
    screenshot(page, "sign_in_refused")
    page.fill("#token", console.token("bank"))
    page.click("form button[type=submit]")
    page.wait_for_selector(".session")
    page.click("text=Sign out")
    page.wait_for_selector("#token")
    assert page.context.cookies() == []
    drop_known_errors(page)


def test_the_address_of_the_service_alone_leads_to_signing_in(open_page):
    page = open_page(None, path="/")
    page.wait_for_selector("#token")
    assert page.url.endswith("/console")
    drop_known_errors(page)


@pytest.mark.parametrize("role", ROLES)
def test_a_link_signs_in_and_displays_only_the_pages_of_the_role(open_page, console, role):
    page = open_page(role)
    page.wait_for_url("**/console/*")
    assert page.locator("header nav a").all_inner_texts() == AREAS[role]
    assert "token" not in page.url
    assert page.evaluate("JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie").find("ey") == -1
    other = next(name for name in ("credit", "models") if AREAS[role] != ["Models"] or name == "credit")
    page.goto("/console/operator" if role != "operator" else f"/console/{other}")
    page.wait_for_selector("text=The page does not exist, or you have no access to it")


def test_the_language_can_be_chosen_and_is_remembered(open_page):
    page = open_page("bank", language="zh")
    page.wait_for_selector("text=农户授信")
    assert page.get_attribute("html", "lang") == "zh-CN"
    page.click("[data-choose=en]")
    page.wait_for_selector("text=Households")
    page.reload()
    page.wait_for_selector("text=Households")
    page.click("[data-choose=both]")
    assert "Households 农户授信" in page.inner_text("header nav")


WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter((entry) => !entry.name.endsWith(".ttf")).reduce((sum, entry) => sum + entry.encodedBodySize, 0)"""


@pytest.mark.parametrize("role", ROLES)
def test_the_first_page_of_each_role_has_less_than_200_kb(open_page, role):
    """Not counting the Chinese font, which is only sent to machines that have none."""
    page = open_page(role)
    page.wait_for_load_state("networkidle")
    assert 5_000 < page.evaluate(WEIGHT) < 200_000


def test_an_expired_session_is_renewed_in_a_dialog_without_losing_input(open_page, console):
    page = open_page("bank")
    page.fill("[name=deposits]", "58000")
    page.wait_for_selector(".preview .headline")
    page.context.clear_cookies()
    page.fill("[name=deposits]", "58001")
    page.wait_for_selector("dialog.session-dialog #token-again")
    screenshot(page, "session_ended")
    assert axe(page) == []
    page.fill("#token-again", "x.y.z")
    page.click("dialog.session-dialog button")
    page.wait_for_selector("dialog.session-dialog .refusal")
    page.fill("#token-again", console.token("bank"))
    page.click("dialog.session-dialog button")
    expect(page.locator("dialog.session-dialog")).to_be_hidden()
    assert page.input_value("[name=deposits]") == "58001"
    page.fill("[name=deposits]", "58002")
    page.wait_for_selector(".preview .headline")
    page.context.clear_cookies()
    page.fill("[name=deposits]", "58003")
    page.fill("#token-again", console.token("auditor"))
    page.click("dialog.session-dialog button")  # another person: nothing of the first one's remains
    page.wait_for_selector("header nav a:has-text('Audit')")
    drop_known_errors(page)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_failed_sign_out_is_reported_and_the_page_hidden(open_page, language):
    page = open_page("bank", language=language)
    page.wait_for_selector("#main fieldset")
    page.context.set_offline(True)
    page.click(".session button")
    page.wait_for_selector({"en": "text=You are not signed out", "zh": "text=尚未退出登录"}[language])
    assert not page.locator("#main fieldset, .session").count()
    screenshot(page, f"not_signed_out_{language}")
    page.context.set_offline(False)
    page.click(".refusal button")
    page.wait_for_selector("#token")
    assert page.context.cookies() == []
    drop_known_errors(page, "ERR_INTERNET_DISCONNECTED")


def test_a_sign_in_link_works_in_an_open_page(open_page, console):
    page = open_page("bank")
    page.wait_for_selector("#main fieldset")
    page.evaluate("hash => { location.hash = hash }", f"token={console.token('auditor')}")
    page.wait_for_selector("header nav a:has-text('Audit')")
    assert "token" not in page.url
    page.evaluate("hash => { location.hash = hash }", "token=a.b+c==/?%")
    expect(page).to_have_url(re.compile("/console/credit$"))
    assert page.locator(".session").count()  # an unusable token changes nothing
    page.go_back()
    assert "token" not in page.url
    drop_known_errors(page)
    other_page = open_page(None, path="/console#token=a.b+c==")
    other_page.wait_for_selector("#token")
    assert "#" not in other_page.url
    drop_known_errors(other_page)


def test_a_page_that_is_navigated_to_has_the_focus_and_a_title(open_page):
    page = open_page("bank")
    page.wait_for_selector("#main fieldset")
    active_tag = "document.activeElement.tagName"
    assert page.evaluate(active_tag) == "BODY"
    assert page.title() == "Households · Yuheng 玉衡"
    page.click("header nav a:has-text('Companies')")
    expect(page.locator("#main h1")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "none"
    expect(page).to_have_title("Companies · Yuheng 玉衡")
    page.click(".tabs a:has-text('New company')")
    page.wait_for_selector("#main fieldset")
    assert page.inner_text(":focus") == "New company"  # the link in the new page
    page.go_back()
    page.click("[data-choose=zh]")
    expect(page).to_have_title("科创企业 · Yuheng 玉衡")


@pytest.mark.parametrize(
    ("role", "path"),
    [
        *(
            ("bank", path)
            for path in ("credit/decisions/%E0%A4%A", "nothing", "credit/nothing/here", "companies/nothing")
        ),
        *(("clinic", path) for path in ("slides/a/b", "slides/turnaround")),
        ("scientist", "models/a/b"),
        ("auditor", "audit/nothing"),
        ("operator", "operator/nothing"),
    ],
)
def test_an_unknown_address_has_an_error_page(open_page, role, path):
    page = open_page(role)
    page.goto(f"/console/{path}")
    page.wait_for_selector("text=The page does not exist, or you have no access to it")


def test_a_page_that_fails_to_load_can_be_loaded_again(open_page):
    page = open_page("bank")
    page.wait_for_selector("#main fieldset")
    page.route("**/assets/companies-*.js", lambda route: route.abort())
    page.click(".top nav a >> nth=1")
    page.wait_for_selector("#main .refusal")
    page.unroute("**/assets/companies-*.js")
    page.click("#main .refusal button")
    page.wait_for_selector("#main .drop")
    page.errors[:] = [
        error for error in page.errors if "ERR_FAILED" not in error and "dynamically imported" not in error
    ]


WIDE = {
    "bank": ["credit", "credit/decisions", "credit/inbox", "credit/batches", "companies", "companies/new"],
    "clinic": ["slides"],
    "pathologist": ["slides"],
    "scientist": ["models", "models/credit_limit"],
    "auditor": ["audit", "audit/verify", "audit/authorisations", "audit/statement"],
    "operator": ["operator", "operator/authorisations"],
}


@pytest.mark.parametrize("width", [320, 390, 720, 820])
@pytest.mark.parametrize("role", ROLES)
def test_no_page_is_wider_than_its_window(open_page, role, width):
    page = open_page(role, width=width)
    page.click("[data-choose=both]")  # the longest labels
    for path in WIDE[role]:
        page.goto(f"/console/{path}")
        page.wait_for_selector("#main :is(h1, h2, table, .empty)")
        page.wait_for_load_state("networkidle")
        if path == "operator/authorisations":
            page.click("button.main")
            page.wait_for_selector(".groups label")
        screenshot(page, f"wide_{path.replace('/', '_')}_{role}_{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_tables_and_plots_scroll_in_their_own_box_on_a_phone(open_page, files, slide_ids):  # noqa: F811
    page = open_page("bank", path="/console/companies", width=390)
    page.set_input_files("input[type=file]", str(files[0]))
    page.click("form.stack button[type=submit]")
    page.click("tbody a[href*=runs]")
    page.wait_for_selector(".virtual-row")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".virtual-table").evaluate("(table) => table.scrollWidth > table.clientWidth")
    page = open_page("pathologist", width=390)
    page.click("[data-choose=both]")
    for path in ("/console/slides", f"/console/slides/{slide_ids['en']}"):
        page.goto(path)
        page.wait_for_selector("#worklist tbody tr, #evidence-list canvas")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
