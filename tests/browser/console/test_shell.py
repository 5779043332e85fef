"""Signing in, the pages of a role and no others, both languages, and how much a first page weighs."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from serving.core.http.principal import ROLES
from tests.browser.conftest import shot
from tests.browser.console.conftest import axe
from tests.browser.console.test_companies import files  # noqa: F401  # fixture
from tests.browser.console.test_slides import ward  # noqa: F401  # fixture

AREAS = {
    "bank": ["Households", "Companies"],
    "clinic": ["Slides"],
    "pathologist": ["Slides"],
    "scientist": ["Models"],
    "auditor": ["Audit"],
    "operator": ["Operations"],
}


def unwanted(page, *known: str) -> None:
    """A browser tells of each refusal."""
    page.wrong[:] = [each for each in page.wrong if not any(told in each for told in known or ("401",))]


def test_a_stranger_is_asked_for_a_token_and_told_what_is_wrong_with_it(desk, house):
    page = desk(None)
    page.wait_for_selector("#token")
    assert axe(page) == []
    page.fill("#token", "x.y.z")
    page.click("form button[type=submit]")
    page.wait_for_selector(".refusal")
    shot(page, "sign_in_refused")
    page.fill("#token", house.token("bank"))
    page.click("form button[type=submit]")
    page.wait_for_selector(".session")
    page.click("text=Sign out")
    page.wait_for_selector("#token")
    assert page.context.cookies() == []
    unwanted(page)


@pytest.mark.parametrize("role", ROLES)
def test_a_link_signs_in_and_shows_the_pages_of_its_role_alone(desk, house, role):
    page = desk(role)
    page.wait_for_url("**/console/*")
    assert page.locator("header nav a").all_inner_texts() == AREAS[role]
    assert "token" not in page.url
    assert page.evaluate("JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie").find("ey") == -1
    other = next(name for name in ("credit", "models") if AREAS[role] != ["Models"] or name == "credit")
    page.goto("/console/operator" if role != "operator" else f"/console/{other}")
    page.wait_for_selector("text=The page does not exist, or you have no access to it")


def test_the_language_is_chosen_and_remembered(desk):
    page = desk("bank", language="zh")
    page.wait_for_selector("text=农户授信")
    assert page.get_attribute("html", "lang") == "zh-CN"
    page.click("[data-choose=en]")
    page.wait_for_selector("text=Households")
    page.reload()
    page.wait_for_selector("text=Households")
    page.click("[data-choose=both]")
    assert "Households 农户授信" in page.inner_text("header nav")


WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter((each) => !each.name.endsWith(".ttf")).reduce((sum, each) => sum + each.encodedBodySize, 0)"""


@pytest.mark.parametrize("role", ROLES)
def test_the_first_page_of_each_role_weighs_less_than_200_kb(desk, role):
    """Without the Chinese font, which only a machine that has none of its own is sent."""
    page = desk(role)
    page.wait_for_load_state("networkidle")
    assert 5_000 < page.evaluate(WEIGHT) < 200_000


def test_a_session_that_ends_is_asked_for_over_the_page_and_nothing_typed_is_lost(desk, house):
    page = desk("bank")
    page.fill("[name=deposits]", "58000")
    page.wait_for_selector(".preview .headline")
    page.context.clear_cookies()
    page.fill("[name=deposits]", "58001")
    page.wait_for_selector("dialog.session-dialog #token-again")
    shot(page, "session_ended")
    assert axe(page) == []
    page.fill("#token-again", "x.y.z")
    page.click("dialog.session-dialog button")
    page.wait_for_selector("dialog.session-dialog .refusal")
    page.fill("#token-again", house.token("bank"))
    page.click("dialog.session-dialog button")
    expect(page.locator("dialog.session-dialog")).to_be_hidden()
    assert page.input_value("[name=deposits]") == "58001"
    page.fill("[name=deposits]", "58002")
    page.wait_for_selector(".preview .headline")
    page.context.clear_cookies()
    page.fill("[name=deposits]", "58003")
    page.fill("#token-again", house.token("auditor"))
    page.click("dialog.session-dialog button")  # another person: nothing of the first's is left
    page.wait_for_selector("header nav a:has-text('Audit')")
    unwanted(page)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_who_cannot_be_signed_out_is_told_so_and_their_page_is_hidden(desk, language):
    page = desk("bank", language=language)
    page.wait_for_selector("#main fieldset")
    page.context.set_offline(True)
    page.click(".session button")
    page.wait_for_selector({"en": "text=You are not signed out", "zh": "text=尚未退出登录"}[language])
    assert not page.locator("#main fieldset, .session").count()
    shot(page, f"not_signed_out_{language}")
    page.context.set_offline(False)
    page.click(".refusal button")
    page.wait_for_selector("#token")
    assert page.context.cookies() == []
    unwanted(page, "ERR_INTERNET_DISCONNECTED")


def test_a_link_that_signs_in_is_taken_by_a_page_that_is_already_open(desk, house):
    page = desk("bank")
    page.wait_for_selector("#main fieldset")
    page.evaluate("at => { location.hash = at }", f"token={house.token('auditor')}")
    page.wait_for_selector("header nav a:has-text('Audit')")
    assert "token" not in page.url
    page.evaluate("at => { location.hash = at }", "token=a.b+c==/?%")
    expect(page).to_have_url(re.compile("/console/credit$"))
    assert page.locator(".session").count()  # of no use, and so of no harm
    page.go_back()
    assert "token" not in page.url
    unwanted(page)
    odd = desk(None, at="/console#token=a.b+c==")
    odd.wait_for_selector("#token")
    assert "#" not in odd.url
    unwanted(odd)


def test_a_page_that_is_come_to_has_the_focus_and_a_title(desk):
    page = desk("bank")
    page.wait_for_selector("#main fieldset")
    focused = "document.activeElement.tagName"
    assert page.evaluate(focused) == "BODY"
    assert page.title() == "Households · Yuheng 玉衡"
    page.click("header nav a:has-text('Companies')")
    expect(page.locator("#main h1")).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "none"
    expect(page).to_have_title("Companies · Yuheng 玉衡")
    page.click(".tabs a:has-text('New company')")
    page.wait_for_selector("#main fieldset")
    assert page.inner_text(":focus") == "New company"  # which is in the new page
    page.go_back()
    page.click("[data-choose=zh]")
    expect(page).to_have_title("科创企业 · Yuheng 玉衡")


@pytest.mark.parametrize(
    ("role", "at"),
    [
        *(("bank", at) for at in ("credit/decisions/%E0%A4%A", "nothing", "credit/nothing/here", "companies/nothing")),
        *(("clinic", at) for at in ("slides/a/b", "slides/turnaround")),
        ("scientist", "models/a/b"),
        ("auditor", "audit/nothing"),
        ("operator", "operator/nothing"),
    ],
)
def test_an_address_that_no_page_has_says_so(desk, role, at):
    page = desk(role)
    page.goto(f"/console/{at}")
    page.wait_for_selector("text=The page does not exist, or you have no access to it")


def test_a_page_that_does_not_arrive_is_told_and_loaded_again(desk):
    page = desk("bank")
    page.wait_for_selector("#main fieldset")
    page.route("**/assets/companies-*.js", lambda route: route.abort())
    page.click(".top nav a >> nth=1")
    page.wait_for_selector("#main .refusal")
    page.unroute("**/assets/companies-*.js")
    page.click("#main .refusal button")
    page.wait_for_selector("#main .drop")
    page.wrong[:] = [each for each in page.wrong if "ERR_FAILED" not in each and "dynamically imported" not in each]


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
def test_no_page_is_wider_than_its_window(desk, role, width):
    page = desk(role, width=width)
    page.click("[data-choose=both]")  # the longest words
    for at in WIDE[role]:
        page.goto(f"/console/{at}")
        page.wait_for_selector("#main :is(h1, h2, table, .empty)")
        page.wait_for_load_state("networkidle")
        if at == "operator/authorisations":
            page.click("button.main")
            page.wait_for_selector(".groups label")
        shot(page, f"wide_{at.replace('/', '_')}_{role}_{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, at


def test_what_is_long_or_drawn_scrolls_in_its_own_box_on_a_telephone(desk, files, ward):  # noqa: F811
    page = desk("bank", at="/console/companies", width=390)
    page.set_input_files("input[type=file]", str(files[0]))
    page.click("form.stack button[type=submit]")
    page.click("tbody a[href*=runs]")
    page.wait_for_selector(".virtual-row")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".virtual-table").evaluate("(table) => table.scrollWidth > table.clientWidth")
    page = desk("pathologist", width=390)
    page.click("[data-choose=both]")
    for at in ("/console/slides", f"/console/slides/{ward['en']}"):
        page.goto(at)
        page.wait_for_selector("#worklist tbody tr, #evidence-list canvas")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, at
