"""A stored company's network and its decision under stress: for those who may read it, without values or names."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.scitech_risk.ego_network import MAX_NODES, NetworkIndex
from datasets.scitech_risk.register import reader
from datasets.scitech_risk.register import schema as register
from models.scitech_risk.policy import Policy
from serving.core.audit.authenticator import open_log_store
from serving.core.db.engine import create_engine
from serving.core.db.schema import COMPANIES, DECISIONS, GRANTS
from serving.decisions.companies import network as company_network
from serving.decisions.companies.register_loader import import_register
from serving.governance.lineage import erasure
from serving.privacy.consent import rules as consent
from tests.serving.conftest import POLICIES, bearer_of, rows, run_inside, settings_for, vault_of
from tests.serving.decisions.batch.test_subjects import assert_audit_finds_nothing

STRESS = "/v1/scitech-risks/stress"
POLICY = Policy.load(POLICIES / "scitech_risk.toml")
GRANT = {
    "tenant": "local",
    "purpose": "scitech_risk",
    "kind": "government",
    "grantor": "County",
    "groups": consent.load_rules().groups("scitech_risk"),
    "valid_to": "2999-12-31",
    "document_sha256": "0" * 64,
}


def written(folder):
    """Four companies: three at one address, two of them with one officer and a loop of invoices; one alone."""
    folder.mkdir()
    names = ["S-1", "S-2", "S-3", "S-4"]
    columns = {"company_id": names, "as_of": ["2026-06"] * 4, "revenue": [700.0, 1_200.0, 300.0, 900.0]}
    columns |= {"operating_cash_flow": [200.0] * 4, "debt_service": [50.0] * 4, "total_assets": [900.0] * 4}
    pl.DataFrame(columns | {"insured_staff": [20, 0, 0, 9]}).write_csv(folder / "companies.csv")
    links = [
        *((name, "address", "A-1") for name in names[:3]),
        ("S-4", "address", "A-4"),
        ("S-1", "officer", "Li Wei"),
        ("S-2", "officer", "Li Wei"),
        ("S-3", "officer", "Wu"),
        ("S-2", "owner", "S-1"),
        ("S-1", "owner", "Li Wei"),
    ]
    pl.DataFrame(links, schema=["company_id", "kind", "party"], orient="row").write_csv(folder / "links.csv")
    sold = [("S-1", "S-2", 600.0), ("S-2", "S-1", 550.0), ("S-1", "S-4", 50.0), ("S-9", "S-1", 5.0)]
    pl.DataFrame(sold, schema=["seller", "buyer", "amount"], orient="row").write_csv(folder / "invoices.csv")
    return folder


@pytest.fixture
def loaded(settings, tmp_path):
    import_register(written(tmp_path / "simulated"), POLICY, settings.store_location, 1.0, vault_of(settings))
    return settings


async def network(client, company, **more):
    response = await client.get(f"/v1/companies/{company}/network", **more)
    return response.status_code, response.json()


def test_a_network_shows_what_companies_share_and_names_no_person_or_address(loaded):
    async def story(client, gateway):
        status, payload = await network(client, "S-1")
        assert (status, payload["company_id"], payload["month"], payload["simulated"]) == (200, "S-1", "2026-06", True)
        nodes = payload["nodes"]
        assert [node["company_id"] for node in nodes if node["kind"] == "company"] == ["S-1", "S-2", "S-3", "S-4"]
        assert [node["insures_nobody"] for node in nodes[:4]] == [False, True, True, False]
        ties = sorted((node["kind"], node["companies"]) for node in nodes[4:])
        assert ties == [("address", 3), ("officer", 2)]
        edges = {(edge["from"], edge["to"], edge["kind"], edge["loop"]) for edge in payload["edges"]}
        assert {
            (0, 1, "invoice", True),
            (1, 0, "invoice", True),
            (0, 3, "invoice", False),
            (1, 0, "owner", False),
        } <= edges
        assert not {"Li Wei", "A-1", "Wu"} & set(str(payload).replace("'", " ").split())

    run_inside(loaded, story)


def test_a_register_without_links_gives_an_empty_network(loaded, tmp_path):
    folder = written(tmp_path / "simulated-bare")
    for name in ("links", "invoices"):
        (folder / f"{name}.csv").unlink()
    import_register(folder, POLICY, loaded.store_location, 1.0, vault_of(loaded))

    async def story(client, gateway):
        status, payload = await network(client, "S-1")
        assert (status, payload["month"], payload["nodes"], payload["edges"]) == (200, None, [], [])
        assert (await network(client, "nobody"))[0] == 404

    run_inside(loaded, story)


def test_an_erased_neighbour_is_not_named_in_any_network(loaded):
    engine = open_log_store(loaded, 5.0)
    made = erasure.erase(engine, loaded, "scitech_risk", "S-2", by="operator")["certificate"]
    assert erasure.RETAINED_NETWORKS in made["kept"], "that it stays in its neighbours' networks is told"
    engine.dispose()

    async def story(client, gateway):
        _, payload = await network(client, "S-1")
        assert [node["company_id"] for node in payload["nodes"][:4]] == ["S-1", None, "S-3", "S-4"]
        assert payload["nodes"][1]["insures_nobody"] is None
        assert (await network(client, "S-2"))[0] == 404

    run_inside(loaded, story)


def test_stored_networks_are_encrypted_and_refused_once_tampered_with(loaded):
    stored = rows(loaded, sa.select(COMPANIES.c.label, COMPANIES.c.network))
    assert len(stored) == 4
    assert not any(b"S-" in content or b"company" in content for row in stored for content in row)
    engine = create_engine(loaded.store.url or f"sqlite:///{loaded.paths.store}", 5.0)
    with engine.begin() as connection:
        connection.execute(sa.update(COMPANIES).values(network=stored[0].network))
    engine.dispose()

    async def story(client, gateway):
        responses = [await network(client, company) for company in ("S-1", "S-2")]
        assert (500, "/problems/indicators_refused") in [(status, payload.get("type")) for status, payload in responses]

    run_inside(loaded, story)


@pytest.fixture
def strict(bundles, made, tmp_path):
    environ = {"YUHENG_CONSENT_REQUIRED": "true", "YUHENG_ACCESS_REQUIRED": "true"}
    settings = settings_for(bundles, made, tmp_path, **environ)
    import_register(written(tmp_path / "simulated"), POLICY, settings.store_location, 1.0, vault_of(settings))
    return settings


async def grant(client, settings, **fields):
    answer = await client.post("/v1/authorisations", json=GRANT | fields, headers=bearer_of(settings, "operator"))
    assert answer.status_code == 201, answer.text
    return answer.json()["authorisation"]


def test_networks_and_stress_need_active_authorisations_for_each_neighbour(strict):
    async def story(client, gateway):
        bank = bearer_of(strict, "bank")
        request = {"subject_id": "S-1", "shocks": {"rate_up": 1}}
        assert (await network(client, "S-1", headers=bank))[0] == 403
        assert (await client.post(STRESS, json=request, headers=bank)).status_code == 403
        own = {"kind": "government", "grantor": "County"}
        mine = await grant(client, strict, **own, subject_id="S-1")
        await grant(client, strict, **own, subject_id="S-3")
        status, payload = await network(client, "S-1", headers=bank)
        assert status == 200
        assert [node["company_id"] for node in payload["nodes"][:4]] == ["S-1", None, "S-3", None]
        assert (await client.post(STRESS, json=request, headers=bank)).json()["authorisations"] == [mine]
        other = bearer_of(strict, "bank", tenant="another")
        assert (await network(client, "S-1", headers=other))[0] == 403
        for role in ("auditor", "operator", "scientist", "clinic"):
            assert (await network(client, "S-1", headers=bearer_of(strict, role)))[0] == 403
        revoked = await client.post(f"/v1/authorisations/{mine}/revoke", headers=bearer_of(strict, "operator"))
        assert revoked.status_code == 200
        assert (await network(client, "S-1", headers=bank))[0] == 403
        assert (await client.post(STRESS, json=request, headers=bank)).status_code == 403

    run_inside(strict, story)


def test_each_view_of_a_stored_company_is_a_use_of_its_authorisations(strict):
    async def story(client, gateway):
        own = {"kind": "government", "grantor": "County"}
        mine, theirs = [await grant(client, strict, **own, subject_id=name) for name in ("S-1", "S-3")]
        bank, auditor = bearer_of(strict, "bank"), bearer_of(strict, "auditor")
        for _ in range(3):  # within a minute
            await network(client, "S-1", headers=bank)
        await client.get("/v1/companies/S-1/history", headers=bank)
        await client.post(STRESS, json={"subject_id": "S-1", "shocks": {"rate_up": 1}}, headers=bank)
        await network(client, "S-2", headers=bank)  # which nothing opens

        async def uses(grant_id):
            payload = (await client.get(f"/v1/authorisations/{grant_id}/uses", headers=auditor)).json()
            return [(use["what"], use["kind"], use["decision"], use["tenant"]) for use in payload["uses"]]

        looks = [(what, "read", None, "local") for what in ("stress", "history", "network")]
        assert await uses(mine) == looks
        assert await uses(theirs) == looks[2:]

    run_inside(strict, story)
    engine = create_engine(strict.store.url or f"sqlite:///{strict.paths.store}", 5.0)
    assert_audit_finds_nothing(strict, engine)
    engine.dispose()


def test_a_view_is_refused_where_its_authorisation_ended_meanwhile(strict, monkeypatch):
    async def story(client, gateway):
        await grant(client, strict, kind="government", grantor="County", subject_id="S-1")
        original = company_network.network

        def ended_meanwhile(*args):
            engine = create_engine(strict.store.url or f"sqlite:///{strict.paths.store}", 5.0)
            with engine.begin() as connection:
                connection.execute(sa.update(GRANTS).values(valid_to="2020-01-01"))
            engine.dispose()
            return original(*args)

        monkeypatch.setattr(company_network, "network", ended_meanwhile)
        status, problem = await network(client, "S-1", headers=bearer_of(strict, "bank"))
        assert (status, problem["type"]) == (403, "/problems/authorisation_ended")

    run_inside(strict, story)


def test_a_network_needs_the_groups_it_is_made_of_whatever_the_model_reads(made, companies, tmp_path):
    group = register.TABLE["insured_staff"].group
    also = tuple(
        column for column in companies.card.also if column.group not in ("shell", group) and column.derived is None
    )
    slim = replace(companies, card=companies.card.model_copy(update={"also": also}))
    made.publish(tmp_path / "bundles", "1")
    slim.publish(tmp_path / "bundles", "1")
    settings = settings_for(tmp_path / "bundles", made, tmp_path, YUHENG_CONSENT_REQUIRED="true")
    import_register(written(tmp_path / "simulated"), POLICY, settings.store_location, 1.0, vault_of(settings))

    async def story(client, gateway):
        groups = sorted({column.group for column in (*slim.card.inputs, *slim.card.also)} - {"shell"})
        entered = await client.post("/v1/authorisations", json=GRANT | {"groups": groups})
        assert entered.status_code == 201, entered.text
        assert (await network(client, "S-1"))[0] == 403
        entered = await client.post("/v1/authorisations", json=GRANT | {"groups": ["shell", "public_records"]})
        assert entered.status_code == 201, entered.text
        assert (await network(client, "S-1"))[0] == 200

    run_inside(settings, story)


def test_stress_shows_redacted_answers_before_and_after_and_records_no_decision(loaded):
    async def story(client, gateway):
        offered = (await client.get(STRESS)).json()
        assert [shock["code"] for shock in offered["shocks"]] == ["revenue_down", "rate_up", "trade_shock"]
        hard = {"revenue_down": offered["most"], "rate_up": 1}
        payload = (await client.post(STRESS, json={"subject_id": "S-1", "shocks": hard})).json()
        assert payload["recorded"] is False
        assert "decision_id" not in payload["before"]
        assert payload["after"]["pd"] >= payload["before"]["pd"]
        assert payload["after"]["indicative_limit"] <= payload["before"]["indicative_limit"]
        assert all("value" not in item for name in ("before", "after") for item in payload[name]["gate"]["evidence"])
        assert not {"reasons", "ledger"} & {*payload["before"], *payload["after"]}, "a whole decision is recorded"
        none = await client.post(STRESS, json={"subject_id": "S-1", "shocks": {}})
        assert (none.status_code, none.json()["errors"][0]["found"]) == (422, "none")
        decision = (await client.post("/v1/scitech-risks", json={"subject_id": "S-1"})).json()
        assert payload["before"]["pd"] == float(f"{decision['pd']:.1e}")
        assert payload["before"]["limit"] == decision["limit"]
        exact = {item["code"]: item["amount"] for item in decision["ledger"]["bounds"]}
        for item in payload["before"]["bounds"]:
            assert item["amount"] == (exact[item["code"]] and int(float(f"{exact[item['code']]:.1e}")))

    run_inside(loaded, story)
    assert len(rows(loaded, sa.select(DECISIONS.c.id))) == 1


@pytest.mark.parametrize(
    ("payload", "field"),
    [({"subject_id": "S-1", "shocks": {"revenue_down": 0.99}}, "revenue_down"),
     ({"subject_id": "S-1", "shocks": {"revenue_down": True}}, "revenue_down"),
     ({"subject_id": "S-1", "shocks": {"quake": 1}}, "quake"),
     ({"subject_id": "S-1", "shocks": [1]}, "shocks"),
     ({"subject_id": "", "shocks": {}}, "subject_id"),
     ({"indicators": {"revenue": 5}, "shocks": {}}, "indicators"),
     ({"subject_id": "S-1", "shocks": {}, "model": 5}, "model")],
)  # fmt: skip
def test_an_invalid_shock_is_refused_by_its_field(inside, payload, field):
    async def story(client, gateway):
        refused = await client.post(STRESS, json=payload)
        assert refused.status_code == 422
        assert field in [error["field"] for error in refused.json()["errors"]]

    inside(story)


def test_no_network_of_a_zone_is_larger_than_a_page_can_show():
    zone = reader.sample(400, seed=5)
    around = NetworkIndex(zone)
    near = [around.neighbourhood(company) for company in zone.frame["company_id"]]
    assert all(
        neighbourhood.nodes[0].company == company
        for neighbourhood, company in zip(near, zone.frame["company_id"], strict=True)
    )
    assert max(len(neighbourhood.nodes) for neighbourhood in near) <= MAX_NODES
    for neighbourhood in near:
        assert all(
            0 <= edge.start < len(neighbourhood.nodes) and 0 <= edge.end < len(neighbourhood.nodes)
            for edge in neighbourhood.edges
        )
    crowded = max(near, key=lambda neighbourhood: neighbourhood.omitted_count)
    assert crowded.omitted_count == 0 or len(crowded.nodes) > 20
    shells = zone.frame.filter(pl.col("loop_path").is_not_null())["company_id"]
    assert any(edge.loop for company in shells for edge in around.neighbourhood(company).edges)


def crowd(n: int, links, invoices=()) -> NetworkIndex:
    """`links` and `invoices` take the places of the n companies."""
    names = [f"C-{index}" for index in range(n)]
    none = pl.Series("loop_path", [None] * n, pl.String)
    frame = pl.DataFrame({"company_id": names, "insured_staff": [index % 5 for index in range(n)]}).with_columns(none)
    ties = pl.DataFrame([(names[index], *tie) for index, *tie in links], ["company_id", "kind", "party"], orient="row")
    sold = [(names[seller], names[buyer], 1.0) for seller, buyer in invoices]
    sums = pl.DataFrame(sold, {"seller": pl.String, "buyer": pl.String, "amount": pl.Float64}, orient="row")
    return NetworkIndex(SimpleNamespace(frame=frame, links=ties, invoices=sums))


PLACES = st.integers(0, 79)


@given(
    ties=st.lists(st.tuples(PLACES, st.sampled_from(["officer", "address"]), st.sampled_from("AB")), max_size=300),
    sold=st.lists(st.tuples(PLACES, PLACES), max_size=100),
    crowded=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_the_omitted_count_is_of_companies_with_ties_that_are_not_shown(ties, sold, crowded):
    if crowded:
        ties = [
            *ties,
            *((index, "address", "C") for index in range(60)),
            *((index, "officer", "D") for index in range(30, 80)),
        ]
    around = crowd(80, ties, sold)
    for company in range(80):
        near = around.neighbourhood(f"C-{company}")
        mine = {(kind, party) for index, kind, party in ties if index == company}
        reached = {f"C-{index}" for index, kind, party in ties if (kind, party) in mine}
        reached |= {f"C-{b}" for a, b in sold if a == company} | {f"C-{a}" for a, b in sold if b == company}
        visible = {node.company for node in near.nodes if node.kind == "company"}
        assert near.omitted_count == len(reached - visible - {f"C-{company}"})


@pytest.mark.parametrize("seller", [None, 0])
def test_the_cost_per_company_is_constant_at_a_shared_address_or_seller(seller):
    def seconds(n: int) -> float:
        began = time.process_time()
        around = crowd(n, [(index, "address", "A") for index in range(n) if seller is None],
                       [(seller, index) for index in range(1, n) if seller is not None])  # fmt: skip
        for index in range(n):
            around.neighbourhood(f"C-{index}")
        return time.process_time() - began

    seconds(100)
    assert seconds(8_000) < 24 * seconds(1_000)  # each for each, it would be 64 times as much


def test_many_shared_officers_do_not_make_a_network_larger_than_a_page():
    names = ["C-1", "C-2", "C-3"]
    none = pl.Series("loop_path", [None] * 3, pl.String)
    frame = pl.DataFrame({"company_id": names, "insured_staff": [1, 2, 3]}).with_columns(none)
    ties = [(company, "officer", f"P{index}") for index in range(200) for company in names]
    links = pl.DataFrame(ties, schema=["company_id", "kind", "party"], orient="row")
    near = NetworkIndex(SimpleNamespace(frame=frame, links=links, invoices=None)).neighbourhood("C-1")
    assert len(near.nodes) <= MAX_NODES
    assert {node.company for node in near.nodes if node.kind == "company"} == set(names)
    assert near.omitted_count == 0
