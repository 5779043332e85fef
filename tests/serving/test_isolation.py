"""What one part of the service keeps private, no other part reveals."""

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
from serving.core.audit.auditor.auditor import Auditor, audit_store
from serving.core.audit.authenticator import open_log_store
from serving.core.audit.checkpoints import CheckpointSigner
from serving.core.db.engine import to_store_error
from serving.core.db.reader import StoreReader
from serving.core.db.schema import DECISIONS, ERASURES, GRANTS, OUTCOMES, OVERRIDES
from serving.core.security import keys
from serving.decisions.records import answer_of
from serving.decisions.service import DecisionService
from serving.governance.lineage import erasure, trace
from serving.pathology.slides import store as slide_store
from serving.pathology.slides import upload_store
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


def create_grant(engine, **fields):
    """Store a grant and return its id."""
    with engine.begin() as connection:
        return grants.create(connection, {"subject": None} | ROW | fields, "operator-9")["authorisation"]


@pytest.fixture
def strict(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true", YUHENG_CONSENT_REQUIRED="true")


# --- trace


def test_a_trace_shows_only_the_id_of_another_tenants_authorisation(made, bundles, tmp_path, applicant):
    settings = settings_for(tmp_path / "bundles", made, tmp_path, YUHENG_ACCESS_REQUIRED="true")
    engine = open_log_store(settings, 1.0)
    patient = vault_of(settings).pseudonym("credit_limit", "H-5")
    theirs = create_grant(engine, kind="personal", grantor=patient, subject=patient, tenant="west", purpose="training",
                     groups=["tax"])  # fmt: skip
    data = DatasetInfo(name="county", rows=3_000, sha256="d" * 64, authorisations=(theirs,))
    Made(made.private, made.public, made.graph, made.card.model_copy(update={"data": (data,)})).publish(
        tmp_path / "bundles", "1"
    )

    async def story(client, gateway):
        bank = bearer_of(settings, "bank", tenant="east")
        answer = await client.post(URL, json={"indicators": applicant}, headers=bank)
        response = await client.get(f"/v1/decisions/{answer.json()['decision_id']}/trace", headers=bank)
        assert theirs in response.text, "the trace must be complete"
        links = response.json()["missing_links"]
        assert links == [] or theirs not in json.dumps(links)
        for secret in (patient, "west", "operator-9"):
            assert secret not in response.text

    run_inside(settings, story)
    engine.dispose()


# --- consent


def test_a_companys_history_needs_a_valid_grant(strict, company):
    engine = open_log_store(strict, 1.0)
    put_subject(engine, strict, register_schema.TABLE, "C1", company)
    groups = sorted(columns_by_group(register_schema.TABLE))
    fields = {"kind": "government", "grantor": "Zone", "tenant": "east", "purpose": "scitech_risk"}
    grant = create_grant(engine, **fields, groups=groups)

    async def story(client, gateway):
        east, west = (bearer_of(strict, "bank", tenant=name) for name in ("east", "west"))
        assert (await client.get("/v1/companies/C1/history", headers=east)).status_code == 200
        for company_id in ("C1", "nobody"):  # the refusal does not reveal which companies exist
            refused = await client.get(f"/v1/companies/{company_id}/history", headers=west)
            assert (refused.status_code, refused.json()["type"]) == (403, "/problems/not_authorised")
        with engine.begin() as connection:
            grants.revoke(connection, grant)
        again = await client.get("/v1/companies/C1/history", headers=east)
        assert again.json()["type"] == "/problems/not_authorised"

    run_inside(strict, story)
    engine.dispose()


def test_a_refusal_does_not_reveal_a_stored_value_that_does_not_fit_the_model(settings, applicant):
    engine = open_log_store(settings, 1.0)
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
    engine = open_log_store(strict, 1.0)
    fields = {"kind": "personal", "grantor": "p", "subject": "p", "purpose": "pathology", "groups": ["slide"]}
    theirs = create_grant(engine, tenant="west", **fields)
    with engine.connect() as connection:
        assert rules.allows(connection, rules.load_rules(), theirs, "pathology", "slide", "west")
        assert not rules.allows(connection, rules.load_rules(), theirs, "pathology", "slide", "east")
    engine.dispose()


# --- what the files of the store reveal


def test_the_digest_of_a_request_cannot_be_used_to_test_ids(settings, applicant):
    engine = open_log_store(settings, 1.0)
    put_subject(engine, settings, county_schema.TABLE, "H-1", applicant)
    body = b'{"subject_id":"H-1"}'

    async def story(client, gateway):
        request = {"content": body, "headers": {"content-type": "application/json", "idempotency-key": "k"}}
        first, second = await client.post(URL, **request), await client.post(URL, **request)
        assert first.content == second.content
        assert second.headers["idempotent-replayed"] == "true"
        other = await client.post(URL, **request | {"content": body + b" "})
        assert other.json()["type"] == "/problems/key_reused"

    run_inside(settings, story)
    [row] = rows(settings, sa.select(DECISIONS.c.request_sha256, DECISIONS.c.salt))
    assert row.request_sha256 != hashlib.sha256(body).hexdigest()
    engine.dispose()


def test_an_error_of_the_store_does_not_contain_the_written_values(settings):
    engine = open_log_store(settings, 1.0)
    with pytest.raises(sa.exc.SQLAlchemyError) as error, engine.begin() as connection:
        connection.execute(sa.insert(GRANTS).values(id="a", grantor="a secret of somebody"))
    assert "a secret" not in str(to_store_error(error.value)), "the caller sees this message"
    if engine.dialect.name == "sqlite":  # PostgreSQL's own message contains the row
        assert "a secret" not in str(error.value)
    engine.dispose()


def test_an_altered_or_deleted_erasure_is_a_finding(settings, applicant):
    """The row keeps the subject out of further training."""
    engine = open_log_store(settings, 1.0)
    put_subject(engine, settings, county_schema.TABLE, "H-1", applicant)
    erasure.erase(engine, settings, "credit_limit", "H-1", "operator")
    key = load_pem_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
    assert audit_store(engine, key, None).findings == []
    for statement, kind in (
        (sa.update(ERASURES).values(pseudonym="0" * 64), "edited"),
        (sa.delete(ERASURES), "deleted"),
    ):
        with engine.begin() as connection:
            connection.execute(statement)
        [finding] = audit_store(engine, key, None).findings
        assert (finding.kind, finding.location.split()[0]) == (kind, "erasures")
    engine.dispose()


# --- the store


def test_a_reader_leaves_no_transaction_open_between_queries(settings, applicant):
    """PostgreSQL terminates idle transactions, and the next query would fail."""
    engine = open_log_store(settings, 1.0)
    reader = StoreReader(engine)
    assert answer_of(reader, "local", "0" * 32) is None
    if engine.dialect.name == "postgresql":
        count = sa.text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        )
        assert rows(settings, count)[0][0] == 0
    engine.dispose()


def test_a_slow_query_blocks_no_other_request(bundles, made, tmp_path, applicant):
    settings = settings_for(bundles, made, tmp_path, YUHENG_STORE_LOCK_TIMEOUT_SECONDS="2")

    async def story(client, gateway):
        answer = await client.post(URL, json={"indicators": applicant})
        decision, engine = answer.json()["decision_id"], open_log_store(settings, 1.0)
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql("LOCK TABLE decisions, batches IN ACCESS EXCLUSIVE MODE")
            request = {"json": {"indicators": applicant}, "headers": {"idempotency-key": "k"}}
            waiting = [
                asyncio.ensure_future(client.get(f"/v1/decisions/{decision}")),
                asyncio.ensure_future(client.get(f"/v1/batches/{decision}")),
                asyncio.ensure_future(client.post(URL, **request)),
                asyncio.ensure_future(client.post(f"{URL}/batch", content=b"declared_income\n5\n", headers={
                    "content-type": "text/csv", "idempotency-key": "k"})),
            ]  # fmt: skip
            slowest = 0.0
            for _ in range(10):
                began = time.perf_counter()
                await asyncio.sleep(0.01)
                assert (await client.get("/healthz/live")).status_code == 200
                slowest = max(slowest, time.perf_counter() - began)
        assert slowest < 1.5  # less than the lock timeout of 2 seconds
        await asyncio.gather(*waiting)
        engine.dispose()

    run_inside(settings, story)


# --- logs


def test_the_log_of_a_failure_names_no_subject(settings, caplog, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr(trace, "trace_subject", fail)

    async def story(client, gateway):
        assert (await client.get("/v1/subjects/H-SECRET-17/trace")).status_code == 500

    run_inside(settings, story)
    assert "broken" in caplog.text
    assert "H-SECRET-17" not in caplog.text


# --- erasure


def test_no_answer_is_recorded_about_a_subject_erased_meanwhile(settings, applicant, monkeypatch):
    engine = open_log_store(settings, 1.0)
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


def test_two_clinics_with_the_same_slide_get_their_own_certificates(settings):
    engine = open_log_store(settings, 1.0)
    for slide, tenant in (("5" * 32, "east"), ("6" * 32, "west")):
        slide_store.create(engine, slide, "uploading", sha256="f" * 64, tenant=tenant)
        upload_store.create_upload(engine, slide, slide, 0, None, {"reference": "a.svs"} if tenant == "west" else {})
        slide_store.transition(engine, slide, "cancelled")
        folder = settings.paths.slides / slide / "slide"
        folder.mkdir(parents=True)
        (folder / "a.svs").write_bytes(b"x")
    first, second = (erasure.erase_slide(engine, settings, slide * 32, "operator") for slide in "56")
    assert erasure.erase_slide(engine, settings, "5" * 32, "operator") == first
    retained = [[item["what"] for item in document["certificate"]["kept"]] for document in (first, second)]
    assert ["original in the inbox" in items for items in retained] == [False, True]
    engine.dispose()


def test_an_altered_added_or_deleted_authorisation_is_a_finding(settings):
    engine = open_log_store(settings, 1.0)
    fields = {"kind": "government", "grantor": "County", "tenant": "east", "purpose": "credit_limit", "groups": ["tax"]}
    grant, other = create_grant(engine, **fields), create_grant(engine, **fields)
    with engine.begin() as connection:
        grants.revoke(connection, grant)
        grants.revoke(connection, grant)
    key = keys.load_private_key(settings.paths.log_key).public_key()
    assert audit_store(engine, key, None).findings == []
    is_grant, row = GRANTS.c.id == grant, {**fields, **ROW, "created": "2026", "by": "b"}
    for statement, expected in (
        (sa.update(GRANTS).where(is_grant).values(revoked_at=None), f"edited grants {grant}"),
        (sa.update(GRANTS).where(is_grant).values(valid_from="2020-01-01T00:00:00.000Z"), f"edited grants {grant}"),
        (sa.update(GRANTS).where(is_grant).values(groups=["tax", "audit"]), f"edited grants {grant}"),
        (sa.update(GRANTS).where(GRANTS.c.id == other).values(revoked_at="2026"), f"added revocations {other}"),
        (sa.insert(GRANTS).values(row | {"id": "f" * 32}), f"added grants {'f' * 32}"),
        (sa.delete(GRANTS).where(is_grant), f"deleted grants {grant}"),
    ):
        with engine.connect() as connection, connection.begin() as transaction:
            connection.execute(statement)
            findings = [f"{item.kind} {item.location}" for item in Auditor(connection, key, None).run().findings]
            transaction.rollback()
        assert expected in findings, findings
    engine.dispose()


def test_an_altered_added_or_deleted_outcome_or_override_is_a_finding(settings, applicant):
    async def story(client, gateway):
        decision = (await client.post(URL, json={"indicators": applicant})).json()["decision_id"]
        outcome = {"decision_id": decision, "outcome": "defaulted", "at": "2026-11-01", "source": "core banking"}
        assert (await client.post("/v1/outcomes", json=outcome)).status_code == 200
        override = {"decision": "approve", "limit": 250_000, "reason": "the harvest was good"}
        assert (await client.post(f"/v1/decisions/{decision}/override", json=override)).status_code == 200

    run_inside(settings, story)
    engine = open_log_store(settings, 1.0)
    key = keys.load_private_key(settings.paths.log_key).public_key()
    assert audit_store(engine, key, settings.paths.checkpoints).findings == []
    [outcome], [override] = rows(settings, sa.select(OUTCOMES)), rows(settings, sa.select(OVERRIDES))
    for statement, expected in (
        (sa.update(OUTCOMES).values(outcome="repaid"), f"edited outcomes {outcome.id}"),
        (sa.update(OVERRIDES).values(limit=1_000_000.0), f"edited overrides {override.id}"),
        (sa.insert(OUTCOMES).values(dict(outcome._mapping) | {"id": "f" * 32}), f"added outcomes {'f' * 32}"),
        (sa.delete(OVERRIDES), f"deleted overrides {override.id}"),
    ):
        with engine.connect() as connection, connection.begin() as transaction:
            connection.execute(statement)
            findings = [f"{item.kind} {item.location}" for item in Auditor(connection, key, None).run().findings]
            transaction.rollback()
        assert expected in findings, findings
    engine.dispose()


@pytest.mark.parametrize("format", ["json", "ndjson", "csv"])
def test_a_statement_that_cannot_be_read_is_an_error_and_not_partial(settings, format):
    async def story(client, gateway):
        with gateway.service.store.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE meter")
        answer = await client.get(f"/v1/statements/2026-11?format={format}")
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/store_failed")

    run_inside(settings, story)


def test_checkpoints_that_a_crash_kept_out_of_the_store_are_no_finding(settings, applicant):
    engine = open_log_store(settings, 1.0)
    fields = {"kind": "government", "grantor": "County", "tenant": "east", "purpose": "credit_limit", "groups": ["tax"]}
    key = keys.load_private_key(settings.paths.log_key).public_key()
    options = settings.paths.log_key, settings.paths.checkpoints, settings.log.origin
    crashed = CheckpointSigner(engine, *options)
    for stored in (True, False, False):
        create_grant(engine, **fields)
        if not stored:
            crashed._store_pending = lambda nodes: None  # the store is locked
        crashed.checkpoint()
    assert audit_store(engine, key, settings.paths.checkpoints).findings == [], "two wait for the store, none is lost"
    again = CheckpointSigner(engine, *options)
    assert again.recover() is None
    create_grant(engine, **fields)
    again.checkpoint()
    assert audit_store(engine, key, settings.paths.checkpoints).findings == []
    engine.dispose()


def test_a_certificate_lists_the_referrals_that_are_retained(settings, applicant):
    async def story(client, gateway):
        model = gateway.service.model_loader.deployed["credit_limit"]
        put_subject(gateway.service.store.engine, settings, model.table, "H-1", applicant)
        decision = (await client.post(URL, json={"subject_id": "H-1"})).json()
        referral = {"to": "li.na", "note": "Please look at the debts"}
        response = await client.post(f"/v1/decisions/{decision['decision_id']}/refer", json=referral)
        assert response.status_code == 200, response.text
        document = erasure.erase(gateway.service.store.engine, settings, "credit_limit", "H-1", "t")
        retained = {item["what"]: item["count"] for item in document["certificate"]["kept"]}
        assert retained["referrals"] == 1

    run_inside(settings, story)
