"""Lists of a tenant's decisions and batches, referrals, rows of batches, and previews."""

from __future__ import annotations

import asyncio
import json

import polars as pl
import pytest
import sqlalchemy as sa

from serving.core.db.schema import BATCHES, METER, REFERRALS
from serving.core.http.validation import validate
from serving.governance.human_decisions import overrides, referrals
from serving.governance.monitoring import outcomes
from serving.pathology.upload import request_form
from serving.privacy.consent import grants
from serving.privacy.consent import rules as consent
from serving.registry import promotion
from tests.serving.conftest import put_subject, recorded, rows, run_inside, settings_for

URL = "/v1/credit-limits"


async def ask(client, applicant, **more):
    answer = await client.post(URL, json={"indicators": applicant, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def thirty(client, people, made):
    """A batch of as many households, as it was answered."""
    known = [column.name for column in (*made.card.inputs, *made.card.also) if column.derived is None]
    body = people.head(30).select(known).write_csv().encode()
    return await client.post(f"{URL}/batch", content=body, headers={"Content-Type": "text/csv"})


def test_decisions_are_listed_newest_first_page_by_page(settings, applicant):
    async def story(client, gateway):
        decided = [(await ask(client, applicant))["decision_id"] for _ in range(5)]
        listed, before = [], ""
        while True:
            page = (await client.get(f"/v1/decisions?limit=2{before}")).json()
            listed += [item["decision_id"] for item in page["decisions"]]
            if page["next"] is None:
                break
            before = f"&before={page['next']}"
        assert listed == decided[::-1]

    run_inside(settings, story)


def test_a_subjects_decisions_are_found_by_its_id_which_is_not_stored(settings, applicant):
    async def story(client, gateway):
        model = gateway.service.model_loader.deployed["credit_limit"]
        put_subject(gateway.service.store.engine, settings, model.table, "H-1", applicant)
        decision = (await client.post(URL, json={"subject_id": "H-1"})).json()
        await ask(client, applicant)
        listed = (await client.get("/v1/decisions?product=credit_limit&subject=H-1")).json()["decisions"]
        assert [item["decision_id"] for item in listed] == [decision["decision_id"]]
        assert listed[0]["stored"]
        assert (await client.get("/v1/decisions?product=credit_limit&subject=H-2")).json()["decisions"] == []

    run_inside(settings, story)


def test_a_page_of_one_row_reads_a_subjects_decisions_in_larger_steps(settings, applicant):
    async def story(client, gateway):
        model = gateway.service.model_loader.deployed["credit_limit"]
        put_subject(gateway.service.store.engine, settings, model.table, "H-1", applicant)
        body = ("subject_id\n" + "H-1\n" * 40).encode()
        sent = await client.post(f"{URL}/batch", content=body, headers={"Content-Type": "text/csv"})
        assert sent.status_code == 200, sent.text
        statements = []
        sa.event.listen(gateway.service.store.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
        query = "/v1/decisions?subject=H-1&limit=1&product=credit_limit&until=2020-01-01"
        assert (await client.get(query)).json() == {"decisions": [], "next": None}
        assert len(statements) < 20
        pages, before = [], ""
        while before is not None:
            page = (await client.get(f"/v1/decisions?subject=H-1&limit=7{before and f'&before={before}'}")).json()
            pages += [item["decision_id"] for item in page["decisions"]]
            before = page["next"]
        assert len(set(pages)) == len(pages) == 40

    run_inside(settings, story)


def test_decisions_are_filtered_by_decision_model_and_day(settings, applicant):
    async def story(client, gateway):
        fine = await ask(client, applicant)
        person = await ask(client, applicant, person=True)
        for query, expected in (
            (f"decision={fine['decision']}", fine),
            ("decision=refer", person),
            ("model=nobody", None),
            ("until=2020-01-01", None),
            ("since=2020-01-01&limit=1", person),
        ):
            listed = (await client.get(f"/v1/decisions?{query}")).json()["decisions"]
            assert (listed[0]["decision_id"] if listed else None) == (expected and expected["decision_id"]), query

    run_inside(settings, story)


def test_a_referred_decision_waits_for_its_colleague_until_a_person_decides(settings, applicant):
    async def story(client, gateway):
        first = await ask(client, applicant)
        address = f"/v1/decisions/{first['decision_id']}"
        sent = {"to": "wang.min", "note": "Please look at the debts. 请复核负债。"}
        for _ in range(2):  # the same request again is done once
            response = await client.post(f"{address}/refer", json=sent, headers={"Idempotency-Key": "once"})
            assert response.status_code == 200, response.text
        waiting = (await client.get("/v1/decisions?referred=wang.min")).json()["decisions"]
        assert [item["decision_id"] for item in waiting] == [first["decision_id"]]
        assert waiting[0]["referral"]["note"] == sent["note"]
        assert (await client.get("/v1/decisions?referred=li.na")).json()["decisions"] == []
        assert waiting[0]["product"] == "credit_limit"
        other = await ask(client, applicant | {"age": 41})
        await client.post(f"/v1/decisions/{other['decision_id']}/refer", json=sent)
        pages, before = [], ""
        while before is not None:
            page = (await client.get(f"/v1/decisions?referred=wang.min&limit=1{before and f'&before={before}'}")).json()
            pages += [item["decision_id"] for item in page["decisions"]]
            before = page["next"]
        assert pages == [other["decision_id"], first["decision_id"]]
        response = [item["decision"] for item in (first, other)]
        for query, count in (
            ("product=scitech_risk", 0),
            ("product=credit_limit&model=credit_limit&since=2020-01-01", 2),
            ("until=2020-01-01", 0),
            ("decision=approve", response.count("approve")),
            ("decision=refer", response.count("refer")),
            ("subject=H-nobody", 0),
        ):
            page = (await client.get(f"/v1/decisions?referred=wang.min&{query}")).json()
            assert len(page["decisions"]) == count, query
        for item in pages:
            decided = {"decision": "decline", "reason": "Debts elsewhere"}
            await client.post(f"/v1/decisions/{item}/override", json=decided)
        assert (await client.get("/v1/decisions?referred=wang.min")).json()["decisions"] == []
        [listed] = (await client.get(f"/v1/decisions?id={first['decision_id']}")).json()["decisions"]
        assert listed["override"]["decision"] == "decline"
        refused = await client.post(f"{address}/refer", json={"to": "", "why": 1})
        assert [fault["field"] for fault in refused.json()["errors"]] == ["why", "to", "note"]
        assert (await client.post(f"/v1/decisions/{'0' * 32}/refer", json=sent)).status_code == 404

    run_inside(settings, story)
    assert len(rows(settings, sa.select(REFERRALS.c.id))) == 2


def test_a_batch_is_listed_and_its_rows_are_returned_in_each_format(settings, people, made):
    async def story(client, gateway):
        known = [column.name for column in (*made.card.inputs, *made.card.also) if column.derived is None]
        body = people.head(30).select("household_id", *known).write_csv().encode()
        sent = await client.post(f"{URL}/batch?keep=household_id", content=body, headers={"Content-Type": "text/csv"})
        assert sent.status_code == 200, sent.text
        [batch] = (await client.get("/v1/batches?product=credit_limit")).json()["batches"]
        assert (batch["rows"], batch["product"], batch["state"]) == (30, "credit_limit", "done")
        assert (await client.get("/v1/batches?product=scitech_risk")).json()["batches"] == []
        address = f"/v1/batches/{batch['batch_id']}/rows"
        assert (await client.get(address)).content == sent.content
        some = await client.get(f"{address}?format=ndjson&columns=company_id|row,limit")
        assert [set(json.loads(line)) for line in some.text.splitlines()] == [{"row", "limit"}] * 30
        complete = pl.read_parquet((await client.get(f"{address}?format=parquet")).content)
        assert complete.height == 30
        for columns in ("nothing", "limit,limit", "limit,nothing|limit"):
            wrong = await client.get(f"{address}?columns={columns}")
            assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "columns"), columns
        assert (await client.get(f"/v1/batches/{'0' * 32}/rows")).status_code == 404

    run_inside(settings, story)


def test_reads_of_rows_are_limited_until_one_is_done(bundles, people, made, tmp_path):
    async def story(client, gateway):
        sent = await thirty(client, people, made)
        address = f"{sent.headers['location']}/rows"
        read, over = asyncio.Event(), asyncio.Event()
        parts = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive():
            return next(parts, None) or await asyncio.Event().wait()

        async def slowly(message):
            if message["type"] == "http.response.start":
                read.set()
                await over.wait()

        scope = {"type": "http", "method": "GET", "path": address, "query_string": b"format=parquet", "headers": []}
        slow = asyncio.create_task(gateway(scope, receive, slowly))
        await read.wait()
        refused = await client.get(address)
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/overloaded")
        assert refused.headers["retry-after"]
        assert "1 under way" in refused.json()["detail"]
        assert "1 个批次" in refused.json()["detail_zh"]
        over.set()
        await slow
        assert (await client.get(address)).content == sent.content
        for columns in ("nothing", "limit"):  # one that is refused holds no place
            await client.get(f"{address}?columns={columns}")
        assert (await client.get(address)).status_code == 200
        assert not list(gateway.settings.paths.spool.iterdir())

    run_inside(settings_for(bundles, made, tmp_path, YUHENG_LIMITS_MAX_CONCURRENT_BATCH_READS="1"), story)


def test_a_client_that_disconnects_lets_the_next_read_rows(bundles, people, made, tmp_path):
    async def story(client, gateway):
        sent = await thirty(client, people, made)
        address = f"{sent.headers['location']}/rows"

        async def receive():
            return {"type": "http.disconnect"}

        async def gone(message):
            raise ConnectionError

        scope = {"type": "http", "method": "GET", "path": address, "query_string": b"format=parquet", "headers": []}
        with pytest.raises(ConnectionError):
            await gateway(scope, receive, gone)
        assert (await client.get(address)).content == sent.content
        assert not list(gateway.settings.paths.spool.iterdir())

    run_inside(settings_for(bundles, made, tmp_path, YUHENG_LIMITS_MAX_CONCURRENT_BATCH_READS="1"), story)


def test_no_more_rows_are_made_for_a_client_that_disconnected(bundles, made, tmp_path):
    async def story(client, gateway):
        body = b"declared_income\n" + b"50000\n" * 20_000
        sent = await client.post(f"{URL}/batch", content=body, headers={"Content-Type": "text/csv"})
        came = []

        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            came.append(message.get("body", b""))

        address = f"{sent.headers['location']}/rows"
        scope = {"type": "http", "method": "GET", "path": address, "query_string": b"", "headers": []}
        await gateway(scope, receive, send)
        assert 0 < len(b"".join(came)) < len(sent.content)
        assert (await client.get(address)).content == sent.content

    small = {"YUHENG_LIMITS_MAX_CONCURRENT_BATCH_READS": "1", "YUHENG_BATCH_CHUNK_ROWS": "1000"}
    run_inside(settings_for(bundles, made, tmp_path, **small), story)


@pytest.mark.parametrize("state", ["running", "done", "broken"])
def test_rows_come_with_the_state_of_their_batch(settings, people, made, state):
    async def story(client, gateway):
        known = [column.name for column in (*made.card.inputs, *made.card.also) if column.derived is None]
        body = people.head(3).select(known).write_csv().encode()
        sent = await client.post(f"{URL}/batch", content=body, headers={"Content-Type": "text/csv"})
        with gateway.service.store.engine.begin() as connection:
            connection.execute(sa.update(BATCHES).values(state=state))
        assert (await client.get(f"{sent.headers['location']}/rows")).headers["batch-state"] == state

    run_inside(settings, story)


def test_a_decision_is_found_by_its_id_where_the_other_filters_match(inside, applicant):
    async def story(client, gateway):
        decision = await ask(client, applicant)
        for query, count in (
            ("", 1),
            ("&product=credit_limit", 1),
            ("&product=scitech_risk", 0),
            ("&until=2020-01-01", 0),
        ):
            page = (await client.get(f"/v1/decisions?id={decision['decision_id']}{query}")).json()
            assert (len(page["decisions"]), page["next"]) == (count, None), query

    inside(story)


@pytest.mark.parametrize(
    ("address", "status"), [("/v1/effects?model=%00", 422), ("/v1/subjects/%00/trace?product=pathology", 200)]
)
def test_a_nul_in_a_url_is_not_an_error_of_the_store(inside, address, status):
    """PostgreSQL refuses one; SQLite looks for it."""

    async def story(client, gateway):
        assert (await client.get(address)).status_code == status

    inside(story)


def test_ten_thousand_unknown_names_are_reported_as_a_few_and_a_count(inside):
    async def story(client, gateway):
        body = {"indicators": {f"declared_incom{index}": 0 for index in range(10_000)}}
        errors = (await client.post("/v1/credit-limits/what-if", json=body)).json()["errors"]
        named = [error for error in errors if error["found"] == "not known"]
        assert len(named) == 20
        assert "did you mean 'declared_income'" in named[0]["needed"]
        assert [error["found"] for error in errors if error["field"] == "..."] == ["9,980 more that are not known"]

    inside(story)


@pytest.mark.parametrize(
    "fault",
    [
        lambda body: validate(overrides.override_model(body), body)[1],
        lambda body: validate(referrals.Referral, body)[1],
        lambda body: validate(promotion.Promotion, body)[1],
        lambda body: outcomes.parse_outcomes(body)[1],
        lambda body: outcomes.parse_outcomes({"outcomes": [body]})[1],
        lambda body: grants.validate(body, consent.load_rules(), None)[1],
        lambda body: request_form.validate({"context": [body]})[1],
    ],
)
def test_every_validator_reports_unknown_names_as_a_few_and_a_count(fault):
    faults = fault({f"reasn{index}": 0 for index in range(10_000)})
    assert len([item for item in faults if item.actual == "not known"]) == 20
    assert [item.field.endswith("...") for item in faults if item.actual == "9,980 more that are not known"] == [True]


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=201", "product=x", "decision=x", "since=x", "before=x", "subject="),
        *("model=%00", "referred=%00"),
    ],
)
def test_an_invalid_filter_is_refused_by_name(inside, query):
    async def story(client, gateway):
        refused = await client.get(f"/v1/decisions?{query}")
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == query.partition("=")[0]

    inside(story)


def test_a_preview_is_the_answer_without_a_record_or_a_charge(settings, applicant, company):
    async def story(client, gateway):
        for url, indicators in ((URL, applicant), ("/v1/scitech-risks", company)):
            preview = (await client.post(f"{url}/what-if", json={"indicators": indicators})).json()
            assert preview.pop("recorded") is False
            assert "decision_id" not in preview
            answer = (await client.post(url, json={"indicators": indicators})).json()
            assert preview.items() <= answer.items()

    run_inside(settings, story)
    assert recorded(settings) == 2
    assert len(rows(settings, sa.select(METER.c.decision))) == 2


def test_a_preview_of_a_stored_subject_is_refused(inside):
    async def story(client, gateway):
        refused = await client.post(f"{URL}/what-if", json={"subject_id": "H-1"})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "subject_id")

    inside(story)


def test_a_form_names_each_indicator_that_may_be_stated(inside, made):
    async def story(client, gateway):
        form = (await client.get("/v1/models/credit_limit/form")).json()
        assert {field["name"] for field in form["fields"]} >= {c.name for c in made.card.inputs if not c.derived}
        assert all(field["en"] and field["zh"] for field in form["fields"])
        assert (await client.get("/v1/models/none/form")).status_code == 404

    inside(story)
