"""Single decisions: what an answer contains, how it is stored, and idempotency."""

from __future__ import annotations

import asyncio

import polars as pl
import pytest
import sqlalchemy as sa

from datasets.errors import InvalidTableError
from serving.core.db.schema import DECISIONS
from serving.privacy.subjects.ingestion import load_contract, load_subjects
from tests.serving.conftest import run_inside, stored, vault_of

URL = "/v1/credit-limits"


def count(gateway) -> int:
    with gateway.service.store.engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(DECISIONS)).scalar_one()


def test_an_answer_names_its_model_and_is_stored_as_it_was_sent(inside, applicant):
    async def story(client, gateway):
        response = await client.post(URL, json={"indicators": applicant})
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["decision"] in ("approve", "refer")
        assert answer["model"]["name"] == "credit_limit"
        assert answer["model"]["version"] == "1"
        assert len(answer["model"]["bundle"]) == 64
        assert answer["policy_version"]
        assert answer["simulated"] is True
        assert answer["ledger"]["limit"] == answer["indicative_limit"]
        assert {"code", "en", "zh", "points"} <= answer["reasons"][0].keys()
        again = await client.get(f"/v1/decisions/{answer['decision_id']}")
        assert again.content == response.content

    inside(story)


def test_an_applicant_of_whom_nothing_is_known_is_referred(inside):
    async def story(client, gateway):
        answer = (await client.post(URL, json={"indicators": {}})).json()
        assert answer["decision"] == "refer"
        assert answer["limit"] is None

    inside(story)


def test_two_models_are_served_side_by_side_and_listed(inside, applicant):
    async def story(client, gateway):
        body = {"indicators": applicant, "model": "credit_limit_second"}
        assert (await client.post(URL, json=body)).json()["model"]["name"] == "credit_limit_second"
        models = (await client.get("/v1/models")).json()["models"]
        assert [(model["name"], model["default"]) for model in models] == [
            ("credit_limit", True),
            ("credit_limit_second", False),
            ("scitech_risk", True),
        ]

    inside(story)


def test_an_applicant_who_asks_for_a_person_is_referred(inside, applicant):
    async def story(client, gateway):
        answer = (await client.post(URL, json={"indicators": applicant, "person": True})).json()
        assert answer["decision"] == "refer"
        assert "person_asked_for" in [cause["code"] for cause in answer["referral"]]

    inside(story)


def test_withdrawn_consent_to_conduct_data_raises_no_limit_and_refuses_nobody(inside, applicant):
    async def story(client, gateway):
        given = (await client.post(URL, json={"indicators": applicant})).json()
        withdrawn = (await client.post(URL, json={"indicators": applicant, "moral_data_consent": False})).json()
        assert withdrawn["ledger"]["uplift"] <= 0
        assert withdrawn["decision"] == given["decision"]

    inside(story)


def test_the_same_key_returns_the_first_answer_byte_for_byte(inside, applicant):
    async def story(client, gateway):
        before = count(gateway)
        keyed = {"Idempotency-Key": "k-1"}
        first = await client.post(URL, json={"indicators": applicant}, headers=keyed)
        second = await client.post(URL, json={"indicators": applicant}, headers=keyed)
        assert "idempotent-replayed" not in first.headers
        assert second.headers["idempotent-replayed"] == "true"
        assert second.content == first.content
        assert count(gateway) == before + 1

    inside(story)


def test_a_key_that_was_used_with_another_body_is_refused(inside, applicant):
    async def story(client, gateway):
        before = count(gateway)
        keyed = {"Idempotency-Key": "k-2"}
        await client.post(URL, json={"indicators": applicant}, headers=keyed)
        other = await client.post(URL, json={"indicators": {}}, headers=keyed)
        assert other.status_code == 409
        assert other.json()["type"] == "/problems/key_reused"
        assert count(gateway) == before + 1

    inside(story)


def test_a_refusal_does_not_use_up_its_key(inside, applicant):
    async def story(client, gateway):
        keyed = {"Idempotency-Key": "k-3"}
        assert (await client.post(URL, json={"indicators": {"no": 1}}, headers=keyed)).status_code == 422
        assert (await client.post(URL, json={"indicators": applicant}, headers=keyed)).status_code == 200

    inside(story)


def test_a_hundred_parallel_duplicates_make_one_decision(inside, applicant):
    async def story(client, gateway):
        before = count(gateway)
        keyed = {"Idempotency-Key": "k-4"}
        requests = [client.post(URL, json={"indicators": applicant}, headers=keyed) for _ in range(100)]
        answers = await asyncio.gather(*requests)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert count(gateway) == before + 1

    inside(story)


def test_parallel_requests_share_commits(inside, applicant):
    async def story(client, gateway):
        writer = gateway.service.store.writer
        commits, committed = writer.commit_count, writer.committed_count
        answers = await asyncio.gather(*(client.post(URL, json={"indicators": applicant}) for _ in range(64)))
        assert len({answer.json()["decision_id"] for answer in answers}) == 64
        assert writer.committed_count == committed + 64
        assert writer.commit_count <= commits + 32

    inside(story)


def test_a_stored_subject_gets_the_same_answer_as_its_indicators(settings, people, made, tmp_path):
    names = [c.name for c in load_contract("county").columns if c.role not in ("target", "leak")]
    file = tmp_path / "simulated.csv"
    people.head(50).select(names).write_csv(file)
    assert load_subjects(file, load_contract("county"), settings.store_location, 1.0, vault_of(settings)) == 50
    subject = people["household_id"][7]
    known = {column.name for column in (*made.card.inputs, *made.card.also)}
    row = pl.read_csv(file, infer_schema=False).row(7, named=True)

    async def story(client, gateway):
        by_id = (await client.post(URL, json={"subject_id": subject})).json()
        values = stored(settings, "credit_limit", subject)
        inline = (await client.post(URL, json={"indicators": {k: v for k, v in values.items() if k in known}})).json()
        for volatile in ("decision_id", "created", "indicators_from", "reasons", "raises"):
            by_id.pop(volatile), inline.pop(volatile)
        assert by_id == inline
        assert values["declared_income"] == float(row["declared_income"])
        assert (await client.post(URL, json={"subject_id": "nobody"})).json()["type"] == "/problems/unknown_subject"

    run_inside(settings, story)


def test_loading_subjects_again_replaces_them_and_a_bad_file_changes_nothing(settings, people, tmp_path):
    file = tmp_path / "simulated.csv"
    names = ["household_id", "declared_income"]
    people.head(5).select(names).write_csv(file)
    for _ in range(2):
        assert load_subjects(file, load_contract("county"), settings.store_location, 1.0, vault_of(settings)) == 5
    file.write_text("household_id,declared_income\nA,1\nB,-1\n")
    with pytest.raises(InvalidTableError, match="declared_income is '-1'"):
        load_subjects(file, load_contract("county"), settings.store_location, 1.0, vault_of(settings))
    assert stored(settings, "credit_limit", "A") is None


def test_improvements_are_left_out_on_request_and_nothing_else_changes(inside, applicant):
    async def story(client, gateway):
        complete = (await client.post(URL, json={"indicators": applicant})).json()
        less = (await client.post(URL, json={"indicators": applicant, "raises": False})).json()
        own = {"decision_id", "created", "raises"}
        assert complete["raises"]
        assert less["raises"] == []
        assert {k: v for k, v in complete.items() if k not in own} == {k: v for k, v in less.items() if k not in own}

    inside(story)
