"""The pages of companies: register runs, grades and their migration, one company and its network."""

from __future__ import annotations

import httpx
import polars as pl
import pytest
from playwright.sync_api import expect

from datasets.scitech_risk.register import reader as register_reader
from datasets.scitech_risk.register import simulator
from models.scitech_risk.policy import Policy
from serving.decisions.companies import register_loader
from serving.privacy.consent import grants
from serving.privacy.consent.rules import load_rules
from tests.browser.conftest import screenshot
from tests.browser.console.conftest import ROOT, TENANT, axe
from tests.serving.conftest import vault_of

MONTHS = 2


@pytest.fixture(scope="module")
def files(console, tmp_path_factory):
    """Two months of a small simulated zone, stored and authorised; returns a table to upload for each."""
    gateway, settings = console.gateway, console.gateway.settings
    folder, rules, vault = tmp_path_factory.mktemp("zone"), load_rules(), vault_of(settings)
    policy = Policy.load(ROOT / "configs/policies/scitech_risk.toml")
    model = gateway.service.model_loader.deployed["scitech_risk"]
    tables = []
    for month in range(MONTHS):
        simulator.write(folder / str(month), 400, seed=11, hiding=0.0, month=month)
        store_args = settings.store_location, 5.0
        register_loader.import_register(folder / str(month), policy, *store_args, vault)
        frame = register_reader.read(folder / str(month)).frame
        columns = [column.name for column in model.fields if column.derived is None and column.name in frame.columns]
        frame.select("company_id", *columns).write_csv(folder / f"{month}.csv")
        tables.append(folder / f"{month}.csv")
    payload = {"kind": "government", "grantor": "County", "tenant": TENANT, "purpose": "scitech_risk"}
    payload |= {"groups": rules.groups("scitech_risk"), "valid_to": "2099-12-31", "document_sha256": "0" * 64}
    form, errors = grants.validate(payload, rules, vault)
    assert form is not None, errors
    with gateway.service.store.engine.begin() as connection:
        grants.create(connection, form, "operator")
    return tables


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_register_is_uploaded_sorted_filtered_and_compared_and_a_company_assessed(open_page, files, language):
    page = open_page("bank", language=language, path="/console/companies")
    for count, file in enumerate(files, 1):
        page.set_input_files("input[type=file]", str(file))
        expect(page.locator("form.stack input:not([type=file])")).to_have_value("company_id")
        page.click("form.stack button[type=submit]")
        page.wait_for_selector(f"tbody tr >> nth={count - 1}")
        page.wait_for_selector("form.stack button[type=submit]:enabled")
    assert axe(page) == []
    screenshot(page, f"companies_runs_{language}")
    page.click("tbody a >> nth=0")
    page.wait_for_selector(".virtual-row")
    assert page.get_attribute(".virtual-table", "aria-rowcount") == str(pl.read_csv(files[1]).height + 1)
    page.click(".virtual-head button >> nth=2")  # the riskiest first
    cells = page.locator(".virtual-row [role=cell]:nth-child(3)").all_inner_texts()
    risks = [float(text.rstrip(" %")) for text in cells if text != "–"]
    assert risks == sorted(risks, reverse=True)
    assert risks
    page.select_option("#gate", "block")
    page.wait_for_selector(f".virtual-table:not([aria-rowcount='{pl.read_csv(files[1]).height + 1}'])")
    assert page.locator(".virtual-row .chip.bad").count() > 0
    page.select_option("#gate", "")
    page.select_option("select[aria-label]", index=1)
    page.wait_for_selector(".matrix .unchanged")
    assert axe(page) == []
    screenshot(page, f"companies_run_{language}")
    page.locator(".virtual-row a").first.click()
    page.wait_for_selector("svg.plot")
    page.click("#main .card button.main")
    page.wait_for_selector(".waterfall .total")
    assert axe(page) == []
    screenshot(page, f"companies_company_{language}")


def test_a_run_is_compared_only_with_earlier_ones_and_reports_an_interruption(open_page, console, files):
    with httpx.Client(base_url=console.address, headers={"Authorization": f"Bearer {console.token('bank')}"}) as client:
        first, second = (
            client.post(
                "/v1/scitech-risks/batch?keep=company_id",
                content=file.read_bytes(),
                headers={"Content-Type": "text/csv"},
            ).headers["Batch-Id"]
            for file in files
        )
    page = open_page("bank", path=f"/console/companies/runs/{second}")
    page.wait_for_selector(f"option[value='{first}']", state="attached")
    page.goto(f"/console/companies/runs/{first}")
    page.wait_for_selector(".virtual-row")
    assert not page.locator(f"option[value='{second}']").count()
    assert not page.locator(".refusal").count()
    page.route(f"**/v1/batches/{first}", lambda route: route.fulfill(json=route.fetch().json() | {"state": "broken"}))
    page.reload()
    page.wait_for_selector(".refusal >> text=Interrupted")


@pytest.mark.parametrize(("language", "width"), [("en", 1440), ("zh", 820)])
def test_a_new_company_is_assessed_and_referred_to_a_colleague(open_page, language, width):
    page = open_page("bank", language=language, width=width, path="/console/companies/new")
    page.wait_for_selector("#main fieldset")
    page.click("#main form.stack .actions button >> nth=0")
    page.wait_for_selector(".preview .headline")
    page.fill("[name=revenue]", "120")
    page.wait_for_selector(".preview .limit-change.bad-text")
    assert axe(page) == []
    screenshot(page, f"companies_new_{language}")
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
    screenshot(page, f"companies_decision_{language}")
    decision = page.url.rpartition("/")[2]
    page.goto("/console/credit/inbox")
    page.click(f"tbody a[href='/console/companies/decisions/{decision}']")
    page.wait_for_selector(".waterfall .total")


@pytest.mark.parametrize(("language", "width"), [("en", 1440), ("zh", 820)])
def test_the_network_is_navigated_by_keys_and_the_limit_follows_the_sliders(open_page, files, language, width):
    frame = register_reader.read(files[1].parent / "1").frame
    shell = frame.filter(pl.col("loop_path").is_not_null())["company_id"][0]
    page = open_page("bank", language=language, width=width, path=f"/console/companies/company/{shell}")
    page.wait_for_selector("svg.network .node.centre")
    assert page.locator("svg.network line.loop").count() >= 3
    focused_node = page.locator("p.focused-node")
    first = focused_node.inner_text()
    assert shell in first
    page.locator("svg.network .node.focused").first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        if focused_node.inner_text() != first:
            break
    assert focused_node.inner_text() != first
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
    for name, selector in (("stress", ".stress"), ("around", "p.focused-node")):
        page.locator(selector).evaluate("it => it.scrollIntoView({block: 'end'})")
        screenshot(page, f"companies_{name}_{language}")
    page.locator(".figure:has(svg.network) summary").click()
    page.locator(".figure:has(svg.network) .figure-data tbody a").first.click()
    page.wait_for_selector(f"h2 >> text={names[0]}")


def test_an_unknown_company_has_an_error_message(open_page):
    page = open_page("bank", width=820, height=1180, path="/console/companies/company/nobody")
    page.wait_for_selector(".refusal")
    assert axe(page) == []
    page.errors[:] = [error for error in page.errors if "404" not in error]
