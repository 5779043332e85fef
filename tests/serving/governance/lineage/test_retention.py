"""What is older than its retention period is deleted by itself, and the audit knows why."""

from __future__ import annotations

import asyncio

import orjson
import pytest
import sqlalchemy as sa

from datasets.credit_limit.county import schema as county_schema
from serving.core.audit.authenticator import open_log_store
from serving.core.db.schema import DECISIONS, ERASURES, EVENTS, INDICATORS, SUBJECT_KEYS
from serving.core.identifiers import id_before, new_id, utc_now
from serving.governance.lineage.retention import DAY_SECONDS, Retention
from tests.serving.conftest import put_subject, rows, run_inside, settings_for
from tests.serving.governance.lineage.test_reference_erasure import findings

URL = "/v1/credit-limits"


@pytest.fixture
def settings(bundles, made, tmp_path):
    periods = {"YUHENG_RETENTION_ANSWERS_DAYS": "30", "YUHENG_RETENTION_INDICATORS_DAYS": "30"}
    return settings_for(bundles, made, tmp_path, **periods)


def in_days(monkeypatch, days: float) -> None:
    """Let the sweeps believe that so many days have passed."""
    from serving.governance.lineage import retention

    for name in ("id_before", "utc_before"):
        original = getattr(retention, name)
        monkeypatch.setattr(retention, name, lambda seconds, of=original: of(seconds - days * DAY_SECONDS))


@pytest.mark.parametrize("days", [29, 31])
def test_an_answer_loses_what_it_rests_on_after_its_period_and_not_before(settings, applicant, monkeypatch, days):
    in_days(monkeypatch, days)
    is_due = days > 30

    async def story(client, gateway):
        for i in range(3):
            sent = await client.post(URL, json={"indicators": applicant, "reference": str(i)})
            assert sent.status_code == 200
        await Retention(gateway.service.store, settings).sweep()
        gateway.service.store.checkpoint_signer.checkpoint()

    run_inside(settings, story)
    stored = rows(settings, sa.select(DECISIONS.c.answer, DECISIONS.c.salt))
    assert [orjson.loads(answer)["reasons"] == [] for answer, _ in stored] == [is_due] * 3
    assert [salt is None for _, salt in stored] == [is_due] * 3
    certificates = [orjson.loads(content) for (content,) in rows(settings, sa.select(ERASURES.c.certificate))]
    assert [len(certificate["decisions"]) for certificate in certificates] == ([3] if is_due else [])
    engine = open_log_store(settings)
    assert findings(settings, engine) == []
    engine.dispose()


def test_a_period_that_was_not_kept_is_what_the_audit_reports(settings, applicant, monkeypatch):
    """A reduced answer without a certificate is a changed one."""
    from serving.governance.lineage import erasure

    in_days(monkeypatch, 31)
    monkeypatch.setattr(erasure, "certify_retention", lambda *args: None)

    async def story(client, gateway):
        assert (await client.post(URL, json={"indicators": applicant})).status_code == 200
        await Retention(gateway.service.store, settings).sweep()

    run_inside(settings, story)
    engine = open_log_store(settings)
    assert any("no certificate" in finding for finding in findings(settings, engine))
    engine.dispose()


def test_stored_indicators_go_after_their_period_and_their_key_with_the_last_of_them(settings, applicant, monkeypatch):
    engine = open_log_store(settings)
    for subject, loaded in (("H-1", "2024-01-01T00:00:00.000Z"), ("H-2", utc_now())):
        put_subject(engine, settings, county_schema.TABLE, subject, applicant, loaded=loaded)
    engine.dispose()

    async def story(client, gateway):
        sweeping = asyncio.create_task(Retention(gateway.service.store, settings).watch())
        for _ in range(500):
            await asyncio.sleep(0.01)
            if len(rows(settings, sa.select(SUBJECT_KEYS))) == 1:
                break
        sweeping.cancel()
        return [(await client.post(URL, json={"subject_id": name})).status_code for name in ("H-1", "H-2")]

    assert run_inside(settings, story) == [404, 200]
    assert rows(settings, sa.select(EVENTS.c.what).where(EVENTS.c.kind == "retention"))
    assert all(row.loaded > "2024-01-02" for row in rows(settings, sa.select(INDICATORS)))


def test_ids_are_compared_with_a_time_as_their_times_are():
    assert id_before(60) < new_id() < id_before(-60)
