"""A browser's session: a cookie in place of the token, for requests of our own pages only."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from serving.core.security.authentication import COOKIE_NAME
from serving.pathology.slides import store as slide_store
from tests.serving.conftest import bearer_of, run_inside, settings_for
from tests.serving.core.security.test_permissions import guarded  # noqa: F401  # fixture
from tests.serving.pathology.conftest import put_slide

CHEN = {"name": "Chen Lan 陈岚", "licence": "110330100001234"}
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


def token(gateway, *roles: str, **claims: str) -> str:
    return bearer_of(gateway.settings, *roles, tenant="lab", **claims)["Authorization"].partition(" ")[2]


async def sign_in(client, gateway, *roles: str, **claims: str) -> dict[str, str]:
    """Start a session and return its Cookie header; the client does not keep the cookie."""
    session = await client.post("/v1/session", json={"token": token(gateway, *roles, **claims)}, headers=SAME_ORIGIN)
    assert session.status_code == 200, session.text
    cookie = session.headers["set-cookie"].partition(";")[0]
    client.cookies.clear()
    return {"Cookie": f"other=1; {cookie}"}


def test_a_session_cookie_is_invisible_to_scripts_and_other_sites(guarded):  # noqa: F811
    async def story(client, gateway):
        bearer_token = token(gateway, "pathologist", **CHEN)
        session = await client.post("/v1/session", json={"token": bearer_token}, headers=SAME_ORIGIN)
        assert session.json() == {"tenant": "lab", "roles": ["pathologist"], "who": "pathologist", **CHEN}
        value, *flags = session.headers["set-cookie"].split("; ")
        assert value == f"{COOKIE_NAME}={bearer_token}"
        assert {"Path=/", "HttpOnly", "SameSite=Strict"} < set(flags)
        [age] = [int(flag.partition("=")[2]) for flag in flags if flag.startswith("Max-Age")]
        assert 11 * 3_600 < age <= 12 * 3_600
        assert (await client.get("/v1/session")).json()["tenant"] == "lab"
        assert (await client.get("/v1/slides")).json() == {"slides": [], "next": None}
        ended = await client.delete("/v1/session", headers=SAME_ORIGIN)
        assert ended.status_code == 204
        assert "Max-Age=0" in ended.headers["set-cookie"]
        assert (await client.get("/v1/slides")).status_code == 401

    guarded.run(story)


def test_under_tls_the_cookie_is_secure(bundles, made, tmp_path):
    environ = {"YUHENG_TLS_CERTIFICATE": "a.pem", "YUHENG_TLS_KEY": "b.pem", "YUHENG_ACCESS_REQUIRED": "true"}

    async def story(client, gateway):
        session = await client.post("/v1/session", json={"token": token(gateway, "bank")}, headers=SAME_ORIGIN)
        assert "Secure" in session.headers["set-cookie"].split("; ")

    run_inside(settings_for(bundles, made, tmp_path, **environ), story)


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        (SAME_ORIGIN, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "http://gateway"}, True),
        ({"Origin": "http://gateway.evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://gateway"}, False),
        ({}, False),
    ],
)
def test_only_our_own_pages_can_change_anything_with_a_cookie(guarded, headers, allowed):  # noqa: F811
    async def story(client, gateway):
        slide = put_slide(gateway, "in_review", tenant="lab")
        cookie = await sign_in(client, gateway, "pathologist", "clinic", **CHEN)
        body = {"diagnosis": "NILM", "findings": "x"}
        response = await client.post(f"/v1/slides/{slide}/sign", json=body, headers=cookie | headers)
        assert response.status_code == (200 if allowed else 403), response.text
        if not allowed:
            assert response.json()["type"] == "/problems/cross_site"
        assert slide_store.get(gateway.service.store.engine, slide)["state"] == ("signed" if allowed else "in_review")

    guarded.gateway.pathology.signing_routes.render = lambda body: b"%PDF"
    guarded.run(story)


def test_only_our_own_pages_can_start_a_session(guarded):  # noqa: F811
    async def story(client, gateway):
        body = {"token": token(gateway, "bank")}
        cross_site = await client.post("/v1/session", json=body, headers={"Sec-Fetch-Site": "cross-site"})
        assert cross_site.status_code == 403
        form = await client.post("/v1/session", data=body)
        assert form.status_code == 415
        for invalid in ({"token": "x"}, {"token": ""}, {"token": 5}, {}, {**body, "more": 1}, {"token": "陈"}):
            response = await client.post("/v1/session", json=invalid)
            assert (response.status_code, response.json()["type"]) == (401, "/problems/bad_token")
        assert (await client.post("/v1/session", json={"token": "x" * 1_000_000})).status_code == 413
        assert (
            await client.post("/v1/session", content=b"{", headers={"Content-Type": "application/json"})
        ).status_code == 400
        assert not client.cookies

    guarded.run(story)


def test_a_page_that_displays_another_user_can_do_nothing(guarded):  # noqa: F811
    """Tabs share the cookie: signing in in one must not make another act for that user."""

    def displayed_to(name: str) -> dict[str, str]:
        user = "lab", "pathologist", name, CHEN["licence"]
        return {"Shown-To": "/".join(quote(field, safe="") for field in user), **SAME_ORIGIN}

    async def story(client, gateway):
        cookie = await sign_in(client, gateway, "pathologist", **CHEN)
        assert (await client.get("/v1/slides", headers=cookie | displayed_to(CHEN["name"]))).status_code == 200
        for other in (displayed_to("王/五"), {**SAME_ORIGIN, "Shown-To": ""}, {**SAME_ORIGIN, "Shown-To": "%zz/%ff"}):
            slide = put_slide(gateway, "in_review", tenant="lab")
            body = {"diagnosis": "NILM", "findings": "x"}
            response = await client.post(f"/v1/slides/{slide}/sign", json=body, headers=cookie | other)
            assert (response.status_code, response.json()["type"]) == (409, "/problems/another_person")
            assert slide_store.get(gateway.service.store.engine, slide)["state"] == "in_review"
        assert "Chen Lan 陈岚" in response.json()["detail_zh"]
        bearer = bearer_of(gateway.settings, "pathologist", tenant="lab", **CHEN)
        assert (await client.get("/v1/slides", headers=bearer | displayed_to("王五"))).status_code == 200
        assert (await client.delete("/v1/session", headers=cookie | displayed_to("王五"))).status_code == 204

    guarded.run(story)


def test_a_bearer_token_takes_precedence_over_a_cookie(guarded):  # noqa: F811
    async def story(client, gateway):
        cookie = await sign_in(client, gateway, "clinic")
        both = cookie | bearer_of(gateway.settings, "bank", tenant="other")
        assert (await client.get("/v1/session", headers=both)).json()["tenant"] == "other"
        assert (await client.get("/v1/slides", headers=both)).status_code == 403
        broken = cookie | {"Authorization": "Bearer x"}
        assert (await client.get("/v1/slides", headers=broken)).status_code == 401

    guarded.run(story)


def test_other_cookies_are_ignored_and_two_sessions_are_refused(guarded):  # noqa: F811
    async def story(client, gateway):
        mine = (await sign_in(client, gateway, "clinic"))["Cookie"].partition("; ")[2]
        other = (await sign_in(client, gateway, "bank"))["Cookie"].partition("; ")[2]
        for cookies, status in (
            (f'odd={{"a": [1]}}; {mine}', 200),
            (f"{mine}; {mine}", 200),
            (f"{mine}; {other}", 401),
            (f"x{mine}", 401),
        ):
            assert (await client.get("/v1/slides", headers={"Cookie": cookies})).status_code == status

    guarded.run(story)


def test_the_pages_load_without_a_valid_session(guarded):  # noqa: F811
    async def story(client, gateway):
        for headers in (
            {},
            {"Cookie": f"{COOKIE_NAME}=x.y.z"},
            {"Cookie": f"{COOKIE_NAME}="},
            {"Cookie": ";;;=" + COOKIE_NAME},
        ):
            for page in ("/console", f"/console/slides/{'0' * 32}"):
                assert (await client.get(page, headers=headers)).status_code == 200
            assert (await client.get("/v1/slides", headers=headers)).status_code == 401

    guarded.run(story)


def test_without_required_tokens_nobody_signs_without_a_licence(settings):
    async def story(client, gateway):
        slide = put_slide(gateway, "in_review")
        for action in ("review", "sign", "amend"):
            response = await client.post(f"/v1/slides/{slide}/{action}", json={"diagnosis": "NILM", "findings": "x"})
            assert (response.status_code, response.json()["type"]) == (403, "/problems/not_a_pathologist")
        invalid = await client.get("/v1/slides", headers={"Authorization": "Bearer x"})
        assert invalid.status_code == 401  # a token that is sent is verified nevertheless

    run_inside(settings, story)
