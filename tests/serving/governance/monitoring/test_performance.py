"""Outcomes, overrides, input counts, and the reports of performance and drift made from them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from models import drift
from models.drift import flatten, from_card, unflatten
from models.feature_encoder import encode
from serving.__main__ import app
from serving.core.db.errors import StoreUnavailableError
from serving.core.db.schema import DECISIONS, INPUT_COUNTS, OUTCOMES, OVERRIDES, SLIDE_REPORTS, SLIDES
from serving.decisions import input_counts as counts_module
from serving.decisions.input_counts import decode_counts
from serving.governance.monitoring import html_report, performance
from serving.pathology.slides import store as slide_store
from tests.serving.conftest import environment, indicators, run_inside, settings_for

URL = "/v1/credit-limits"
HEAD = {"content-type": "application/json"}


@pytest.fixture
def settings(bundles, made, tmp_path):
    return settings_for(bundles, made, tmp_path)


async def decide(client, applicant) -> dict:
    answer = await client.post(URL, json={"indicators": applicant})
    assert answer.status_code == 200, answer.text
    return answer.json()


def outcome_of(decision, outcome="repaid", **more):
    return {"decision_id": decision, "outcome": outcome, "at": "2026-11-01", "source": "core banking"} | more


def rows(gateway, table) -> list:
    with gateway.service.store.engine.connect() as connection:
        return connection.execute(sa.select(table).order_by(table.c.id)).all()


# --- outcomes


def test_an_outcome_is_stored_once_and_corrected_by_a_later_one(settings, applicant):
    async def story(client, gateway):
        decision = (await decide(client, applicant))["decision_id"]
        [first] = (await client.post("/v1/outcomes", json=outcome_of(decision))).json()["outcomes"]
        assert first["new"]
        [again] = (await client.post("/v1/outcomes", json=outcome_of(decision))).json()["outcomes"]
        assert (again["new"], again["outcome_id"]) == (False, first["outcome_id"])
        later = outcome_of(decision, "defaulted", at="2026-11-20")
        [second] = (await client.post("/v1/outcomes", json={"outcomes": [later]})).json()["outcomes"]
        assert second["corrects"] == first["outcome_id"]
        stored = rows(gateway, OUTCOMES)
        assert [row.outcome for row in stored] == ["repaid", "defaulted"]
        assert stored[0].score is not None
        [effect] = (await client.get("/v1/effects")).json()["effects"]
        assert effect["outcomes"] == {"total": 1, "defaulted": 1}

    run_inside(settings, story)


def test_a_key_stands_for_one_request(settings, applicant):
    async def story(client, gateway):
        decision = (await decide(client, applicant))["decision_id"]
        key = {"idempotency-key": "k"}
        first = await client.post("/v1/outcomes", json=outcome_of(decision), headers=key)
        await client.post("/v1/outcomes", json=outcome_of(decision, "defaulted"))
        again = await client.post("/v1/outcomes", json=outcome_of(decision), headers=key)
        assert again.json() == first.json(), "a late retry does not undo the correction"
        assert again.headers["idempotent-replayed"] == "true"
        other = await client.post("/v1/outcomes", json=outcome_of(decision, "defaulted"), headers=key)
        assert other.json()["type"] == "/problems/key_reused"
        assert len(rows(gateway, OUTCOMES)) == 2

    run_inside(settings, story)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"outcome"}),
        ({"outcome": "won"}, {"outcome"}),
        ({"outcome": ["repaid"]}, {"outcome"}),
        ({"outcome": "repaid"}, {"decision_id", "source", "at"}),
        (outcome_of("0" * 32), {"decision_id"}),
        (outcome_of("x"), {"decision_id"}),
        (outcome_of("0" * 32, at="2099-01-01"), {"at"}),
        (outcome_of("0" * 32, at="2026-02-30"), {"at"}),
        (outcome_of("0" * 32, code="HSIL"), {"code"}),
        (outcome_of("0" * 32, slide_id="1"), {"slide_id"}),
        (outcome_of("0" * 32, wrong=1), {"wrong"}),
        ({"outcome": "diagnosis", "slide_id": "1", "code": "bad", "at": "2026-11-01", "source": "s"}, {"code"}),
        ({"outcomes": []}, {"outcomes"}),
        ({"outcomes": [1, outcome_of("0" * 32, at="?")]}, {"outcomes[0]", "outcomes[1].at"}),
        (
            {"outcomes": [outcome_of("0" * 32), outcome_of("1" * 32)]},
            {"outcomes[0].decision_id", "outcomes[1].decision_id"},
        ),
    ],
)
def test_all_faults_of_outcomes_are_reported_together_and_nothing_is_stored(inside, body, fields):
    async def story(client, gateway):
        refused = await client.post("/v1/outcomes", json=body)
        assert refused.status_code == 422, refused.text
        assert {error["field"] for error in refused.json()["errors"]} == fields
        assert rows(gateway, OUTCOMES) == []

    inside(story)


def test_a_thousand_outcomes_of_a_batch_fit_in_one_request(settings, people, made):
    async def story(client, gateway):
        body = "\n".join(json.dumps(indicators(people, made.card, i)) for i in range(1_000))
        answer = await client.post(f"{URL}/batch", content=body, headers={"content-type": "application/x-ndjson"})
        batch = answer.headers["batch-id"]
        outcomes = [
            outcome_of(f"{batch}-{i + 1}", "defaulted" if people["default_12m"][i] else "repaid") for i in range(1_000)
        ]
        answer = await client.post("/v1/outcomes", json={"outcomes": outcomes})
        assert answer.status_code == 200, answer.text
        [effect] = (await client.get("/v1/effects", params={"model": "credit_limit"})).json()["effects"]
        assert effect["outcomes"]["total"] == 1_000
        assert effect["auc"]["low"] > 0.5
        assert effect["calibration"]["ratio"]["low"] < 1 < effect["calibration"]["ratio"]["high"]
        assert effect["drift"]["rows"] == 1_000
        assert not any(item["drifted"] for item in effect["drift"]["inputs"]), "they are of the very county"

    run_inside(settings, story)


# --- overrides


def test_an_override_is_stored_with_the_decision_and_the_newest_counts(settings, applicant):
    async def story(client, gateway):
        answer = await decide(client, applicant)
        await decide(client, applicant)
        url = f"/v1/decisions/{answer['decision_id']}/override"
        declined = await client.post(url, json={"decision": "decline", "reason": "moved away"})
        assert declined.status_code == 200, declined.text
        approved = await client.post(url, json={"decision": "approve", "limit": 50_000, "reason": "he is back"})
        assert approved.json()["said"] == answer["decision"]
        assert (await client.get(f"/v1/decisions/{answer['decision_id']}")).json() == answer
        assert [row.decision for row in rows(gateway, OVERRIDES)] == ["decline", "approve"]
        [effect] = (await client.get("/v1/effects")).json()["effects"]
        assert (effect["decisions"], effect["overrides"], effect["override_rate"]["value"]) == (2, 1, 0.5)

    run_inside(settings, story)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"decision", "reason"}),
        ({"decision": "approve", "reason": "r"}, {"limit"}),
        ({"decision": "approve", "reason": "r", "limit": True}, {"limit"}),
        ({"decision": "approve", "reason": "r", "limit": -1}, {"limit"}),
        ({"decision": "decline", "reason": "r", "limit": 1}, {"limit"}),
        ({"decision": "decline", "reason": "", "more": 1}, {"reason", "more"}),
    ],
)
def test_an_incomplete_override_is_refused(inside, applicant, body, fields):
    async def story(client, gateway):
        decision = (await decide(client, applicant))["decision_id"]
        refused = await client.post(f"/v1/decisions/{decision}/override", json=body)
        assert {error["field"] for error in refused.json()["errors"]} == fields
        nobody = await client.post(f"/v1/decisions/{'0' * 32}/override", json=body)
        assert nobody.json()["type"] == "/problems/unknown_decision"

    inside(story)


# --- the routes of trace and alarms


def test_routes_and_commands_return_the_same(settings, applicant):
    async def story(client, gateway):
        decision = (await decide(client, applicant))["decision_id"]
        payload = (await client.get(f"/v1/decisions/{decision}/trace")).json()
        assert payload["links"][0]["live"]
        assert {gap["kind"] for gap in payload["missing_links"]} == {"run", "commit", "data"}, (
            "a test's card names none"
        )
        forward = (await client.get("/v1/subjects/H-1/trace", params={"product": "scitech_risk"})).json()
        assert forward["links"][0] == {"kind": "decisions", "name": "0", "links": []}
        assert (await client.get(f"/v1/decisions/{'0' * 32}/trace")).status_code == 404
        assert (await client.get("/v1/subjects/H-1/trace", params={"product": "cards"})).status_code == 422
        assert (await client.get("/v1/effects", params={"since": "yesterday"})).status_code == 422
        assert (await client.get("/v1/alarms")).json() == {"alarms": []}

    run_inside(settings, story)


# --- what is asked is counted


def test_bins_count_every_row_and_each_category_has_its_own(people, made):
    card = made.card
    counts = from_card(card.drift).count(encode(people, card.inputs), np.zeros(people.height))
    assert [int(bin_counts.sum()) for bin_counts in counts] == [people.height] * (len(card.inputs) + 1)
    assert [bin_counts.tolist() for bin_counts in counts[:-1]] == [list(bins.counts) for bins in card.drift.inputs]
    index = [column.kind for column in card.inputs].index("category")
    column = card.inputs[index]
    spread = [people.filter(pl.col(column.name) == level).height for level in column.levels]
    assert counts[index].tolist() == [*spread, people[column.name].null_count()]
    assert all(
        len(bins.edges) < drift.BIN_COUNT for i, bins in enumerate(card.drift.inputs) if not card.inputs[i].levels
    )


@pytest.fixture
def one_day(monkeypatch):
    """Counts are kept by day: midnight, where it fell between two flushes, would make two rows of them."""
    monkeypatch.setattr(counts_module, "time", SimpleNamespace(gmtime=lambda: None, strftime=lambda *_: "2026-11-25"))


@pytest.mark.usefixtures("one_day")
def test_single_decisions_and_a_batch_are_counted_alike_without_values(settings, people, made):
    applicants = [indicators(people, made.card, i) for i in range(230)]

    async def story(client, gateway):
        for values in applicants:
            await decide(client, values)
        await gateway.service.input_counter.flush()
        singles = counted(gateway)
        body = "\n".join(json.dumps(values) for values in applicants)
        await client.post(f"{URL}/batch", content=body, headers={"content-type": "application/x-ndjson"})
        await gateway.service.input_counter.flush()
        both = counted(gateway)
        assert both.said == {name: 2 * count for name, count in singles.said.items()}
        assert np.array_equal(decode_counts(both.counts), 2 * decode_counts(singles.counts))
        frame = people.head(230)
        direct = from_card(made.card.drift).count(encode(frame, made.card.inputs), np.zeros(230))[:-1]
        assert np.array_equal(flatten(unflatten(made.card.drift, decode_counts(singles.counts))[:-1]), flatten(direct))

    run_inside(settings, story)


def counted(gateway):
    with gateway.service.store.engine.connect() as connection:
        [row] = connection.execute(sa.select(INPUT_COUNTS)).all()
        return row


@pytest.mark.usefixtures("one_day")
def test_counts_survive_a_failing_store_and_a_stopped_service(settings, applicant, monkeypatch):
    async def story(client, gateway):
        await decide(client, applicant)
        counter, store = gateway.service.input_counter, gateway.service.store

        async def fail(transaction):
            raise StoreUnavailableError("failed", "away")

        with monkeypatch.context() as patched:
            patched.setattr(store, "write", fail)
            await counter.flush()
        assert counter.failure == "away"
        [alarm] = (await client.get("/v1/alarms")).json()["alarms"]
        assert alarm["what"] == "counts"
        assert alarm["why"] == "away"
        assert alarm["why_zh"].startswith("计数")
        await decide(client, applicant)

    run_inside(settings, story)

    async def later(client, gateway):
        assert sum(counted(gateway).said.values()) == 2
        assert decode_counts(counted(gateway).counts).sum() == 2 * (
            len(gateway.service.model_loader.deployed["credit_limit"].inputs) + 1
        )

    run_inside(settings, later)


def test_a_drifted_input_is_detected(settings, people, made):
    async def story(client, gateway):
        values = [indicators(people, made.card, i) for i in range(600)]
        column = next(
            c for c in made.card.inputs if c.kind == "number" and c.derived is None and len(set(people[c.name])) > 50
        )
        middle = people[column.name].median()
        body = "\n".join(
            json.dumps(item) for item in values if item.get(column.name) is not None and item[column.name] <= middle
        )
        await client.post(f"{URL}/batch", content=body, headers={"content-type": "application/x-ndjson"})
        [effect] = (await client.get("/v1/effects")).json()["effects"]
        inputs_by_name = {item["name"]: item for item in effect["drift"]["inputs"]}
        assert inputs_by_name[column.name]["drifted"]
        assert inputs_by_name[column.name]["psi"] > inputs_by_name[column.name]["threshold"]
        assert sum(not item["drifted"] for item in inputs_by_name.values()) > 0

    run_inside(settings, story)


# --- slides


def read_slide(engine, slide, triage, diagnosis=None, hours=2):
    created = "2026-11-01T00:00:00.000Z"
    model = {"model": "pathology", "version": "1", "bundle": "b" * 64}
    row = slide_store.DEFAULTS | {
        "id": slide,
        "state": "signed",
        "created": created,
        "updated": created,
        "sha256": slide * 2,
        "salt": bytes(32),
    }
    row |= model | {"triage": triage, "reading": {"probability": 0.9 if triage == "positive" else 0.1}}
    with engine.begin() as connection:
        connection.execute(sa.insert(SLIDES).values(row))
        timestamp = f"2026-11-01T{hours:02}:30:00.000Z"
        arrived = "2026-11-01T01:00:00.000Z"  # the complete slide
        slide_store._insert_event(connection, slide, "state", "verifying", None, arrived)
        slide_store._insert_event(connection, slide, "state", "ready", None, timestamp)
        if diagnosis is not None:
            report = {"slide": slide, "version": 1, "kind": "signed", "body": {"diagnosis": diagnosis}}
            report |= {"sha256": "0" * 64, "signer": "1", "at": timestamp, "leaf": 0}
            connection.execute(sa.insert(SLIDE_REPORTS).values(report))
            slide_store._insert_event(connection, slide, "state", "signed", None, timestamp)


def test_slides_are_evaluated_by_signed_or_reported_diagnoses(settings):
    async def story(client, gateway):
        engine = gateway.service.store.engine
        signed = [
            ("positive", "HSIL, CIN 3"),
            ("positive", "NILM"),
            ("review", "lsil"),
            ("negative", "NILM; no HSIL seen"),
        ]
        signed += [
            ("negative", None),
            ("negative", None),
            ("abstained", "HSIL"),
            ("positive", "see the remark on HSIL"),
        ]
        for i, (triage, diagnosis) in enumerate(signed):
            read_slide(engine, f"{i:032x}", triage, diagnosis)
        outcome = {
            "slide_id": f"{4:032x}",
            "outcome": "diagnosis",
            "code": "HSIL",
            "at": "2026-11-20",
            "source": "histology",
        }
        answer = await client.post("/v1/outcomes", json=outcome)
        assert answer.status_code == 200, answer.text
        [effect] = (await client.get("/v1/effects")).json()["effects"]
        assert effect["slides"] == 8
        assert effect["diagnoses"] == {"total": 5, "positive": 3}
        assert effect["positive_rate"]["value"] == 0.5
        # Of 4 flagged 2 in 3 are ill, of 3 that were not 1 in 2: 2.67 found, 1.5 missed.
        assert effect["sensitivity"]["value"] == pytest.approx((8 / 3) / (8 / 3 + 1.5))
        assert effect["specificity"]["value"] == pytest.approx(1.5 / (1.5 + 4 / 3))
        assert effect["turnaround_hours"]["read"] == {"slides": 8, "median": 1.5, "p90": 1.5}, "as the worklist"
        assert effect["turnaround_hours"]["signed"]["slides"] == 6
        assert performance.REMARKS["verified"][0] in [remark["en"] for remark in effect["remarks"]]
        wrong = await client.post("/v1/outcomes", json=outcome_of(f"{0:032x}"))
        assert wrong.json()["errors"][0]["field"] == "decision_id", "a slide is no decision"

    run_inside(settings, story)


def test_another_tenant_sees_no_reports(settings, applicant):
    async def story(client, gateway):
        await decide(client, applicant)
        await gateway.service.input_counter.flush()
        with gateway.service.store.engine.connect() as connection:
            assert performance.model_performance(connection, gateway.settings, tenant="other") == []
            assert len(performance.model_performance(connection, gateway.settings, tenant="local")) == 1
            assert performance.model_performance(connection, gateway.settings, since="2999-01-01") == []
            assert connection.execute(sa.select(sa.func.count()).select_from(DECISIONS)).scalar() == 1

    run_inside(settings, story)


def test_the_page_shows_every_figure_in_both_languages_without_requests(
    settings, people, made, bundles, tmp_path, monkeypatch
):
    async def story(client, gateway):
        body = "\n".join(json.dumps(indicators(people, made.card, i)) for i in range(400))
        answer = await client.post(f"{URL}/batch", content=body, headers={"content-type": "application/x-ndjson"})
        ids = [f"{answer.headers['batch-id']}-{i + 1}" for i in range(400)]
        outcomes = [
            outcome_of(decision_id, "defaulted" if people["default_12m"][i] else "repaid")
            for i, decision_id in enumerate(ids)
        ]
        await client.post("/v1/outcomes", json={"outcomes": outcomes})

    run_inside(settings, story)
    for name, value in environment(bundles, made, tmp_path).items():
        monkeypatch.setenv(name, value)
    runner = CliRunner()
    done = runner.invoke(app, ["effects", "--html", str(tmp_path / "out.html")])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 2
    assert all(word in page for word in ("discrimination", "区分度", "calibration slope", "校准斜率", "PSI"))
    assert not any(word in page for word in ("http:", "https:", "<script", "@import", "url("))
    ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    assert "credit_limit 1" in runner.invoke(app, ["effects"]).output
    [effect] = json.loads(runner.invoke(app, ["effects", "--json"]).stdout)
    assert effect["decisions"] == 400


def test_a_name_that_is_markup_stays_text_on_the_page():
    row = {"model": "<script>", "version": "1", "tenant": "a&b", "remarks": [], "decisions": 1}
    assert "<script>" not in html_report.render_page([row], "now")
