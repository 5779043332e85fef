"""Batches that name stored subjects: each read under live grants, the others answered all the same."""

from __future__ import annotations

import orjson
import polars as pl
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from datasets.credit_limit.county import schema as county_schema
from datasets.scitech_risk.register import schema as register_schema
from serving.core.audit.auditor.auditor import Auditor, audit_store
from serving.core.audit.verify import ReceiptVerifier, load_public_key
from serving.core.db.engine import open_store
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

ONE = "/v1/credit-limits"
URL = f"{ONE}/batch"
SMALL = {"YUHENG_CONSENT_REQUIRED": "true", "YUHENG_BATCH_CHUNK_SUBJECTS": "4"}


@pytest.fixture
def strict(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path, **SMALL)


@pytest.fixture
def engine(strict):
    engine = open_store(strict.store_location, 1.0)
    yield engine
    engine.dispose()


@pytest.fixture
def ids(strict, engine, people, made):
    """Twelve households in the store, as their ids."""
    for at in range(12):
        put_subject(engine, strict, county_schema.TABLE, f"H-{at}", indicators(people, made.card, at))
    return [f"H-{at}" for at in range(12)]


def table(ids, **more):
    return pl.DataFrame({"subject_id": ids, **more}, schema_overrides={"subject_id": pl.String})


async def send(client, ids, format="ndjson", query="?reasons=true", url=URL, headers=None, **more):
    sent = {"Content-Type": MEDIA_TYPES[format], **(headers or {})}
    return await client.post(url + query, content=written(table(ids, **more), format), headers=sent)


async def told(client, ids, **how):
    found = await send(client, ids, **how)
    assert found.status_code == 200, found.text
    return read(found.content, "ndjson").to_dicts()


def sound(settings, engine):
    """The audit finds nothing."""
    key = load_pem_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
    found = audit_store(engine, key, settings.paths.checkpoints)
    assert [str(one) for one in found.findings] == []
    return found


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_named_subjects_are_answered_as_one_by_one_and_none_of_their_values_is_told(
    strict, engine, ids, people, format
):
    async def story(client, gateway):
        official = await enter(client, **GOVERNMENT)
        own = [await enter(client, **personal(one)) for one in ids[:6]]
        found = await send(client, ids, format, "?reasons=true&keep=branch", branch=["B"] * 12)
        assert found.status_code == 200, found.text
        answers = read(found.content, format)
        assert answers["row"].to_list() == list(range(1, 13))
        assert answers["error"].null_count() == 12
        assert set(answers["branch"]) == {"B"}
        for i, row in enumerate(answers.iter_rows(named=True)):
            one = (await client.post(ONE, json={"subject_id": ids[i]})).json()
            assert [row[name] for name in DECIDED] == [one[name] for name in DECIDED]
            assert row["reasons"].split(";")[0] == one["reasons"][0]["code"]
            grants_, shut = row["authorisations"], row["not_read"]
            if format == "csv":
                grants_, shut = grants_.split(";"), (shut or "").split(";") if shut else []
            assert set(grants_) == {official, *own[i : i + 1]} == set(one["authorisations"])
            assert set(shut) == (set() if i < 6 else CONDUCT)
        assert not set(answers.columns) & {name for name in people.columns if name != "housing"} - {"subject_id"}
        assert (set(answers["indicators_from"]), set(answers["simulated"])) == ({"store"}, {True})
        for content in rows(strict, sa.select(BATCH_CHUNKS.c.content)):
            assert b"H-1" not in content[0], "nor does the store hold an id in plain"

    run_inside(strict, story)
    sound(strict, engine)


def test_a_subjects_decisions_are_listed_whether_asked_one_by_one_or_in_a_batch(strict, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        first = await told(client, ids[:3])
        single = (await client.post(ONE, json={"subject_id": ids[1]})).json()
        second = await told(client, ids[1:3])
        wanted = [second[0]["decision_id"], single["decision_id"], first[1]["decision_id"]]
        found, before = [], ""
        while before is not None:
            asked = {"subject": ids[1], "limit": "1", **({"before": before} if before else {})}
            page = (await client.get("/v1/decisions", params=asked)).json()
            found += page["decisions"]
            before = page["next"]
        assert [one["decision_id"] for one in found] == wanted
        assert {one["pd"] for one in found} == {single["pd"]}
        assert {one["stored"] for one in found} == {True}
        assert (await client.get(f"/v1/decisions?subject={ids[1]}&product=scitech_risk")).json()["decisions"] == []
        alone = (await client.get("/v1/decisions")).json()["decisions"]
        assert [one["decision_id"] for one in alone] == [single["decision_id"]]

    run_inside(strict, story)


def test_conduct_without_a_personal_grant_raises_nothing_and_refuses_nothing(strict, engine, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        without = await told(client, ids)
        for one in ids:
            await enter(client, **personal(one))
        granted = await told(client, ids)
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

    run_inside(strict, story)


def test_half_of_conduct_granted_raises_nothing_as_for_one(strict, engine, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        for one in ids:
            await enter(client, **personal(one, "village_appraisal"))
        for one, row in zip(ids, await told(client, ids), strict=True):
            single = (await client.post(ONE, json={"subject_id": one})).json()
            assert row["indicative_limit"] == single["indicative_limit"]
            assert row["not_read"] == ["self_assessment"]

    run_inside(strict, story)


def test_unknown_and_unauthorised_subjects_are_told_in_both_languages_and_the_others_answered(strict, engine, ids):
    async def story(client, gateway):
        for one in (ids[0], ids[2], "nobody"):
            await enter(client, **GOVERNMENT | {"subject_id": one})
        await enter(client, **GOVERNMENT | {"subject_id": ids[3], "groups": [one for one in OFFICIAL if one != "tax"]})
        await enter(client, **GOVERNMENT | {"subject_id": ids[4], "tenant": "other"})
        sent = [ids[0], "nobody", ids[1], ids[2], ids[3], ids[4], None, "", "x" * 256]
        found = await told(client, sent)
        assert [row["decision"] is None for row in found] == [False, True, True, False, True, True, True, True, True]
        assert "not in the store" in found[1]["error"]
        assert "已入库" in found[1]["error_zh"]
        assert "government kind for audit" in found[2]["error"]
        assert "政府授权" in found[2]["error_zh"]
        assert "self_assessment" not in found[2]["error"]
        assert "for tax;" in found[4]["error"]
        assert "government kind for audit" in found[5]["error"], "another tenant's grants open nothing"
        assert "missing" in found[6]["error"]
        assert "missing" in found[7]["error"]
        assert "at most 255" in found[8]["error"]
        assert "nobody" not in orjson.dumps(found).decode(), "no id is kept with a refusal"
        assert all(row["authorisations"] is None and row["subject"] is None for row in found if row["error"])
        [summary] = rows(strict, sa.select(BATCHES.c.rows, BATCHES.c.answered, BATCHES.c.faulty, BATCHES.c.faults))
        assert summary[:3] == (9, 2, 7)
        assert b"nobody" not in summary.faults

    run_inside(strict, story)
    assert sum(units for [units] in rows(strict, sa.select(METER.c.units))) == 2
    sound(strict, engine)


def test_another_tenant_reads_nothing_under_these_grants(bundles, made, tmp_path, people):
    settings = settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true", **SMALL)
    engine = open_store(settings.store_location, 1.0)
    put_subject(engine, settings, county_schema.TABLE, "H-1", indicators(people, made.card, 1))

    async def story(client, gateway):
        operator = bearer_of(settings, "operator")
        entered = await client.post("/v1/authorisations", json=GOVERNMENT | {"tenant": "east"}, headers=operator)
        assert entered.status_code == 201
        east, west = (bearer_of(settings, "bank", tenant=name) for name in ("east", "west"))
        assert (await told(client, ["H-1"], headers=east))[0]["decision"]
        [row] = await told(client, ["H-1", "nobody"][:1], headers=west)
        assert row["decision"] is None
        first, second = await told(client, ["H-1", "nobody"], headers=west)
        assert first["error"] == second["error"], "nor whether there is such a household"

    run_inside(settings, story)
    engine.dispose()


def test_what_is_revoked_between_two_pieces_stops_the_next_one(strict, engine, ids, monkeypatch):
    async def story(client, gateway):
        grant = await enter(client, **GOVERNMENT)
        real = BatchRecorder.record

        def record(self, piece, answers):
            real(self, piece, answers)
            if piece.first_row == 5:
                with engine.begin() as connection:
                    grants.revoke(connection, grant)

        monkeypatch.setattr(BatchRecorder, "record", record)
        found = await told(client, ids)
        assert [row["decision"] is not None for row in found] == [True] * 8 + [False] * 4
        assert "without an active authorisation" in found[8]["error"]

    run_inside(strict, story)
    sound(strict, engine)


@pytest.mark.parametrize("what", ["all", "one", "erased"])
def test_what_goes_between_reading_and_record_leaves_no_answer(strict, engine, ids, monkeypatch, what):
    async def story(client, gateway):
        official = await enter(client, **GOVERNMENT | ({} if what != "one" else {"subject_id": ids[5]}))
        if what == "one":
            for one in (*ids[:5], *ids[6:]):
                await enter(client, **GOVERNMENT | {"subject_id": one})
        real, gone = job.score_stored, []

        def answer(piece, *others):
            answers = real(piece, *others)
            if piece.first_row == 5 and not gone:
                gone.append(piece.first_row)
                if what == "erased":
                    erasure.erase(engine, strict, "credit_limit", ids[5], "operator")
                else:
                    with engine.begin() as connection:
                        grants.revoke(connection, official)
            return answers

        monkeypatch.setattr(job, "score_stored", answer)
        found = await told(client, ids)
        answered = [row["decision"] is not None for row in found]
        assert answered == [True] * 4 + ([False] * 8 if what == "all" else [True, False] + [True] * 6)
        wanted = "not in the store" if what == "erased" else "without an active authorisation"
        assert wanted in found[5]["error"]

    run_inside(strict, story)
    report = sound(strict, engine)
    assert report.rows["batch_chunks"] == 3
    [summary] = rows(strict, sa.select(BATCHES.c.rows, BATCHES.c.faulty, BATCHES.c.state))
    assert summary == (12, 8 if what == "all" else 1, "done")
    assert sum(units for [units] in rows(strict, sa.select(METER.c.units))) == (4 if what == "all" else 11)


def test_leaf_and_receipt_name_the_authorisations_and_a_row_its_own(strict, engine, ids):
    async def story(client, gateway):
        official, own = await enter(client, **GOVERNMENT), await enter(client, **personal(ids[1]))
        found = await told(client, ids[:3])
        receipts = []
        for row in found:
            kept = (await client.get(f"/v1/decisions/{row['decision_id']}")).content
            assert orjson.loads(kept)["authorisations"] == row["authorisations"]
            receipt = (await client.get(f"/v1/decisions/{row['decision_id']}/receipt")).json()
            assert set(receipt["leaf"]["authorisations"]) == {official, own}
            key = load_public_key(strict.paths.log_key.with_suffix(".pub.pem").read_bytes())
            ReceiptVerifier(key).verify(receipt, kept)
            receipts.append(receipt)
            back = (await client.get(f"/v1/decisions/{row['decision_id']}/trace")).json()
            assert official in orjson.dumps(back).decode()
        assert found[1]["authorisations"] != found[0]["authorisations"] == [official]

    run_inside(strict, story)


def test_a_subjects_trace_and_its_erasure_know_its_rows_of_batches(strict, engine, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        found = await told(client, ids)
        wanted = found[7]["decision_id"]
        with engine.connect() as connection:
            link = trace.trace_subject(connection, strict, "credit_limit", ids[7])
            assert [one.name for one in link.links[0].links] == [wanted]
            other = trace.trace_subject(connection, strict, "credit_limit", ids[7], tenant="other")
            assert other.links[0].links == []
        done = erasure.erase(engine, strict, "credit_limit", ids[7], "operator")
        assert [(one["what"], one["count"]) for one in done["certificate"]["kept"]][0] == ("decisions", 1)
        assert (await told(client, ids[7:8]))[0]["decision"] is None
        kept = (await client.get(f"/v1/decisions/{wanted}")).json()
        assert kept["subject"] == done["certificate"]["pseudonym"]

    run_inside(strict, story)
    sound(strict, engine)


def test_which_rows_are_about_whom_cannot_be_altered_unseen(strict, engine, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        await told(client, ids)

    run_inside(strict, story)
    key = keys.load_private_key(strict.paths.log_key).public_key()
    first = BATCH_SUBJECTS.c.row == 1
    [batch] = rows(strict, sa.select(BATCHES.c.id))[0]
    for altering in (
        sa.update(BATCH_SUBJECTS).where(first).values(pseudonym="0" * 64),
        sa.delete(BATCH_SUBJECTS).where(first),
        sa.insert(BATCH_SUBJECTS).values(batch=batch, row=99, pseudonym="0" * 64),
    ):
        with engine.connect() as connection, connection.begin() as transaction:
            connection.execute(altering)
            found = Auditor(connection, key, None).run().findings
            transaction.rollback()
        assert [one.location.split()[0] for one in found] == ["batch_subjects"]


def test_the_inputs_of_a_row_have_an_imprint_that_its_own_key_makes(strict, engine, ids, people, made):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        first, again = await told(client, ids[:2]), await told(client, ids[:2])
        assert [row["inputs"] for row in first] == [row["inputs"] for row in again]
        put_subject(engine, strict, county_schema.TABLE, "H-twin", indicators(people, made.card, 0))
        [twin] = await told(client, ["H-twin"])
        assert twin["pd"] == first[0]["pd"]
        assert twin["inputs"] != first[0]["inputs"], "so none can be tried out on another's"

    run_inside(strict, story)


def test_stored_values_that_do_not_fit_or_do_not_open_are_told_without_them(strict, engine, ids, applicant):
    put_subject(engine, strict, county_schema.TABLE, "H-bad", applicant | {"declared_income": -1234567.0})
    with engine.begin() as connection:
        wrong = sa.update(INDICATORS).values(sealed=b"0" * 60)
        name = rows(strict, sa.select(SUBJECT_KEYS.c.pseudonym).order_by(SUBJECT_KEYS.c.created))[0][0]
        connection.execute(wrong.where(INDICATORS.c.pseudonym == name))

    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        found = await told(client, [*ids, "H-bad"])
        assert sum(row["decision"] is None for row in found) == 2
        assert "declared_income is another value in the store" in found[12]["error"]
        assert "1234567" not in orjson.dumps(found).decode()
        [changed] = [row for row in found[:12] if row["error"]]
        assert "were changed" in changed["error"]
        assert "重新入库" in changed["error_zh"]

    run_inside(strict, story)
    assert b"1234567" not in rows(strict, sa.select(BATCHES.c.faults))[0][0]


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_file_that_names_subjects_and_tells_indicators_is_refused(inside, format):
    async def story(client, gateway):
        found = await send(client, ["H-1", "H-2"], format, "", declared_income=[1.0, 2.0], tax_grade=["A", "A"])
        assert (found.status_code, found.json()["type"]) == (422, "/problems/invalid_batch")
        [error] = found.json()["errors"]
        assert error["field"] == "subject_id"
        assert "declared_income" in error["found"]
        assert "leave out one of the two" in error["needed"]
        assert "请删去其一" in error["needed_zh"]
        kept = await send(client, ["H-1", "H-2"], format, "?keep=subject_id", declared_income=[1.0, 2.0])
        assert kept.status_code == 200
        unknown = await send(client, ["H-1"], format, "", branch=["B"])
        assert unknown.json()["errors"][0]["field"] == "branch"
        clash = await send(client, ["H-1"], format, "?keep=authorisations", authorisations=["B"])
        assert clash.json()["errors"][0]["field"] == "keep"

    inside(story)


def test_a_record_of_the_other_kind_is_told_in_its_row(strict, engine, ids):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        headers = {"Content-Type": MEDIA_TYPES["ndjson"]}
        lines = b'{"subject_id": "H-1"}\n{"declared_income": 5}\n{"subject_id": 7}\n'
        found = read((await client.post(URL, content=lines, headers=headers)).content, "ndjson").to_dicts()
        assert [row["decision"] is None for row in found] == [False, True, True]
        assert "in every row or in none" in found[1]["error"]
        assert "全文件一致" in found[1]["error_zh"]
        assert "7" not in found[2]["error"]
        lines = b'{"declared_income": 5}\n{"subject_id": "H-1"}\n'
        found = read((await client.post(URL, content=lines, headers=headers)).content, "ndjson").to_dicts()
        assert [row["decision"] is None for row in found] == [False, True]
        assert "in every row or in none" in found[1]["error"]

    run_inside(strict, story)


@pytest.mark.parametrize("format", MEDIA_TYPES)
def test_a_batch_of_subjects_sent_again_with_its_key_gives_the_first_bytes(strict, engine, ids, format):
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

    run_inside(strict, story)
    sound(strict, engine)


def test_companies_are_named_alike(strict, engine, zone, companies):
    groups = sorted(columns_by_group(register_schema.TABLE))
    government = COMMON | {"kind": "government", "grantor": "Zone", "purpose": "scitech_risk", "groups": groups}
    for at in range(6):
        put_subject(engine, strict, register_schema.TABLE, f"C-{at}", indicators(zone.frame, companies.card, at))

    async def story(client, gateway):
        grant = await enter(client, **government)
        found = await told(client, [f"C-{at}" for at in range(6)] + ["H-1"], url="/v1/scitech-risks/batch")
        for at, row in enumerate(found[:6]):
            one = (await client.post("/v1/scitech-risks", json={"subject_id": f"C-{at}"})).json()
            assert [row[name] for name in ("decision", "limit", "pd", "grade")] == [
                one[name] for name in ("decision", "limit", "pd", "grade")
            ]
            assert row["authorisations"] == [grant]
        assert "not in the store" in found[6]["error"]
        known = {column.name for column in register_schema.TABLE.columns}
        assert not set(found[0]) & known

    run_inside(strict, story)
    sound(strict, engine)


def test_where_no_grant_is_asked_for_subjects_are_answered_without(bundles, made, tmp_path, people):
    settings = settings_for(bundles, made, tmp_path)
    engine = open_store(settings.store_location, 1.0)
    put_subject(engine, settings, county_schema.TABLE, "H-1", indicators(people, made.card, 1))

    async def story(client, gateway):
        first, second = await told(client, ["H-1", "nobody"])
        assert first["decision"]
        assert (first["authorisations"], first["not_read"]) == ([], [])
        assert "not in the store" in second["error"]

    run_inside(settings, story)
    engine.dispose()


def test_nobody_can_try_ids_out_on_the_digest_of_a_batch(strict, engine, ids):
    import hashlib

    content = b'{"subject_id":"H-1"}\n'

    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        await client.post(URL, content=content, headers={"Content-Type": MEDIA_TYPES["ndjson"]})

    run_inside(strict, story)
    [[digest]] = rows(strict, sa.select(BATCHES.c.request_sha256))
    assert digest != hashlib.sha256(b"ndjson ndjson []" + content).hexdigest()
    assert not any(digest in str(body) for [body] in rows(strict, sa.select(LOG_LEAVES.c.body)))
