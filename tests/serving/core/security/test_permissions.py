"""Every route with every role and two tenants: who may, who may not, and that nobody is told of what is another's."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest

from datasets.scitech_risk.register import schema
from serving.app import App
from serving.core.http.principal import ROLES
from serving.core.identifiers import new_id
from serving.core.security import permissions
from serving.core.security.errors import MissingPermissionError
from serving.pathology.slides import store as slide_store
from serving.pathology.viewer.tile_routes import CACHE_HEADERS
from serving.settings import load_settings
from tests.serving.conftest import Inside, bearer_of, put_subject, settings_for
from tests.serving.pathology.conftest import FORM, PART, TUS, metadata, put, sha256

PLACES = [(route, method) for route, methods in App(load_settings(environ={})).routes.items() for method in methods]
GUARDED = [place for place in PLACES if permissions.PERMISSIONS[f"{place[1]} {place[0]}"]]
DOING = (TUS, PART, {"Upload-Offset": "0", "Upload-Length": "5"})
INSIDE = {"level": "0", "tile": "0_0.jpeg", "name": "app.css", "kind": "not_found"}


@pytest.fixture(scope="module")
def guarded(bundles, made, tmp_path_factory) -> Iterator[Inside]:
    """A gateway that asks for tokens."""
    folder = tmp_path_factory.mktemp("guarded")
    with Inside(settings_for(bundles, made, folder, YUHENG_ACCESS_REQUIRED="true")) as running:
        yield running


def bearer(gateway: App, role: str, tenant: str) -> dict[str, str]:
    more = {"name": "Chen Lan 陈岚", "licence": "110330100001234"} if role == "pathologist" else {}
    return bearer_of(gateway.settings, role, tenant=tenant, **more)


def address(route: str, id: str) -> str:
    """The route with an id that a test gives, and what else its pattern takes."""
    return re.sub(r"\{(\w+)\}", lambda found: INSIDE.get(found[1], id), route)


async def call(client: Any, route: str, method: str, headers: dict[str, str], id: str = "0" * 32) -> Any:
    headers = {name: value for part in DOING for name, value in part.items()} | headers
    return await client.request(method, address(route, id), headers=headers)


def test_the_table_names_every_route_and_nothing_else():
    assert {f"{method} {route}" for route, method in PLACES} == set(permissions.PERMISSIONS)
    assert all(roles <= set(ROLES) for roles in permissions.PERMISSIONS.values())


def test_a_route_of_which_nobody_said_who_may_call_it_keeps_the_gateway_from_starting(monkeypatch, settings):
    monkeypatch.delitem(permissions.PERMISSIONS, "GET /metrics")
    with pytest.raises(MissingPermissionError, match="GET /metrics"):
        App(settings)


@pytest.mark.parametrize(("route", "method"), PLACES)
def test_each_role_may_what_the_table_says_and_nobody_else_anything(guarded, route, method):
    roles = permissions.PERMISSIONS[f"{method} {route}"]

    async def story(client, gateway):
        without = await call(client, route, method, {})
        broken = await call(client, route, method, {"Authorization": "Bearer a.b.c"})
        if roles:
            assert without.status_code == broken.status_code == 401
            assert without.headers["www-authenticate"] == 'Bearer realm="yuheng"'
            assert "invalid_token" in broken.headers["www-authenticate"]
            if method != "HEAD":
                assert without.json()["type"] == "/problems/no_token"
                assert broken.json()["type"] == "/problems/bad_token"
        else:
            assert without.status_code not in (401, 403) or "/v1/session" in route
        for role in ROLES:
            found = await call(client, route, method, bearer(gateway, role, "east"))
            assert found.status_code != 401 or route == "/v1/session", (role, found.text)
            assert (found.status_code == 403) == (bool(roles) and role not in roles), (role, found.text)
            if found.status_code == 403 and method != "HEAD":
                assert found.json()["type"] == "/problems/not_allowed"

    guarded.run(story)


def test_who_brings_no_token_learns_only_whether_the_service_is_ready(guarded):
    async def story(client, gateway):
        assert (await client.get("/healthz/ready")).json() == {"status": "ready"}
        told = (await client.get("/healthz/ready", headers=bearer(gateway, "operator", "east"))).json()
        assert {"models", "store", "alarms"} <= set(told)

    guarded.run(story)


# --- two tenants


async def of(client: Any, gateway: App, tenant: str, applicant: Any, company: Any) -> dict[str, str]:
    """One of each that the tenant has: the place it stands at -> its id."""
    bank, key = bearer(gateway, "bank", tenant), {"Idempotency-Key": "the-same"}
    asked = await client.post("/v1/credit-limits", json={"indicators": applicant}, headers=bank | key)
    columns = list(applicant)
    csv = ",".join(columns) + "\n" + ",".join(str(applicant[name]) for name in columns) + "\n"
    sent = bank | key | {"Content-Type": "text/csv"}
    batch = await client.post("/v1/credit-limits/batch", content=csv.encode(), headers=sent)
    assert (asked.status_code, batch.status_code) == (200, 200), batch.text
    clinic = bearer(gateway, "clinic", tenant) | TUS | key | {"Upload-Length": "5"}
    told = metadata(filename="a.svs", sha256=sha256(b"12345"), **FORM)
    upload = await client.post("/v1/uploads", headers=clinic | {"Upload-Metadata": told})
    assert upload.status_code == 201, upload.text
    read_one = put(gateway, "ready", tenant=tenant, sha256=sha256(b"the same of both"))
    return {
        "/v1/decisions/{id}": asked.json()["decision_id"],
        "row": f"{batch.headers['batch-id']}-1",
        "/v1/batches/{id}": batch.headers["batch-id"],
        "/v1/uploads/{id}": upload.headers["location"].rpartition("/")[2],
        "sending": upload.headers["slide-id"],
        "slide": read_one,
    }


def owned(theirs: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """(route, method, id of theirs) of each address that names something by its id."""
    for route, method in GUARDED:
        if "{id}" in route and not route.startswith("/v1/companies"):
            for place, id in theirs.items():
                of_slides = place in ("slide", "sending") and route.startswith("/v1/slides/")
                of_row = place == "row" and route.startswith("/v1/decisions")
                if place == route.removesuffix("/rows") or of_slides or of_row:
                    yield route, method, id


def plain(found: Any, id: str) -> Any:
    """What is told, apart from the id that was asked for and the request's own."""
    text = found.text.replace(id, "ID").replace(found.headers["x-request-id"], "REQUEST")
    own = {"x-request-id", "content-length"}
    return found.status_code, text, {name: value for name, value in found.headers.items() if name not in own}


def test_of_what_is_another_tenants_nobody_is_told_more_than_of_what_never_was(guarded, applicant, company):
    async def story(client, gateway):
        theirs = await of(client, gateway, "east", applicant, company)
        asked = set()
        for route, method, id in owned(theirs):
            for role in permissions.PERMISSIONS[f"{method} {route}"]:
                never = new_id() + ("-1" if id == theirs["row"] else "")
                headers = bearer(gateway, role, "west")
                found = await call(client, route, method, headers, id)
                assert found.status_code in (404, 415, 400), (route, method, role, found.text)
                assert plain(found, id) == plain(await call(client, route, method, headers, never), never)
                asked.add((route, method))
        rest = {place for place in GUARDED if "{id}" in place[0]} - asked
        grants = {f"/v1/authorisations/{{id}}/{what}" for what in ("revoke", "uses")}  # the operator's; test_uses.py
        shared = {"/v1/companies/{id}/history", "/v1/companies/{id}/network", "/v1/subjects/{id}/trace", *grants}
        assert {route for route, _ in rest} == shared, "what a new route names is looked at too"
        for role, place, id in (("bank", "/v1/decisions/{id}", "row"), ("auditor", "/v1/decisions/{id}", "row")):
            found = await call(client, place, "GET", bearer(gateway, role, "east"), theirs[id])
            assert found.status_code == 200
        assert slide_store.get(gateway.service.store.engine, theirs["slide"])["state"] == "ready"

    guarded.run(story)


@pytest.mark.parametrize("act", ["sign", "amend", "cancel", "review"])
def test_nobody_acts_on_another_tenants_slide(guarded, act):
    async def story(client, gateway):
        slide = put(gateway, "in_review", tenant="east")
        said = {"findings": "x", "diagnosis": "NILM"} | ({"reason": "x"} if act == "amend" else {})
        role = "clinic" if act == "cancel" else "pathologist"
        found = await client.post(f"/v1/slides/{slide}/{act}", json=said, headers=bearer(gateway, role, "west"))
        assert (found.status_code, found.json()["type"]) == (404, "/problems/unknown_slide")
        assert slide_store.get(gateway.service.store.engine, slide)["state"] == "in_review"

    guarded.run(story)


def test_the_same_keys_bytes_and_accession_are_each_tenants_own(guarded, applicant, company):
    async def story(client, gateway):
        first = await of(client, gateway, "north", applicant, company)
        again = await of(client, gateway, "north", applicant, company)
        other = await of(client, gateway, "south", applicant, company)
        same = [place for place in first if place != "slide"]
        assert [first[place] for place in same] == [again[place] for place in same]
        assert not set(first.values()) & set(other.values())

    guarded.run(story)


def test_a_worklist_holds_the_tenants_own_slides(guarded):
    async def story(client, gateway):
        mine, theirs = put(gateway, "ready", tenant="alpha"), put(gateway, "ready", tenant="beta")
        for role in permissions.SLIDE_ROLES:
            found = await client.get("/v1/slides", headers=bearer(gateway, role, "alpha"))
            assert [slide["slide_id"] for slide in found.json()["slides"]] == [mine]
            after = await client.get(f"/v1/slides?after={theirs}", headers=bearer(gateway, role, "alpha"))
            assert (after.status_code, after.json()["type"]) == (404, "/problems/unknown_slide")

    guarded.run(story)


def test_the_inbox_of_another_tenant_cannot_be_named(guarded):
    async def story(client, gateway):
        inbox = gateway.settings.paths.slide_inbox
        (inbox / "alpha").mkdir(parents=True)
        (inbox / "beta").mkdir()
        (inbox / "alpha" / "a.svs").write_bytes(b"12345")
        clinic = bearer(gateway, "clinic", "beta")
        for reference in ("a.svs", "alpha/a.svs", "../alpha/a.svs"):
            told = FORM | {"reference": reference, "sha256": sha256(b"12345")}
            assert (await client.post("/v1/slides", json=told, headers=clinic)).status_code == 422

    guarded.run(story)


def test_a_companys_history_shows_a_bank_its_own_decisions_alone(guarded, company):
    async def story(client, gateway):
        put_subject(gateway.service.store.engine, gateway.settings, schema.TABLE, "C1", company)
        asked = {"subject_id": "C1"}
        for tenant in ("east", "west"):
            made = await client.post("/v1/scitech-risks", json=asked, headers=bearer(gateway, "bank", tenant))
            found = await client.get("/v1/companies/C1/history", headers=bearer(gateway, "bank", tenant))
            assert [one["decision_id"] for one in found.json()["decisions"]] == [made.json()["decision_id"]]

    guarded.run(story)


def test_no_label_of_the_metrics_names_a_tenant_or_an_id(guarded, applicant, company):
    async def story(client, gateway):
        made = await of(client, gateway, "east", applicant, company)
        found = await client.get("/metrics", headers=bearer(gateway, "operator", "west"))
        for told in ("east", "west", "north", *made.values()):
            assert told not in found.text

    guarded.run(story)


def test_a_tile_is_kept_by_the_browser_for_the_session_that_saw_it(guarded):
    assert "Cookie" in CACHE_HEADERS["Vary"]
    assert "Authorization" in CACHE_HEADERS["Vary"]
    assert "private" in CACHE_HEADERS["Cache-Control"]


def test_another_tenants_id_takes_as_long_as_one_that_never_was(guarded, applicant, company):
    async def story(client, gateway):
        theirs = await of(client, gateway, "east", applicant, company)
        bank = bearer(gateway, "bank", "west")
        took: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(300):
            for there in (True, False):
                id = theirs["/v1/decisions/{id}"] if there else new_id()
                began = time.perf_counter()
                await client.get(f"/v1/decisions/{id}", headers=bank)
                took[there].append(time.perf_counter() - began)
        there, never = (statistics.median(sorted(took[kind])[:200]) for kind in (True, False))
        assert abs(there - never) < 0.2 * max(there, never), (there, never)

    guarded.run(story)
