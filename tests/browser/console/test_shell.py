"""Signing in, the pages of a role and no others, both languages, and how much a first page weighs."""

from __future__ import annotations

import pytest

from serving.trust.caller import ROLES
from tests.browser.conftest import shot
from tests.browser.console.conftest import axe

AREAS = {
    "bank": ["Households", "Companies"],
    "clinic": ["Slides"],
    "pathologist": ["Slides"],
    "scientist": ["Models"],
    "auditor": ["Audit"],
    "operator": ["Operations"],
}


def unwanted(page) -> None:
    """A browser tells of each refusal."""
    page.wrong[:] = [each for each in page.wrong if "401" not in each]


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
    page.wait_for_selector("text=There is no such page for you")


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
