"""A version serves only with a promotion that the log records: the champion's pointer alone is no permission."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from models import bundle
from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.authenticator import load_authenticator, open_log_store
from serving.core.audit.verify import load_public_key
from serving.core.db.schema import LOG_LEAVES, PROMOTIONS
from tests.serving.conftest import bearer_of, rows, run_inside, settings_for
from tests.serving.core.audit.test_forgery import forge
from tests.serving.registry.test_versions import with_verdict

ROUTE = "/v1/models/credit_limit/champion"


@pytest.fixture
def bundles(made, tmp_path):
    """1 serves; 2 passed its gate, 3 did not, 4 was never judged."""
    folder = tmp_path / "bundles"
    with_verdict(made, True).publish(folder, "1")
    for version, verdict in (("2", True), ("3", False), ("4", None)):
        with_verdict(made, verdict).publish(folder, version, champion=False)
    return folder


def kinds(settings) -> list[tuple[str, str, str, str | None]]:
    query = sa.select(PROMOTIONS).order_by(PROMOTIONS.c.id).where(PROMOTIONS.c.model == "credit_limit")
    return [(row.kind, row.version, row.by, row.confirmed_by) for row in rows(settings, query)]


def findings(settings) -> list[str]:
    engine = open_log_store(settings)
    key = load_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
    authenticator = load_authenticator(settings.paths.entry_key, settings.log.origin)
    report = audit_store(engine, key, settings.paths.checkpoints, authenticator)
    engine.dispose()
    return [str(finding) for finding in report.findings]


def serving(gateway) -> str:
    return str(gateway.service.model_loader.deployed["credit_limit"].card.version)


async def until(condition, seconds: float = 20.0) -> None:
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize(("version", "why"), [("3", "the promotion gate failed"), ("4", "has no verdict")])
def test_a_line_in_the_pointer_puts_no_version_into_service_that_did_not_pass(made, bundles, tmp_path, version, why):
    settings = settings_for(bundles, made, tmp_path)

    async def story(client, gateway):
        (bundles / "credit_limit" / "champion").write_text(f"{version}\n")
        await until(lambda: "credit_limit" in gateway.service.model_loader.failures)
        return serving(gateway), (await client.get("/v1/alarms")).json()["alarms"]

    served, alarms = run_inside(settings, story)
    assert served == "1"
    [reason] = [alarm["why"] for alarm in alarms if alarm["name"] == "credit_limit"]
    assert why in reason
    assert "no promotion of it is recorded" in reason
    assert kinds(settings) == [("automatic", "1", "service", None)]


def test_each_swap_by_the_pointer_is_recorded_once_also_over_a_restart(made, bundles, tmp_path):
    settings = settings_for(bundles, made, tmp_path)

    async def swap(client, gateway):
        bundle.set_alias(bundles / "credit_limit", "champion", "2")
        await until(lambda: serving(gateway) == "2")

    async def nothing(client, gateway):
        return serving(gateway)

    run_inside(settings, swap)
    assert run_inside(settings, nothing) == "2"
    assert kinds(settings) == [("automatic", "1", "service", None), ("automatic", "2", "service", None)]
    assert findings(settings) == []


def test_where_the_operator_asks_for_approval_a_trained_version_waits_for_a_person(made, bundles, tmp_path):
    settings = settings_for(bundles, made, tmp_path)

    async def first_start(client, gateway):
        return serving(gateway)

    assert run_inside(settings, first_start) == "1"
    settings = settings_for(bundles, made, tmp_path, YUHENG_CHAMPION_APPROVAL_REQUIRED="true")

    async def story(client, gateway):
        bundle.set_alias(bundles / "credit_limit", "champion", "2")
        await until(lambda: "credit_limit" in gateway.service.model_loader.failures)
        refusal = gateway.service.model_loader.failures["credit_limit"].why
        answer = await client.post(ROUTE, json={"version": "2", "reason": "reviewed"})
        assert answer.status_code == 200, answer.text
        await until(lambda: serving(gateway) == "2")
        return refusal

    assert "waits for approval" in run_inside(settings, story)
    assert [kind for kind, *_ in kinds(settings)] == ["automatic", "promote"]


def test_a_version_that_failed_is_forced_by_two_people_and_never_by_one(made, bundles, tmp_path):
    settings = settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true")
    lan, wei = (bearer_of(settings, "scientist", subject=name) for name in ("chen.lan", "li.wei"))
    body = {"version": "3", "reason": "agreed with the risk committee", "force": True}

    async def story(client, gateway):
        refused = await client.post(ROUTE, json=body | {"force": False}, headers=lan)
        requests = [await client.post(ROUTE, json=body, headers=lan) for _ in range(2)]
        await asyncio.sleep(0.5)
        served_meanwhile, pointer = serving(gateway), bundle.read_alias(bundles / "credit_limit")
        forced = await client.post(ROUTE, json=body, headers=wei)
        await until(lambda: serving(gateway) == "3")
        return [answer.status_code for answer in (refused, *requests, forced)], served_meanwhile, pointer

    statuses, served_meanwhile, pointer = run_inside(settings, story)
    assert statuses == [409, 202, 202, 200]
    assert (served_meanwhile, pointer) == ("1", "1")
    assert kinds(settings)[-1] == ("force", "3", "chen.lan", "li.wei")
    assert findings(settings) == []


def test_a_forced_version_is_named_wherever_versions_are_listed_and_is_no_rollback(made, bundles, tmp_path):
    settings = settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true")
    lan, wei = (bearer_of(settings, "scientist", subject=name) for name in ("chen.lan", "li.wei"))
    own = bearer_of(settings, "auditor")
    foreign = bearer_of(settings, "auditor", tenant="another")
    force = {"version": "3", "reason": "agreed with the risk committee", "force": True}

    async def story(client, gateway):
        await client.post(ROUTE, json=force, headers=lan)
        meanwhile = await client.get("/v1/versions", headers=own)
        await client.post(ROUTE, json=force, headers=wei)
        await until(lambda: serving(gateway) == "3")
        listings = [
            (await client.get(path, headers=headers)).json()
            for headers in (own, foreign)
            for path in ("/v1/versions", "/v1/models/credit_limit/versions", "/v1/models/credit_limit/versions/3")
        ]
        await client.post(ROUTE, json={"version": "1", "reason": "complaints"}, headers=lan)
        await until(lambda: serving(gateway) == "1")
        back = await client.post(ROUTE, json={"version": "3", "reason": "back again"}, headers=lan)
        return meanwhile.json(), listings, back

    meanwhile, listings, back = run_inside(settings, story)
    assert [model["forced"] for model in meanwhile["models"]] == [[]], "one person alone forces nothing"
    for (models, versions, version), is_own in zip((listings[:3], listings[3:]), (True, False), strict=True):
        [[entry]] = [model["forced"] for model in models["models"]]
        assert [line["forced"] for line in versions["versions"]] == [None, entry, None, None]
        assert version["forced"] == entry
        assert (entry["version"], entry["kind"], entry["gate"], entry["own"]) == ("3", "force", False, is_own)
        people = ("chen.lan", "li.wei", "agreed with the risk committee") if is_own else (None, None, None)
        assert (entry["by"], entry["confirmed_by"], entry["reason"]) == people
    assert back.status_code == 409, "it served before, but only by force"
    assert back.json()["type"] == "/problems/not_promotable"


def test_a_promotion_that_somebody_wrote_into_the_database_lets_nothing_serve(made, bundles, tmp_path):
    settings = settings_for(bundles, made, tmp_path)

    async def story(client, gateway):
        engine = open_log_store(settings)
        digest = bundle.verify_bundle(bundles / "credit_limit" / "3", made.public).digest
        with engine.begin() as connection:
            row = dict(connection.execute(sa.select(PROMOTIONS).limit(1)).mappings().one())
            stmt = sa.select(LOG_LEAVES.c.tag).where(LOG_LEAVES.c.ref == row["id"])
            tag = connection.execute(stmt).scalar_one()
            forged = row | {"id": "f" * 32, "model": "credit_limit", "version": "3", "bundle": digest, "kind": "force"}
            connection.execute(sa.insert(PROMOTIONS).values(forged))
            forge(connection, "promotion", row["at"], row["tenant"], "f" * 32, tag=tag, row="0" * 64)
        engine.dispose()
        bundle.set_alias(bundles / "credit_limit", "champion", "3")
        await until(lambda: "credit_limit" in gateway.service.model_loader.failures)
        return serving(gateway), gateway.service.model_loader.failures["credit_limit"].why

    served, why = run_inside(settings, story)
    assert served == "1"
    assert "was not recorded by this service" in why
