"""An answer about indicators that a caller stated is found by the caller's own reference, and erased."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from serving.__main__ import app
from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.authenticator import load_authenticator, open_log_store
from serving.core.db.schema import DECISIONS, ERASURES
from serving.core.security import keys
from serving.governance.lineage import erasure
from tests.serving.conftest import environment, rows, run_inside

URL = "/v1/credit-limits"
COMPANY_URL = "/v1/scitech-risks"


def decide(settings, *bodies):
    async def story(client, gateway):
        responses = [await client.post(url, json=body) for url, body in bodies]
        assert {response.status_code for response in responses} == {200}, [r.text for r in responses]
        return [response.json()["decision_id"] for response in responses]

    return run_inside(settings, story)


def read(settings, *decisions):
    async def story(client, gateway):
        return [(await client.get(f"/v1/decisions/{decision}")).json() for decision in decisions]

    return run_inside(settings, story)


def findings(settings, engine):
    key = keys.load_private_key(settings.paths.log_key).public_key()
    authenticator = load_authenticator(settings.paths.entry_key, settings.log.origin)
    report = audit_store(engine, key, settings.paths.checkpoints, authenticator)
    return [str(finding) for finding in report.findings]


@pytest.fixture
def engine(settings):
    engine = open_log_store(settings)
    yield engine
    engine.dispose()


def test_an_erased_reference_leaves_the_decision_and_nothing_that_it_rests_on(settings, engine, applicant):
    stated = {"indicators": applicant, "reference": "客户 330281-7"}
    first, second, other = decide(settings, (URL, stated), (URL, stated), (URL, {"indicators": applicant}))
    [before] = read(settings, first)
    assert before["reasons"]
    assert any("value" in reason for reason in before["reasons"])
    assert "330281" not in json.dumps([list(map(str, row)) for row in rows(settings, sa.select(DECISIONS))])

    document = erasure.erase_reference(engine, settings, "credit_limit", "local", "客户 330281-7", by="operator")
    certificate = document["certificate"]
    assert sorted(certificate["decisions"]) == sorted([first, second])
    assert certificate["proof"]["keys_searched_for" if engine.dialect.name == "sqlite" else "vacuumed"]
    after, _, untouched = read(settings, first, second, other)
    assert untouched["reasons"] == before["reasons"]
    assert after["erased"]
    assert {name: after[name] for name in ("decision", "limit", "grade", "model", "created")} == {
        name: before[name] for name in ("decision", "limit", "grade", "model", "created")
    }
    assert (after["reasons"], after["raises"], after["ledger"]) == ([], [], None)
    assert set(after) == {*before, "erased"}
    assert findings(settings, engine) == []
    assert erasure.erase_reference(engine, settings, "credit_limit", "local", "客户 330281-7", "again") == document


def test_answers_that_come_after_the_erasure_are_erased_with_a_certificate_of_their_own(settings, engine, applicant):
    body = {"indicators": applicant, "reference": "7"}
    [first] = decide(settings, (URL, body))
    erasure.erase_reference(engine, settings, "credit_limit", "local", "7", by="operator")
    [second] = decide(settings, (URL, body))
    document = erasure.erase_reference(engine, settings, "credit_limit", "local", "7", by="operator")
    assert sorted(document["certificate"]["decisions"]) == [first, second]
    assert len(rows(settings, sa.select(ERASURES))) == 2
    assert findings(settings, engine) == []


def test_the_same_reference_of_another_tenant_or_product_is_another_persons(settings, engine, applicant):
    decide(settings, (URL, {"indicators": applicant, "reference": "7"}))
    for product, tenant in (("scitech_risk", "local"), ("credit_limit", "bank_b")):
        with pytest.raises(erasure.NothingToEraseError, match="Check all three"):
            erasure.erase_reference(engine, settings, product, tenant, "7", by="operator")


def test_a_companys_answer_keeps_its_verdict_and_loses_its_evidence(settings, engine, company):
    [decision] = decide(settings, (COMPANY_URL, {"indicators": company, "reference": "C-1"}))
    [before] = read(settings, decision)
    erasure.erase_reference(engine, settings, "scitech_risk", "local", "C-1", by="operator")
    [after] = read(settings, decision)
    assert after["gate"] == {"verdict": before["gate"]["verdict"], "points": 0, "evidence": [], "unknown": []}
    assert (after["warnings"], after["missing"], after["reasons"]) == ([], [], [])


def test_a_reference_beside_a_stored_subject_or_one_without_text_is_refused(settings, applicant):
    async def story(client, gateway):
        stored = await client.post(URL, json={"subject_id": "H-1", "reference": "7"})
        empty = await client.post(URL, json={"indicators": applicant, "reference": ""})
        number = await client.post(URL, json={"indicators": applicant, "reference": 7})
        return [(answer.status_code, answer.json()["errors"][0]["field"]) for answer in (stored, empty, number)]

    assert run_inside(settings, story) == [(422, "reference")] * 3


def test_the_command_erases_a_reference_of_a_tenant(bundles, made, tmp_path, settings, applicant, monkeypatch):
    for name, value in environment(bundles, made, tmp_path).items():
        monkeypatch.setenv(name, value)
    [decision] = decide(settings, (URL, {"indicators": applicant, "reference": "7"}))
    runner, out = CliRunner(), tmp_path / "certificate.json"
    assert runner.invoke(app, ["erase", "--reference", "7", "--yes"]).exit_code == 2, "whose?"
    result = runner.invoke(app, ["erase", "--reference", "7", "--tenant", "local", "--yes", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert list(json.loads(out.read_text())["certificate"]["decisions"]) == [decision]
