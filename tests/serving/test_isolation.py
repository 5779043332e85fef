"""Where the parts of trust meet: what one of them keeps to itself the others do not tell."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from datasets.credit_limit.county import schema as county_schema
from datasets.scitech_risk.register import schema as register_schema
from models.card import DatasetInfo
from serving.core.audit import checkpoints as notary
from serving.core.audit.auditor.auditor import Auditor, audit_store
from serving.core.db.engine import open_store, to_store_error
from serving.core.db.reader import StoreReader
from serving.core.db.schema import DECISIONS, ERASURES, GRANTS, OUTCOMES, OVERRIDES
from serving.core.security import keys
from serving.decisions.records import answer_of
from serving.decisions.service import DecisionService
from serving.governance.lineage import erasure, trace
from serving.pathology.slides import store as slide_store
from serving.privacy.consent import grants, rules
from serving.privacy.subjects.indicators import columns_by_group
from tests.serving.conftest import (
    Made,
    bearer_of,
    put_subject,
    rows,
    run_inside,
    settings_for,
    vault_of,
)

URL = "/v1/credit-limits"
DOCUMENT = hashlib.sha256(b"signed").hexdigest()
ROW = {"valid_from": "2026-01-01T00:00:00.000Z", "valid_to": "2999-01-01T00:00:00.000Z", "document_sha256": DOCUMENT}


def granted(engine, **told):
    """The id of a grant that was put into the store."""
    with engine.begin() as connection:
        return grants.create(connection, {"subject": None} | ROW | told, "operator-9")["authorisation"]


@pytest.fixture
def strict(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true", YUHENG_CONSENT_REQUIRED="true")


# --- trace


def test_a_trace_tells_of_another_tenants_authorisation_only_that_it_is_there(made, bundles, tmp_path, applicant):
    settings = settings_for(tmp_path / "bundles", made, tmp_path, YUHENG_ACCESS_REQUIRED="true")
    engine = open_store(settings.store_location, 1.0)
    patient = vault_of(settings).pseudonym("credit_limit", "H-5")
    theirs = granted(engine, kind="personal", grantor=patient, subject=patient, tenant="west", purpose="training",
                     groups=["tax"])  # fmt: skip
    data = DatasetInfo(name="county", rows=3_000, sha256="d" * 64, authorisations=(theirs,))
    Made(made.private, made.public, made.graph, made.card.model_copy(update={"data": (data,)})).publish(
        tmp_path / "bundles", "1"
    )

    async def story(client, gateway):
        bank = bearer_of(settings, "bank", tenant="east")
        answer = await client.post(URL, json={"indicators": applicant}, headers=bank)
        found = await client.get(f"/v1/decisions/{answer.json()['decision_id']}/trace", headers=bank)
        assert theirs in found.text, "the trail does not end"
        assert found.json()["missing_links"] == [] or theirs not in json.dumps(found.json()["missing_links"])
        for secret in (patient, "west", "operator-9"):
            assert secret not in found.text

    run_inside(settings, story)
    engine.dispose()


# --- consent


def test_a_companys_months_are_told_to_whom_a_grant_opens_them_and_to_nobody_else(strict, company):
    engine = open_store(strict.store_location, 1.0)
    put_subject(engine, strict, register_schema.TABLE, "C1", company)
    groups = sorted(columns_by_group(register_schema.TABLE))
    mine = granted(engine, kind="government", grantor="Zone", tenant="east", purpose="scitech_risk", groups=groups)

    async def story(client, gateway):
        east, west = (bearer_of(strict, "bank", tenant=name) for name in ("east", "west"))
        assert (await client.get("/v1/companies/C1/history", headers=east)).status_code == 200
        for company_id in ("C1", "nobody"):  # nor whether there is such a company
            refused = await client.get(f"/v1/companies/{company_id}/history", headers=west)
            assert (refused.status_code, refused.json()["type"]) == (403, "/problems/not_authorised")
        with engine.begin() as connection:
            grants.revoke(connection, mine)
        again = await client.get("/v1/companies/C1/history", headers=east)
        assert again.json()["type"] == "/problems/not_authorised"

    run_inside(strict, story)
    engine.dispose()


def test_a_stored_value_that_does_not_fit_the_model_is_not_told_in_the_refusal(settings, applicant):
    engine = open_store(settings.store_location, 1.0)
    put_subject(engine, settings, county_schema.TABLE, "H-1", applicant | {"declared_income": -1234567.0})

    async def story(client, gateway):
        refused = await client.post(URL, json={"subject_id": "H-1"})
        assert refused.status_code == 422
        assert "declared_income" in refused.text
        assert "1234567" not in refused.text
        assert "1,234,567" not in refused.text

    run_inside(settings, story)
    engine.dispose()


def test_a_slide_is_not_read_under_a_grant_to_another_clinic(strict):
    engine = open_store(strict.store_location, 1.0)
    told = {"kind": "personal", "grantor": "p", "subject": "p", "purpose": "pathology", "groups": ["slide"]}
    theirs = granted(engine, tenant="west", **told)
    with engine.connect() as connection:
        assert rules.is_active(connection, theirs, "pathology", "west")
        assert not rules.is_active(connection, theirs, "pathology", "east")
    engine.dispose()


# --- what the store tells to who reads its files


def test_nobody_can_try_ids_out_on_the_digest_of_a_request(settings, applicant):
    engine = open_store(settings.store_location, 1.0)
    put_subject(engine, settings, county_schema.TABLE, "H-1", applicant)
    body = b'{"subject_id":"H-1"}'

    async def story(client, gateway):
        sent = {"content": body, "headers": {"content-type": "application/json", "idempotency-key": "k"}}
        first, second = await client.post(URL, **sent), await client.post(URL, **sent)
        assert first.content == second.content
        assert second.headers["idempotent-replayed"] == "true"
        other = await client.post(URL, **sent | {"content": body + b" "})
        assert other.json()["type"] == "/problems/key_reused"

    run_inside(settings, story)
    [row] = rows(settings, sa.select(DECISIONS.c.request_sha256, DECISIONS.c.salt))
    assert row.request_sha256 != hashlib.sha256(body).hexdigest()
    engine.dispose()


def test_an_error_of_the_store_never_holds_what_was_to_be_written(settings):
    engine = open_store(settings.store_location, 1.0)
    with pytest.raises(sa.exc.SQLAlchemyError) as error, engine.begin() as connection:
        connection.execute(sa.insert(GRANTS).values(id="a", grantor="a secret of somebody"))
    assert "a secret" not in str(to_store_error(error.value)), "which the caller is told"
    if engine.dialect.name == "sqlite":  # PostgreSQL's own message tells the row to who reads the log
        assert "a secret" not in str(error.value)
    engine.dispose()


def test_an_erasure_that_was_altered_or_taken_away_is_found(settings, applicant):
    """By it no training sees the subject again."""
    engine = open_store(settings.store_location, 1.0)
    put_subject(engine, settings, county_schema.TABLE, "H-1", applicant)
    erasure.erase(engine, settings, "credit_limit", "H-1", "operator")
    key = load_pem_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
    assert audit_store(engine, key, None).findings == []
    for altering, what in (
        (sa.update(ERASURES).values(pseudonym="0" * 64), "edited"),
        (sa.delete(ERASURES), "deleted"),
    ):
        with engine.begin() as connection:
            connection.execute(altering)
        [finding] = audit_store(engine, key, None).findings
        assert (finding.kind, finding.location.split()[0]) == (what, "erasures")
    engine.dispose()


# --- the store over a wire


def test_a_reader_holds_no_transaction_open_between_two_questions(settings, applicant):
    """PostgreSQL ends one that is idle for long, and the next caller would be refused for it."""
    engine = open_store(settings.store_location, 1.0)
    reader = StoreReader(engine)
    assert answer_of(reader, "local", "0" * 32) is None
    if engine.dialect.name == "postgresql":
        statement = sa.text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        )
        assert rows(settings, statement)[0][0] == 0
    engine.dispose()


def test_a_store_that_keeps_a_reader_waiting_holds_up_no_other_call(bundles, made, tmp_path, applicant):
    settings = settings_for(bundles, made, tmp_path, YUHENG_STORE_LOCK_TIMEOUT_SECONDS="2")

    async def story(client, gateway):
        answer = await client.post(URL, json={"indicators": applicant})
        decision, engine = answer.json()["decision_id"], open_store(settings.store_location, 1.0)
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("LOCK TABLE decisions, batches IN ACCESS EXCLUSIVE MODE")
            sent = {"json": {"indicators": applicant}, "headers": {"idempotency-key": "k"}}
            waiting = [
                asyncio.ensure_future(client.get(f"/v1/decisions/{decision}")),
                asyncio.ensure_future(client.get(f"/v1/batches/{decision}")),
                asyncio.ensure_future(client.post(URL, **sent)),
                asyncio.ensure_future(client.post(f"{URL}/batch", content=b"declared_income\n5\n", headers={
                    "content-type": "text/csv", "idempotency-key": "k"})),
            ]  # fmt: skip
            slowest = 0.0
            for _ in range(10):
                began = time.perf_counter()
                await asyncio.sleep(0.01)
                assert (await client.get("/healthz/live")).status_code == 200
                slowest = max(slowest, time.perf_counter() - began)
        assert slowest < 1.5  # not the 2 seconds that the store is waited for
        await asyncio.gather(*waiting)
        engine.dispose()

    run_inside(settings, story)


# --- what is logged


def test_a_log_of_a_failure_names_no_subject(settings, caplog, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr(trace, "trace_subject", fails)

    async def story(client, gateway):
        assert (await client.get("/v1/subjects/H-SECRET-17/trace")).status_code == 500

    run_inside(settings, story)
    assert "broken" in caplog.text
    assert "H-SECRET-17" not in caplog.text


# --- erasure


def test_no_answer_is_recorded_about_a_subject_that_was_erased_while_it_was_made(settings, applicant, monkeypatch):
    engine = open_store(settings.store_location, 1.0)
    put_subject(engine, settings, county_schema.TABLE, "H-1", applicant)
    resolve_inputs = DecisionService.resolve_inputs

    async def resolve_then_erase(self, *args):
        inputs = await resolve_inputs(self, *args)
        erasure.erase(engine, settings, "credit_limit", "H-1", "operator")
        return inputs

    monkeypatch.setattr(DecisionService, "resolve_inputs", resolve_then_erase)

    async def story(client, gateway):
        answer = await client.post(URL, json={"subject_id": "H-1"})
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown_subject")

    run_inside(settings, story)
    assert rows(settings, sa.select(DECISIONS.c.id)) == []
    engine.dispose()


def test_a_slides_certificate_is_its_own_though_another_clinic_sent_the_same(settings):
    engine = open_store(settings.store_location, 1.0)
    for slide, tenant in (("5" * 32, "east"), ("6" * 32, "west")):
        slide_store.create(engine, slide, "uploading", sha256="f" * 64, tenant=tenant)
        slide_store.create_upload(engine, slide, slide, 0, None, {"reference": "a.svs"} if tenant == "west" else {})
        slide_store.transition(engine, slide, "cancelled")
        folder = settings.paths.slides / slide / "slide"
        folder.mkdir(parents=True)
        (folder / "a.svs").write_bytes(b"x")
    first, second = (erasure.erase_slide(engine, settings, slide * 32, "operator") for slide in "56")
    assert erasure.erase_slide(engine, settings, "5" * 32, "operator") == first
    kept = [[one["what"] for one in made["certificate"]["kept"]] for made in (first, second)]
    assert ["original in the inbox" in one for one in kept] == [False, True]
    engine.dispose()


def test_an_authorisation_that_was_altered_put_in_or_taken_away_is_found(settings):
    engine = open_store(settings.store_location, 1.0)
    told = {"kind": "government", "grantor": "County", "tenant": "east", "purpose": "credit_limit", "groups": ["tax"]}
    one, other = granted(engine, **told), granted(engine, **told)
    with engine.begin() as connection:
        grants.revoke(connection, one)
        grants.revoke(connection, one)
    key = keys.load_private_key(settings.paths.log_key).public_key()
    assert audit_store(engine, key, None).findings == []
    mine, row = GRANTS.c.id == one, {**told, **ROW, "created": "2026", "by": "b"}
    for altering, wanted in (
        (sa.update(GRANTS).where(mine).values(revoked_at=None), f"edited grants {one}"),
        (sa.update(GRANTS).where(mine).values(valid_from="2020-01-01T00:00:00.000Z"), f"edited grants {one}"),
        (sa.update(GRANTS).where(mine).values(groups=["tax", "audit"]), f"edited grants {one}"),
        (sa.update(GRANTS).where(GRANTS.c.id == other).values(revoked_at="2026"), f"added revocations {other}"),
        (sa.insert(GRANTS).values(row | {"id": "f" * 32}), f"added grants {'f' * 32}"),
        (sa.delete(GRANTS).where(mine), f"deleted grants {one}"),
    ):
        with engine.connect() as connection, connection.begin() as transaction:
            connection.execute(altering)
            found = [f"{one.kind} {one.location}" for one in Auditor(connection, key, None).run().findings]
            transaction.rollback()
        assert wanted in found, found
    engine.dispose()


def test_an_outcome_or_override_that_was_altered_put_in_or_taken_away_is_found(settings, applicant):
    async def story(client, gateway):
        decision = (await client.post(URL, json={"indicators": applicant})).json()["decision_id"]
        said = {"decision_id": decision, "outcome": "defaulted", "at": "2026-11-01", "source": "core banking"}
        assert (await client.post("/v1/outcomes", json=said)).status_code == 200
        otherwise = {"decision": "approve", "limit": 250_000, "reason": "the harvest was good"}
        assert (await client.post(f"/v1/decisions/{decision}/override", json=otherwise)).status_code == 200

    run_inside(settings, story)
    engine = open_store(settings.store_location, 1.0)
    key = keys.load_private_key(settings.paths.log_key).public_key()
    assert audit_store(engine, key, settings.paths.checkpoints).findings == []
    [outcome], [override] = rows(settings, sa.select(OUTCOMES)), rows(settings, sa.select(OVERRIDES))
    for altering, wanted in (
        (sa.update(OUTCOMES).values(outcome="repaid"), f"edited outcomes {outcome.id}"),
        (sa.update(OVERRIDES).values(limit=1_000_000.0), f"edited overrides {override.id}"),
        (sa.insert(OUTCOMES).values(dict(outcome._mapping) | {"id": "f" * 32}), f"added outcomes {'f' * 32}"),
        (sa.delete(OVERRIDES), f"deleted overrides {override.id}"),
    ):
        with engine.connect() as connection, connection.begin() as transaction:
            connection.execute(altering)
            found = [f"{one.kind} {one.location}" for one in Auditor(connection, key, None).run().findings]
            transaction.rollback()
        assert wanted in found, found
    engine.dispose()


@pytest.mark.parametrize("format", ["json", "ndjson", "csv"])
def test_a_statement_that_cannot_be_read_is_a_refusal_and_no_half_of_one(settings, format):
    async def story(client, gateway):
        with gateway.service.store.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE meter")
        answer = await client.get(f"/v1/statements/2026-11?format={format}")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/store_failed")

    run_inside(settings, story)


def test_checkpoints_that_the_store_did_not_take_before_a_crash_are_no_finding(settings, applicant):
    engine = open_store(settings.store_location, 1.0)
    told = {"kind": "government", "grantor": "County", "tenant": "east", "purpose": "credit_limit", "groups": ["tax"]}
    key = keys.load_private_key(settings.paths.log_key).public_key()
    place = settings.paths.log_key, settings.paths.checkpoints, settings.log.origin
    crashed = notary.CheckpointSigner(engine, *place)
    for stored in (True, False, False):
        granted(engine, **told)
        if not stored:
            crashed._store_pending = lambda nodes: None  # held by another
        crashed.checkpoint()
    assert audit_store(engine, key, settings.paths.checkpoints).findings == [], "two are owed, and none is lost"
    again = notary.CheckpointSigner(engine, *place)
    assert again.recover() is None
    granted(engine, **told)
    again.checkpoint()
    assert audit_store(engine, key, settings.paths.checkpoints).findings == []
    engine.dispose()


def test_a_certificate_tells_of_what_colleagues_wrote_to_each_other(settings, applicant):
    async def story(client, gateway):
        held = gateway.service.model_loader.deployed["credit_limit"]
        put_subject(gateway.service.store.engine, settings, held.table, "H-1", applicant)
        told = (await client.post(URL, json={"subject_id": "H-1"})).json()
        sent = {"to": "li.na", "note": "Please look at the debts"}
        said = await client.post(f"/v1/decisions/{told['decision_id']}/refer", json=sent)
        assert said.status_code == 200, said.text
        document = erasure.erase(gateway.service.store.engine, settings, "credit_limit", "H-1", "t")
        kept = {one["what"]: one["count"] for one in document["certificate"]["kept"]}
        assert kept["referrals"] == 1

    run_inside(settings, story)
