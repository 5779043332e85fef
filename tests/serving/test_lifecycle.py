"""A household's decision from the signed authorisation to the erasure, with receipt, trace, revocation and audit."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from datasets.credit_limit.county import schema
from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.authenticator import open_log_store
from serving.core.audit.verify import ReceiptVerifier, VerificationError
from serving.governance.lineage import erasure
from serving.privacy.subjects.indicators import columns_by_group
from tests.serving.conftest import bearer_of, put_subject, run_inside, settings_for

URL = "/v1/credit-limits"
HOUSEHOLD = "H-17"


@pytest.fixture
def settings(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true", YUHENG_CONSENT_REQUIRED="true")


def test_a_decision_is_authorised_proved_traced_revoked_erased_and_audited(settings, applicant):
    document_sha256 = hashlib.sha256(b"a signed document").hexdigest()
    official = {"kind": "government", "grantor": "County", "tenant": "east", "purpose": "credit_limit"}
    official |= {
        "groups": [group for group in columns_by_group(schema.TABLE) if group not in schema.MORAL_GROUPS],
        "valid_to": "2999-01-01",
        "document_sha256": document_sha256,
    }
    engine = open_log_store(settings, 1.0)
    put_subject(engine, settings, schema.TABLE, HOUSEHOLD, applicant)
    evidence = {}

    async def story(client, gateway):
        bank, operator = (bearer_of(settings, role, tenant="east") for role in ("bank", "operator"))
        body = {"subject_id": HOUSEHOLD}
        refused = await client.post(URL, json=body, headers=bank)
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/not_authorised")
        granted = await client.post("/v1/authorisations", json=official, headers=operator)
        assert granted.status_code == 201, granted.text
        grant = granted.json()["authorisation"]

        answer = await client.post(URL, json=body, headers=bank)
        assert answer.json()["authorisations"] == [grant]
        decision = answer.json()["decision_id"]
        receipt = (await client.get(f"/v1/decisions/{decision}/receipt", headers=bank)).json()
        key = load_pem_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
        ReceiptVerifier(key).verify(receipt, answer.content)
        with pytest.raises(VerificationError):
            ReceiptVerifier(key).verify(
                receipt, answer.content.replace(b"refer", b"Refer").replace(b"approve", b"Approve")
            )
        traced = (await client.get(f"/v1/decisions/{decision}/trace", headers=bank)).text
        assert grant in traced
        assert document_sha256 in traced

        assert (await client.post(f"/v1/authorisations/{grant}/revoke", headers=operator)).status_code == 200
        again = await client.post(URL, json=body, headers=bank)
        assert again.json()["type"] == "/problems/not_authorised"
        evidence.update(receipt=receipt, answer=answer.content, key=key)

    run_inside(settings, story)
    document = erasure.erase(engine, settings, "credit_limit", HOUSEHOLD, "operator")
    assert document["certificate"]["key_shredded"]
    report = audit_store(engine, evidence["key"], settings.paths.checkpoints)
    assert [str(finding) for finding in report.findings] == []
    ReceiptVerifier(evidence["key"]).verify(evidence["receipt"], evidence["answer"])  # an earlier receipt stays valid
    engine.dispose()
