"""Stored indicators are only read under valid grants, by group, purpose, tenant and subject."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from serving.__main__ import app
from serving.core.audit.authenticator import EntryAuthenticator, attach, open_log_store
from serving.core.db.engine import open_store
from serving.core.db.schema import DECISIONS, GRANTS
from serving.core.identifiers import utc_now
from serving.privacy.consent import grants
from serving.privacy.consent import rules as consent
from serving.privacy.subjects.indicators import columns_by_group
from serving.privacy.subjects.ingestion import load_contract, load_subjects
from tests.serving.conftest import ROOT, bearer_of, rows, run_inside, settings_for, vault_of

URL = "/v1/credit-limits"
RULES = consent.load_rules()
CONDUCT = {"self_assessment", "village_appraisal"}
OFFICIAL = sorted(set(RULES.needs["credit_limit"]) - CONDUCT)
DOCUMENT = hashlib.sha256(b"signed").hexdigest()
COMMON = {"tenant": "local", "purpose": "credit_limit", "valid_to": "2999-12-31", "document_sha256": DOCUMENT}
GOVERNMENT = COMMON | {"kind": "government", "grantor": "County", "groups": OFFICIAL}


def personal(subject, *groups):
    return COMMON | {"kind": "personal", "subject_id": subject, "groups": list(groups or sorted(CONDUCT))}


@pytest.fixture
def strict(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path, YUHENG_CONSENT_REQUIRED="true")


@pytest.fixture
def loaded(strict, people, tmp_path):
    names = [c.name for c in load_contract("county").columns if c.role not in ("target", "leak")]
    file = tmp_path / "simulated.csv"
    people.head(50).select(names).write_csv(file)
    load_subjects(file, load_contract("county"), strict.store_location, 1.0, vault_of(strict))
    return strict


async def enter(client, **body):
    """Enter a grant and return its id."""
    answer = await client.post("/v1/authorisations", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["authorisation"]


async def ask(client, subject):
    """Request a decision about a stored subject."""
    return await client.post(URL, json={"subject_id": subject})


def test_without_a_grant_the_refusal_names_the_groups_and_the_kinds_of_grants(loaded, people):
    async def story(client, gateway):
        for subject in (people["household_id"][7], "nobody"):  # the refusal does not reveal which households exist
            answer = await ask(client, subject)
            problem = answer.json()
            assert (answer.status_code, problem["type"]) == (403, "/problems/not_authorised")
            assert "tax" in problem["detail"]
            assert "self_assessment" not in problem["detail"]
            assert "政府授权" in problem["detail_zh"]
        await enter(client, **GOVERNMENT | {"groups": [group for group in OFFICIAL if group != "tax"]})
        problem = (await ask(client, people["household_id"][7])).json()
        assert "opens: tax. Nothing" in problem["detail"]

    run_inside(loaded, story)
    assert rows(loaded, sa.select(DECISIONS.c.id)) == []


def test_an_answer_names_the_grants_that_it_used(loaded, people, applicant):
    subject = people["household_id"][7]

    async def story(client, gateway):
        official = await enter(client, **GOVERNMENT)
        own = await enter(client, **personal(subject))
        await enter(client, **personal(people["household_id"][8]))  # another subject's
        await enter(client, **GOVERNMENT | {"tenant": "other"})
        answer = (await ask(client, subject)).json()
        assert set(answer["authorisations"]) == {official, own}
        assert (answer["indicators_from"], answer["remarks"]) == ("store", [])
        inline = (await client.post(URL, json={"indicators": applicant})).json()
        assert (inline["indicators_from"], inline["authorisations"]) == ("caller", [])

    run_inside(loaded, story)


def test_without_a_personal_grant_conduct_is_withheld_and_nothing_is_refused(loaded, people):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        lifted = False
        for subject in people["household_id"][:12]:
            without = (await ask(client, subject)).json()
            assert without["ledger"]["conduct"]["multiplier"] == 1
            [remark] = without["remarks"]
            assert remark["code"] == "conduct_not_authorised"
            assert set(remark["groups"]) == CONDUCT
            await enter(client, **personal(subject))
            granted = (await ask(client, subject)).json()
            assert granted["remarks"] == []
            assert granted["decision"] == without["decision"]
            assert granted["pd"] == without["pd"]
            assert granted["indicative_limit"] >= without["indicative_limit"]
            lifted = lifted or granted["ledger"]["conduct"]["multiplier"] > 1
        assert lifted

    run_inside(loaded, story)


def test_a_revocation_refuses_the_next_request_in_every_process(loaded, people, monkeypatch):
    subject = people["household_id"][7]
    for name, value in (
        ("STORE", loaded.paths.store),
        ("STORE_URL", loaded.store.url),
        ("VAULT_KEY", loaded.paths.vault_key),
    ):
        monkeypatch.setenv(f"YUHENG_{name}", str(value))

    async def story(client, gateway):
        grant = await enter(client, **GOVERNMENT)
        assert (await ask(client, subject)).status_code == 200
        revoked = await client.post(f"/v1/authorisations/{grant}/revoke")
        assert revoked.json()["revoked_at"] <= utc_now()
        assert (await ask(client, subject)).status_code == 403
        again = await client.post(f"/v1/authorisations/{grant}/revoke")
        assert again.json() == revoked.json()
        grant = await enter(client, **GOVERNMENT)
        assert (await ask(client, subject)).status_code == 200
        command = [sys.executable, "-m", "serving", "grant", "revoke", grant]
        assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
        began = time.monotonic()
        assert (await ask(client, subject)).status_code == 403
        assert time.monotonic() - began < 5
        listed = (await client.get("/v1/authorisations")).json()["authorisations"]
        assert [grant["revoked_at"] is not None for grant in listed] == [True, True]

    run_inside(loaded, story)


def test_a_grant_revoked_between_read_and_record_leaves_no_answer(loaded, people, monkeypatch):
    from serving.decisions import service

    subject = people["household_id"][7]
    build_record = service.build_record

    async def story(client, gateway):
        grant = await enter(client, **GOVERNMENT)

        def revoke_and_build(*args):
            engine = open_log_store(loaded, 1.0)
            with engine.begin() as connection:
                grants.revoke(connection, grant)
            engine.dispose()
            return build_record(*args)

        monkeypatch.setattr(service, "build_record", revoke_and_build)
        problems = []
        for headers in ({}, {"Idempotency-Key": "k"}):
            answer = await client.post(URL, json={"subject_id": subject}, headers=headers)
            assert answer.status_code == 403
            problems.append(answer.json()["type"])
        assert problems == ["/problems/authorisation_ended", "/problems/not_authorised"]

    run_inside(loaded, story)
    assert rows(loaded, sa.select(DECISIONS.c.id)) == []


def test_an_answer_about_a_stored_subject_reveals_no_values(loaded, people):
    async def story(client, gateway):
        await enter(client, **GOVERNMENT)
        for row in range(12):
            answer = (await ask(client, people["household_id"][row])).json()
            assert all("value" not in reason for reason in answer["reasons"])
            assert all(
                "from" not in change and "to" not in change and "→" not in change["en"] + change["zh"]
                for change in answer["raises"]
            )
            for name in ("declared_income", "contribution_base", "deposits", "housing"):
                value = people[name][row]
                reasons = orjson.dumps(answer["reasons"]).decode()
                assert value is None or value < 1_000 or f"{value:,.0f}" not in reasons

    run_inside(loaded, story)


TIMES = ["2024-01-01T00:00:00.000Z", "2025-01-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z"]
GRANT = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(consent.GRANT_KINDS),
        "tenant": st.sampled_from(["a", "b"]),
        "purpose": st.sampled_from(["credit_limit", "training"]),
        "subject": st.sampled_from([None, "s", "t"]),
        "groups": st.sets(st.sampled_from(["tax", "audit", "self_assessment"]), min_size=1).map(sorted),
        "valid_from": st.sampled_from(TIMES[:3]),
        "valid_to": st.sampled_from(TIMES[1:]),
        "revoked_at": st.sampled_from([None, *TIMES]),
    }
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = open_store(tmp_path_factory.mktemp("grants") / "store.db", 1.0)
    attach(engine, EntryAuthenticator(b"k" * 32, "test"))
    return engine


@given(entered=st.lists(GRANT, max_size=5), timestamp=st.sampled_from(TIMES), tenant=st.sampled_from(["a", "b"]),
       purpose=st.sampled_from(["credit_limit", "training"]), subject=st.sampled_from(["s", "t"]))  # fmt: skip
def test_a_grant_allows_exactly_its_groups_purpose_time_tenant_and_subject(
    engine, entered, timestamp, tenant, purpose, subject
):
    common = {"grantor": "g", "document_sha256": DOCUMENT, "created": TIMES[0], "by": "b"}
    with engine.begin() as connection:
        connection.execute(sa.delete(GRANTS))
        for number, grant in enumerate(entered):
            connection.execute(sa.insert(GRANTS), [grant | common | {"id": f"{number:032x}"}])
        active = consent.active_grants(connection, tenant, purpose, subject, timestamp)
    decision = consent.evaluate_consent(RULES, "credit_limit", ["tax", "audit", "self_assessment"], active)

    def allows(grant, group, kind):
        return (
            (grant["tenant"], grant["purpose"], grant["kind"]) == (tenant, purpose, kind)
            and grant["subject"] in (None, subject)
            and group in grant["groups"]
            and grant["valid_from"] <= timestamp < grant["valid_to"]
            and grant["revoked_at"] is None
        )

    for group in ("tax", "audit", "self_assessment"):
        kinds = RULES.needs["credit_limit"][group]
        expected = all(any(allows(grant, group, kind) for grant in entered) for kind in kinds)
        assert (group in decision.allowed_groups) == expected
    assert set(decision.missing) == {"tax", "audit"} - set(decision.allowed_groups)
    assert set(decision.withheld) == {"self_assessment"} - set(decision.allowed_groups)
    assert {grant.id for grant in active} >= set(decision.grants)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"kind": "government", "subject": None}, False),
        ({"groups": ["other"]}, False),
        ({"purpose": "training"}, False),
        ({"tenant": "b"}, False),
        ({"revoked_at": "2998-01-01T00:00:00.000Z"}, False),
        ({"valid_to": TIMES[0]}, False),
    ],
    ids=str,
)
def test_a_slide_is_read_under_a_grant_of_the_kind_that_the_rules_ask_for_and_under_no_revoked_one(
    engine, changes, expected
):
    """A government's grant stood for a personal one; a revocation dated by a clock that is ahead did not hold yet."""
    grant = {"id": "0" * 32, "kind": "personal", "tenant": "a", "purpose": "pathology", "subject": "s"}
    grant |= {"groups": ["slide"], "valid_from": TIMES[0], "valid_to": "2999", "revoked_at": None}
    grant |= {"grantor": "g", "document_sha256": DOCUMENT, "created": TIMES[0], "by": "b"}
    with engine.begin() as connection:
        connection.execute(sa.delete(GRANTS))
        connection.execute(sa.insert(GRANTS), [grant | changes])
        assert consent.allows(connection, RULES, "0" * 32, "pathology", "slide", "a") == expected


def test_the_rules_cover_every_group_of_the_table_schemas():
    for product, name in (("credit_limit", "county"), ("scitech_risk", "register")):
        assert set(columns_by_group(load_contract(name))) <= set(RULES.needs[product])


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"groups": ["taxes"]}, "groups", "tax"),
        ({"groups": []}, "groups", "a non-empty list from"),
        ({"purpose": "gossip"}, "purpose", "credit_limit"),
        ({"kind": "own"}, "kind", "government"),
        ({"valid_to": "soon"}, "valid_to", "2026-12-31"),
        ({"valid_to": "1999-01-01"}, "valid_to", "after valid_from"),
        ({"document_sha256": "abc"}, "document_sha256", "64 hex digits"),
        ({"kind": "personal"}, "subject_id", "person who grants it"),
        ({"grantor": None}, "grantor", "authority"),
        ({"tenants": "x"}, "tenants", "did you mean 'tenant'"),
    ],
)
def test_an_invalid_grant_is_refused_with_every_fault(inside, change, field, expected):
    async def story(client, gateway):
        answer = await client.post("/v1/authorisations", json=GOVERNMENT | change)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid_request"), answer.text
        assert any(error["field"] == field and expected in error["needed"] for error in answer.json()["errors"]), (
            answer.text
        )
        assert (await client.post("/v1/authorisations/nobody/revoke")).status_code == 404

    inside(story)


def test_a_tenant_sees_only_its_own_grants_and_cannot_enter_or_revoke_any(strict):
    async def story(client, gateway):
        theirs = await enter(client, **GOVERNMENT | {"tenant": "other"})
        ours = await enter(client, **GOVERNMENT)
        bank = bearer_of(gateway.settings, "bank", tenant="local")
        listed = (await client.get("/v1/authorisations", headers=bank)).json()["authorisations"]
        assert [grant["authorisation"] for grant in listed] == [ours]
        for grant in (theirs, ours):
            assert (await client.post(f"/v1/authorisations/{grant}/revoke", headers=bank)).status_code == 403
        assert (await client.post("/v1/authorisations", json=GOVERNMENT, headers=bank)).status_code == 403

    run_inside(strict, story)


def test_the_commands_enter_list_and_revoke_grants(strict, tmp_path, monkeypatch):
    for name, value in (
        ("STORE", strict.paths.store),
        ("STORE_URL", strict.store.url),
        ("VAULT_KEY", strict.paths.vault_key),
    ):
        monkeypatch.setenv(f"YUHENG_{name}", str(value))
    (tmp_path / "signed.pdf").write_bytes(b"signed")
    command = ["grant", "create", "--tenant", "demo", "--purpose", "credit_limit", "--to", "2027-12-31"]
    command += ["--document", str(tmp_path / "signed.pdf")]
    result = CliRunner().invoke(
        app, [*command, "--kind", "personal", "--subject", "H-9", "--groups", "village_appraisal"]
    )
    assert result.exit_code == 0, result.output
    grant = orjson.loads(result.output)
    assert grant["document_sha256"] == DOCUMENT
    assert grant["valid_to"] == "2028-01-01T00:00:00.000Z"
    assert "H-9" not in result.output
    assert grant["grantor"] == grant["subject"] == vault_of(strict).pseudonym("credit_limit", "H-9")
    result = CliRunner().invoke(app, [*command, "--kind", "government", "--groups", "taxes"])
    assert result.exit_code == 1
    assert "grantor is absent" in result.output
    assert "groups is ['taxes']" in result.output
    result = CliRunner().invoke(app, ["grant", "revoke", grant["authorisation"]])
    assert orjson.loads(result.output)["revoked_at"]
    result = CliRunner().invoke(app, ["grant", "list"])
    assert orjson.loads(result.output)["authorisation"] == grant["authorisation"]
    assert CliRunner().invoke(app, ["grant", "revoke", "nothing"]).exit_code == 1
