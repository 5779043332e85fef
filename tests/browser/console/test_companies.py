"""The sci-tech desk: a register sent, its table sorted and filtered, grades and their migration, one company."""

from __future__ import annotations

import httpx
import polars as pl
import pytest
from playwright.sync_api import expect

from datasets.scitech_risk.register import simulator as simulated
from models.scitech_risk.policy import Policy
from serving.decisions.companies import register_loader
from serving.privacy.consent import grants
from serving.privacy.consent.rules import load_rules
from tests.browser.conftest import shot
from tests.browser.console.conftest import ROOT, TENANT, axe
from tests.serving.conftest import vault_of

MONTHS = 2


@pytest.fixture(scope="module")
def files(house, tmp_path_factory):
    """A small simulated zone, two months of it: stored, authorised, and each as a table to send."""
    gateway, settings = house.gateway, house.gateway.settings
    folder, told, vault = tmp_path_factory.mktemp("zone"), load_rules(), vault_of(settings)
    policy = Policy.load(ROOT / "configs/policies/scitech_risk.toml")
    held = gateway.service.model_loader.deployed["scitech_risk"]
    made = []
    for month in range(MONTHS):
        simulated.write(folder / str(month), 400, seed=11, hiding=0.0, month=month)
        where = settings.store_location, 5.0
        register_loader.import_register(folder / str(month), policy, *where, vault)
        frame = register_loader.register_reader.read(folder / str(month)).frame
        known = [column.name for column in held.fields if column.derived is None and column.name in frame.columns]
        frame.select("company_id", *known).write_csv(folder / f"{month}.csv")
        made.append(folder / f"{month}.csv")
    found = {"kind": "government", "grantor": "County", "tenant": TENANT, "purpose": "scitech_risk"}
    found |= {"groups": told.groups("scitech_risk"), "valid_to": "2099-12-31", "document_sha256": "0" * 64}
    form, faults = grants.validate(found, told, vault)
    assert form is not None, faults
    with gateway.service.store.engine.begin() as connection:
        grants.create(connection, form, "operator")
    return made


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_register_is_sent_sorted_filtered_compared_and_one_company_is_assessed(desk, files, language):
    page = desk("bank", language=language, at="/console/companies")
    for count, file in enumerate(files, 1):
        page.set_input_files("input[type=file]", str(file))
        expect(page.locator("form.stack input:not([type=file])")).to_have_value("company_id")
        page.click("form.stack button[type=submit]")
        page.wait_for_selector(f"tbody tr >> nth={count - 1}")
        page.wait_for_selector("form.stack button[type=submit]:enabled")
    assert axe(page) == []
    shot(page, f"companies_runs_{language}")
    page.click("tbody a >> nth=0")
    page.wait_for_selector(".virtual-row")
    assert page.get_attribute(".virtual-table", "aria-rowcount") == str(pl.read_csv(files[1]).height + 1)
    page.click(".virtual-head button >> nth=2")  # the riskiest first
    shown = page.locator(".virtual-row [role=cell]:nth-child(3)").all_inner_texts()
    told = [float(text.rstrip(" %")) for text in shown if text != "–"]
    assert told == sorted(told, reverse=True)
    assert told
    page.select_option("#gate", "block")
    page.wait_for_selector(f".virtual-table:not([aria-rowcount='{pl.read_csv(files[1]).height + 1}'])")
    assert page.locator(".virtual-row .chip.bad").count() > 0
    page.select_option("#gate", "")
    page.select_option("select[aria-label]", index=1)
    page.wait_for_selector(".matrix .unchanged")
    assert axe(page) == []
    shot(page, f"companies_run_{language}")
    page.locator(".virtual-row a").first.click()
    page.wait_for_selector("svg.plot")
    page.click("#main .card button.main")
    page.wait_for_selector(".waterfall .total")
    assert axe(page) == []
    shot(page, f"companies_company_{language}")


def test_a_run_is_compared_with_earlier_ones_alone_and_says_that_it_broke_off(desk, house, files):
    with httpx.Client(base_url=house.address, headers={"Authorization": f"Bearer {house.token('bank')}"}) as client:
        first, second = (
            client.post(
                "/v1/scitech-risks/batch?keep=company_id",
                content=file.read_bytes(),
                headers={"Content-Type": "text/csv"},
            ).headers["Batch-Id"]
            for file in files
        )
    page = desk("bank", at=f"/console/companies/runs/{second}")
    page.wait_for_selector(f"option[value='{first}']", state="attached")
    page.goto(f"/console/companies/runs/{first}")
    page.wait_for_selector(".virtual-row")
    assert not page.locator(f"option[value='{second}']").count()
    assert not page.locator(".refusal").count()
    page.route(f"**/v1/batches/{first}", lambda route: route.fulfill(json=route.fetch().json() | {"state": "broken"}))
    page.reload()
    page.wait_for_selector(".refusal >> text=Interrupted")


@pytest.mark.parametrize(("language", "width"), [("en", 1440), ("zh", 820)])
def test_a_company_is_entered_decided_and_referred_to_a_colleague_who_finds_it(desk, language, width):
    page = desk("bank", language=language, width=width, at="/console/companies/new")
    page.wait_for_selector("#main fieldset")
    page.click("#main form.stack .actions button >> nth=0")
    page.wait_for_selector(".preview .headline")
    page.fill("[name=revenue]", "120")
    page.wait_for_selector(".preview .limit-change.bad-text")
    assert axe(page) == []
    shot(page, f"companies_new_{language}")
    page.click(".preview button.main")
    page.wait_for_url("**/companies/decisions/*")
    page.wait_for_selector(".waterfall .total")
    assert page.locator("a[href$='/letter']").count() == 0, "a letter is written to households"
    page.click("details.human-action >> nth=1")
    page.fill("details.human-action >> nth=1 >> input", "bank")
    page.fill("details.human-action >> nth=1 >> textarea", "Please look at the filings. 请复核申报。")
    page.click("details.human-action >> nth=1 >> button[type=submit]")
    page.wait_for_selector("text=Please look at the filings.")
    assert axe(page) == []
    shot(page, f"companies_decision_{language}")
    decision = page.url.rpartition("/")[2]
    page.goto("/console/credit/inbox")
    page.click(f"tbody a[href='/console/companies/decisions/{decision}']")
    page.wait_for_selector(".waterfall .total")


@pytest.mark.parametrize(("language", "width"), [("en", 1440), ("zh", 820)])
def test_a_companys_surroundings_are_walked_by_keys_and_its_answer_follows_the_sliders(desk, files, language, width):
    frame = register_loader.register_reader.read(files[1].parent / "1").frame
    shell = frame.filter(pl.col("loop_path").is_not_null())["company_id"][0]
    page = desk("bank", language=language, width=width, at=f"/console/companies/company/{shell}")
    page.wait_for_selector("svg.network .node.centre")
    assert page.locator("svg.network line.loop").count() >= 3
    told = page.locator("p.focused-node")
    first = told.inner_text()
    assert shell in first
    page.locator("svg.network .node.focused").first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        if told.inner_text() != first:
            break
    assert told.inner_text() != first
    page.locator(".figure:has(svg.network) summary").click()
    names = page.locator(".figure:has(svg.network) .figure-data tbody a").all_inner_texts()
    assert set(names) <= set(frame["company_id"]) - {shell}
    assert names
    page.locator(".figure:has(svg.network) summary").click()

    slider = page.locator("#shock-revenue_down")
    slider.focus()
    page.keyboard.press("End")
    page.wait_for_selector(".pair tbody tr")
    assert "50 %" in page.locator("output[for=shock-revenue_down]").inner_text()
    limits = [
        int("".join(filter(str.isdigit, text)) or 0)
        for text in page.locator(".pair tr:last-child td").all_inner_texts()
    ]
    assert limits[1] <= limits[0]
    assert axe(page) == []
    for name, place in (("stress", ".stress"), ("around", "p.focused-node")):
        page.locator(place).evaluate("it => it.scrollIntoView({block: 'end'})")
        shot(page, f"companies_{name}_{language}")
    page.locator(".figure:has(svg.network) summary").click()
    page.locator(".figure:has(svg.network) .figure-data tbody a").first.click()
    page.wait_for_selector(f"h2 >> text={names[0]}")


def test_a_company_that_no_register_brought_is_refused_in_words(desk):
    page = desk("bank", width=820, height=1180, at="/console/companies/company/nobody")
    page.wait_for_selector(".refusal")
    assert axe(page) == []
    page.wrong[:] = [each for each in page.wrong if "404" not in each]
