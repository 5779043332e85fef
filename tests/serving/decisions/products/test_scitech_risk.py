"""Decisions on companies: single and in batches, with missing indicators, beside a second product."""

from __future__ import annotations

import asyncio
import io

import polars as pl
import pytest
from rich.console import Console

from models import bundle
from serving.cli.demo_outcomes import show_decision
from serving.decisions.batch.files.formats import MEDIA_TYPES
from serving.decisions.products.base import products
from tests.serving.conftest import ROOT, indicators, run_inside, settings_for
from tests.serving.registry.test_loader import until

URL = "/v1/scitech-risks"
JSON = {"Content-Type": "application/json"}
RATIOS = {"total_assets", "total_liabilities", "current_assets", "current_liabilities", "cash", "receivables",
          "net_profit", "operating_cash_flow", "interest_expense", "debt_service", "revenue", "rd_expense"}  # fmt: skip


async def decide(client, company: dict, **more) -> dict:
    answer = await client.post(URL, json={"indicators": company} | more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_answer_has_all_sections_and_is_stored_as_it_was_sent(inside, company):
    async def story(client, gateway):
        response = await client.post(URL, json={"indicators": company})
        answer = response.json()
        assert set(products()["scitech_risk"].required_fields) <= answer.keys()
        assert answer["model"]["name"] == "scitech_risk"
        assert answer["simulated"] is True
        assert answer["gate"]["verdict"] in ("pass", "review", "block")
        assert {component["group"] for component in answer["innovation"]["parts"]} == {
            "technology",
            "growth",
            "auxiliary",
        }
        assert {"code", "en", "zh", "points"} <= answer["reasons"][0].keys()
        again = await client.get(f"/v1/decisions/{answer['decision_id']}")
        assert again.content == response.content

    inside(story)


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_batch_gives_the_answers_of_single_decisions_to_the_yuan(inside, zone, companies, format):
    known = [column.name for column in (*companies.card.inputs, *companies.card.also) if column.derived is None]
    frame = zone.frame.head(90).select("company_id", *known)

    async def story(client, gateway):
        out = io.BytesIO()
        writers = {"csv": frame.write_csv, "ndjson": frame.write_ndjson, "parquet": frame.write_parquet}
        (writers | {"xlsx": frame.write_excel})[format](out)
        response = await client.post(
            f"{URL}/batch?keep=company_id&reasons=true&format=parquet",
            content=out.getvalue(),
            headers={"Content-Type": MEDIA_TYPES[format]},
        )
        assert response.status_code == 200, response.text
        answers = pl.read_parquet(io.BytesIO(response.content))
        assert answers["company_id"].to_list() == frame["company_id"].to_list()
        assert answers["error"].null_count() == 90
        for i in range(0, 90, 6):
            single = await decide(client, indicators(zone.frame, companies.card, i))
            row = answers.row(i, named=True)
            for name in ("decision", "limit", "indicative_limit", "pd", "score", "grade"):
                assert row[name] == single[name], name
            assert row["gate"] == single["gate"]["verdict"]
            assert row["innovation"] == single["innovation"]["score"]
            for name, messages in (("warnings", single["warnings"]), ("evidence", single["gate"]["evidence"])):
                codes = [code for code in (row[name] or "").split(";") if code]
                assert sorted(codes) == sorted(piece["code"] for piece in messages), name
            assert row["reasons"].split(";")[0] == single["reasons"][0]["code"]

    inside(story)


def test_a_company_of_which_nothing_is_known_gets_no_grade_and_is_referred(inside, companies):
    async def story(client, gateway):
        answer = await decide(client, {})
        assert (answer["decision"], answer["grade"]) == ("refer", None)
        assert not answer["limit"]
        assert "too_little_known" in [cause["code"] for cause in answer["referral"]]
        assert {"revenue", "insured_staff"} <= {item["indicator"] for item in answer["missing"]}
        assert answer["gate"]["verdict"] == "review"  # too little can be told of it

    inside(story)


def test_a_company_without_filings_is_never_approved_silently(inside, company):
    async def story(client, gateway):
        empty = {"zero_filing_months": 24, "insured_staff": 0, "revenue": 0, "abnormal_list": 1}
        answer = await decide(client, company | empty)
        assert answer["decision"] == "refer"
        codes = {piece["code"] for piece in answer["gate"]["evidence"]}
        assert {"zero_filings", "no_insured_staff", "abnormal_list"} <= codes
        assert answer["gate"]["verdict"] == "block"
        assert (answer["limit"], answer["indicative_limit"]) == (0, 0)

    inside(story)


def test_an_answer_without_any_ratio_lists_those_that_are_missing(inside, company):
    async def story(client, gateway):
        answer = await decide(client, {name: value for name, value in company.items() if name not in RATIOS})
        assert answer["decision"] == "refer"
        assert {item["indicator"] for item in answer["missing"]} >= RATIOS
        assert "lacks_revenue_multiple" in [cause["code"] for cause in answer["referral"]]

    inside(story)


def test_zero_assets_and_zero_revenue_are_answered_without_dividing_by_zero(inside, company):
    async def story(client, gateway):
        zeros = dict.fromkeys(RATIOS, 0)
        answer = await decide(client, company | zeros)
        assert 0 <= answer["pd"] <= 1
        assert not answer["limit"]

    inside(story)


def test_a_company_in_an_ownership_cycle_is_referred_to_a_person(inside, company):
    async def story(client, gateway):
        answer = await decide(client, company | {"ownership_cycle": 1})
        assert "ownership_cycle" in [piece["code"] for piece in answer["gate"]["evidence"]]
        assert answer["gate"]["verdict"] != "pass"
        assert answer["decision"] == "refer"

    inside(story)


@pytest.mark.parametrize(
    ("changed", "actual", "expected"),
    [
        ({"rd_expens": 5}, "not known", "did you mean 'rd_expense'?"),
        ({"rd_expense": -1}, "-1", "10k RMB/year"),
        ({"trade": "banking"}, "'banking'", "one of"),
        ({"insured_staff": 2.5}, "2.5", "a whole number"),
        ({"debt_ratio": 0.5}, "not known", "one of the fields"),  # derived: never stated
        ({"company_id": "S-1"}, "not known", "one of the fields"),
        ({"is_shell": 0}, "not known", "one of the fields"),
        ({"loop_path": "x" * 2_000}, "2,000 characters", "at most 1,000"),
    ],
)
def test_an_invalid_indicator_is_named_with_what_is_expected(inside, company, changed, actual, expected):
    async def story(client, gateway):
        refused = await client.post(URL, json={"indicators": company | changed})
        assert (refused.status_code, refused.json()["type"]) == (422, "/problems/invalid_request")
        [error] = refused.json()["errors"]
        assert actual in error["found"]
        assert expected in error["needed"]

    inside(story)


def test_an_option_of_another_product_is_unknown(inside, company):
    async def story(client, gateway):
        refused = await client.post(URL, json={"indicators": company, "moral_data_consent": True})
        [error] = refused.json()["errors"]
        assert error["field"] == "moral_data_consent"
        assert "person" in error["needed"]
        answer = await decide(client, company, person=True)
        assert "person_asked_for" in [cause["code"] for cause in answer["referral"]]

    inside(story)


def test_a_model_of_another_product_is_refused_with_the_route_that_serves_it(inside, company, applicant):
    async def story(client, gateway):
        refused = await client.post(URL, json={"indicators": {}, "model": "credit_limit_second"})
        assert (refused.status_code, refused.json()["type"]) == (404, "/problems/unknown_model")
        for language in ("detail", "detail_zh"):
            assert "/v1/credit-limits" in refused.json()[language]
            assert "scitech_risk" in refused.json()[language]
        other = await client.post("/v1/credit-limits", json={"indicators": {}, "model": "scitech_risk"})
        assert "/v1/scitech-risks" in other.json()["detail"]
        batch = await client.post(
            f"{URL}/batch?model=credit_limit", content=b"revenue\n5\n", headers={"Content-Type": "text/csv"}
        )
        assert (batch.status_code, batch.json()["type"]) == (404, "/problems/unknown_model")
        unknown = await client.post(URL, json={"indicators": {}, "model": "nothing"})
        assert "credit_limit" not in unknown.json()["detail"]

    inside(story)


def test_one_key_means_one_request_on_each_route(inside, company, applicant):
    async def story(client, gateway):
        keyed = {"Idempotency-Key": "shared-by-two"}
        first = await client.post(URL, json={"indicators": company}, headers=keyed)
        again = await client.post(URL, json={"indicators": company}, headers=keyed)
        assert again.content == first.content
        assert again.headers["idempotent-replayed"] == "true"
        other = await client.post("/v1/credit-limits", json={"indicators": applicant}, headers=keyed)
        assert other.status_code == 200
        assert "idempotent-replayed" not in other.headers
        assert (await client.post(URL, json={"indicators": {}}, headers=keyed)).status_code == 409

    inside(story)


def test_one_key_on_two_routes_at_once_means_two_decisions(inside, company, applicant):
    async def story(client, gateway):
        keyed = {"Idempotency-Key": "two-at-once"}
        bodies = {URL: {"indicators": company}, "/v1/credit-limits": {"indicators": applicant}}
        sent = [client.post(url, json=body, headers=keyed) for url, body in bodies.items() for _ in range(10)]
        answers = await asyncio.gather(*sent)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 2

    inside(story)


def test_the_examples_are_answered_and_shown_with_all_sections(inside, capsys):
    examples = sorted((ROOT / "configs/examples").glob("company*.json"))

    async def story(client, gateway):
        return {
            path.stem: (await client.post(URL, content=path.read_bytes(), headers=JSON)).json() for path in examples
        }

    answers = inside(story)
    assert answers["company_shell"]["gate"]["verdict"] == "block"
    assert answers["company_shell"]["limit"] == 0
    assert answers["company"]["gate"]["verdict"] == "pass"
    for name, answer in answers.items():
        Console().print(show_decision(name, answer))
    output = capsys.readouterr().out
    for text in ("company_shell", "shell gate", "example-A", "innovation", "early warnings", "ledger", "reasons"):
        assert text in output


def test_the_models_of_two_products_are_swapped_independently(made, companies, tmp_path, applicant, company):
    bundles = tmp_path / "bundles"
    for trained in (made, companies):
        trained.publish(bundles, "1")
        trained.publish(bundles, "2", champion=False)

    async def story(client, gateway):
        async def versions() -> tuple[str, str]:
            first = await client.post("/v1/credit-limits", json={"indicators": applicant})
            second = await client.post(URL, json={"indicators": company})
            return first.json()["model"]["version"], second.json()["model"]["version"]

        assert await versions() == ("1", "1")
        bundle.set_alias(bundles / "scitech_risk", "champion", "2")
        await until(client, lambda readiness: readiness["models"]["scitech_risk"] == "2")
        assert await versions() == ("1", "2")
        (bundles / "credit_limit" / "2" / "model.sig").unlink()
        bundle.set_alias(bundles / "credit_limit", "champion", "2")
        readiness = await until(client, lambda readiness: readiness["alarms"])
        assert readiness["alarms"].keys() == {"credit_limit"}
        assert await versions() == ("1", "2")

    run_inside(settings_for(bundles, made, tmp_path), story)


def test_a_product_without_a_deployed_model_says_so_and_the_other_answers(made, tmp_path, applicant):
    bundles = tmp_path / "bundles"
    made.publish(bundles, "1")

    async def story(client, gateway):
        assert (await client.post("/v1/credit-limits", json={"indicators": applicant})).status_code == 200
        refused = await client.post(URL, json={"indicators": {}})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/not_ready")
        assert "'scitech_risk'" in refused.json()["detail"]
        assert (await client.get("/openapi.json")).json()["paths"][URL]

    run_inside(settings_for(bundles, made, tmp_path), story)
