"""Batches that name stored subjects: each is read under its own active grants, and faults stop no other row."""

from __future__ import annotations

import orjson
import polars as pl
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from datasets.credit_limit.county import schema as county_schema
from datasets.scitech_risk.register import schema as register_schema
from serving.core.audit.auditor.auditor import Auditor, audit_store
from serving.core.audit.authenticator import open_log_store
from serving.core.audit.verify import ReceiptVerifier, load_public_key
from serving.core.db.schema import BATCH_CHUNKS, BATCH_SUBJECTS, BATCHES, INDICATORS, LOG_LEAVES, METER, SUBJECT_KEYS
from serving.core.security import keys
from serving.decisions.batch import job
from serving.decisions.batch.recorder import BatchRecorder
from serving.governance.lineage import erasure, trace
from serving.privacy.consent import grants
from serving.privacy.subjects.indicators import columns_by_group
from tests.serving.conftest import bearer_of, indicators, put_subject, rows, run_inside, settings_for
from tests.serving.decisions.batch.test_routes import DECIDED, MEDIA_TYPES, read, written
from tests.serving.privacy.consent.test_rules import COMMON, CONDUCT, GOVERNMENT, OFFICIAL, enter, personal

SINGLE_URL = "/v1/credit-limits"
URL = f"{SINGLE_URL}/batch"
SMALL = {"YUHENG_CONSENT_REQUIRED": "true", "YUHENG_BATCH_CHUNK_SUBJECTS": "4"}


@pytest.fixture
def settings(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path, **SMALL)


@pytest.fixture
def engine(settings):
    engine = open_log_store(settings, 1.0)
    yield engine
    engine.dispose()


@pytest.fixture
def ids(settings, engine, people, made):
    """Twelve households in the store, as their ids."""
    for index in range(12):
        put_subject(engine, settings, county_schema.TABLE, f"H-{index}", indicators(people, made.card, index))
    return [f"H-{index}" for index in range(12)]


def table(ids, **more):
    return pl.DataFrame({"subject_id": ids, **more}, schema_overrides={"subject_id": pl.String})


async def send(client, ids, format="ndjson", query="?reasons=true", url=URL, headers=None, **more):
    sent = {"Content-Type": MEDIA_TYPES[format], **(headers or {})}
    return await client.post(url + query, content=written(table(ids, **more), format), headers=sent)


async def answers_of(client, ids, **how):
    response = await send(client, ids, **how)
    assert response.status_code == 200, response.text
    return read(response.content, "ndjson").to_dicts()


def assert_audit_finds_nothing(settings, engine):
    """The audit finds nothing."""
    key = load_pem_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
    report = audit_store(engine, key, settings.paths.checkpoints)
    assert [str(finding) for finding in report.findings] == []
    return report


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_named_subjects_get_the_same_answers_as_single_decisions_without_their_values(
    settings, engine, ids, people, format
):
    async def story(client, gateway):
        official = await enter(client, **GOVERNMENT)
        own = [await enter(client, **personal(subject)) for subject in ids[:6]]
        response = await send(client, ids, format, "?reasons=true&keep=branch", branch=["B"] * 12)
        assert response.status_code == 200, response.text
        answers = read(response.content, format)
        assert answers["row"].to_list() == list(range(1, 13))
        assert answers["error"].null_count() == 12
        assert set(answers["branch"]) == {"B"}
        for i, row in enumerate(answers.iter_rows(named=True)):
            single = (await client.post(SINGLE_URL, json={"subject_id": ids[i]})).json()
            assert [row[name] for name in DECIDED] == [single[name] for name in DECIDED]
            assert row["reasons"].split(";")[0] == single["reasons"][0]["code"]
            grants_, shut = row["authorisations"], row["not_read"]
            if format in ("csv", "xlsx"):
                grants_, shut = grants_.split(";"), (shut or "").split(";") if shut else []
            assert set(grants_) == {official, *own[i : i + 1]} == set(single["authorisations"])
            assert set(shut) == (set() if i < 6 else CONDUCT)
        assert not set(answers.columns) & {name for name in people.columns if name != "housing"} - {"subject_id"}
        assert (set(answers["indicators_from"]), set(answers["simulated"])) == ({"store"}, {True})
        for content in rows(settings, sa.select(BATCH_CHUNKS.c.content)):
            assert b"H-1" not in content[0], "nor does the store hold an id in plain"

    run_inside(settings, story)
    assert_audit_finds_nothing(settings, engine)


def test_a_subjects_single_decisions_and_batch_rows_are_listed_together(settings, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        first = await answers_of(client, ids[:3])
        single = (await client.post(SINGLE_URL, json={"subject_id": ids[1]})).json()
        second = await answers_of(client, ids[1:3])
        expected = [second[0]["decision_id"], single["decision_id"], first[1]["decision_id"]]
        decisions, before = [], ""
        while before is not None:
            params = {"subject": ids[1], "limit": "1", **({"before": before} if before else {})}
            page = (await client.get("/v1/decisions", params=params)).json()
            decisions += page["decisions"]
            before = page["next"]
        assert [item["decision_id"] for item in decisions] == expected
        assert {item["pd"] for item in decisions} == {single["pd"]}
        assert {item["stored"] for item in decisions} == {True}
        assert (await client.get(f"/v1/decisions?subject={ids[1]}&product=scitech_risk")).json()["decisions"] == []
        alone = (await client.get("/v1/decisions")).json()["decisions"]
        assert [item["decision_id"] for item in alone] == [single["decision_id"]]

    run_inside(settings, story)


def test_conduct_without_a_personal_grant_neither_raises_a_limit_nor_refuses_anyone(settings, engine, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        without = await answers_of(client, ids)
        for subject in ids:
            await enter(client, **personal(subject))
        granted = await answers_of(client, ids)
        lifted = 0
        for before, after in zip(without, granted, strict=True):
            assert (before["decision"], before["pd"], before["grade"]) == tuple(
                after[name] for name in ("decision", "pd", "grade")
            )
            assert before["indicative_limit"] <= after["indicative_limit"]
            assert before["multiplier"] == 1
            lifted += after["multiplier"] > 1
            assert set(before["not_read"]) == CONDUCT
            assert after["not_read"] == []
        assert lifted

    run_inside(settings, story)


def test_a_grant_for_half_of_conduct_raises_no_limit_in_a_batch_or_alone(settings, engine, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        for subject in ids:
            await enter(client, **personal(subject, "village_appraisal"))
        for subject, row in zip(ids, await answers_of(client, ids), strict=True):
            single = (await client.post(SINGLE_URL, json={"subject_id": subject})).json()
            assert row["indicative_limit"] == single["indicative_limit"]
            assert row["not_read"] == ["self_assessment"]

    run_inside(settings, story)


def test_unknown_and_unauthorised_subjects_are_reported_and_the_others_answered(settings, engine, ids):
    async def story(client, gateway):
        for name in (ids[0], ids[2], "nobody"):
            await enter(client, **GOVERNMENT | {"subject_id": name})
        await enter(
            client, **GOVERNMENT | {"subject_id": ids[3], "groups": [name for name in OFFICIAL if name != "tax"]}
        )
        await enter(client, **GOVERNMENT | {"subject_id": ids[4], "tenant": "other"})
        sent = [ids[0], "nobody", ids[1], ids[2], ids[3], ids[4], None, "", "x" * 256]
        answers = await answers_of(client, sent)
        assert [row["decision"] is None for row in answers] == [False, True, True, False, True, True, True, True, True]
        assert "not in the store" in answers[1]["error"]
        assert "已入库" in answers[1]["error_zh"]
        assert "government kind for audit" in answers[2]["error"]
        assert "政府授权" in answers[2]["error_zh"]
        assert "self_assessment" not in answers[2]["error"]
        assert "for tax;" in answers[4]["error"]
        assert "government kind for audit" in answers[5]["error"], "another tenant's grants open nothing"
        assert "missing" in answers[6]["error"]
        assert "missing" in answers[7]["error"]
        assert "at most 255" in answers[8]["error"]
        assert "nobody" not in orjson.dumps(answers).decode(), "no id is kept with a refusal"
        assert all(row["authorisations"] is None and row["subject"] is None for row in answers if row["error"])
        [summary] = rows(settings, sa.select(BATCHES.c.rows, BATCHES.c.answered, BATCHES.c.faulty, BATCHES.c.faults))
        assert summary[:3] == (9, 2, 7)
        assert b"nobody" not in summary.faults

    run_inside(settings, story)
    assert sum(units for [units] in rows(settings, sa.select(METER.c.units))) == 2
    assert_audit_finds_nothing(settings, engine)


def test_another_tenant_reads_nothing_under_a_tenants_grants(bundles, made, tmp_path, people):
    settings = settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true", **SMALL)
    engine = open_log_store(settings, 1.0)
    put_subject(engine, settings, county_schema.TABLE, "H-1", indicators(people, made.card, 1))

    async def story(client, gateway):
        operator = bearer_of(settings, "operator")
        entered = await client.post("/v1/authorisations", json=GOVERNMENT | {"tenant": "east"}, headers=operator)
        assert entered.status_code == 201
        east, west = (bearer_of(settings, "bank", tenant=name) for name in ("east", "west"))
        assert (await answers_of(client, ["H-1"], headers=east))[0]["decision"]
        [row] = await answers_of(client, ["H-1", "nobody"][:1], headers=west)
        assert row["decision"] is None
        first, second = await answers_of(client, ["H-1", "nobody"], headers=west)
        assert first["error"] == second["error"], "nor whether there is such a household"

    run_inside(settings, story)
    engine.dispose()


def test_a_grant_revoked_between_two_chunks_opens_nothing_in_the_next(settings, engine, ids, monkeypatch):
    async def story(client, gateway):
        grant = await enter(client, **GOVERNMENT)
        original = BatchRecorder.record

        def record(self, chunk, scored):
            original(self, chunk, scored)
            if chunk.first_row == 5:
                with engine.begin() as connection:
                    grants.revoke(connection, grant)

        monkeypatch.setattr(BatchRecorder, "record", record)
        answers_ = await answers_of(client, ids)
        assert [row["decision"] is not None for row in answers_] == [True] * 8 + [False] * 4
        assert "without an active authorisation" in answers_[8]["error"]

    run_inside(settings, story)
    assert_audit_finds_nothing(settings, engine)


@pytest.mark.parametrize("what", ["all", "one", "erased"])
def test_a_grant_or_subject_that_goes_before_the_record_leaves_no_answer(settings, engine, ids, monkeypatch, what):
    async def story(client, gateway):
        official = await enter(client, **GOVERNMENT | ({} if what != "one" else {"subject_id": ids[5]}))
        if what == "one":
            for subject in (*ids[:5], *ids[6:]):
                await enter(client, **GOVERNMENT | {"subject_id": subject})
        original, revoked = job.score_stored, []

        def answer(chunk, *args):
            answers = original(chunk, *args)
            if chunk.first_row == 5 and not revoked:
                revoked.append(chunk.first_row)
                if what == "erased":
                    erasure.erase(engine, settings, "credit_limit", ids[5], "operator")
                else:
                    with engine.begin() as connection:
                        grants.revoke(connection, official)
            return answers

        monkeypatch.setattr(job, "score_stored", answer)
        rows_ = await answers_of(client, ids)
        answered = [row["decision"] is not None for row in rows_]
        assert answered == [True] * 4 + ([False] * 8 if what == "all" else [True, False] + [True] * 6)
        expected = "not in the store" if what == "erased" else "without an active authorisation"
        assert expected in rows_[5]["error"]

    run_inside(settings, story)
    report = assert_audit_finds_nothing(settings, engine)
    assert report.rows["batch_chunks"] == 3
    [summary] = rows(settings, sa.select(BATCHES.c.rows, BATCHES.c.faulty, BATCHES.c.state))
    assert summary == (12, 8 if what == "all" else 1, "done")
    assert sum(units for [units] in rows(settings, sa.select(METER.c.units))) == (4 if what == "all" else 11)


def test_log_entry_and_receipt_name_all_authorisations_and_a_row_its_own(settings, engine, ids):
    async def story(client, gateway):
        official, own = await enter(client, **GOVERNMENT), await enter(client, **personal(ids[1]))
        answers = await answers_of(client, ids[:3])
        receipts = []
        for row in answers:
            stored = (await client.get(f"/v1/decisions/{row['decision_id']}")).content
            assert orjson.loads(stored)["authorisations"] == row["authorisations"]
            receipt = (await client.get(f"/v1/decisions/{row['decision_id']}/receipt")).json()
            assert set(receipt["leaf"]["authorisations"]) == {official, own}
            key = load_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
            ReceiptVerifier(key).verify(receipt, stored)
            receipts.append(receipt)
            back = (await client.get(f"/v1/decisions/{row['decision_id']}/trace")).json()
            assert official in orjson.dumps(back).decode()
        assert answers[1]["authorisations"] != answers[0]["authorisations"] == [official]

    run_inside(settings, story)


def test_a_subjects_trace_and_erasure_include_its_rows_of_batches(settings, engine, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        answers = await answers_of(client, ids)
        decision_id = answers[7]["decision_id"]
        with engine.connect() as connection:
            node = trace.trace_subject(connection, settings, "credit_limit", ids[7])
            assert [item.name for item in node.links[0].links] == [decision_id]
            other = trace.trace_subject(connection, settings, "credit_limit", ids[7], tenant="other")
            assert other.links[0].links == []
        done = erasure.erase(engine, settings, "credit_limit", ids[7], "operator")
        assert [(item["what"], item["count"]) for item in done["certificate"]["kept"]][0] == ("decisions", 1)
        assert (await answers_of(client, ids[7:8]))[0]["decision"] is None
        stored = (await client.get(f"/v1/decisions/{decision_id}")).json()
        assert stored["subject"] == done["certificate"]["pseudonym"]

    run_inside(settings, story)
    assert_audit_finds_nothing(settings, engine)


def test_changing_which_rows_are_about_a_subject_is_found_by_the_audit(settings, engine, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        await answers_of(client, ids)

    run_inside(settings, story)
    key = keys.load_private_key(settings.paths.log_key).public_key()
    first = BATCH_SUBJECTS.c.row == 1
    [batch] = rows(settings, sa.select(BATCHES.c.id))[0]
    for statement in (
        sa.update(BATCH_SUBJECTS).where(first).values(pseudonym="0" * 64),
        sa.delete(BATCH_SUBJECTS).where(first),
        sa.insert(BATCH_SUBJECTS).values(batch=batch, row=99, pseudonym="0" * 64),
    ):
        with engine.connect() as connection, connection.begin() as transaction:
            connection.execute(statement)
            findings = Auditor(connection, key, None).run().findings
            transaction.rollback()
        assert [finding.location.split()[0] for finding in findings] == ["batch_subjects"]


def test_the_digest_of_a_rows_inputs_is_made_with_the_subjects_own_key(settings, engine, ids, people, made):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        first, again = await answers_of(client, ids[:2]), await answers_of(client, ids[:2])
        assert [row["inputs"] for row in first] == [row["inputs"] for row in again]
        put_subject(engine, settings, county_schema.TABLE, "H-twin", indicators(people, made.card, 0))
        [twin] = await answers_of(client, ["H-twin"])
        assert twin["pd"] == first[0]["pd"]
        assert twin["inputs"] != first[0]["inputs"], "so none can be tried out on another's"

    run_inside(settings, story)


def test_invalid_or_tampered_stored_values_are_reported_without_the_values(settings, engine, ids, applicant):
    put_subject(engine, settings, county_schema.TABLE, "H-bad", applicant | {"declared_income": -1234567.0})
    with engine.begin() as connection:
        wrong = sa.update(INDICATORS).values(sealed=b"0" * 60)
        name = rows(settings, sa.select(SUBJECT_KEYS.c.pseudonym).order_by(SUBJECT_KEYS.c.created))[0][0]
        connection.execute(wrong.where(INDICATORS.c.pseudonym == name))

    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        answers = await answers_of(client, [*ids, "H-bad"])
        assert sum(row["decision"] is None for row in answers) == 2
        assert "declared_income is another value in the store" in answers[12]["error"]
        assert "1234567" not in orjson.dumps(answers).decode()
        [changed] = [row for row in answers[:12] if row["error"]]
        assert "were changed" in changed["error"]
        assert "重新入库" in changed["error_zh"]

    run_inside(settings, story)
    assert b"1234567" not in rows(settings, sa.select(BATCHES.c.faults))[0][0]


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_file_with_both_subjects_and_indicators_is_refused(inside, format):
    async def story(client, gateway):
        response = await send(client, ["H-1", "H-2"], format, "", declared_income=[1.0, 2.0], tax_grade=["A", "A"])
        assert (response.status_code, response.json()["type"]) == (422, "/problems/invalid_batch")
        [error] = response.json()["errors"]
        assert error["field"] == "subject_id"
        assert "declared_income" in error["found"]
        assert "leave out one of the two" in error["needed"]
        assert "请删去其一" in error["needed_zh"]
        copied = await send(client, ["H-1", "H-2"], format, "?keep=subject_id", declared_income=[1.0, 2.0])
        assert copied.status_code == 200
        unknown = await send(client, ["H-1"], format, "", branch=["B"])
        assert unknown.json()["errors"][0]["field"] == "branch"
        clash = await send(client, ["H-1"], format, "?keep=authorisations", authorisations=["B"])
        assert clash.json()["errors"][0]["field"] == "keep"

    inside(story)


def test_a_record_of_the_other_kind_is_a_fault_of_its_row(settings, engine, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        headers = {"Content-Type": MEDIA_TYPES["ndjson"]}
        lines = b'{"subject_id": "H-1"}\n{"declared_income": 5}\n{"subject_id": 7}\n'
        answers = read((await client.post(URL, content=lines, headers=headers)).content, "ndjson").to_dicts()
        assert [row["decision"] is None for row in answers] == [False, True, True]
        assert "in every row or in none" in answers[1]["error"]
        assert "全文件一致" in answers[1]["error_zh"]
        assert "7" not in answers[2]["error"]
        lines = b'{"declared_income": 5}\n{"subject_id": "H-1"}\n'
        answers = read((await client.post(URL, content=lines, headers=headers)).content, "ndjson").to_dicts()
        assert [row["decision"] is None for row in answers] == [False, True]
        assert "in every row or in none" in answers[1]["error"]

    run_inside(settings, story)


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_batch_of_subjects_sent_again_with_its_key_returns_the_same_bytes(settings, engine, ids, format):
    async def story(client, gateway):
        grant = await enter(client, **GOVERNMENT)
        keyed = {"Idempotency-Key": "k"}
        first = await send(client, ids, format, headers=keyed)
        await client.post(f"/v1/authorisations/{grant}/revoke")
        again = await send(client, ids, format, headers=keyed)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.content == first.content
        other = await send(client, ids[1:], format, headers=keyed)
        assert other.json()["type"] == "/problems/key_reused"
        anew = read((await send(client, ids, format)).content, format)
        assert anew["decision"].null_count() == 12

    run_inside(settings, story)
    assert_audit_finds_nothing(settings, engine)


def test_companies_can_be_named_in_a_batch_too(settings, engine, zone, companies):
    groups = sorted(columns_by_group(register_schema.TABLE))
    government = COMMON | {"kind": "government", "grantor": "Zone", "purpose": "scitech_risk", "groups": groups}
    for index in range(6):
        put_subject(
            engine, settings, register_schema.TABLE, f"C-{index}", indicators(zone.frame, companies.card, index)
        )

    async def story(client, gateway):
        grant = await enter(client, **government)
        answers = await answers_of(
            client, [f"C-{index}" for index in range(6)] + ["H-1"], url="/v1/scitech-risks/batch"
        )
        for index, row in enumerate(answers[:6]):
            single = (await client.post("/v1/scitech-risks", json={"subject_id": f"C-{index}"})).json()
            assert [row[name] for name in ("decision", "limit", "pd", "grade")] == [
                single[name] for name in ("decision", "limit", "pd", "grade")
            ]
            assert row["authorisations"] == [grant]
        assert "not in the store" in answers[6]["error"]
        known = {column.name for column in register_schema.TABLE.columns}
        assert not set(answers[0]) & known

    run_inside(settings, story)
    assert_audit_finds_nothing(settings, engine)


def test_subjects_are_answered_without_grants_where_none_is_required(bundles, made, tmp_path, people):
    settings = settings_for(bundles, made, tmp_path)
    engine = open_log_store(settings, 1.0)
    put_subject(engine, settings, county_schema.TABLE, "H-1", indicators(people, made.card, 1))

    async def story(client, gateway):
        first, second = await answers_of(client, ["H-1", "nobody"])
        assert first["decision"]
        assert (first["authorisations"], first["not_read"]) == ([], [])
        assert "not in the store" in second["error"]

    run_inside(settings, story)
    engine.dispose()


def test_ids_cannot_be_guessed_from_the_digest_of_a_batch(settings, engine, ids):
    import hashlib

    content = b'{"subject_id":"H-1"}\n'

    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        await client.post(URL, content=content, headers={"Content-Type": MEDIA_TYPES["ndjson"]})

    run_inside(settings, story)
    [[digest]] = rows(settings, sa.select(BATCHES.c.request_sha256))
    assert digest != hashlib.sha256(b"ndjson ndjson []" + content).hexdigest()
    assert not any(digest in str(body) for [body] in rows(settings, sa.select(LOG_LEAVES.c.body)))
