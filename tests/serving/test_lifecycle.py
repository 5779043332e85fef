"""From a signed document to an erasure: a household's decision authorised, proved, traced, revoked, erased, audited."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from datasets.credit_limit.county import schema
from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.verify import ReceiptVerifier, VerificationError
from serving.core.db.engine import open_store
from serving.governance.lineage import erasure
from serving.privacy.subjects.indicators import columns_by_group
from tests.serving.conftest import bearer_of, put_subject, run_inside, settings_for

URL = "/v1/credit-limits"
HOUSEHOLD = "H-17"


@pytest.fixture
def settings(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true", YUHENG_CONSENT_REQUIRED="true")


def test_a_decision_is_authorised_proved_traced_revoked_and_erased_and_the_audit_finds_nothing_amiss(
    settings, applicant
):
    document = hashlib.sha256(b"a signed document").hexdigest()
    official = {"kind": "government", "grantor": "County", "tenant": "east", "purpose": "credit_limit"}
    official |= {
        "groups": [one for one in columns_by_group(schema.TABLE) if one not in schema.MORAL_GROUPS],
        "valid_to": "2999-01-01",
        "document_sha256": document,
    }
    engine = open_store(settings.store_location, 1.0)
    put_subject(engine, settings, schema.TABLE, HOUSEHOLD, applicant)
    kept = {}

    async def story(client, gateway):
        bank, operator = (bearer_of(settings, role, tenant="east") for role in ("bank", "operator"))
        asked = {"subject_id": HOUSEHOLD}
        refused = await client.post(URL, json=asked, headers=bank)
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/not_authorised")
        granted = await client.post("/v1/authorisations", json=official, headers=operator)
        assert granted.status_code == 201, granted.text
        grant = granted.json()["authorisation"]

        answer = await client.post(URL, json=asked, headers=bank)
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
        assert document in traced

        assert (await client.post(f"/v1/authorisations/{grant}/revoke", headers=operator)).status_code == 200
        again = await client.post(URL, json=asked, headers=bank)
        assert again.json()["type"] == "/problems/not_authorised"
        kept.update(receipt=receipt, answer=answer.content, key=key)

    run_inside(settings, story)
    made = erasure.erase(engine, settings, "credit_limit", HOUSEHOLD, "operator")
    assert made["certificate"]["key_shredded"]
    found = audit_store(engine, kept["key"], settings.paths.checkpoints)
    assert [str(one) for one in found.findings] == []
    ReceiptVerifier(kept["key"]).verify(kept["receipt"], kept["answer"])  # what was handed out stays provable
    engine.dispose()
