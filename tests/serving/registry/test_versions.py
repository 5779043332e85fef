"""Versions and promotions: what signed cards contain, who may promote, and that every promotion is logged."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa

from models import bundle
from models.evaluation_summary import CheckResult, Curve, GateVerdict, PlotData, ReliabilityBin
from serving.core.audit.auditor.auditor import audit_store
from serving.core.audit.verify import load_public_key
from serving.core.db.engine import create_engine, read_connection
from serving.core.db.schema import LOG_LEAVES, PROMOTIONS
from serving.governance.monitoring.weekly import decision_series
from tests.serving.conftest import bearer_of, run_inside, settings_for
from tests.serving.pathology.slide_bundles import publish

URL = "/v1/models/credit_limit"
GOOD = CheckResult(name="discrimination", passed=True, found="AUC 0.80 [0.78, 0.82]", needed="over 0.5")
BAD = CheckResult(name="calibration slope", passed=False, found="0.70 [0.68, 0.72]", needed="within 0.8 to 1.25")
PLOTS = PlotData(
    unit="rows",
    rows=1_000,
    roc=(Curve(name="model", x=(0.0, 0.2, 1.0), y=(0.0, 0.7, 1.0), auc=0.8),),
    reliability=(ReliabilityBin(rows=100, stated=0.1, seen=0.11, low=0.06, high=0.19),),
)


def with_verdict(made, passed: bool | None):
    """The model with a card that tells a verdict; None: one from before cards did."""
    auc = {"value": 0.8, "low": 0.78, "high": 0.82}
    card = made.card.model_copy(update={"metrics": {"auc": auc, "rows": 1_000}, "run_id": "abc", "verdict": None})
    if passed is not None:
        checks = (GOOD,) if passed else (GOOD, BAD)
        card = card.model_copy(update={"verdict": GateVerdict(passed=passed, checks=checks), "plots": PLOTS})
    return replace(made, card=card)


@pytest.fixture
def bundles(made, tmp_path):
    """1 serves and is old; 2 passed its gate, 3 did not."""
    bundles = tmp_path / "bundles"
    with_verdict(made, True).publish(bundles, "1")
    with_verdict(made, True).publish(bundles, "2", champion=False)
    with_verdict(made, False).publish(bundles, "3", champion=False)
    bundle.set_alias(bundles / "credit_limit", "challenger", "2")
    return bundles


@pytest.fixture
def settings(made, bundles, tmp_path):
    return settings_for(bundles, made, tmp_path, YUHENG_CONSOLE_MLFLOW="http://mlflow.example/")


async def serving(client, version):
    for _ in range(600):
        ready = (await client.get("/healthz/ready")).json()
        if ready["models"]["credit_limit"] == version:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(ready)


def promotions(gateway):
    with read_connection(gateway.service.store.engine) as connection:
        by_people = sa.select(PROMOTIONS).where(PROMOTIONS.c.kind != "automatic")
        return connection.execute(by_people.order_by(PROMOTIONS.c.id)).all()


async def promote(client, version, reason="it ranks better", **headers):
    return await client.post(f"{URL}/champion", json={"version": version, "reason": reason}, headers=headers)


def test_versions_are_listed_newest_first_with_metrics_verdicts_and_what_is_deployed(settings):
    async def story(client, gateway):
        listed = (await client.get(f"{URL}/versions")).json()
        assert [item["version"] for item in listed["versions"]] == ["3", "2", "1"]
        assert [item["gate"] for item in listed["versions"]] == [False, True, True]
        assert [item["aliases"] for item in listed["versions"]] == [[], ["challenger"], ["champion"]]
        assert [item["served"] for item in listed["versions"]] == [False, False, True]
        assert listed["serving"] == "1"
        assert listed["versions"][0]["figures"]["auc"] == {"value": 0.8, "low": 0.78, "high": 0.82}
        assert listed["versions"][0]["run"] == "http://mlflow.example/#/runs/abc"
        first = (await client.get(f"{URL}/versions?limit=2")).json()
        rest = (await client.get(f"{URL}/versions?before={first['next']}")).json()
        assert [item["version"] for item in rest["versions"]] == ["1"]
        [model] = (await client.get("/v1/versions")).json()["models"]
        assert (model["champion"], model["challenger"], model["versions"]) == ("1", "2", 3)

    run_inside(settings, story)


def test_a_version_has_its_verdict_and_plot_data_or_null_where_its_card_has_none(settings, made, bundles):
    with_verdict(made, None).publish(bundles, "0", champion=False)

    async def story(client, gateway):
        new = (await client.get(f"{URL}/versions/2")).json()
        assert new["plots"]["roc"][0]["x"] == [0.0, 0.2, 1.0]
        assert new["verdict"]["checks"][0]["name"] == "discrimination"
        old = (await client.get(f"{URL}/versions/0")).json()
        assert (old["plots"], old["verdict"], old["gate"]) == (None, None, None)
        for address in (f"{URL}/versions/9", f"{URL}/versions/..", "/v1/models/none/versions"):
            assert (await client.get(address)).status_code == 404

    run_inside(settings, story)


def test_a_tampered_bundle_is_listed_as_refused_and_cannot_be_promoted(settings, bundles):
    (bundles / "credit_limit/2/policy.toml").write_text("x")

    async def story(client, gateway):
        [_, changed, _] = (await client.get(f"{URL}/versions")).json()["versions"]
        assert "signature does not hold" in changed["refused"]
        assert str(bundles) not in changed["refused"], "where it lies is nobody's business"
        refused = await promote(client, "2")
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/not_promotable")
        assert promotions(gateway) == []

    run_inside(settings, story)


def test_a_version_that_passed_its_gate_is_promoted_and_can_be_rolled_back(settings):
    async def story(client, gateway):
        payload = (await promote(client, "2")).json()
        assert (payload["kind"], payload["before"], payload["gate"]) == ("promote", "1", True)
        await serving(client, "2")
        assert bundle.read_alias(settings.paths.bundles / "credit_limit", "challenger") is None
        back = (await promote(client, "1", "too many complaints")).json()
        assert (back["kind"], back["before"], back["gate"]) == ("roll_back", "2", True)
        await serving(client, "1")
        history = (await client.get(f"{URL}/versions")).json()["promotions"]
        assert [(item["version"], item["reason"]) for item in history] == [
            ("1", "too many complaints"),
            ("2", "it ranks better"),
        ]
        with read_connection(gateway.service.store.engine) as connection:
            kinds = connection.execute(sa.select(LOG_LEAVES.c.ref).where(LOG_LEAVES.c.kind == "promotion")).scalars()
            assert set(kinds) > {row.id for row in promotions(gateway)}

    run_inside(settings, story)


def test_a_version_that_failed_its_gate_is_refused_with_the_checks_that_failed(settings):
    async def story(client, gateway):
        refused = await promote(client, "3")
        assert refused.status_code == 409
        [check] = refused.json()["errors"]
        assert (check["field"], check["found"]) == ("gate: calibration slope", BAD.found)
        assert bundle.read_alias(settings.paths.bundles / "credit_limit") == "1"
        assert promotions(gateway) == []
        again = await promote(client, "1")
        assert (again.status_code, again.json()["errors"][0]["field"]) == (422, "version")

    run_inside(settings, story)


@pytest.mark.parametrize("body", [{}, {"version": "2"}, {"version": 2, "reason": "x"}, {"version": "2", "reason": " "}])
def test_a_promotion_needs_a_version_and_a_reason(settings, body):
    async def story(client, gateway):
        assert (await client.post(f"{URL}/champion", json=body)).status_code == 422

    run_inside(settings, story)


def test_a_key_stands_for_one_promotion(settings):
    async def story(client, gateway):
        first = await promote(client, "2", **{"idempotency-key": "k"})
        await serving(client, "2")
        await promote(client, "1")
        await serving(client, "1")
        again = await promote(client, "2", **{"idempotency-key": "k"})
        assert again.json() == first.json()
        assert bundle.read_alias(settings.paths.bundles / "credit_limit") == "1", "a late retry moves nothing"

    run_inside(settings, story)


def test_a_promotion_whose_pointer_cannot_be_written_is_recorded_and_reported_as_failed(settings, bundles):
    (bundles / f"credit_limit/.champion.{os.getpid()}").mkdir()

    async def story(client, gateway):
        refused = await promote(client, "2")
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/store_failed")
        assert bundle.read_alias(bundles / "credit_limit") == "1"
        assert [row.version for row in promotions(gateway)] == ["2"], "no move without a record"

    run_inside(settings, story)


def test_versions_of_slide_models_are_listed_and_checked_alike(made, bundles, tmp_path):
    for version in ("1", "2"):
        publish(bundles, (made.private, made.public), version, passed=None if version == "1" else True)

    async def story(client, gateway):
        listed = (await client.get("/v1/models/pathology/versions")).json()
        assert [(item["version"], item["served"], item["gate"]) for item in listed["versions"]] == [
            ("2", True, True),
            ("1", False, None),
        ]
        refused = await client.post("/v1/models/pathology/champion", json={"version": "1", "reason": "x"})
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/not_promotable")
        assert "has no verdict" in refused.json()["detail"]

    run_inside(settings_for(bundles, made, tmp_path), story)


def test_scientists_alone_promote_and_another_tenant_sees_neither_who_nor_why(made, bundles, tmp_path):
    settings = settings_for(bundles, made, tmp_path, YUHENG_ACCESS_REQUIRED="true")

    async def story(client, gateway):
        for role in ("bank", "auditor", "operator"):
            assert (await promote(client, "2", **bearer_of(settings, role))).status_code == 403
        assert (await promote(client, "2", **bearer_of(settings, "scientist"))).status_code == 200
        theirs = bearer_of(settings, "scientist", tenant="other")
        [item] = (await client.get(f"{URL}/versions", headers=theirs)).json()["promotions"]
        assert (item["version"], item["own"], item["by"], item["reason"]) == ("2", False, None, None)

    run_inside(settings, story)


@pytest.mark.parametrize("change_kind", ["edited", "deleted", "added"])
def test_a_promotion_that_was_tampered_with_is_named_by_the_audit(settings, change_kind):
    async def story(client, gateway):
        assert (await promote(client, "2")).status_code == 200
        gateway.service.store.checkpoint_signer.checkpoint()
        return dict(promotions(gateway)[0]._mapping)

    row = run_inside(settings, story)
    added = row | {"id": "f" * 32}
    with opened(settings) as engine, engine.begin() as connection:
        is_row = PROMOTIONS.c.id == row["id"]
        change = {
            "edited": sa.update(PROMOTIONS).where(is_row).values(reason="because"),
            "deleted": sa.delete(PROMOTIONS).where(is_row),
            "added": sa.insert(PROMOTIONS).values(added),
        }
        connection.execute(change[change_kind])
    with opened(settings) as engine:
        key = load_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
        findings = audit_store(engine, key, settings.paths.checkpoints).findings
    expected = added if change_kind == "added" else row
    assert [(finding.kind, finding.location) for finding in findings] == [(change_kind, f"promotions {expected['id']}")]


@contextmanager
def opened(settings):
    url = settings.store.url or f"sqlite:///{settings.paths.store}"
    engine = create_engine(url, 5.0)
    yield engine
    engine.dispose()


def test_performance_is_reported_week_by_week_too(settings, applicant):
    async def story(client, gateway):
        for _ in range(3):
            await client.post("/v1/credit-limits", json={"indicators": applicant})
        [effect] = (await client.get("/v1/effects?by=week")).json()["effects"]
        [week] = effect["series"]
        assert (week["decisions"], week["rows"]) == (3, 3)
        assert week["psi"] > 0
        assert len(week["moved"]) == 3
        assert "series" not in (await client.get("/v1/effects")).json()["effects"][0]
        assert (await client.get("/v1/effects?by=day")).status_code == 422

    run_inside(settings, story)


def test_a_week_begins_on_monday_and_an_outcome_counts_in_the_week_of_its_decision():
    from types import SimpleNamespace as Row

    counted = [Row(day=day, said={"approve": 2}, counts=b"", bundle="b") for day in ("2026-11-22", "2026-11-23")]
    ended = [Row(made="2026-11-29T10:00:00Z", outcome="defaulted", score=0.2)]
    series = decision_series(None, counted, ended)
    assert [item["week"] for item in series] == ["2026-11-16", "2026-11-23"]
    assert [item["outcomes"]["total"] for item in series] == [0, 1]


def test_a_pointer_that_differs_from_the_newest_promotion_is_reported(settings, bundles):
    async def story(client, gateway):
        for version in ("2", "1"):
            assert (await promote(client, version)).status_code == 200
            await serving(client, version)
        listed = (await client.get(f"{URL}/versions")).json()
        assert [(item["version"], item["stands"]) for item in listed["promotions"]] == [("1", True), ("2", None)]
        bundle.set_alias(bundles / "credit_limit", "champion", "2")  # by hand
        listed = (await client.get(f"{URL}/versions")).json()
        assert [(item["version"], item["stands"]) for item in listed["promotions"]] == [("1", False), ("2", None)]

    run_inside(settings, story)


def test_the_reason_why_a_version_is_not_deployed_is_in_both_languages(settings, bundles):
    async def story(client, gateway):
        [model] = (await client.get("/v1/versions")).json()["models"]
        assert (model["alarm"], model["alarm_zh"]) == (None, None)
        (bundles / "credit_limit/2/policy.toml").write_text("x")
        bundle.set_alias(bundles / "credit_limit", "champion", "2")
        for _ in range(600):
            [model] = (await client.get("/v1/versions")).json()["models"]
            if model["alarm"]:
                break
            await asyncio.sleep(0.05)
        assert model["alarm"] in model["alarm_zh"]
        assert "模型包" in model["alarm_zh"]

    run_inside(settings, story)


def test_a_retry_writes_a_pointer_that_could_not_be_written_before(settings, bundles, monkeypatch):
    async def story(client, gateway):
        original = bundle.set_alias

        def full(*_):
            raise OSError("No space left on device")

        monkeypatch.setattr(bundle, "set_alias", full)
        assert (await promote(client, "2", **{"Idempotency-Key": "k"})).status_code == 503
        listed = (await client.get(f"{URL}/versions")).json()
        assert not next(item for item in listed["versions"] if item["version"] == "2")["served"]
        monkeypatch.setattr(bundle, "set_alias", original)
        again = await promote(client, "2", **{"Idempotency-Key": "k"})
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
        assert bundle.read_alias(bundles / "credit_limit") == "2"

    run_inside(settings, story)


def test_of_two_simultaneous_promotions_the_last_recorded_is_deployed(settings, bundles, made, monkeypatch):
    with_verdict(made, True).publish(bundles, "4", champion=False)

    async def story(client, gateway):
        original = bundle.set_alias

        def point(folder, alias, version):
            if version == "2":
                time.sleep(0.6)  # a slow disk
            original(folder, alias, version)

        monkeypatch.setattr(bundle, "set_alias", point)
        first_promotion = asyncio.create_task(promote(client, "2"))
        while not promotions(gateway):
            await asyncio.sleep(0.01)
        assert (await promote(client, "4")).status_code == 200
        await first_promotion
        assert bundle.read_alias(bundles / "credit_limit") == promotions(gateway)[-1].version == "4"

    run_inside(settings, story)
