"""A person decides within their authority, with a reason, never above the product's cap; every act is kept."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.authenticator import open_log_store
from serving.core.db.schema import OVERRIDES
from serving.core.security import keys
from serving.governance.human_decisions.authority import load_authority
from tests.serving.conftest import bearer_of, rows, run_inside, settings_for

URL = "/v1/credit-limits"
TEXT = "Checked at the farm on Tuesday"
AUTHORITY = load_authority()
OWN = AUTHORITY.limits["credit_limit"]["bank"]


@pytest.fixture
def settings(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true")


@pytest.fixture
def officers(settings):
    return {name: bearer_of(settings, "bank", subject=name) for name in ("li.na", "wang.min")}


async def decide(client, applicant, person):
    answer = await client.post(URL, json={"indicators": applicant}, headers=person)
    assert answer.status_code == 200, answer.text
    return answer.json()["decision_id"]


def approval(limit, **more):
    return {"decision": "approve", "limit": limit, "reason": TEXT, "reason_code": "income_confirmed", **more}


async def override(client, decision, person, body):
    return await client.post(f"/v1/decisions/{decision}/override", json=body, headers=person)


async def listed(client, decision, person):
    [row] = (await client.get(f"/v1/decisions?id={decision}", headers=person)).json()["decisions"]
    return row


def test_an_amount_beyond_the_authority_of_one_is_in_force_once_another_approves_it(settings, applicant, officers):
    first, second = officers["li.na"], officers["wang.min"]

    async def story(client, gateway):
        decision = await decide(client, applicant, first)
        assert (await override(client, decision, first, approval(OWN))).json()["state"] == "decided"
        for _ in range(2):  # nobody confirms their own proposal
            proposed = await override(client, decision, first, approval(OWN + 1_000))
            assert (proposed.status_code, proposed.json()["state"]) == (200, "proposed")
        row = await listed(client, decision, first)
        assert row["override"]["limit"] == OWN
        assert (row["proposal"]["limit"], row["proposal"]["by"]) == (OWN + 1_000, "li.na")
        other = await override(client, decision, second, approval(OWN + 2_000))
        assert other.json()["state"] == "proposed", "another amount confirms nothing"
        confirmed = await override(client, decision, first, approval(OWN + 2_000, reason="I saw the papers too"))
        assert (confirmed.json()["state"], confirmed.json()["proposed_by"]) == ("confirmed", "wang.min")
        row = await listed(client, decision, second)
        assert (row["override"]["limit"], row["proposal"]) == (OWN + 2_000, None)
        states = ["decided", "proposed", "proposed", "proposed", "confirmed"]
        assert [act["state"] for act in row["acts"]] == states
        [effect] = (await client.get("/v1/effects", headers=bearer_of(settings, "auditor"))).json()["effects"]
        assert effect["overrides"] == 1

    run_inside(settings, story)
    engine = open_log_store(settings, 1.0)
    key = keys.load_private_key(settings.paths.log_key).public_key()
    assert audit_store(engine, key, settings.paths.checkpoints).findings == []
    engine.dispose()


def test_a_refusal_withdraws_a_proposal(settings, applicant, officers):
    first, second = officers["li.na"], officers["wang.min"]

    async def story(client, gateway):
        decision = await decide(client, applicant, first)
        await override(client, decision, first, approval(OWN + 1_000))
        refusal = {"decision": "decline", "reason": TEXT, "reason_code": "documents_missing"}
        assert (await override(client, decision, second, refusal)).json()["state"] == "decided"
        assert (await listed(client, decision, first))["proposal"] is None
        assert (await override(client, decision, second, approval(OWN + 1_000))).json()["state"] == "proposed"
        assert (await listed(client, decision, first))["override"]["decision"] == "decline"

    run_inside(settings, story)


def test_nobody_approves_more_than_the_product_lends(settings, applicant, officers):
    async def story(client, gateway):
        decision = await decide(client, applicant, officers["li.na"])
        refused = await override(client, decision, officers["li.na"], approval(50_000_000, reason="1"))
        faults = {fault["field"]: fault["needed"] for fault in refused.json()["errors"]}
        assert refused.status_code == 422
        assert faults["limit"] == "at most 300,000, the product's cap"
        assert faults["reason"] == f"a text of {AUTHORITY.min_text} characters or more"

    run_inside(settings, story)
    assert rows(settings, sa.select(OVERRIDES)) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (approval(1_000, reason_code="because"), "reason_code"),
        (approval(1_000, reason_code="documents_missing"), "reason_code"),  # a reason to decline
        (approval(1_000, reason="ok" + " " * 20 + "ok"), None),
        (approval(1_000, reason=" " * 4 + "ok"), "reason"),
    ],
)
def test_a_reason_is_of_the_list_and_its_text_has_a_least_length(settings, applicant, officers, body, field):
    async def story(client, gateway):
        decision = await decide(client, applicant, officers["li.na"])
        answer = await override(client, decision, officers["li.na"], body)
        assert [fault["field"] for fault in answer.json().get("errors", [])] == ([field] if field else [])

    run_inside(settings, story)


def test_the_acts_of_people_are_kept_in_order(settings, applicant, officers):
    first, second = officers["li.na"], officers["wang.min"]

    async def story(client, gateway):
        decision = await decide(client, applicant, first)
        await override(client, decision, first, approval(40_000))
        referral = {"to": "wang.min", "note": "Please look at the debts"}
        assert (await client.post(f"/v1/decisions/{decision}/refer", json=referral, headers=first)).status_code == 200
        await override(client, decision, second, approval(60_000, reason_code="lower_amount_agreed"))
        for person in (first, bearer_of(settings, "auditor")):
            acts = (await listed(client, decision, person))["acts"]
            assert [(act["kind"], act["by"]) for act in acts] == [
                ("override", "li.na"), ("referral", "li.na"), ("override", "wang.min"),
            ]  # fmt: skip
            assert [act["limit"] for act in acts if act["kind"] == "override"] == [40_000, 60_000]
            trace = (await client.get(f"/v1/decisions/{decision}/trace", headers=person)).json()
            nodes = [link for link in trace["links"] if link["kind"] in ("override", "referral")]
            assert [node["name"] for node in nodes] == [act["id"] for act in acts]
            assert TEXT not in str(nodes), "the officer's own words stay in the record"

    run_inside(settings, story)


def test_a_proposal_does_not_end_a_referral(settings, applicant, officers):
    first = officers["li.na"]

    async def story(client, gateway):
        decision = await decide(client, applicant, first)
        await client.post(f"/v1/decisions/{decision}/refer", json={"to": "wang.min", "note": "Over"}, headers=first)
        await override(client, decision, first, approval(OWN + 1_000))
        waiting = (await client.get("/v1/decisions?referred=wang.min", headers=first)).json()["decisions"]
        assert [row["decision_id"] for row in waiting] == [decision]

    run_inside(settings, story)


def test_the_authority_of_a_person_and_the_reasons_are_told(settings, officers):
    async def story(client, gateway):
        authority = (await client.get("/v1/authority", headers=officers["li.na"])).json()
        assert authority["limits"] == {"credit_limit": OWN, "scitech_risk": AUTHORITY.limits["scitech_risk"]["bank"]}
        assert {reason["decision"] for reason in authority["reasons"]} == {"approve", "decline"}
        assert all(reason["en"] and reason["zh"] for reason in authority["reasons"])
        auditor = (await client.get("/v1/authority", headers=bearer_of(settings, "auditor"))).json()
        assert auditor["limits"] == {"credit_limit": 0, "scitech_risk": 0}

    run_inside(settings, story)
