"""The uses of an authorisation, page by page: only the tenant's auditor and operators see them."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from serving.core.audit import log
from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.verify import load_public_key
from serving.core.billing.prices import Prices
from serving.core.db.engine import create_engine
from serving.core.db.schema import GRANT_USES, PROVENANCE
from serving.pathology.slides import store as slide_store
from serving.privacy.consent import usage
from serving.privacy.subjects.ingestion import load_contract, load_subjects
from tests.serving.conftest import bearer_of, run_inside, settings_for, vault_of
from tests.serving.core.audit.auditor.test_auditor import READING, STATES
from tests.serving.privacy.consent.test_rules import GOVERNMENT, ask, enter, personal


@pytest.fixture
def loaded(bundles, made, people, tmp_path):
    strict = settings_for(bundles, made, tmp_path, YUHENG_CONSENT_REQUIRED="true")
    names = [c.name for c in load_contract("county").columns if c.role not in ("target", "leak")]
    people.head(20).select(names).write_csv(tmp_path / "simulated.csv")
    load_subjects(tmp_path / "simulated.csv", load_contract("county"), strict.store_location, 1.0, vault_of(strict))
    return strict


def record_uses(settings, people, story=None):
    """(id of a grant for all, id of one household's own, ids of the decisions, result of `story`)."""
    subject, other = people["household_id"][7], people["household_id"][8]

    async def run(client, gateway):
        official, own = await enter(client, **GOVERNMENT), await enter(client, **personal(subject))
        decisions = [(await ask(client, name)).json()["decision_id"] for name in (subject, subject, other)]
        return official, own, decisions, None if story is None else await story(client, gateway, official, own)

    return run_inside(settings, run)


def test_every_answer_under_an_authorisation_is_a_use_newest_first(loaded, people):
    async def story(client, gateway, official, own):
        return [(await client.get(f"/v1/authorisations/{grant}/uses")).json() for grant in (official, own)]

    _, own, decisions, (of_all, of_one) = record_uses(loaded, people, story)
    assert [use["decision"] for use in of_all["uses"]] == decisions[::-1]
    assert [use["decision"] for use in of_one["uses"]] == decisions[1::-1]
    assert (of_one["authorisation"], of_one["used"], of_one["next"]) == (own, 2, None)
    assert {(use["kind"], use["product"], use["model"], use["version"]) for use in of_all["uses"]} == {
        ("decision", "credit_limit", "credit_limit", "1")
    }
    assert of_all["models"] == []
    assert people["household_id"][7] not in json.dumps([of_all, of_one])


def test_pages_have_no_gap_and_no_overlap(loaded, people):
    async def story(client, gateway, official, own):
        reader, listed, before = gateway.service.store.reader, [], None
        while True:
            page = reader.run(lambda connection, end=before: usage.usage_page(connection, official, None, end, 2))
            listed += [use["decision"] for use in page["uses"]]
            if (before := page["next"]) is None:
                return listed

    _, _, decisions, listed = record_uses(loaded, people, story)
    assert listed == decisions[::-1]


def test_another_tenants_authorisation_looks_as_if_it_did_not_exist(bundles, made, people, tmp_path):
    settings = settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true")

    async def story(client, gateway):
        def bearer(role, tenant):
            return bearer_of(settings, role, tenant=tenant)

        entered = await client.post("/v1/authorisations", json=GOVERNMENT, headers=bearer("operator", "house"))
        address = f"/v1/authorisations/{entered.json()['authorisation']}/uses"
        statuses = {
            (role, tenant): (await client.get(address, headers=bearer(role, tenant))).status_code
            for role, tenant in (("auditor", "local"), ("operator", "house"), ("auditor", "other"), ("bank", "local"))
        }
        missing = await client.get(f"/v1/authorisations/{'0' * 32}/uses", headers=bearer("auditor", "other"))
        invalid = await client.get(f"{address}?before=-1", headers=bearer("auditor", "local"))
        return statuses, missing.json()["type"], invalid.status_code

    statuses, missing, invalid = run_inside(settings, story)
    assert statuses == {
        ("auditor", "local"): 200, ("operator", "house"): 200, ("auditor", "other"): 404, ("bank", "local"): 403,
    }  # fmt: skip
    assert (missing, invalid) == ("/problems/unknown_authorisation", 422)


def test_a_slides_reading_is_a_use_of_its_patients_authorisation(settings):
    async def story(client, gateway):
        grant = await enter(client, **GOVERNMENT)
        engine = gateway.service.store.engine
        slide_store.create(engine, "5" * 32, request={"authorisation": grant})
        for state in STATES:
            slide_store.transition(engine, "5" * 32, state)
        slide_store.transition(engine, "5" * 32, "ready", reading=READING, prices=Prices.load(settings.paths.prices))
        return (await client.get(f"/v1/authorisations/{grant}/uses")).json()

    [use] = run_inside(settings, story)["uses"]
    assert (use["kind"], use["decision"], use["product"]) == ("slide_state", "5" * 32, "pathology")


def test_models_trained_on_data_under_an_authorisation_are_listed(settings):
    async def story(client, gateway):
        grant = await enter(client, **GOVERNMENT | {"purpose": "training", "product": "credit_limit"})
        body = {"product": "credit_limit", "model": "m", "version": "3", "bundle": "b", "run_id": "", "git_commit": ""}
        data = [{"name": "one", "sha256": "1", "authorisations": [grant]},
                {"name": "two", "sha256": "2", "authorisations": []}]  # fmt: skip
        row = {"sha256": "0" * 64, "bundle": "b", "body": json.dumps(body | {"data": data}).encode()}

        await gateway.pathology.context.write(
            lambda connection: connection.execute(sa.insert(PROVENANCE), [row]).rowcount
        )
        return (await client.get(f"/v1/authorisations/{grant}/uses")).json()

    page = run_inside(settings, story)
    assert page["models"] == [{"model": "m", "version": "3", "bundle": "b", "data": ["one"]}]


@pytest.mark.parametrize(
    ("alter", "expected"),
    [
        (lambda leaf: sa.delete(GRANT_USES).where(GRANT_USES.c.leaf == leaf), "deleted 被删除: grant_uses"),
        (lambda leaf: sa.insert(GRANT_USES).values(authorisation="f" * 32, leaf=leaf), "added 被添加: grant_uses"),
        (lambda leaf: sa.insert(GRANT_USES).values(authorisation="f" * 32, leaf=10**6), "added 被添加: grant_uses"),
    ],
)
def test_an_added_or_deleted_use_is_a_finding(loaded, people, alter, expected):
    record_uses(loaded, people)
    engine = create_engine(loaded.store.url or f"sqlite:///{loaded.paths.store}", 5.0)
    key = load_public_key(loaded.paths.log_key.with_suffix(".pub.pem").read_bytes())
    assert audit_store(engine, key, loaded.paths.checkpoints).findings == []
    with engine.begin() as connection:
        leaf = connection.execute(sa.select(sa.func.max(GRANT_USES.c.leaf))).scalar_one()
        connection.execute(alter(leaf))
    findings = [str(finding) for finding in audit_store(engine, key, loaded.paths.checkpoints).findings]
    engine.dispose()
    assert findings
    assert all(finding.startswith(expected) for finding in findings)


def test_an_entry_names_each_authorisation_once():
    assert log.make_entry("chunk", "at", "t", "ref", authorisations=["a", "b", "a"]).grants == ("a", "b")
    assert log.make_entry("start", "at", "t", "ref").grants == ()


def test_the_rules_list_the_groups_of_every_purpose(settings):
    async def story(client, gateway):
        return (await client.get("/v1/authorisations/rules")).json()

    rules = run_inside(settings, story)
    assert set(rules["needs"]["credit_limit"]) == set(rules["purposes"]["credit_limit"])
    assert set(rules["conduct"]) <= set(rules["purposes"]["training"])
    assert rules["needs"]["pathology"]["slide"] == ["personal"]
