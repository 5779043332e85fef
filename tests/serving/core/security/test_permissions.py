"""Every route with every role and two tenants: allowed, refused, and nothing of another tenant revealed."""

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
from tests.serving.pathology.conftest import FORM, PART_HEADERS, TUS_HEADERS, metadata, put_slide, sha256

ROUTES = [(route, method) for route, methods in App(load_settings(environ={})).routes.items() for method in methods]
GUARDED = [(route, method) for route, method in ROUTES if permissions.PERMISSIONS[f"{method} {route}"]]
UPLOAD_HEADERS = (TUS_HEADERS, PART_HEADERS, {"Upload-Offset": "0", "Upload-Length": "5"})
PATH_PARAMS = {"level": "0", "tile": "0_0.jpeg", "name": "app.css", "kind": "not_found"}


@pytest.fixture(scope="module")
def guarded(bundles, made, tmp_path_factory) -> Iterator[Inside]:
    """A service that requires tokens."""
    folder = tmp_path_factory.mktemp("guarded")
    with Inside(settings_for(bundles, made, folder, YUHENG_ACCESS_REQUIRED="true")) as running:
        yield running


def bearer(gateway: App, role: str, tenant: str) -> dict[str, str]:
    signer = {"name": "Chen Lan 陈岚", "licence": "110330100001234"} if role == "pathologist" else {}
    return bearer_of(gateway.settings, role, tenant=tenant, **signer)


def address(route: str, id: str) -> str:
    """The path of a route with the id and with valid values of its other parameters."""
    return re.sub(r"\{(\w+)\}", lambda match: PATH_PARAMS.get(match[1], id), route)


async def call(client: Any, route: str, method: str, headers: dict[str, str], id: str = "0" * 32) -> Any:
    headers = {name: value for group in UPLOAD_HEADERS for name, value in group.items()} | headers
    if (route, method) == ("/v1/uploads/{id}", "POST"):
        headers |= {"X-HTTP-Method-Override": "DELETE"}
    return await client.request(method, address(route, id), headers=headers)


def test_the_permissions_cover_exactly_the_routes():
    assert {f"{method} {route}" for route, method in ROUTES} == set(permissions.PERMISSIONS)
    assert all(roles <= set(ROLES) for roles in permissions.PERMISSIONS.values())


def test_the_service_does_not_start_with_a_route_without_permissions(monkeypatch, settings):
    monkeypatch.delitem(permissions.PERMISSIONS, "GET /metrics")
    with pytest.raises(MissingPermissionError, match="GET /metrics"):
        App(settings)


@pytest.mark.parametrize(("route", "method"), ROUTES)
def test_each_role_may_call_exactly_the_routes_of_the_permissions(guarded, route, method):
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
            response = await call(client, route, method, bearer(gateway, role, "east"))
            assert response.status_code != 401 or route == "/v1/session", (role, response.text)
            assert (response.status_code == 403) == (bool(roles) and role not in roles), (role, response.text)
            if response.status_code == 403 and method != "HEAD":
                assert response.json()["type"] == "/problems/not_allowed"

    guarded.run(story)


def test_without_a_token_readiness_shows_only_the_status(guarded):
    async def story(client, gateway):
        assert (await client.get("/healthz/ready")).json() == {"status": "ready"}
        details = (await client.get("/healthz/ready", headers=bearer(gateway, "operator", "east"))).json()
        assert {"models", "store", "alarms"} <= set(details)

    guarded.run(story)


# --- two tenants


async def create_all(client: Any, gateway: App, tenant: str, applicant: Any, company: Any) -> dict[str, str]:
    """Create one of each resource for a tenant: kind -> id."""
    bank, key = bearer(gateway, "bank", tenant), {"Idempotency-Key": "the-same"}
    decision = await client.post("/v1/credit-limits", json={"indicators": applicant}, headers=bank | key)
    columns = list(applicant)
    csv = ",".join(columns) + "\n" + ",".join(str(applicant[name]) for name in columns) + "\n"
    headers = bank | key | {"Content-Type": "text/csv"}
    batch = await client.post("/v1/credit-limits/batch", content=csv.encode(), headers=headers)
    assert (decision.status_code, batch.status_code) == (200, 200), batch.text
    clinic = bearer(gateway, "clinic", tenant) | TUS_HEADERS | key | {"Upload-Length": "5"}
    upload_metadata = metadata(filename="a.svs", sha256=sha256(b"12345"), **FORM)
    upload = await client.post("/v1/uploads", headers=clinic | {"Upload-Metadata": upload_metadata})
    assert upload.status_code == 201, upload.text
    slide = put_slide(gateway, "ready", tenant=tenant, sha256=sha256(b"the same content"))
    return {
        "/v1/decisions/{id}": decision.json()["decision_id"],
        "row": f"{batch.headers['batch-id']}-1",
        "/v1/batches/{id}": batch.headers["batch-id"],
        "/v1/uploads/{id}": upload.headers["location"].rpartition("/")[2],
        "sending": upload.headers["slide-id"],
        "slide": slide,
    }


def owned(theirs: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """(route, method, id) of each route that names one of these resources by its id."""
    for route, method in GUARDED:
        if "{id}" in route and not route.startswith("/v1/companies"):
            for kind, id in theirs.items():
                of_slides = kind in ("slide", "sending") and route.startswith("/v1/slides/")
                of_row = kind == "row" and route.startswith("/v1/decisions")
                if kind == route.removesuffix("/rows") or of_slides or of_row:
                    yield route, method, id


def normalised(response: Any, id: str) -> Any:
    """A response without the requested id and the request's own id."""
    text = response.text.replace(id, "ID").replace(response.headers["x-request-id"], "REQUEST")
    own = {"x-request-id", "content-length"}
    return response.status_code, text, {name: value for name, value in response.headers.items() if name not in own}


def test_another_tenants_resources_look_as_if_they_did_not_exist(guarded, applicant, company):
    async def story(client, gateway):
        theirs = await create_all(client, gateway, "east", applicant, company)
        checked = set()
        for route, method, id in owned(theirs):
            for role in permissions.PERMISSIONS[f"{method} {route}"]:
                unknown = new_id() + ("-1" if id == theirs["row"] else "")
                headers = bearer(gateway, role, "west")
                response = await call(client, route, method, headers, id)
                assert response.status_code in (404, 415, 400), (route, method, role, response.text)
                assert normalised(response, id) == normalised(
                    await call(client, route, method, headers, unknown), unknown
                )
                checked.add((route, method))
        rest = {(route, method) for route, method in GUARDED if "{id}" in route} - checked
        grants = {f"/v1/authorisations/{{id}}/{action}" for action in ("revoke", "uses")}  # see consent/test_usage.py
        shared = {"/v1/companies/{id}/history", "/v1/companies/{id}/network", "/v1/subjects/{id}/trace", *grants}
        assert {route for route, _ in rest} == shared, "a new route with an id needs a case here"
        for role in ("bank", "auditor"):
            own = await call(client, "/v1/decisions/{id}", "GET", bearer(gateway, role, "east"), theirs["row"])
            assert own.status_code == 200
        assert slide_store.get(gateway.service.store.engine, theirs["slide"])["state"] == "ready"

    guarded.run(story)


@pytest.mark.parametrize("action", ["sign", "amend", "cancel", "review"])
def test_nobody_can_change_another_tenants_slide(guarded, action):
    async def story(client, gateway):
        slide = put_slide(gateway, "in_review", tenant="east")
        body = {"findings": "x", "diagnosis": "NILM"} | ({"reason": "x"} if action == "amend" else {})
        role = "clinic" if action == "cancel" else "pathologist"
        response = await client.post(f"/v1/slides/{slide}/{action}", json=body, headers=bearer(gateway, role, "west"))
        assert (response.status_code, response.json()["type"]) == (404, "/problems/unknown_slide")
        assert slide_store.get(gateway.service.store.engine, slide)["state"] == "in_review"

    guarded.run(story)


def test_equal_keys_content_and_accessions_of_two_tenants_do_not_collide(guarded, applicant, company):
    async def story(client, gateway):
        first = await create_all(client, gateway, "north", applicant, company)
        again = await create_all(client, gateway, "north", applicant, company)
        other = await create_all(client, gateway, "south", applicant, company)
        repeated = [kind for kind in first if kind != "slide"]
        assert [first[kind] for kind in repeated] == [again[kind] for kind in repeated]
        assert not set(first.values()) & set(other.values())

    guarded.run(story)


def test_a_worklist_contains_only_the_tenants_slides(guarded):
    async def story(client, gateway):
        mine, theirs = put_slide(gateway, "ready", tenant="alpha"), put_slide(gateway, "ready", tenant="beta")
        for role in permissions.SLIDE_ROLES:
            worklist = await client.get("/v1/slides", headers=bearer(gateway, role, "alpha"))
            assert [slide["slide_id"] for slide in worklist.json()["slides"]] == [mine]
            after = await client.get(f"/v1/slides?after={theirs}", headers=bearer(gateway, role, "alpha"))
            assert (after.status_code, after.json()["type"]) == (404, "/problems/unknown_slide")

    guarded.run(story)


def test_the_inbox_of_another_tenant_cannot_be_referenced(guarded):
    async def story(client, gateway):
        inbox = gateway.settings.paths.slide_inbox
        (inbox / "alpha").mkdir(parents=True)
        (inbox / "beta").mkdir()
        (inbox / "alpha" / "a.svs").write_bytes(b"12345")
        clinic = bearer(gateway, "clinic", "beta")
        for reference in ("a.svs", "alpha/a.svs", "../alpha/a.svs"):
            body = FORM | {"reference": reference, "sha256": sha256(b"12345")}
            assert (await client.post("/v1/slides", json=body, headers=clinic)).status_code == 422

    guarded.run(story)


def test_a_companys_history_shows_a_bank_only_its_own_decisions(guarded, company):
    async def story(client, gateway):
        put_subject(gateway.service.store.engine, gateway.settings, schema.TABLE, "C1", company)
        body = {"subject_id": "C1"}
        for tenant in ("east", "west"):
            decision = await client.post("/v1/scitech-risks", json=body, headers=bearer(gateway, "bank", tenant))
            history = await client.get("/v1/companies/C1/history", headers=bearer(gateway, "bank", tenant))
            assert [item["decision_id"] for item in history.json()["decisions"]] == [decision.json()["decision_id"]]

    guarded.run(story)


def test_metrics_name_no_tenant_and_no_id(guarded, applicant, company):
    async def story(client, gateway):
        created = await create_all(client, gateway, "east", applicant, company)
        metrics = await client.get("/metrics", headers=bearer(gateway, "operator", "west"))
        for text in ("east", "west", "north", *created.values()):
            assert text not in metrics.text

    guarded.run(story)


def test_a_browser_caches_a_tile_only_for_its_session(guarded):
    assert "Cookie" in CACHE_HEADERS["Vary"]
    assert "Authorization" in CACHE_HEADERS["Vary"]
    assert "private" in CACHE_HEADERS["Cache-Control"]


def test_another_tenants_id_takes_as_long_as_an_unknown_one(guarded, applicant, company):
    async def story(client, gateway):
        theirs = await create_all(client, gateway, "east", applicant, company)
        bank = bearer(gateway, "bank", "west")
        durations: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(300):
            for exists in (True, False):
                id = theirs["/v1/decisions/{id}"] if exists else new_id()
                began = time.perf_counter()
                await client.get(f"/v1/decisions/{id}", headers=bank)
                durations[exists].append(time.perf_counter() - began)
        existing, unknown = (statistics.median(sorted(durations[key])[:200]) for key in (True, False))
        assert abs(existing - unknown) < 0.2 * max(existing, unknown), (existing, unknown)

    guarded.run(story)
